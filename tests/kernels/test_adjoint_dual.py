"""The dual numbers that the adjoints are tested against."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernels.dual import Dual, DualMath, dual

from bmi_cdlm.kernels import elementary


def test_tangent_of_tanh_and_of_the_outflow_fraction():
    for w in (0.0, 1e-8, 0.3, 0.35, 1.0, 5.0, 9.0):
        n, d = dual(elementary.tanh_ratio)(Dual(w, 1.0))
        assert (n / d).tangent == pytest.approx(1 - math.tanh(w) ** 2, rel=1e-7)
    for a in (0.0, 1e-12, 0.01, 1.0, 50.0):
        fraction = dual(elementary.store_outflow_fraction)(Dual(a, 1.0))
        assert fraction.value == elementary.store_outflow_fraction(a)
        assert fraction.tangent == pytest.approx(0.25 * (1 + a) ** -1.25, rel=1e-14)


def test_dual_numbers():
    a, b = Dual(3.0, np.array([1.0, 0.0])), Dual(2.0, np.array([0.0, 1.0]))
    for result, value, tangent in [
        (a + b, 5, (1, 1)), (a - b, 1, (1, -1)), (2 - a, -1, (-1, 0)), (-a, -3, (-1, 0)),
        (np.float64(2) * a, 6, (2, 0)),
        (a * b, 6, (2, 3)), (a / b, 1.5, (0.5, -0.75)), (6 / a, 2, (-2 / 3, 0)), (a**2.5, 3**2.5, (2.5 * 3**1.5, 0)),
        (DualMath.sqrt(a), 3**0.5, (0.5 / 3**0.5, 0)), (np.float64(1) - a, -2, (-1, 0)), (1 + a, 4, (1, 0)),
    ]:
        assert result.value == pytest.approx(value, rel=1e-15)
        np.testing.assert_allclose(result.tangent, tangent, rtol=1e-15)
    assert a > b and a >= 3 and b < 3.0 and b != a and a == 3.0
    assert np.int32(Dual(3.7)) == 3
    assert DualMath.sqrt(4.0) == 2.0 and DualMath.sqrt(Dual(0.0, 1.0)).tangent == 0.0
    with pytest.raises(TypeError, match="lose the tangent"):
        np.zeros(1)[0] = a
