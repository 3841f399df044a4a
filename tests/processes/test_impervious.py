"""Sealed shares of cells: water that passes the soil by, and the process below as it is without them."""

from __future__ import annotations

import numpy as np
import pytest
from cases import N_CELLS, add_cell_attribute, change_config, simulated, write_case, write_parameters
from make_domain import lumped_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.names.errors import ParameterError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.hbv import HBV
from bmi_cdlm.processes.impervious import GR4J_IMPERVIOUS, HBV_IMPERVIOUS, sealed_rain_step, sealed_water_step
from bmi_cdlm.processes.muskingum import MUSKINGUM

STEPS = 60


def weather(step, seed=4):
    """Rain, demand [mm per step] and temperature, with ties of rain and demand."""
    rng, share = np.random.default_rng(seed), step / DAY
    P = np.where(rng.random((STEPS, 3)) < 0.6, rng.exponential(9.0, (STEPS, 3)), 0.0) * share
    E = rng.uniform(0.0, 4.0, (STEPS, 3)) * share
    P[7] = E[7]
    return P, E, rng.normal(6.0, 3.0, (STEPS, 3))


def run(process, sealed, P, E, T, step):
    """Runoff and what runs off at once [mm per step], water that is gone in all, and water that came in the state."""
    operator, per_day = CellOperator(process, lumped_domain(3), step, np.float64, Workers(1)), DAY // step
    given = {p.name: np.full(3, p.range_at(step).default, float) for p in process.parameters}
    if sealed is not None:
        given["impervious_share"] = np.asarray(sealed, float)
    p = operator.prepare(given)
    state = operator.start(p)

    def water():
        stored = sum(getattr(state, name) for name, store in process.stores.items() if store.holds_water)
        return stored + sum(getattr(state, name).sum(axis=0) for name in process.queues)

    before = water()
    fluxes = operator.plan.flux_group(*(np.empty(P.shape) for _ in operator.plan.flux_group._fields))
    totals = operator.plan.total_group(*(np.zeros(3) for _ in operator.plan.total_group._fields))
    runoff = np.empty(P.shape)
    series = {"precipitation": P * per_day, "potential_evapotranspiration": E * per_day, "air_temperature": T}
    series = {k: np.ascontiguousarray(v) for k, v in series.items()}
    operator.advance(series, p, state, runoff, totals, fluxes)
    gone = (runoff + fluxes.evapotranspiration - fluxes.groundwater_exchange).sum(axis=0) / per_day
    direct = fluxes.impervious_runoff / per_day if sealed is not None else np.zeros(P.shape)
    return runoff / per_day, direct, gone, water() - before


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize(("open_one", "sealed_one"), [(GR4J, GR4J_IMPERVIOUS), (HBV, HBV_IMPERVIOUS)])
def test_nothing_sealed_is_the_process_to_the_bit(open_one, sealed_one, step):
    P, E, T = weather(step)
    expected, found = run(open_one, None, P, E, T, step), run(sealed_one, np.zeros(3), P, E, T, step)
    assert np.array_equal(found[0], expected[0]) and not found[1].any()


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_gr4j_below_gets_what_is_left(step):
    """The rain of a share s of what evaporation leaves runs off; GR4J with the rest of the rain does the rest."""
    P, E, T = weather(step)
    sealed = np.array([0.1, 0.5, 0.9])
    quick = sealed * np.maximum(P - E, 0.0)
    runoff, direct, *_ = run(GR4J_IMPERVIOUS, sealed, P, E, T, step)
    below, *_ = run(GR4J, None, P - quick, E, T, step)
    np.testing.assert_allclose(direct, quick, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(runoff, below + quick, rtol=1e-11, atol=1e-14)


def test_all_sealed_hands_on_what_evaporation_leaves():
    P, E, T = weather(DAY)
    _, direct, *_ = run(GR4J_IMPERVIOUS, np.ones(3), P, E, T, DAY)
    np.testing.assert_allclose(direct, np.maximum(P - E, 0.0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("process", [GR4J_IMPERVIOUS, HBV_IMPERVIOUS])
def test_no_water_is_lost_or_made(process, step):
    P, E, T = weather(step)
    runoff, direct, gone, stored = run(process, [0.0, 0.3, 1.0], P, E, T, step)
    assert (np.abs(P.sum(axis=0) - gone - stored) <= 1e-12 * P.sum(axis=0)).all()
    assert (runoff >= direct).all() and direct[:, 1:].any()


def test_rain_below_demand_wets_the_soil_only():
    assert sealed_rain_step(3.0, 3.0, 0.7) == sealed_water_step(3.0, 3.0, 0.7) == (0.0, 3.0)
    assert sealed_rain_step(1.0, 3.0, 0.7) == (0.0, 1.0)
    assert sealed_rain_step(8.0, 3.0, 0.5) == (2.5, 5.5)


def test_a_flood_comes_sooner_from_a_town():
    """One day of rain: the more is sealed, the more of it leaves on that day, and the less later."""
    P, E, T = np.zeros((STEPS, 3)), np.zeros((STEPS, 3)), np.full((STEPS, 3), 10.0)
    P[1] = 40.0
    runoff, *_ = run(GR4J_IMPERVIOUS, [0.0, 0.3, 0.6], P, E, T, DAY)
    first, later = runoff[1], runoff[2:].sum(axis=0)
    assert first[0] + 11.0 < first[1] < first[2] - 11.0 and later[0] > later[1] > later[2]


def test_a_run_takes_the_share_of_the_domain(tmp_path):
    """Where neither parameters nor a generator give it; and the balance is closed."""
    share = np.linspace(0.0, 0.8, N_CELLS)
    config = write_case(tmp_path, runoff="gr4j_impervious", parameters="default", ledger_tolerance=1e-12, n_steps=9)
    write_parameters(tmp_path / "p.nc", {"impervious_share": share})
    given = change_config(config, "given.yaml", parameters="p.nc")

    def runoff(path):
        with simulated(path) as simulation:
            simulation.advance(simulation.read_forcing(0, 9))
            simulation.check_ledger()
            assert simulation.model.chain.reach is MUSKINGUM
            return simulation.model.live["impervious_runoff"].copy()

    without, expected = runoff(config), runoff(given)
    add_cell_attribute(tmp_path / "domain.nc", "impervious_share", share, "1")
    assert np.array_equal(runoff(config), expected) and not np.array_equal(without, expected)
    wet = expected > 0.0  # 0.05 where nothing is said
    assert wet.any() and not wet[0]
    np.testing.assert_allclose(without[wet] / 0.05, expected[wet] / share[wet], rtol=1e-12)


def test_a_share_of_the_domain_in_per_cent_is_refused_there(tmp_path):
    config = write_case(tmp_path, runoff="gr4j_impervious", parameters="default")
    add_cell_attribute(tmp_path / "domain.nc", "impervious_share", np.full(N_CELLS, 30.0), "1")
    message = r"domain\.nc: cell attributes: 'impervious_share' is 30\.0 .* from 0 to 1\. Correct the domain file"
    with pytest.raises(ParameterError, match=message), simulated(config):
        pass
