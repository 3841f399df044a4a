"""A basin in one picture: its map beside the hydrograph of a gauge. Needs the extra `plot` (matplotlib)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.catalogue import score_words
from bmi_cdlm.evaluate.evaluation import GaugeResult
from bmi_cdlm.evaluate.plot import draw_hydrograph, new_figure
from bmi_cdlm.evaluate.plot_map import draw_map
from bmi_cdlm.names.writing import replacing


def plot_overview(path: Path, domain: Domain, gauge: GaugeResult, rain: np.ndarray | None, title: str) -> None:
    """Draw a map of the domain and the hydrograph of a gauge as a PNG.

    rain : mean above the gauge [mm per step], float64[time], or None.

    Raises
    ------
    OutputError
        The file cannot be written, or matplotlib is not there.
    """
    figure = new_figure(path, (12, 4.6))
    grid = figure.add_gridspec(1, 2, width_ratios=(1, 2.1))
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    axes = left.add_subplot()
    draw_map(axes, domain)
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=10, parse_math=False)
    draw_hydrograph(
        right, gauge.starts, gauge.simulated, gauge.observed, rain, f"Discharge at {gauge.gauge_id}",
        score_words(gauge.scores),
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
