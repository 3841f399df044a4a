"""Evapotranspiration and groundwater exchange of another model: what is taken, what was not there, and the ledger."""

from __future__ import annotations

import numpy as np
import pytest
from cases import N_CELLS, E, assert_same, change_config, opened, outputs, write_case
from make_domain import random_domain, random_forcing
from process_cases import BESIDE, installed

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ConfigError, ForcingError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config

ET, EXCHANGE = variable("given_evapotranspiration").name, variable("given_exchange").name
BOTH = {"coupled_inputs": ["given_evapotranspiration", "given_exchange"], "ledger_tolerance": 1e-12}


def live(component, name):
    return component.get_value_ptr(variable(name).name)


@pytest.mark.slow
@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("keys", [{}, {"snow": "cemaneige"}, {"components": 3}, {"threads": 2}, {"runoff": "hbv"}])
def test_what_is_given_is_taken_or_missing_and_the_ledger_closes(tmp_path, step, keys):
    config = write_case(tmp_path, step=step, n_steps=300, **BOTH, **keys)
    with opened(config) as component:
        assert E not in component.get_input_var_names() and ET in component.get_input_var_names()
        thirst = 1.0 if step == DAY else 4.0  # an hour takes little of a store
        short = {"evapotranspiration": 0, "exchange": 0}
        names = {"evapotranspiration": "evapotranspiration", "exchange": "groundwater_exchange"}
        for k in range(300):
            rng = np.random.default_rng(k)
            asked = {
                "evapotranspiration": rng.exponential(thirst * 6.0, N_CELLS),
                "exchange": rng.normal(-1.0, 9.0, N_CELLS) * thirst ** 2,
            }
            component.set_value(ET, asked["evapotranspiration"])
            component.set_value(EXCHANGE, asked["exchange"])
            component.update()
            for kind, name in names.items():
                took, missing = live(component, name), live(component, f"{kind}_missing")
                np.testing.assert_allclose(took + missing, asked[kind], rtol=1e-11, atol=1e-11)
                short[kind] += int((np.abs(missing) > 1e-9).sum())
            assert (live(component, "evapotranspiration_missing") >= -1e-12).all()
            assert (live(component, "exchange_missing") <= 1e-12).all()  # there is room for all that comes
            runoff = component._stepper.simulation.model.chain.cells[-1]
            served = [name for name, store in runoff.stores.items() if store.serves]
            assert len(served) == 2 and all((live(component, name) >= 0).all() for name in served)
        assert min(short.values()) > 20
        values = component._stepper.simulation.model.live
        assert abs(values["water_residual"][0]) <= 1e-12 * values["water_in"][0]
        through = values["precipitation_total"] + np.abs(values["exchange_total"]) + values["cell_water_stored"]
        assert (np.abs(values["cell_water_residual"]) <= 1e-12 * through).all()


def test_evaporation_takes_the_rain_first_and_then_the_store(tmp_path):
    """One dry and one wet day by hand."""
    config = write_case(tmp_path, forcing="caller", coupled_inputs=["given_evapotranspiration"], initial_state="steady")
    with opened(config) as component:
        (rain,) = (n for n in component.get_input_var_names() if n != ET)
        component.set_value(rain, np.full(N_CELLS, 5.0))
        component.set_value(ET, np.full(N_CELLS, 4.0))
        infiltration = live(component, "net_rainfall")
        component.update()
        np.testing.assert_allclose(infiltration, 1.0, rtol=1e-14)
        np.testing.assert_array_equal(live(component, "evapotranspiration"), 4.0)
        component.set_value(rain, np.zeros(N_CELLS))
        component.set_value(ET, np.full(N_CELLS, 300.0))
        held = live(component, "production_store").copy()
        component.update()
        np.testing.assert_allclose(live(component, "evapotranspiration"), np.minimum(held, 300.0), rtol=1e-14)
        missing = live(component, "evapotranspiration_missing")
        np.testing.assert_allclose(missing, np.maximum(300.0 - held, 0), rtol=1e-13)
        assert (live(component, "production_store")[held < 300] == 0.0).all()


