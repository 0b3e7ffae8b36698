"""Operators of transformers and their like: Attention, RotaryEmbedding, LinearAttention, CausalConvWithState."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from deepstruct.converters.torch_operators_entry import DTYPES, Operator, refuse_values
from deepstruct.structure import Node, Structure


def _to_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, steps, heads * size) as (batch, heads, steps, size)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _from_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    count: int,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    scale: float | None = None,
    softmax_precision: int | None = None,
    softcap: float = 0.0,
    qk_matmul_output_mode: int = 0,
    **window: int,
) -> tuple[Tensor, ...]:
    is_flat = q.ndim == 3
    if is_flat:
        q, k, v = _to_heads(q, q_num_heads), _to_heads(k, kv_num_heads), _to_heads(v, kv_num_heads)
    k = k if past_key is None else torch.cat([past_key, k], 2)
    v = v if past_value is None else torch.cat([past_value, v], 2)
    offset = 0 if past_key is None else past_key.shape[2]
    allowed, added = _masks(q, k.shape[2], mask, lengths, offset, **window)
    repeats = q.shape[1] // k.shape[1]
    keys, values = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    factor = q.shape[3] ** -0.5 if scale is None else scale
    if count < 4 and not softcap and softmax_precision is None:
        bias = allowed if added is None else _combined(allowed, added)
        y = F.scaled_dot_product_attention(q, keys, values, bias, scale=factor)
        return (_from_heads(y) if is_flat else y), k, v
    scores = [(q * factor**0.5) @ (keys * factor**0.5).transpose(2, 3)]
    scores.append(softcap * torch.tanh(scores[0] / softcap) if softcap else scores[0])
    bias = None if allowed is None and added is None else _combined(allowed, added, q)
    scores.append(scores[1] if bias is None else scores[1] + bias)
    weights = torch.softmax(scores[2].to(DTYPES.get(softmax_precision or 0, q.dtype)), 3).to(q.dtype)
    if bias is not None:
        weights = torch.where(torch.isneginf(bias.amax(-1, keepdim=True)), 0, weights)
    scores.append(weights)
    y = weights @ values
    return (_from_heads(y) if is_flat else y), k, v, scores[qk_matmul_output_mode]


def _masks(
    q: Tensor,
    steps: int,
    mask: Tensor | None,
    lengths: Tensor | None,
    offset: int,
    *,
    is_causal: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
) -> tuple[Tensor | None, Tensor | None]:
    """Where a query may look, and what is added to the scores, both None or to be broadcast to the scores."""
    key = torch.arange(steps, device=q.device)
    query = torch.arange(q.shape[2], device=q.device)[:, None] + offset
    conditions = []
    if lengths is not None:
        ends = lengths.reshape(-1, 1, 1, 1)
        query = query + ends - q.shape[2]
        conditions.append(key < ends)
    if is_causal:
        conditions.append(key <= query)
    if left_window_size >= 0:
        conditions.append(query - key <= left_window_size)
    if right_window_size >= 0:
        conditions.append(key - query <= right_window_size)
    added = None
    if mask is not None:
        is_bool = mask.dtype == torch.bool
        mask = F.pad(mask, [0, steps - mask.shape[-1]], value=False if is_bool else -math.inf)
        if is_bool:
            conditions.append(mask)
        else:
            added = mask
    allowed = None
    for condition in conditions:
        allowed = condition if allowed is None else allowed & condition
    return allowed, added


def _combined(allowed: Tensor | None, added: Tensor | None, like: Tensor | None = None) -> Tensor:
    """One tensor to add to the scores."""
    if added is None:
        assert like is not None
        added = like.new_zeros(())
    return added if allowed is None else torch.where(allowed, added, -math.inf)


def _refuse_attention(node: Node, structure: Structure) -> str | None:
    pairs = zip((*node.inputs, *[""] * 7)[4:6], ("past_key", "past_value"), strict=True)
    missing = [name for value, name in pairs if not value]
    if len(missing) == 1:
        return f"{missing[0]} is missing"
    values = refuse_values(softmax_precision=(None, 1, 10, 11, 16), qk_matmul_output_mode=(0, 1, 2, 3))
    return values(node, structure)


def _rotary_embedding(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    is_flat = x.ndim == 3
    heads = _to_heads(x, num_heads) if is_flat else x
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    size = rotary_embedding_dim or heads.shape[3]
    turned, rest = heads[..., :size], heads[..., size:]
    first, second = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, 3)
    real, imaginary = cos * first - sin * second, sin * first + cos * second
    result = torch.stack([real, imaginary], -1).flatten(3) if interleaved else torch.cat([real, imaginary], 3)
    result = torch.cat([result, rest], 3)
    return _from_heads(result) if is_flat else result


def _linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
    chunk_size: int = 0,
) -> tuple[Tensor, Tensor]:
    del update_rule, chunk_size  # which inputs there are says the first, and the second is a hint for speed
    q, k, v = _to_heads(query, q_num_heads), _to_heads(key, kv_num_heads), _to_heads(value, kv_num_heads)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    state = q.new_zeros(*k.shape[:2], k.shape[3], v.shape[3]) if past_state is None else past_state.to(wide)
    gates = None if decay is None else _to_heads(decay.to(wide), kv_num_heads).exp()
    rates = None if beta is None else _to_heads(beta.to(wide), beta.shape[2])
    outputs = []
    for step in range(q.shape[2]):
        new_key, new_value = k[:, :, step], v[:, :, step]
        if gates is not None:
            state = state * gates[:, :, step].unsqueeze(3)
        if rates is not None:
            new_value = rates[:, :, step] * (new_value - torch.einsum("bhdm,bhd->bhm", state, new_key))
        state = state + new_key.unsqueeze(3) * new_value.unsqueeze(2)
        read = state.repeat_interleave(q_num_heads // kv_num_heads, 1)
        outputs.append(torch.einsum("bhd,bhdm->bhm", q[:, :, step], read))
    y = torch.stack(outputs, 2) * (scale or k.shape[3] ** -0.5)
    return _from_heads(y).to(query.dtype), state.to(query.dtype if past_state is None else past_state.dtype)


def _refuse_linear_attention(node: Node, structure: Structure) -> str | None:
    rule = str(node.attributes.get("update_rule", "gated_delta"))
    inputs = [bool(name) for name in (*node.inputs, *[""] * 6)]
    if (inputs[4], inputs[5]) != ("gated" in rule, "delta" in rule):
        return f"update_rule={rule!r:.60} does not go with the inputs decay and beta that it has"
    return refuse_values(update_rule=("gated_delta", "delta", "gated", "linear"))(node, structure)


def _causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, past_state: Tensor | None = None, *, activation: str = "none"
) -> tuple[Tensor, Tensor]:
    before = weight.shape[2] - 1
    padded = F.pad(x, [before, 0]) if past_state is None else torch.cat([past_state, x], 2)
    y = F.conv1d(padded, weight, bias, groups=x.shape[1])
    return (y if activation == "none" else F.silu(y)), padded[:, :, padded.shape[2] - before :]


OPERATORS: dict[str, Operator] = {
    "Attention": Operator(_attention, refuse=_refuse_attention, counted=True),
    "CausalConvWithState": Operator(_causal_conv, refuse=refuse_values(activation=("none", "silu", "swish"))),
    "LinearAttention": Operator(_linear_attention, refuse=_refuse_linear_attention),
    "RotaryEmbedding": Operator(_rotary_embedding),
}
