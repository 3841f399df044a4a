"""Correction factors on rain and snow: the process below as it is without them, and water that is told of."""

from __future__ import annotations

import numpy as np
import pytest
from cases import N_CELLS, change_config, simulated, write_case, write_parameters
from make_domain import lumped_domain, random_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.hbv import HBV
from bmi_cdlm.processes.undercatch import HBV_UNDERCATCH, corrected_step, correction_step

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


# ---- before any snow and runoff ----------------------------------------------------------------------------

CHAINS = [{}, {"snow": "cemaneige"}, {"snow": "cemaneige_gradual", "runoff": "gr6"}, {"runoff": "hbv_1_1p"}]
every_chain = pytest.mark.parametrize("chain", CHAINS, ids=str)
FACTORS = ("rainfall_correction_factor", "snowfall_correction_factor")


def forcing_of(domain, n_steps=40):
    """Rain and snow, with days of both and of neither."""
    rng, shape = np.random.default_rng(12), (n_steps, domain.n_cells)
    return Forcing(
        np.where(rng.random(shape) < 0.7, rng.exponential(9.0, shape), 0.0), rng.uniform(0.1, 4.0, shape),
        rng.normal(1.0, 4.0, shape),
    )


def drawn_factors(domain):
    rng = np.random.default_rng(13)
    return {FACTORS[0]: rng.uniform(0.7, 1.4, domain.n_cells), FACTORS[1]: rng.uniform(0.7, 2.0, domain.n_cells)}


def by_hand(forcing, factors):
    """Precipitation with what falls as snow between 3 and -1 degC, all of it below, times its factor."""
    rain, snow = (factors[name] for name in FACTORS)
    share = np.clip((3.0 - forcing.air_temperature) / 4.0, 0.0, 1.0)
    return forcing.precipitation * (rain * (1.0 - share) + snow * share)


def test_a_step_by_hand():
    assert correction_step(4.0, 3.0, 1.25, 2.0) == (5.0, 1.0)
    assert correction_step(4.0, -1.0, 1.25, 2.0) == (8.0, 4.0)
    assert correction_step(4.0, 1.0, 0.5, 1.0) == (3.0, -1.0)


@pytest.mark.parametrize("step", [DAY, HOUR])
@every_chain
def test_a_model_is_the_one_without_under_precipitation_that_is_corrected(chain, step):
    domain = random_domain(6, 9, 5)
    forcing, factors = forcing_of(domain), drawn_factors(domain)
    with_it = Model(domain, factors, step=step, precipitation="undercatch", ledger=True, **chain)
    without = Model(domain, {}, step=step, ledger=True, **chain)
    kept = ["runoff", "discharge"]
    found = {n: a.copy() for n, a in with_it.advance(forcing, [*kept, "precipitation_correction"]).items()}
    corrected = by_hand(forcing, factors)
    expected = without.advance(forcing._replace(precipitation=corrected), kept)
    for name in kept:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["precipitation_correction"], corrected - forcing.precipitation, atol=1e-12)
    np.testing.assert_allclose(
        with_it.live["precipitation_total"], corrected.sum(axis=0) * step / DAY, rtol=1e-12
    )
    with_it.ledger.check(1e-12, with_it.state, with_it.live, "the end")
    with_it.close()
    without.close()


@every_chain
def test_factors_of_one_change_no_bit_of_discharge(chain):
    domain = random_domain(6, 9, 5)
    made = []
    for keys in ({}, {"precipitation": "undercatch"}):
        model = Model(domain, {}, **keys, **chain)
        made.append(model.advance(forcing_of(domain), ["discharge"])["discharge"].copy())
        model.close()
    assert made[0].tobytes() == made[1].tobytes()


@every_chain
def test_gradients_of_the_factors_and_of_the_forcing_are_central_differences(chain):
    domain = random_domain(6, 9, 5)
    forcing, factors = forcing_of(domain, 25), drawn_factors(domain)
    pull = np.random.default_rng(14).normal(size=(25, domain.n_reaches))

    def total(precipitation, given):
        model = Model(domain, given, precipitation="undercatch", **chain)
        found = float((model.record(forcing._replace(precipitation=precipitation)) * pull).sum())
        got = model.adjoint(pull)
        model.close()
        return found, got

    _, got = total(forcing.precipitation, factors)
    rng = np.random.default_rng(15)
    for name in (*FACTORS, "precipitation"):
        gradient = got.parameters[name] if name in FACTORS else got.forcing[name]
        way = rng.normal(size=gradient.shape)
        if name in FACTORS:
            ends = [total(forcing.precipitation, {**factors, name: factors[name] + s * way})[0] for s in (1e-5, -1e-5)]
        else:
            way *= forcing.precipitation > 0.0
            ends = [total(forcing.precipitation + s * way, factors)[0] for s in (1e-5, -1e-5)]
        size = np.abs(gradient * way).sum()
        assert size > 0.0 and abs((ends[0] - ends[1]) / 2e-5 - float((gradient * way).sum())) <= 2e-6 * size, name


def test_a_run_tells_what_was_added_and_goes_on_from_a_file_with_the_same_bits(tmp_path):
    config = write_case(
        tmp_path, precipitation="undercatch", snow="cemaneige", parameters="default", ledger_tolerance=1e-12, n_steps=9,
        restart="state.nc",
    )
    write_parameters(tmp_path / "p.nc", {FACTORS[0]: np.linspace(0.7, 1.4, N_CELLS), FACTORS[1]: np.full(N_CELLS, 1.6)})
    config = change_config(config, "given.yaml", parameters="p.nc")
    with simulated(config) as simulation:
        simulation.advance(simulation.read_forcing(0, 9))
        simulation.check_ledger()
        whole = {n: a.copy() for n, a in simulation.model.live.items()}
        assert simulation.snapshot().attributes["precipitation"] == "undercatch"
    assert np.abs(whole["precipitation_correction"]).max() > 0.0
    with simulated(config) as first:
        first.advance(first.read_forcing(0, 4))
        saved = first.snapshot()
    with simulated(config) as second:
        second.restore(saved)
        second.advance(second.read_forcing(4, 5))
        for name, values in second.model.live.items():
            assert values.tobytes() == whole[name].tobytes(), name
    other = change_config(config, "other.yaml", precipitation="given", parameters="default")
    with simulated(other) as plain, pytest.raises(StateError, match="precipitation is 'undercatch', expected 'given'"):
        plain.restore(saved)
    assert "precipitation_correction" not in {v.short for v in plain.model.outputs}
