"""The ensemble Kalman filter of the examples, where the truth is known: its rain is what the forecasts lack."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import case_forcing, opened, write_case, write_forcing, write_series
from click.testing import CliRunner

from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "enkf_lez.py"
N_STEPS = 40


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("enkf_lez", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def case(tmp_path):
    """A run with six tenths of the rain that made its observations; the gauge with most water to be assimilated."""
    config = write_case(tmp_path, n_steps=N_STEPS, parameters="default")
    forcing = case_forcing(N_STEPS, 25)
    cells = np.array([f"c{i}" for i in range(25)], object)
    with opened(config) as truth:
        rows = []
        while truth.get_current_time() < truth.get_end_time():
            truth.update()
            rows.append(truth.get_value_ptr(variable("gauge_discharge").name).copy())
        gauges = truth._stepper.simulation.model.domain.gauges
    start = np.datetime64("2001-03-01", "s")
    write_series(tmp_path / "observations.nc", "gauge", np.array(gauges.id, object),
                 {"discharge": (np.array(rows), "m3 s-1")}, start, DAY)
    write_forcing(tmp_path / "forcing.nc", forcing._replace(precipitation=0.6 * forcing.precipitation), DAY, cells)
    return config, np.array(rows), gauges.id[int(np.mean(rows, axis=0).argmax())]


@pytest.mark.slow
def test_the_filter_corrects_what_the_rain_lacks_and_books_the_water(example, case, tmp_path):
    config, observed, gauge = case
    where = int(observed.mean(axis=0).argmax())
    checked = example.write_checked(config, None)
    open_loop = example.run(checked, 12, observed, None)
    filtered = example.run(checked, 12, observed, where)
    scores = [nse(r.mean[10:, where], observed[10:, where]) for r in (open_loop, filtered)]
    assert scores[1] > scores[0] + 0.05
    assert open_loop.water["added"] == 0 and filtered.water["added"] > 0.01 * filtered.water["in"]
    for water in (open_loop.water, filtered.water):
        left = water["in"] + water["exchanged"] + water["added"] - water["out"] - water["stored"]
        assert abs(left) <= 1e-9 * water["in"]

    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(example.main, [
        str(config), "--gauge", gauge, "--members", "4", "--days", "12", "--picture", str(tmp_path / "enkf.png")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "enkf.png").stat().st_size > 10_000
    assert not checked.exists() and "assimilated" in result.output
