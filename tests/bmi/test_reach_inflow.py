"""Flows that others put into reaches or take out: what comes of them, the ledger, the bits, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Q, assert_same, change_config, opened, outputs, write_case
from make_domain import random_domain, random_forcing
from process_cases import OTHERS, REACHES, installed

from bmi_cdlm.bmi.arguments import BmiValueError
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.entry import over_call
from bmi_cdlm.names.errors import ConfigError, ForcingError, StateError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config

FLOW, ASKED, TAKEN, ADDED, STORED = (
    variable(n).name
    for n in ("reach_inflow", "reach_inflow_asked", "reach_inflow_taken", "reach_added_total", "reach_storage")
)
OWN = {FLOW, ASKED, TAKEN}
COUPLED = {"coupled_inputs": ["reach_inflow"]}


def random_flows(seed, n, scale=3.0):
    """Flows at a third of the reaches, in and out."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.3, rng.normal(0.0, scale, n), 0.0)


def snapshot(component):
    """A copy of all that a state keeps."""
    found = component._stepper.simulation.snapshot()
    return {name: values.copy() for name, values in (found.cell | found.reach).items()}


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_without_a_flow_the_bits_are_those_of_a_run_that_has_no_such_input(tmp_path, step):
    config = write_case(tmp_path, step=step)
    with opened(config) as plain, opened(change_config(config, **COUPLED)) as coupled:
        assert FLOW in coupled.get_input_var_names() and FLOW not in plain.get_input_var_names()
        assert not coupled.get_value_ptr(FLOW).any()
        for _ in range(5):
            plain.update()
            coupled.update()
            found = outputs(coupled)
            assert set(found) - set(outputs(plain)) == OWN - {FLOW}
            assert_same({n: v for n, v in found.items() if n not in OWN}, outputs(plain))


def test_a_flow_put_in_goes_down_the_river(tmp_path):
    """What is put in comes out again; nothing upstream or beside changes."""
    config = write_case(tmp_path, n_steps=60, **COUPLED)
    with opened(config) as one, opened(config) as other:
        domain = one._stepper.simulation.model.domain
        place = int(np.flatnonzero(domain.reaches.downstream >= 0)[0])
        below = [place]
        while domain.reaches.downstream[below[-1]] >= 0:
            below.append(int(domain.reaches.downstream[below[-1]]))
        one.set_value_at_indices(FLOW, np.array([place]), np.array([2.5]))
        for day in range(50):
            if day == 3:
                one.set_value_at_indices(FLOW, np.array([place]), np.array([0.0]))
            one.update()
            other.update()
            assert one.get_value_ptr(TAKEN)[place] == (2.5 if day < 3 else 0.0)
        more = one.get_value_ptr(variable("outflow_total").name) - other.get_value_ptr(variable("outflow_total").name)
        rest = np.setdiff1d(np.arange(domain.n_reaches), below)
        assert not more[rest].any()
        np.testing.assert_allclose(more[below], 2.5 * 3 * DAY, rtol=1e-6)


