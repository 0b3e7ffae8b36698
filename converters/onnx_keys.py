"""Keys of ``metadata_props`` for what ONNX has no field for."""

ATTRIBUTES = "deepstruct.attributes"
"""On a model: the structure's attributes as JSON."""

PARAMETERS = "deepstruct.parameters"
"""On a model: names, one a line, of parameters that are as small as constants."""

SCOPE = "deepstruct.scope"
"""On a node: the module path that it came from."""

UNUSED = "deepstruct.unused"
"""On a model: small parameters that no operator uses, name -> JSON form of a constant."""

ALL = (ATTRIBUTES, PARAMETERS, SCOPE, UNUSED)
