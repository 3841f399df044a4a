"""Maps of a domain: rivers, cells and gauges; parameters. Needs the extra `plot` (matplotlib), imported only when one
is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.places import reach_places, together
from bmi_cdlm.evaluate.plot import new_figure, save_figure
from bmi_cdlm.names.parameters import Parameter, parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIVER, CELL, GAUGE, MUTED = "#1f5a96", "#efe9dd", "#d1495b", "#666666"
MOST_LINES = 60_000
"""Reaches drawn at most, those with the largest upstream area: a picture has no room for more."""
MOST_OUTLINED = 5_000
"""Cells up to this many have outlines; more are a tint only."""
MARGIN = 0.03
"""Around a map, of its width and height."""
LONGEST_NAME = 30
MOST_NAMED = 80


def plot_map(path: Path, domain: Domain, title: str) -> None:
    """Draw a domain as a PNG: rivers as wide as they are large, on their cells, with the gauges.

    Raises
    ------
    OutputError
        The file cannot be written, or matplotlib is not there.
    """
    domain = together(domain)
    figure, axes = new_map(path, domain, f"{title}: {told_size(domain)}")
    draw_map(axes, domain)
    save_figure(path, figure)


def draw_map(axes: Axes, domain: Domain) -> None:
    """Draw cells, rivers and gauges into axes, which are made to fit."""
    domain = together(domain)
    _fit(axes, domain)
    draw_cells(axes, domain, CELL)
    draw_rivers(axes, domain, lambda inner: RIVER)
    draw_gauges(axes, domain)


def told_size(domain: Domain) -> str:
    """How many cells, reaches and gauges there are."""
    return f"{domain.n_cells} cells, {domain.n_reaches} reaches, {len(domain.gauges.id)} gauges"


def new_map(path: Path, domain: Domain, title: str) -> tuple[Figure, Axes]:
    """An empty map of a domain, as high as it is wide; OutputError where matplotlib is not there."""
    wide, high = _extent(domain)
    figure = new_figure(path, (10, float(np.clip(10 * high * _aspect(domain) / wide, 4, 14)) + 0.8))
    axes = figure.add_subplot()
    _fit(axes, domain)
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    return figure, axes


def _extent(domain: Domain) -> tuple[float, float]:
    """Width and height [degrees]."""
    lon, lat = domain.cells.corner_lon, domain.cells.corner_lat
    return max(float(np.ptp(lon)), 1e-6), max(float(np.ptp(lat)), 1e-6)


def _aspect(domain: Domain) -> float:
    """Degrees of latitude per degree of longitude, as long on the ground."""
    return float(1.0 / max(np.cos(np.radians(domain.cells.corner_lat.mean())), 0.1))


def _fit(axes: Axes, domain: Domain) -> None:
    """Axes of longitude and latitude about a domain."""
    lon, lat = domain.cells.corner_lon, domain.cells.corner_lat
    wide, high = _extent(domain)
    axes.set_aspect(_aspect(domain))
    axes.set_xlim(lon.min() - MARGIN * wide, lon.max() + MARGIN * wide)
    axes.set_ylim(lat.min() - MARGIN * high, lat.max() + MARGIN * high)
    axes.set_xlabel("Longitude [°]")
    axes.set_ylabel("Latitude [°]")
    axes.spines[["right", "top"]].set_visible(False)


def draw_cells(axes: Axes, domain: Domain, colours: Any) -> None:
    """Cells as they lie; colours : one, or one per cell, float[cell, 4]."""
    from matplotlib.collections import PolyCollection

    corners = np.stack([domain.cells.corner_lon, domain.cells.corner_lat], axis=2)
    edge = "white" if domain.n_cells <= MOST_OUTLINED else "face"
    axes.add_collection(PolyCollection(list(corners), facecolor=colours, edgecolor=edge, linewidth=0.4))


def draw_rivers(axes: Axes, domain: Domain, colours: Callable[[np.ndarray], Any]) -> None:
    """A line from the end of each reach to that of the next, wider downstream; the largest of too many.

    colours : from the reaches that have a line, int64[]: one, or one for each of them.
    """
    from matplotlib.collections import LineCollection

    reaches = domain.reaches
    inner = np.flatnonzero(reaches.downstream >= 0)
    if inner.size > MOST_LINES:
        inner = inner[np.argsort(reaches.upstream_area[inner])[-MOST_LINES:]]
    if not inner.size:
        return
    below = reaches.downstream[inner]
    ends = np.stack(reach_places(domain), axis=1)
    size = np.sqrt(reaches.upstream_area[inner] / reaches.upstream_area.max())
    axes.add_collection(LineCollection(
        list(np.stack([ends[inner], ends[below]], axis=1)), linewidths=0.15 + 2.6 * size, colors=colours(inner),
        capstyle="round",
    ))


def draw_gauges(axes: Axes, domain: Domain, most_named: int = MOST_NAMED) -> None:
    """Gauges, with their ids where there are not too many."""
    gauges = domain.gauges
    lon, lat = (place[gauges.reach] for place in reach_places(domain))
    axes.scatter(lon, lat, s=22, marker="v", color=GAUGE, edgecolors="white", linewidths=0.5, zorder=3)
    if len(gauges.id) <= most_named:
        for name, x, y in zip(gauges.id, lon, lat, strict=True):
            axes.annotate(
                name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…", (x, y), (3, 3),
                textcoords="offset points", fontsize=6, color=MUTED, zorder=4, parse_math=False,
            )


def plot_parameters(path: Path, domain: Domain, values: Mapping[str, np.ndarray]) -> list[str]:
    """Draw a map for each parameter that differs over its cells or reaches, as a PNG; returns their names.

    values : float64[cell | reach] by registry name; several components of a cell are left out.

    Raises
    ------
    OutputError
        The file cannot be written, or matplotlib is not there.
    """
    shown = {n: v for n, v in values.items() if v.ndim == 1 and np.ptp(v) > 0}
    if not shown:
        return []
    domain = together(domain)
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(path, (3.6 * across, 3.4 * down))
    for k, (name, own) in enumerate(shown.items()):
        axes = figure.add_subplot(down, across, k + 1)
        _draw_parameter(axes, domain, parameter(name), own)
    save_figure(path, figure)
    return list(shown)


def _draw_parameter(axes: Axes, domain: Domain, p: Parameter, values: np.ndarray) -> None:
    """Cells or reaches in the colour of a value, by its logarithm where it is learned so."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import LogNorm, Normalize

    cells, reaches = domain.cells, domain.reaches
    norm = (LogNorm if p.scale == "log" and values.min() > 0 else Normalize)(values.min(), values.max())
    drawn: PolyCollection | LineCollection
    if p.grid == "cell":
        drawn = PolyCollection(list(np.stack([cells.corner_lon, cells.corner_lat], axis=2)), edgecolor="face")
        drawn.set_array(values)
    else:
        inner = np.flatnonzero(reaches.downstream >= 0)
        ends = np.stack(reach_places(domain), axis=1)
        lines = np.stack([ends[inner], ends[reaches.downstream[inner]]], axis=1)
        drawn = LineCollection(list(lines), linewidths=2.0)
        drawn.set_array(values[inner])
    drawn.set_norm(norm)
    axes.add_collection(drawn)
    _fit(axes, domain)
    axes.set_axis_off()
    axes.set_title(f"{p.name.replace('_', ' ')} [{p.units}]", fontsize=8, parse_math=False)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.7)
