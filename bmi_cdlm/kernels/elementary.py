"""Elementary functions that a compiler can vectorise: the ones in libm cost more than the model around them."""

from __future__ import annotations

import math

import numpy as np
from numpy import float64 as real  # launch puts the compiled precision in its place


def tanh_ratio(w):
    """Return n, d with tanh(w) = n / d, for 0 <= w <= 13; within 3 ulp in float64.

    Through m = expm1(w), since expm1(2 w) = m (m + 2): the reduction w = k ln 2 + r then has k <= 19. The
    polynomial is a Chebyshev fit of (expm1(r) - r - r^2 / 2) / r^3 on |r| <= ln 2 / 2, made with 60 digits.
    """
    k = np.int32(w * 1.4426950408889634 + 0.5)
    # ln 2 in two parts, the first short enough for k times it to be exact in float32 too.
    r = (w - real(k) * 0.693145751953125) - real(k) * 1.4286068203094173e-06
    q = 2.510038549551032e-08 + r * 2.0911236630261545e-09
    q = 2.755728296954995e-07 + r * q
    q = 2.7557268459997064e-06 + r * q
    q = 2.4801587317144498e-05 + r * q
    q = 0.00019841269863053618 + r * q
    q = 0.0013888888888886552 + r * q
    q = 0.008333333333330062 + r * q
    q = 0.041666666666666664 + r * q
    q = 0.16666666666666669 + r * q
    p = r + r * r * (0.5 + r * q)
    power = real(np.int32(np.int32(1) << k))
    m = power * p + (power - 1.0)
    n = m * (m + 2.0)
    return n, n + 2.0


def store_outflow_fraction(a):
    """Return 1 - (1 + a)^(-1/4) for a >= 0, without the cancellation of that form at small a [SPEC 1.6]."""
    r = math.sqrt(1.0 + a)
    s = math.sqrt(r)
    return a / ((r + 1.0) * (s + 1.0) * s)


def store_outflow_slope(a):
    """Return a (1 + a)^(-5/4), which is 4 a times the derivative of `store_outflow_fraction` at a."""
    r = math.sqrt(1.0 + a)
    return a / ((1.0 + a) * math.sqrt(r))
