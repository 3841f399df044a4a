"""The three files of a prepared case: domain, forcing, observations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files import create_time, replacing, write_time
from bmi_cdlm.prepare.basin import Basin, Descriptor
from bmi_cdlm.prepare.rasters import centres, corners
from bmi_cdlm.prepare.weather import Series

CONVENTIONS = "CF-1.10"
STEPS_PER_CHUNK = 512


class Record(NamedTuple):
    """What a case knows about its basin in time.

    starts : datetime64[s][time]; step [s]; discharge : float64[time, gauge] [m3 s-1], NaN where missing.
    """

    starts: np.ndarray
    step: int
    precipitation: Series
    potential_evapotranspiration: Series
    discharge: np.ndarray


class Labels(NamedTuple):
    """Words for the files. *_notes : further global attributes of one file."""

    title: str
    source: str
    license: str
    forcing_notes: dict[str, str]
    observation_notes: dict[str, str]


def case_files(folder: Path) -> dict[str, Path]:
    """Return where the files of a case lie, by the configuration's key for each."""
    return {name: folder / f"{name}.nc" for name in ("domain", "forcing", "observations")}


def write_case(folder: Path, basin: Basin, record: Record, labels: Labels) -> dict[str, Path]:
    """Write the three files; they replace older ones together, once all are complete."""
    files = case_files(folder)
    with ExitStack() as stack:
        domain, forcing, observations = (stack.enter_context(replacing(path)) for path in files.values())
        _write_domain(domain, basin, labels)
        _write_forcing(forcing, basin, record, labels)
        _write_observations(observations, basin, record, labels)
    return files


def _write_domain(path: Path, basin: Basin, labels: Labels) -> None:
    with netCDF4.Dataset(path, "w") as dataset:
        _describe(dataset, f"{labels.title}: domain", labels, {
            "comment": "every pixel that drains to a gauge is a cell and a reach; ids are row_column on the "
                       "grid of the flow direction raster",
        })
        n, n_gauges = basin.area.size, len(basin.gauges)
        for dimension, size in (("cell", n), ("corner", 4), ("reach", n), ("link", n), ("gauge", n_gauges)):
            dataset.createDimension(dimension, size)
        _write_cells(dataset, basin)
        _write_reaches(dataset, basin)
        put(dataset, "link_cell", ("link",), np.arange(n), "index of the cell, from 0")
        put(dataset, "link_reach", ("link",), np.arange(n), "index of the reach, from 0")
        put(dataset, "link_area", ("link",), basin.area, "area of the cell in the reach's catchment", "km2")
        put_ids(dataset, "gauge", [gauge.id for gauge in basin.gauges], "code of the gauging station")
        put(dataset, "gauge_name", ("gauge",), [gauge.id for gauge in basin.gauges],
             "name of the gauge; its code, the source gives no other")
        put(dataset, "gauge_reach", ("gauge",), basin.gauge_pixel, "index of the reach, from 0")
        put(dataset, "gauge_area", ("gauge",), [gauge.area for gauge in basin.gauges],
             "official drainage area", "km2")


def _write_cells(dataset: netCDF4.Dataset, basin: Basin) -> None:
    lon, lat = centres(basin.pixels)
    corner_lon, corner_lat = corners(basin.pixels)
    put_ids(dataset, "cell", basin.pixels.ids, "cell")
    put(dataset, "cell_lon", ("cell",), lon, "longitude of the cell's centre", "degrees_east", "longitude",
         bounds="cell_corner_lon")
    put(dataset, "cell_lat", ("cell",), lat, "latitude of the cell's centre", "degrees_north", "latitude",
         bounds="cell_corner_lat")
    put(dataset, "cell_corner_lon", ("cell", "corner"), corner_lon, "longitude of the cell's corners",
         "degrees_east")
    put(dataset, "cell_corner_lat", ("cell", "corner"), corner_lat, "latitude of the cell's corners",
         "degrees_north")
    put(dataset, "cell_area", ("cell",), basin.area, "area of the cell on the map", "km2", "cell_area")
    _put_attributes(dataset, "cell", basin.attributes)


