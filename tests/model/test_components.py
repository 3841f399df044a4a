"""Several parameter sets per cell: their mean is the cell's, and all water is accounted for."""

from __future__ import annotations

import numpy as np
import pytest
from make_domain import part_of, random_domain, random_forcing, random_parameters

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.variables import select, variable

SEED, N_STEPS, N = 7, 40, 3
KEEP = ("runoff", "discharge", "evapotranspiration", "groundwater_exchange")


@pytest.fixture
def domain():
    return random_domain(SEED, 40, 25)


def drawn(domain, seeds):
    """Parameters of GR4J as [component, cell], others as of the first."""
    sets = [random_parameters(seed, domain) for seed in seeds]
    own = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
    return {n: np.stack([s[n] for s in sets]) if n in own else sets[0][n] for n in sets[0]}, sets


def make(domain, values, components=N, **options):
    return Model(domain, values, snow="cemaneige", components={"gr4j": components}, ledger=True, **options)


def test_a_cell_is_the_mean_of_its_components(domain):
    values, sets = drawn(domain, (1, 2, 3))
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    model = make(domain, values)
    got = {n: v.copy() for n, v in model.advance(forcing, KEEP).items()}
    alone = []
    for one in sets:
        own = Model(domain, {**values, **{n: one[n] for n in values if values[n].ndim == 2}}, snow="cemaneige")
        own.advance(forcing, KEEP)
        alone.append(own)
    for v in select(role="total", grid="cell", ledger=False):
        mean = np.mean([m.live[v.short] for m in alone], axis=0)
        np.testing.assert_allclose(model.live[v.short], mean, rtol=1e-12, atol=1e-12, err_msg=v.short)
    for name in ("cell_water_stored", "production_store", "routing_store", "queued_routed_flow", *KEEP[2:]):
        mean = np.mean([m.live[name] for m in alone], axis=0)
        np.testing.assert_allclose(model.live[name], mean, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(got["runoff"][-1], np.mean([m.live["runoff"] for m in alone], axis=0), rtol=1e-12)


def test_water_closes_in_cells_reaches_and_the_domain(domain):
    values, _ = drawn(domain, (1, 2, 3))
    model = make(domain, values)
    model.fill_rivers(random_forcing(3, 5, domain.n_cells))
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    model.advance(forcing)
    fallen = forcing.precipitation.sum(axis=0)
    np.testing.assert_allclose(model.live["precipitation_total"], fallen, rtol=1e-12)
    model.ledger.check(1e-12, model.state, model.live, "the end")
    assert model.live["water_out"][0] > 0


@pytest.mark.parametrize("components", [2, 3])
def test_blocks_steps_threads_and_restored_states_give_the_same_bits(domain, components, monkeypatch):
    monkeypatch.setattr("bmi_cdlm.kernels.workers.WORTH_A_THREAD", 0)
    values, _ = drawn(domain, range(components))
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    whole, steps, several = (make(domain, values, components, threads=n) for n in (1, 1, 3))
    block = {n: v.copy() for n, v in whole.advance(forcing, KEEP).items()}
    threaded = {n: v.copy() for n, v in several.advance(forcing, KEEP).items()}
    for t in range(N_STEPS):
        if t == N_STEPS // 2:
            saved = steps.state.copy()
            steps.close()
            steps = make(domain, values, components)
            steps.restore(saved.on_cells(), saved.on_reaches())
        row = steps.advance(part_of(forcing, t, t + 1), KEEP)
        for name in KEEP:
            np.testing.assert_array_equal(row[name][0], block[name][t], err_msg=name)
    for name in KEEP:
        np.testing.assert_array_equal(threaded[name], block[name])
    for model in (steps, several):
        for name, value in whole.live.items():
            if variable(name).part != "ledger" or model is several:
                np.testing.assert_array_equal(model.live[name], value, err_msg=name)
    several.close()


def test_what_is_saved_has_a_row_per_component(domain):
    values, _ = drawn(domain, (1, 2, 3))
    model = make(domain, values)
    own = model.state.on_cells()
    shape = (N, domain.n_cells)
    for name in ("production_store", "precipitation_total", "runoff_total"):
        assert own[name].shape == shape, name
    assert own["snowpack"].shape == own["added_total"].shape == shape[1:]
    assert set(model.state.queues()) == {"unit_hydrograph_1", "unit_hydrograph_2"}
    assert all(q.shape[1:] == shape for q in model.state.queues().values())
