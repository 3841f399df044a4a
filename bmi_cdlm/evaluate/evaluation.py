"""Scores and hydrographs of a finished run at its gauges."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.evaluate.metrics import scores
from bmi_cdlm.evaluate.plot import plot_hydrograph
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.file_names import file_names
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import Config


class GaugeResult(NamedTuple):
    """One gauge: id and name; starts : datetime64[time]; discharge [m3 s-1] : float64[time]; its scores."""

    gauge_id: str
    name: str
    starts: np.ndarray
    simulated: np.ndarray
    observed: np.ndarray
    scores: dict[str, float]


def evaluate(config: Config) -> list[GaugeResult]:
    """Score the output of a run against observed discharge, gauge by gauge.

    Raises
    ------
    ConfigError
        The configuration names no output at gauges, or no observations.
    """
    output, observations = config.output, config.observations
    if output is None or observations is None or config.output_at != "gauges":
        raise ConfigError(
            f"evaluate needs 'output', 'observations' and output_at: gauges; got output {output}, observations "
            f"{observations}, output_at {config.output_at}. Add them to the configuration."
        )
    names = dict(zip(*_gauges(read_domain(config.domain)), strict=True))
    starts, gauge_id, simulated = read_output(output, "discharge")
    step = config.time_step * config.steps_per_output
    end = starts[-1] + np.timedelta64(step, "s")
    _, observed = read_observations(observations, gauge_id, starts[0], end, step)
    return [
        GaugeResult(g, names.get(g, g), starts, s, o, scores(s, o, starts))
        for g, s, o in zip(gauge_id, simulated.T, observed.T, strict=True)
    ]


def draw(config: Config, results: list[GaugeResult]) -> list[Path]:
    """Draw one hydrograph per gauge beside the output file; return the paths."""
    assert config.output is not None
    rain = basin_rain(config, read_domain(config.domain))
    paths, names = [], file_names(result.gauge_id for result in results)
    for result in results:
        path = config.output.with_name(f"{config.output.stem}_{names[result.gauge_id]}.png")
        title = result.gauge_id if result.name == result.gauge_id else f"{result.name} ({result.gauge_id})"
        above = None if rain is None else rain[result.gauge_id][: result.starts.size]
        plot_hydrograph(path, result.starts, result.simulated, result.observed, above, title, result.scores)
        paths.append(path)
    return paths


def basin_rain(config: Config, domain: Domain) -> dict[str, np.ndarray] | None:
    """Mean precipitation above each gauge [mm per step of the output], float64[time]; None without a forcing file."""
    if config.forcing == "caller":
        return None
    weights = {g: _cell_weights(domain, int(r)) for g, r in zip(domain.gauges.id, domain.gauges.reach, strict=True)}
    with ForcingFile(
        Path(config.forcing), ["precipitation"], domain.cells.id, config.start, config.end, config.time_step,
        config.forcing_fill,
    ) as forcing:
        rates = forcing.read(0, config.n_steps)["precipitation"]
    depth = {g: rates @ w * (config.time_step / DAY) for g, w in weights.items()}
    return {g: values.reshape(-1, config.steps_per_output).sum(axis=1) for g, values in depth.items()}


def _cell_weights(domain: Domain, reach: int) -> np.ndarray:
    """Share of each cell in the area above a reach, float64[cell]."""
    links, weights = domain.links, np.zeros(domain.n_cells)
    lo, hi = upstream_of(domain.reaches.downstream, reach)
    first, last = links.first[lo], links.first[hi]
    np.add.at(weights, links.cell[first:last], links.area[first:last])
    return weights / max(weights.sum(), 1e-12)


def _gauges(domain: Domain) -> tuple[list[str], list[str]]:
    return domain.gauges.id, domain.gauges.name
