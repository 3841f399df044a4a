"""Catchments of a NextGen hydrofabric: a domain of one cell and a configuration each, and a realization for ngen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.csv_table import read_lines
from bmi_cdlm.files.netcdf import same_units
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.model.pet import takes_elevation
from bmi_cdlm.names.errors import ConfigError, DomainError, nearest
from bmi_cdlm.names.file_names import is_safe
from bmi_cdlm.names.progress import Pace
from bmi_cdlm.names.time_steps import DAY, HOUR, STEP_NAMES
from bmi_cdlm.names.variables import variable
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.network.catchment_files import VECTORS
from bmi_cdlm.prepare.network.catchment_table import read_network
from bmi_cdlm.prepare.network.domain_file import CONVENTIONS, put
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.processes.catalogue import FORMULAS, GIVEN, Chain, choose, find_formula

KNOWN = {
    "area": "km2", "lat": "degrees_north", "lon": "degrees_east", "elevation": "m", "mean_annual_snowfall": "mm yr-1",
}
"""Columns with a meaning of their own, and the units they must have."""
SYNONYMS = {
    "divide_id": "id", "areasqkm": "area", "area_sqkm": "area", "latitude": "lat", "longitude": "lon",
}
RUNOFF = "gr4j"
"""The process that configurations need not name."""
NEEDED = ("id", "area", "lat", "lon")
OF_DOMAIN = (*(f"{grid}_{one}" for grid in ("cell", "reach") for one in NEEDED), "reach_length")
"""What a domain has of its own, and no attribute may be called."""
REPORTED = ("runoff_depth", "outlet_discharge")
"""What the realization lets ngen write for every catchment, beside the stores of its processes."""
REALIZATION = "realization.json"


class Options(NamedTuple):
    """What all catchments share; start, end: datetime64[s], of ngen's run; parameters: a file, or `default`.

    restart: datetime64[s], time of the state that ngen gives back at its begin: the run starts there. components:
    parameter sets per catchment of the runoff process. member: of a checkpoint that is an ensemble, from 1.
    """

    start: np.datetime64
    end: np.datetime64
    time_step: int = HOUR
    snow: str = "none"
    pet: str = FORMULAS[0].name
    parameters: Path | str = "default"
    restart: np.datetime64 | None = None
    runoff: str = RUNOFF
    components: int = 1
    member: int | None = None
    precipitation: str = GIVEN

    @property
    def chain(self) -> Chain:
        """The processes; ngen routes."""
        return choose(self.snow, self.runoff, precipitation=self.precipitation)

    @property
    def begin(self) -> np.datetime64:
        """Where ngen's clock begins."""
        return self.start if self.restart is None else self.restart


class Catchment(NamedTuple):
    """One row: its id, the known columns by name, attributes with their units by name."""

    id: str
    known: dict[str, float]
    attributes: dict[str, tuple[float, str]]


def read_table(path: Path) -> list[Catchment]:
    """Read the table of catchments: CSV with a head; an attribute's column is called `name [units]`.

    A hydrofabric (GeoPackage) gives ids, areas and centres of its divides.

    Raises
    ------
    DomainError
        A column that is missing, unknown, or has no or other units; a value that is no number; an id twice.
    """
    if path.suffix.lower() == ".gpkg":
        return _read_hydrofabric(path)
    if path.suffix.lower() in VECTORS:
        raise DomainError(
            f"{path}: is a {path.suffix} file, expected CSV or a hydrofabric GeoPackage (.gpkg). Convert it: a line "
            f"per catchment with {', '.join(NEEDED)}."
        )
    rows = read_lines(path, DomainError)
    if len(rows) < 2:
        raise DomainError(f"{path}: holds {len(rows)} lines, expected a head and a line per catchment.")
    columns = [_column(path, head) for head in rows[0][1]]
    names = [name for name, _ in columns]
    for name in NEEDED:
        if names.count(name) != 1:
            raise DomainError(
                f"{path}: there are {names.count(name)} columns '{name}', expected one.{nearest(name, names)} "
                f"Needed are {', '.join(NEEDED)}; attributes are called 'name [units]'."
            )
    _check_attributes(path, names)
    found = [_catchment(path, columns, number, row) for number, row in rows[1:]]
    ids = [c.id for c in found]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DomainError(f"{path}: catchment '{twice}' occurs more than once. Expected one line each.")
    return found


def _variable_of(name: str) -> str:
    """The variable of the domain file that an attribute of a table becomes."""
    grid = "reach" if name.startswith("reach_") else "cell"
    return f"{grid}_{name.removeprefix(f'{grid}_')}"


def _check_attributes(path: Path, names: Sequence[str]) -> None:
    """Refuse attributes that would be one variable of the domain, or one that it has of its own."""
    own = [name for name in names if name != "id" and name not in KNOWN]
    made = [*OF_DOMAIN, *(["cell_elevation"] if "elevation" in names else []), *map(_variable_of, own)]
    for name in own:
        if made.count(_variable_of(name)) > 1:
            raise DomainError(
                f"{path}: column '{name}' would be '{_variable_of(name)}' of the domain, which is there already (a "
                "reach has no length: ngen routes), expected another name. Rename it, or leave it out."
            )


