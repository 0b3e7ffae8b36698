"""What corresponds to what in two structures: operations in steps, tensors in pairs, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deepstruct.frozen import FrozenMapping
from deepstruct.structure import AttributeValue, Node, Structure


@dataclass(frozen=True)
class Operation:
    """One operation of a structure in normal form.

    Attributes:
        name: of the node that it stands for; where it stands for several, of the one that gives it its operator.
        op_type: operator, possibly another one than that of the nodes: a MatMul and an Add may be one Gemm.
        domain: of the operator, ``""`` for ONNX's own.
        attributes: of the operator; those that say what holds without them are left out.
        inputs: names of the values that it takes, in the operator's order, ``""`` for one that is left out. Each is a
            graph input, an output of another operation, or a leaf of the structure.
        outputs: names of the values that it makes, ``""`` for one that nothing needs.
        nodes: of the structure, in topological order, that together compute the outputs from the inputs. Names of
            values that only pass through an Identity or the like are replaced by those of the values themselves.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=FrozenMapping)
    domain: str = ""


@dataclass(frozen=True)
class LeafPair:
    """Two tensors that correspond and depend on no graph input.

    The names are always those that operations take; `deepstruct.verification.alignment.origin` says which parameters
    they come from.

    Attributes:
        a: name in the first structure: a parameter, a constant, or a value computed from such.
        b: name in the second.
        permutation: axes by which the first must be transposed to become the second, None for as it is:
            ``b == np.transpose(a, permutation)``.
        broadcast: one may have more leading extents of 1 than the other, since both are broadcast to the same shape.
    """

    a: str
    b: str
    permutation: tuple[int, ...] | None = None
    broadcast: bool = False


@dataclass(frozen=True)
class Step:
    """Two operations that correspond.

    Attributes:
        a: of the first structure.
        b: of the second.
        order: position among the inputs of `b` for each input of `a`, ``-1`` for one that stands within an attribute
            or a shape computation of its own. Inputs of commutative operators may stand in another order.
        leaves: the pairs that the inputs of the two are.
    """

    a: Operation
    b: Operation
    order: tuple[int, ...]
    leaves: tuple[LeafPair, ...] = ()


Kind = Literal["operator", "attribute", "wiring", "leaf", "outputs", "opset"]


@dataclass(frozen=True)
class GraphDifference:
    """A place where two graphs are not the same.

    Attributes:
        kind: ``operator`` and ``attribute``: another computation of the same inputs; ``wiring``: other inputs;
            ``leaf``: a tensor of fixed numbers on one side only; ``outputs``: another number of outputs; ``opset``:
            operator sets that cannot be compared.
        a: name of the node in the first structure, ``""`` if it has no counterpart there.
        b: name of the node in the second.
        message: one sentence.
        is_certain: the difference changes what is computed. Otherwise two graphs are spelled in different ways, and
            may still compute the same.
    """

    kind: Kind
    a: str
    b: str
    message: str
    is_certain: bool


@dataclass(frozen=True)
class Alignment:
    """Everything that corresponds in two structures.

    Attributes:
        steps: in an order in which both structures can be computed.
        leaves: every pair of tensors, each once, in the order of the steps.
        differences: where the graphs are not the same; the first one is that nearest to the inputs. Empty if each
            graph output of one is computed as in the other.
        derivations_a: leaf that is neither parameter nor constant -> the nodes that compute it, in topological order.
        derivations_b: likewise, in the second structure.
        unused_a: parameters of the first structure on which no graph output depends.
        unused_b: likewise, in the second structure.
        structure_a: the first structure as steps and derivations refer to it: with functions put in place of their
            calls, and perhaps in another version of ONNX's own operators. Parameters keep their names.
        structure_b: likewise, the second.
        outputs: for each graph output, the names of the values that it is; they may be those of a step's output, of a
            graph input or of a leaf.
    """

    steps: tuple[Step, ...]
    leaves: tuple[LeafPair, ...]
    differences: tuple[GraphDifference, ...]
    derivations_a: Mapping[str, tuple[Node, ...]] = field(default_factory=FrozenMapping)
    derivations_b: Mapping[str, tuple[Node, ...]] = field(default_factory=FrozenMapping)
    unused_a: tuple[str, ...] = ()
    unused_b: tuple[str, ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    structure_a: Structure = field(kw_only=True)
    structure_b: Structure = field(kw_only=True)
