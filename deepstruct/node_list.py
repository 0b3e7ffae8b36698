"""NodeList: the operators of a structure under construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepstruct.frozen import FrozenMapping
from deepstruct.structure import AttributeValue, Node
from deepstruct.tensor import Tensor


class NodeList:
    """Operators in topological order, and the constants that they use.

    Attributes:
        nodes: so far.
        constants: by name.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Tensor] = {}

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        scope: str = "",
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> str:
        """Appends an operator with one output and gives the output's name back."""
        self.add_node(op_type, inputs, (output,), scope, attributes)
        return output

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        scope: str = "",
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        """Appends an operator that is called after its first output that is there."""
        name = next(output for output in outputs if output)
        self.nodes.append(Node(name, op_type, tuple(inputs), tuple(outputs), FrozenMapping(attributes or {}), scope))

    def integers(self, *values: int) -> str:
        """The name of a constant, int64 ``[n]``."""
        name = "ints_" + "_".join(map(str, values)).replace("-", "minus_")
        self.constants[name] = Tensor.from_array(np.array(values, dtype=np.int64))
        return name
