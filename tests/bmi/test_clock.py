"""Two clocks: calls shorter and longer than the model step, and calls that cannot be."""

from __future__ import annotations

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

RUNOFF = variable("runoff").name


def without_depth(values):
    return {n: v for n, v in values.items() if n != DEPTH}


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


def test_runoff_depth_is_the_last_steps_rate_over_the_call(tmp_path):
    with opened(write_case(tmp_path)) as component:
        drained = component._stepper.simulation.model.domain.cells.drained_area
        depth = component.get_value_ptr(DEPTH)

        def expected(seconds):
            return (component.get_value_ptr(RUNOFF) * drained).sum() / drained.sum() / 1000.0 * seconds / DAY

        component.update_until(3600)
        assert depth[0] == 0.0  # nothing has run yet: water leaves one step later
        component.update_until(DAY)
        np.testing.assert_allclose(depth[0], expected(23 * 3600), rtol=1e-12)
        component.update()
        np.testing.assert_allclose(depth[0], expected(DAY), rtol=1e-12)
        released = 0.0
        for hour in range(24):
            component.update_until(2 * DAY + 3600 * (hour + 1))
            released += depth[0] if hour < 23 else 0.0
            if hour < 23:
                np.testing.assert_allclose(depth[0], expected(3600), rtol=1e-12)
        component.update_until(5 * DAY)
        np.testing.assert_allclose(depth[0], expected(2 * DAY), rtol=1e-12)
        assert released > 0


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


def test_a_call_of_no_length_changes_nothing_but_the_depth_of_the_call(tmp_path):
    with opened(write_case(tmp_path)) as component:
        component.update()
        before = outputs(component)
        component.update_until(component.get_current_time())
        assert_same(without_depth(outputs(component)), without_depth(before))
        assert component.get_value_ptr(DEPTH)[0] == 0.0
