"""The same bits however a run is cut: BMI steps, batch runs, threads, restarts, instances side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from cases import (
    DEPTH,
    GAUGE_Q,
    N_STEPS,
    START,
    E,
    P,
    Q,
    assert_same,
    change_config,
    opened,
    outputs,
    simulated,
    step_all,
    write_case,
)

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.stepping import Stepper

OPTIONS = [
    {"step": DAY}, {"step": HOUR, "snow": "cemaneige"}, {"step": DAY, "snow": "cemaneige_hysteresis", "spin_up": 2},
    {"step": DAY, "snow": "cemaneige", "name_profile": "ngen", "routing_step": "6 h"},
    {"step": HOUR, "pet": "oudin", "name_profile": "ngen"},
]
# Without the compiler, where one takes two seconds: hourly with snow, daily with hysteresis and spin-up.
by_option = pytest.mark.parametrize(
    "options", OPTIONS[1:3] if numba.config.DISABLE_JIT else OPTIONS, ids=lambda o: "-".join(str(v) for v in o.values())
)


def without_depth(values):
    return {n: v for n, v in values.items() if n != DEPTH}


@by_option
def test_bmi_steps_are_the_batch_run(tmp_path, options):
    config = write_case(tmp_path, output="gauges.nc", **options)
    everywhere = change_config(config, "everywhere.yaml", output="reaches.nc", output_at="reaches",
                               output_variables=["discharge", "lateral_inflow"])
    for path in (config, everywhere):
        with simulated(path) as simulation:
            simulation.run()
    lateral = variable("lateral_inflow").name
    with opened(config) as component:
        steps = step_all(component, (Q, GAUGE_Q, lateral))
        domain = component._stepper.simulation.model.domain
        start = np.datetime64(component._stepper.simulation.config.start)
    starts, ids, values = read_output(tmp_path / "gauges.nc", "discharge")
    assert ids == domain.gauges.id
    np.testing.assert_array_equal(values, steps[GAUGE_Q])
    np.testing.assert_array_equal(starts, start + np.arange(len(starts)) * np.timedelta64(options["step"], "s"))
    for name, got in (("discharge", steps[Q]), ("lateral_inflow", steps[lateral])):
        _, ids, values = read_output(tmp_path / "reaches.nc", name)
        assert ids == domain.reaches.id
        np.testing.assert_array_equal(values, got)
    assert len(steps[Q]) == N_STEPS[options["step"]]
    assert (steps[Q] > 0).any()


@by_option
def test_a_batch_run_does_not_depend_on_its_blocks(tmp_path, options):
    config = write_case(tmp_path, **options)
    with simulated(config) as one, simulated(config) as other:
        one.run()
        other.block_length = lambda *_: 4
        other.run()
        assert_same(other.model.live, one.model.live)
        assert_same(other.model.state.arrays(), one.model.state.arrays())


@pytest.mark.parametrize("options", OPTIONS[:2], ids=["daily", "hourly"])
def test_threads_do_not_change_a_bit(tmp_path, options):
    config = write_case(tmp_path, **options)
    results = []
    for threads in (1, 2, 5):
        with opened(change_config(config, threads=threads)) as component:
            rows = step_all(component)[Q]
            results.append((rows, outputs(component)))
    for rows, last in results[1:]:
        np.testing.assert_array_equal(rows, results[0][0])
        assert_same(last, results[0][1])


@by_option
def test_a_restart_at_any_step_goes_on_as_if_unbroken(tmp_path, options):
    """Daily and hourly, within a day too; the outputs themselves are back before the first update."""
    config = write_case(tmp_path, **options)
    step, n = options["step"], N_STEPS[options["step"]]
    with opened(config) as component:
        simulation, shown = component._stepper.simulation, [outputs(component)]
        simulation.save(tmp_path / "0.nc")
        for t in range(1, n + 1):
            component.update()
            simulation.save(tmp_path / f"{t}.nc")
            shown.append(outputs(component))
    for t in range(0, n + 1, 1 if n < 10 else 5):
        resumed = change_config(config, initial_state=f"{t}.nc", spin_up=0)
        with opened(resumed) as component:
            assert component.get_current_time() == t * step
            assert_same(outputs(component), shown[t])
            for k in range(t + 1, min(t + 3, n) + 1):
                component.update()
                assert_same(outputs(component), shown[k])
            component.update_until(n * step)
            assert_same(without_depth(outputs(component)), without_depth(shown[n]))


def test_a_restart_written_by_a_run_goes_on_from_its_end(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    end = str(START + np.timedelta64(4 * DAY, "s"))
    # The steady start is taken from the first days of the forcing, so both runs begin from one state.
    with simulated(config) as simulation:
        simulation.save(tmp_path / "start.nc")
        simulation.run()
        expected = {n: v.copy() for n, v in simulation.model.live.items()}
    with simulated(change_config(config, initial_state="start.nc", end=end, restart="middle.nc")) as first:
        first.run()
    with simulated(change_config(config, initial_state="middle.nc")) as second:
        assert second.elapsed == 4 * DAY
        second.run()
        assert_same(second.model.live, expected)


def test_hot_start_takes_the_state_and_not_the_clock(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(4 * DAY)
        component._stepper.simulation.save(tmp_path / "later.nc")
        arrays = component._stepper.simulation.model.state.arrays()
        state = {n: v.copy() for n, v in arrays.items() if not n.endswith(("_total", "_at_start"))}
        flow = component.get_value_ptr(Q).copy()
    with opened(change_config(config, initial_state="later.nc", restart_mode="hot_start")) as component:
        assert component.get_current_time() == 0.0
        found = component._stepper.simulation.model.state.arrays()
        assert_same({n: found[n] for n in state}, state)
        np.testing.assert_array_equal(component.get_value_ptr(Q), flow)
        for short in ("runoff", "runoff_depth", "water_in", "water_out", "water_exchanged", "lateral_inflow"):
            assert (component.get_value_ptr(variable(short).name) == 0).all()
        component.update_until(component.get_end_time())


def test_hot_start_at_another_date(tmp_path):
    """The clock of the file lies outside the period: resume refuses it, hot start does not mind."""
    config = write_case(tmp_path, n_steps=3)
    with simulated(config) as simulation:
        simulation.run()
        simulation.save(tmp_path / "later.nc")
    end = str(START + np.timedelta64(2 * DAY, "s"))
    earlier = change_config(config, "earlier.yaml", initial_state="later.nc", end=end)
    with pytest.raises(StateError, match="hot_start"), simulated(earlier):
        pass
    with simulated(change_config(earlier, restart_mode="hot_start")) as simulation:
        assert simulation.elapsed == 0
        simulation.run()


@pytest.mark.parametrize("hours", [1, 13, 23, 24 + 7])
def test_a_save_within_a_step_keeps_what_was_accumulated(tmp_path, hours):
    config = write_case(tmp_path, forcing="caller", snow="cemaneige", name_profile="ngen")
    rain = np.random.default_rng(3).exponential(1e-4, (72, 25))

    def drive(component, hour):
        for name, values in zip(component.get_input_var_names(), (rain[hour], 1.5, 268.0 + hour % 24), strict=True):
            component.set_value(name, np.broadcast_to(values, 25))
        component.update_until(3600.0 * (hour + 1))
        return outputs(component)

    with opened(config) as component:
        rows = []
        for hour in range(72):
            if hour == hours:
                component._stepper.simulation.save(tmp_path / "middle.nc")
                saved = without_depth(outputs(component))
            rows.append(drive(component, hour))
    with opened(change_config(config, initial_state="middle.nc")) as component:
        assert component.get_current_time() == 3600.0 * hours
        assert_same(without_depth(outputs(component)), saved)
        for hour in range(hours, 72):
            assert_same(drive(component, hour), rows[hour])


def test_snapshot_and_restore_within_a_step_in_memory(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(3 * DAY + 5 * 3600)
        snapshot = component._stepper.simulation.snapshot()
        kept = {n: v.copy() for n, v in snapshot.cell.items()}
        pending = {n for n in kept if n.startswith("pending_")}
        assert pending == {"pending_precipitation", "pending_potential_evapotranspiration"}
        frozen = snapshot._replace(cell=kept, reach={n: v.copy() for n, v in snapshot.reach.items()})
        component.update_until(6 * DAY)
        expected = outputs(component)
    with simulated(config) as simulation:
        simulation.restore(frozen)
        assert (simulation.elapsed, simulation.inputs.pending_seconds) == (3 * DAY, 5 * 3600)
        stepper = Stepper(simulation)
        assert stepper.now == 3 * DAY + 5 * 3600
        stepper.advance_until(6 * DAY)
        for short, values in simulation.model.live.items():
            np.testing.assert_array_equal(values, expected[variable(short).name])


def test_a_state_within_a_step_cannot_go_on_as_a_batch_run(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as component:
        component.update_until(DAY + 3600)
        component._stepper.simulation.save(tmp_path / "middle.nc")
    resumed = change_config(config, initial_state="middle.nc", output="run.nc")
    with simulated(resumed) as simulation, pytest.raises(StateError, match="3600 s into a step"):
        simulation.run()
    assert not list(tmp_path.glob("run.nc*"))


@pytest.mark.parametrize(
    "keys", [{"snow": "none"}, {"time_step": "1 h", "routing_step": "1 h", "forcing": "caller"}], ids=["snow", "step"]
)
def test_a_restart_of_other_options_is_refused(tmp_path, keys):
    config = write_case(tmp_path, snow="cemaneige")
    with simulated(config) as simulation:
        simulation.save(tmp_path / "state.nc")
    with pytest.raises(StateError, match=r"restart: (snow|time_step) is"):
        Simulation(load_config(change_config(config, initial_state="state.nc", **keys)))


@pytest.mark.slow
def test_instances_side_by_side_are_independent(tmp_path):
    configs = [write_case(tmp_path / str(i), **options) for i, options in enumerate(OPTIONS)]
    alone = []
    for config in configs:
        with opened(config) as component:
            alone.append(step_all(component)[Q])
    components = [c for config in configs for c in (initialized(config), initialized(config))]
    touched = components[1]
    touched.set_value(P, touched.get_value_ptr(P) + 50.0)
    for t in range(max(N_STEPS.values())):
        for i, component in enumerate(components):
            if component.get_current_time() < component.get_end_time():
                component.update()
                if component is not touched:
                    np.testing.assert_array_equal(component.get_value_ptr(Q), alone[i // 2][t])
    assert (touched.get_value_ptr(Q) != alone[0][-1]).any()
    components[0].finalize()
    assert (components[2].get_value_ptr(E) >= 0).all()
    for component in components:
        component.finalize()


def initialized(config):
    component = BmiCdlm()
    component.initialize(str(config))
    return component


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_sixteen_instances_in_sixteen_threads(tmp_path, threads):
    """Each its own: initialize, parts of steps, a state taken and given back, finalize."""
    configs = [
        write_case(tmp_path / pet, snow="cemaneige", threads=threads, pet=pet, routing_step="6 h")
        for pet in ("given", "oudin")
    ]

    def go(rain):
        with opened(configs[rain % 2]) as component:
            component.set_value(P, np.full(25, float(rain)))
            component.update_until(7200.0)
            simulation = component._stepper.simulation
            saved = simulation.to_bytes()
            component.update_until(2.0 * DAY)
            simulation.restore_from(saved)
            component.update_until(float(DAY))
            return step_all(component)[Q]

    serial = [go(rain) for rain in range(16)]
    with ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(go, range(16)))
    for ours, theirs in zip(parallel, serial, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (serial[0] != serial[14]).any() and (serial[0] != serial[1]).any()
