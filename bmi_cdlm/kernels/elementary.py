"""Elementary functions that a compiler can vectorise: the ones in libm cost more than the model around them."""

from __future__ import annotations

import math

import numpy as np
from numpy import float64 as real  # launch puts the compiled precision in its place

from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.rules import adjoint_of
from bmi_cdlm.kernels.transcendental import reduced_expm1


def tanh_ratio(w):
    """Return n, d with tanh(w) = n / d, for 0 <= w <= 13; within 3 ulp in float64.

    Through m = expm1(w), since expm1(2 w) = m (m + 2): the reduction w = k ln 2 + r then has k <= 19.
    """
    k = np.int32(w * 1.4426950408889634 + 0.5)
    # ln 2 in two parts, the first short enough for k times it to be exact in float32 too.
    r = fma(real(k), -1.4286068203094173e-06, w - real(k) * 0.693145751953125)
    p = reduced_expm1(r)
    power = real(np.int32(np.int32(1) << k))
    m = fma(power, p, power - 1.0)
    n = m * (m + 2.0)
    return n, n + 2.0


def percolated_fraction(a):
    """Return 1 - (1 + a)^(-1/4) for 0 <= a <= (4/9)^4, what a full production store comes to; within 1 ulp.

    Chebyshev fits made with 50 digits, here and below: no root, no quotient.
    """
    q = fma(a, -0.049754330195266094, 0.06276292425413497)
    q = fma(a, q, -0.07080085866272597)
    q = fma(a, q, 0.08093234138823467)
    q = fma(a, q, -0.09521484102082631)
    q = fma(a, q, 0.11718749998671282)
    q = fma(a, q, -0.15624999999997533)
    return a * fma(a, q, 0.25)


def percolated_slope(a):
    """Return a (1 + a)^(-5/4), which is 4 a times the derivative of `percolated_fraction` at a; within 3 ulp."""
    q = fma(a, -1.564421650216842, 1.7538411859758056)
    q = fma(a, q, -1.699045937931707)
    q = fma(a, q, 1.6186425598968726)
    q = fma(a, q, -1.5234374032348346)
    q = fma(a, q, 1.4062499995290398)
    q = fma(a, q, -1.2499999999991254)
    return a * fma(a, q, 0.9999999999999998)


def store_outflow_fraction(a):
    """Return 1 - (1 + a)^(-1/4) for a >= 0, without the cancellation of that form at small a [SPEC 1.6]."""
    r = math.sqrt(1.0 + a)
    s = math.sqrt(r)
    return a / ((r + 1.0) * (s + 1.0) * s)


@adjoint_of(tanh_ratio, "n", "d = n + 2.0")
def tanh_ratio_adjoint(n, n_adj):
    """Adjoint of `tanh_ratio` in n, to which d is tied: n = expm1(2 w)."""
    return 2.0 * (n + 1.0) * n_adj


@adjoint_of(percolated_fraction, "fraction")
def percolated_fraction_adjoint(fraction, fraction_adj):
    """Adjoint of `percolated_fraction`: a quarter of the fifth power of what stays, (1 + a)^(-1/4)."""
    stays = 1.0 - fraction
    squared = stays * stays
    return 0.25 * (squared * squared * stays) * fraction_adj


@adjoint_of(store_outflow_fraction, "fraction")
def store_outflow_fraction_adjoint(a, fraction_adj):
    """Adjoint of `store_outflow_fraction`, (1 + a)^(-5/4) / 4, whose roots are those of the function itself."""
    r = math.sqrt(1.0 + a)
    return 0.25 / (r * r * math.sqrt(r)) * fraction_adj
