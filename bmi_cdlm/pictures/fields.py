"""Fields that a map shows: a value per cell, reach or gauge, with its name, units and scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.catalogue import metric
from bmi_cdlm.names.parameters import STARTS, TRAVEL_TIME, WEIGHT, parameter
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.ensemble import member_configs
from bmi_cdlm.run.parameter_file import known_parameters
from bmi_cdlm.run.parameters import read_any_parameters, read_lstm

Place = Literal["cell", "reach", "gauge"]
Colours = Literal["viridis", "cividis", "flow", "diverging"]
TAIL = 2.0
"""Percent of the values at either end that a colour scale does not stretch for."""
WORST_SHOWN = 0.0
"""Efficiencies from here down have the colour of the worst."""


class MapField(NamedTuple):
    """A value per place of a grid, float64[place], NaN where there is none.

    name, units : of what it is; log : whether its colours go by the logarithm; limits : of the colours, None where
    the values say (all but the `TAIL` at either end).
    """

    name: str
    on: Place
    units: str
    values: np.ndarray
    log: bool = False
    colours: Colours = "viridis"
    limits: tuple[float, float] | None = None

    def scale(self) -> tuple[float, float, bool, bool]:
        """Limits of the colours, and whether values lie below and above them."""
        known = self.values[np.isfinite(self.values)]
        if self.log:
            known = known[known > 0]
        if not known.size:
            return (1.0, 10.0, False, False) if self.log else (0.0, 1.0, False, False)
        low, high = self.limits or tuple(np.percentile(known, [TAIL, 100 - TAIL]))
        if self.colours == "diverging" and self.limits is None:
            high = max(abs(low), abs(high))
            low = -high
        if high <= low:
            low, high = (low / 1.1, low * 1.1) if self.log else (low - 0.5, low + 0.5)
        return float(low), float(high), bool(known.min() < low), bool(known.max() > high)

    @property
    def label(self) -> str:
        """Name and units."""
        return self.name if self.units == "1" else f"{self.name} [{self.units}]"


def parameter_fields(config: Config, domain: Domain) -> tuple[list[MapField], list[str]]:
    """Every parameter of every process of a run, one field per component; and those that vary in time, which have none.

    Of an ensemble the mean of its members; what no file gives is at its default.

    Raises
    ------
    CheckpointError, DomainError, ParameterError
        As a run would, of what `parameters` names.
    """
    sets = [_static(own, domain) for own in member_configs(config)]
    values = {name: np.mean([one[name] for one in sets], axis=0) for name in sets[0]}
    lstm = read_lstm(member_configs(config)[0], domain)
    varying = [] if lstm is None else list(lstm.components)
    fields: list[MapField] = []
    for name, field in values.items():
        if name in varying:
            continue
        grid, units, _ = known_parameters()[name]
        log = name == TRAVEL_TIME or (name != WEIGHT and parameter(name).scale == "log")
        log = log and bool((field > 0).all())
        rows = field[None] if field.ndim == 1 else field
        for k, row in enumerate(rows, 1):
            told = name if len(rows) == 1 else f"{name}, component {k}"
            fields.append(MapField(told, "cell" if grid == "cell" else "reach", units, row, log))
    return fields, varying


def _static(config: Config, domain: Domain) -> dict[str, np.ndarray]:
    """Parameters as the run has them, in the order of its processes."""
    given, _ = read_any_parameters(config, domain)
    found: dict[str, np.ndarray] = {}
    for process in config.chain.processes:
        for p in process.parameters:
            instead = TRAVEL_TIME in given and p.name == "celerity"
            if p.name in given:
                found[p.name] = given[p.name]
            elif not p.optional and not instead:
                size = domain.n_cells if p.grid == "cell" else domain.n_reaches
                found[p.name] = np.full(size, p.range_at(config.time_step).default)
    return found | {name: given[name] for name in (TRAVEL_TIME, WEIGHT, *STARTS) if name in given}


def score_field(name: str, values: Sequence[float] | np.ndarray) -> MapField:
    """A score at gauges; efficiencies from 0 (and what is worse) to 1, errors about their best."""
    one = metric(name)
    column = np.asarray(values, np.float64)
    if one.best == 1:
        return MapField(one.heading, "gauge", one.units, column, limits=(WORST_SHOWN, 1.0))
    if one.best == 0:
        return MapField(one.heading, "gauge", one.units, column, colours="diverging")
    return MapField(one.heading, "gauge", one.units, column)
