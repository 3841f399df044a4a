"""Reading ahead, writing behind, rounding and means: what the files get is what the run computed."""

from __future__ import annotations

import threading

import netCDF4
import numpy as np
import pytest
from cases import N_STEPS, change_config, simulated, write_case, write_series
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.evaluation import basin_rain, evaluate
from bmi_cdlm.files import packing
from bmi_cdlm.files.output import read_output
from bmi_cdlm.files.streaming import WriteBehind, read_ahead
from bmi_cdlm.names.errors import ConfigError, ForcingError
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation


def run(config):
    with simulated(config) as simulation:
        simulation.run()


def test_the_next_block_is_read_while_one_is_used():
    begun = {k: threading.Event() for k in range(4)}

    def read(first, count):
        begun[first].set()
        return first * count

    for k, block in enumerate(read_ahead(read, ((k, 10) for k in range(4)))):
        assert block == 10 * k
        if k < 3:
            assert begun[k + 1].wait(10)
        assert k >= 2 or not begun[k + 2].is_set(), "more than one block ahead"


def test_an_error_of_a_block_comes_in_its_place():
    def read(first, count):
        if first == 2:
            raise ForcingError("unreadable")
        return first

    seen = []
    with pytest.raises(ForcingError, match="unreadable"):
        for block in read_ahead(read, ((k, 1) for k in range(4))):
            seen.append(block)
    assert seen == [0, 1]


def test_blocks_are_written_in_order_and_an_error_is_not_lost():
    written = []

    def write(starts, values):
        if starts[0] == 3:
            raise OSError("full")
        written.append((starts[0], values["q"].sum()))

    row = np.ones((1, 2))
    with WriteBehind(write) as behind:
        for k in range(3):
            behind([k], {"q": row})
            row *= 2  # a block belongs to the writer once it is given
    assert written == [(0, 2), (1, 4), (2, 8)]
    with pytest.raises(OSError, match="full"), WriteBehind(write) as behind:
        behind([3], {"q": row})
    with pytest.raises(OSError, match="full"), WriteBehind(write) as behind:
        behind([3], {"q": row})
        behind([4], {"q": row})
    with pytest.raises(KeyError), WriteBehind(write) as behind:
        behind([3], {"q": row})
        raise KeyError("the first error goes on")


@given(
    arrays(np.float64, 20, elements=st.floats(1e-30, 1e30) | st.floats(-1e30, -1e-30)),
    st.integers(1, packing.MOST_DIGITS),
)
def test_rounding_keeps_the_stated_digits(values, digits):
    got = packing.rounded(values, digits)
    assert got.dtype == np.float32
    error = np.abs(got.astype(np.float64) - values) / np.abs(values)
    assert error.max() <= 2.0 ** -(packing.kept_bits(digits) + 1)
    if digits < packing.MOST_DIGITS:
        assert error.max() <= 0.5 * 10.0**-digits
    np.testing.assert_array_equal(packing.rounded(got, digits), got)


def test_rounding_leaves_what_has_no_digits():
    values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, 0.5])
    np.testing.assert_array_equal(packing.rounded(values, 2), values.astype(np.float32))
    assert np.signbit(packing.rounded(values, 2)[1])
    assert packing.rounded(np.array([123.456]), 2)[0] == 123.5  # 7 bits behind the 64
    assert packing.rounded(np.array([1 / 3]), 7)[0] == np.float32(1 / 3)


def test_means():
    values = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(packing.average(values, 3), [[2, 3], [8, 9]])
    assert packing.average(values, 1) is values


def test_daily_means_of_an_hourly_run_in_few_digits(tmp_path):
    config = write_case(tmp_path, step=HOUR, n_steps=72, output="hourly.nc", output_at="reaches")
    run(config)
    starts, ids, hourly = read_output(tmp_path / "hourly.nc", "discharge")
    run(change_config(config, output="daily.nc", output_step="1 d", output_precision=3, memory="1 MB"))
    daily_starts, daily_ids, daily = read_output(tmp_path / "daily.nc", "discharge")
    assert daily_ids == ids and np.array_equal(daily_starts, starts[::24])
    mean = hourly.reshape(3, 24, -1).mean(axis=1)
    np.testing.assert_allclose(daily, mean, rtol=0.5e-3, atol=0)
    with netCDF4.Dataset(tmp_path / "daily.nc") as dataset:
        variable = dataset.variables["discharge"]
        assert variable.dtype == np.float32
        assert variable.comment.startswith("rounded to 3 significant digits") and "2^-11" in variable.comment
        bounds = dataset.variables["time_bnds"][:]
        assert (np.diff(bounds) == 86400).all()


def test_means_of_a_run_whose_balance_is_checked_at_every_step(tmp_path, monkeypatch):
    config = write_case(tmp_path, n_steps=12, output="run.nc", output_at="reaches", output_step="3 d")
    run(config)
    checked, check = [], Simulation.check_ledger

    def count(simulation):
        checked.append(simulation.n_done)
        check(simulation)

    monkeypatch.setattr(Simulation, "check_ledger", count)
    run(change_config(config, output="checked.nc", ledger_tolerance=1e-9))
    assert checked == list(range(1, 13))
    one, other = (read_output(tmp_path / name, "discharge")[2] for name in ("run.nc", "checked.nc"))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("memory", ["1 MB", "20 MB", "1 GiB"])
