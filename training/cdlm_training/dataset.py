"""What a training sees: forcing, observations and windows of a domain, in the precision of the training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.parameter_set import check_attributes
from bmi_cdlm.names.calendars import date_text, year_length
from bmi_cdlm.names.errors import ConfigError, ObservationError
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.gauges.hierarchy import fold_gauges
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameters import make_demand, make_forcing, parameters_of_domain, read_elevation
from bmi_cdlm.run.screening import read_records, screened_out
from cdlm_training.config import Period, TrainConfig

BLOCK_VALUES = 2**24
"""Values of inputs that are read at once."""
SPREAD_FLOOR = 0.1
"""Depth [mm d-1] added to a gauge's standard deviation."""
OFFSET = 0.01
"""Share of a gauge's mean observation that transforms add to its flow [Pushpalatha et al. 2012]."""
logger = logging.getLogger(__name__)


class Window(NamedTuple):
    """Steps of the record to run, warm-up first; `counted` of them, at the end, count in the loss.

    steps : int64[time], or int64[time, cell] where cells run in steps of their own; at_gauges : then int64[time,
    gauge].
    """

    steps: np.ndarray
    counted: int
    at_gauges: np.ndarray | None = None

    @property
    def run_of_record(self) -> slice | None:
        """The steps as a slice of the record, where they follow each other in it and are those of all cells."""
        if self.steps.ndim > 1 or not self.steps.size or (np.diff(self.steps) != 1).any():
            return None
        return slice(int(self.steps[0]), int(self.steps[-1]) + 1)

    @property
    def target(self) -> np.ndarray:
        """The counted steps, [time] or [time, gauge]."""
        steps = self.steps if self.at_gauges is None else self.at_gauges
        return steps[steps.shape[0] - self.counted :]

    def observed(self, values: np.ndarray, gauges: np.ndarray) -> np.ndarray:
        """Values [time, gauge] of the record at some gauges in the counted steps."""
        rows = self.target if self.at_gauges is not None else self.target[:, None]
        return values[rows, gauges]


