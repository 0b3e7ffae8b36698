"""What changed between two JSON Schemas of one document, and the step of the version number that it asks for.

`docs/format.md`, section "Versions", decides. A patch is editorial. A minor version adds members that are optional, and
rules for them, nothing else: old documents stay valid, and to old readers the new members are unknown ones. Everything
else is a major version, and so is what is not understood here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from urllib.parse import unquote


class Level(IntEnum):
    """How large a step of the version number is."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """One change.

    Attributes:
        level: the step that it asks for.
        pointer: JSON pointer into the new schema, into the old one if something is gone.
        message: one sentence.
    """

    level: Level
    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Bump:
    """The step that a new schema asks for, and all changes, the largest first."""

    level: Level
    reasons: tuple[Reason, ...]


def required_bump(old: Any, new: Any) -> Bump:
    """The step of the version number from one JSON Schema to another.

    References are followed, so it does not matter how definitions are called. Patterns, bounds and the like are
    compared as they are spelled.
    """
    comparison = _Comparison(old, new)
    comparison.dialects()
    start = _Node(old, "")
    comparison.schemas(start, _Node(new, ""), _place([start], old))
    reasons = sorted(comparison.reasons, key=lambda reason: (-reason.level, reason.pointer, reason.message))
    if not reasons and json.dumps(old) != json.dumps(new):
        reasons = [Reason(Level.PATCH, "", "it is spelled or ordered otherwise and means the same")]
    return Bump(max((reason.level for reason in reasons), default=Level.NONE), tuple(reasons))


_SCHEMA = (dict, bool)
_EDITORIAL = frozenset({"title", "description", "$comment", "examples"})
_DEFINITIONS = frozenset({"definitions", "$defs"})
_IDENTITY = frozenset({"$id", "$schema"})
_UNFOLLOWED = _IDENTITY | {"$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"}

_ALONGSIDE = frozenset({"then", "else"})
_BRANCHES = frozenset({"allOf", "anyOf"})
_CONDITIONS = frozenset({"if", "not", "contains", "propertyNames"})
_BY_POSITION = frozenset({"items", "prefixItems"})
_SETS = frozenset({"type", "enum", "required"})

_OF_MEMBERS = frozenset(
    {"additionalProperties", "patternProperties", "propertyNames", "maxProperties", "minProperties"}
)
_BLIND = frozenset(
    {
        *("type", "format", "default", "pattern", "minLength", "maxLength", "multipleOf", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "items", "contains", "minItems", "maxItems", "uniqueItems"),
    }
)
"""Keywords that do not look at the members of an object."""

_DIALECTS = {"http://json-schema.org/draft-07/schema", "https://json-schema.org/draft/2020-12/schema"}
_SHARED = (
    _BLIND | _OF_MEMBERS | _EDITORIAL | _DEFINITIONS | _IDENTITY | _ALONGSIDE | _BRANCHES | _CONDITIONS | _SETS
) | {
    *("$ref", "const", "oneOf", "properties"),
}
"""Keywords that mean the same in both, `items` if it is one schema."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of a schema, and where it is; equal to any other part of one schema that is there."""

    schema: Any = field(compare=False)
    pointer: str

    def child(self, part: str | int, default: Any = None) -> _Node:
        value = self.schema.get(part, default) if isinstance(self.schema, dict) else self.schema[part]
        return _Node(value, self.pointer + "/" + str(part).replace("~", "~0").replace("/", "~1"))

    def children(self) -> list[_Node]:
        keys = self.schema if isinstance(self.schema, dict) else range(len(self.schema))
        return [self.child(key) for key in keys]

    def schemas_at(self, keyword: str) -> list[_Node]:
        """The schema, or the list of schemas, at a keyword; nothing if it is not there."""
        child = self.child(keyword)
        if child.schema is None:
            return []
        return child.children() if isinstance(child.schema, list) else [child]


@dataclass(frozen=True, slots=True)
class _Place:
    """All that the old schema says of one object in a document.

    Attributes:
        parts: those of the schema that apply to it.
        names: its members that they know.
        obstacles: keywords for which any other member would count.
    """

    parts: frozenset[_Node]
    names: frozenset[str]
    obstacles: frozenset[str]

    @property
    def closed(self) -> str:
        """Why no member can be added, or ""."""
        if self.obstacles:
            return f"{' and '.join(f'`{keyword}`' for keyword in sorted(self.obstacles))} counts it already"
        return "" if self.names else "users name the members"


_CONDITIONAL = _Place(frozenset(), frozenset(), frozenset({"a condition"}))