def test_memory_changes_blocks_and_no_bit(tmp_path, memory):
    config = write_case(tmp_path, n_steps=50, output="run.nc", output_at="reaches")
    run(config)
    run(change_config(config, output="other.nc", memory=memory))
    for one, other in zip(
        read_output(tmp_path / "run.nc", "discharge"), read_output(tmp_path / "other.nc", "discharge"), strict=True
    ):
        assert np.array_equal(one, other)
    with simulated(change_config(config, memory=memory)) as simulation:
        assert simulation.block_length(["discharge"]) >= 1


def test_more_memory_makes_longer_blocks(tmp_path):
    with simulated(write_case(tmp_path)) as simulation:
        model = simulation.model
        per_step = 8 * (model.domain.n_cells + model.domain.n_reaches)
        lengths = [model.block_length(memory, ["discharge"]) for memory in (1, 60 * per_step, 240 * per_step, 2**30)]
        assert lengths[0] == 1 and 1 < lengths[1] < 60 and lengths[1] < lengths[2] < lengths[3] == 170
        assert model.block_length(240 * per_step, ["discharge"], np.arange(3)) > lengths[2]


def test_chosen_reaches_come_from_a_file_too(tmp_path):
    config = write_case(tmp_path, output="run.nc", output_at=["r7", "r3"])
    run(config)
    (tmp_path / "ids.txt").write_text("r7\n\n r3\n")
    run(change_config(config, output="other.nc", output_at="ids.txt"))
    one, other = (read_output(tmp_path / name, "discharge") for name in ("run.nc", "other.nc"))
    assert one[1] == other[1] == ["r7", "r3"]
    assert np.array_equal(one[2], other[2]) and one[2].shape[0] == N_STEPS[86400]
    with pytest.raises(ConfigError, match=r"output_at: .*none\.txt.* cannot be read .* one reach id a line"):
        run(change_config(config, output_at="none.txt"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"output_step": "36 h"}, "output_step is 129600 s; expected a multiple of time_step"),
        ({"output_step": "2 d"}, "of which start to end is a whole number"),
        ({"output_step": "3 d", "output_variables": ["reach_storage"]}, "'reach_storage' is a state"),
        ({"restart_every": "1 d"}, "restart_every without restart"),
        ({"restart_every": "1 d", "output_step": "3 d", "restart": "r.nc"}, "expected a multiple of 259200 s"),
        ({"memory": "12"}, "expected a whole number and a unit"),
        ({"memory": "0 MiB"}, "is no amount of memory"),
        ({"output_precision": 8}, "output_precision"),
    ],
)
def test_keys_that_do_not_fit_together(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message), simulated(write_case(tmp_path, output="run.nc", **keys)):
        pass


def test_daily_means_of_an_hourly_run_are_scored_against_daily_observations(tmp_path):
    keys = {"step": HOUR, "n_steps": 96, "output": "run.nc"}
    hourly = write_case(tmp_path / "hourly", **keys)
    run(hourly)
    starts, ids, flow = read_output(tmp_path / "hourly" / "run.nc", "discharge")
    means = flow.reshape(4, 24, -1).mean(axis=1)
    config = write_case(tmp_path / "daily", output_step="1 d", **keys)
    write_series(
        tmp_path / "daily" / "observations.nc", "gauge", ids, {"discharge": (2 * means, "m3 s-1")}, starts[0], 86400
    )
    run(config)
    results = evaluate(load_config(config))
    for k, result in enumerate(results):
        np.testing.assert_allclose(result.simulated, means[:, k], rtol=1e-12)
        np.testing.assert_array_equal(result.observed, 2 * means[:, k])
        assert result.scores["kge_beta"] == pytest.approx(0.5)
    rain = basin_rain(load_config(config), read_domain(tmp_path / "daily" / "domain.nc"))
    assert rain is not None and all(values.size == 4 for values in rain.values())


@pytest.mark.parametrize("digits", [1, 3, 7])
def test_a_kernel_rounds_as_numpy_does(digits):
    """Numbers of every size, halves, zeros of either sign; among them one that the kernel leaves to numpy."""
    rng = np.random.default_rng(digits)
    values = np.exp(rng.uniform(-80, 80, (37, 9))) * rng.choice([-1.0, 1.0], (37, 9))
    half = 2.0 ** -(packing.kept_bits(digits) + 1)
    values[0, :4] = 0.0, -0.0, 1.0 + half, 1.0 + 3 * half
    for odd in (1.0, np.nan, -np.inf, 1e-40, 3.5e38, 1e300):
        values[3, 3] = odd
        with np.errstate(over="ignore"):
            expected = packing.rounded(values, digits)
            for given in (values, np.asfortranarray(values), values[:, ::2]):
                out = np.empty(given.shape, np.float32)
                packing.round_into(given, digits, out)
                assert out.tobytes() == (expected if given.shape == (37, 9) else expected[:, ::2]).tobytes()
