"""deepstruct: the interchange format and toolchain for sparse neural-network structure.

Names are imported on first use, so that ``import deepstruct`` loads no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from deepstruct.version import __version__

if TYPE_CHECKING:
    from deepstruct.errors import DeepstructError
    from deepstruct.io import Report, convert, from_module, from_networkx, load, save, to_module, to_networkx
    from deepstruct.losses import Loss
    from deepstruct.mask import Mask
    from deepstruct.model import Model, Weights
    from deepstruct.structure import Function, Graph, Node, Parameter, Structure, ValueInfo
    from deepstruct.tensor import Tensor
    from deepstruct.verification.certificate import Certificate
    from deepstruct.verification.verify import verify

__all__ = [
    "Certificate",
    "DeepstructError",
    "Function",
    "Graph",
    "Loss",
    "Mask",
    "Model",
    "Node",
    "Parameter",
    "Report",
    "Structure",
    "Tensor",
    "ValueInfo",
    "Weights",
    "__version__",
    "convert",
    "from_module",
    "from_networkx",
    "load",
    "save",
    "to_module",
    "to_networkx",
    "verify",
]

_HOMES = {
    "Certificate": "verification.certificate",
    "DeepstructError": "errors",
    "Function": "structure",
    "Graph": "structure",
    "Loss": "losses",
    "Mask": "mask",
    "Model": "model",
    "Node": "structure",
    "Parameter": "structure",
    "Report": "io",
    "Structure": "structure",
    "Tensor": "tensor",
    "ValueInfo": "structure",
    "Weights": "model",
    "convert": "io",
    "from_module": "io",
    "from_networkx": "io",
    "load": "io",
    "save": "io",
    "to_module": "io",
    "to_networkx": "io",
    "verify": "verification.verify",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"deepstruct.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'deepstruct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
