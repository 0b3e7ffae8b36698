"""Operators that compare scores with classes."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import Operator, refuse_values

_NOTHING = -(2**31)  # no class is called so


def _negative_log_likelihood(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean", ignore_index: int = _NOTHING
) -> Tensor:
    return F.nll_loss(x, target.long(), weight, ignore_index=ignore_index, reduction=reduction)


def _softmax_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean", ignore_index: int = _NOTHING
) -> tuple[Tensor, Tensor]:
    scores = F.log_softmax(x, 1)
    return _negative_log_likelihood(scores, target, weight, reduction=reduction, ignore_index=ignore_index), scores


_REDUCTIONS = refuse_values(reduction=("mean", "sum", "none"))

OPERATORS: dict[str, Operator] = {
    "NegativeLogLikelihoodLoss": Operator(_negative_log_likelihood, refuse=_REDUCTIONS),
    "SoftmaxCrossEntropyLoss": Operator(_softmax_cross_entropy, refuse=_REDUCTIONS),
}
