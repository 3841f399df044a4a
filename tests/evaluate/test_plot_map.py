"""The map of a domain."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from make_domain import lumped_domain, random_domain

from bmi_cdlm.evaluate.plot_map import MOST_LINES, plot_map, plot_parameters
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


def test_parameters_that_differ_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    domain, rng = random_domain(7, 40, 25), np.random.default_rng(1)
    values = {
        "production_capacity": rng.uniform(10, 900, 25), "exchange_coefficient": rng.normal(size=25),
        "routing_capacity": np.full(25, 90.0), "recharge_shape": rng.uniform(1, 3, (2, 25)),
        "celerity": rng.uniform(0.3, 3, 40),
    }
    drawn = plot_parameters(tmp_path / "p.png", domain, values)
    assert drawn == ["production_capacity", "exchange_coefficient", "celerity"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert plot_parameters(tmp_path / "none.png", domain, {"routing_capacity": np.full(25, 90.0)}) == []
    assert not (tmp_path / "none.png").exists()
