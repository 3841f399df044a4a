"""The files that runs read and write, described from small ones made by the code that writes them.

Whether a variable is needed, the code that reads them says: it is given the file without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.netcdf import LIBRARY
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import OutputFile, read_output
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import select, variable
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.records import write_series
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.attributes import Attribute
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.domain_file import Labels, write_domain
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.weather.forcing_file import define, define_input
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig
from bmi_cdlm.run.parameter_file import COMPONENT, known_parameters

CELLS, REACHES, GAUGES = ["c1", "c2"], ["r1", "r2"], ["g1"]
STARTS = np.datetime64("2000-01-01", "s") + np.arange(2) * np.timedelta64(DAY, "s")
END = STARTS[-1] + np.timedelta64(DAY, "s")
NAME, TOLD = "NAME", "an attribute NAME, in the units that it states"
TYPES = {"float64": "number, 64 bits", "float32": "number, 32 bits", "int64": "whole number", "int32": "whole number",
         "int8": "whole number"}


class Schema(NamedTuple):
    """A kind of file: its heading, what is to be said of it, how one is made, and how it is read."""

    title: str
    text: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]


def render_files() -> list[str]:
    """Return the section on files of the reference, line by line."""
    lines = [
        "## Files\n",
        "What `cdlm prepare` and runs write; files made by hand are read where they have what is *needed*. Ids are "
        "text; missing",
        "numbers NaN or `_FillValue`. Dates are as CF has them; written are seconds since 1970-01-01 in the "
        "`calendar` of the run.",
        "More variables do no harm, but in parameter files, where an unknown name is an error.\n",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for schema in SCHEMAS:
            lines += [f"### {schema.title}\n", schema.text + "\n", *_table(schema, Path(folder))]
    return [*lines, *_parameters()]


def _table(schema: Schema, folder: Path) -> list[str]:
    """Rows of the variables of a file, in its order."""
    path = folder / "made.nc"
    path.unlink(missing_ok=True)
    schema.make(path)
    schema.read(path)  # what is made can be read
    lines = ["| variable | on | holds | units | needed | meaning |", "|---|---|---|---|---|---|"]
    with LIBRARY, netCDF4.Dataset(path) as dataset:
        rows = {v.name: _row(v) for v in dataset.variables.values()}
    for name, (on, holds, units, meaning) in rows.items():
        together = [one for one in rows if _stem(one) == _stem(name)]
        needed = "yes" if _is_needed(schema, path, together) else "no"
        lines.append(f"| `{name}` | {on} | {holds} | {units} | {needed} | {meaning} |")
    return [*lines, ""]


def _row(v: netCDF4.Variable) -> tuple[str, str, str, str]:
    """Dimensions, type, units and meaning of a variable."""
    holds = "text" if v.dtype is str else TYPES[str(v.dtype)]
    meaning = getattr(v, "long_name", "begin and end of the step" if v.name == "time_bnds" else "")
    return ", ".join(f"`{d}`" for d in v.dimensions), holds, getattr(v, "units", ""), meaning


def _stem(name: str) -> str:
    """Longitudes and latitudes come together."""
    return name.removesuffix("_lon").removesuffix("_lat")


def _is_needed(schema: Schema, path: Path, names: list[str]) -> bool:
    """Whether a file without some variables is refused."""
    without = path.with_name("without.nc")
    without.unlink(missing_ok=True)
    with netCDF4.Dataset(path) as source, netCDF4.Dataset(without, "w", format=source.data_model) as out:
        source.set_auto_maskandscale(False)
        for name, dimension in source.dimensions.items():
            out.createDimension(name, None if dimension.isunlimited() else dimension.size)
        out.setncatts({name: source.getncattr(name) for name in source.ncattrs()})
        for v in source.variables.values():
            if v.name not in names:
                fill = getattr(v, "_FillValue", None)
                copy = out.createVariable(v.name, v.dtype, v.dimensions, fill_value=fill)
                copy.set_auto_maskandscale(False)
                copy.setncatts({a: v.getncattr(a) for a in v.ncattrs() if a != "_FillValue"})
                copy[:] = v[:]
    try:
        schema.read(without)
    except CdlmError:
        return True
    return False


# ---- the files -------------------------------------------------------------------------------------------------


def _make_domain(path: Path) -> None:
    two, at = np.arange(2), np.array([50.0, 50.1])
    grid = Grid(5.0, 50.2, 0.1, 0.1, 2, 1, "EPSG:4326")
    corners = np.array([[5.0, 5.1, 5.1, 5.0]] * 2), np.array([[50.0, 50.0, 50.1, 50.1], [50.1, 50.1, 50.2, 50.2]])
    area, lon = np.array([80.0, 80.0]), np.array([5.05, 5.05])
    cells = Cells(np.array(CELLS), lon, at + 0.05, area, *corners, grid, two, two * 0)
    reaches = Reaches(
        np.array(REACHES), np.array([1, -1]), np.array([9000.0, 9000.0]), np.array([0.01, 0.01]), area,
        np.array([80.0, 160.5]), lon, at, np.array([1, 1]), np.array([0.0, 0.5]),
    )
    nothing = np.zeros((0, 0), np.int32)
    drainage = Drainage(Catchments(grid, nothing, nothing, np.zeros(2)), reaches, cells, Links(two, two, area))
    sites = [GaugeSite(GAUGES[0], "Gauge", 5.0, 50.1, 160.0, {})]
    nan, none = np.full(1, np.nan), np.zeros(1)
    gauges = SnappedGauges(sites, np.array([1]), none + 160, none, none, none.astype(bool), {}, nan, nan, none)
    one = {NAME: Attribute(np.ones(2), "1", TOLD)}
    snow = {"mean_annual_snowfall": Attribute(np.ones(2), "mm yr-1", "mean annual snowfall, for CemaNeige")}
    height = {"elevation": Attribute(np.ones(2), "m", "elevation, for processes and formulas that take it")}
    write_domain(path, drainage, gauges, {**height, **one, **snow}, one, Labels("", ""))


def _make_forcing(path: Path) -> None:
    names = [v.short for v in select(role="input")]
    weather = Weather(ForcingConfig(precipitation={"source": "none"}), PetConfig())  # type: ignore[arg-type]
    with LIBRARY, netCDF4.Dataset(path, "w") as dataset:
        define(dataset, CELLS, Steps(STARTS, DAY), {})
        for name in names:
            define_input(dataset, name, weather, (2, 2))[:] = np.ones((2, 2))


def _read_forcing(path: Path) -> None:
    """As a run with given demand, without snow."""
    ForcingFile(path, ["precipitation", "potential_evapotranspiration"], CELLS, STARTS[0], END, DAY, {}).close()


def _make_observations(path: Path) -> None:
    with LIBRARY:
        write_series(path, GAUGES, STARTS, DAY, np.ones((2, 1)), np.zeros((2, 1), np.int8), {})


def _make_output(path: Path) -> None:
    with OutputFile(path, "gauge", GAUGES, ["discharge"], DAY, {}, (np.array([5.0]), np.array([50.1]))) as output:
        output.append(STARTS, {"discharge": np.ones((2, 1))})


def _parameters() -> list[str]:
    """What parameter files may hold, as their reader knows it."""
    lines = [
        "### Parameters (`parameters`)\n",
        "Any of these; others keep their defaults. One without a dimension holds everywhere; with the dimension "
        f"`{COMPONENT}` in front there",
        "is one per parameter set. An attribute `time_step` of the file (`1 d`, `1 h`) must be that of the run.\n",
        "| variable | on | holds | units | needed | meaning |", "|---|---|---|---|---|---|",
        *(f"| `{grid}_id` | `{grid}` | text | | no | ids of the domain, in any order; without them in the domain's |"
          for grid in ("cell", "reach")),
    ]
    for name, (grid, units, meaning) in known_parameters().items():
        lines.append(f"| `{name}` | `{grid}` | {TYPES['float64']} | {units} | no | {meaning} |")
    return [*lines, ""]


def _texts() -> Iterator[Schema]:
    yield Schema(
        "Domain (`domain`)",
        "Cells, reaches, the links between them, and gauges; dimensions `cell`, `reach`, `link`, `gauge` and "
        "`corner` (4). "
        "Without gauges the dimension `gauge` is left out. Whatever is called `cell_NAME` or `reach_NAME` is an "
        "attribute.",
        _make_domain, read_domain,
    )
    yield Schema(
        "Forcing (`forcing`)",
        "`time` is the start of a step. *Needed* is what a run with given potential evapotranspiration and without "
        "snow takes; `cdlm doctor` and the tables below tell what others do. Other units than these are refused.",
        _make_forcing, _read_forcing,
    )
    yield Schema(
        "Observations (`observations`)", "At gauges of the domain, and others that are passed over; gaps are NaN.",
        _make_observations, lambda path: read_observations(path, GAUGES, STARTS[0], END, DAY),
    )
    yield Schema(
        "Output (`output`)",
        f"The variables of `output_variables`, here `discharge` [{variable('discharge').units}] at gauges; at "
        "reaches or "
        "cells the dimension, the ids and places are `reach` or `cell`. `time` is the start of a step, states are "
        "those at its end. *Needed* is what `cdlm evaluate` reads.",
        _make_output, lambda path: read_output(path, "discharge"),
    )


SCHEMAS = tuple(_texts())
