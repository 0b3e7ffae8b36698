"""The plain JSON value of a document of the current version -> Structure, with every fault found (`docs/format.md`)."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepstruct import attributes, checks, encoding, members, migrations
from deepstruct.construction import Faults, mapping_of, not_json
from deepstruct.document_faults import FaultCollector, ReadingEnded, shown
from deepstruct.document_writing import FORMAT, WeightsReference, digest
from deepstruct.errors import DocumentError, Fault, FaultyError, pointer
from deepstruct.limits import Limits, variable
from deepstruct.mask import Mask, check_shape
from deepstruct.sparsity_structure import SparsityStructure
from deepstruct.structure import Function, Graph, Node, Parameter, Structure, ValueInfo
from deepstruct.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from a document: the structure, its weights reference, and faults that are no errors."""

    structure: Structure
    weights: WeightsReference | None
    notes: tuple[Fault, ...]

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """What a person should hear of who only wants to use the document."""
        return tuple(fault for fault in self.notes if fault.severity == "warning")


def check_head(document: Any) -> list[Fault]:
    """What keeps this reader from looking at the rest: no document, another version; or a warning, or nothing."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        message = f'not a deepstruct document: the member "format" must be "{FORMAT}"'
        if isinstance(document, dict) and "weight_map" in document:
            message += "; it is the index of a sharded checkpoint: load that with its library and save the module"
        return [Fault("NOT_A_DOCUMENT", "", message)]
    return migrations.check(document)


def from_json(document: Any, limits: Limits | None = None) -> Reading:
    """The structure that a parsed document describes.

    Raises:
        DocumentError: with every fault found; a structure with a fault is never returned.
    """
    reading, faults = examine(document, limits)
    if reading is None or any(fault.severity == "error" for fault in faults):
        raise DocumentError("document", faults)
    return reading


def examine(document: Any, limits: Limits | None = None) -> tuple[Reading | None, list[Fault]]:
    """What a parsed document describes, and every fault found, errors first; None if it describes no structure."""
    reader = _Reader(limits or Limits())
    reading = None
    with contextlib.suppress(ReadingEnded):
        reading = reader.read(document)
    return reading, [*reader.faults, *reader.notes]


class _Reader(FaultCollector):
    """Reads one document and collects its faults on the way."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits
        self.unread: set[str] = set()  # names of what could not be read
        self.mask_elements = 0

    def read(self, document: Any) -> Reading:
        self.note(*check_head(document))
        if self.faults:
            raise ReadingEnded
        document = migrations.migrate(document)
        extra = self.extensions(document)
        if "generator" in document:
            generator = self.member(document, "generator", dict, "")
            if isinstance(document["generator"], dict):
                self.member(generator, "name", str, "/generator")
                self.member(generator, "version", str, "/generator", "")
        parameters = self.parameters(self.member(document, "parameters", dict, "", {}))
        weights = self.weights(document, extra)
        extra |= self.unknown(document, members.ROOT, "")
        graph = self.member(document, "graph", dict, "")
        if not isinstance(document.get("graph"), dict):
            raise ReadingEnded
        parts = {**self.graph(graph, extra), "parameters": parameters}
        self.undeclared(document)
        if self.faults:
            self.relate(parts)
            raise ReadingEnded
        try:
            structure = Structure(**parts, extra=extra)
        except FaultyError as error:
            self.relate(parts)
            self.note(*(fault for fault in error.faults if fault.pointer not in self.wrong))
            raise ReadingEnded from error
        if "digest" in document and document["digest"] != digest(structure):
            message = (
                "the digest does not belong to this graph and these parameters; restore the document, or run "
                "`deepstruct format --digests` if the change was intended"
            )
            self.note(Fault("DIGEST_MISMATCH", "/digest", message))
        return Reading(structure, weights, tuple(self.notes))

    def relate(self, parts: dict[str, Any]) -> None:
        """Notes faults between those parts that could be read, as far as faults of other parts are not their cause."""
        related = {key: value for key, value in parts.items() if key not in ("name", "attributes")}
        owners = {place[: match.end()] for place in self.wrong for match in _OWNER.finditer(place)}
        for fault in checks.faults(checks.Draft(**related, unread=frozenset(self.unread))):
            caused = fault.code == "UNKNOWN_OPSET" and "/graph/opset" in self.wrong
            ends = [match.end() for match in _OWNER.finditer(fault.pointer)]
            owner = fault.pointer[: ends[-1]] if ends else fault.pointer
            if fault.code in _OF_NAMES or not (caused or owner in owners):
                self.note(fault)
        found = Faults("graph")
        found.text(parts["name"], "/graph/name")
        attributes = mapping_of(found, parts["attributes"], "/graph/attributes")
        for place, message in not_json(attributes, "/graph/attributes"):
            found.add("ATTRIBUTE_VALUE", place, message)
        self.note(*found.faults)

    def extensions(self, document: dict[str, Any]) -> dict[str, Any]:
        """Checks the extension lists; returns what of the root must be preserved."""
        used = self.member(document, "extensions_used", list, "", [])
        required = self.member(document, "extensions_required", list, "", [])
        for key, names in (("extensions_used", used), ("extensions_required", required)):
            seen: set[str] = set()
            for position, name in enumerate(names):
                if not isinstance(name, str) or not re.fullmatch(r"[A-Z0-9]+_[a-z0-9_]+", name):
                    message = f"{name!r:.60} is no extension name, such as VENDOR_feature"
                    self.note(Fault("INVALID_VALUE", pointer(key, position), message))
                elif name in seen:
                    self.note(Fault("DUPLICATE_NAME", pointer(key, position), f"{name!r:.60} occurs twice"))
                else:
                    seen.add(name)
        listed = {name for name in used if isinstance(name, str)}
        for position, name in enumerate(required):
            place = pointer("extensions_required", position)
            if not isinstance(name, str) or name not in listed:
                self.note(Fault("UNDECLARED_EXTENSION", place, f"{name!r:.60} is not in extensions_used"))
            message = f"the document cannot be read without the extension {name!r:.60}, which is unknown here"
            self.note(Fault("UNSUPPORTED_EXTENSION", place, message))
        extra: dict[str, Any] = {"extensions_used": used} if used else {}
        if any(note.code == "UNKNOWN_MINOR_VERSION" for note in self.notes):
            extra |= {key: document[key] for key in ("version", "min_version") if key in document}
        return extra

    def undeclared(self, document: dict[str, Any]) -> None:
        """Notes extensions that are unknown, and where the list of them is not that of what occurs."""
        listed = document.get("extensions_used")
        used = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        for position, name in enumerate(used):
            place = pointer("extensions_used", position)
            if place in self.wrong:
                continue
            if name not in self.extended:
                self.note(Fault("UNUSED_EXTENSION", place, f"no object has data of {name!r:.60}", "hint"))
            else:
                message = f"the extension {name!r:.60} is not known here; its data are kept, but not checked"
                self.note(Fault("UNKNOWN_EXTENSION", place, message, "info"))
        declared = set(used)
        for name, place in self.extended.items():
            if name not in declared:
                message = f"the extension {name!r:.60} is not in extensions_used"
                self.note(Fault("UNDECLARED_EXTENSION", place, message, "warning"))

    def graph(self, graph: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        opset = self.member(graph, "opset", dict, "/graph")
        constants = self.member(graph, "constants", dict, "/graph", {})
        lists = {key: self.member(graph, key, list, "/graph") for key in ("inputs", "outputs", "nodes")}
        parts: dict[str, Any] = {
            "name": self.member(graph, "name", str, "/graph", "main"),
            "opset": opset,
            "attributes": self.member(graph, "attributes", dict, "/graph", {}),
            "constants": {},
        }
        for name, value in constants.items():
            constant = self.constant(name, value)
            if constant is None:
                self.unread.add(name)
            else:
                parts["constants"][name] = constant
        for key in ("inputs", "outputs"):
            parts[key] = [self.value_info(v, pointer("graph", key, i)) for i, v in enumerate(lists[key])]
        functions = self.member(graph, "functions", list, "/graph", [])
        parts["functions"] = [self.function(f, pointer("graph", "functions", i)) for i, f in enumerate(functions)]
        parts["nodes"] = self.nodes(lists["nodes"], "/graph", opset)
        graph_extra = self.unknown(graph, members.GRAPH, "/graph")
        if graph_extra:
            extra["graph"] = graph_extra
        return parts

    def nodes(self, values: list[Any], place: str, opset: dict[str, Any]) -> list[Any]:
        return [self.node(value, place + pointer("nodes", i), opset) for i, value in enumerate(values)]

    def subgraph(self, value: dict[str, Any], place: str, opset: dict[str, Any]) -> Any:
        """The graph in an attribute."""
        values = {
            key: [
                self.value_info(v, place + pointer(key, i)) for i, v in enumerate(self.member(value, key, list, place))
            ]
            for key in ("inputs", "outputs")
        }
        values["nodes"] = self.nodes(self.member(value, "nodes", list, place), place, opset)
        name = self.member(value, "name", str, place, "main")
        extra = self.unknown(value, members.SUBGRAPH, place)
        if any(item is None for items in values.values() for item in items):
            return None
        return self.build(Graph, place, name=name, extra=extra, **values)

    def function(self, value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            self.note(Fault("TYPE_MISMATCH", place, f"must be an object, not {shown(value)}"))
            return None
        opset = self.member(value, "opset", dict, place)
        defaults = self.member(value, "defaults", dict, place, {})
        fields = {
            "name": self.member(value, "name", str, place),
            "domain": self.member(value, "domain", str, place),
            "overload": self.member(value, "overload", str, place, ""),
            "inputs": self.member(value, "inputs", list, place),
            "outputs": self.member(value, "outputs", list, place),
            "attributes": self.member(value, "attributes", list, place, []),
            "defaults": self.attributes(defaults, {}, place + "/defaults", opset),
            "opset": opset,
            "nodes": self.nodes(self.member(value, "nodes", list, place), place, opset),
            "extra": self.unknown(value, members.FUNCTION, place),
        }
        return None if None in fields["nodes"] else self.build(Function, place, **fields)

    def build(self, kind: Any, place: str, **fields: Any) -> Any:
        """A hub object, or None and its faults."""
        try:
            return kind(**fields)
        except FaultyError as error:
            self.note_under(place, (fault for fault in error.faults if place + fault.pointer not in self.wrong))
            return None

    def value_info(self, value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            self.note(Fault("TYPE_MISMATCH", place, f"must be an object, not {shown(value)}"))
            return None
        shape = value.get("shape")
        if shape is not None and not isinstance(shape, list):
            self.note(Fault("TYPE_MISMATCH", place + "/shape", "must be a list or null"))
            shape = None
        info = self.build(
            ValueInfo,
            place,
            name=self.member(value, "name", str, place),
            dtype=self.member(value, "dtype", str, place) if "dtype" in value else None,
            shape=shape,
            containers=self.member(value, "containers", list, place, []),
            extra=self.unknown(value, members.VALUE, place),
        )
        if info is None and isinstance(value.get("name"), str):
            self.unread.add(value["name"])
        return info

    def node(self, value: Any, place: str, opset: dict[str, Any]) -> Any:
        if not isinstance(value, dict):
            self.note(Fault("TYPE_MISMATCH", place, f"must be an object, not {shown(value)}"))
            return None
        op_type = self.member(value, "op", str, place)
        domain = self.member(value, "domain", str, place, "")
        kinds = attributes.kinds(domain, op_type, opset)
        described = self.member(value, "attributes", dict, place, {})
        outputs = self.member(value, "outputs", list, place)
        node = self.build(
            Node,
            place,
            name=self.member(value, "name", str, place),
            op_type=op_type,
            domain=domain,
            inputs=self.member(value, "inputs", list, place),
            outputs=outputs,
            attributes=self.attributes(described, kinds, place + "/attributes", opset),
            overload=self.member(value, "overload", str, place, ""),
            scope=self.member(value, "scope", str, place, ""),
            extra=self.unknown(value, members.NODE, place),
        )
        if node is None or place + "/outputs" in self.wrong:
            self.unread.update(_strings(value.get("outputs")))
        return node

    def attributes(self, values: dict[str, Any], kinds: Mapping[str, str], place: str, opset: Any) -> dict[str, Any]:
        decoded = {}
        for name, item in values.items():
            at = place + pointer(name)
            try:
                decoded[name] = self.attribute(item, kinds.get(name), at, opset)
            except FaultyError as error:
                self.note_under(at, error.faults)
        return {name: value for name, value in decoded.items() if value is not None}

    def attribute(self, value: Any, kind: str | None, place: str, opset: Any) -> Any:
        """The value of an attribute; None if a graph in it has faults of its own, which are noted."""
        if _is_graph(value):
            return self.subgraph(value, place, opset)
        if isinstance(value, list) and value and all(_is_graph(item) for item in value):
            graphs = tuple(self.subgraph(item, place + pointer(i), opset) for i, item in enumerate(value))
            return None if None in graphs else graphs
        return attributes.from_json(value, kind)

    def constant(self, name: str, value: Any) -> Tensor | None:
        try:
            return attributes.tensor_from_json(value)
        except FaultyError as error:
            self.note_under(pointer("graph", "constants", name), error.faults)
            return None

    def parameters(self, described: dict[str, Any]) -> list[Parameter]:
        found = []
        for name, value in described.items():
            place = pointer("parameters", name)
            parameter = None
            if isinstance(value, dict):
                parameter = self.parameter(name, value, place)
            else:
                self.note(Fault("TYPE_MISMATCH", place, f"must be an object, not {shown(value)}"))
            if parameter is None:
                self.unread.add(name)
            else:
                found.append(parameter)
        return found

    def parameter(self, name: str, value: dict[str, Any], place: str) -> Parameter | None:
        extra = self.unknown(value, members.PARAMETER, place)
        dtype = self.member(value, "dtype", str, place)
        described = self.member(value, "shape", list, place)
        mask = claim = None
        try:
            shape = check_shape(described)
        except FaultyError as error:
            self.note_under(place + "/shape", error.faults)
            return None
        try:
            mask = self.mask(value, shape, place, extra)
            claim = self.claim(value, place + "/mask/sparsity_structure")
        except FaultyError as error:
            self.note_under(place + "/mask", error.faults)
        fields = {"dtype": dtype, "shape": shape, "mask": mask, "sparsity_structure": claim, "extra": extra}
        return self.build(Parameter, place, name=name, **fields)  # type: ignore[no-any-return]  # one, or None

    def mask(self, value: dict[str, Any], shape: tuple[int, ...], place: str, extra: dict[str, Any]) -> Mask | None:
        if "mask" not in value:
            return None
        described = value["mask"]
        if not isinstance(described, dict):
            raise DocumentError("mask", [Fault("TYPE_MISMATCH", "", f"must be an object, not {shown(described)}")])
        mask_extra = self.unknown(described, members.MASK, place + "/mask")
        if mask_extra:
            extra["mask"] = mask_extra
        self.mask_elements += math.prod(shape)
        if self.mask_elements > self.limits.total_mask_elements:
            limit = self.limits.total_mask_elements
            message = f"the masks have more than {limit} elements together"
            advice = f"set {variable('total_mask_elements')} to allow it"
            raise DocumentError("mask", [Fault("LIMIT_EXCEEDED", "", f"{message}; {advice}")])
        return encoding.decode(described, shape, self.limits)

    def claim(self, value: dict[str, Any], place: str) -> SparsityStructure | None:
        if "sparsity_structure" not in value.get("mask", {}):
            return None
        try:
            return SparsityStructure.from_json(value["mask"]["sparsity_structure"])
        except FaultyError as error:
            self.note_under(place, error.faults)
            return None

    def weights(self, document: dict[str, Any], extra: dict[str, Any]) -> WeightsReference | None:
        if "weights" not in document:
            return None
        value = self.member(document, "weights", dict, "")
        if not isinstance(document["weights"], dict):
            return None
        uri = self.member(value, "uri", str, "/weights")
        if value.get("uri") == "":
            self.note(Fault("INVALID_VALUE", "/weights/uri", "must not be empty"))
        for key, known in (("format", ("safetensors",)), ("layout", ("values", "dense"))):
            name = self.member(value, key, str, "/weights")
            if isinstance(value.get(key), str) and name not in known:
                message = f"must be {' or '.join(map(json.dumps, known))}, not {name!r:.40}"
                self.note(Fault("UNKNOWN_ENCODING", f"/weights/{key}", message))
        digest = self.member(value, "digest", str, "/weights", "")
        if isinstance(value.get("digest"), str) and not _DIGEST.fullmatch(digest):
            message = f"a digest is sha256: and 64 lower-case hexadecimal digits, not {digest!r:.80}"
            self.note(Fault("INVALID_VALUE", "/weights/digest", message))
        weights_extra = self.unknown(value, members.WEIGHTS, "/weights")
        if weights_extra:
            extra["weights"] = weights_extra
        return WeightsReference(uri=uri, layout=str(value.get("layout")), digest=digest or None)


def _strings(value: Any) -> list[str]:
    """Strings that stand in a value as elements, as keys, or as itself."""
    found = [value] if isinstance(value, str) else value if isinstance(value, (list, dict)) else []
    return [item for item in found if isinstance(item, str)]


def _is_graph(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "graph"


_OF_NAMES = {"DUPLICATE_NAME", "GRAPH_CYCLE", "NODE_ORDER", "UNRESOLVED_REFERENCE"}
"""Faults of an object that none of its other faults can cause."""

_OWNER = re.compile(r"/(?:nodes|functions)/\d+|(?<=^/parameters)/[^/]+|(?<=^/graph/)(?:constants|inputs|outputs)/[^/]+")
"""The part of a pointer that leads to a node, a function, a parameter, a constant or a value."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
