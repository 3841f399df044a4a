"""A made-up drainage: columns of cells that drain south, a reach per cell."""

from __future__ import annotations

import netCDF4
import numpy as np

from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.grid import Grid


def make_drainage(
    *, left: float = 10.0, top: float = 50.0, size: float = 0.01, n: int = 4, factor: int = 3, crs: str = "EPSG:4326",
    shift: int = 0,
) -> Drainage:
    """`n` by `n` cells of `factor` by `factor` pixels; catchments lie `shift` pixels east of the cells."""
    grid = Grid(left, top, size, size, n * factor, n * factor, crs)
    row, col = (index // factor for index in np.indices(grid.shape))
    cell = (row * n + col).astype(np.int32)
    reach = np.roll((col * n + row).astype(np.int32), shift, axis=1)
    reach[:, :shift] = -1
    area = grid.row_areas()
    pixel = np.broadcast_to(area[:, None], grid.shape)
    inside = reach >= 0
    key, position = np.unique(reach[inside].astype(np.int64) * n * n + cell[inside], return_inverse=True)
    links = Links(key % (n * n), key // (n * n), np.bincount(position, pixel[inside]))
    coarse = grid.coarsen(factor)
    rows, cols = (index.ravel() for index in np.indices(coarse.shape))
    cells = Cells(
        coarse.ids(rows, cols), *coarse.lonlat(rows, cols), np.bincount(cell.ravel(), pixel.ravel()),
        *coarse.corners(rows, cols), coarse, rows, cols,
    )
    index = np.arange(n * n)
    downstream = np.where(index % n == n - 1, -1, index + 1)
    drained = np.bincount(links.reach, links.area, n * n)
    zeros = np.zeros(n * n)
    reaches = Reaches(
        np.array([f"r{i}" for i in index]), downstream, zeros + 1000.0, zeros, drained,
        np.concatenate([np.cumsum(part) for part in drained.reshape(n, n)]), cells.lon, cells.lat,
        zeros.astype(np.int64), zeros,
    )
    return Drainage(Catchments(grid, reach, cell, area), reaches, cells, links)


def write_grid(
    path, name, values, lon, lat, *, units="1", times=None, time_units="hours since 2020-01-01", calendar="standard",
    bounds=None, dims=("latitude", "longitude"), **attributes,
):
    """Write a variable on (time, y, x) or (y, x); `times` are numbers in `time_units`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "a" if path.exists() else "w") as dataset:
        for dim, axis, unit in zip(dims, (lat, lon), ("degrees_north", "degrees_east"), strict=True):
            if dim not in dataset.dimensions:
                dataset.createDimension(dim, len(axis))
                coordinate = dataset.createVariable(dim, "f8", (dim,))
                coordinate[:] = axis
                if dims == ("latitude", "longitude"):
                    coordinate.units = unit
        if times is not None and "time" not in dataset.dimensions:
            dataset.createDimension("time", len(times))
            time = dataset.createVariable("time", "f8", ("time",))
            time.setncatts({"units": time_units, "calendar": calendar, "standard_name": "time"})
            time[:] = times
            if bounds is not None:
                dataset.createDimension("nv", 2)
                time.bounds = "time_bnds"
                dataset.createVariable("time_bnds", "f8", ("time", "nv"))[:] = bounds
        lead = () if times is None else ("time",)
        variable = dataset.createVariable(name, "f4", (*lead, *dims), fill_value=np.float32(-9999.0))
        variable.setncatts({"units": units, **attributes} if units else attributes)
        variable[:] = np.ma.masked_invalid(values)
    return path


def read_all(path):
    """Every variable of a NetCDF file, as it is stored."""
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {name: v[:] for name, v in dataset.variables.items()}


def attributes_of(path):
    """Attributes of a NetCDF file."""
    with netCDF4.Dataset(path) as dataset:
        return {name: dataset.getncattr(name) for name in dataset.ncattrs()}


def in_order(ids, wanted):
    """Places of some ids among others."""
    place = {one: i for i, one in enumerate(ids.tolist())}
    return np.array([place[one] for one in wanted])
