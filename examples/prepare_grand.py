"""Convert the Grand River example (GRIP-E: 8,408 reaches, 1,000 cells, 5 gauges, 2010-2014) to the files of a run.

    python examples/prepare_grand.py PATH/TO/example_grand.nc --to cfg/grand
    python examples/prepare_grand.py PATH/TO/example_grand.nc --official-areas --to cfg/grand_official

The source file is not part of the project. What it lacks is made here: mean annual snowfall from its own forcing
(USACE phase partition), and the cells' mean climate as attributes. With `--official-areas` what lies between gauges is
scaled until each gauge drains its official area, as `prepare.gauges.official_areas` of `cdlm prepare` does.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream, order_reaches, places_in, renumbered
from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.gauges.official_areas import factors_between
from bmi_cdlm.processes.cemaneige import solid_fraction

DAY = 86400
CELL_NAMES = (
    "elevation", "slope", "frac_forest", "frac_savanna_shrub", "frac_grass", "frac_crop", "frac_urban",
    "frac_soil_clay", "frac_soil_silt", "frac_soil_silt_loam",
)


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("cfg/grand"), show_default=True)
@click.option("--official-areas", is_flag=True, help="Scale areas between gauges to the official ones.")
def main(source: Path, folder: Path, official_areas: bool) -> None:
    """Write domain.nc, forcing.nc and observations.nc from the example file SOURCE."""
    folder.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(source) as data:
        data.set_auto_mask(False)
        write_domain(folder / "domain.nc", data, official_areas)
        write_forcing(folder / "forcing.nc", data)
        write_observations(folder / "observations.nc", data)
    click.echo(f"wrote {folder}")


def write_domain(path: Path, data: netCDF4.Dataset, official_areas: bool) -> None:
    links = data["weight_area"][:].astype("f8")
    area = np.bincount(data["weight_reach"][:], weights=links, minlength=data.dimensions["reach"].size)
    upstream = data["area_total"][:]
    if official_areas:
        factor = to_official_areas(
            data["downstream_index"][:], area, data["gauge_reach"][:], data["gauge_area"][:].astype("f8"),
        )
        links, area = links * factor[data["weight_reach"][:]], area * factor
        upstream = accumulated(data["downstream_index"][:], area)
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        for name, size in (("cell", data.dimensions["cell"].size), ("reach", area.size),
                           ("link", data.dimensions["weight"].size), ("gauge", data.dimensions["gauge"].size)):
            out.createDimension(name, size)
        put(out, "cell_id", "cell", np.array([f"c{i:05d}" for i in range(data.dimensions["cell"].size)], object))
        put(out, "cell_lon", "cell", data["cell_lon"][:], "degrees_east")
        put(out, "cell_lat", "cell", data["cell_lat"][:], "degrees_north")
        put(out, "cell_area", "cell", data["cell_area"][:], "km2")
        for name in CELL_NAMES:
            put(out, f"cell_{name}", "cell", data[f"cell_{name}"][:], "m" if name == "elevation" else "1")
        for name, (values, units) in climate(data).items():
            put(out, name, "cell", values, units)
        rows, cols = data["reach_row"][:], data["reach_col"][:]
        put(out, "reach_id", "reach", np.array([f"{r:04d}_{c:04d}" for r, c in zip(rows, cols, strict=True)], object))
        put(out, "downstream", "reach", data["downstream_index"][:].astype("i8"))
        put(out, "reach_length", "reach", data["length"][:], "m")
        put(out, "reach_slope", "reach", data["slope"][:], "1")
        put(out, "reach_area", "reach", area, "km2")
        put(out, "upstream_area", "reach", upstream, "km2")
        put(out, "reach_lon", "reach", data["reach_lon"][:], "degrees_east")
        put(out, "reach_lat", "reach", data["reach_lat"][:], "degrees_north")
        put(out, "link_cell", "link", data["weight_cell"][:].astype("i8"))
        put(out, "link_reach", "link", data["weight_reach"][:].astype("i8"))
        put(out, "link_area", "link", links, "km2")
        put(out, "gauge_id", "gauge", data["gauge_id"][:].astype(object))
        put(out, "gauge_name", "gauge", data["gauge_name"][:].astype(object))
        put(out, "gauge_reach", "gauge", data["gauge_reach"][:].astype("i8"))
        put(out, "gauge_area", "gauge", data["gauge_area"][:].astype("f8"), "km2")


def to_official_areas(downstream: np.ndarray, area: np.ndarray, gauges: np.ndarray, official: np.ndarray) -> np.ndarray:
    """Factor on the area of every reach, float64[reach], with which each gauge drains its official area [km2]."""
    order, below = in_routing_order(downstream)
    ids = [f"of reach {reach}" for reach in gauges]
    return factors_between(below, area[order], places_in(order)[gauges], official, ids)[places_in(order)]


def accumulated(downstream: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Area that drains to the end of every reach [km2]."""
    order, below = in_routing_order(downstream)
    return accumulate_downstream(below, area[order])[places_in(order)]