def _read_hydrofabric(path: Path) -> list[Catchment]:
    """The divides of a hydrofabric, in the order of their ids."""
    config = NetworkConfig.model_validate({"table": path.name, "layout": "nextgen"})
    made = read_network(config, path.absolute().parent)
    cells = made.drainage.cells
    rows = zip(cells.id.tolist(), cells.area.tolist(), cells.lat.tolist(), cells.lon.tolist(), strict=True)
    found = [Catchment(one, {"area": area, "lat": lat, "lon": lon}, {}) for one, area, lat, lon in rows]
    return sorted(found, key=lambda c: (len(c.id), c.id))


def write_catchments(
    table: Path, folder: Path, options: Options, say: Callable[[str], None] = lambda text: None
) -> list[Path]:
    """Write `ID.nc` and `ID.yaml` of every catchment in a table, and `realization.json`; returns the paths.

    say : told how far it is.
    """
    catchments = read_table(table)
    if isinstance(options.parameters, Path) and options.parameters.suffix == ".safetensors":
        load_checkpoint(options.parameters, options.member)  # one that ngen can run: no ensemble without a member
    if not options.start <= options.begin < options.end:
        raise ConfigError(
            f"restart is {options.begin}, expected a time from start, {options.start}, to end, {options.end}. Give the "
            "time at which ngen saved the state."
        )
    for catchment in catchments:
        if not is_safe(catchment.id):
            raise ConfigError(
                f"{table}: catchment '{catchment.id}' gives its name to a file, expected letters, digits, '_', '-' "
                "and '.' only, as in cat-27. Rename it; ngen looks for files by these ids."
            )
        _check_needs(table, catchment, options)
    paths, pace = list[Path](), Pace()
    for catchment in catchments:
        say(f"catchments: {catchment.id}, {pace.told(len(paths) // 2, len(catchments))}")
        domain, config = folder / f"{catchment.id}.nc", folder / f"{catchment.id}.yaml"
        with replacing(domain) as temporary:
            _write_domain(temporary, catchment, table.name)
        with replacing(config) as temporary:
            temporary.write_text(_configuration(domain.name, folder, options), encoding="utf-8")
        paths += [domain, config]
    with replacing(folder / REALIZATION) as temporary:
        temporary.write_text(json.dumps(realization(options), indent=2) + "\n", encoding="utf-8")
    return [*paths, folder / REALIZATION]


def realization(options: Options) -> dict:
    """Return what ngen reads: one formulation for all catchments, mass balance checked, forcing of CSV files."""
    stores = [name for p in reversed(options.chain.cells) for name, s in p.stores.items() if s.holds_water]
    outputs = [variable(name).name for name in (*REPORTED, *(f"mean_{name}" for name in stores))]
    formulation = {
        "name": "bmi_python", "model_type_name": "bmi_cdlm", "python_type": "bmi_cdlm.BmiCdlm",
        "init_config": "./{{id}}.yaml", "allow_exceed_end_time": True, "uses_forcing_file": False,
        "main_output_variable": outputs[0], "output_variables": outputs,
        "mass_balance": {"check": True, "fatal": True, "tolerance": 1e-9, "frequency": 1},
    }
    last = options.end - np.timedelta64(HOUR, "s")
    return {
        "global": {
            "formulations": [{"name": "bmi_python", "params": formulation}],
            "forcing": {"provider": "CsvPerFeature", "path": "./forcing/", "file_pattern": ".*{{id}}.*.csv"},
        },
        "time": {
            "start_time": str(options.begin).replace("T", " "), "end_time": str(last).replace("T", " "),
            "output_interval": HOUR,
        },
    }


def _column(path: Path, head: str) -> tuple[str, str]:
    """Name and units of a column."""
    match = re.fullmatch(r"\s*([A-Za-z]\w*)\s*(?:\[\s*(.*?)\s*\])?\s*", head)
    if match is None:
        raise DomainError(f"{path}: a column is called '{head}', expected 'name' or 'name [units]'. Rename it.")
    name, units = SYNONYMS.get(match[1], match[1]), match[2]
    if name == "id":
        return name, ""
    expected = KNOWN.get(name)
    if units is None and expected is None:
        raise DomainError(
            f"{path}: attribute '{name}' has no units. Call it '{name} [units]', '{name} [1]' for a ratio."
        )
    if units is not None and expected is not None and not same_units(units, expected):
        raise DomainError(f"{path}: '{name}' has units '{units}', expected '{expected}'. Convert it.")
    return name, expected or units or ""


