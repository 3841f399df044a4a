"""Dual numbers, and the kernels run on them: exact tangents of the very code that is compiled."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

import numpy as np

from bmi_cdlm.kernels import bits, fused, transcendental
from bmi_cdlm.kernels.graph import Linker


def _by_value(compare: Callable) -> Callable:
    return lambda self, other: compare(self.value, value_of(other))


class Dual:
    """A value and its tangent: a number, or a vector with one derivative per direction.

    Compares and rounds by its value. numpy takes the class for the dtype `object`, and `Dual(1)` is a constant,
    so that it can stand where kernels and operators expect a precision.
    """

    __slots__ = ("tangent", "value")
    __array_ufunc__ = None  # a numpy number on the left leaves the operation to the methods here
    __hash__ = None

    def __init__(self, value: object, tangent: float | np.ndarray = 0.0) -> None:
        self.value = float(value)
        self.tangent = tangent

    def __add__(self, other):
        return Dual(self.value + value_of(other), self.tangent + tangent_of(other))

    __radd__ = __add__

    def __sub__(self, other):
        return Dual(self.value - value_of(other), self.tangent - tangent_of(other))

    def __rsub__(self, other):
        return Dual(other - self.value, -self.tangent)

    def __neg__(self):
        return Dual(-self.value, -self.tangent)

    def __abs__(self):
        return self if self.value >= 0.0 else -self

    def __mul__(self, other):
        b = value_of(other)
        return Dual(self.value * b, self.tangent * b + self.value * tangent_of(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        b = value_of(other)
        quotient = self.value / b
        return Dual(quotient, (self.tangent - quotient * tangent_of(other)) / b)

    def __rtruediv__(self, other):
        return Dual(other, 0.0) / self

    def __pow__(self, other):
        exponent = value_of(other)
        assert np.all(tangent_of(other) == 0.0), "exponents are constants"
        return Dual(self.value**exponent, exponent * self.value ** (exponent - 1.0) * self.tangent)

    def __int__(self):
        return int(self.value)

    def __ceil__(self):
        return math.ceil(self.value)

    def __float__(self):
        raise TypeError("this would lose the tangent")

    def __repr__(self):
        return f"Dual({self.value}, {self.tangent})"

    __eq__ = _by_value(operator.eq)
    __ne__ = _by_value(operator.ne)
    __lt__ = _by_value(operator.lt)
    __le__ = _by_value(operator.le)
    __gt__ = _by_value(operator.gt)
    __ge__ = _by_value(operator.ge)


def value_of(number: object) -> float:
    """Value of a dual number or of a constant."""
    return number.value if type(number) is Dual else number


def tangent_of(number: object) -> float | np.ndarray:
    """Tangent of a dual number; that of a constant is 0."""
    return number.tangent if type(number) is Dual else 0.0


class DualMath:
    """What kernels take from `math`."""

    @staticmethod
    def sqrt(number):
        """Square root; its tangent at 0, where the slope is infinite, is left out.

        The one root that can meet 0 is that in R^3 sqrt(R), whose slope there is 0.
        """
        root = math.sqrt(value_of(number))
        if type(number) is not Dual:
            return root
        return Dual(root, number.tangent * (0.5 / root if root > 0.0 else 0.0))


def fma(a, b, c):
    """What kernels take for a product and a sum, rounded once or not: each has its tangent."""
    exact = fused.fma(*map(value_of, (a, b, c)))
    product = value_of(a) * tangent_of(b) + tangent_of(a) * value_of(b)
    return Dual(exact, product + tangent_of(c)) if Dual in map(type, (a, b, c)) else exact


def power_and_log(x, b):
    """What kernels take for x^b and ln x; a negative x counts as 0, where only x^1 has a slope."""
    y, log_x = transcendental.power_and_log(value_of(x), value_of(b))
    if Dual not in (type(x), type(b)):
        return y, log_x
    v, e = value_of(x), value_of(b)
    if v <= 0.0:
        return Dual(y, tangent_of(x) * (1.0 if v == 0.0 and e == 1.0 else 0.0)), Dual(log_x, 0.0)
    return Dual(y, e * y / v * tangent_of(x) + y * log_x * tangent_of(b)), Dual(log_x, tangent_of(x) / v)


def exp(x):
    """What kernels take for e^x."""
    y = transcendental.exp(value_of(x))
    return Dual(y, y * tangent_of(x)) if type(x) is Dual else y


def log(x):
    """What kernels take for ln x."""
    y, v = transcendental.log(value_of(x)), value_of(x)
    return Dual(y, tangent_of(x) / v if v > 0.0 else 0.0) if type(x) is Dual else y


def tanh(x):
    """What kernels take for tanh x."""
    y = transcendental.tanh(value_of(x))
    return Dual(y, (1.0 - y) * (1.0 + y) * tangent_of(x)) if type(x) is Dual else y


def split_exponent(x):
    """What kernels take for m, k with x = m 2^k; k is a whole number."""
    m, k = bits.split_exponent(value_of(x))
    return Dual(m, tangent_of(x) * 2.0**-k) if type(x) is Dual else m, k


def times_two_to(x, n):
    """What kernels take for x 2^n; n is a whole number."""
    y = bits.times_two_to(value_of(x), value_of(n))
    return Dual(y, tangent_of(x) * 2.0 ** value_of(n)) if type(x) is Dual else y


SPECIAL = {
    fused.fma: fma, transcendental.power_and_log: power_and_log, transcendental.exp: exp, transcendental.log: log,
    transcendental.tanh: tanh, bits.split_exponent: split_exponent, bits.times_two_to: times_two_to,
    bits.nearest: lambda x: bits.nearest(value_of(x)),
}
"""Functions whose tangents are told, since they take numbers apart or round."""
dual = Linker(float, lambda _function, plain: plain, {math: DualMath, **SPECIAL})
"""dual(kernel): the same code as `launch.compiled` takes, with what it calls, interpreted on dual numbers."""


def seeded(values: np.ndarray, tangents: np.ndarray, direction: int, n_directions: int) -> np.ndarray:
    """An array of dual numbers that move along one of the directions."""
    out = np.empty(values.shape, object)
    for place in np.ndindex(values.shape):
        tangent = np.zeros(n_directions)
        tangent[direction] = tangents[place]
        out[place] = Dual(values[place], tangent)
    return out


def values_of(array: np.ndarray) -> np.ndarray:
    """Values of an array of dual numbers and constants, float64."""
    return np.array([value_of(v) for v in array.ravel()], np.float64).reshape(array.shape)


def tangents_of(array: np.ndarray, n_directions: int) -> np.ndarray:
    """Tangents of an array of dual numbers and constants, float64[..., direction]."""
    flat = [np.broadcast_to(tangent_of(v), n_directions) for v in array.ravel()]
    return np.array(flat, np.float64).reshape(*array.shape, n_directions)


def jacobian(function: Callable, arguments: Mapping[str, float], active: tuple[str, ...]) -> np.ndarray:
    """Exact derivatives of a scalar kernel, float64[output, active argument]; other arguments are constants."""
    unit = np.eye(len(active))
    seeds = {
        name: Dual(value, unit[active.index(name)]) if name in active else value for name, value in arguments.items()
    }
    returned = dual(function)(**seeds)
    returned = returned if isinstance(returned, tuple) else (returned,)
    return np.array([np.broadcast_to(tangent_of(v), len(active)) for v in returned], np.float64)
