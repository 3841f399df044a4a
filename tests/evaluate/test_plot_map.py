"""The map of a domain."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from make_domain import lumped_domain, random_domain

from bmi_cdlm.evaluate.plot_map import MOST_LINES, plot_map
from bmi_cdlm.names.errors import OutputError


def test_a_domain_with_gauges_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    domain = random_domain(7, 40, 25)
    plot_map(tmp_path / "out" / "map.png", domain, "a case")
    assert (tmp_path / "out" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_one_cell_without_gauges_or_rivers_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    domain = lumped_domain()
    corners = np.array([[-0.01, 0.01, 0.01, -0.01]]), np.array([[-0.01, -0.01, 0.01, 0.01]])
    domain = domain._replace(cells=domain.cells._replace(corner_lon=corners[0], corner_lat=corners[1]))
    plot_map(tmp_path / "map.png", domain, "one")
    assert (tmp_path / "map.png").is_file()


def test_the_largest_rivers_are_drawn_where_there_is_no_room_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collections = pytest.importorskip("matplotlib.collections", reason="matplotlib is not installed")
    drawn = []
    keep = collections.LineCollection
    monkeypatch.setattr(collections, "LineCollection", lambda lines, **how: drawn.append(how) or keep(lines, **how))
    monkeypatch.setattr("bmi_cdlm.evaluate.plot_map.MOST_LINES", 5)
    domain = random_domain(7, 40, 25)
    plot_map(tmp_path / "map.png", domain, "few")
    inner = domain.reaches.upstream_area[domain.reaches.downstream >= 0]
    expected = 0.15 + 2.6 * np.sqrt(np.sort(inner)[-5:] / domain.reaches.upstream_area.max())
    np.testing.assert_allclose(np.sort(drawn[0]["linewidths"]), expected)
    assert MOST_LINES > 5


def test_without_matplotlib_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OutputError, match=r"without matplotlib. Install it with"):
        plot_map(tmp_path / "map.png", lumped_domain(), "none")
