"""What a preparation needs: its inputs are there, can be understood, and cover the period; of weather, headers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from bmi_cdlm.doctor.findings import Case, Finding
from bmi_cdlm.doctor.run import why_not_writable
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.prepare.config import PrepareConfig, parse_prepare
from bmi_cdlm.prepare.gauges.gauge_table import read_gauge_table
from bmi_cdlm.prepare.gauges.records import read_records
from bmi_cdlm.prepare.needs import steps_of, unmet_needs, weather_of
from bmi_cdlm.prepare.network.attributes import check_header, check_names, named_rasters
from bmi_cdlm.prepare.network.directions import check_codes
from bmi_cdlm.prepare.network.existing import read_existing
from bmi_cdlm.prepare.network.layers import open_layer
from bmi_cdlm.prepare.network.mizuroute import read_listed
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.packages import resolve
from bmi_cdlm.prepare.run import rehearse
from bmi_cdlm.prepare.weather.forcing_needs import Needs, Steps, needs
from bmi_cdlm.prepare.weather.inputs import CellInput, Intervals, Target
from bmi_cdlm.prepare.weather.quantities import keys_of
from bmi_cdlm.prepare.weather.weather_config import ForcingSource

MOST_PIXELS = 10_000_000
"""Of a raster whose network the doctor makes on trial, in some seconds."""
INPUT_KEYS = ("source", "table", "reaches", "stations", "polygons", "directions", "elevation", "cell_mask")


class Opening(NamedTuple):
    """Something to try: what it is of, in which files, and the call that raises where they do not fit."""

    name: str
    files: str
    call: Callable[[], object]


def check_prepare(case: Case, source: Path | None) -> Iterator[Finding]:
    """The block's keys, and whether its inputs are there and fit."""
    if case.config.prepare is None:
        return
    config = parse_prepare(case.config.prepare, case.path, case.config.calendar)
    folder = case.path.parent if source is None else source
    n_found, absent = 0, set()
    made = _is_made(case, config)
    for key, text in inputs_of(config, ""):
        path = resolve(text, folder)
        if is_there(path):
            n_found += 1
        else:
            absent.add(key.partition(".")[0])
            yield Finding(
                "note" if made else "fail", "prepare", f"{key}: {path} is not there. "
                f"{'The files made of it are; to make them anew, put' if made else 'Put'} it there, or name the folder "
                "with --source.",
            )
    checks = {"network": _network, "gauges": _gauges, "attributes": _attributes, "forcing": _forcing}
    openings = [one for block, check in checks.items() if block not in absent for one in check(case, config, folder)]
    problems = list(_problems(openings))
    yield from problems
    if not (absent or problems):
        yield from _rehearsed(case, config, folder)
    network = config.network
    if network is not None and not network.existing and network.table is None:
        known = {*config.attributes.rasters, *(["elevation"] if config.attributes.elevation is not None else [])}
        yield from (Finding("fail", "prepare", text) for text in unmet_needs(case.config, config, known))
    for key in ("domain", "forcing", "observations"):
        path = getattr(case.config, key)
        problem = why_not_writable(path) if isinstance(path, Path) else ""
        if problem:
            yield Finding("fail", "prepare", f"{key}: {path} cannot be written ({problem}). Choose another path.")
    yield Finding("ok", "prepare", f"{n_found} inputs are there; formats, units and periods fit")


def _is_made(case: Case, config: PrepareConfig) -> bool:
    """Whether all files that the block makes are there, and the domain can be read."""
    keys = [key for key in ("forcing", "observations") if getattr(config, key) is not None]
    files = [getattr(case.config, key) for key in keys]
    if config.legacy is not None and config.legacy.use == "parameters":
        files.append(case.config.domain.parent / config.legacy.output)
    return case.domain is not None and all(isinstance(file, Path) and file.is_file() for file in files)


def _rehearsed(case: Case, config: PrepareConfig, folder: Path) -> Iterator[Finding]:
    """What stops the network and its gauges, by making them; of a large raster only the codes are looked at."""
    network = config.network
    try:
        if network is not None and _pixels(network, folder) > MOST_PIXELS:
            check_codes(network, folder)
            return
        kept = rehearse(case.config, config, folder)
    except CdlmError as error:
        yield Finding("fail", "prepare", str(error))
        return
    if kept:
        yield Finding("note", "prepare", kept)


def _pixels(network: NetworkConfig, folder: Path) -> int:
    """Size of the raster that the network is made of."""
    if network.table is not None or network.existing:
        return 0
    name = network.directions or network.elevation
    assert name is not None  # the configuration has one of both
    with open_layer(name, folder, network.crs, bands=_bands(network)) as layer:
        return layer.grid.n_rows * layer.grid.n_cols


def _bands(network: NetworkConfig) -> int:
    return 2 if network.encoding == "nextxy" and network.directions is not None else 1


