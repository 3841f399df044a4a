"""The map is drawn, and says why where it cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from drainage_cases import config, gauge_at, terrain_flow

from bmi_cdlm.errors import OutputError
from bmi_cdlm.prepare.map import draw_map
from bmi_cdlm.prepare.network import drain
from bmi_cdlm.prepare.snapping import SnappedGauges


@pytest.fixture(scope="module")
def case():
    flow = terrain_flow((60, 66))
    outlet = int(np.argmax(flow.upstream_area))
    site = gauge_at(flow, outlet)
    drainage = drain(config(extent="gauges", resolution="30 arcsec", cell_size="90 arcsec"), flow, [site], radius=1.0)
    one = np.zeros(1)
    reach = np.array([drainage.catchments.reach.ravel()[outlet]], np.int64)
    return drainage, SnappedGauges([site], reach, one, one, one, one.astype(bool), {})


def test_map_has_land_and_rivers(case, tmp_path):
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
    drainage, gauges = case
    draw_map(tmp_path / "map.png", drainage, gauges, "Made-up river")
    pixels = image.imread(tmp_path / "map.png")[..., :3]

    def share(colour: str) -> float:
        from matplotlib.colors import to_rgb

        return float((np.abs(pixels - np.array(to_rgb(colour))).max(axis=2) < 0.02).mean())

    from bmi_cdlm.prepare import map as module

    assert share(module.LAND) > 0.1
    assert share(module.RIVER) > 0.001
    assert share(module.GAUGE) > 1e-5  # one triangle
    draw_map(tmp_path / "other.png", drainage, None, "No gauges")
    bare = image.imread(tmp_path / "other.png")[..., :3]
    assert bare.shape[0] > 300 and bare.shape[1] > 300


def test_without_matplotlib(case, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OutputError, match=r"cannot be drawn without matplotlib.*bmi-cdlm\[plot\]"):
        draw_map(tmp_path / "map.png", *case, "Made-up river")
    assert list(tmp_path.iterdir()) == []