def test_a_withdrawal_takes_what_flows_and_stands_there_and_no_more(tmp_path):
    config = write_case(tmp_path, ledger_tolerance=1e-12, **COUPLED)
    with opened(config) as one, opened(change_config(config, coupled_inputs=None)) as other:
        domain = one._stepper.simulation.model.domain
        head = int(np.setdiff1d(np.arange(domain.n_reaches), domain.reaches.downstream)[0])
        stood = one.get_value_ptr(STORED)[head]
        one.set_value_at_indices(FLOW, np.array([head]), np.array([-1e5]))
        one.update()
        other.update()
        lateral = one.get_value_ptr(variable("lateral_inflow").name)[head]
        assert one.get_value_ptr(ASKED)[head] == -1e5
        assert one.get_value_ptr(TAKEN)[head] == pytest.approx(-(lateral + stood / DAY), rel=1e-12)
        assert one.get_value_ptr(Q)[head] == 0.0 == one.get_value_ptr(STORED)[head]
        assert (one.get_value_ptr(Q) >= 0.0).all()
        assert one.get_value_ptr(ADDED)[head] == pytest.approx(one.get_value_ptr(TAKEN)[head] * DAY, rel=1e-15)
        small = -0.5 * lateral
        one.set_value_at_indices(FLOW, np.array([head]), np.array([small]))
        one.update()
        assert one.get_value_ptr(TAKEN)[head] == pytest.approx(small, rel=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize("step", [DAY, HOUR])
def test_the_ledger_closes_over_a_thousand_steps(tmp_path, step):
    config = write_case(tmp_path, step=step, n_steps=1000, ledger_tolerance=1e-12, **COUPLED)
    asked_for = 0
    with opened(config) as component:
        flow, taken, asked = (component.get_value_ptr(n) for n in (FLOW, TAKEN, ASKED))
        rng = np.random.default_rng(3)
        for k in range(1000):
            component.set_value(FLOW, random_flows(k, flow.size))
            start = component.get_current_time()
            if k % 5 == 0:  # and within the step
                component.update_until(start + round(step * rng.uniform(0.1, 0.9)))
                component.set_value(FLOW, random_flows(k + 5000, flow.size))
            component.update_until(start + step)
            assert (component.get_value_ptr(Q) >= 0.0).all()
            short = asked < taken - 1e-12
            asked_for += int(short.sum())
            assert (taken[asked >= 0] == pytest.approx(asked[asked >= 0], rel=1e-13)) and (taken >= asked - 1e-9).all()
        live = component._stepper.simulation.model.live
        through = sum(np.abs(live[n]) for n in ("inflow_total", "outflow_total", "reach_storage", "reach_added_total"))
        assert (np.abs(live["reach_water_residual"]) <= 1e-12 * through).all()
        assert abs(live["water_residual"][0]) <= 1e-12 * live["water_in"][0]
    assert asked_for > 1000  # many a withdrawal found less than it asked for


def drive(config, calls, save_at=None, path=None):
    """Outputs at the end of calls, with flows that change at every call; saved or taken up on the way."""
    with opened(config) as component:
        n, rows = component.get_value_ptr(FLOW).size, []
        for k, seconds in enumerate(calls):
            if path is not None and k == save_at:
                component._stepper.simulation.save(path)
            component.set_value(FLOW, random_flows(k, n))
            component.update_until(component.get_current_time() + seconds)
            rows.append(outputs(component))
        return rows


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_are_those_of_one_thread_and_of_a_restart(tmp_path, threads):
    config = write_case(tmp_path, n_steps=30, **COUPLED)
    calls = [DAY, DAY, 3 * DAY, 7 * HOUR, 17 * HOUR, 2 * DAY, DAY, 5 * HOUR, 2 * HOUR, 17 * HOUR, DAY]
    expected = drive(config, calls)
    for save_at in (3, 4, 8, 9):
        path = tmp_path / f"state_{save_at}.nc"
        whole = drive(change_config(config, threads=threads), calls, save_at, path)
        for got, wanted in zip(whole, expected, strict=True):
            assert_same(got, wanted)
        with opened(config) as component:
            component._stepper.simulation.restore_from(path)
            held = component.get_value_ptr(FLOW)
            np.testing.assert_array_equal(held, random_flows(save_at - 1, held.size))
            for k in range(save_at, len(calls)):
                component.set_value(FLOW, random_flows(k, held.size))
                component.update_until(component.get_current_time() + calls[k])
                assert_same(outputs(component), expected[k])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 4, 30])
def test_blocks_and_threads_give_the_bits_of_steps(threads, count):
    domain, forcing = random_domain(4, 60, 20), random_forcing(5, 30, 20)
    flows = np.array([random_flows(k, 60) for k in range(30)])
    found = []
    for length, n in ((1, 1), (count, threads)):
        model = Model(domain, threads=n, coupled=("reach_inflow",))
        rows = []
        for first in range(0, 30, length):
            part = slice(first, first + length)
            given = forcing.part(part)._replace(coupled={"reach_inflow": flows[part]})
            rows.append(model.advance(given, ("discharge",))["discharge"].copy())
        found.append((np.concatenate(rows), model.live, model.state.reach.copy()))
        model.close()
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][2], found[1][2])
    assert_same(found[0][1], found[1][1])
    assert (found[0][0] >= 0.0).all() and found[0][1]["reach_inflow_taken"].any()


def test_held_flows_go_into_every_step_of_a_call(tmp_path):
    config = write_case(tmp_path, call_sums=["reach_inflow_taken", "discharge"], **COUPLED)
    plain = change_config(config, call_sums=None)
    with opened(config) as long, opened(config) as steps, opened(plain) as block:
        flows = random_flows(1, long.get_value_ptr(FLOW).size)
        for component in (long, steps, block):
            component.set_value(FLOW, flows)
        added = 0.0
        for _ in range(6):
            steps.update()
            added = added + steps.get_value_ptr(TAKEN) * DAY
        for component in (long, block):
            component.update_until(6 * DAY)
            for name in (Q, TAKEN, ASKED, ADDED):
                np.testing.assert_array_equal(component.get_value_ptr(name), steps.get_value_ptr(name))
        total, _ = over_call(variable("reach_inflow_taken"))
        np.testing.assert_allclose(long.get_value_ptr(total.name), added, rtol=1e-12)


