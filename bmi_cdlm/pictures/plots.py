"""The pictures of a run that `cdlm plot` draws, by what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.evaluate.catalogue import BY_NAME as SCORES
from bmi_cdlm.evaluate.catalogue import metric
from bmi_cdlm.evaluate.evaluation import GaugeResult, draw
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, UnknownNameError, nearest
from bmi_cdlm.names.file_names import file_names
from bmi_cdlm.names.variables import variable
from bmi_cdlm.pictures.fields import MapField, Place, parameter_fields, score_field
from bmi_cdlm.pictures.figures import plot_duration, plot_field, plot_series
from bmi_cdlm.pictures.run_output import gauge_results, places_of_output, read_at, read_blocks, require_output
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameter_file import known_parameters

RESIDUALS = {"cells": "cell_water_residual", "reaches": "reach_water_residual"}
STORED = {"cells": "cell_water_stored", "reaches": "reach_storage"}
SHOWN_SCORES = ("nse", "kge", "pbias")


class Canvas(NamedTuple):
    """What pictures are made of and where they go: at : the time of maps of one time, None where none is named;
    gauges : ids of those that are wanted, none for all.
    """

    config: Config
    domain: Domain
    folder: Path
    stem: str
    suffix: str
    at: np.datetime64 | None = None
    gauges: tuple[str, ...] = ()

    def path(self, what: str) -> Path:
        """Where a picture goes."""
        return self.folder / f"{self.stem}_{next(iter(file_names([what]).values()))}{self.suffix}"

    def results(self) -> list[GaugeResult]:
        """Discharge of the gauges that are wanted."""
        found = gauge_results(self.config, self.domain)
        known = [result.gauge_id for result in found]
        for gauge in self.gauges:
            if gauge not in known:
                raise ConfigError(f"--gauge: there is no gauge '{gauge}' in the output.{nearest(gauge, known)}")
        return [result for result in found if not self.gauges or result.gauge_id in self.gauges]


def plot(canvas: Canvas, wanted: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Draw what is wanted, or without a word everything that the run has; paths, and what there was nothing for.

    Raises
    ------
    ConfigError
        The run has not what is wanted: the keys to set.
    UnknownNameError
        No picture, parameter or score has that name.
    """
    paths: list[Path] = []
    left_out: list[str] = []
    for drawing in [find(name) for name in wanted or PICTURES]:
        try:
            paths += drawing(canvas)
        except (ConfigError, UnknownNameError) as cause:
            if wanted:
                raise
            left_out += [str(cause)] if str(cause) not in left_out else []
    return paths, left_out


def find(name: str) -> Callable[[Canvas], list[Path]]:
    """What draws a picture of that name: one of `PICTURES`, a parameter, or a score."""
    if name in PICTURES:
        return PICTURES[name]
    if name in SCORES:
        return lambda canvas: _scores(canvas, (name,))
    if name in known_parameters():
        return lambda canvas: _parameters(canvas, name)
    known = (*PICTURES, *SCORES, *known_parameters())
    raise UnknownNameError(
        f"there is no picture '{name}'.{nearest(name, known)} Known: {', '.join(PICTURES)}, and the name of any "
        "parameter or score."
    )


def _hydrographs(canvas: Canvas) -> list[Path]:
    return draw(canvas.config, canvas.results(), folder=canvas.folder, suffix=canvas.suffix)


def _duration(canvas: Canvas) -> list[Path]:
    paths = []
    for result in canvas.results():
        path = canvas.path(f"duration_{result.gauge_id}")
        bias = result.scores.get("fms", np.nan)
        told = "" if np.isnan(bias) else f"error of the slope {bias:+.0f} %"
        plot_duration(path, result.simulated, result.observed, result.title, told)
        paths.append(path)
    return paths


def _discharge(canvas: Canvas) -> list[Path]:
    """Mean discharge of reaches, or that of one time."""
    config, domain = canvas.config, canvas.domain
    output = require_output(config, canvas.domain, "discharge", ("reaches", "ids"), ("discharge",))
    columns = places_of_output(config, domain)
    values, when = np.zeros(columns.size), "mean"
    if canvas.at is not None:
        values, when = read_at(config, output, "discharge", canvas.at), _told(canvas.at)
    else:
        count = 0
        for starts, block in read_blocks(output, "discharge", columns.size):
            values, count = values + block.sum(axis=0), count + starts.size
        values = values / max(count, 1)
    field = np.full(domain.n_reaches, np.nan)
    field[columns] = values
    path = canvas.path("discharge")
    flow = MapField("Discharge", "reach", "m³ s⁻¹", field, log=True, colours="flow")
    plot_field(path, domain, flow, f"Discharge, {when}")
    return [path]


def _told(when: np.datetime64) -> str:
    return date_text(when).removesuffix("T00:00:00")


