"""Maps of a domain: rivers, cells and gauges; parameters. Needs the extra `plot` (matplotlib), imported only when one
is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.plot import new_figure
from bmi_cdlm.names.parameters import Parameter, parameter
from bmi_cdlm.names.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIVER, CELL, GAUGE, MUTED = "#1f5a96", "#efe9dd", "#d1495b", "#666666"
MOST_LINES = 60_000
"""Reaches drawn at most, those with the largest upstream area: a picture has no room for more."""
MOST_OUTLINED = 5_000
"""Cells up to this many have outlines; more are a tint only."""
LONGEST_NAME = 30
MOST_NAMED = 80


def plot_map(path: Path, domain: Domain, title: str) -> None:
    """Draw a domain as a PNG: rivers as wide as they are large, on their cells, with the gauges.

    Raises
    ------
    OutputError
        The file cannot be written, or matplotlib is not there.
    """
    cells = domain.cells
    lon, lat = cells.corner_lon, cells.corner_lat
    aspect = 1.0 / max(np.cos(np.radians(lat.mean())), 0.1)
    height = max(np.ptp(lat), 1e-6) * aspect / max(np.ptp(lon), 1e-6)
    figure = new_figure(path, (10, float(np.clip(10 * height, 4, 14)) + 0.8))
    axes = figure.add_subplot()
    _draw_cells(axes, domain)
    _draw_rivers(axes, domain)
    _draw_gauges(axes, domain)
    axes.set_aspect(aspect)
    axes.set_xlim(lon.min(), lon.max())
    axes.set_ylim(lat.min(), lat.max())
    axes.margins(0.02)
    axes.set_xlabel("Longitude [°]")
    axes.set_ylabel("Latitude [°]")
    axes.spines[["right", "top"]].set_visible(False)
    axes.set_title(
        f"{title}: {domain.n_cells} cells, {domain.n_reaches} reaches, {len(domain.gauges.id)} gauges", loc="left",
        fontsize=11, parse_math=False,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_cells(axes: Axes, domain: Domain) -> None:
    from matplotlib.collections import PolyCollection

    corners = np.stack([domain.cells.corner_lon, domain.cells.corner_lat], axis=2)
    edge = "white" if domain.n_cells <= MOST_OUTLINED else "face"
    axes.add_collection(PolyCollection(list(corners), facecolor=CELL, edgecolor=edge, linewidth=0.4))


def _draw_rivers(axes: Axes, domain: Domain) -> None:
    """A line from the end of each reach to that of the next, wider downstream."""
    from matplotlib.collections import LineCollection

    reaches = domain.reaches
    inner = np.flatnonzero(reaches.downstream >= 0)
    if inner.size > MOST_LINES:
        inner = inner[np.argsort(reaches.upstream_area[inner])[-MOST_LINES:]]
    if not inner.size:
        return
    below = reaches.downstream[inner]
    ends = np.stack([reaches.lon, reaches.lat], axis=1)
    size = np.sqrt(reaches.upstream_area[inner] / reaches.upstream_area.max())
    axes.add_collection(LineCollection(
        list(np.stack([ends[inner], ends[below]], axis=1)), linewidths=0.15 + 2.6 * size, colors=RIVER,
        capstyle="round",
    ))


def _draw_gauges(axes: Axes, domain: Domain) -> None:
    gauges, reaches = domain.gauges, domain.reaches
    lon, lat = reaches.lon[gauges.reach], reaches.lat[gauges.reach]
    axes.scatter(lon, lat, s=22, marker="v", color=GAUGE, edgecolors="white", linewidths=0.5, zorder=3)
    if len(gauges.id) <= MOST_NAMED:
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
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(path, (3.6 * across, 3.4 * down))
    for k, (name, own) in enumerate(shown.items()):
        axes = figure.add_subplot(down, across, k + 1)
        _draw_parameter(axes, domain, parameter(name), own)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
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
        ends = np.stack([reaches.lon, reaches.lat], axis=1)
        lines = np.stack([ends[inner], ends[reaches.downstream[inner]]], axis=1)
        drawn = LineCollection(list(lines), linewidths=2.0)
        drawn.set_array(values[inner])
    drawn.set_norm(norm)
    axes.add_collection(drawn)
    axes.set_aspect(1.0 / max(np.cos(np.radians(cells.corner_lat.mean())), 0.1))
    axes.set_xlim(cells.corner_lon.min(), cells.corner_lon.max())
    axes.set_ylim(cells.corner_lat.min(), cells.corner_lat.max())
    axes.set_axis_off()
    axes.set_title(f"{p.name.replace('_', ' ')} [{p.units}]", fontsize=8, parse_math=False)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.7)
