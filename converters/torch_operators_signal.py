"""Operators of signal processing: Fourier transforms and window functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepstruct.converters.torch_operators_entry import DTYPES, Numbers, Operator, positive, refuse_values, scalar


def _complex(x: Tensor) -> Tensor:
    """A signal whose last dimension holds the real part and maybe the imaginary one, without that dimension."""
    return x.squeeze(-1) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def _dft(
    x: Tensor, length: Numbers | None = None, axis: Numbers | None = None, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    return _transformed(x, length, -2 if axis is None else int(scalar(axis)), bool(inverse), bool(onesided))


def _dft_before_20(
    x: Tensor, length: Numbers | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    return _transformed(x, length, axis, bool(inverse), bool(onesided))


def _transformed(x: Tensor, length: Numbers | None, axis: int, inverse: bool, onesided: bool) -> Tensor:
    dtype = x.dtype
    x = x.float() if x.element_size() < 4 else x
    axis = positive(axis, x.ndim)
    n = None if length is None else int(scalar(length))
    signal = _complex(x)
    if inverse and onesided:
        real: Tensor = torch.fft.irfft(signal, n, axis)
        return real.unsqueeze(-1).to(dtype)
    if inverse:
        result: Tensor = torch.fft.ifft(signal, n, axis)
    elif onesided and not signal.is_complex():
        result = torch.fft.rfft(signal, n, axis)
    else:
        result = torch.fft.fft(signal, n, axis)
        result = result.narrow(axis, 0, result.shape[axis] // 2 + 1) if onesided else result
    return torch.view_as_real(result).to(dtype)


def _stft(
    signal: Tensor, step: Numbers, window: Tensor | None = None, length: Numbers | None = None, *, onesided: int = 1
) -> Tensor:
    size = signal.shape[1] if window is None else window.shape[0]
    size = size if length is None else int(scalar(length))
    frames = signal.unfold(1, size, int(scalar(step))).transpose(2, 3)
    frames = frames if window is None else frames * window[:, None]
    return _transformed(frames, None, 2, False, bool(onesided))


def _window(coefficients: Sequence[float]) -> Operator:
    """A window that is a sum of cosines."""

    def compute(size: Numbers, *, periodic: int = 1, output_datatype: int = 1) -> Tensor:
        count = int(scalar(size))
        angle = torch.arange(count, dtype=torch.float64, device="cpu") * (2 * math.pi)
        angle = angle / (count if periodic else count - 1)
        terms = [factor * torch.cos(order * angle) for order, factor in enumerate(coefficients)]
        return torch.stack(terms).sum(0).to(DTYPES[output_datatype])

    return Operator(compute, refuse=refuse_values(output_datatype=tuple(DTYPES)), numbers=(0,))


OPERATORS: dict[str, Operator] = {
    "BlackmanWindow": _window((0.42, -0.5, 0.08)),
    "DFT": Operator(_dft, before={20: _dft_before_20}, numbers=(1, 2)),
    "HammingWindow": _window((25 / 46, -21 / 46)),
    "HannWindow": _window((0.5, -0.5)),
    "STFT": Operator(_stft, numbers=(1, 3)),
}
