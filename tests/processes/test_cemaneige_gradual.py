"""Snow whose switches have slopes: CemaNeige with hysteresis where they are steep, and what they change otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.processes.cemaneige import snow_hysteresis_step, solid_fraction
from bmi_cdlm.processes.cemaneige_gradual import gradual_snow_step, ripeness, solid_share

VALUES = {"CTG": 0.4, "Kf": 3.5, "Ga": 25.0, "threshold": 90.0}
STEEP = {"middle": 1.0, "per_degree": 0.25, "ripe_per_degree": 1e9}


def winter(seed=3, days=300):
    """Precipitation [mm] and temperature [degC] of days that freeze and thaw again and again."""
    rng = np.random.default_rng(seed)
    P = np.where(rng.random(days) < 0.5, rng.exponential(8.0, days), 0.0)
    return P, 1.0 - 6.0 * np.cos(0.02 * np.arange(days)) + rng.normal(0.0, 4.0, days)


def run(step, P, T, **values):
    """States and fluxes of every day, [day, (G, eTG, peak, cover, water, snowfall, melt)]."""
    state, days = (0.0, 0.0, VALUES["threshold"], 0.0), []
    for p, t in zip(P, T, strict=True):
        days.append(step(*state, float(p), float(t), **{**VALUES, **values}))
        state = days[-1][:4]
    return np.array(days)


def test_steep_switches_are_those_of_cemaneige():
    """Where the pack is at 0 or colder than a billionth of a degree, which weather at random always is."""
    P, T = winter()
    expected = run(snow_hysteresis_step, P, T)
    np.testing.assert_allclose(run(gradual_snow_step, P, T, **STEEP), expected, rtol=1e-12, atol=1e-12)
    assert expected[:, 6].max() > 5.0 and expected[:, 0].max() > 50.0


@pytest.mark.parametrize("T", [-3.0, -1.0, 0.0, 1.0, 2.9, 3.0, 5.0])
def test_the_customary_range_of_rain_and_snow(T):
    assert solid_share(T, 1.0, 0.25) == pytest.approx(solid_fraction(T), abs=1e-15)


def test_rain_and_snow_over_a_range():
    """Half at the temperature in the middle, all and none at the ends of the range."""
    assert [solid_share(T, 0.5, 1.0 / 3.0) for T in (-1.0, 0.5, 2.0)] == pytest.approx([1.0, 0.5, 0.0])
    assert solid_share(-9.0, 0.5, 1.0 / 3.0) == 1.0 and solid_share(9.0, 0.5, 1.0 / 3.0) == 0.0


def test_a_cold_pack_melts_less():
    """A pack at -0.25 degC gives half of what one at 0 does, with a range of half a degree; one at -1 degC nothing."""
    assert [ripeness(eTG, 2.0) for eTG in (0.0, -0.25, -0.5, -1.0)] == [1.0, 0.5, 0.0, 0.0]
    calm = dict(VALUES, CTG=1.0, middle=1.0, per_degree=0.25, ripe_per_degree=2.0)  # the thermal state stays
    warm, cold = (gradual_snow_step(60.0, eTG, 90.0, 1.0, 0.0, 4.0, **calm)[6] for eTG in (0.0, -0.25))
    assert warm == pytest.approx(3.5 * 4.0 * (0.9 * 60.0 / 60.0 + 0.1)) and cold == pytest.approx(warm / 2)


def test_water_is_kept():
    P, T = winter(5)
    days = run(gradual_snow_step, P, T, middle=0.3, per_degree=0.4, ripe_per_degree=1.0)
    before = np.r_[0.0, days[:-1, 0]]
    np.testing.assert_allclose(before + P, days[:, 0] + days[:, 4], rtol=1e-13, atol=1e-13)
    assert (days[:, 0] >= 0.0).all() and ((days[:, 3] >= 0.0) & (days[:, 3] <= 1.0)).all()


def test_the_thermal_weighting_has_a_slope():
    """Melt of a winter changes a little where the weighting does: where CemaNeige's jumps or stays."""
    P, T = winter(7)
    values = {"middle": 1.0, "per_degree": 0.25, "ripe_per_degree": 0.5}
    days = run(gradual_snow_step, P, T, **values)
    partly = (days[:, 1] > -2.0) & (days[:, 1] < 0.0) & (days[:, 6] > 0.0)
    assert partly.sum() > 5
    day = int(np.flatnonzero(partly)[0])
    less, more = (run(gradual_snow_step, P, T, **values, CTG=0.4 + d)[day, 6] for d in (-1e-7, 1e-7))
    assert less != more and abs(more - less) < 1e-4
    there = [run(snow_hysteresis_step, P, T, CTG=0.4 + d)[day, 6] for d in (-1e-7, 1e-7)]
    assert there == [0.0, 0.0]
