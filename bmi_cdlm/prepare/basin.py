"""A basin of pixels above its gauges, every pixel being a cell and a reach at once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.errors import DomainError
from bmi_cdlm.prepare.gauges import Gauge, snap
from bmi_cdlm.prepare.network import Network, accumulate, delineate, downstream_pixels, flow_lengths, invert
from bmi_cdlm.prepare.rasters import Pixels, read_grid, read_pixels

# What the domain file means by cell_... and reach_... of these names is no attribute from a raster.
RESERVED = frozenset((
    "id", "lon", "lat", "area", "corner_lon", "corner_lat", "length", "slope", "uncovered_area",
))


class Descriptor(NamedTuple):
    """An attribute that comes as a raster: name in the files, path below the case's folder, meaning."""

    name: str
    path: str
    units: str
    long_name: str
    comment: str = ""


class Basin(NamedTuple):
    """Pixels that drain to the gauges, in raster order.

    length : float64[pixel], to the centre of the next pixel [m]; area, upstream_area : float64[pixel]
    [km2]; gauge_pixel : int64[gauge], index among the pixels; attributes : descriptor -> float64[pixel].
    """

    pixels: Pixels
    network: Network
    length: np.ndarray
    area: np.ndarray
    upstream_area: np.ndarray
    gauges: list[Gauge]
    gauge_pixel: np.ndarray
    attributes: dict[Descriptor, np.ndarray]


def read_basin(
    directions_path: Path, gauges: list[Gauge], attributes_root: Path, descriptors: tuple[Descriptor, ...]
) -> Basin:
    """Delineate the basin above the gauges in a D8 raster, and read its attributes.

    Raises
    ------
    DomainError
        An unknown flow direction, a cycle, a gauge off the network, an attribute off the grid or nodata
        at a pixel of the basin.
    """
    grid, directions = read_grid(directions_path)
    downstream = downstream_pixels(directions)
    upstream = invert(downstream)
    land = np.isfinite(directions)
    ends = np.array([snap(gauge, grid, land, upstream) for gauge in gauges], np.int64)
    network = delineate(downstream, upstream, ends)
    pixels = Pixels(grid, network.pixel // grid.n_cols, network.pixel % grid.n_cols)
    length = flow_lengths(directions, grid.size).ravel()[network.pixel]
    area = np.full(network.pixel.size, grid.pixel_area)
    return Basin(
        pixels, network, length, area, accumulate(network, area), gauges,
        np.searchsorted(network.pixel, ends), _read_attributes(attributes_root, descriptors, pixels),
    )


def _read_attributes(
    root: Path, descriptors: tuple[Descriptor, ...], pixels: Pixels
) -> dict[Descriptor, np.ndarray]:
    attributes = {}
    for descriptor in descriptors:
        if descriptor.name in RESERVED:
            raise DomainError(
                f"descriptor '{descriptor.name}': the domain file has another meaning for it, expected "
                f"none of {', '.join(sorted(RESERVED))}. Rename it."
            )
        path = root / descriptor.path
        values = read_pixels(path, pixels, DomainError)
        holes = np.flatnonzero(~np.isfinite(values))
        if holes.size:
            raise DomainError(
                f"{path}: nodata at pixel {pixels.ids[holes[0]]} ({holes.size} such pixels of the basin), "
                f"expected '{descriptor.name}' everywhere. Fill the raster, or leave the descriptor out."
            )
        attributes[descriptor] = values
    return attributes