def _write_reaches(dataset: netCDF4.Dataset, basin: Basin) -> None:
    lon, lat = centres(basin.pixels)
    put_ids(dataset, "reach", basin.pixels.ids, "reach")
    put(dataset, "downstream", ("reach",), basin.network.downstream,
         "index of the reach below, from 0; -1 at an outlet")
    put(dataset, "reach_length", ("reach",), basin.length, "distance to the centre of the next pixel", "m")
    put(dataset, "reach_area", ("reach",), basin.area, "area that drains to the reach itself", "km2")
    put(dataset, "upstream_area", ("reach",), basin.upstream_area, "area that drains through it", "km2")
    put(dataset, "reach_lon", ("reach",), lon, "longitude of the reach's head", "degrees_east", "longitude")
    put(dataset, "reach_lat", ("reach",), lat, "latitude of the reach's head", "degrees_north", "latitude")
    _put_attributes(dataset, "reach", basin.attributes)


def _write_forcing(path: Path, basin: Basin, record: Record, labels: Labels) -> None:
    with netCDF4.Dataset(path, "w") as dataset:
        missing = np.union1d(record.precipitation.missing, record.potential_evapotranspiration.missing)
        _describe(dataset, f"{labels.title}: forcing", labels, {
            "missing_steps": " ".join(start.isoformat() for start in missing.tolist()) or "none",
            **labels.forcing_notes,
        })
        dataset.createDimension("cell", basin.area.size)
        put_ids(dataset, "cell", basin.pixels.ids, "cell, as in the domain")
        _put_steps(dataset, record)
        rain, demand = record.precipitation.values, record.potential_evapotranspiration.values
        _put_series(dataset, "precipitation", "cell", rain, {
            "standard_name": "lwe_precipitation_rate", "long_name": "rain and snow falling on the cell",
            "units": "mm d-1",
        })
        _put_series(dataset, "potential_evapotranspiration", "cell", demand, {
            "long_name": "evaporative demand of the atmosphere", "units": "mm d-1",
        })


def _write_observations(path: Path, basin: Basin, record: Record, labels: Labels) -> None:
    with netCDF4.Dataset(path, "w") as dataset:
        _describe(dataset, f"{labels.title}: observed discharge", labels, labels.observation_notes)
        dataset.createDimension("gauge", len(basin.gauges))
        put_ids(dataset, "gauge", [gauge.id for gauge in basin.gauges], "code of the gauging station")
        _put_steps(dataset, record)
        _put_series(dataset, "discharge", "gauge", record.discharge, {
            "standard_name": "water_volume_transport_in_river_channel", "long_name": "observed discharge",
            "units": "m3 s-1",
        })


def _describe(dataset: netCDF4.Dataset, title: str, labels: Labels, notes: dict[str, str]) -> None:
    dataset.setncatts({
        "Conventions": CONVENTIONS, "title": title, "source": labels.source, "license": labels.license,
        **notes,
    })


def put(
    dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...],
    values: np.ndarray | Sequence[str] | Sequence[float], long_name: str, units: str = "",
    standard_name: str = "", **attributes: str,
) -> None:
    """Write one variable: float64, int32 for indices, or strings; empty attributes are left out."""
    array = np.asarray(values)
    text = array.dtype.kind == "U"
    variable = dataset.createVariable(name, str if text else {"f": "f8", "i": "i4"}[array.dtype.kind], dims)
    described = {"standard_name": standard_name, "long_name": long_name, "units": units, **attributes}
    variable.setncatts({key: value for key, value in described.items() if value})
    variable[:] = array.astype(object) if text else array


def put_ids(dataset: netCDF4.Dataset, dimension: str, ids: list[str], long_name: str) -> None:
    """Write the ids of a dimension."""
    role = {"cf_role": "timeseries_id"} if dimension == "gauge" else {}
    put(dataset, f"{dimension}_id", (dimension,), ids, long_name, **role)


def _put_attributes(
    dataset: netCDF4.Dataset, dimension: str, attributes: dict[Descriptor, np.ndarray]
) -> None:
    for descriptor, values in attributes.items():
        put(dataset, f"{dimension}_{descriptor.name}", (dimension,), values, descriptor.long_name,
             descriptor.units, comment=descriptor.comment)


def _put_steps(dataset: netCDF4.Dataset, record: Record) -> None:
    create_time(dataset)
    write_time(dataset, 0, record.starts, record.step)


def _put_series(
    dataset: netCDF4.Dataset, name: str, dimension: str, values: np.ndarray, attributes: dict[str, str]
) -> None:
    """Write a variable in time, compressed, in the precision of `values`; NaN where missing."""
    variable = dataset.createVariable(
        name, values.dtype, ("time", dimension), zlib=True, fill_value=values.dtype.type(np.nan),
        chunksizes=(min(values.shape[0], STEPS_PER_CHUNK), values.shape[1]),
    )
    variable.setncatts({**attributes, "cell_methods": "time: mean", "coordinates": f"{dimension}_id"})
    variable[:] = values
