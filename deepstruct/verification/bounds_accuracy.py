"""How exactly runtimes compute functions: constants of at least four times the worst error that was measured.

`docs/verification.md` has both; the tests measure anew.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """How exactly runtimes compute a function.

    Attributes:
        relative: error in units of roundoff of the result.
        absolute: further error, in units of roundoff of 1.
        per_input: further error, in units of roundoff of the input: where a factor cancels in the tail.
        constants: error of constants that are rounded to float32 in every dtype, per input.
        grows: the function computes exponentials of the size of the input, which may overflow.
        room: factor by which intermediate numbers may be larger than the input.
    """

    relative: float = 0.0
    absolute: float = 0.0
    per_input: float = 0.0
    constants: float = 0.0
    grows: bool = False
    room: float = 1.0


FUNCTIONS: dict[str, Accuracy] = {
    "Acos": Accuracy(24),
    "Acosh": Accuracy(10),
    "Asin": Accuracy(32),
    "Asinh": Accuracy(10),
    "Atan": Accuracy(24),
    "Atanh": Accuracy(18),
    "Celu": Accuracy(12, 6),
    "Cos": Accuracy(12, 24),
    "Cosh": Accuracy(12, grows=True),
    "Elu": Accuracy(12, 6),
    "Erf": Accuracy(8, 4),
    "Exp": Accuracy(12),
    "Gelu": Accuracy(per_input=28, constants=0.5, room=2),
    "HardSwish": Accuracy(per_input=10, constants=0.5, room=6),
    "Log": Accuracy(20),
    "Mish": Accuracy(per_input=24),
    "Pow": Accuracy(16),
    "Reciprocal": Accuracy(5),
    "Selu": Accuracy(12, 6),
    "Sigmoid": Accuracy(10, 12),
    "Sin": Accuracy(12, 24),
    "Sinh": Accuracy(12, grows=True),
    "Softplus": Accuracy(24, 4),
    "Softsign": Accuracy(12),
    "Sqrt": Accuracy(8),
    "Tan": Accuracy(12, 12),
    "Tanh": Accuracy(28),
}
