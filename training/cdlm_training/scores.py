"""Scores of a checkpoint, run by the runtime itself in float64."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain, take_reaches
from bmi_cdlm.domain.network import NONE, upstream_of
from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.names.calendars import year_length
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameters import read_any_parameters, read_elevation, read_lstm
from bmi_cdlm.run.partition import Part
from bmi_cdlm.run.screening import read_records
from bmi_cdlm.run.simulation import Simulation


class Scores(NamedTuple):
    """Mean NSE and KGE over the training gauges in the validation period, both per gauge of the domain, and medians."""

    nse: float
    kge: float
    gauges: dict[str, tuple[float, float]]
    median_nse: float = float("nan")
    median_kge: float = float("nan")


class GaugeRuns:
    """Runs of a configuration, one checkpoint or parameter file after the other, of all that drains to a gauge.

    The bits are those of a run of the whole domain: a basin does not depend on what is beside it. Domain and forcing
    are checked, and the model's memory is taken, once. Whoever makes it closes it.

    Parameters
    ----------
    run : Config
    end : datetime64, optional
        Where to stop; at the end of the run where None.
    """

    def __init__(self, run: Config, end: np.datetime64 | None = None) -> None:
        if end is not None and not run.before_start:  # a spin-up runs a year of the record
            year = run.start + np.timedelta64(year_length(run.start) * DAY, "s")
            run = run.model_copy(update={"end": min(run.end, max(end, year))})
        self._run = run.model_copy(update={"member": None})
        self._simulation: Simulation | None = None
        self._domain: Domain | None = None

    def __call__(self, parameters: Path) -> tuple[list[str], np.ndarray]:
        """Gauge ids and discharge [m3 s-1], float64[time, gauge]."""
        simulation, parts = self._begin(self._run.model_copy(update={"parameters": parameters})), list[np.ndarray]()
        simulation.run_blocks(
            ["gauge_discharge"], lambda starts, values: parts.append(values["gauge_discharge"].copy())
        )
        return simulation.model.domain.gauges.id, np.concatenate(parts)

    def _begin(self, run: Config) -> Simulation:
        if isinstance(run.initial_state, Path) or run.ledger_tolerance is not None:  # of the whole domain
            self.close()
            self._simulation = Simulation(run)
            return self._simulation
        if self._domain is None:
            self._domain = read_domain(run.domain)
        whole = self._domain
        ranges = [upstream_of(whole.reaches.downstream, int(r)) for r in whole.gauges.reach]
        reaches = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.arange(lo, hi) for lo, hi in ranges)]))
        domain, cells = take_reaches(whole, reaches)
        values, pet = read_any_parameters(run, whole, {"cell": cells, "reach": reaches})
        lstm = read_lstm(run, whole)
        if self._simulation is not None and lstm is None:
            self._simulation.reset(values, pet)
            return self._simulation
        self.close()
        self._simulation = Simulation(run, Part(
            domain, values, pet, read_elevation(run, whole)[cells], cells, reaches, whole.n_cells, NONE, NONE, (),
            None if lstm is None else lstm.of_cells(cells),
        ))
        return self._simulation

    def close(self) -> None:
        """Close files and threads."""
        if self._simulation is not None:
            self._simulation.close()
        self._simulation = None


def simulate_gauges(run: Config, parameters: Path) -> tuple[list[str], np.ndarray]:
    """Run the model with a checkpoint or parameter file; gauge ids and discharge [m3 s-1], float64[time, gauge]."""
    with closing(GaugeRuns(run)) as runs:
        return runs(parameters)


def score(
    run: Config, trained: Collection[str], ids: list[str], simulated: np.ndarray,
    period: tuple[np.datetime64, np.datetime64],
) -> Scores:
    """Score a simulation from the start of the record on, to the end of a period at least, in that period.

    trained : ids of the gauges whose mean and median are taken; a gauge that is held out chooses no epoch.
    """
    assert run.observations is not None
    _, observed = read_records(run, ids, run.start, run.end)
    first, last = (int((t - run.start).astype(int)) // run.time_step for t in period)
    gauges = {
        g: (nse(s, o), kge(s, o)) for g, s, o in zip(ids, simulated[first:last].T, observed[first:last].T, strict=True)
    }
    chosen = [gauges[g] for g in ids if g in trained]
    columns = [column[~np.isnan(column)] for column in np.array(chosen).T]
    means, medians = ([float(of(c)) if c.size else float("nan") for c in columns] for of in (np.mean, np.median))
    return Scores(means[0], means[1], gauges, medians[0], medians[1])


class Epoch(NamedTuple):
    """What one epoch gave: mean loss, validation scores, seconds."""

    number: int
    loss: float
    scores: Scores
    seconds: float
