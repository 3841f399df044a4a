"""Hydrographs. Needs the extra `plot` (matplotlib), which is imported only when a picture is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmi_cdlm.evaluate.catalogue import score_words
from bmi_cdlm.evaluate.signatures import slow_flow
from bmi_cdlm.names.calendars import on_axis
from bmi_cdlm.names.errors import OutputError
from bmi_cdlm.names.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

OBSERVED, SIMULATED, RAIN = "#1a1a1a", "#d1495b", "#5b8db8"
MUTED, GRID = "#666666", "#e6e6e6"
LONGEST_TITLE = 60


def plot_hydrograph(
    path: Path, starts: np.ndarray, simulated: np.ndarray, observed: np.ndarray | None,
    rain: np.ndarray | None, title: str, scores: Mapping[str, float],
) -> None:
    """Draw the hydrograph of a gauge, as PNG or SVG by the suffix: discharge below, rain hanging from the top.

    Parameters
    ----------
    path : Path
    starts : datetime64[time]
        Begins of the steps; a discharge is drawn as a step from there on.
    simulated, observed : float[time]
        Discharge [m3 s-1]; NaN leaves a gap. Without observations, None.
    rain : float[time]
        Precipitation, mean over the basin [mm per step], or None.
    title : str
        Name of the gauge.
    scores : mapping of str to float
        What `catalogue.scores` returned; some of it is written below the title.

    Raises
    ------
    OutputError
        The file cannot be written, or matplotlib is not there.
    """
    figure = new_figure(path, (10, 5.2))
    draw_hydrograph(figure, starts, simulated, observed, rain, title, score_words(scores))
    save_figure(path, figure)


def draw_hydrograph(
    figure: Figure | SubFigure, starts: np.ndarray, simulated: np.ndarray, observed: np.ndarray | None,
    rain: np.ndarray | None, title: str, told: str,
) -> None:
    """Draw a hydrograph into a figure, or a part of one; arguments as of `plot_hydrograph`, told : on the right."""
    _draw(figure, step_edges(on_axis(np.asarray(starts))), simulated, observed, rain)
    write_heading(figure.axes[0], title, told)


def plot_event(
    path: Path, starts: np.ndarray, simulated: np.ndarray, observed: np.ndarray, rain: np.ndarray, title: str, told: str
) -> None:
    """Draw a flood as a PNG: as `plot_hydrograph`, with the baseflow of both flows; told : what stands on its right."""
    figure = new_figure(path, (10, 5.2))
    edges = step_edges(on_axis(np.asarray(starts)))
    below = _draw(figure, edges, simulated, observed, rain)
    _draw_baseflow(below, edges, simulated, observed)
    _save(path, figure, title, told)


def _draw(
    figure: Figure | SubFigure, edges: np.ndarray, simulated: np.ndarray, observed: np.ndarray | None,
    rain: np.ndarray | None,
) -> Axes:
    """Rain, where there is some, above discharge, whose axes are returned."""
    if rain is None:
        below = figure.add_subplot()
    else:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
        _draw_rain(above, edges, np.asarray(rain, np.float64))
    _draw_discharge(below, edges, simulated, observed)
    return below


def _save(path: Path, figure: Figure, title: str, told: str) -> None:
    write_heading(figure.axes[0], title, told)
    save_figure(path, figure)


def save_figure(path: Path, figure: Figure) -> None:
    """Write a picture in the format that its suffix names, such as `.png` or `.svg`."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."))


def new_figure(path: Path, size: tuple[float, float]) -> Figure:
    """An empty picture for a file, of a size in inches; OutputError where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise OutputError(
            f"{path}: cannot be drawn without matplotlib. Install it with `pip install bmi-cdlm[plot]`."
        ) from cause
    return Figure(figsize=size, dpi=150, layout="constrained")


def _draw_rain(axes: Axes, edges: np.ndarray, rain: np.ndarray) -> None:
    from matplotlib.dates import date2num

    axes.stairs(rain, date2num(edges), fill=True, color=RAIN)
    largest = np.nanmax(rain, initial=0.0)
    axes.set_ylim(1.08 * largest if largest > 0 else 1.0, 0.0)
    axes.set_ylabel(f"Rain [mm {_step_name(edges)}]")
    axes.spines[["right", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_discharge(
    axes: Axes, edges: np.ndarray, simulated: np.ndarray, observed: np.ndarray | None
) -> None:
    from matplotlib.dates import date2num

    days, largest = date2num(edges), 0.0
    for label, values, colour in (("observed", observed, OBSERVED), ("simulated", simulated, SIMULATED)):
        if values is None or np.isnan(values).all():
            continue
        axes.stairs(values, days, baseline=None, color=colour, linewidth=1.2, label=label)
        largest = max(largest, float(np.nanmax(values)))
    axes.set_ylim(0.0, 1.06 * largest if largest > 0 else 1.0)
    axes.set_ylabel("Discharge [m³ s⁻¹]")
    date_axis(axes, days)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="upper right", ncols=2)


def date_axis(axes: Axes, days: np.ndarray) -> None:
    """Dates along the bottom, from the first to the last of days as matplotlib counts them; a quiet grid."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_xlim(days[0], days[-1])
    locator = AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    quiet_axes(axes)


def quiet_axes(axes: Axes) -> None:
    """No box, and a quiet grid below what is drawn."""
    axes.spines[["right", "top"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_baseflow(axes: Axes, edges: np.ndarray, simulated: np.ndarray, observed: np.ndarray) -> None:
    from matplotlib.dates import date2num

    for label, values, colour in (("baseflow", observed, OBSERVED), ("", simulated, SIMULATED)):
        slow = slow_flow(values)
        axes.stairs(slow, date2num(edges), baseline=None, color=colour, linewidth=1.0, linestyle=":", label=label)
    axes.legend(frameon=False, loc="upper right", ncols=3)


def write_heading(axes: Axes, title: str, told: str) -> None:
    """Write the title of a picture, and on its right what else is told."""
    title = title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=10, parse_math=False)
    axes.set_title(told.replace("-", "−"), loc="right", fontsize=10, color=MUTED, pad=10)


def step_edges(starts: np.ndarray) -> np.ndarray:
    """Return the begins of the steps and the end of the last, datetime64[s][time + 1]."""
    step = starts[1] - starts[0] if starts.size > 1 else np.timedelta64(86400, "s")
    return np.append(starts, starts[-1:] + step)


def _step_name(edges: np.ndarray) -> str:
    hours = float((edges[1] - edges[0]) / np.timedelta64(1, "h"))
    return {1.0: "h⁻¹", 24.0: "d⁻¹"}.get(hours, f"per {hours:g} h")