class Dataset:
    """Forcing and observations of a run, over its whole record.

    Attributes
    ----------
    forcing : dict of [time, cell]
        What the model reads, by registry short names and units: demand as given, or by the formula of the run.
    day_of_year : [time]
    observed : [time, gauge]
        Discharge [m3 s-1] of the training gauges, NaN where missing.
    gauges : int64[gauge]
        Places of the training gauges among those of the domain.
    spread : [gauge]
        Standard deviation of the observations in the training period, and 0.1 mm d-1 more, so that a gauge with
        hardly any flow does not rule [m3 s-1].
    offset : [gauge]
        A hundredth of the mean observation in the training period, which `transformed` adds to flow [m3 s-1].
    of_domain : dict of float64[cell]
        Parameters that the domain has, by registry name, for where no generator gives them.
    area, to_depth : [gauge]
        Official area [km2]; mm d-1 per m3 s-1 over it.
    weights : [gauge]
        Weight of each gauge, summing to one; equal where a quantile of their costs is the loss.
    """

    def __init__(self, run: Config, config: TrainConfig, domain: Domain) -> None:
        self.run, self.config, self.domain, dtype = run, config, domain, config.dtype
        if run.forcing == "caller" or run.observations is None:
            raise ConfigError("training needs files in 'forcing' and 'observations'. Name them in the configuration.")
        if run.coupled_inputs:
            raise ConfigError(
                f"coupled_inputs is {', '.join(run.coupled_inputs)}, expected none in training: no other model gives "
                "it, and there is no adjoint of it. Train with a configuration without it."
            )
        for key, process in (("runoff", run.chain.cells[-1]), ("routing", run.chain.reach)):
            if not process.parameters:
                raise ConfigError(
                    f"{key} is '{process.name}', which has no parameters; expected a process that a training can fit. "
                    "Train the whole model: a run of half of it takes that checkpoint."
                )
        if config.learn_start and isinstance(run.initial_state, Path):
            raise ConfigError(
                f"learn_start is on, and initial_state is {run.initial_state}, which has the stores. Leave one out."
            )
        if config.varying and run.components > 1 and config.device != "cpu":
            raise ConfigError(
                f"training.varying is {', '.join(config.varying)} with components: {run.components} on device: "
                f"{config.device}, whose kernels take one series for all components. Set training.device: cpu, or "
                "components: 1."
            )
        check_attributes(run.chain, domain, str(run.domain))
        for name, period in (("train", config.train), ("validate_on", config.validate_on)):
            if period is not None and not (run.start <= period[0] and period[1] <= run.end):
                raise ConfigError(
                    f"{name} is {date_text(period[0])} to {date_text(period[1])}, expected within the run, "
                    f"{date_text(run.start)} to {date_text(run.end)}."
                )
            if period is not None:
                check_whole_steps(run, name, period)
        self.forcing = read_forcing(run, domain, dtype, config.threads)
        self.of_domain = parameters_of_domain(run, domain)
        starts, observed = read_records(run, domain.gauges.id, run.start, run.end)
        self.day_of_year = day_of_year(starts).astype(dtype)
        self.gauges = self._choose_gauges()
        self.observed = observed[:, self.gauges].astype(dtype)
        train = self.steps_of(config.train)
        self._check_observations(observed[train][:, self.gauges])
        if config.validate_on is not None:
            self._check_validation(observed[self.steps_of(config.validate_on)][:, self.gauges])
        self.area = np.where(np.isfinite(domain.gauges.area), domain.gauges.area, self._drained())[self.gauges]
        self.to_depth = (DAY / (1000.0 * self.area)).astype(dtype)
        deviation = np.nanstd(observed[train][:, self.gauges], axis=0)
        self.offset = np.nanmean(observed[train][:, self.gauges], axis=0) * OFFSET
        self.spread = (deviation + SPREAD_FLOOR / self.to_depth).astype(dtype)
        self.weights = self._gauge_weights().astype(dtype)
        if "window" in config.model_fields_set and config.window > self.window_length:
            logger.warning(
                "window is %d steps, and the training period has %d: windows are as long as that", config.window,
                self.window_length,
            )

    @property
    def ids(self) -> list[str]:
        """Ids of the training gauges."""
        return [self.domain.gauges.id[g] for g in self.gauges]

    @property
    def held_out(self) -> list[str]:
        """Ids of the gauges of `held_out_fold`."""
        if self.config.held_out_fold is None:
            return []
        fold = fold_gauges(self.domain, self.config.folds)
        return [g for g, k in zip(self.domain.gauges.id, fold, strict=True) if k == self.config.held_out_fold]

    def steps_of(self, period: Period) -> slice:
        """Steps of the record that lie in a period."""
        first, last = (int((t - self.run.start).astype(int)) // self.run.time_step for t in period)
        return slice(first, last)

    @property
    def window_length(self) -> int:
        """Counted steps of a window: `training.window`, or all of a training period that is shorter."""
        train = self.steps_of(self.config.train)
        return min(self.config.window, train.stop - train.start)

    def windows(self, generator: np.random.Generator, count: int) -> list[Window]:
        """Draw windows from the training period."""
        train, length = self.steps_of(self.config.train), self.window_length
        firsts = generator.integers(train.start, train.stop - length + 1, count)
        return [self.window(int(first), length) for first in firsts]

    def window(self, first: int, length: int) -> Window:
        """A window of the record; a warm-up that would begin before it cycles through the first year.

        Where the start is learned, all steps from there on come before it.
        """
        if self.config.learn_start:
            return Window(np.arange(first + length), length)
        return with_warm_up(self.run, first, length, self.config.warm_up)

    def _choose_gauges(self) -> np.ndarray:
        ids = self.domain.gauges.id
        if not ids:
            raise ConfigError(f"{self.run.domain}: has no gauges to train on. Add gauges and their observations.")
        if self.config.gauges == "all":
            chosen = np.arange(len(ids))
        else:
            unknown = [g for g in self.config.gauges if g not in ids]
            if unknown:
                raise ConfigError(f"gauges: the domain has no gauge '{unknown[0]}'. Known: {', '.join(ids)}.")
            chosen = np.array([ids.index(g) for g in self.config.gauges])
        out = screened_out(self.run.screening, ids)
        chosen = np.array([k for k in chosen.tolist() if ids[k] not in out], np.int64)
        if not chosen.size:
            raise ConfigError("screening leaves out every gauge to train on. Expected one that counts.")
        held_out = self.config.held_out_fold
        if held_out is None:
            return chosen
        # Of all gauges, chosen or not: the folds of the report of `cdlm prepare`.
        kept = chosen[fold_gauges(self.domain, self.config.folds)[chosen] != held_out]
        if not kept.size:
            raise ConfigError(f"held_out_fold: {held_out} holds all {chosen.size} chosen gauges. Leave out another.")
        return kept

    def _check_observations(self, observed: np.ndarray) -> None:
        still = [
            self.domain.gauges.id[place] for place, series in zip(self.gauges, observed.T, strict=True)
            if np.count_nonzero(np.isfinite(series)) < 2 or not np.nanstd(series) > 0
        ]
        if still:
            who = f"gauge {still[0]} has" if len(still) == 1 else f"{len(still)} gauges ({', '.join(still)}) have"
            raise ObservationError(
                f"{who} no varying discharge in the training period, expected observations. Leave "
                f"{'it' if len(still) == 1 else 'them'} out with 'gauges', or choose another period."
            )

    def _check_validation(self, observed: np.ndarray) -> None:
        if not any(np.unique(series[np.isfinite(series)]).size > 1 for series in observed.T):
            raise ObservationError(
                "no training gauge has varying discharge in the period validate_on, expected observations: they "
                "choose the best epoch. Choose another period."
            )

    def _drained(self) -> np.ndarray:
        return self.domain.reaches.upstream_area[self.domain.gauges.reach]

    def _gauge_weights(self) -> np.ndarray:
        weights = np.ones(self.gauges.size)
        given = self.config.gauge_weights
        if given == "incremental_area":
            weights = _incremental_area(self.domain, self.gauges)
        elif isinstance(given, dict):
            weights = self._given_weights(given)
        return weights / weights.sum()

    def _given_weights(self, given: dict[str, float]) -> np.ndarray:
        """Weights of the training gauges by id; others of the domain may have one too."""
        ids = self.domain.gauges.id
        unknown = [g for g in given if g not in ids]
        if unknown:
            raise ConfigError(f"gauge_weights: the domain has no gauge '{unknown[0]}'. Known: {', '.join(ids)}.")
        without = [ids[g] for g in self.gauges if ids[g] not in given]
        if without:
            raise ConfigError(
                f"gauge_weights: gauge {without[0]} is trained on and has none ({len(without)} of {self.gauges.size}), "
                "expected one for every gauge. Add it, or leave the gauge out with 'gauges'."
            )
        return np.array([given[ids[g]] for g in self.gauges])


def check_whole_steps(run: Config, name: str, period: Period) -> None:
    """Refuse a period that begins or ends within a step; ConfigError names the step."""
    for time in period:
        within = int((time - run.start).astype(int)) % run.time_step
        if within:
            begin = time - np.timedelta64(within, "s")
            raise ConfigError(
                f"{name} has {date_text(time)}, within the step of the run that begins at {date_text(begin)}; expected "
                f"the begin of a step: that, or {date_text(begin + np.timedelta64(run.time_step, 's'))}."
            )


def with_warm_up(run: Config, first: int, length: int, warm_up: int) -> Window:
    """A window of a run and the steps before it; those before the record cycle through its first year."""
    steps = np.arange(first - warm_up, first + length)
    year = min(year_length(run.start) * DAY // run.time_step, run.n_steps)
    return Window(np.where(steps >= 0, steps, steps % year), length)


def read_forcing(
    run: Config, domain: Domain, dtype: type[np.floating], threads: int = 1
) -> dict[str, np.ndarray]:
    """What the model reads over the whole record, [time, cell] by short name, as a run makes it of its inputs."""
    demand = make_demand(run, domain.cells, read_elevation(run, domain))
    names = run.chain.inputs
    forcing = {name: np.empty((run.n_steps, domain.n_cells), dtype) for name in names}
    length = max(1, BLOCK_VALUES // (domain.n_cells * len(run.inputs)))
    begin, workers = int(run.start.astype("datetime64[s]").astype(np.int64)), Workers(threads)
    try:
        with ForcingFile(
            Path(run.forcing), run.inputs, domain.cells.id, run.start, run.end, run.time_step, run.forcing_fill,
            bridges=run.bridges,
        ) as file:
            for first in range(0, run.n_steps, length):
                count = min(length, run.n_steps - first)
                made = make_forcing(
                    run, demand, file.read(first, count), begin + first * run.time_step, workers,
                    (count, domain.n_cells),
                )
                for name, values in forcing.items():
                    values[first : first + count] = made.series()[name]
    finally:
        workers.close()
    return forcing


def _incremental_area(domain: Domain, gauges: np.ndarray) -> np.ndarray:
    """Area that drains to each gauge through no other of them [km2]; gauges on one reach share theirs."""
    reach, area = domain.gauges.reach[gauges], domain.reaches.upstream_area
    increment: dict[int, float] = {}
    for r in np.unique(reach).tolist():  # upstream first: those above are the ones so far within the sub-tree
        lo, _ = upstream_of(domain.reaches.downstream, r)
        increment[r] = float(area[r]) - sum(v for above, v in increment.items() if above >= lo)
    return np.maximum([increment[int(r)] for r in reach], 1e-3 * area[reach])
