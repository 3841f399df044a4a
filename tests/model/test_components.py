"""Several parameter sets per cell: their mean is the cell's, and all water is accounted for."""

from __future__ import annotations

import numpy as np
import pytest
from component_cases import KEEP, N_STEPS, SEED, N, check_bits, drawn, make
from make_domain import random_domain, random_forcing

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.variables import select


@pytest.fixture
def domain():
    return random_domain(SEED, 40, 25)


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
    check_bits(domain, drawn(domain, range(components))[0], components)


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
