"""The stepper below BMI: what it reads, accumulates and checks."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from cases import N_CELLS, N_STEPS, case_forcing, change_config, simulated, write_case

from bmi_cdlm.names.entry import Alias
from bmi_cdlm.names.errors import ClockError, ForcingError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.stepping import Stepper


@pytest.fixture
def stepper(tmp_path):
    with simulated(write_case(tmp_path)) as simulation:
        yield Stepper(simulation)


@pytest.fixture
def caller(tmp_path):
    with simulated(write_case(tmp_path, forcing="caller", snow="cemaneige")) as simulation:
        found = Stepper(simulation)
        for name, value in (("precipitation", 8.0), ("potential_evapotranspiration", 1.0), ("air_temperature", 3.0)):
            found.inputs.held[name][:] = value
        yield found


def test_clock(stepper):
    assert (stepper.now, stepper.step, stepper.end) == (0, DAY, N_STEPS[DAY] * DAY)
    stepper.advance_until(DAY + 60)
    assert stepper.now == DAY + 60
    assert (stepper.simulation.elapsed, stepper.simulation.inputs.pending_seconds) == (DAY, 60)
    stepper.advance_until(2 * DAY)
    assert (stepper.simulation.elapsed, stepper.simulation.inputs.pending_seconds) == (2 * DAY, 0)
    assert not any(v.any() for v in stepper.simulation.inputs.pending.values())
    assert stepper.simulation.time == stepper.simulation.config.start + np.timedelta64(2, "D")


def test_published_names(tmp_path):
    config = write_case(tmp_path, snow="cemaneige")
    rain, demand, warmth = (variable(n) for n in (
        "precipitation", "potential_evapotranspiration", "air_temperature"))
    with simulated(config) as simulation:
        assert simulation.inputs.published["precipitation"] == Alias(rain.name, "mm d-1", 1.0, 0.0)
    with simulated(change_config(config, name_profile="ngen")) as simulation:
        published = simulation.inputs.published
        assert published["precipitation"] == rain.ngen
        assert published["air_temperature"] == Alias(warmth.name, "K", 1.0, -273.15)
        assert published["potential_evapotranspiration"] == Alias(demand.name, "mm d-1", 1.0, 0.0)  # has no other name


def test_what_was_accumulated_is_not_the_input_itself(caller):
    caller.advance_until(3600)
    pending = caller.inputs.pending["precipitation"]
    np.testing.assert_array_equal(pending, np.full(N_CELLS, 8.0 * 3600))
    caller.inputs.held["precipitation"][:] = 2.0
    np.testing.assert_array_equal(pending, np.full(N_CELLS, 8.0 * 3600))
    caller.advance_until(3 * 3600)
    np.testing.assert_array_equal(pending, np.full(N_CELLS, 8.0 * 3600 + 2.0 * 7200))
    np.testing.assert_array_equal(caller.inputs.held["precipitation"], np.full(N_CELLS, 2.0))


def test_a_refused_call_accumulates_nothing(caller):
    caller.advance_until(3600)
    before = {n: v.copy() for n, v in caller.inputs.pending.items()}
    state = caller.simulation.model.state.copy()
    caller.inputs.held["air_temperature"][3] = np.nan  # the last input to be checked
    for target in (7200, DAY, 4 * DAY):
        with pytest.raises(ForcingError, match="nan"):
            caller.advance_until(target)
        assert caller.now == 3600
        for name, values in before.items():
            np.testing.assert_array_equal(caller.inputs.pending[name], values)
        for name, values in state.arrays().items():
            np.testing.assert_array_equal(caller.simulation.model.state.arrays()[name], values)


def test_a_long_call_reads_the_file_in_blocks(tmp_path):
    n = N_STEPS[HOUR]
    with simulated(write_case(tmp_path, step=HOUR)) as simulation:
        stepper = Stepper(simulation)
        blocks = []
        read = simulation.read_forcing

        def counted(first, count):
            blocks.append((first, count))
            return read(first, count)

        simulation.read_forcing = counted
        simulation.block_length = lambda *_: 10
        stepper.advance_until((n - 1) * HOUR)
        assert blocks == [(1, 10), (11, 10), (21, n - 22)]  # the first step runs on the inputs as they stand
        assert stepper.now == (n - 1) * HOUR
        np.testing.assert_array_equal(
            stepper.inputs.held["precipitation"], case_forcing(n, N_CELLS).precipitation[n - 1]
        )


def test_inputs_are_the_same_arrays_for_ever(stepper):
    arrays = dict(stepper.inputs.held)
    for target in (3600, DAY, 4 * DAY, 9 * DAY):
        stepper.advance_until(target)
        assert all(stepper.inputs.held[n] is a for n, a in arrays.items())


def test_a_file_larger_than_memory_allows_is_read_the_same(tmp_path):
    """Kept in memory as a whole, or read block by block while stepping."""
    config = write_case(tmp_path, step=HOUR)
    flows = []
    for size in (2**30, 0):
        with closing(Simulation(load_config(config).model_copy(update={"memory": size}))) as simulation:
            stepper = Stepper(simulation)
            while stepper.now < stepper.end:
                stepper.advance_until(stepper.now + HOUR)
            flows.append(simulation.model.live["discharge"].copy())
    np.testing.assert_array_equal(flows[0], flows[1])


@pytest.mark.parametrize("seconds", [np.float32(3600), np.int64(3600), 3600, 3600.0, np.float64(3600)])
def test_any_number_is_a_time(stepper, seconds):
    stepper.advance_until(seconds)
    assert stepper.now == 3600
    assert isinstance(stepper.now, int)


def test_refuse_looks_at_the_target_only(tmp_path):
    with simulated(write_case(tmp_path, sub_step_policy="refuse")) as simulation:
        stepper = Stepper(simulation)
        with pytest.raises(ClockError, match="accumulate"):
            stepper.advance_until(DAY + 1)
        stepper.advance_until(3 * DAY)
        assert stepper.now == 3 * DAY


def test_temperature_may_be_below_zero_and_not_below_absolute_zero(caller):
    caller.inputs.held["air_temperature"][:] = -60.0
    caller.advance_until(DAY)
    caller.inputs.held["air_temperature"][:] = -273.16
    with pytest.raises(ForcingError, match=r"-273\.16 degC .* -100 to 70 degC"):
        caller.advance_until(2 * DAY)
