"""Keys of ``metadata_props`` for what ONNX has no field for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import StringStringEntryProto

from deepstruct import jsonprofile
from deepstruct.errors import FaultyError, MalformedFileError
from deepstruct.limits import Limits

ATTRIBUTES = "deepstruct.attributes"
"""On a model: the structure's attributes as JSON."""

PARAMETERS = "deepstruct.parameters"
"""On a model: JSON object, name of a parameter that is as small as a constant -> true."""

SCOPE = "deepstruct.scope"
"""On a node: the module path that it came from."""

UNUSED = "deepstruct.unused"
"""On a model: small parameters that no operator uses, name -> JSON form of a constant."""

MASKS = "deepstruct.masks"
"""On a model: JSON object, name of a dense tensor that has a mask, its entries other than 0 -> true, or those that
exist although they are 0, in the form of a document's mask."""

PACKED = "deepstruct.packed"
"""On a node: it is no operator of the domain ``deepstruct``, but part of a packed weight."""

ALL = (ATTRIBUTES, MASKS, PACKED, PARAMETERS, SCOPE, UNUSED)


def json_object(path: Path, entry: StringStringEntryProto, limits: Limits) -> dict[str, Any]:
    """The JSON object that an entry holds.

    Raises:
        MalformedFileError: it holds none.
    """
    try:
        found = jsonprofile.parse(entry.value.encode(), limits)
    except FaultyError as error:
        raise MalformedFileError(str(path), f"metadata {entry.key!r}: {error.faults[0]}") from error
    if not isinstance(found, dict):
        raise MalformedFileError(str(path), f"metadata {entry.key!r} is no JSON object")
    return found
