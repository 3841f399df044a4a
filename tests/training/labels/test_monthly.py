"""Monthly label models: golden values of the literature's equations, airGR's GR2M, balances, limits."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from cdlm_training.labels.monthly import ABCD, DWBM, GR2M, MODELS, limited, run

MONTH = np.arange(240)
RAIN = np.maximum(0.0, 70 + 60 * np.sin(2 * np.pi * MONTH / 12 + 0.7) + 25 * np.sin(1.3 * MONTH))[:, None]
DEMAND = (55 + 50 * np.sin(2 * np.pi * MONTH / 12 - 1.2))[:, None]
AT = [0, 1, 2, 50, 239]

# Computed from the equations by another program, to the digits printed.
GOLDEN = [
    (GR2M, [380, 0.92], (114.0, 30.0), [25.1736434949, 63.4758309126, 82.8985301405, 93.2647885748, 13.5445656845],
     6849.921025, None),
    (GR2M, [150, 1.1], (45.0, 30.0), [50.7896151413, 127.615158133, 126.691177069, 135.114304001, 44.3967177342],
     None, None),
    (DWBM, [310, 2, 2, 0.2], (31.0, 0.001), [19.8530686806, 47.0749543971, 53.7039089268, 71.37994551, 27.7865673508],
     9057.09126950, 7747.77335296),
    (ABCD, [0.98, 300, 0.4, 0.1], (100.0, 50.0), [9.69399982066, 47.7529307532, 78.0044613469, 93.4320144268,
                                                  20.998596008], 8490.44862919, None),
]


@pytest.mark.parametrize(("model", "values", "stores", "runoff", "total", "evaporated"), GOLDEN)
def test_golden(model, values, stores, runoff, total, evaporated):
    found = run(model, column(values), RAIN, DEMAND, tuple(np.array([s]) for s in stores))
    np.testing.assert_allclose(found.runoff[AT, 0], runoff, rtol=6e-12)
    if total is not None:
        assert found.runoff.sum() == pytest.approx(total, rel=2e-11 if model is not GR2M else 1e-10)
    if evaporated is not None:
        assert found.evapotranspiration.sum() == pytest.approx(evaporated, rel=1e-11)


def column(values):
    return np.array(values, float)[:, None]


@pytest.mark.shared_data
def test_gr2m_is_that_of_airgr(shared_path):
    """Its Fortran has 1./3. in single precision, which is 2e-8 off, and 1.6e-5 mm over 29 years."""
    with netCDF4.Dataset(shared_path("../refs/ref_gr2m_airgr.nc")) as file:
        have = {name: np.asarray(v[:], float)[:, None] for name, v in file.variables.items()}
    found = run(GR2M, column([265.072, 1.040]), have["precipitation"], have["potential_evapotranspiration"],
                (np.array([0.3 * 265.072]), np.array([30.0])))
    for name in ("runoff", "evapotranspiration", "exchange"):
        np.testing.assert_allclose(getattr(found, name), have[name], atol=2e-5, rtol=0, err_msg=name)
    np.testing.assert_allclose([s[0] for s in found.stores], [have["production_store"][-1, 0],
                                                             have["routing_store"][-1, 0]], rtol=1e-6)


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_water_is_neither_made_nor_lost(model):
    """At every corner of the ranges, with months without rain and without demand."""
    rng = np.random.default_rng(3)
    corners = np.stack(np.meshgrid(*[(p.low, p.high) for p in model.parameters])).reshape(len(model.parameters), -1)
    n = corners.shape[1]
    rain = np.where(rng.random((60, n)) < 0.3, 0.0, rng.gamma(1.0, 90.0, (60, n)))
    demand = np.where(rng.random((60, n)) < 0.2, 0.0, rng.gamma(2.0, 60.0, (60, n)))
    rain[5], rain[6] = 1e-12, 4000.0
    start = model.start(model.symbols(corners))
    found = run(model, corners, rain, demand, start)
    gained = sum(after - before for after, before in zip(found.stores, start, strict=True))
    into = rain.sum(axis=0) + found.exchange.sum(axis=0)
    np.testing.assert_allclose(into - found.evapotranspiration.sum(axis=0) - found.runoff.sum(axis=0), gained,
                               atol=1e-9 * rain.sum(axis=0).max())
    for flux in (found.runoff, found.evapotranspiration, *found.stores):
        assert flux.min() >= 0
    assert (found.evapotranspiration <= demand * (1 + 1e-12)).all()
    if model is not GR2M:
        assert not found.exchange.any()


def test_the_limit_keeps_its_digits():
    w = np.array([2.0])
    x = np.array([1e-12, 0.3, 1.0, 7.0, 1e200])
    exact = [1e-12 - 5e-25, 1.3 - np.sqrt(1.09), 2 - np.sqrt(2.0), 8 - np.sqrt(50.0), 1.0]
    np.testing.assert_allclose(limited(x, w), exact, rtol=4e-15)


def test_without_stores_the_first_year_comes_before():
    rain, demand = RAIN[:30], DEMAND[:30]
    values = column([310, 2, 2, 0.2])
    stores = DWBM.start(DWBM.symbols(values))
    for _ in range(3):
        stores = run(DWBM, values, rain[:12], demand[:12], stores).stores
    with_stores = run(DWBM, values, rain, demand, stores).runoff
    np.testing.assert_array_equal(run(DWBM, values, rain, demand).runoff, with_stores)


def test_several_sets_are_run_side_by_side():
    rng = np.random.default_rng(1)
    rain, demand = rng.gamma(1, 80, (24, 3)), rng.gamma(2, 30, (24, 3))
    low, span = np.array([9, 1, 1, 0]), np.array([500, 3, 3, 1])
    sets = low[:, None, None] + span[:, None, None] * rng.uniform(0.2, 0.9, (4, 5, 3))
    together = run(DWBM, sets, rain, demand).runoff
    np.testing.assert_array_equal(together[:, 2], run(DWBM, sets[:, 2], rain, demand).runoff)
