"""Pictures as files: flow duration, a field on the map, series of stores. Matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.places import reach_places, together
from bmi_cdlm.evaluate.plot import (
    OBSERVED,
    SIMULATED,
    date_axis,
    new_figure,
    quiet_axes,
    save_figure,
    step_edges,
    write_heading,
)
from bmi_cdlm.evaluate.plot_map import CELL, MOST_LINES, draw_cells, draw_gauges, draw_rivers, new_map
from bmi_cdlm.names.calendars import on_axis
from bmi_cdlm.pictures.fields import MapField

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

FAINT_RIVER, OTHER_RIVER, MISSING = "#28405a66", "#9db4c9", "#c9ced4"
MAPS = {"viridis": "viridis", "cividis": "cividis", "diverging": "PuOr"}
FLOW = ("#b9d3e8", "#66a2cf", "#2f6ba9", "#243a78", "#230f42")
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1a1a1a", "#7a5195")
SMALL, FEW_CELLS = 0.008, 3000
"""Width of a cell over that of the map below which it is shown as a square of its own, where there are few."""
MOST_NAMED = 20
"""Gauges that are named on the map of a field."""


def plot_duration(path: Path, simulated: np.ndarray, observed: np.ndarray, title: str, told: str) -> None:
    """Draw flow duration curves, float[time] each, at the steps that both have (those of one, if it is alone)."""
    figure = new_figure(path, (8, 5.2))
    axes = figure.add_subplot()
    both = ~(np.isnan(simulated) | np.isnan(observed))
    alone = not both.any()
    for label, values, colour in (("observed", observed, OBSERVED), ("simulated", simulated, SIMULATED)):
        known = np.sort(values[~np.isnan(values)] if alone else values[both])[::-1]
        if known.size:
            share = 100 * (np.arange(known.size) + 0.5) / known.size
            axes.plot(share, np.where(known > 0, known, np.nan), color=colour, linewidth=1.4, label=label)
    axes.set_yscale("log")
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of time that discharge is exceeded [%]")
    axes.set_ylabel("Discharge [m³ s⁻¹]")
    quiet_axes(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper right")
    write_heading(axes, title, told)
    save_figure(path, figure)


def plot_series(
    path: Path, starts: np.ndarray, series: Mapping[str, np.ndarray], ylabel: str, title: str
) -> None:
    """Draw series by name, float[time], over steps from `starts`."""
    from matplotlib.dates import date2num

    figure = new_figure(path, (10, 4.6))
    axes = figure.add_subplot()
    days = date2num(step_edges(on_axis(starts)))
    for k, (name, values) in enumerate(series.items()):
        axes.stairs(values, days, baseline=None, color=LINES[k % len(LINES)], linewidth=1.3, label=name)
    axes.set_ylabel(ylabel)
    date_axis(axes, days)
    if all(np.nanmin(v, initial=0.0) >= 0 for v in series.values()):
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", ncols=3)
    axes.margins(y=0.2)
    write_heading(axes, title, "")
    save_figure(path, figure)


def plot_field(path: Path, domain: Domain, field: MapField, title: str) -> None:
    """Draw a field on the map of its domain, with its colours and their units on the right."""
    domain, size = together(domain), domain.n_reaches
    more = f" (the {MOST_LINES} largest of {size} reaches)" if size > MOST_LINES and field.on == "reach" else ""
    figure, axes = new_map(path, domain, f"{title}{more}")
    scale, (low, _, lower, higher) = _scale(field), field.scale()
    if field.on == "cell":
        _draw_cells(axes, domain, _colours(scale, low, field.values))
    else:
        draw_cells(axes, domain, CELL)
    if field.on == "reach":
        _draw_reaches(axes, domain, _colours(scale, low, field.values))
    else:
        draw_rivers(axes, domain, lambda inner: FAINT_RIVER if field.on == "cell" else OTHER_RIVER)
    if field.on == "gauge":
        lon, lat = (place[domain.gauges.reach] for place in reach_places(domain))
        axes.scatter(
            lon, lat, s=46, color=_colours(scale, low, field.values), edgecolors="#3a4450", linewidths=0.6, zorder=3
        )
    elif field.on == "reach" and domain.outlets.size < domain.n_reaches:
        draw_gauges(axes, domain, MOST_NAMED)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    figure.colorbar(scale, ax=axes, label=field.label, extend=beyond[lower, higher], shrink=0.8, pad=0.02)
    save_figure(path, figure)


def _scale(field: MapField) -> ScalarMappable:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    low, high, _, _ = field.scale()
    norm = LogNorm(low, high) if field.log else Normalize(low, high)
    known = MAPS.get(field.colours)
    return ScalarMappable(norm, colormaps[known] if known else LinearSegmentedColormap.from_list("flow", FLOW))


def _colours(scale: ScalarMappable, low: float, values: np.ndarray) -> np.ndarray:
    """Colours of values, float[place, 4]; what is missing is grey, what a logarithm has not is the least."""
    from matplotlib.colors import LogNorm, to_rgba

    known = values > 0 if isinstance(scale.norm, LogNorm) else ~np.isnan(values)
    found: np.ndarray = np.asarray(scale.to_rgba(np.where(known, values, low)))
    found[np.isnan(values)] = to_rgba(MISSING)
    return found


def _draw_cells(axes: Axes, domain: Domain, colours: np.ndarray) -> None:
    """Cells as they lie; where they are few and far apart, small ones are squares that one can see."""
    cells = domain.cells
    draw_cells(axes, domain, colours)
    wide = np.ptp(cells.corner_lon, axis=1) / max(float(np.ptp(cells.corner_lon)), 1e-12)
    small = wide < SMALL
    if cells.area.size < FEW_CELLS and small.any():
        axes.scatter(cells.lon[small], cells.lat[small], s=22, marker="s", color=colours[small], linewidths=0)


def _draw_reaches(axes: Axes, domain: Domain, colours: np.ndarray) -> None:
    """Lines, and a dot where a reach has none: at outlets, and wherever basins are a reach each."""
    draw_rivers(axes, domain, lambda inner: _rows(colours, inner))
    ends = domain.outlets
    alone = ends.size == domain.n_reaches
    lon, lat = reach_places(domain)
    axes.scatter(
        lon[ends], lat[ends], s=24 if alone else 8, color=colours[ends], zorder=2.5
    )


def _rows(colours: np.ndarray, places: np.ndarray) -> Any:
    return colours[places]
