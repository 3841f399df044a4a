"""The example that makes a small file of discharge."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from cases import START
from click.testing import CliRunner

from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import OutputFile
from bmi_cdlm.names.time_steps import DAY

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pack_discharge.py"
FLOW = np.random.default_rng(5).lognormal(2.0, 1.5, (400, 3))


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("pack_discharge", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def a_run(path: Path, flow: np.ndarray, ids: list[str], place: str = "gauge") -> str:
    starts = np.datetime64(START, "s") + np.arange(flow.shape[0]) * np.timedelta64(DAY, "s")
    with OutputFile(path, place, ids, ["discharge"], DAY, {}) as file:
        file.append(starts, {"discharge": flow})
    return str(path)


def test_the_mean_of_runs_is_kept_to_four_digits_in_half_the_space(command, tmp_path):
    ids = ["a", "b", "c"]
    runs = [a_run(tmp_path / f"{k}.nc", k * FLOW, ids) for k in (1, 2)]
    result = CliRunner().invoke(command, [*runs, "--note", "a test", "--to", str(tmp_path / "small.nc")])
    assert result.exit_code == 0, result.output
    start = np.datetime64(START, "s")
    _, kept = read_observations(tmp_path / "small.nc", ids[::-1], start, start + np.timedelta64(400, "D"), DAY)
    np.testing.assert_allclose(kept, 1.5 * FLOW[:, ::-1], rtol=6e-4)
    assert np.abs(kept / (1.5 * FLOW[:, ::-1]) - 1).max() > 1e-6, "digits are cut"


def test_a_run_of_more_gauges_in_another_order_gives_those_of_the_first(command, tmp_path):
    first = a_run(tmp_path / "first.nc", FLOW[:, :2], ["a", "b"])
    other = a_run(tmp_path / "other.nc", 3 * FLOW[:, [2, 1, 0]], ["c", "b", "a"])
    result = CliRunner().invoke(command, [first, other, "--to", str(tmp_path / "mean.nc")])
    assert result.exit_code == 0, result.output
    start = np.datetime64(START, "s")
    _, kept = read_observations(tmp_path / "mean.nc", ["a", "b"], start, start + np.timedelta64(400, "D"), DAY)
    np.testing.assert_allclose(kept, 2 * FLOW[:, :2], rtol=6e-4)


def test_other_gauges_other_steps_and_other_places_are_refused(command, tmp_path):
    first = a_run(tmp_path / "first.nc", FLOW, ["a", "b", "c"])
    for name, flow, ids, message in (
        ("ids", FLOW, ["a", "b", "d"], "has no gauge c, expected those of"),
        ("time", FLOW[:300], ["a", "b", "c"], "time differs"),
    ):
        other = a_run(tmp_path / f"{name}.nc", flow, ids)
        result = CliRunner().invoke(command, [first, other, "--to", str(tmp_path / "no.nc")])
        assert result.exit_code == 1
        assert message in result.output
        assert not (tmp_path / "no.nc").exists()
    reaches = a_run(tmp_path / "reaches.nc", FLOW, ["a", "b", "c"], "reach")
    result = CliRunner().invoke(command, [reaches, "--to", str(tmp_path / "no.nc")])
    assert "expected gauges" in result.output