def test_fed_with_its_own_evaporation_a_model_without_rain_is_itself(tmp_path):
    """On dry days, evaporation leaves the store before percolation in either way: the same runoff, but for rounding."""
    domain, forcing = random_domain(4, 20, 8), random_forcing(5, 40, 8)
    dry = forcing._replace(precipitation=0.0 * forcing.precipitation)
    whole, given = Model(domain), Model(domain, coupled=("given_evapotranspiration",))
    for t in range(40):
        row = dry.part(slice(t, t + 1))
        whole.advance(row)
        took = whole.live["evapotranspiration"][None]
        nothing = row._replace(potential_evapotranspiration=0.0 * took, coupled={"given_evapotranspiration": took})
        given.advance(nothing)
        np.testing.assert_allclose(given.live["discharge"], whole.live["discharge"], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(given.live["production_store"], whole.live["production_store"], rtol=1e-10)


def test_exchange_stands_in_place_of_the_models_own(tmp_path):
    config = write_case(tmp_path, coupled_inputs=["given_exchange"])
    with opened(config) as component:
        for _ in range(4):
            component.update()
            assert not live(component, "groundwater_exchange").any()
        component.set_value(EXCHANGE, np.full(N_CELLS, 2.5))
        component.update()
        np.testing.assert_allclose(live(component, "groundwater_exchange"), 2.5, rtol=1e-15)
        assert "exchange_coefficient" not in component.get_parameter_names()
        with pytest.raises(UnknownNameError):
            component.set_value("exchange_coefficient", np.zeros(N_CELLS))
    with opened(change_config(config, coupled_inputs=None)) as component:
        component.update()
        assert live(component, "groundwater_exchange").any()
        assert "exchange_coefficient" in component.get_parameter_names()


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_of_calls_restarts_and_threads(tmp_path, threads):
    config = change_config(write_case(tmp_path, n_steps=20, **BOTH), threads=threads, ledger_tolerance=None)
    rng = np.random.default_rng(5)
    flows = rng.exponential(4.0, N_CELLS), rng.normal(0.0, 3.0, N_CELLS)
    rows = []
    for calls in ([DAY] * 9, [3 * DAY, 5 * DAY + 7 * HOUR, 17 * HOUR]):
        with opened(config) as component:
            component.set_value(ET, flows[0])
            component.set_value(EXCHANGE, flows[1])
            for k, seconds in enumerate(calls):
                if k == 2 and len(calls) == 3:  # in mid-day, held and accumulated
                    component._stepper.simulation.save(tmp_path / "state.nc")
                    component._stepper.simulation.restore_from(tmp_path / "state.nc")
                    np.testing.assert_array_equal(component.get_value_ptr(ET), flows[0])
                component.update_until(component.get_current_time() + seconds)
            found = outputs(component)
        rows.append({n: v for n, v in found.items() if "call" not in n and "runoff__time_integral" not in n})
    with_parts = rows[1]
    for name, values in rows[0].items():  # a mean over parts of a day rounds
        np.testing.assert_allclose(with_parts[name], values, rtol=1e-11, atol=1e-11, err_msg=name)
    model_rows = []
    domain, forcing = random_domain(4, 20, 8), random_forcing(5, 12, 8)
    given = {"given_evapotranspiration": rng.exponential(3.0, (12, 8)), "given_exchange": rng.normal(0, 2, (12, 8))}
    for length in (1, 5, 12):
        model = Model(domain, threads=threads, coupled=tuple(given))
        kept = []
        for first in range(0, 12, length):
            part = forcing._replace(coupled=given).part(slice(first, first + length))
            kept.append(model.advance(part, ("discharge", "evapotranspiration"))["evapotranspiration"].copy())
        model_rows.append(model.live | {"series": np.concatenate(kept)})
        model.close()
    assert_same(model_rows[0], model_rows[1])
    assert_same(model_rows[0], model_rows[2])


@pytest.mark.parametrize("bad", [-0.1, np.nan, 400.0])
def test_what_has_no_meaning_is_refused(tmp_path, bad):
    with opened(write_case(tmp_path, **BOTH)) as component:
        with pytest.raises(ForcingError, match=r"index 3, at cell .*expected a finite number, 0 to 300"):
            component.set_value_at_indices(ET, np.array([3]), np.array([bad]))
        assert not component.get_value_ptr(ET).any()


@pytest.mark.parametrize(("keys", "message"), [
    ({"coupled_inputs": ["given_evapotranspiration"], "published_inputs": ["potential_evapotranspiration"]},
     "complement 'potential_evapotranspiration' are both given"),
    ({"coupled_inputs": ["given_exchange"], "runoff": "caller"}, "no store of process 'caller' serves exchange"),
    ({"coupled_inputs": ["given_evapotranspiration"], "runoff": "caller"}, "which no process of this run takes"),
    ({"coupled_inputs": ["given_exchange"], "runoff": "beside_a_queue"}, "no store of process 'beside_a_queue'"),
])
def test_configurations_that_are_refused(tmp_path, keys, message):
    with installed(BESIDE), pytest.raises(ConfigError, match=message):
        load_config(write_case(tmp_path, **keys))