def _parameters(canvas: Canvas, name: str | None = None) -> list[Path]:
    fields, varying = parameter_fields(canvas.config, canvas.domain)
    if name in varying:
        raise ConfigError(
            f"{name}: varies in time, an LSTM gives it anew at every step; expected one that does not. There is no map "
            "of it."
        )
    chosen = [f for f in fields if name is None or f.name == name or f.name.startswith(f"{name}, component")]
    if not chosen:
        raise ConfigError(f"{name}: is no parameter of this run. It has: {', '.join(field.name for field in fields)}.")
    paths = []
    for field in chosen:
        path = canvas.path(field.name.replace(", ", "_").replace(" ", ""))
        plot_field(path, canvas.domain, field._replace(colours="cividis"), field.name)
        paths.append(path)
    return paths


def _scores(canvas: Canvas, names: Sequence[str] = SHOWN_SCORES) -> list[Path]:
    if canvas.config.observations is None:
        raise ConfigError("scores: there are no observations to score against. Set observations in the configuration.")
    found, paths = {result.gauge_id: result.scores for result in canvas.results()}, []
    for name in names:
        values = [found.get(gauge, {}).get(name, np.nan) for gauge in canvas.domain.gauges.id]
        path = canvas.path(name)
        plot_field(path, canvas.domain, score_field(name, values), f"{metric(name).heading} at gauges")
        paths.append(path)
    return paths


def _ledger(canvas: Canvas) -> list[Path]:
    """Water that the ledger misses at the end of the run, since its start."""
    config = canvas.config
    place = config.output_at if config.output_at in RESIDUALS else "cells"
    name = RESIDUALS[str(place)]
    output = require_output(
        config, canvas.domain, "ledger", (str(place),), (name,), " and ledger_tolerance: 1e-9"
    )
    at = canvas.at or config.end - np.timedelta64(config.time_step * config.steps_per_output, "s")
    values, one = read_at(config, output, name, at), variable(name)
    grid: Place = "cell" if place == "cells" else "reach"
    field = MapField("Residual of the ledger", grid, one.units, values, colours="diverging")
    path = canvas.path("ledger")
    plot_field(path, canvas.domain, field, f"Water that the ledger misses since the start, {_told(at)}")
    return [path]


def _snow(canvas: Canvas) -> list[Path]:
    """Stores that hold snow: their mean over the domain, and the map when it is greatest."""
    names = [name for name in _stores(canvas.config) if name.startswith("snow")]
    if not names:
        raise ConfigError("snow: no process of this run has a store of snow. Set snow, or a runoff process with snow.")
    return _of_cells(canvas, "snow", names)


def _storage(canvas: Canvas) -> list[Path]:
    """All stores that the output has, of cells or of reaches."""
    if canvas.config.output_at == "reaches":
        return _of_cells(canvas, "storage", [STORED["reaches"]])
    return _of_cells(canvas, "storage", [STORED["cells"], *_stores(canvas.config)])


def _stores(config: Config) -> list[str]:
    """Stores of cells that hold water, by their names in the output."""
    return [name for process in config.chain.cells for name, store in process.stores.items() if store.holds_water]


def _of_cells(canvas: Canvas, what: str, names: Sequence[str]) -> list[Path]:
    """Means over the domain of variables in the output, and a map of each at one time."""
    config, domain = canvas.config, canvas.domain
    places = "reaches" if names[0] == STORED["reaches"] else "cells"
    output = require_output(config, domain, what, (places,), names)
    series: dict[str, np.ndarray] = {}
    times = np.empty(0, "datetime64[s]")
    chosen = [name for name in names if name in config.output_variables]
    weights = np.ones(domain.n_reaches) if places == "reaches" else (
        domain.cells.drained_area / max(float(domain.cells.drained_area.sum()), 1e-12)
    )
    for name in chosen:
        parts = [(s, values @ weights) for s, values in read_blocks(output, name, weights.size)]
        times, series[name] = (np.concatenate(column) for column in zip(*parts, strict=True))
    units = variable(chosen[0]).units
    path = canvas.path(what)
    mean = "Mean over the domain" if places == "cells" else "Sum over reaches"
    plot_series(path, times, series, f"{mean} [{units}]", f"{what.capitalize()}, {canvas.stem}")
    paths = [path]
    for name in chosen:
        at = canvas.at or times[int(np.nanargmax(series[name]))]
        values = read_at(config, output, name, at)
        field = MapField(name, "cell" if places == "cells" else "reach", units, values)
        path = canvas.path(f"{what}_{name}")
        told = "when there is most of it, " if canvas.at is None else ""
        plot_field(path, domain, field, f"{variable(name).meaning.split(';')[0]}: {told}{_told(at)}")
        paths.append(path)
    return paths


PICTURES: dict[str, Callable[[Canvas], list[Path]]] = {
    "hydrographs": _hydrographs, "duration": _duration, "discharge": _discharge, "parameters": _parameters,
    "scores": _scores, "ledger": _ledger, "snow": _snow, "storage": _storage,
}
"""Pictures by what they show."""


def make_canvas(
    config: Config, path: Path, folder: Path | None, suffix: str, at: np.datetime64 | None, gauges: Sequence[str]
) -> Canvas:
    """What `plot` takes, of a configuration at `path`; folder : None for that of the output, or of `path`."""
    domain = read_domain(config.domain)
    place = config.output.parent if config.output is not None else path.parent
    stem = config.output.stem if config.output is not None else path.stem
    return Canvas(config, domain, folder or place, stem, suffix, at, tuple(gauges))
