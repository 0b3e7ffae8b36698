"""Torch networks with masks, under the names of the older library; each is defined in a module of its own.

Names, constructor arguments, ``state_dict`` keys and outputs are those of the earlier deepstruct library;
`docs/migrating.md` lists what was a fault there and is different here.
"""

from deepstruct.cell_dan import DeepCellDAN
from deepstruct.dan import MaskedDeepDAN
from deepstruct.ffn import MaskedDeepFFN
from deepstruct.graph import CachedLayeredGraph, LayeredGraph
from deepstruct.masked import MaskableModule, MaskedLinearLayer, maskable_layers, maskable_layers_with_name

__all__ = [
    "CachedLayeredGraph",
    "DeepCellDAN",
    "LayeredGraph",
    "MaskableModule",
    "MaskedDeepDAN",
    "MaskedDeepFFN",
    "MaskedLinearLayer",
    "maskable_layers",
    "maskable_layers_with_name",
]
