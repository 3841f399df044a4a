"""A map of network, cells and gauges. Needs matplotlib, which is imported only when it is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.errors import OutputError
from bmi_cdlm.files import replacing
from bmi_cdlm.prepare.catchments import Cells, Drainage, Reaches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bmi_cdlm.prepare.snapping import SnappedGauges

LAND, EDGE, RIVER, GAUGE, TEXT = "#f2efe6", "#d8d2c0", "#2b6ca3", "#d1495b", "#333333"
MOST_REACHES = 60_000  # more lines than a picture can show: the smallest rivers are left out
MOST_CELLS = 5_000  # from here on edges of cells would cover the map
MOST_NAMES = 60


def draw_map(path: Path, drainage: Drainage, gauges: SnappedGauges | None, title: str) -> None:
    """Draw cells, rivers (wider with their upstream area) and gauges as a PNG.

    Raises
    ------
    OutputError
        The file cannot be written, or matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise OutputError(
            f"{path}: cannot be drawn without matplotlib. Install it with `pip install bmi-cdlm[plot]`."
        ) from cause
    cells, reaches = drainage.cells, drainage.reaches
    west, east = cells.corner_lon.min(), cells.corner_lon.max()
    south, north = cells.corner_lat.min(), cells.corner_lat.max()
    shrink = np.cos(np.radians((south + north) / 2.0))  # a degree of longitude against one of latitude
    width, height = (east - west) * shrink, north - south
    scale = 9.0 / max(width, height)
    size = max(width * scale, 4.0) + 1.0, max(height * scale, 3.0) + 1.2
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect(1.0 / shrink)
    _draw_cells(axes, cells)
    _draw_rivers(axes, reaches)
    if gauges is not None:
        _draw_gauges(axes, reaches, gauges)
    margin = 0.02 * max(east - west, north - south)
    axes.set_xlim(west - margin, east + margin)
    axes.set_ylim(south - margin, north + margin)
    axes.tick_params(labelsize=8, colors=TEXT, length=2)
    axes.set_xlabel("longitude [°]", fontsize=8, color=TEXT)
    axes.set_ylabel("latitude [°]", fontsize=8, color=TEXT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    area = reaches.upstream_area[reaches.downstream < 0].sum()
    axes.set_title(
        f"{title}\n{reaches.id.size:,} reaches, {cells.id.size:,} cells, "
        f"{len(gauges.sites) if gauges is not None else 0:,} gauges, {area:,.0f} km²",
        loc="left", fontsize=10, color=TEXT,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_cells(axes: Axes, cells: Cells) -> None:
    from matplotlib.collections import PolyCollection

    corners = np.stack([cells.corner_lon, cells.corner_lat], axis=2)
    few = cells.id.size <= MOST_CELLS
    axes.add_collection(PolyCollection(
        list(corners), facecolor=LAND, edgecolor=EDGE if few else LAND, linewidth=0.4 if few else 0.2, zorder=1,
    ))


def _draw_rivers(axes: Axes, reaches: Reaches) -> None:
    """A line from the end of every reach to that of the one below."""
    from matplotlib.collections import LineCollection

    inner = np.flatnonzero(reaches.downstream >= 0)
    inner = inner[np.argsort(reaches.upstream_area[inner])][-MOST_REACHES:]
    below = reaches.downstream[inner]
    places = np.stack([reaches.lon, reaches.lat], axis=1)
    share = reaches.upstream_area[inner] / max(float(reaches.upstream_area.max()), 1e-12)
    axes.add_collection(LineCollection(
        list(np.stack([places[inner], places[below]], axis=1)), colors=RIVER, linewidths=0.15 + 2.2 * np.sqrt(share),
        capstyle="round", zorder=2,
    ))


def _draw_gauges(axes: Axes, reaches: Reaches, gauges: SnappedGauges) -> None:
    lon, lat = reaches.lon[gauges.reach], reaches.lat[gauges.reach]
    axes.scatter(lon, lat, s=36, marker="^", color=GAUGE, edgecolor="white", linewidth=0.6, zorder=3)
    if len(gauges.sites) <= MOST_NAMES:
        for site, x, y in zip(gauges.sites, lon.tolist(), lat.tolist(), strict=True):
            axes.annotate(
                site.id, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=6.5, color=TEXT, zorder=4,
            )
