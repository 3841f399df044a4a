"""Nothing is lost when a run dies: it goes on from its last restart file, and its output is that of an unbroken run."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import netCDF4
import numpy as np
import pytest
from cases import START, change_config, simulated, write_case
from process_cases import HBV, RESERVOIRS, installed

from bmi_cdlm.files import output as output_module
from bmi_cdlm.files.output import partial_path
from bmi_cdlm.files.restart import FORMAT
from bmi_cdlm.names.container import unpack, unseal
from bmi_cdlm.names.errors import ConfigError, ForcingError, OutputError, StateError
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.processes.catalogue import choose
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.run import simulation as simulation_module
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.fingerprints import _others
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


def restart_content(path):
    """Every array and word of a restart file."""
    found = unpack(unseal(path.read_bytes(), FORMAT, "", StateError, ""), "", StateError, "")
    return found.arrays, found.words


def assert_same_files(folder, other):
    for name in ("run.nc", "restart.nc"):
        read = content if name == "run.nc" else restart_content
        (ours, our_words), (theirs, their_words) = read(folder / name), read(other / name)
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


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run that nothing disturbed; without restart files in between. Nobody writes into it."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Simulation, "block_length", lambda *_: 3)
        run(write_case(
            folder, n_steps=N_DAYS, snow="cemaneige", output="run.nc", restart="restart.nc", spin_up=1,
            output_at="reaches",
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


def test_nothing_is_left_to_do(config, unbroken, caplog):
    run(config)
    with caplog.at_level(logging.WARNING):
        run(config, resume=True)
    assert "the run is finished, there is nothing left to do" in caplog.text
    assert_same_files(config.parent, unbroken)
    (config.parent / "run.nc").unlink()
    with pytest.raises(OutputError, match=r"run\.nc: there is no such file, though .* the finished run"):
        run(config, resume=True)


def test_resuming_needs_a_restart_file_and_the_output_before_it(config, caplog):
    folder = config.parent
    with pytest.raises(ConfigError, match="no 'restart'"):
        run(change_config(config, restart=None, restart_every=None), resume=True)
    with pytest.raises(Killed):
        run(config, progress=die_after(12))
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


@pytest.mark.slow
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
    real, calls = os.fsync, []

    def fail(handle):
        if stat.S_ISREG(os.fstat(handle).st_mode):
            calls.append(handle)
            if len(calls) == 3:
                raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        message = r"restart\.nc: cannot be written \(No space left on device\); the older file stays as it is"
        with pytest.raises(OutputError, match=message):
            run(config)
    assert sorted(p.name for p in config.parent.iterdir() if p.name.startswith((".", "re"))) == ["restart.nc"]
    run(config, resume=True)
    assert_same_files(config.parent, unbroken)


# ---- other processes -----------------------------------------------------------------------------------------


def refuse(config, match):
    with pytest.raises(StateError, match=match):
        Simulation(load_config(config)).close()


def test_a_state_of_other_processes_or_components_is_refused(tmp_path):
    config = write_case(tmp_path, parameters="default", restart="saved.nc")
    several = change_config(config, "several.yaml", components=3, restart="several.nc")
    for one in (config, several):
        run(one)
    refuse(change_config(several, initial_state="saved.nc"), r"restart: components is '1', expected '3'\. Use the opt")
    refuse(change_config(config, initial_state="several.nc"), "restart: components is '3', expected '1'")
    with installed(HBV, RESERVOIRS):
        other = change_config(config, "other.yaml", runoff=HBV.name, routing=RESERVOIRS.name, restart="other.nc")
        run(other)
        refuse(change_config(config, "a.yaml", initial_state="other.nc"), f"runoff is '{HBV.name}', expected 'gr4j'")
        refuse(change_config(config, "b.yaml", initial_state="saved.nc", runoff=HBV.name), f"expected '{HBV.name}'")
        refuse(
            change_config(config, "c.yaml", initial_state="saved.nc", routing=RESERVOIRS.name),
            f"routing is 'muskingum', expected '{RESERVOIRS.name}'",
        )
        with simulated(change_config(other, "d.yaml", initial_state="other.nc")) as simulation:
            assert simulation.n_done == simulation.config.n_steps


@pytest.mark.parametrize("components", [1, 3])
def test_a_resumed_run_of_components_has_the_bits_of_an_unbroken_one(tmp_path, components):
    config = write_case(
        tmp_path, n_steps=N_DAYS, snow="cemaneige", components=components, restart="end.nc", restart_every="5 d",
        parameters="default",
    )
    run(config)
    whole, _ = restart_content(tmp_path / "end.nc")
    middle = change_config(config, "middle.yaml", end=str(START + np.timedelta64(10, "D")), restart="middle.nc")
    run(middle)
    run(change_config(config, "rest.yaml", initial_state="middle.nc", restart="rest.nc"))
    rest, _ = restart_content(tmp_path / "rest.nc")
    for name, values in whole.items():
        np.testing.assert_array_equal(rest[name], values, err_msg=name)
    assert whole["cell/production_store"].ndim == (2 if components > 1 else 1)


# ---- the same run, or none -------------------------------------------------------------------------------------


def triple_rain(path):
    with netCDF4.Dataset(path, "r+") as dataset:
        dataset.variables["precipitation"][:] = 3 * dataset.variables["precipitation"][:]


def lengthen_reaches(path):
    with netCDF4.Dataset(path, "r+") as dataset:
        dataset.variables["reach_length"][:] = 2 * dataset.variables["reach_length"][:]


def deepen_stores(path):
    with netCDF4.Dataset(path, "r+") as dataset:
        dataset.variables["production_capacity"][:] = 1.5 * dataset.variables["production_capacity"][:]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("change", "message"), [
    (("forcing.nc", triple_rain), "forcing was [0-9a-f]{64}, is"),
    (("domain.nc", lengthen_reaches), "domain was [0-9a-f]{64}, is"),
    (("parameters.nc", deepen_stores), "parameters was [0-9a-f]{64}, is"),
    ({"routing_step": "30 min"}, "routing_step was 3600, is 1800"),
    ({"spin_up": 2}, "spin_up was 1, is 2"), ({"snow": "none"}, "snow was cemaneige, is none"),
    ({"parameters": "default"}, "parameters was [0-9a-f]{64}, is default"),
    ({"start": "2001-03-02"}, "start was 2001-03-01T00:00:00, is 2001-03-02T00:00:00"),
    ({"end": "2001-03-20"}, "end was 2001-03-24T00:00:00, is 2001-03-20T00:00:00"),
    ({"forcing_fill": "zero"}, "forcing_fill was {}, is"), ({"pet": "oudin"}, "pet was given, is oudin"),
    ({"output_at": ["r3", "r1"]}, 'output_at was reaches, is \\["r3", "r1"\\]'),
    ({"output_variables": ["reach_storage"]}, "output_variables was"),
])
def test_no_run_goes_on_with_another(config, change, message, finished):
    folder = config.parent
    if finished:
        run(config)
    else:
        with pytest.raises(Killed):
            run(config, progress=die_after(12))
    if isinstance(change, dict):
        changed = change_config(config, **change)
    else:
        changed = config
        change[1](folder / change[0])
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(StateError, match=rf"restart\.nc: belongs to another run: .*{message}"):
        run(changed, resume=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_what_changes_no_bit_may_change(config, unbroken):
    with pytest.raises(Killed):
        run(config, progress=die_after(12))
    other = change_config(config, threads=2, memory="64 MiB", restart_every="1 d", observations=None)
    copy = config.parent / "copy.nc"
    copy.write_bytes((config.parent / "forcing.nc").read_bytes())
    run(change_config(other, forcing="copy.nc"), resume=True)
    assert_same_files(config.parent, unbroken)


def test_other_processes_do_not_go_on(config, monkeypatch):
    with pytest.raises(Killed):
        run(config, progress=die_after(12))
    monkeypatch.setattr("bmi_cdlm.run.fingerprints.code_digest", lambda: "others")
    with pytest.raises(StateError, match=r"processes was .*, is .* others"):
        run(config, resume=True)


def test_a_process_of_another_package_counts_by_its_code():
    with installed(HBV, RESERVOIRS):
        chain = choose("none", HBV.name, RESERVOIRS.name)
        first, second = _others(chain.processes)
        assert first.startswith(f"{HBV.name} ") and second.startswith(f"{RESERVOIRS.name} ")
        assert not _others(choose().processes)
        assert _others(chain.processes) == [first, second]
        changed = chain._replace(cells=(replace(HBV, stages=(*HBV.stages[:-1], GR4J.stages[-1])),))
        assert _others(changed.processes)[0] != first and _others(changed.processes)[1] == second


def test_a_partial_output_of_another_run(config):
    with pytest.raises(Killed):
        run(config, progress=die_after(12))
    partial = partial_path(config.parent / "run.nc")
    content = partial.read_bytes().replace(b'"spin_up\\": \\"1', b'"spin_up\\": \\"2').replace(
        b'"spin_up": "1"', b'"spin_up": "2"')
    partial.write_bytes(content)
    with pytest.raises(OutputError, match=r"partial: belongs to another run: spin_up was 2, is 1"):
        run(config, resume=True)
    assert partial.read_bytes() == content


def test_a_restart_file_that_no_run_wrote(config):
    simulation = Simulation(load_config(config))
    simulation.save(config.parent / "restart.nc")
    simulation.close()
    with pytest.raises(StateError, match=r"does not say which run wrote it.*may be named as initial_state"):
        run(config, resume=True)


def test_a_run_that_begins_sets_an_earlier_one_aside(config, unbroken, caplog):
    run(change_config(config, spin_up=0))
    old = (config.parent / "restart.nc").read_bytes()
    with caplog.at_level(logging.WARNING), pytest.raises(Killed):
        run(config, progress=die_after(3))
    assert "left by an earlier run, is now restart.nc.previous" in caplog.text
    assert not (config.parent / "restart.nc").exists()
    assert (config.parent / "restart.nc.previous").read_bytes() == old
    run(config, resume=True)
    assert_same_files(config.parent, unbroken)


def test_a_state_that_is_carried_on_is_not_set_aside(config):
    run(change_config(config, end="2001-03-11", output=None, restart_every=None))
    onward = change_config(config, start="2001-03-11", initial_state="restart.nc", spin_up=0)
    old = (config.parent / "restart.nc").read_bytes()
    with pytest.raises(Killed):
        run(onward, progress=die_after(3))
    assert (config.parent / "restart.nc").read_bytes() == old