def in_routing_order(downstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which reaches come behind those above them, and the reaches below by places in it."""
    order = order_reaches(downstream, [str(reach) for reach in range(downstream.size)])
    return order, renumbered(downstream, order)


def climate(data: netCDF4.Dataset) -> dict[str, tuple[np.ndarray, str]]:
    """Mean annual snowfall and mean climate of every cell, over the whole record."""
    rain, cold, demand = (data[n][:].astype("f8") for n in ("precipitation", "temperature", "pet"))
    fraction = np.vectorize(solid_fraction)(cold)
    mean_rain, mean_demand = rain.mean(axis=0), demand.mean(axis=0)
    return {
        "mean_annual_snowfall": ((fraction * rain).mean(axis=0) * 365.25, "mm yr-1"),
        "cell_mean_precipitation": (mean_rain, "mm d-1"),
        "cell_mean_temperature": (cold.mean(axis=0), "degC"),
        "cell_aridity": (mean_demand / mean_rain, "1"),
    }


def write_forcing(path: Path, data: netCDF4.Dataset) -> None:
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.createDimension("cell", data.dimensions["cell"].size)
        put(out, "cell_id", "cell", np.array([f"c{i:05d}" for i in range(data.dimensions["cell"].size)], object))
        put_time(out, data)
        for name, short, units in (("precipitation", "precipitation", "mm d-1"),
                                   ("pet", "potential_evapotranspiration", "mm d-1"),
                                   ("temperature", "air_temperature", "degC")):
            variable = out.createVariable(short, "f4", ("time", "cell"), zlib=True, fill_value=np.float32(np.nan))
            variable.units = units
            variable[:] = data[name][:]


def write_observations(path: Path, data: netCDF4.Dataset) -> None:
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.createDimension("gauge", data.dimensions["gauge"].size)
        put(out, "gauge_id", "gauge", data["gauge_id"][:].astype(object))
        put_time(out, data)
        variable = out.createVariable("discharge", "f8", ("time", "gauge"), fill_value=np.nan)
        variable.units = "m3 s-1"
        variable[:] = data["discharge_obs"][:]


def put_time(out: netCDF4.Dataset, data: netCDF4.Dataset) -> None:
    dates = netCDF4.num2date(data["time"][:], data["time"].units, only_use_cftime_datetimes=False)
    create_time(out)
    write_time(out, 0, np.array(dates, "datetime64[s]"), DAY)


def put(out: netCDF4.Dataset, name: str, dim: str, values: np.ndarray, units: str | None = None) -> None:
    if values.dtype == object:
        out.createVariable(name, str, (dim,))[:] = values
        return
    variable = out.createVariable(name, "i8" if values.dtype.kind == "i" else "f8", (dim,))
    if units is not None:
        variable.units = units
    variable[:] = values


if __name__ == "__main__":
    main()
