"""ValueInfo and TypeInfo: what is known of a value before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepstruct import dtypes, members
from deepstruct.construction import Faults, sequence_of, unknown_members
from deepstruct.errors import pointer
from deepstruct.frozen import FrozenMapping

Dimension = int | str | None

_CONTAINER = re.compile(r"sequence|optional|sparse_tensor|map:(u?int(8|16|32|64)|string)")


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """Type of a value, as ONNX's TypeProto.

    Attributes:
        dtype: one of `deepstruct.dtypes.DTYPES`, of the tensors; None if nothing is known of the type.
        shape: extents of the tensors; a string names a dimension that is open (``"batch"``), None one that is
            unknown. None instead of the list: the rank is unknown.
        containers: what holds the tensors, outermost first: ``sequence``, ``optional``, ``map:<key dtype>``, and
            innermost ``sparse_tensor``. Empty for a plain tensor.
    """

    dtype: str | None
    shape: tuple[Dimension, ...] | None = None
    containers: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        found = Faults("type")
        _check_type(found, self)
        found.raise_if_any()


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """Type of a graph input or output, as ONNX's ValueInfoProto.

    Attributes:
        name: value name.
        dtype: as `TypeInfo.dtype`.
        shape: as `TypeInfo.shape`.
        containers: as `TypeInfo.containers`.
        extra: members of the document's object that this version does not know, kept as they are.
    """

    name: str
    dtype: str | None
    shape: tuple[Dimension, ...] | None
    containers: tuple[str, ...] = field(default=(), kw_only=True)
    extra: Mapping[str, Any] = field(default_factory=FrozenMapping, kw_only=True)

    def __post_init__(self) -> None:
        found = Faults(f"value {self.name!r}")
        found.text(self.name, "/name")
        _check_type(found, self)
        object.__setattr__(self, "extra", unknown_members(found, self.extra, members.VALUE))
        found.raise_if_any()


def _check_type(found: Faults, info: TypeInfo | ValueInfo) -> None:
    if info.dtype is not None and info.dtype not in dtypes.DTYPES:
        found.add("UNKNOWN_DTYPE", "/dtype", f"{info.dtype!r:.40} is not a known dtype")
    containers = sequence_of(info.containers)
    object.__setattr__(info, "containers", containers)
    for position, container in enumerate(containers):
        place = pointer("containers", position)
        if not isinstance(container, str) or not _CONTAINER.fullmatch(container):
            known = "sequence, optional, map:<key dtype> or sparse_tensor"
            found.add("INVALID_VALUE", place, f"a container is {known}, not {container!r:.40}")
        elif container == "sparse_tensor" and position < len(containers) - 1:
            found.add("INVALID_VALUE", place, "a sparse tensor holds nothing but numbers")
    if containers and info.dtype is None:
        found.add("INVALID_VALUE", "/containers", "containers have a dtype")
    if info.shape is None:
        return
    dims = sequence_of(info.shape)
    object.__setattr__(info, "shape", dims)
    for position, dim in enumerate(dims):
        place = pointer("shape", position)
        if isinstance(dim, str):
            found.text(dim, place)
        elif dim is not None and (type(dim) is not int or not 0 <= dim < 2**53):
            found.add("TYPE_MISMATCH", place, f"a dimension is an integer, a name or null, not {dim!r:.40}")