class _Comparison:
    """Collects the changes. Each pair of parts is visited once for each place where it is used."""

    def __init__(self, old: Any, new: Any) -> None:
        self.old, self.new = old, new
        self.reasons: dict[Reason, None] = {}
        self.visited: set[tuple[_Node, _Node, _Place]] = set()

    def add(self, level: Level, at: _Node, message: str) -> None:
        self.reasons[Reason(level, at.pointer, message)] = None

    def dialects(self) -> None:
        """Notes another dialect, of which only what it shares with the former one is understood."""
        names = [
            str(root.get("$schema")).rstrip("#") if isinstance(root, dict) else "" for root in (self.old, self.new)
        ]
        self.same_dialect = names[0] == names[1]
        if not self.same_dialect:
            at = _Node(None, "/$schema")
            if _DIALECTS.issuperset(names):
                self.add(Level.PATCH, at, "another dialect of JSON Schema")
            else:
                self.add(Level.MAJOR, at, "another dialect of JSON Schema, which is not known here")

    def schemas(self, old: _Node, new: _Node, place: _Place) -> None:
        old, new = _resolved(old, self.old), _resolved(new, self.new)
        if not isinstance(old.schema, dict) or not isinstance(new.schema, dict):
            self.add(Level.MAJOR, new, "this is no schema, so nothing is known of it")
        elif (old, new, place) not in self.visited:
            self.visited.add((old, new, place))
            for keyword in sorted(old.schema.keys() | new.schema.keys()):
                self.keyword(keyword, old, new, place)

    def keyword(self, keyword: str, old: _Node, new: _Node, place: _Place) -> None:
        before, after = old.child(keyword), new.child(keyword)
        if not self.same_dialect and (keyword not in _SHARED or (keyword == "items" and not _are(_SCHEMA, after))):
            self.add(Level.MAJOR, after, f"`{keyword}` does not mean the same in both dialects")
        if keyword in _DEFINITIONS:
            return
        if keyword in _EDITORIAL:
            self.editorial(keyword, before, after)
        elif keyword in _UNFOLLOWED:
            self.identity(keyword, before, after)
        elif keyword == "$ref":
            self.references(before, after, place)
        elif keyword == "properties" and _are(dict, before, after, missing=True):
            self.members(old.child(keyword, {}), new.child(keyword, {}), place)
        elif keyword == "additionalProperties":
            self.schemas(old.child(keyword, True), new.child(keyword, True), self.inside(place, None))
        elif keyword == "items" and _are(_SCHEMA, before, after, missing=True):
            self.schemas(old.child(keyword, True), new.child(keyword, True), self.elements(place))
        elif keyword in _ALONGSIDE and _are(_SCHEMA, before, after):
            self.schemas(before, after, place)
        elif keyword in _CONDITIONS and _are(_SCHEMA, before, after):
            self.schemas(before, after, _CONDITIONAL)
        elif keyword in _BRANCHES | _BY_POSITION | {"oneOf"} and _are(list, before, after):
            self.branches(keyword, before, after, place)
        elif (
            keyword == "patternProperties" and _are(dict, before, after) and before.schema.keys() == after.schema.keys()
        ):
            for name in sorted(before.schema):
                self.schemas(before.child(name), after.child(name), self.inside(place, None))
        else:
            self.values(keyword, old, new)

    def editorial(self, keyword: str, before: _Node, after: _Node) -> None:
        if _canonical(before.schema) != _canonical(after.schema):
            self.add(Level.PATCH, after, f"another `{keyword}`")

    def identity(self, keyword: str, before: _Node, after: _Node) -> None:
        """`$id` of the root is a name; elsewhere, it and its likes change what references mean."""
        if after.pointer == "/$id":
            self.editorial(keyword, before, after)
        elif after.pointer != "/$schema":
            self.add(Level.MAJOR, after, f"references by way of `{keyword}` are not followed here")

    def references(self, before: _Node, after: _Node, place: _Place) -> None:
        """References with rules beside them, or out of the file."""
        if not self.same_dialect:
            self.add(Level.MAJOR, after, "rules beside `$ref` do not count in both dialects")
        old, new = _target(before.schema, self.old), _target(after.schema, self.new)
        if old is not None and new is not None:
            self.schemas(old, new, place)
        elif before.schema != after.schema:
            self.add(Level.MAJOR, after, "another `$ref`, which is not followed here")

    def members(self, before: _Node, after: _Node, place: _Place) -> None:
        for name in sorted(before.schema.keys() | after.schema.keys()):
            if name not in after.schema:
                self.add(Level.MAJOR, before.child(name), f"the member {name!r} is gone")
            elif name in before.schema:
                self.schemas(before.child(name), after.child(name), self.inside(place, name))
            elif place.closed:
                self.add(Level.MAJOR, after.child(name), f"the member {name!r} is new, but {place.closed}")
            elif name in place.names:
                self.add(Level.MAJOR, after.child(name), f"a new rule for {name!r}, which old documents can have")
            else:
                self.add(Level.MINOR, after.child(name), f"the member {name!r} is new")

    def branches(self, keyword: str, before: _Node, after: _Node, place: _Place) -> None:
        if len(before.schema) != len(after.schema):
            numbers = f"{len(before.schema)} branches and has {len(after.schema)}"
            self.add(Level.MAJOR, after, f"`{keyword}` had {numbers}")
            return
        if keyword in _BY_POSITION:
            place = self.elements(place)
        elif keyword == "oneOf":
            place = _CONDITIONAL
        for old, new in zip(before.children(), after.children(), strict=True):
            self.schemas(old, new, place)

    def values(self, keyword: str, old: _Node, new: _Node) -> None:
        """Keywords that are the same only if their values are."""
        if keyword not in new.schema:
            self.add(Level.MAJOR, old.child(keyword), f"`{keyword}` is gone")
        elif keyword not in old.schema:
            self.add(Level.MAJOR, new.child(keyword), f"`{keyword}` is new")
        elif keyword in _SETS:
            former, latter = ({_canonical(item) for item in _list(node.schema[keyword])} for node in (old, new))
            parts = [f"lost {item}" for item in sorted(former - latter)]
            parts += [f"gained {item}" for item in sorted(latter - former)]
            if parts:
                self.add(Level.MAJOR, new.child(keyword), f"`{keyword}` {' and '.join(parts)}")
        elif _canonical(old.schema[keyword]) != _canonical(new.schema[keyword]):
            self.add(Level.MAJOR, new.child(keyword), f"another `{keyword}`")
        elif keyword not in _SHARED and '"$ref"' in _canonical(new.schema[keyword]):
            self.add(Level.MAJOR, new.child(keyword), f"references in `{keyword}` are not followed here")

    def inside(self, place: _Place, name: str | None) -> _Place:
        """What the old schema says of one member of an object, of any without a name."""
        starts: list[_Node] = []
        for part in place.parts:
            starts += part.schemas_at("additionalProperties") + part.child("patternProperties", {}).children()
            members = part.child("properties", {})
            starts += [members.child(key) for key in members.schema if name in (None, key)]
        return self.within(place, starts)

    def elements(self, place: _Place) -> _Place:
        """What the old schema says of the elements of an array."""
        keywords = ("items", "prefixItems", "contains")
        return self.within(place, [node for part in place.parts for key in keywords for node in part.schemas_at(key)])

    def within(self, place: _Place, starts: list[_Node]) -> _Place:
        if place is _CONDITIONAL:
            return place
        found = _place(starts, self.old)
        return _Place(found.parts, found.names, found.obstacles | (place.obstacles - _OF_MEMBERS))


