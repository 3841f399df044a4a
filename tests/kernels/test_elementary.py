"""Elementary functions against 50-digit arithmetic."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from bmi_cdlm.kernels import elementary
from bmi_cdlm.kernels.launch import compiled

POINTS = 1500


def ulps(got: np.floating, exact: mpmath.mpf) -> float:
    """Error in units of the last place of the result's own precision."""
    return abs(float((mpmath.mpf(float(got)) - exact) / mpmath.mpf(float(np.spacing(type(got)(float(exact)))))))


def precision_points(dtype: type[np.floating], low: float, high: float) -> np.ndarray:
    """Points from low to high, even in value and even in logarithm."""
    rng = np.random.default_rng(1)
    both = np.r_[np.exp(rng.uniform(np.log(low), np.log(high), POINTS)), rng.uniform(low, high, POINTS)]
    return both.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tanh_is_within_4_ulp(dtype):
    tanh_ratio = compiled(elementary.tanh_ratio, dtype)
    edges = np.log(2) * (np.arange(19) + 0.5)  # where the reduction changes k
    points = np.r_[precision_points(dtype, 1e-9, 13.0), edges, np.nextafter(edges, 0), 13.0].astype(dtype)
    with mpmath.workdps(50):
        worst = 0.0
        for w in points:
            n, d = tanh_ratio(w)
            worst = max(worst, ulps(dtype(n) / dtype(d), mpmath.tanh(mpmath.mpf(float(w)))))
    assert worst <= 4.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tanh_of_zero_is_zero(dtype):
    n, d = compiled(elementary.tanh_ratio, dtype)(dtype(0))
    assert n == 0 and d == 2


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_store_outflow_does_not_cancel(dtype):
    """Six roundings: 7e-16 and 3.6e-7; the plain form 1 - (1 + a)^(-1/4) is 100 % off at a = 1e-17 [SPEC 1.6]."""
    fraction = compiled(elementary.store_outflow_fraction, dtype)
    with mpmath.workdps(50):
        worst = 0.0
        for a in precision_points(dtype, 1e-30, 1e4):
            exact = 1 - (1 + mpmath.mpf(float(a))) ** mpmath.mpf("-0.25")
            worst = max(worst, abs(float((mpmath.mpf(float(fraction(a))) - exact) / exact)))
    assert worst <= 6 * np.finfo(dtype).eps / 2
    assert fraction(dtype(0)) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_percolation_is_the_outflow_of_a_store_that_is_at_most_full(dtype):
    """The two polynomials within 2 and 4 roundings; a store as full as it can be is the end of their range."""
    full = (4 / 9) ** 4
    points = np.r_[precision_points(dtype, 1e-30, full), full].astype(dtype)
    with mpmath.workdps(50):
        for name, exponent, allowed in (("percolated_fraction", "-0.25", 2), ("percolated_slope", "-1.25", 4)):
            fraction, worst = compiled(getattr(elementary, name), dtype), 0.0
            for a in points:
                x = mpmath.mpf(float(a))
                power = (1 + x) ** mpmath.mpf(exponent)
                exact = 1 - power if exponent == "-0.25" else x * power
                worst = max(worst, abs(float((mpmath.mpf(float(fraction(a))) - exact) / exact)))
            assert worst <= allowed * np.finfo(dtype).eps / 2, name
            assert fraction(dtype(0)) == 0
