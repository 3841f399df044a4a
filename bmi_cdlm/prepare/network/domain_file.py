"""The domain file: cells, reaches, links and gauges with their attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.network.catchments import Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.links import check_covered

if TYPE_CHECKING:
    from bmi_cdlm.prepare.gauges.snapping import SnappedGauges

CONVENTIONS = "CF-1.10"
COMPRESS = 100_000  # values, from which on compressing pays
OWN_NAMES = frozenset(("mean_annual_snowfall",))  # variables that the model itself reads carry no prefix


class Described(Protocol):
    """Values on cells or reaches and what they are: attributes.Attribute."""

    @property
    def values(self) -> np.ndarray:
        """One value each, float64[cell | reach]."""
    @property
    def units(self) -> str:
        """Their units."""
    @property
    def long_name(self) -> str:
        """Their meaning."""
    @property
    def comment(self) -> str:
        """Anything else, or the empty string."""


class Labels(NamedTuple):
    """Words for the file. notes : further global attributes."""

    title: str
    source: str
    license: str = ""
    notes: Mapping[str, str] = {}


SQUARES = "of a box about the catchment, which is not its shape"
"""What corners of catchments are."""


@one_at_a_time
def write_domain(
    path: Path, drainage: Drainage, gauges: SnappedGauges | None, cell_attributes: Mapping[str, Described],
    reach_attributes: Mapping[str, Described], labels: Labels,
) -> None:
    """Write a domain file, whole or not at all.

    Parameters
    ----------
    cell_attributes, reach_attributes : name -> values with units
        Written as `cell_NAME` and `reach_NAME`; mean_annual_snowfall as it is.

    Raises
    ------
    DomainError
        A gauge with more than 2 % of its area outside the cells; an attribute of another length, or with gaps.
    OutputError
        The file cannot be written.
    """
    if gauges is not None:
        check_covered(drainage, [site.id for site in gauges.sites], gauges.reach)
    _, reaches, cells, links = drainage
    _check_attributes(cell_attributes, "cell", cells.area.size)
    _check_attributes(reach_attributes, "reach", reaches.area.size)
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as dataset:
        described = {"Conventions": CONVENTIONS, "title": labels.title, "source": labels.source,
                     "license": labels.license, **labels.notes}
        dataset.setncatts({key: value for key, value in described.items() if value})
        for dimension, size in (("cell", cells.area.size), ("corner", 4), ("reach", reaches.area.size),
                                ("link", links.area.size)):
            dataset.createDimension(dimension, size)
        _write_cells(dataset, cells)
        _write_attributes(dataset, "cell", cell_attributes)
        _write_reaches(dataset, reaches, on_grid=not drainage.is_listed)
        _write_attributes(dataset, "reach", reach_attributes)
        _write_links(dataset, links)
        if gauges is not None:
            _write_gauges(dataset, gauges)


def _check_attributes(attributes: Mapping[str, Described], kind: str, n: int) -> None:
    for name, one in attributes.items():
        if one.values.shape != (n,):
            raise DomainError(
                f"attribute '{name}' of {kind}s has shape {one.values.shape}, expected ({n},). Make it for this domain."
            )
        gaps = np.flatnonzero(~np.isfinite(one.values))
        if gaps.size:
            raise DomainError(
                f"attribute '{name}' has no value at {kind} {gaps[0]} ({gaps.size} of {n}), expected one everywhere. "
                "Fill it, or leave it out."
            )


def _write_cells(dataset: netCDF4.Dataset, cells: Cells) -> None:
    words = "cell: row_column of its block on the grid of cells" if cells.grid.n_rows else "cell: its catchment"
    put(dataset, "cell_id", ("cell",), cells.id, words)
    for name, values, corners in (
        ("lon", cells.lon, cells.corner_lon), ("lat", cells.lat, cells.corner_lat)
    ):
        word, units = _WORDS[name]
        put(dataset, f"cell_{name}", ("cell",), values, f"{word} of the cell's centre", units, standard_name=word,
            bounds=f"cell_corner_{name}")
        comment = "" if cells.grid.n_rows else SQUARES
        put(dataset, f"cell_corner_{name}", ("cell", "corner"), corners, f"{word} of the cell's corners", units,
            comment=comment)
    put(dataset, "cell_area", ("cell",), cells.area, "area of the whole cell", "km2", standard_name="cell_area")


def _write_reaches(dataset: netCDF4.Dataset, reaches: Reaches, *, on_grid: bool) -> None:
    def on_reaches(name: str, values: np.ndarray, long_name: str, units: str = "", **attributes: str) -> None:
        put(dataset, name, ("reach",), values, long_name, units, **attributes)

    on_reaches("reach_id", reaches.id, "reach: row_column of the pixel at its end, on the grid of the flow directions"
               if on_grid else "reach: its catchment")
    on_reaches("downstream", reaches.downstream, "index of the reach below, from 0; -1 at an outlet")
    on_reaches("reach_length", reaches.length, "length of the river", "m")
    if np.isfinite(reaches.slope).all():
        on_reaches("reach_slope", reaches.slope, "fall of the river bed per length", "1")
    on_reaches("reach_area", reaches.area, "area of cells that drains to the reach itself", "km2")
    on_reaches("upstream_area", reaches.upstream_area, "area that drains through the reach", "km2")
    if reaches.uncovered_area.any():
        text = "area that drains to the reach and has no cell"
        on_reaches("reach_uncovered_area", reaches.uncovered_area, text, "km2")
    on_reaches("strahler_order", reaches.strahler, "Strahler order")
    for name, values in (("lon", reaches.lon), ("lat", reaches.lat)):
        word, units = _WORDS[name]
        words = f"{word} of the pixel at the reach's end" if on_grid else f"{word} of the reach"
        on_reaches(f"reach_{name}", values, words, units, standard_name=word)


def _write_links(dataset: netCDF4.Dataset, links: Links) -> None:
    put(dataset, "link_cell", ("link",), links.cell, "index of the cell, from 0")
    put(dataset, "link_reach", ("link",), links.reach, "index of the reach, from 0")
    put(dataset, "link_area", ("link",), links.area, "area of the cell in the reach's catchment", "km2")


def _write_gauges(dataset: netCDF4.Dataset, gauges: SnappedGauges) -> None:
    sites = gauges.sites
    dataset.createDimension("gauge", len(sites))
    put(dataset, "gauge_id", ("gauge",), [s.id for s in sites], "code of the gauging station",
         cf_role="timeseries_id")
    put(dataset, "gauge_name", ("gauge",), [s.name or s.id for s in sites], "name of the gauge")
    put(dataset, "gauge_reach", ("gauge",), gauges.reach, "index of the reach, from 0")
    area = np.array([s.area for s in sites], np.float64)
    put(dataset, "gauge_area", ("gauge",), area, "official drainage area", "km2")


_WORDS = {"lon": ("longitude", "degrees_east"), "lat": ("latitude", "degrees_north")}


def _write_attributes(dataset: netCDF4.Dataset, kind: str, attributes: Mapping[str, Described]) -> None:
    for name, one in attributes.items():
        full = name if name in OWN_NAMES else f"{kind}_{name}"
        put(dataset, full, (kind,), one.values, one.long_name, one.units, comment=one.comment)


def put(
    dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: np.ndarray | Sequence[str], long_name: str,
    units: str = "", **attributes: str,
) -> None:
    """Write one variable: float64, int32 for indices, or strings (of a classic file: rows of letters in UTF-8); empty
    attributes are left out.
    """
    array = np.asarray(values)
    is_text = array.dtype.kind == "U" or (array.size == 0 and not isinstance(values, np.ndarray))
    if is_text and dataset.data_model != "NETCDF4":
        texts = [text.encode() for text in values]
        width = max(1, *map(len, texts))
        dataset.createDimension(f"{name}_width", width)
        variable = dataset.createVariable(name, "S1", (*dims, f"{name}_width"))
        array = np.array(texts, f"S{width}").view("S1").reshape(len(texts), width)
    elif is_text:
        variable = dataset.createVariable(name, str, dims)
        array = array.astype(object)
    else:
        whole = array.dtype.kind == "i"
        variable = dataset.createVariable(
            name, "i4" if whole else "f8", dims, zlib=array.size > COMPRESS, fill_value=None if whole else np.nan
        )
    described = {"long_name": long_name, "units": units, **attributes}
    variable.setncatts({key: value for key, value in described.items() if value})
    variable[:] = array
