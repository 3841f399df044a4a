"""Nothing is lost when a run dies: it goes on from its last restart file, and its output is that of an unbroken run."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import netCDF4
import numpy as np
import pytest
from cases import change_config, write_case

from bmi_cdlm.files import output as output_module
from bmi_cdlm.files.output import partial_path
from bmi_cdlm.model import state as state_module
from bmi_cdlm.names.errors import ConfigError, ForcingError, OutputError, StateError
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.run import simulation as simulation_module
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

N_DAYS = 23
EVERY = 5


@pytest.fixture
def config(tmp_path):
    """A run of 23 days in blocks of 3 at most, with a restart file every 5."""
    return write_case(
        tmp_path, n_steps=N_DAYS, snow="cemaneige", output="run.nc", restart="restart.nc", restart_every=f"{EVERY} d",
        spin_up=1, output_at="reaches",
    )


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(Simulation, "block_length", lambda *_: 3)


def content(path):
    """Every variable and attribute of a file."""
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        found = {name: np.asarray(variable[...]) for name, variable in dataset.variables.items()}
        return found, {key: dataset.getncattr(key) for key in dataset.ncattrs()}


def assert_same_files(folder, other):
    for name in ("run.nc", "restart.nc"):
        (ours, our_words), (theirs, their_words) = content(folder / name), content(other / name)
        assert our_words == their_words
        assert list(ours) == list(theirs)
        for key, values in ours.items():
            np.testing.assert_array_equal(values, theirs[key], err_msg=f"{name}: {key}")


def run(config, *, resume=False, progress=lambda steps: None):
    simulation = Simulation(load_config(config), resume=resume)
    try:
        simulation.run(progress)
    finally:
        simulation.close()


@pytest.fixture
def unbroken(tmp_path_factory):
    """The folder of a run that nothing disturbed; without restart files in between."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(write_case(
        folder, n_steps=N_DAYS, snow="cemaneige", output="run.nc", restart="restart.nc", spin_up=1, output_at="reaches"
    ))
    return folder


class Killed(BaseException):
    """Stands for a signal: nothing of ours catches it."""


def die_after(steps):
    left = [steps]

    def progress(count):
        left[0] -= count
        if left[0] <= 0:
            raise Killed

    return progress


@pytest.mark.parametrize("steps", [1, 5, 6, 14, 22])
def test_a_run_that_died_goes_on_to_the_same_files(config, unbroken, steps):
    with pytest.raises(Killed):
        run(config, progress=die_after(steps))
    folder = config.parent
    assert not (folder / "run.nc").exists() and partial_path(folder / "run.nc").exists()
    died_at = next(end for end in (3, 5, 8, 10, 13, 15, 18, 20, 23) if end >= steps)  # blocks of 3, cut at every fifth
    covered = died_at if died_at == N_DAYS else died_at // EVERY * EVERY
    assert (folder / "restart.nc").exists() == (covered > 0)
    done = []
    run(config, resume=True, progress=done.append)
    assert sum(done) == N_DAYS - covered
    assert not partial_path(folder / "run.nc").exists()
    assert_same_files(folder, unbroken)


def test_it_may_die_again_and_again(config, unbroken):
    for _ in range(4):
        with pytest.raises(Killed):
            run(config, resume=True, progress=die_after(6))
    run(config, resume=True)
    assert_same_files(config.parent, unbroken)


SCRIPT = """
import sys
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation
Simulation.block_length = lambda *_: 3
def say(steps):
    print(steps, flush=True)
Simulation(load_config(sys.argv[1]), resume=True).run(say)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 3, 6, 8])
def test_kill_9_loses_nothing_that_a_restart_file_covers(config, unbroken, lines):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(config)], stdout=subprocess.PIPE, text=True)
    for _ in range(lines):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    run(config, resume=True)
    assert_same_files(config.parent, unbroken)


def test_killed_while_the_output_is_finished(config, unbroken, monkeypatch):
    def fail(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(output_module, "_compress", fail)
        with pytest.raises(Killed):
            run(config)
    run(config, resume=True)
    assert_same_files(config.parent, unbroken)


def test_nothing_is_left_to_do(config, unbroken):
    run(config)
    with pytest.raises(StateError, match="the end of the run"):
        run(config, resume=True)
    assert_same_files(config.parent, unbroken)


def test_resuming_needs_a_restart_file_and_the_output_before_it(config, caplog):
    folder = config.parent
    with pytest.raises(ConfigError, match="no 'restart'"):
        run(change_config(config, restart=None, restart_every=None), resume=True)
    with pytest.raises(Killed):
        run(config, progress=die_after(12))
    with pytest.raises(OutputError, match="holds other places, variables or precision"):
        run(change_config(config, output_precision=3), resume=True)
    with pytest.raises(OutputError, match="holds other places, variables or precision"):
        run(change_config(config, output_at=["r3"]), resume=True)
    partial = partial_path(folder / "run.nc")
    kept = partial.read_bytes()
    partial.unlink()
    with pytest.raises(OutputError, match="no such file, expected 10 steps"):
        run(config, resume=True)
    assert not partial.exists()
    partial.write_bytes(kept[:7] + b"\0\0\0\0\x04" + kept[12:])
    with pytest.raises(OutputError, match="holds 4 steps, expected the 10"):
        run(config, resume=True)
    (folder / "restart.nc").unlink()
    with caplog.at_level(logging.WARNING):
        run(config, resume=True)
    assert "not written yet, running from the start" in caplog.text


def test_daily_means_go_on_too(tmp_path):
    keys = {"step": HOUR, "n_steps": 144, "output": "run.nc", "restart": "restart.nc", "output_step": "1 d"}
    run(write_case(tmp_path / "whole", **keys))
    config = write_case(tmp_path / "broken", restart_every="2 d", **keys)
    with pytest.raises(Killed):
        run(config, progress=die_after(80))
    run(config, resume=True)
    assert_same_files(tmp_path / "broken", tmp_path / "whole")


def test_an_unreadable_block_of_forcing(config, unbroken, monkeypatch):
    """The error names file, variable and time; what was computed stays, and the run goes on once the file is whole."""
    read = simulation_module.Simulation.read_forcing

    def fail(self, first, count):
        if first + count > 12:
            raise ForcingError("forcing.nc: 'precipitation' cannot be read from 2001-03-13")
        return read(self, first, count)

    with monkeypatch.context() as patch:
        patch.setattr(simulation_module.Simulation, "read_forcing", fail)
        with pytest.raises(ForcingError, match="cannot be read from 2001-03-13"):
            run(change_config(config, spin_up=0))
    with netCDF4.Dataset(partial_path(config.parent / "run.nc")) as dataset:
        assert dataset.dimensions["time"].size >= 10
    run(change_config(config, spin_up=0), resume=True)
    other = unbroken.parent / "no_spin_up"
    run(write_case(
        other, n_steps=N_DAYS, snow="cemaneige", output="run.nc", restart="restart.nc", output_at="reaches"
    ))
    assert_same_files(config.parent, other)


def test_a_disk_too_full_for_a_restart_file(config, unbroken, monkeypatch):
    fill, calls = state_module._fill, []

    def fail(dataset, restart):
        calls.append(restart.time)
        fill(dataset, restart)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state_module, "_fill", fail)
        with pytest.raises(OutputError, match=r"restart\.nc: cannot be written \(No space left on device\); an older"):
            run(config)
    assert sorted(p.name for p in config.parent.iterdir() if p.name.startswith((".", "re"))) == ["restart.nc"]
    run(config, resume=True)
    assert_same_files(config.parent, unbroken)