def _catchment(path: Path, columns: list[tuple[str, str]], number: int, row: list[str]) -> Catchment:
    if len(row) != len(columns):
        raise DomainError(f"{path}: line {number} has {len(row)} values, expected {len(columns)}, one per column.")
    catchment = Catchment("", {}, {})
    for (name, units), text in zip(columns, row, strict=True):
        if name == "id":
            catchment = catchment._replace(id=text.strip())
            continue
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise DomainError(f"{path}: line {number}: '{name}' is '{text}', expected a number. Fill it.")
        if name in KNOWN:
            catchment.known[name] = value
        else:
            catchment.attributes[name] = (value, units)
    if not re.fullmatch(r"[\w.-]+", catchment.id):
        raise DomainError(
            f"{path}: line {number}: the id is '{catchment.id}', expected letters, digits, '-', '_' or '.': it names "
            "files. Rename the catchment."
        )
    area, lat = catchment.known["area"], catchment.known["lat"]
    if area <= 0 or abs(lat) > 90:
        raise DomainError(
            f"{path}: line {number}: area {area:g} km2 at latitude {lat:g}, expected an area above 0 and a latitude "
            "within 90 degrees. Correct the line."
        )
    return catchment


def _check_needs(table: Path, catchment: Catchment, options: Options) -> None:
    wanted = [(name, p.name) for p in options.chain.cells for name in p.attributes.values() if name in KNOWN]
    wanted += [("elevation", f"pet: {options.pet}")] if _takes_elevation(options) else []
    for name, why in wanted:
        if name not in catchment.known:
            raise DomainError(f"{table}: column '{name} [{KNOWN[name]}]' is missing, which {why} needs. Add it.")


def _takes_elevation(options: Options) -> bool:
    formula = None if options.pet == GIVEN else find_formula(options.pet)
    return formula is not None and options.time_step in formula.steps and takes_elevation(formula, options.time_step)


def _configuration(domain: str, folder: Path, options: Options) -> str:
    """The flat YAML of a catchment; ngen wants an end beyond that of its own run."""
    parameters = options.parameters
    if isinstance(parameters, Path):
        parameters = Path(os.path.relpath(parameters, folder)).as_posix()
    # Beyond by a day, or to the end of a step that began within one.
    beyond = (options.begin - options.end) % np.timedelta64(options.time_step, "s") + np.timedelta64(DAY, "s")
    content: Mapping[str, object] = {
        "domain": domain, "forcing": "caller", "parameters": parameters, "start": str(options.begin),
        "end": str(options.end + beyond), "time_step": STEP_NAMES[options.time_step],
        "routing_step": "1 h", "snow": options.snow, "pet": options.pet, "name_profile": "ngen",
    }
    if options.precipitation != GIVEN:
        content = {**content, "precipitation": options.precipitation}
    if options.runoff != RUNOFF:
        content = {**content, "runoff": options.runoff}
    if options.components > 1:
        content = {**content, "components": options.components}
    if options.member is not None:
        content = {**content, "member": options.member}
    return dump_yaml(content)


def _write_domain(path: Path, catchment: Catchment, table: str) -> None:
    """A cell and a reach without length, since ngen routes: discharge is runoff.

    A classic file: for a single cell HDF5 takes longer to open than the rest of `initialize`.
    """
    known, one = catchment.known, np.ones(1)
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as dataset:
        dataset.setncatts({
            "Conventions": CONVENTIONS, "title": f"catchment {catchment.id}: domain", "source": f"the table {table}",
        })
        for dimension in ("cell", "reach", "link"):
            dataset.createDimension(dimension, 1)
        for grid in ("cell", "reach"):
            put(dataset, f"{grid}_id", (grid,), [catchment.id], "catchment")
            for name, word, units in (("lon", "longitude", "degrees_east"), ("lat", "latitude", "degrees_north")):
                put(dataset, f"{grid}_{name}", (grid,), one * known[name], word, units, standard_name=word)
            put(dataset, f"{grid}_area", (grid,), one * known["area"], "area", "km2", standard_name="area")
        put(dataset, "downstream", ("reach",), np.array([-1], np.int32), "index of the reach below; -1 at an outlet")
        put(dataset, "reach_length", ("reach",), 0.0 * one, "length of the reach", "m")
        put(dataset, "link_cell", ("link",), np.zeros(1, np.int32), "index of the cell, from 0")
        put(dataset, "link_reach", ("link",), np.zeros(1, np.int32), "index of the reach, from 0")
        put(dataset, "link_area", ("link",), one * known["area"], "area of the cell in the reach's catchment", "km2")
        if "mean_annual_snowfall" in known:
            put(dataset, "mean_annual_snowfall", ("cell",), one * known["mean_annual_snowfall"],
                "mean solid precipitation of a year", KNOWN["mean_annual_snowfall"])
        if "elevation" in known:
            put(dataset, "cell_elevation", ("cell",), one * known["elevation"], "mean elevation", "m")
        for name, (value, units) in catchment.attributes.items():
            own = _variable_of(name)
            put(dataset, own, (own.partition("_")[0],), one * value, name, units)
