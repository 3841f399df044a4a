"""Celerity of rivers fitted by itself, gauge by gauge from upstream to downstream, to the timing of hydrographs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from bmi_cdlm.domain.domain import Domain, take_reaches
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.evaluate.metrics import pcc
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.screening import read_records
from cdlm_training.map_fit.cells import CellModel
from cdlm_training.map_fit.config import MapFit

CELERITY = "celerity"
TRIES, CLOSER = 7, 8
"""Celerities that are tried over the whole range, and steps of the golden section between the best of them."""
GOLDEN = (math.sqrt(5) - 1) / 2
Forcing = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Places of cells to what their processes read, float64[time, cell] by name."""


def fit_rivers(
    fit: MapFit, domain: Domain, values: Mapping[str, np.ndarray], gauges: Sequence[str], forcing_of: Forcing,
    workers: Workers,
) -> np.ndarray:
    """Celerity of every reach [m s-1], float64[reach], of the greatest correlation of discharge at gauges.

    A gauge sets the celerity of the reaches that drain to it through no other gauge above; those above keep theirs.
    Reaches that drain to no gauge have the median.

    Parameters
    ----------
    values : float64[cell | reach] by registry name, of the fitted cells
    gauges : ids of those that may be used; others are as if they were not there
    forcing_of : what the processes of some cells read
    """
    run = fit.run
    bounds = next(p for p in run.chain.reach.parameters if p.name == CELERITY).range_at(run.time_step)
    celerity = np.full(domain.n_reaches, np.nan)
    _, observed = read_records(run, domain.gauges.id, *(run.start + k * _step(run) for k in fit.steps))
    used = [k for k, gauge in enumerate(domain.gauges.id) if gauge in gauges and _varies(observed[:, k])]
    used.sort(key=lambda k: int(domain.gauges.reach[k]))  # a reach stands after all that drain into it
    ranges = {k: upstream_of(domain.reaches.downstream, int(domain.gauges.reach[k])) for k in used}
    found = []
    for k in used:
        lo, hi = ranges[k]
        own = np.flatnonzero(np.isnan(celerity[lo:hi])) + lo
        if not own.size:
            continue
        basin = _Basin(fit, domain, np.arange(lo, hi), values, forcing_of, workers)
        start = np.where(np.isnan(celerity[lo:hi]), bounds.default, celerity[lo:hi])
        best = _best(basin, start, own - lo, observed[:, k], fit.config.warm_up, bounds.low, bounds.high)
        celerity[own] = best
        found.append(best)
    return np.where(np.isnan(celerity), np.median(found) if found else bounds.default, celerity)


def check_rivers(run: Config) -> None:
    """Refuse a routing process that has no celerity, or no records to fit it to."""
    names = [p.name for p in run.chain.reach.parameters]
    if CELERITY not in names or run.observations is None:
        raise ConfigError(
            "map_fit.rivers fits the celerity to records: expected 'observations', and a routing process that has a "
            f"{CELERITY}; {run.chain.reach.name} has {', '.join(names) or 'none'}. Leave it out, or take muskingum."
        )


def _step(run: Config) -> np.timedelta64:
    return np.timedelta64(run.time_step, "s")


def _varies(series: np.ndarray) -> bool:
    return np.unique(series[np.isfinite(series)]).size > 2


class _Basin:
    """What drains to a gauge, with the runoff of its cells, as a function of the celerity of its reaches."""

    def __init__(
        self, fit: MapFit, domain: Domain, reaches: np.ndarray, values: Mapping[str, np.ndarray], forcing_of: Forcing,
        workers: Workers,
    ) -> None:
        run = fit.run
        part, cells = take_reaches(domain, reaches)
        own = {name: v[cells] for name, v in values.items() if name in _of_cells(run) and v.shape == (domain.n_cells,)}
        model = CellModel(run, domain, cells, forcing_of(cells), own, (), workers)
        with torch.no_grad():
            self.runoff = model.runoff(torch.empty((0, cells.size), dtype=torch.float64)).numpy()
        self.operator = ReachOperator(
            run.chain.reach, run.chain.links, part, run.time_step, run.routing_step, np.float64, workers
        )
        self.others = {
            p.name: values[p.name][reaches] if p.name in values else np.full(
                reaches.size, p.range_at(run.time_step).default
            ) for p in run.chain.reach.parameters if not p.optional
        }

    def discharge(self, celerity: np.ndarray) -> np.ndarray:
        """At the lowest reach [m3 s-1], float64[time]."""
        p = self.operator.prepare({**self.others, CELERITY: celerity})
        last = np.array([celerity.size - 1])
        return self.operator.run(self.runoff, p, np.zeros(celerity.size), last)[0][:, 0]


def _of_cells(run: Config) -> set[str]:
    return {p.name for process in run.chain.cells for p in process.parameters} | {FACTOR}


def _best(
    basin: _Basin, start: np.ndarray, own: np.ndarray, observed: np.ndarray, first: int, low: float, high: float
) -> float:
    """The celerity of some reaches with the greatest correlation: a scan in logarithms, then a golden section."""

    def score(log: float) -> float:
        celerity = start.copy()
        celerity[own] = math.exp(log)
        return pcc(basin.discharge(celerity)[first:], observed[first:])

    grid = np.linspace(math.log(low), math.log(high), TRIES)
    at = int(np.argmax([score(float(x)) for x in grid]))
    a, b = float(grid[max(0, at - 1)]), float(grid[min(TRIES - 1, at + 1)])
    x, y = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    of_x, of_y = score(x), score(y)
    for _ in range(CLOSER):
        if of_x > of_y:
            b, y, of_y = y, x, of_x
            x = b - GOLDEN * (b - a)
            of_x = score(x)
        else:
            a, x, of_x = x, y, of_y
            y = a + GOLDEN * (b - a)
            of_y = score(y)
    return math.exp((a + b) / 2)