def _problems(openings: list[Opening]) -> Iterator[Finding]:
    """What cannot be opened; of variables in the same files that lack the same, one is told in full."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in openings:
        try:
            one.call()
        except CdlmError as error:
            text = str(error)
            same = found.setdefault((one.files, text.rpartition(". ")[2]), [text])
            same += [one.name] if same[0] != text else []
    for first, *others in found.values():
        likewise = f" Likewise: {', '.join(others)}." if others else ""
        yield Finding("fail", "prepare", f"{first}{likewise}")


def _network(_: Case, config: PrepareConfig, folder: Path) -> Iterator[Opening]:
    if config.network is None:
        return
    for key, count in (("directions", _bands(config.network)), ("elevation", 1), ("cell_mask", 1)):
        name = getattr(config.network, key)
        if name is not None:
            yield Opening(key, name, partial(_open, name, folder, config.network.crs, count))


def _open(name: str, folder: Path, crs: str | None, bands: int) -> None:
    with open_layer(name, folder, crs, bands=bands):
        pass


def _gauges(case: Case, config: PrepareConfig, folder: Path) -> Iterator[Opening]:
    """The table of gauges, and the records at them."""
    if config.gauges is not None:
        yield Opening("gauges", config.gauges.table, partial(_records, case, config, folder))
    elif config.network is not None and config.network.table is not None:
        yield Opening("observations", config.network.table, partial(_records, case, config, folder))


def _records(case: Case, config: PrepareConfig, folder: Path) -> None:
    records = config.observations
    if config.gauges is None:
        assert config.network is not None
        sites = read_listed(config.network, folder).gauges.sites
    else:
        sites = read_gauge_table(config.gauges, folder)
    if records is None or not is_there(resolve(records.source, folder)):
        return
    if config.gauges is not None and config.gauges.rejected == "drop":  # those left out need no record
        records = records.model_copy(update={"allow_absent": True})
    areas = {site.id: site.area if np.isfinite(site.area) else 1.0 for site in sites}
    steps = steps_of(case.config, records.start, records.end)
    read_records(records, areas, steps.starts, steps.step, folder)


def _attributes(_: Case, config: PrepareConfig, folder: Path) -> Iterator[Opening]:
    yield Opening("attributes", "", partial(check_names, config.attributes))
    for name, raster in named_rasters(config.attributes).items():
        yield Opening(name, raster.source, partial(check_header, name, raster, folder))


def _forcing(case: Case, config: PrepareConfig, folder: Path) -> Iterator[Opening]:
    if config.forcing is None:
        return
    steps, sources = steps_of(case.config, config.forcing.start, config.forcing.end), config.forcing.sources
    try:
        needed = needs(weather_of(case.config, config), steps)
    except CdlmError as error:
        yield Opening("pet", "", partial(_raise, error))
        needed = Needs((), (), steps)
    wanted = {
        (key, one.step): one for names, one in ((needed.direct, steps), (needed.pet, needed.days)) for name in names
        for key in keys_of(name, sources, one.step)
    } or {(key, steps.step): steps for key in sources}
    target = _target_of_list(case, config, folder)
    for (key, _), one in wanted.items():
        source = sources[key]
        call: Callable[[], object] = partial(Intervals, key, source, folder, one.starts, one.step)
        if source.layout is not None and target is not None:
            call = partial(_whole_series, key, source, target, folder, one)
        yield Opening(key, " ".join(source.source), call)


def _target_of_list(case: Case, config: PrepareConfig, folder: Path) -> Target | None:
    """What forcing is made for, where catchments are listed or the domain is there; None where that cannot be told."""
    network = config.network
    if network is None or not (network.table is not None or network.existing):
        return None
    try:
        made = read_existing(case.config.domain) if network.existing else read_listed(network, folder)
    except CdlmError:
        return None  # told by others
    elevation = made.table.cell.get("elevation")
    ids = [site.id for site in made.gauges.sites]
    return Target(made.drainage, ids, made.gauges.reach, None if elevation is None else elevation.values)


def _whole_series(name: str, source: ForcingSource, target: Target, folder: Path, steps: Steps) -> None:
    """Read series of tables as a whole: a catchment without one, or with a gap, is what `prepare` refuses."""
    series = CellInput(name, source, target, folder, steps.starts, steps.step)
    gaps = np.isnan(series.read(0, steps.starts.size))
    gaps[series.missing] = False
    if gaps.any():
        row, cell = (int(i) for i in np.unravel_index(gaps.argmax(), gaps.shape))
        raise ForcingError(
            f"{series.where}: '{name}' is missing at {date_text(steps.starts[row])} in cell "
            f"{target.drainage.cells.id[cell]}, the first of {np.count_nonzero(gaps)} such values in "
            f"{np.count_nonzero(gaps.any(axis=0))} cells. Complete the source, or declare the stamp as `missing`."
        )


def _raise(error: CdlmError) -> None:
    raise error


def inputs_of(block: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    """Key and text of every input that a block names, those of its own blocks too."""
    for name in type(block).model_fields:
        value, key = getattr(block, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from inputs_of(value, f"{key}.")
        elif isinstance(value, dict):
            for inner, item in value.items():
                if isinstance(item, BaseModel):
                    yield from inputs_of(item, f"{key}.{inner}.")
        elif name in INPUT_KEYS and isinstance(value, str | tuple):
            yield from ((key, text) for text in ((value,) if isinstance(value, str) else value))


def is_there(path: Path) -> bool:
    """Whether an input exists; in a pattern (`*`, `{id}`, strftime fields) the fixed folders before it."""
    fixed = Path()
    for part in path.parts:
        if any(sign in part for sign in "*?{%"):
            return fixed.is_dir()
        fixed = fixed / part
    if path.exists():
        return True
    file, colon, _ = path.name.partition(":")  # file.nc:variable
    return bool(colon) and (path.parent / file).exists()
