"""What a run has left, for pictures: discharge at gauges with observations, fields of cells and reaches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.evaluation import GaugeResult, gauge_areas
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import partial_path, read_output
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, shown
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.output import output_places
from bmi_cdlm.run.screening import screened_out
from bmi_cdlm.run.values import duration_text

BLOCK_BYTES = 2**28
"""Of an output, read at a time."""
MOST_WITHOUT_GAUGES = 60
"""Reaches that have hydrographs of their own where a domain has no gauges."""


def require_output(
    config: Config, domain: Domain, what: str, at: Sequence[str], names: Sequence[str], hint: str = ""
) -> Path:
    """The output file of a run, if it has one of some variables at one of some kinds of places, and those of this run.

    at : values of output_at, `ids` for a list of reaches; hint : what else is to be set.

    Raises
    ------
    ConfigError
        There is no output, it is elsewhere or of other variables: the keys to set; the model was not run, or with other
        places, another start or another step.
    """
    output, place = config.output, config.output_at if isinstance(config.output_at, str) else "ids"
    if output is None or place not in at or not set(config.output_variables) & set(names):
        got = f"output: {output}, output_at: {place}, output_variables: [{', '.join(config.output_variables)}]"
        raise ConfigError(
            f"{what}: needs an output with {' or '.join(names)}; got {got}. Set output_at: {at[0]} and "
            f"output_variables: [{names[0]}]{hint}, and run the model again."
        )
    if not output.exists() and not partial_path(output).exists():
        raise ConfigError(f"{what}: {output} does not exist, expected the output of a run. Run the model: cdlm run.")
    _check_same(config, domain, what, next(name for name in config.output_variables if name in names))
    return output


def _check_same(config: Config, domain: Domain, what: str, name: str) -> None:
    """Refuse an output that another run has left: its columns and rows would pass for other places and times.

    That of a run which went on from a restart file begins later than `start`.
    """
    assert config.output is not None
    starts, ids, _ = read_output(config.output, name, slice(0, 2))
    expected, step = output_places(config, domain)[1], np.timedelta64(config.time_step * config.steps_per_output, "s")
    told = f"{what}: {config.output} is of another run, "
    again = "Run the model again, or change the configuration back."
    if ids != expected:
        same = min(len(ids), len(expected))
        k = next((k for k in range(same) if ids[k] != expected[k]), same)
        got, wanted = (shown(one[k]) if k < len(one) else "nothing" for one in (ids, expected))
        raise ConfigError(
            f"{told}its column {k + 1} of {len(ids)} is {got}, expected {wanted} ({len(expected)} in all). {again}"
        )
    after = int((starts[0] - config.start).astype(int)) if starts.size else 0
    inside = 0 <= after < config.n_steps * config.time_step and not after % config.time_step
    if not inside or (starts.size > 1 and starts[1] - starts[0] != step):
        length = f" in steps of {duration_text(int((starts[1] - starts[0]).astype(int)))}" if starts.size > 1 else ""
        raise ConfigError(
            f"{told}from {date_text(starts[0])}{length}, expected a begin from {date_text(config.start)} on, in steps "
            f"of {duration_text(int(step.astype(int)))}. {again}"
        )


def begin_of(output: Path, name: str) -> np.datetime64:
    """Begin of the first step of an output: `start`, or where a run went on from a restart file."""
    starts = read_output(output, name, slice(0, 1))[0]
    if not starts.size:
        raise ConfigError(f"{output}: holds no steps, expected one or more. Run the model.")
    found: np.datetime64 = starts[0]
    return found


def read_blocks(path: Path, name: str, n_places: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Begins of steps and values, float64[time, place], of one variable of an output, block by block."""
    length, first = max(1, BLOCK_BYTES // (8 * max(n_places, 1))), 0
    while True:
        starts, _, values = read_output(path, name, slice(first, first + length))
        if starts.size:
            yield starts, values
        if starts.size < length:
            return
        first += length


def places_of_output(config: Config, domain: Domain) -> np.ndarray:
    """Which reaches of the domain the columns of an output at reaches are, int64[]."""
    if config.output_at == "reaches":
        return np.arange(domain.n_reaches)
    if config.output_at == "gauges":
        return domain.gauges.reach
    place = {one: i for i, one in enumerate(domain.reaches.id)}
    return np.array([place[one] for one in config.output_at], np.int64)


def gauge_results(config: Config, domain: Domain) -> list[GaugeResult]:
    """Discharge at gauges (without any, at the reaches of the output), with observations and scores where there are.

    Raises
    ------
    ConfigError
        The run has no discharge at gauges or reaches; no place of it is a gauge, and there are many.
    """
    output = require_output(config, domain, "hydrographs and scores", ("gauges", "reaches", "ids"), ("discharge",))
    columns, gauges, reaches = places_of_output(config, domain), domain.gauges, domain.reaches
    column = {int(reach): k for k, reach in enumerate(columns)}
    chosen = [g for g, reach in enumerate(gauges.reach.tolist()) if reach in column]
    if chosen:
        ids, names = [gauges.id[g] for g in chosen], [gauges.name[g] for g in chosen]
        wanted = [column[int(gauges.reach[g])] for g in chosen]
        areas = [gauge_areas(domain)[gauge] for gauge in ids]
    else:
        if columns.size > MOST_WITHOUT_GAUGES:
            raise ConfigError(
                f"hydrographs: the domain has no gauges, and the output {columns.size} reaches, expected at most "
                f"{MOST_WITHOUT_GAUGES}. Name some ids in output_at."
            )
        ids = names = [reaches.id[i] for i in columns]
        wanted, areas = list(range(columns.size)), reaches.upstream_area[columns].tolist()
    blocks = [(starts, values[:, wanted]) for starts, values in read_blocks(output, "discharge", columns.size)]
    if not blocks:
        raise ConfigError(f"hydrographs: {output} holds no steps. Run the model.")
    starts = np.concatenate([one for one, _ in blocks])
    simulated = np.concatenate([values for _, values in blocks])
    observed = np.full(simulated.shape, np.nan)
    step = config.time_step * config.steps_per_output
    if config.observations is not None and chosen:
        end = starts[-1] + np.timedelta64(step, "s")
        observed = read_observations(config.observations, ids, starts[0], end, step)[1]
    out = screened_out(config.screening, ids) if chosen else {}  # drawn with what was observed, but not scored
    return [
        GaugeResult(
            ids[k], names[k], starts, simulated[:, k], observed[:, k],
            {} if np.isnan(observed[:, k]).all() or ids[k] in out
            else scores(simulated[:, k], observed[:, k], starts, areas[k]),
            areas[k] if areas[k] > 0 else math.nan,
        )
        for k in range(len(ids))
    ]


def read_at(config: Config, output: Path, name: str, when: np.datetime64) -> np.ndarray:
    """One variable of an output in the step that a time lies in, float64[place].

    Raises
    ------
    ConfigError
        The output has no such step.
    """
    step, begin = np.timedelta64(config.time_step * config.steps_per_output, "s"), begin_of(output, name)
    row = int((when - begin) // step) if when >= begin else -1
    values = read_output(output, name, slice(row, row + 1))[2] if row >= 0 else np.empty((0, 0))
    if not values.shape[0]:
        raise ConfigError(
            f"{output}: has no step at {date_text(when)}. Expected a time from {date_text(begin)} to "
            f"{date_text(config.end)}; choose another with --at, or run over a longer time."
        )
    found: np.ndarray = values[0]
    return found
