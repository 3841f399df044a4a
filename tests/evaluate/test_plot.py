"""Hydrographs: what is drawn, where it goes, and that odd series do not break it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bmi_cdlm.evaluate.plot import plot_hydrograph
from bmi_cdlm.names.errors import OutputError

figure_module = pytest.importorskip("matplotlib.figure", reason="needs the extra `plot`")

STARTS = np.datetime64("2012-08-01", "s") + np.arange(5) * np.timedelta64(86400, "s")
FLOW = np.array([1.0, 4, np.nan, 3, 2])
RAIN = np.array([0.0, 30, 0, 2, 0])


@pytest.fixture
def figures(monkeypatch):
    """Collect the figures that are saved."""
    kept = []
    save = figure_module.Figure.savefig

    def keep(self, *args, **kwargs):
        kept.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(figure_module.Figure, "savefig", keep)
    return kept


def test_what_is_drawn(tmp_path, figures):
    path = tmp_path / "plots" / "gauge.png"
    plot_hydrograph(path, STARTS, FLOW, FLOW + 1, RAIN, "Lattes", {"nse": 0.5, "kge": np.nan, "pbias": -7.46})
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert [p.name for p in path.parent.iterdir()] == ["gauge.png"]
    above, below = figures[0].axes
    assert above.get_title("left") == "Lattes"
    assert above.get_title("right") == "NSE 0.50   bias −7.5 %"
    assert above.get_ylabel() == "Rain [mm d⁻¹]" and below.get_ylabel() == "Discharge [m³ s⁻¹]"
    assert above.get_ylim()[0] > above.get_ylim()[1] == 0, "rain hangs from the top"
    assert below.get_ylim()[0] == 0 and below.get_ylim()[1] > 5
    assert np.array_equal(above.patches[0].get_data().values, RAIN)
    drawn = {patch.get_label(): patch.get_data() for patch in below.patches}
    assert np.array_equal(drawn["simulated"].values, FLOW, equal_nan=True)
    assert np.array_equal(drawn["observed"].values, FLOW + 1, equal_nan=True)
    assert [text.get_text() for text in below.get_legend().get_texts()] == ["observed", "simulated"]
    assert below.get_xlim()[1] - below.get_xlim()[0] == 5, "the last step has its whole width"


@pytest.mark.parametrize("step, label", [(3600, "h⁻¹"), (86400, "d⁻¹"), (21600, "per 6 h")])
def test_rain_is_per_step(tmp_path, figures, step, label):
    starts = STARTS[0] + np.arange(5) * np.timedelta64(step, "s")
    plot_hydrograph(tmp_path / "a.png", starts, FLOW, None, RAIN, "", {})
    assert figures[0].axes[0].get_ylabel() == f"Rain [mm {label}]"


@pytest.mark.parametrize("simulated, observed, rain", [
    (FLOW, None, None),
    (FLOW, np.full(5, np.nan), np.zeros(5)),
    (np.zeros(5), np.zeros(5), np.full(5, np.nan)),
    (np.full(5, np.nan), np.full(5, np.nan), None),
    (FLOW[:1], FLOW[:1], RAIN[:1]),
])
def test_series_with_little_in_them(tmp_path, simulated, observed, rain):
    path = tmp_path / "a.png"
    plot_hydrograph(path, STARTS[: simulated.size], simulated, observed, rain, "Dry", {})
    assert path.stat().st_size > 1000


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"a\.png: cannot be written .*Choose another output path"):
        plot_hydrograph(tmp_path / "file" / "a.png", STARTS, FLOW, None, None, "", {})


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OutputError, match=r"cannot be drawn without matplotlib. Install it with .*\[plot\]"):
        plot_hydrograph(tmp_path / "a.png", STARTS, FLOW, None, None, "", {})


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, bmi_cdlm.evaluate.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("title", ["A$B$", r"$\frac$", "x" * 260, "a_{b", "é/:"])
def test_a_name_is_drawn_as_it_is_written(tmp_path, figures, title):
    plot_hydrograph(tmp_path / "a.png", STARTS, FLOW, None, RAIN, title, {})
    drawn = figures[0].axes[0].get_title("left")
    assert drawn == (title if len(title) < 100 else "x" * 59 + "…")
