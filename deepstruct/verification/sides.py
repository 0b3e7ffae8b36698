"""One of two structures while they are walked through: its tensors, and the runtimes that compute its operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepstruct import dtypes
from deepstruct.model import Weights
from deepstruct.structure import Node, Structure
from deepstruct.verification.identity import Leaf
from deepstruct.verification.operations import Operation
from deepstruct.verification.runtimes import (
    Fragment,
    NotRunnableError,
    OnnxRuntime,
    Program,
    Reference,
    Runtime,
    Torch,
    Value,
)

_OF_LEAVES = (Reference(), OnnxRuntime(), Torch())
"""What computes leaves, the same on both sides, so that equal nodes give equal bits."""


_MOVING = frozenset(
    (
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose"),
        "Unsqueeze",
    )
)
"""Operators whose outputs consist of entries of their inputs."""


class NotCertifiableError(Exception):
    """Something stands in the way of any verdict; each argument is a sentence that says what."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class Side:
    """One of the two."""

    def __init__(
        self,
        name: str,
        structure: Structure,
        weights: Weights | None,
        derivations: Mapping[str, tuple[Node, ...]],
        runtimes: Sequence[Runtime],
    ) -> None:
        """A side without any tensor in memory.

        Args:
            name: of the file, for messages.
            structure: that the operations belong to.
            weights: its numbers, None if it has none.
            derivations: leaf -> nodes that compute it.
            runtimes: that may compute operations, the first that can does.
        """
        self.name = name
        self.structure = structure
        self.weights = weights
        self._derivations = derivations
        self._runtimes = tuple(runtimes)
        self._parameters = {parameter.name: parameter for parameter in structure.parameters}
        self._makers = {name: node for node in structure.nodes for name in node.outputs if name}
        self._leaves: dict[str, Leaf] = {}
        self._has_masks = any(parameter.mask is not None for parameter in structure.parameters)

    def is_leaf(self, name: str) -> bool:
        """Whether a value depends on no graph input."""
        return name in self._parameters or name in self.structure.constants or name in self._derivations

    def leaf(self, name: str) -> Leaf:
        """A tensor; kept in memory until `forget`.

        Raises:
            NotCertifiableError: no runtime can compute it from the parameters.
        """
        if name not in self._leaves:
            self._leaves[name] = self._load(name)
        return self._leaves[name]

    def derivation(self, names: Iterable[str]) -> tuple[Node, ...]:
        """The nodes that compute those of some leaves that are not parts of the structure, in topological order."""
        found = {id(node): node for name in names for node in self._derivations.get(name, ())}
        order = {id(node): place for place, node in enumerate(self.structure.nodes)}
        return tuple(sorted(found.values(), key=lambda node: order.get(id(node), 0)))

    def forget(self) -> None:
        """Lets go of all tensors."""
        self._leaves.clear()

    def _load(self, name: str) -> Leaf:
        parameter = self._parameters.get(name)
        if parameter is not None:
            kept = None if parameter.mask is None else parameter.mask.to_array()
            if self.weights is None:
                ones = np.ones(parameter.shape, np.bool_) if kept is None else kept
                return Leaf(ones.astype(dtypes.to_numpy(parameter.dtype)), kept)
            if kept is None and self._has_masks and len(parameter.shape) > 1:
                kept = np.ones(parameter.shape, np.bool_)
            return Leaf(self.weights[name], kept)
        if name in self.structure.constants:
            return Leaf(self.structure.constants[name].to_array())
        nodes = self._derivations[name]
        made = {output for node in nodes for output in node.outputs}
        used = dict.fromkeys(source for node in nodes for source in node.sources if source and source not in made)
        values: dict[str, Value] = {source: self.leaf(source).array for source in used}
        result = self.first(nodes, (name,), _OF_LEAVES).run(values)[0]
        if not isinstance(result, np.ndarray):
            raise NotCertifiableError(f"{self.name}: the fixed value {name!r} is no tensor")
        return Leaf(result, self._kept(name, tuple(used)))

    def _kept(self, name: str, used: tuple[str, ...]) -> NDArray[np.bool_] | None:
        """Which entries of a computed leaf exist, None if it does not consist of entries of others."""
        nodes, leaves = self._derivations[name], {source: self.leaf(source) for source in used}
        if all(leaf.kept is None for leaf in leaves.values()) or any(
            n.domain or n.op_type not in _MOVING for n in nodes
        ):
            return None
        values: dict[str, Value] = {}
        for source, leaf in leaves.items():
            ones = np.ones(leaf.array.shape, np.bool_) if leaf.kept is None else leaf.kept
            values[source] = ones.astype(leaf.array.dtype) if is_float(leaf.array) else leaf.array
        return np.asarray(self.first(nodes, (name,), _OF_LEAVES).run(values)[0] != 0)

    def supply(
        self,
        name: str,
        values: dict[str, Value],
        prepared: Callable[[NDArray[Any]], NDArray[Any]] = lambda array: array,
    ) -> None:
        """Adds a value to those that are known, computing whatever it takes.

        Args:
            name: of the value.
            values: those that are known.
            prepared: what is done to a leaf before it is computed with.

        Raises:
            NotCertifiableError: no runtime of this side can.
        """
        waiting = [name]
        while waiting:
            wanted = waiting[-1]
            if wanted in values:
                waiting.pop()
                continue
            if wanted not in self._makers:
                raise NotCertifiableError(f"{self.name}: nothing computes the value {wanted!r}")
            node = self._makers[wanted]
            sources = [source for source in node.sources if source]
            missing = [source for source in sources if source not in values and not self.is_leaf(source)]
            if missing:
                waiting += missing
                continue
            outputs = tuple(filter(None, node.outputs))
            given = {
                source: values[source] if source in values else prepared(self.leaf(source).array) for source in sources
            }
            values.update(zip(outputs, self.first((node,), outputs).run(given), strict=True))

    def first(self, nodes: tuple[Node, ...], outputs: tuple[str, ...], runtimes: Sequence[Runtime] = ()) -> Runner:
        """What runs some nodes: the first runtime that can, of those given or else of this side.

        Raises:
            NotCertifiableError: none can; the reasons are given.
        """
        fragment = Fragment(nodes, outputs, self.structure.opset, self.structure.functions)
        return Runner(self.name, fragment, runtimes or self._runtimes)

    def runner(self, operation: Operation) -> Runner:
        """What runs an operation.

        Raises:
            NotCertifiableError: no runtime of this side can.
        """
        return self.first(operation.nodes, tuple(filter(None, operation.outputs)))

    def fixed(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some names that are leaves."""
        return frozenset(name for name in names if name and self.is_leaf(name))


class Runner:
    """Runs a fragment in the first of several runtimes that can."""

    def __init__(self, owner: str, fragment: Fragment, runtimes: Iterable[Runtime]) -> None:
        """Nothing runs yet.

        Args:
            owner: name of the file, for messages.
            fragment: to run.
            runtimes: in the order in which they are tried.

        Raises:
            NotCertifiableError: none knows the operators.
        """
        self._owner = owner
        self._fragment = fragment
        self._reasons: list[str] = []
        self._candidates: list[tuple[Runtime, Program]] = []
        for runtime in runtimes:
            try:
                self._candidates.append((runtime, runtime.program(fragment)))
            except NotRunnableError as error:
                self._reasons.append(f"{runtime.name}: {error}")
        self._require_candidate()

    @property
    def runtime(self) -> Runtime:
        """The runtime that is used."""
        return self._candidates[0][0]

    def run(self, values: Mapping[str, Value], fixed: frozenset[str] = frozenset()) -> list[Any]:
        """The outputs of the fragment.

        Raises:
            NotCertifiableError: no runtime can compute them from these values.
        """
        while True:
            runtime, program = self._candidates[0]
            try:
                return program.run(values, fixed)
            except NotRunnableError as error:
                self._reasons.append(f"{runtime.name}: {error}")
                del self._candidates[0]
                self._require_candidate()

    def _require_candidate(self) -> None:
        if not self._candidates:
            node = self._fragment.nodes[-1] if self._fragment.nodes else None
            where = f"node {node.name!r} ({node.op_type})" if node is not None else "a value"
            raise NotCertifiableError(f"{self._owner}: {where} cannot be computed: {'; '.join(self._reasons)}")


def is_float(value: object) -> bool:
    """Whether a value is a tensor of floating numbers."""
    return isinstance(value, np.ndarray) and "float" in value.dtype.name
