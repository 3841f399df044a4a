"""Scores and hydrographs of a finished run at its gauges."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.plot import plot_hydrograph
from bmi_cdlm.evaluate.product import read_product
from bmi_cdlm.evaluate.signatures import means_over
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.file_names import file_names
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.ensemble import read_members
from bmi_cdlm.run.screening import screened_out

logger = logging.getLogger(__name__)


class GaugeResult(NamedTuple):
    """One gauge: id and name; starts : datetime64[time]; discharge [m3 s-1] : float64[time]; its scores; area [km2],
    official where known, else that of the network; against : the discharge of another model and its scores, or None.
    """

    gauge_id: str
    name: str
    starts: np.ndarray
    simulated: np.ndarray
    observed: np.ndarray
    scores: dict[str, float]
    area: float = math.nan
    against: tuple[np.ndarray, dict[str, float]] | None = None

    @property
    def title(self) -> str:
        """Name and id."""
        return self.gauge_id if self.name == self.gauge_id else f"{self.name} ({self.gauge_id})"


class Wanted(NamedTuple):
    """What of a run is scored: first and last : begin and end (exclusive) of the period, None for that of the output;
    by : the output's own steps, or means of days or months; against : discharge of another model, None without.
    """

    first: np.datetime64 | None = None
    last: np.datetime64 | None = None
    by: Literal["step", "day", "month"] = "step"
    against: Path | None = None


EVERYTHING = Wanted()


def evaluate(config: Config, wanted: Wanted = EVERYTHING) -> list[GaugeResult]:
    """Score the output of a run against observed discharge, gauge by gauge.

    Raises
    ------
    ConfigError
        The configuration names no output at gauges, or no observations; the output does not reach over the period.
    """
    output, observations = config.output, config.observations
    if output is None or observations is None or config.output_at != "gauges":
        raise ConfigError(
            f"evaluate needs 'output', 'observations' and output_at: gauges; got output {output}, observations "
            f"{observations}, output_at {config.output_at}. Add them to the configuration."
        )
    domain = read_domain(config.domain)
    names, areas = dict(zip(*_gauges(domain), strict=True)), gauge_areas(domain)
    starts, gauge_id, simulated = read_output(output, "discharge")
    out = screened_out(config.screening, gauge_id)
    kept = [k for k, gauge in enumerate(gauge_id) if gauge not in out]
    if not kept:
        raise ConfigError(f"{output}: screening leaves out every gauge. Expected one that counts.")
    gauge_id, simulated = [gauge_id[k] for k in kept], simulated[:, kept]
    unknown = [gauge for gauge in gauge_id if gauge not in areas]
    if unknown:
        logger.warning(
            "%s: gauge %s (of %d) is not in %s, so that its area and its rain are not known: the domain is not that of "
            "the run", output, unknown[0], len(unknown), config.domain,
        )
    step = config.time_step * config.steps_per_output
    inside = _period(starts, step, wanted, output)
    starts, simulated = starts[inside], simulated[inside]
    end = starts[-1] + np.timedelta64(step, "s")
    _, observed = read_observations(observations, gauge_id, starts[0], end, step)
    other = None if wanted.against is None else read_product(
        wanted.against, domain, gauge_id, [areas.get(g, math.nan) for g in gauge_id], starts, step,
        monthly=wanted.by == "month",
    )
    if other is not None:  # both models are scored where both have a value
        simulated = np.where(np.isnan(other), np.nan, simulated)

    members = read_members(output, "discharge")
    members = None if members is None else members[:, inside][:, :, kept]
    if members is not None and other is not None:
        members = np.where(np.isnan(other), np.nan, members)

    def scored(
        series: np.ndarray, place: int, spread: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, float]]:
        s, o, at = series[:, place], observed[:, place], starts
        each = None if spread is None else spread[:, :, place]
        if wanted.by != "step":
            each = None if each is None else np.stack([means_over(one, o, starts, wanted.by)[0] for one in each])
            s, o, at = means_over(s, o, starts, wanted.by)
        return s, o, at, scores(s, o, at, areas.get(gauge_id[place], math.nan), each)

    results = []
    for place, gauge in enumerate(gauge_id):
        s, o, at, own = scored(simulated, place, members)
        against = None if other is None else scored(other, place)
        results.append(GaugeResult(
            gauge, names.get(gauge, gauge), at, s, o, own, areas.get(gauge, math.nan),
            None if against is None else (against[0], against[3]),
        ))
    return results


def _period(starts: np.ndarray, step: int, wanted: Wanted, output: Path) -> slice:
    """Rows of an output that lie in the period that is wanted."""
    end = starts[-1] + np.timedelta64(step, "s")
    first = starts[0] if wanted.first is None else wanted.first
    last = end if wanted.last is None else wanted.last
    if not (starts[0] <= first < last <= end):
        raise ConfigError(
            f"{output}: has {date_text(starts[0])} to {date_text(end)}, expected a period within it, got "
            f"{date_text(first)} to {date_text(last)}. Choose another with --from and --to, or run over a longer time."
        )
    return slice(int(np.searchsorted(starts, first)), int(np.searchsorted(starts, last)))


def gauge_areas(domain: Domain) -> dict[str, float]:
    """Area of every gauge [km2]: the official one where it is known, else that of the network."""
    drained = domain.reaches.upstream_area[domain.gauges.reach]
    areas = np.where(np.isfinite(domain.gauges.area), domain.gauges.area, drained)
    return dict(zip(domain.gauges.id, areas.tolist(), strict=True))


def draw(
    config: Config, results: list[GaugeResult], progress: Callable[[int], None] = lambda pictures: None,
    folder: Path | None = None, suffix: str = ".png",
) -> list[Path]:
    """Draw one hydrograph per gauge into a folder (that of the output file); return the paths.

    progress : told of each picture.
    """
    assert config.output is not None
    rain = rain_above(config, results)
    paths, names = [], file_names(result.gauge_id for result in results)
    for result in results:
        path = (folder or config.output.parent) / f"{config.output.stem}_{names[result.gauge_id]}{suffix}"
        title = result.title
        above = None if rain is None else rain.get(result.gauge_id)
        plot_hydrograph(path, result.starts, result.simulated, result.observed, above, title, result.scores)
        paths.append(path)
        progress(1)
    return paths


def rain_above(config: Config, results: Sequence[GaugeResult]) -> dict[str, np.ndarray] | None:
    """Mean rain above each gauge at the steps of results [mm per step]; None without a forcing file, or of means."""
    starts, step = results[0].starts, np.timedelta64(config.time_step * config.steps_per_output, "s")
    if starts.size > 1 and starts[1] - starts[0] != step:
        return None
    return basin_rain(config, read_domain(config.domain), (starts[0], starts[-1] + step))


def basin_rain(
    config: Config, domain: Domain, period: tuple[np.datetime64, np.datetime64] | None = None
) -> dict[str, np.ndarray] | None:
    """Mean precipitation above each gauge [mm per step of the output], float64[time]; None without a forcing file that
    has it.

    period : begin and end (exclusive), whole steps of the output; None for those of the run.
    """
    if config.forcing == "caller" or "precipitation" not in config.inputs:
        return None
    weights = {g: cell_weights(domain, int(r)) for g, r in zip(domain.gauges.id, domain.gauges.reach, strict=True)}
    first, last = (config.start, config.end) if period is None else period
    with ForcingFile(
        Path(config.forcing), ["precipitation"], domain.cells.id, first, last, config.time_step, config.forcing_fill,
        bridges=config.bridges,
    ) as forcing:
        rates = forcing.read(0, forcing.n_steps)["precipitation"]
    depth = {g: rates @ w * (config.time_step / DAY) for g, w in weights.items()}
    return {g: values.reshape(-1, config.steps_per_output).sum(axis=1) for g, values in depth.items()}


def cell_weights(domain: Domain, reach: int) -> np.ndarray:
    """Share of each cell in the area above a reach, float64[cell]."""
    links, weights = domain.links, np.zeros(domain.n_cells)
    lo, hi = upstream_of(domain.reaches.downstream, reach)
    first, last = links.first[lo], links.first[hi]
    np.add.at(weights, links.cell[first:last], links.area[first:last])
    return weights / max(weights.sum(), 1e-12)


def _gauges(domain: Domain) -> tuple[list[str], list[str]]:
    return domain.gauges.id, domain.gauges.name
