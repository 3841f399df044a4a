r"""Convert samples of basins with weather, discharge and attributes in NetCDF to the files of a run: a cell per basin.

    python examples/prepare_lumped.py PATH/TO/basins_mopex_a.nc PATH/TO/basins_mopex_b.nc --to cfg/mopex
    python examples/prepare_lumped.py PATH/TO/basins_camelsus.nc --climate --leave-out 12010000 --leave-out 10259000 \
        --to cfg/camels_us

The source files are not part of the project. They have basin_id, precipitation, temperature, pet and runoff_obs (daily,
[mm d-1], [degC]), mostly area, lat, lon, and attributes as `attr_NAME`. Every basin becomes one cell, one reach of no
length and one gauge. What the files lack is made here: mean annual snowfall from their own weather (USACE phase
partition) and, with `--climate`, the climate attributes of `cdlm prepare`, which mean the same in every sample, so that
a network of one sample reads another.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.weather.climate import climate_of_cells
from bmi_cdlm.processes.cemaneige import solid_fraction

DAY = 86400
Columns = dict[str, np.ndarray]


@click.command()
@click.argument("sources", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("cfg/mopex"), show_default=True)
@click.option("--climate", is_flag=True, help="Climate attributes of the series, in place of those of the same name.")
@click.option("--leave-out", multiple=True, metavar="ID", help="A basin to leave out; may be given several times.")
@click.option("--region", "regions", multiple=True, metavar="NAME=PREFIX,...",
              help="Write regions.csv: basins whose ids begin so are of region NAME; may be given several times.")
@click.option("--units", "stated", multiple=True, metavar="NAME=UNITS",
              help="Of an attribute whose source states none (taken as 1); may be given several times.")
@click.option("--area", type=click.FloatRange(min=0, min_open=True), help="Of all, where a file has none [km2].")
def main(
    sources: tuple[Path, ...], folder: Path, climate: bool, leave_out: tuple[str, ...], regions: tuple[str, ...],
    stated: tuple[str, ...], area: float | None,
) -> None:
    """Write domain.nc, forcing.nc and, where discharge is known, observations.nc from the files SOURCES."""
    values, units, time = read(sources)
    units |= given_units(stated, units)
    values, told = completed(values, area)
    values = without(values, leave_out)
    table = region_table(values["basin_id"].astype(str).tolist(), regions)
    folder.mkdir(parents=True, exist_ok=True)
    if table:
        (folder / "regions.csv").write_text(table, encoding="utf-8")
    write_series(folder / "forcing.nc", "cell", values, time, {
        "precipitation": (values["precipitation"], "mm d-1"), "air_temperature": (values["temperature"], "degC"),
        "potential_evapotranspiration": (values["pet"], "mm d-1"),
    })
    if climate:
        found = climate_of_cells(folder / "forcing.nc", values["basin_id"].astype(str).tolist())
        values |= {f"attr_{n}": one.values for n, one in found.items() if n != "mean_annual_snowfall"}
        units |= {f"attr_{n}": one.units for n, one in found.items() if n != "mean_annual_snowfall"}
    write_domain(folder / "domain.nc", values, units)
    flow = values["runoff_obs"] * values["area"] / 86.4
    if np.isfinite(flow).any():
        write_series(folder / "observations.nc", "gauge", values, time, {"discharge": (flow, "m3 s-1")})
    click.echo(f"wrote {folder}: {values['area'].size} basins{told}")


def read(sources: tuple[Path, ...]) -> tuple[Columns, dict[str, str], np.ndarray]:
    """Values by name, [time, basin] or [basin] of all files side by side; units of attributes; begin of the days.

    Attributes are those that every file has as numbers.
    """
    parts, units, times = [], {}, []
    for source in sources:
        with netCDF4.Dataset(source) as data:
            parts.append({n: filled(v[:]) for n, v in data.variables.items() if is_column(n, v)})
            units |= {n: getattr(v, "units", "1") for n, v in data.variables.items() if n.startswith("attr_")}
            dates = netCDF4.num2date(data["time"][:], data["time"].units, only_use_cftime_datetimes=False)
            times.append(np.array(dates, "datetime64[s]"))
        if not np.array_equal(times[-1], times[0]):
            raise click.ClickException(
                f"{source}: holds {times[-1][0]} to {times[-1][-1]}, expected the days of {sources[0]}, "
                f"{times[0][0]} to {times[0][-1]}. Convert them to folders of their own.")
    names = [n for n in parts[0] if all(n in part for part in parts)]
    values = {n: np.concatenate([part[n] for part in parts], axis=-1) for n in names}
    return values, {n: u for n, u in units.items() if n in values}, times[0]


def given_units(stated: tuple[str, ...], units: dict[str, str]) -> dict[str, str]:
    """Units by variable that the command line states; refused where the files state others."""
    found = {f"attr_{name}": unit for name, _, unit in (one.partition("=") for one in stated)}
    for name, unit in found.items():
        if name not in units or not unit:
            raise click.ClickException(
                f"--units {name.removeprefix('attr_')}={unit}: expected NAME=UNITS of one of "
                f"{', '.join(n.removeprefix('attr_') for n in units)}.")
        if units[name] not in ("1", unit):
            raise click.ClickException(
                f"--units {name.removeprefix('attr_')}={unit}: the files say '{units[name]}'. Leave it out.")
    return found


def is_column(name: str, variable: netCDF4.Variable) -> bool:
    """Of basins, or of days and basins; of attributes those that are numbers."""
    known = variable.dimensions in {("basin",), ("time", "basin")}
    return known and (not name.startswith("attr_") or (variable.dtype is not str and variable.dtype.kind in "fiu"))


def filled(values: np.ndarray) -> np.ndarray:
    """What is missing in numbers as NaN."""
    return np.ma.filled(values, np.nan) if np.ma.isMaskedArray(values) and values.dtype.kind == "f" else values


def completed(values: Columns, area: float | None) -> tuple[Columns, str]:
    """With the area and the place of every basin, and what was made up, in words."""
    n, told = values["basin_id"].size, ""
    if "area" not in values:
        if area is None:
            raise click.ClickException(
                "the files have no 'area', which turns runoff into discharge. Give one for all with --area 100: scores "
                "do not depend on it, as no river joins two basins.")
        values, told = values | {"area": np.full(n, area)}, f", each of {area:g} km2"
    if "lat" not in values or "lon" not in values:
        values = values | {"lat": np.zeros(n), "lon": np.zeros(n)}
        told += ", all at 0 N 0 E for want of coordinates: there are no nearest ones"
    return values, told


def without(values: Columns, left_out: tuple[str, ...]) -> Columns:
    """All but some basins."""
    ids = values["basin_id"].astype(str)
    unknown = [one for one in left_out if one not in ids]
    if unknown:
        raise click.ClickException(f"--leave-out {unknown[0]}: no such basin. The files have {', '.join(ids[:5])}, ...")
    kept = ~np.isin(ids, left_out)
    return {n: v[..., kept] for n, v in values.items()}


def region_table(ids: list[str], regions: tuple[str, ...]) -> str:
    """The region of every basin as CSV, by the begin of its id; nothing without regions."""
    if not regions:
        return ""
    lines, known = ["gauge,region"], [one.partition("=") for one in regions]
    for gauge in ids:
        own = [name for name, _, prefixes in known if gauge.startswith(tuple(p for p in prefixes.split(",") if p))]
        if len(own) != 1:
            raise click.ClickException(f"--region: basin {gauge} is in {len(own)} of the regions, expected one.")
        lines.append(f"{gauge},{own[0]}")
    return "\n".join(lines) + "\n"


def write_domain(path: Path, values: Columns, units: dict[str, str]) -> None:
    ids, area = values["basin_id"].astype(str).astype(object), values["area"].astype(float)
    n, index, nothing = area.size, np.arange(area.size), np.zeros(area.size)
    snow = np.vectorize(solid_fraction)(values["temperature"]) * values["precipitation"]
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        for dimension in ("cell", "reach", "link", "gauge"):
            out.createDimension(dimension, n)
        for dimension in ("cell", "reach", "gauge"):
            put(out, f"{dimension}_id", dimension, ids)
        put(out, "cell_lon", "cell", values["lon"].astype(float), "degrees_east")
        put(out, "cell_lat", "cell", values["lat"].astype(float), "degrees_north")
        put(out, "cell_area", "cell", area, "km2")
        put(out, "mean_annual_snowfall", "cell", np.maximum(np.nanmean(snow, axis=0) * 365.25, 1.0), "mm yr-1")
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
