"""The CF layout of an output file, as NetCDF-4 for keeps and as classic NetCDF while a run writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import create_time
from bmi_cdlm.files.packing import describe
from bmi_cdlm.names.calendars import STANDARD
from bmi_cdlm.names.variables import variable
from bmi_cdlm.version import __version__

Dimension = Literal["gauge", "reach", "cell"]
CHUNK_POINTS = 4096


class Layout(NamedTuple):
    """What an output file holds.

    dimension: what the points are; ids : str[point]; names: short names of the variables; chunk_steps: steps
    per chunk; attributes: global ones; position: (lon, lat) of the points, float64[point] in degrees, or None;
    precision: significant digits of values in 32 bits, or None for 64 bits; calendar: of the times.
    """

    dimension: Dimension
    ids: Sequence[str]
    names: Sequence[str]
    chunk_steps: int
    attributes: Mapping[str, str]
    position: tuple[np.ndarray, np.ndarray] | None
    precision: int | None = None
    calendar: str = STANDARD

    @property
    def dtype(self) -> type[np.floating]:
        """Type of the values in the file."""
        return np.float64 if self.precision is None else np.float32


def define(dataset: netCDF4.Dataset, layout: Layout) -> None:
    """Write everything but the steps into a new file: dimensions, variables, attributes, ids, positions."""
    dataset.setncatts({
        "Conventions": "CF-1.11", "title": "Output of CDLM", "source": f"bmi_cdlm {__version__}",
        **layout.attributes,
    })
    create_time(dataset, layout.calendar)
    dataset.createDimension(layout.dimension, len(layout.ids))
    values = _define_ids(dataset, layout) | _define_position(dataset, layout)
    for name in layout.names:
        _define_variable(dataset, name, layout)
    for name, given in values.items():  # last: a classic file moves its values when its header grows
        dataset.variables[name][:] = given


def _define_ids(dataset: netCDF4.Dataset, layout: Layout) -> dict[str, np.ndarray]:
    name = f"{layout.dimension}_id"
    if dataset.data_model == "NETCDF4":
        target = dataset.createVariable(name, str, (layout.dimension,))
        values = np.array(list(layout.ids), object)
    else:
        encoded = np.array([one.encode() for one in layout.ids])
        dataset.createDimension("id_length", encoded.dtype.itemsize)
        target = dataset.createVariable(name, "S1", (layout.dimension, "id_length"))
        values = encoded.view("S1").reshape(encoded.size, -1)
    target.long_name = f"id of the {layout.dimension}"
    if layout.dimension == "gauge" and layout.position is not None:
        dataset.featureType = "timeSeries"
        target.cf_role = "timeseries_id"
    return {name: values}


def _define_position(dataset: netCDF4.Dataset, layout: Layout) -> dict[str, np.ndarray]:
    if layout.position is None:
        return {}
    dimension = layout.dimension
    for suffix, standard, units in (("lon", "longitude", "degrees_east"), ("lat", "latitude", "degrees_north")):
        target = dataset.createVariable(f"{dimension}_{suffix}", "f8", (dimension,))
        target.setncatts({
            "standard_name": standard, "long_name": f"{standard} of the {dimension}", "units": units,
        })
    return {f"{dimension}_lon": layout.position[0], f"{dimension}_lat": layout.position[1]}


def _define_variable(dataset: netCDF4.Dataset, name: str, layout: Layout) -> None:
    entry = variable(name)
    storage: dict[str, Any] = {}
    if dataset.data_model == "NETCDF4":
        chunks = (layout.chunk_steps, min(len(layout.ids), CHUNK_POINTS))
        storage = {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
    target = dataset.createVariable(
        name, np.dtype(layout.dtype).str[1:], ("time", layout.dimension), fill_value=np.nan, **storage
    )
    target.setncatts({
        "long_name": entry.meaning, "units": entry.units, "csdms_name": entry.name,
        "cell_methods": "time: point" if entry.role == "state" else "time: mean",
    })
    if layout.precision is not None:
        target.comment = describe(layout.precision)
    if layout.position is not None:
        target.coordinates = f"{layout.dimension}_lat {layout.dimension}_lon"
