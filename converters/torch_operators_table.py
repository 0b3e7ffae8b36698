"""The table of all ONNX operators that are computed with torch."""

from __future__ import annotations

from deepstruct.converters import (
    torch_operators_attention,
    torch_operators_elementwise,
    torch_operators_indexing,
    torch_operators_loss,
    torch_operators_normalization,
    torch_operators_quantization,
    torch_operators_recurrent,
    torch_operators_reduction,
    torch_operators_resize,
    torch_operators_shape,
    torch_operators_signal,
    torch_operators_window,
)
from deepstruct.converters.torch_operators_entry import Operator

OPERATORS: dict[str, Operator] = {
    **torch_operators_signal.OPERATORS,
    **torch_operators_quantization.OPERATORS,
    **torch_operators_loss.OPERATORS,
    **torch_operators_attention.OPERATORS,
    **torch_operators_elementwise.OPERATORS,
    **torch_operators_indexing.OPERATORS,
    **torch_operators_normalization.OPERATORS,
    **torch_operators_recurrent.OPERATORS,
    **torch_operators_reduction.OPERATORS,
    **torch_operators_resize.OPERATORS,
    **torch_operators_shape.OPERATORS,
    **torch_operators_window.OPERATORS,
}

_REASONS = {
    "control flow": "If Loop Scan",
    "images in files": "ImageDecoder",
    "no such function in torch": "DeformConv MaxRoiPool MelWeightMatrix RoiAlign",
    "random": "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike",
    "sequences and optional values": "ConcatFromSequence Optional OptionalGetElement OptionalHasElement SequenceAt "
    "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence",
    "strings": "RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer",
}

NOT_COMPUTED: dict[str, str] = {  # operator -> the reason, for all others of ONNX's own domain
    name: reason for reason, names in _REASONS.items() for name in names.split()
}
