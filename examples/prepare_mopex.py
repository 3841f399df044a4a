"""Convert basins with weather, discharge and attributes (MOPEX: daily, 1975-10 to 1990-09) to the files of a run.

    python examples/prepare_mopex.py PATH/TO/basins_mopex_a.nc PATH/TO/basins_mopex_b.nc --to cfg/mopex

The source files are not part of the project. Every basin is one cell, one reach of no length and one gauge. What the
files lack is made here: mean annual snowfall from their own weather (USACE phase partition).
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.processes.cemaneige import solid_fraction

DAY = 86400
Columns = dict[str, np.ndarray]


@click.command()
@click.argument("sources", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("cfg/mopex"), show_default=True)
def main(sources: tuple[Path, ...], folder: Path) -> None:
    """Write domain.nc, forcing.nc and, where discharge is known, observations.nc from the files SOURCES."""
    folder.mkdir(parents=True, exist_ok=True)
    values, units, time = read(sources)
    write_domain(folder / "domain.nc", values, units)
    write_series(folder / "forcing.nc", "cell", values, time, {
        "precipitation": (values["precipitation"], "mm d-1"), "air_temperature": (values["temperature"], "degC"),
        "potential_evapotranspiration": (values["pet"], "mm d-1"),
    })
    flow = values["runoff_obs"] * values["area"] / 86.4
    if np.isfinite(flow).any():
        write_series(folder / "observations.nc", "gauge", values, time, {"discharge": (flow, "m3 s-1")})
    click.echo(f"wrote {folder}: {values['area'].size} basins")


def read(sources: tuple[Path, ...]) -> tuple[Columns, dict[str, str], np.ndarray]:
    """Values by name, [time, basin] or [basin] of all files side by side; units of attributes; begin of the days."""
    parts, units, time = [], {}, np.zeros(0, "datetime64[s]")
    for source in sources:
        with netCDF4.Dataset(source) as data:
            parts.append({n: filled(v[:]) for n, v in data.variables.items() if "basin" in v.dimensions})
            units |= {n: v.units for n, v in data.variables.items() if n.startswith("attr_")}
            time = np.array(
                netCDF4.num2date(data["time"][:], data["time"].units, only_use_cftime_datetimes=False), "datetime64[s]")
    return {n: np.concatenate([part[n] for part in parts], axis=-1) for n in parts[0]}, units, time


def filled(values: np.ndarray) -> np.ndarray:
    """What is missing in numbers as NaN."""
    return np.ma.filled(values, np.nan) if np.ma.isMaskedArray(values) and values.dtype.kind == "f" else values


def write_domain(path: Path, values: Columns, units: dict[str, str]) -> None:
    ids, area = values["basin_id"].astype(str).astype(object), values["area"].astype(float)
    n, index, nothing = area.size, np.arange(area.size), np.zeros(area.size)
    fraction = np.vectorize(solid_fraction)(values["temperature"])
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        for dimension in ("cell", "reach", "link", "gauge"):
            out.createDimension(dimension, n)
        for dimension in ("cell", "reach", "gauge"):
            put(out, f"{dimension}_id", dimension, ids)
        put(out, "cell_lon", "cell", values["lon"], "degrees_east")
        put(out, "cell_lat", "cell", values["lat"], "degrees_north")
        put(out, "cell_area", "cell", area, "km2")
        snowfall = (fraction * values["precipitation"]).mean(axis=0) * 365.25
        put(out, "mean_annual_snowfall", "cell", np.maximum(snowfall, 1.0), "mm yr-1")
        for name, unit in units.items():
            put(out, f"cell_{name.removeprefix('attr_')}", "cell", values[name].astype(float), unit)
        put(out, "downstream", "reach", np.full(n, -1))
        for name, value, unit in (("length", nothing, "m"), ("slope", nothing, "1"), ("area", area, "km2")):
            put(out, f"reach_{name}", "reach", value, unit)
        put(out, "link_cell", "link", index)
        put(out, "link_reach", "link", index)
        put(out, "link_area", "link", area, "km2")
        put(out, "gauge_reach", "gauge", index)
        put(out, "gauge_area", "gauge", area, "km2")


def write_series(
    path: Path, dimension: str, values: Columns, time: np.ndarray, columns: dict[str, tuple[np.ndarray, str]]
) -> None:
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.createDimension(dimension, values["area"].size)
        put(out, f"{dimension}_id", dimension, values["basin_id"].astype(str).astype(object))
        create_time(out)
        write_time(out, 0, time, DAY)
        for name, (series, units) in columns.items():
            variable = out.createVariable(name, "f8", ("time", dimension), zlib=True, fill_value=np.nan)
            variable.units = units
            variable[:] = series


def put(out: netCDF4.Dataset, name: str, dimension: str, values: np.ndarray, units: str | None = None) -> None:
    variable = out.createVariable(name, str if values.dtype == object else values.dtype, (dimension,))
    if units is not None:
        variable.units = units
    variable[:] = values


if __name__ == "__main__":
    main()
