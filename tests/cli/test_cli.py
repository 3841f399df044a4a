"""The command line: the README's commands, and what a user sees of an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import change_config, write_case, write_parameters
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from bmi_cdlm.cli import main
from bmi_cdlm.files.output import read_output
from bmi_cdlm.reference import render
from bmi_cdlm.run import batch
from bmi_cdlm.run.simulation import Simulation

ROOT = Path(__file__).resolve().parents[2]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words])


def test_run_writes_the_output_and_says_where_the_water_is(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="out/run.nc")
    result = call("run", config, "--quiet")
    assert result.exit_code == 0, result.output
    starts, ids, values = read_output(tmp_path / "out" / "run.nc", "discharge")
    assert values.shape == (starts.size, len(ids))
    assert np.isfinite(values).all()
    assert "water [m3]: in" in result.output
    assert "mean travel time" in result.output


def test_evaluate_prints_scores_and_draws_a_hydrograph_per_gauge(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="run.nc")
    assert call("run", config, "--quiet").exit_code == 0
    result = call("evaluate", config)
    assert result.exit_code == 0, result.output
    _, ids, _ = read_output(tmp_path / "run.nc", "discharge")
    for gauge in ids:
        assert gauge in result.output
        assert (tmp_path / f"run_{gauge}.png").read_bytes().startswith(b"\x89PNG")
    assert "NSE" in result.output


def test_evaluate_can_leave_the_pictures_out(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="run.nc")
    call("run", config, "--quiet")
    assert call("evaluate", config, "--no-plots").exit_code == 0
    assert not list(tmp_path.glob("*.png"))


def test_parameters_given_on_the_command_line_replace_the_configured_ones(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="run.nc", parameters="default")
    call("run", config, "--quiet")
    default = read_output(tmp_path / "run.nc", "discharge")[2]
    assert call("run", config, "--quiet", "--parameters", tmp_path / "parameters.nc").exit_code == 0
    assert (read_output(tmp_path / "run.nc", "discharge")[2] != default).any()


def test_an_error_is_one_message_without_a_traceback_and_nothing_is_written(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="run.nc", rooting_step="1 h")
    result = call("run", config)
    assert result.exit_code == 1
    assert "unknown key 'rooting_step'" in result.output
    assert "Did you mean 'routing_step'?" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run.nc").exists()


def test_evaluate_needs_observations(tmp_path: Path) -> None:
    config = change_config(write_case(tmp_path, output="run.nc"), observations=None)
    result = call("evaluate", config)
    assert result.exit_code == 1
    assert "observations" in result.output


def test_the_reference_in_the_repository_is_the_one_the_code_renders() -> None:
    found = (ROOT / "cfg" / "README.md").read_text(encoding="utf-8")
    assert found == render(), "run: cdlm reference --to cfg/README.md"


@pytest.mark.smash
@pytest.mark.slow
def test_the_commands_of_the_readme_run_the_lez(tmp_path: Path, prepared: Callable[[str], Path]) -> None:
    shutil.copytree(prepared("lez"), tmp_path / "lez")
    config = tmp_path / "lez.yaml"
    config.write_text((ROOT / "cfg" / "lez.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert call("run", config, "--quiet").exit_code == 0
    shown = call("evaluate", config)
    assert shown.exit_code == 0
    assert "Y3204040" in shown.output


def test_a_run_that_was_killed_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"n_steps": 12, "output": "run.nc", "restart": "restart.nc", "restart_every": "3 d"}
    whole = write_case(tmp_path / "whole", **keys)
    assert call("run", whole, "--quiet").exit_code == 0
    config = write_case(tmp_path / "broken", **keys)
    save, saved = batch._save_behind, []

    def die(simulation: Simulation, output: object) -> None:
        save(simulation, output)
        saved.append(simulation.n_done)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch, "_save_behind", die)
        assert call("run", config, "--quiet").exit_code == 1
    assert saved == [3, 6] and not (tmp_path / "broken" / "run.nc").exists()
    result = call("run", config, "--quiet", "--resume")
    assert result.exit_code == 0, result.output
    ours, theirs = (read_output(path.parent / "run.nc", "discharge") for path in (config, whole))
    assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[2], theirs[2])
    again = call("run", config, "--quiet", "--resume")
    assert again.exit_code == 0 and "there is nothing left to do" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["--help"], ["reference"], ["run", "case.yaml", "--quiet"]])
def test_a_full_disk_under_the_screen_is_one_error(tmp_path: Path, arguments: list[str]) -> None:
    write_case(tmp_path, output="run.nc")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bmi_cdlm.cli", *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, check=False,
        )
    assert done.returncode == 1 and done.stderr.startswith("Error: the screen"), done.stderr
    assert "No space left" in done.stderr and "Traceback" not in done.stderr and "ignored" not in done.stderr


@pytest.mark.parametrize("threads", ["0", "-1", "x", "9" * 30])
def test_a_number_of_threads_that_numba_does_not_take_is_left_out(tmp_path: Path, threads: str) -> None:
    write_case(tmp_path, output="run.nc")
    done = subprocess.run(
        [sys.executable, "-m", "bmi_cdlm.cli", "run", "case.yaml", "--quiet"], capture_output=True, text=True,
        cwd=tmp_path, check=False, env=os.environ | {"NUMBA_NUM_THREADS": threads},
    )
    assert done.returncode == 0 and "NUMBA_NUM_THREADS is" in done.stderr, done.stderr


def test_defaults_in_place_of_missing_parameters_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = write_case(tmp_path, output="run.nc")
    with netCDF4.Dataset(tmp_path / "parameters.nc", "r+") as dataset:
        dataset.renameVariable("exchange_coefficient", "production_capacity_")
    assert "unknown parameter" in call("run", config, "--quiet").output
    write_parameters(tmp_path / "parameters.nc", {"production_capacity": np.full(25, 300.0)})
    assert call("run", config, "--quiet").exit_code == 0
    assert "defaults are taken for exchange_coefficient" in caplog.text and "melt_factor" not in caplog.text


def test_a_score_that_is_none_is_a_dash() -> None:
    """It was +nan."""
    from bmi_cdlm.evaluate.tables import PER_GAUGE, shown

    assert {shown(name, float("nan")) for name in PER_GAUGE} == {"-"}
    assert (shown("pbias", -7.46), shown("nse", 0.5)) == ("-7.5", "0.500")


def test_a_shell_completes_commands_and_options() -> None:
    complete = ShellComplete(main, {}, "cdlm", "_CDLM_COMPLETE")
    assert [one.value for one in complete.get_completions([], "pr")] == ["prepare", "processes"]
    assert "--resume" in [one.value for one in complete.get_completions(["run"], "--re")]
    assert "--verbose" in [one.value for one in complete.get_completions([], "--v")]


def test_the_command_starts_without_what_runs_models() -> None:
    script = (
        "import sys; from bmi_cdlm.cli import main; main(['--version'], standalone_mode=False); "
        "assert not {'numba', 'numpy', 'netCDF4', 'pydantic'} & set(sys.modules); "
        "import bmi_cdlm; assert vars(bmi_cdlm)['BmiCdlm'] is bmi_cdlm.BmiCdlm"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
