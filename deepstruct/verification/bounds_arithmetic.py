"""Balls: numbers in float64 with how far a runtime's may be from them, and the rounding of every operation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepstruct.verification.bounds_accuracy import FUNCTIONS

Axes = list[int]

_CENTRE = 2.0**-53  # unit roundoff of the float64 in which balls are computed
_FORMATS = {  # unit roundoff, error of an underflow, largest number
    "float64": (2.0**-53, 2.0**-1022, torch.finfo(torch.float64).max),
    "float32": (2.0**-24, 2.0**-126, torch.finfo(torch.float32).max),
    "float16": (2.0**-11, 2.0**-25, torch.finfo(torch.float16).max),
    "bfloat16": (2.0**-8, 2.0**-126, torch.finfo(torch.bfloat16).max),
}
_HALF = ("float16", "bfloat16")
_HALF_ACCURACY = 4.0


@dataclass(frozen=True, eq=False)
class Ball:
    """Numbers and how far those that a runtime computes in their place may be from them.

    Attributes:
        value: float64.
        error: float64, of a shape that broadcasts to that of the value; None where the numbers are given.
    """

    value: Tensor
    error: Tensor | None = None

    @property
    def radius(self) -> Tensor:
        """The error, zeros where the numbers are given."""
        return torch.zeros_like(self.value) if self.error is None else self.error

    @property
    def size(self) -> Tensor:
        """The largest absolute value that a runtime may have."""
        return self.value.abs() if self.error is None else self.value.abs() + self.error

    def reshape(self, *shape: int) -> Ball:
        """The same numbers in another shape."""
        return Ball(
            self.value.reshape(shape),
            None if self.error is None else self.error.expand_as(self.value).reshape(shape),
        )

    def widened(self, error: Tensor | float) -> Ball:
        """The same numbers with a greater error."""
        return Ball(self.value, self.radius + error)


@dataclass(frozen=True)
class Arithmetic:
    """Operations on balls, as a runtime may round them in a floating-point format.

    Every operation allows for the runtime's rounding and for that of the float64 centre.

    Attributes:
        unit: unit roundoff of the format and of float64 together.
        least: error of a number that underflows; small numbers may be flushed to zero, but for those of float16.
        largest: number of the format.
        is_half: sums of many terms are bounded by six standard deviations where that is less.
    """

    unit: float
    least: float
    largest: float
    is_half: bool = False

    @classmethod
    def of(cls, dtypes: Sequence[str]) -> Arithmetic | None:
        """The arithmetic of the coarsest of some dtypes, None if none of them is a float of 16 bits or more."""
        known = [dtype for dtype in dtypes if dtype in _FORMATS]
        if not known:
            return None
        units, least, largest = zip(*(_FORMATS[dtype] for dtype in known), strict=True)
        return cls(max(units) + _CENTRE, max(least), min(largest), any(dtype in _HALF for dtype in known))

    def accuracy(self, constant: float) -> float:
        """The constant of a function, less in half precision: runtimes compute that in float32 and round it."""
        return min(constant, _HALF_ACCURACY) if self.is_half else constant

    def gamma(self, count: Tensor | float) -> Tensor:
        """Relative error of that many roundings: n u / (1 - n u), infinite where n u reaches 1."""
        n = torch.as_tensor(count, dtype=torch.float64)
        product = n * self.unit
        worst = torch.where(product < 1, product / (1 - product).clamp(min=1e-300), math.inf)
        return torch.minimum(worst, 6 * self.unit * (2 * n).sqrt()) if self.is_half else worst

    def made(self, value: Tensor, error: Tensor, largest: Tensor | None = None) -> Ball:
        """A ball whose error is infinite where it is unknown or a number may overflow.

        Args:
            value: centre.
            error: of it.
            largest: absolute value on the way there, where that may be beyond the result's.
        """
        size = value.abs() if largest is None else largest
        may_overflow = size + error > self.largest * (1 + self.unit / 2)
        unknown = error.isnan() | ~value.isfinite() | may_overflow
        return Ball(value, torch.where(unknown, math.inf, error))

    def rounded(
        self,
        value: Tensor,
        propagated: Tensor | float = 0.0,
        relative: float = 1.0,
        absolute: Tensor | float = 0.0,
    ) -> Ball:
        """The result of one operation.

        Args:
            value: of the operation on the centres.
            propagated: error that comes from those of the operands.
            relative: error of the operation itself, in units of roundoff of its result.
            absolute: a further error, in units of roundoff of 1.
        """
        error = propagated + self.unit * (relative * (value.abs() + propagated) + absolute) + self.least
        return self.made(value, error)

    def computed(self, name: str, value: Tensor, size: Tensor | float = 1.0, propagated: Tensor | float = 0.0) -> Ball:
        """The result of one of `FUNCTIONS`.

        Args:
            name: of the operator.
            value: of the function at the centre.
            size: what the absolute error goes with.
            propagated: error that comes from that of the argument.
        """
        accuracy = FUNCTIONS[name]
        absolute = self.accuracy(accuracy.absolute) * size
        return self.rounded(value, propagated, self.accuracy(accuracy.relative), absolute)

    def constant(self, number: float) -> Ball:
        """An attribute: runtimes may round it to their format, or hold what it was before it was a float32."""
        value = torch.tensor(number, dtype=torch.float64)
        if number == value.to(torch.bfloat16).double():
            return Ball(value)
        return Ball(value, (abs(number) * max(self.unit, 2.0**-24) + self.least) * torch.ones_like(value))

    def add(self, a: Ball, b: Ball, relative: float = 1.0) -> Ball:
        """The sum."""
        return self.rounded(a.value + b.value, a.radius + b.radius, relative)

    def subtract(self, a: Ball, b: Ball) -> Ball:
        """The difference."""
        return self.rounded(a.value - b.value, a.radius + b.radius)

    def multiply(self, a: Ball, b: Ball, relative: float = 1.0) -> Ball:
        """The product."""
        return self.rounded(a.value * b.value, _product_error(a, b), relative)

    def divide(self, a: Ball, b: Ball, relative: float = 3.0) -> Ball:
        """The quotient, or the product with the reciprocal."""
        value, room = a.value / b.value, b.value.abs() - b.radius
        error = (a.radius + value.abs() * b.radius) / room
        return self.rounded(value, torch.where(room > 0, error, math.inf), relative)

    def sqrt(self, x: Ball) -> Ball:
        """The square root."""
        value, least, most = (y.clamp(min=0).sqrt() for y in (x.value, x.value - x.radius, x.value + x.radius))
        return self.computed("Sqrt", value, 1.0, torch.maximum(value - least, most - value))

    def reciprocal_sqrt(self, x: Ball) -> Ball:
        """The reciprocal of the square root; of unknown error where that of x is half of x."""
        value, room = x.value.rsqrt(), x.value - x.radius
        error = torch.where(room >= x.radius, room.clamp(min=1e-300).rsqrt() - value, math.inf)
        return self.computed("Sqrt", value, 1.0, error)

    def exp(self, x: Ball) -> Ball:
        """The exponential; 0 where x is minus infinity."""
        value = x.value.exp()
        error = torch.where(x.radius < 1, value * x.radius.clamp(max=1).expm1(), (x.value + x.radius).exp())
        return self.computed("Exp", value, 1.0, torch.where(x.value == -math.inf, 0, error))

    def log(self, x: Ball) -> Ball:
        """The natural logarithm."""
        value = x.value.log()
        share = x.radius / x.value
        error = torch.where(share < 1, -torch.log1p(-share.clamp(max=1)), math.inf)
        return self.computed("Log", value, 1.0, error)

    def sigmoid(self, x: Ball) -> Ball:
        """1 / (1 + exp(-x)); its slope is at most 1/4."""
        nearest = torch.sigmoid((x.value.abs() - x.radius).clamp(min=0))
        return self.computed("Sigmoid", torch.sigmoid(x.value), 1.0, x.radius * nearest * (1 - nearest))

    def tanh(self, x: Ball) -> Ball:
        """The hyperbolic tangent; its slope is at most 1."""
        nearest = torch.tanh((x.value.abs() - x.radius).clamp(min=0))
        return self.computed("Tanh", torch.tanh(x.value), 1.0, x.radius * (1 - nearest * nearest))

    def clamp(self, x: Ball, low: float | None, high: float | None) -> Ball:
        """Numbers beyond a bound replaced by it."""
        bounds = [0.0 if bound is None else float(self.constant(bound).radius) for bound in (low, high)]
        error = x.radius if not any(bounds) else torch.maximum(x.radius, torch.tensor(max(bounds)).double())
        return Ball(x.value.clamp(low, high), error)

    def dot(self, value: Tensor, magnitude: Tensor, count: Tensor | float, propagated: Tensor | float = 0.0) -> Ball:
        """A sum of products in any order.

        Args:
            value: of the sum.
            magnitude: the sum of the absolute values of the terms.
            count: roundings that a term may go through: how many terms there are, and one for its product.
            propagated: error that comes from those of the factors.
        """
        factor, n = self.gamma(count), torch.as_tensor(count, dtype=torch.float64)
        error = propagated + factor * (magnitude + propagated) + (n + 1) * self.least
        error = torch.where(torch.as_tensor(magnitude + propagated == 0), self.least, error)
        return self.made(value, error, magnitude)

    def matmul(self, a: Ball, b: Ball, bias: Ball | None = None, roundings: int = 2) -> Ball:
        """A @ b + bias with torch's broadcasting, zeros not counted as terms; both at least matrices."""
        value, magnitude = a.value @ b.value, a.value.abs() @ b.value.abs()
        propagated = torch.zeros_like(value)
        if a.error is not None:
            propagated = propagated + a.error.expand_as(a.value) @ (b.value.abs() + b.radius)
        if b.error is not None:
            propagated = propagated + a.value.abs() @ b.error.expand_as(b.value)
        rows, columns = non_zeros(a.size, -1)[..., :, None], non_zeros(b.size, -2)[..., None, :]
        if bias is not None:
            value, magnitude = value + bias.value, magnitude + bias.value.abs()
            propagated = propagated + bias.radius
        propagated = torch.where(unknown_products(a.value, b.value, magnitude), math.inf, propagated)
        return self.dot(value, magnitude, torch.minimum(rows, columns) + roundings, propagated)

    def sum(self, x: Ball, axes: Axes, keepdim: bool = False, roundings: int = 0) -> Ball:
        """The sum over axes.

        Args:
            x: terms.
            axes: to sum over.
            keepdim: the axes stay, with one entry each.
            roundings: of each term beyond those of the sum.
        """
        total, magnitude = x.value.sum(axes, keepdim), x.value.abs().sum(axes, keepdim)
        propagated = x.radius.expand_as(x.value).sum(axes, keepdim)
        count = torch.count_nonzero(x.size, axes).double().reshape(total.shape) + roundings
        return self.dot(total, magnitude, count, propagated)

    def mean(self, x: Ball, axes: Axes, keepdim: bool = False) -> Ball:
        """The mean over axes: the sum by the count, or times its reciprocal, before or after."""
        count = math.prod(x.value.shape[axis] for axis in axes)
        total = self.sum(x, axes, keepdim, 3)
        return Ball(total.value / count, total.radius / count + self.least)


def unknown_products(a: Tensor, b: Tensor, magnitude: Tensor) -> Tensor:
    """Which entries of a @ b an infinity or NaN goes into: kernels may leave it out where it meets a 0.

    Args:
        a: matrices.
        b: matrices.
        magnitude: something of the product's shape that is not finite where an infinity or NaN goes in.
    """
    if bool(magnitude.isfinite().all()):
        return torch.zeros(magnitude.shape, dtype=torch.bool)
    rows, columns = ~a.isfinite().all(-1), ~b.isfinite().all(-2)
    return rows[..., :, None] | columns[..., None, :]


def non_zeros(x: Tensor, axis: int) -> Tensor:
    """How many entries along an axis are not zero, as float64."""
    return torch.count_nonzero(x, axis).double()


def _product_error(a: Ball, b: Ball) -> Tensor:
    if a.error is None and b.error is None:
        return torch.zeros_like(a.value * b.value)
    if b.error is None:
        return b.value.abs() * a.radius
    if a.error is None:
        return a.value.abs() * b.radius
    return a.value.abs() * b.error + (b.value.abs() + b.error) * a.error
