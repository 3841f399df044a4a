"""The example that forecasts floods, on a case of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import START, opened, write_case, write_forcing, write_series
from click.testing import CliRunner

from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.names.variables import variable

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "assimilate_cance.py"
N, STORM = 420, 100


@pytest.mark.slow
def test_a_flood_is_forecast_from_the_gauges_before_it(tmp_path, monkeypatch) -> None:
    """What was observed had half as much rain again: with assimilation the forecasts are nearer."""
    pytest.importorskip("matplotlib")
    config = write_case(tmp_path, step=HOUR, n_steps=N, parameters="default")
    rain = np.zeros((N, 25))
    rain[STORM : STORM + 30] = 100.0
    cells = np.array([f"c{i}" for i in range(25)], object)

    def weather(factor: float) -> None:
        write_forcing(tmp_path / "forcing.nc", Forcing(factor * rain, 0 * rain + 1.0, 0 * rain), HOUR, cells)

    weather(1.5)
    rows = []
    with opened(config) as truth:
        while truth.get_current_time() < truth.get_end_time():
            truth.update()
            rows.append(truth.get_value_ptr(variable("gauge_discharge").name).copy())
    gauges = [f"g{i}" for i in range(4)]
    write_series(tmp_path / "observations.nc", "gauge", gauges, {"discharge": (np.array(rows), "m3 s-1")}, START, HOUR)
    weather(1.0)
    spec = importlib.util.spec_from_file_location("assimilate_cance", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "assimilate_cance", module)
    spec.loader.exec_module(module)
    folder = tmp_path / "out"
    monkeypatch.setattr(module.console, "width", 200)
    result = CliRunner().invoke(module.main, [str(config), "--every", "100", "--to", str(folder)])
    assert result.exit_code == 0, result.output
    mean = next(line for line in result.output.splitlines() if "mean of absolute errors" in line and " 6 h" in line)
    without, with_it = (float(word.split()[0]) for word in mean.split("│") if word.strip().endswith("%"))
    assert with_it < 0.5 * without
    assert len(list(folder.glob("forecast_*.png"))) == 4
    assert [p.name for p in folder.iterdir() if p.suffix == ".restart"] == ["start.restart"]
