"""Correction factors on rain and snow: the process below as it is without them, and water that is told of."""

from __future__ import annotations

import numpy as np
import pytest
from cases import N_CELLS, change_config, simulated, write_case, write_parameters
from make_domain import lumped_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.operators import CellOperator
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.hbv import HBV
from bmi_cdlm.processes.undercatch import HBV_UNDERCATCH, corrected_step

STEPS = 60


def weather(step):
    """Rain and snow, demand [mm d-1] and temperature, some of it at the threshold."""
    rng = np.random.default_rng(9)
    P = np.where(rng.random((STEPS, 3)) < 0.6, rng.exponential(9.0, (STEPS, 3)), 0.0)
    T = rng.normal(1.0, 4.0, (STEPS, 3))
    T[7] = 0.0
    return P, rng.uniform(0.0, 3.0, (STEPS, 3)), T


def run(process, factors, P, E, T, step):
    """Runoff, what was added [mm d-1], the total of precipitation and what left and is stored in the end [mm]."""
    operator = CellOperator(process, lumped_domain(3), step, np.float64, Workers(1))
    given = {p.name: np.full(3, p.range_at(step).default, float) for p in process.parameters}
    p = operator.prepare(given | {n: np.asarray(v, float) for n, v in factors.items()})
    state = operator.start(p)
    fluxes = operator.plan.flux_group(*(np.empty(P.shape) for _ in operator.plan.flux_group._fields))
    totals = operator.plan.total_group(*(np.zeros(3) for _ in operator.plan.total_group._fields))
    runoff = np.empty(P.shape)
    series = {"precipitation": P, "potential_evapotranspiration": E, "air_temperature": T}
    operator.advance({k: np.ascontiguousarray(v) for k, v in series.items()}, p, state, runoff, totals, fluxes)
    stored = sum(getattr(state, name) for name, store in process.stores.items() if store.holds_water)
    added = fluxes.precipitation_correction if "precipitation_correction" in process.fluxes else None
    return runoff, added, totals, stored


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_factors_of_one_are_hbv_to_the_bit(step):
    found, expected = run(HBV_UNDERCATCH, {}, *weather(step), step), run(HBV, {}, *weather(step), step)
    assert np.array_equal(found[0], expected[0]) and not found[1].any()


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_it_is_hbv_under_precipitation_times_the_factor_of_its_phase(step):
    P, E, T = weather(step)
    rain, snow = np.array([1.0, 0.8, 1.3]), np.array([1.5, 1.2, 0.9])
    factors = {"rainfall_correction_factor": rain, "snowfall_correction_factor": snow}
    runoff, added, totals, _ = run(HBV_UNDERCATCH, factors, P, E, T, step)
    corrected = np.where(T < 0.0, snow, rain) * P
    expected, _, of_hbv, _ = run(HBV, {}, corrected, E, T, step)
    np.testing.assert_allclose(runoff, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(added, corrected - P, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(totals.precipitation_total, of_hbv.precipitation_total, rtol=1e-12)


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_what_is_added_is_accounted_for(step):
    P, E, T = weather(step)
    factors = {"rainfall_correction_factor": [0.7, 1.0, 1.4], "snowfall_correction_factor": [2.0, 1.3, 0.7]}
    _, added, totals, stored = run(HBV_UNDERCATCH, factors, P, E, T, step)
    days = step / DAY
    got = (P + added).sum(axis=0) * days
    np.testing.assert_allclose(totals.precipitation_total, got, rtol=1e-12)
    left = totals.runoff_total + totals.evapotranspiration_total
    assert (np.abs(got - left - stored) <= 1e-12 * got).all() and (np.abs(added.sum(axis=0)) > 1.0).all()


def test_at_the_threshold_it_is_rain():
    assert corrected_step(4.0, 0.0, 0.0, 1.25, 2.0) == (5.0, 1.0)
    assert corrected_step(4.0, -0.1, 0.0, 1.25, 2.0) == (8.0, 4.0)
    assert corrected_step(4.0, -0.1, 0.0, 1.25, 0.75) == (3.0, -1.0)


def test_a_run_closes_its_ledger(tmp_path):
    config = write_case(tmp_path, runoff="hbv_undercatch", parameters="default", ledger_tolerance=1e-12, n_steps=9)
    write_parameters(tmp_path / "p.nc", {
        "rainfall_correction_factor": np.linspace(0.7, 1.4, N_CELLS),
        "snowfall_correction_factor": np.full(N_CELLS, 1.6),
    })
    totals = []
    for path in (config, change_config(config, "given.yaml", parameters="p.nc")):
        with simulated(path) as simulation:
            simulation.advance(simulation.read_forcing(0, 9))
            simulation.check_ledger()
            totals.append(simulation.model.live["precipitation_total"].copy())
    assert (totals[1] != totals[0]).any()