def test_a_hot_start_forgets_what_was_asked_of_another_run(tmp_path):
    config = write_case(tmp_path, **COUPLED)
    with opened(config) as component:
        component.set_value(FLOW, np.ones(component.get_value_ptr(FLOW).size))
        component.update_until(DAY + 7 * HOUR)
        component._stepper.simulation.save(tmp_path / "state.nc")
    with opened(change_config(config, initial_state="state.nc", restart_mode="hot_start")) as component:
        assert not component.get_value_ptr(FLOW).any()
        component.update()
        assert not component.get_value_ptr(TAKEN).any() and not component.get_value_ptr(ADDED).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e6])
def test_what_has_no_meaning_is_refused_and_nothing_is_changed(tmp_path, bad):
    config = write_case(tmp_path, **COUPLED)
    with opened(config) as component:
        ids = component._stepper.simulation.model.domain.reaches.id
        component.set_value_at_indices(FLOW, np.array([3]), np.array([1.5]))
        before = component.get_value_ptr(FLOW).copy()
        with pytest.raises(ForcingError, match=f"index 4, at reach {ids[4]} .*expected a finite number"):
            component.set_value_at_indices(FLOW, np.array([3, 4]), np.array([7.0, bad]))
        np.testing.assert_array_equal(component.get_value_ptr(FLOW), before)
        component.get_value_ptr(FLOW)[4] = bad  # past all checks of set_value
        state = snapshot(component)
        for seconds in (5 * HOUR, DAY):
            with pytest.raises(ForcingError, match=f"at reach {ids[4]}"):
                component.update_until(seconds)
            assert_same(snapshot(component), state)
            assert component.get_current_time() == 0
        low, high = component.get_value_bounds(FLOW)
        assert (low == -1e6).all() and (high == 1e6).all()


def test_a_reach_that_does_not_exist_is_refused(tmp_path):
    with opened(write_case(tmp_path, **COUPLED)) as component:
        n = component.get_value_ptr(FLOW).size
        for place in (n, -1):
            with pytest.raises(BmiValueError, match=f"{n - 1}"):
                component.set_value_at_indices(FLOW, np.array([place]), np.array([-1.0]))
        with pytest.raises(BmiValueError):
            component.set_value(FLOW, np.zeros(n + 1))
        for output in (ASKED, TAKEN):
            with pytest.raises(BmiValueError, match="output"):
                component.set_value(output, np.zeros(n))
    with opened(write_case(tmp_path)) as component, pytest.raises(UnknownNameError):
        component.set_value(FLOW, np.zeros(n))


@pytest.mark.parametrize(("keys", "message"), [
    ({"coupled_inputs": ["reach_inflw"]}, "no input 'reach_inflw'. Did you mean 'reach_inflow'"),
    ({"coupled_inputs": ["reach_inflow", "reach_inflow"]}, "twice"),
    ({"published_inputs": ["reach_inflow"]}, "expected it under coupled_inputs"),
    ({"output_variables": ["reach_inflow_taken"], "output_at": "reaches", **COUPLED}, "through BMI"),
])
def test_configurations_that_are_refused(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write_case(tmp_path, **keys))


def test_it_has_no_adjoint():
    domain, forcing = random_domain(4, 10, 5), random_forcing(5, 4, 5)
    model = Model(domain, coupled=("reach_inflow",))
    with pytest.raises(StateError, match="no adjoint"):
        model.record(forcing._replace(coupled={"reach_inflow": np.zeros((4, 10))}))
    assert isinstance(forcing, Forcing) and model.record(forcing).shape == (4, 10)
    model.close()


@pytest.mark.slow
@pytest.mark.parametrize("n_sub", [1, 24])
@pytest.mark.parametrize("name", [p.name for p in REACHES])
def test_any_process_of_reaches_takes_it(n_sub, name):
    """Never below 0, ledger closed, and without a flow the bits of before."""
    domain, forcing = random_domain(4, 40, 15), random_forcing(5, 40, 15)
    with installed(*OTHERS):
        models = [
            Model(domain, routing=name, routing_step=DAY // n_sub, ledger=True, coupled=coupled)
            for coupled in (("reach_inflow",), ("reach_inflow",), ())
        ]
        short = 0
        for t in range(40):
            row = forcing.part(slice(t, t + 1))
            flows = random_flows(t, 40, 30.0)[None]
            models[0].advance(row._replace(coupled={"reach_inflow": flows}))
            live = models[0].live
            assert (live["discharge"] >= 0.0).all() and (live["reach_storage"] >= 0.0).all()
            short += int((live["reach_inflow_taken"] > flows[0] + 1e-9).sum())
            models[0].ledger.check(1e-12, models[0].state, live, t)
            models[1].advance(row._replace(coupled={"reach_inflow": 0.0 * flows}))
            models[2].advance(row)
            np.testing.assert_array_equal(models[1].live["discharge"], models[2].live["discharge"])
        assert short > 20
        for model in models:
            model.close()
