"""Two clocks: calls shorter and longer than the model step, and calls that cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cases import (
    DEPTH,
    GAUGE_Q,
    N_CELLS,
    N_STEPS,
    E,
    P,
    Q,
    T,
    assert_same,
    case_forcing,
    change_config,
    opened,
    outputs,
    write_case,
)

from bmi_cdlm.names.errors import ClockError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.stepping import Stepper

RUNOFF, TOTAL_DEPTH = variable("runoff").name, variable("runoff_depth_total").name


def without_depth(values):
    """What does not depend on how the caller cuts time."""
    return {n: v for n, v in values.items() if n not in (DEPTH, TOTAL_DEPTH)}


@pytest.fixture
def pair(tmp_path):
    config = write_case(tmp_path, forcing="caller", snow="cemaneige")
    with opened(config) as one, opened(config) as other:
        yield one, other


def set_all(component, rain, demand, warmth):
    for name, values in zip((P, E, T), (rain, demand, warmth), strict=True):
        component.set_value(name, values)


def test_hourly_calls_of_a_daily_model_are_its_day_on_the_means(pair):
    hourly, daily = pair
    forcing = case_forcing(24 * 3, N_CELLS)
    for day in range(3):
        before = outputs(hourly)
        for hour in range(24):
            set_all(hourly, *(a[24 * day + hour] for a in forcing[:3]))
            if hour:  # outputs hold the last completed step
                assert_same(without_depth(outputs(hourly)), without_depth(before))
            hourly.update_until(hourly.get_current_time() + 3600)
            assert hourly.get_current_time() == DAY * day + 3600 * (hour + 1)
        set_all(daily, *(a[24 * day : 24 * day + 24].mean(axis=0) for a in forcing[:3]))
        daily.update()
        for name in (Q, GAUGE_Q, RUNOFF):
            np.testing.assert_allclose(hourly.get_value_ptr(name), daily.get_value_ptr(name), rtol=1e-9, atol=1e-12)


def test_means_weigh_by_duration(pair):
    uneven, daily = pair
    set_all(uneven, np.full(N_CELLS, 8.0), np.full(N_CELLS, 1.0), np.full(N_CELLS, 5.0))
    uneven.update_until(6 * 3600)
    uneven.set_value(P, np.full(N_CELLS, 16.0))
    uneven.update_until(DAY - 1)
    uneven.update_until(DAY)
    set_all(daily, np.full(N_CELLS, (8.0 * 6 + 16.0 * 18) / 24), np.full(N_CELLS, 1.0), np.full(N_CELLS, 5.0))
    daily.update()
    np.testing.assert_allclose(uneven.get_value_ptr(Q), daily.get_value_ptr(Q), rtol=1e-12)


def test_a_constant_day_in_parts_is_the_day_to_the_bit(pair):
    """Powers of two: means without rounding."""
    parts, whole = pair
    for component in pair:
        set_all(component, np.full(N_CELLS, 8.0), np.full(N_CELLS, 2.0), np.full(N_CELLS, 4.0))
    for hour in range(24):
        parts.update_until(3600 * (hour + 1))
    whole.update()
    assert_same(without_depth(outputs(parts)), without_depth(outputs(whole)))


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_one_long_call_is_its_steps(tmp_path, step):
    """Over several blocks of the forcing file, too."""
    config = write_case(tmp_path, step=step, snow="cemaneige")
    n = N_STEPS[step]
    with opened(config) as steps, opened(config) as long, opened(config) as cut:
        cut._stepper.simulation.block_length = lambda *_: 2
        for target in (1, 4, n):
            while steps.get_current_time() < target * step:
                steps.update()
            long.update_until(target * step)
            cut.update_until(target * step)
            assert_same(without_depth(outputs(long)), without_depth(outputs(steps)))
            assert_same(outputs(cut), outputs(long))
            for name in long.get_input_var_names():
                np.testing.assert_array_equal(long.get_value_ptr(name), steps.get_value_ptr(name))


def test_a_call_is_split_at_step_boundaries(tmp_path):
    config = write_case(tmp_path)
    with opened(config) as split, opened(config) as plain:
        split.update_until(7 * 3600)
        split.update()  # a model step from within a step
        assert split.get_current_time() == DAY + 7 * 3600
        split.update_until(5 * DAY + 60)
        assert split.get_current_time() == 5 * DAY + 60
        plain.update_until(5 * DAY)
        for name in without_depth(outputs(plain)):
            np.testing.assert_allclose(split.get_value_ptr(name), plain.get_value_ptr(name), rtol=1e-9, atol=1e-12)


def test_the_callers_values_are_held_through_a_long_call(pair):
    long, steps = pair
    for component in pair:
        set_all(component, np.full(N_CELLS, 7.3), np.full(N_CELLS, 1.1), np.full(N_CELLS, 3.7))
    long.update_until(6 * DAY)
    for _ in range(6):
        steps.update()
    assert_same(without_depth(outputs(long)), without_depth(outputs(steps)))


def depth_of_rate(component):
    """Runoff of the last step [m d-1] over the drained area."""
    drained = component._stepper.simulation.model.domain.cells.drained_area
    return (component.get_value_ptr(RUNOFF) * drained).sum() / drained.sum() / 1000.0


@pytest.fixture(params=[DAY, HOUR])
def daily_depths(request, tmp_path):
    """A case, its model step, and the runoff depth of each of its steps, by hand from the runoff of its cells."""
    config = write_case(tmp_path, step=request.param, snow="cemaneige")
    with opened(config) as component:
        depths = []
        while component.get_current_time() < component.get_end_time():
            component.update()
            depths.append(depth_of_rate(component) * request.param / DAY)
            np.testing.assert_allclose(component.get_value_ptr(DEPTH)[0], depths[-1], rtol=1e-13)
    return config, request.param, np.array(depths)


@pytest.mark.parametrize("length", [1, 2, 4, 7])
def test_the_depth_of_a_call_over_steps_is_their_water(daily_depths, length):
    config, step, depths = daily_depths
    with opened(config) as component:
        for first in range(0, len(depths) - length, length):
            component.update_until((first + length) * step)
            np.testing.assert_allclose(
                component.get_value_ptr(DEPTH)[0], depths[first : first + length].sum(), rtol=1e-12)
            np.testing.assert_allclose(
                component.get_value_ptr(TOTAL_DEPTH)[0], depths[: first + length].sum(), rtol=1e-12)
        last = depths[first : first + length]
        assert abs(last[-1] * length - last.sum()) > 1e-6 * last.sum() or length == 1  # not the last rate


def test_calls_of_36_hours_hand_out_what_their_steps_generate(tmp_path):
    config = write_case(tmp_path, forcing="caller")
    with opened(config) as component, opened(config) as daily:
        depths = []
        for found in (component, daily):
            found.set_value(P, np.full(N_CELLS, 20.0))
            found.set_value(E, np.full(N_CELLS, 1.0))
        while daily.get_current_time() < 9 * DAY:
            daily.update()
            depths.append(daily.get_value_ptr(DEPTH)[0])
        for call in range(6):
            component.update_until((call + 1) * 1.5 * DAY)
            # Day 1; days 2 and 3; day 4; ...: the second half of a call of an odd day completes nothing.
            day = 3 * (call // 2)
            expected = depths[day] if call % 2 == 0 else sum(depths[day + 1 : day + 3])
            np.testing.assert_allclose(component.get_value_ptr(DEPTH)[0], expected, rtol=1e-9)
        np.testing.assert_allclose(component.get_value_ptr(TOTAL_DEPTH)[0], sum(depths), rtol=1e-9)


def test_an_accumulated_step_leaves_over_a_step_from_the_call_that_completes_it(tmp_path):
    with opened(write_case(tmp_path)) as component:
        depth = component.get_value_ptr(DEPTH)
        for hour in range(23):
            component.update_until(3600 * (hour + 1))
            assert depth[0] == 0.0  # nothing has run yet: water leaves one step later
        for hour in range(23, 47):
            component.update_until(3600 * (hour + 1))
            np.testing.assert_allclose(depth[0], depth_of_rate(component) / 24, rtol=1e-12)
        np.testing.assert_allclose(component.get_value_ptr(TOTAL_DEPTH)[0], depth_of_rate(component), rtol=1e-12)
        assert component._stepper.release.seconds == 0 and not component._stepper.release.runoff.any()


@pytest.mark.parametrize("seed", range(4))
def test_depths_of_odd_calls_add_up_to_the_runoff(tmp_path, seed):
    """Calls of seconds to days, in any order: no water twice, none lost, none ahead of its time."""
    rng = np.random.default_rng(seed)
    with opened(write_case(tmp_path, snow="cemaneige")) as component:
        drained = component._stepper.simulation.model.domain.cells.drained_area
        total = component.get_value_ptr(variable("runoff_total").name)
        handed, now = 0.0, 0
        while now < 9 * DAY:
            now = min(9 * DAY, now + int(rng.choice([1, 60, 3600, 7 * 3600, 23 * 3600, DAY, 36 * 3600, 3 * DAY + 1])))
            component.update_until(now)
            assert component.get_value_ptr(DEPTH)[0] >= 0.0
            handed += component.get_value_ptr(DEPTH)[0]
            np.testing.assert_allclose(component.get_value_ptr(TOTAL_DEPTH)[0], handed, rtol=1e-12)
            generated = (total * drained).sum() / drained.sum() / 1000.0
            release = component._stepper.release
            waiting = (release.runoff * drained).sum() / drained.sum() / 1000.0
            assert waiting >= 0.0
            np.testing.assert_allclose(handed + waiting, generated, rtol=1e-12)


def test_the_depth_stays_when_a_state_is_set_or_no_time_passes(tmp_path):
    with opened(write_case(tmp_path)) as component:
        component.update_until(4 * DAY)
        before = outputs(component)
        component.update_until(4 * DAY)
        assert_same(outputs(component), before)
        store = variable("routing_store").name
        component.set_value(store, component.get_value_ptr(store) * 0.5)
        assert component.get_value_ptr(DEPTH)[0] == before[DEPTH][0] > 0


def test_refuse(tmp_path):
    config = write_case(tmp_path, sub_step_policy="refuse")
    with opened(config) as component, opened(change_config(config, sub_step_policy="accumulate")) as other:
        before = outputs(component)
        for time in (3600.0, DAY - 1, DAY + 1, 2.5 * DAY):
            with pytest.raises(ClockError, match="'refuse'"):
                component.update_until(time)
            assert component.get_current_time() == 0.0
        assert_same(outputs(component), before)
        component.update()
        component.update_until(4 * DAY)
        other.update_until(DAY)
        other.update_until(4 * DAY)
        assert_same(outputs(component), outputs(other))


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (2 * DAY - 1, "cannot go back"), (0.0, "cannot go back"), (-5.0, "cannot go back"),
        (9 * DAY + 1, "'end'"), (1e30, "'end'"), (2 * DAY + 0.5, "whole second"), (float("inf"), "whole second"),
        (float("-inf"), "whole second"), (float("nan"), "whole second"),
    ],
)
def test_a_time_that_cannot_be_reached_changes_nothing(tmp_path, time, message):
    with opened(write_case(tmp_path)) as component:
        component.update_until(2 * DAY)
        before = outputs(component)
        with pytest.raises(ClockError, match=message):
            component.update_until(time)
        assert component.get_current_time() == 2 * DAY
        assert_same(outputs(component), before)
        component.update_until(np.float64(3 * DAY))
        component.update_until(4 * DAY)
        assert component.get_current_time() == 4 * DAY


def test_an_update_beyond_the_end_from_within_a_step(tmp_path):
    with opened(write_case(tmp_path, n_steps=2)) as component:
        component.update_until(DAY + 3600)
        with pytest.raises(ClockError, match="'end'"):
            component.update()
        assert component.get_current_time() == DAY + 3600
        component.update_until(component.get_end_time())
        assert component.get_current_time() == 2 * DAY


@pytest.mark.parametrize("off", [-9e-4, -1e-9, 1e-9, 9e-4])
def test_a_time_within_a_millisecond_of_a_second_is_that_second(tmp_path, off):
    config = write_case(tmp_path, forcing="caller")
    with opened(config) as near, opened(config) as exact:
        for component in (near, exact):
            set_all_but_warmth(component)
        for hours in (7, 24, 31, 72, 9 * 24):
            near.update_until(hours * 3600 + off)
            exact.update_until(hours * 3600)
            assert near.get_current_time() == hours * 3600
            assert_same(outputs(near), outputs(exact))
            near.update_until(hours * 3600 - off)  # no way back: the same second
            assert near.get_current_time() == hours * 3600


def set_all_but_warmth(component):
    component.set_value(P, np.full(N_CELLS, 6.0))
    component.set_value(E, np.full(N_CELLS, 1.0))


@pytest.mark.parametrize("off", [-2e-3, 2e-3, 0.5])
def test_a_time_further_off_is_refused(tmp_path, off):
    with opened(write_case(tmp_path)) as component, pytest.raises(ClockError, match="whole second, to 1 ms"):
        component.update_until(DAY + off)


def test_a_century_of_float_clocks_does_not_drift():
    """Hosts that count in days, in tenths of an hour, on a linspace, or convert there and back: every call is taken as
    its second."""
    step, hours = HOUR, 876_600
    stepper = Stepper.__new__(Stepper)
    stepper.simulation, stepper.end, stepper.step = SimpleNamespace(now=0), hours * HOUR, step
    stepper._whole_steps_only = False
    count = np.arange(1, hours + 1)
    clocks = (count / 24 * 86400.0, np.linspace(0, hours / 24, hours + 1)[1:] * 86400.0, count * (1 / 24) / (1 / 86400))
    assert any((clock != np.round(clock)).any() for clock in clocks)
    for clock in clocks:
        for expected, time in enumerate(clock.tolist(), 1):
            stepper.simulation.now = (expected - 1) * HOUR
            assert stepper._target(time) == expected * HOUR


def test_a_century_of_tenths_of_an_hour_that_a_host_adds_up():
    """Its own sum is half a second off at the end; each call is still the second that it means."""
    stepper = Stepper.__new__(Stepper)
    stepper.simulation, stepper.end, stepper.step = SimpleNamespace(now=0), 36525 * DAY, HOUR
    stepper._whole_steps_only = False
    clock = np.cumsum(np.full(8_766_000, 0.1)) * 3600.0
    assert abs(clock[-1] - 36525 * DAY) > 0.4
    for k in (*range(0, clock.size, 1009), *range(clock.size - 1000, clock.size)):
        assert stepper._target(float(clock[k])) == 360 * (k + 1)


def test_tenths_of_an_hour_from_the_models_own_clock(tmp_path):
    with opened(write_case(tmp_path, n_steps=40)) as component:
        for _ in range(9600 - 1):
            hours = component.get_current_time() / 3600 + 0.1
            component.update_until(hours * 3600)
        assert component.get_current_time() == 9599 * 360
