"""The verdict: what four tiers come to, and where two networks begin to differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deepstruct.verification import interface
from deepstruct.verification.alignment import origin
from deepstruct.verification.certificate import FirstDifference, Verdict
from deepstruct.verification.identity import Identity, TensorDifference
from deepstruct.verification.numerics import Numerics
from deepstruct.verification.operations import Alignment, GraphDifference
from deepstruct.verification.outputs import Outputs
from deepstruct.verification.runtimes import Value
from deepstruct.verification.wiring import Wiring


@dataclass(frozen=True)
class Evidence:
    """All that was found out about two models.

    Attributes:
        alignment: what corresponds to what.
        identity: the first tier.
        wiring: the second.
        numerics: the third.
        outputs: the fourth, None if it was not tried.
        lacking: names of the files without weights.
        obstacles: sentences that say what kept a tier from running.
        inputs: name of each graph input of the first structure -> one of the values that were computed on.
    """

    alignment: Alignment
    identity: Identity
    wiring: Wiring
    numerics: Numerics
    outputs: Outputs | None = None
    lacking: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    inputs: Mapping[str, Value] = field(default_factory=dict)

    def verdict(self) -> tuple[Verdict, tuple[str, ...]]:
        """The verdict, and sentences that say why."""
        failed = tuple(self._failures())
        if failed:
            return "different", failed
        doubts = tuple(self._doubts())
        if doubts:
            return "not certifiable", doubts
        return "equivalent", tuple(self._reservations())

    def _failures(self) -> Iterator[str]:
        if self.outputs is not None and self.alignment.differences and self.outputs.disagree:
            yield f"{self.alignment.differences[0].message}, and the outputs differ: {self.outputs.gross[0]}"
        for difference in self.alignment.differences:
            if difference.is_certain:
                yield difference.message
        for tensor in self.identity.differences:
            yield f"{tensor.a}: {tensor.message}"
        if self.wiring.verdict == "failed":
            first = self.wiring.failures[0]
            yield f"integers differ behind {first.a!r} ({first.operator}): {first.differing} of {first.elements}"
        if self.numerics.verdict == "failed":
            first_layer = next(layer for layer in self.numerics.layers if layer.finding == "outside")
            yield f"{first_layer.a!r} ({first_layer.operator}): {first_layer.message}"
        if self.outputs is not None:
            yield from self.outputs.faults

    def _doubts(self) -> Iterator[str]:
        for difference in self.alignment.differences[:10]:
            yield f"the graphs are spelled in different ways: {difference.message}"
        for name in self.lacking:
            yield f"{name} has no weights, so that only structure and masks could be compared"
        yield from self.obstacles
        if self.outputs is not None:
            yield from filter(None, [self.outputs.reason])
            yield from self.outputs.notes

    def _reservations(self) -> Iterator[str]:
        yield from interface.narrowings(self.alignment.structure_a, self.alignment.structure_b)
        open_layers = [layer for layer in self.numerics.layers if layer.finding == "uninformative"]
        if open_layers:
            yield (
                f"the rounding of {len(open_layers)} of {len(self.numerics.layers)} operations could not be bounded, "
                f"first that of {open_layers[0].a!r} ({open_layers[0].operator}): {open_layers[0].message}"
            )

    def tiers(self) -> dict[str, dict[str, Any]]:
        """Each tier as a JSON object, by its name."""
        return {
            "identity": self.identity.to_json(),
            "wiring": self.wiring.to_json(),
            "numerics": self.numerics.to_json(),
            "outputs": {"verdict": "not run", "reason": "; ".join(self.obstacles)}
            if self.outputs is None
            else self.outputs.to_json(),
        }

    def first_difference(self) -> FirstDifference | None:
        """Where the two begin to differ, None if they do not."""
        order = {node.name: place for place, node in enumerate(self.alignment.structure_a.nodes)}
        found: list[tuple[float, int, FirstDifference]] = []
        found += [(order.get(d.a, len(order)), 0, _of_graph(d)) for d in self.alignment.differences]
        for tensor in self.identity.differences:
            step = next((s for s in self.alignment.steps if any(pair.a == tensor.a for pair in s.leaves)), None)
            place = order.get(step.a.name, len(order)) if step is not None else len(order)
            names = (step.a.name, step.b.name, step.a.op_type) if step is not None else ("", "", "")
            found.append((place, 1, self._of_tensor(tensor, *names)))
        for failure in self.wiring.failures:
            message = f"{failure.differing} of {failure.elements} integers differ"
            first = FirstDifference("wiring", failure.a, failure.b, failure.operator, message)
            found.append((order.get(failure.a, len(order)), 2, first))
        for layer in self.numerics.layers:
            if layer.finding == "outside":
                first = FirstDifference("numerics", layer.a, layer.b, layer.operator, layer.message)
                found.append((order.get(layer.a, len(order)), 3, first))
        if not found and self.outputs is not None and self.outputs.faults:
            return FirstDifference("outputs", "", "", "", self.outputs.faults[0])
        return min(found, key=lambda item: item[:2])[2] if found else None

    def _of_tensor(self, tensor: TensorDifference, a: str, b: str, operator: str) -> FirstDifference:
        """The difference of two tensors, in the orientation of the parameter that the first one is, if it is one."""
        (name, *others), permutation = origin(tensor.a, self.alignment.derivations_a)
        shown = []
        for connection in tensor.connections:
            index = list(connection.index)
            if permutation is not None and not others:
                for axis, place in zip(permutation, connection.index, strict=True):
                    index[axis] = place
            shown.append({**asdict(connection), "index": tuple(index)})
        is_plain = permutation is not None or tensor.a not in self.alignment.derivations_a
        parameter = name if is_plain and not others else tensor.a
        source = "" if is_plain else f" (computed from {', '.join([name, *others][:3])})"
        return FirstDifference(
            "identity", a, b, operator, tensor.message + source, parameter, tuple(shown), tensor.differing
        )


def _of_graph(difference: GraphDifference) -> FirstDifference:
    return FirstDifference("identity", difference.a, difference.b, difference.kind, difference.message)