def _place(starts: list[_Node], root: Any) -> _Place:
    """What some parts of a schema say of one object, with all parts that apply to the same object by way of them."""
    parts, names, obstacles = set[_Node](), set[str](), set[str]()
    pending = [_resolved(start, root) for start in starts]
    while pending:
        node = _resolved(pending.pop(), root)
        if node in parts or not isinstance(node.schema, dict):
            continue
        parts.add(node)
        for keyword, value in node.schema.items():
            at = node.child(keyword)
            if keyword == "properties" and _are(dict, at):
                names |= value.keys()
            elif keyword == "required" and _are(list, at):
                names |= set(value)
            elif keyword in _BRANCHES | {"oneOf"} and _are(list, at):
                pending += at.children()
            elif keyword in _ALONGSIDE | {"if", "not"}:
                pending.append(at)
            elif keyword == "$ref" and (target := _target(value, root)) is not None:
                pending.append(target)
            elif keyword not in _BLIND | _EDITORIAL | _DEFINITIONS | _IDENTITY | {"prefixItems"} and value is not True:
                obstacles.add(keyword)
    return _Place(frozenset(parts), frozenset(names), frozenset(obstacles))


def _resolved(node: _Node, root: Any) -> _Node:
    """What stands where a schema refers to, unless it has rules of its own; true and false as objects."""
    seen: set[str] = set()
    while isinstance(node.schema, dict) and "$ref" in node.schema:
        beside = _EDITORIAL | _DEFINITIONS | (_IDENTITY if node.pointer == "" else set())
        target = _target(node.schema["$ref"], root)
        if target is None or target.pointer in seen or node.schema.keys() - beside != {"$ref"}:
            break
        seen.add(target.pointer)
        node = target
    if isinstance(node.schema, bool):
        return _Node({} if node.schema else {"not": {}}, node.pointer)
    return node


def _target(reference: Any, root: Any) -> _Node | None:
    """The part of a schema that a reference within it names; None if there is none."""
    if not isinstance(reference, str) or not re.fullmatch(r"#(/.*)?", reference, re.DOTALL):
        return None
    try:
        return _at(root, unquote(reference[1:]))
    except (LookupError, TypeError, ValueError):
        return None


def _at(root: Any, pointer: str) -> _Node:
    node = _Node(root, "")
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        node = node.child(int(key) if isinstance(node.schema, list) else key, ...)
        if node.schema is ...:
            raise LookupError(pointer)
    return node


def _are(kind: Any, *nodes: _Node, missing: bool = False) -> bool:
    return all(isinstance(node.schema, kind) or (missing and node.schema is None) for node in nodes)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
