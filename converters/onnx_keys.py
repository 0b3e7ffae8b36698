"""Keys of ``metadata_props`` for what ONNX has no field for."""

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
