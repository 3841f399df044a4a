"""D8 flow directions: decoded, checked, put in order from the outlets up; or derived from elevation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.network.cells import check_sizes
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Raster, read_raster
from bmi_cdlm.prepare.network.network_config import Encoding, NetworkConfig
from bmi_cdlm.prepare.network.resample import read_onto
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.weather.conversion import conversion

logger = logging.getLogger(__name__)
NODATA, PIT = 247, 0
# Every encoding as its codes in the order of ESRI's: E, SE, S, SW, W, NW, N, NE; then pits, then no data.
ESRI = (1, 2, 4, 8, 16, 32, 64, 128)
CODES: dict[Encoding, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "esri": (ESRI, (0, 255), (247,)),
    "ldd": ((6, 3, 2, 1, 4, 7, 8, 9), (5,), (255,)),
    "clockwise": ((3, 4, 5, 6, 7, 8, 1, 2), (0,), ()),
    "taudem": ((1, 8, 7, 6, 5, 4, 3, 2), (0,), ()),
    "whitebox": ((2, 4, 8, 16, 32, 64, 128, 1), (0,), ()),
    "grass": ((8, 7, 6, 5, 4, 3, 2, 1), (0,), ()),
    "saga": ((2, 3, 4, 5, 6, 7, 0, 1), (255,), ()),
}
LOWEST, HIGHEST = -500.0, 9000.0  # m: the shore of the Dead Sea, deep pits of mines; Mount Everest
FOOT = 0.3048  # m
MANY_LOST = 0.02  # of the network's pixels in cycles: the codes mean something else
NEXT_PITS, NEXT_NODATA = (-9, -10), -9999


class Flow(NamedTuple):
    """Which pixel drains into which, in flattened rasters.

    downstream : int[pixel], the pixel below, itself where the flow ends, -1 outside; sequence : int[], all pixels
    inside, each after the one below it; area : float64[row, col], of a pixel [km2]; upstream_area : float64[pixel], 0
    outside [km2]; step : float64[pixel], way to the centre of the next pixel, 0 in a pit [m]; elevation :
    float32[pixel] [m], or None.
    """

    grid: Grid
    downstream: np.ndarray
    sequence: np.ndarray
    area: np.ndarray
    upstream_area: np.ndarray
    step: np.ndarray
    elevation: np.ndarray | None

    @property
    def inside(self) -> np.ndarray:
        """Whether a pixel belongs to the network, bool[pixel]."""
        return self.downstream >= 0

    @property
    def ends(self) -> np.ndarray:
        """Pixels where the flow ends: pits, coasts, the edge of the raster; int64[]."""
        return np.flatnonzero(self.downstream == np.arange(self.downstream.size, dtype=self.downstream.dtype))


def read_flow(config: NetworkConfig, folder: Path) -> Flow:
    """Read flow directions, or derive them from elevation, and order them.

    Raises
    ------
    DomainError
        Codes that the encoding does not have, rasters that do not overlap, no pixel with data, a cycle.
    """
    if config.directions is None:
        assert config.elevation is not None  # the configuration has one of both
        dem = in_metres(read_raster(config.elevation, folder, DomainError, config.crs), config.elevation_units)
        check_heights(dem.values, dem.where, "network.elevation_units")
        return make_flow(dem.grid, directions_from_elevation(dem, config.dem_outlets), config, dem)
    raster, decoded = _decoded(config, folder)
    heights = None
    if config.elevation is not None:
        heights = in_metres(read_onto(config.elevation, raster.grid, folder, config.crs), config.elevation_units)
    flow = make_flow(raster.grid, decoded, config, heights)
    if heights is not None and flow.elevation is not None:
        check_heights(np.where(flow.inside, flow.elevation, np.nan), heights.where, "network.elevation_units")
    return flow


def check_codes(config: NetworkConfig, folder: Path) -> None:
    """Raise DomainError for sizes that are no multiples of a pixel, and for codes that the encoding does not have."""
    if config.directions is not None:
        check_sizes(config, _decoded(config, folder)[0].grid)


def _decoded(config: NetworkConfig, folder: Path) -> tuple[Raster, np.ndarray]:
    assert config.directions is not None
    following = config.encoding == "nextxy"
    raster = read_raster(config.directions, folder, DomainError, config.crs, bands=2 if following else 1)
    return raster, decode_next(raster) if following else decode(raster, config.encoding)


def in_metres(dem: Raster, units: str | None) -> Raster:
    """Return a terrain model with heights in metres: from the units given, else those that the file states, else m.

    Raises
    ------
    DomainError
        Units that are none of length.
    """
    found = conversion(units or dem.units or "m", "m", f"{dem.where}, elevation", DomainError)
    if found.factor == 1.0 and found.offset == 0.0:
        return dem
    return dem._replace(values=found(dem.values.astype(np.float64)).astype(np.float32), units="m")


def check_heights(values: np.ndarray, where: str, key: str) -> None:
    """Refuse heights [m] that no land has; NaN passes. `key` is what names their units.

    Raises
    ------
    DomainError
        With the least and the greatest, and what they may be.
    """
    with np.errstate(invalid="ignore"):
        wrong = (values < LOWEST) | (values > HIGHEST)
    if not wrong.any():
        return
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low >= LOWEST and high * FOOT <= HIGHEST:
        guess = f"In feet that would be up to {high * FOOT:.0f} m: set {key}: ft."
    elif low < LOWEST and float(np.nanmin(np.where(wrong, np.nan, values), initial=np.inf)) < np.inf:
        guess = f"A value such as {low:g} stands for no data, or for a sea's bed: declare it in the file, or mask it."
    else:
        guess = f"Correct the file, or its units with {key}."
    raise DomainError(
        f"{where}: elevation is {low:g} to {high:g} m, beyond {LOWEST:g} to {HIGHEST:g} m at {np.count_nonzero(wrong)} "
        f"of {np.count_nonzero(~np.isnan(values))} pixels of the network. Expected heights of land. {guess}"
    )


def decode(raster: Raster, encoding: Encoding) -> np.ndarray:
    """Return directions in the ESRI code, uint8[row, col]: 0 where the flow ends, 247 outside."""
    ways, pits, empty = CODES[encoding]
    values = raster.values
    if encoding == "grass":  # below zero where water may come from beyond the region
        values = np.abs(values)
    # In files of signed bytes 128, 247 and 255 are -128, -9 and -1.
    values = np.where((values >= -128) & (values < 0), values + np.float32(256.0), values)
    found, counts = np.unique(values[raster.valid], return_counts=True)
    known = {*ways, *pits, *empty}
    strange = [(code, n) for code, n in zip(found.tolist(), counts.tolist(), strict=True) if code not in known]
    if strange:
        shown = ", ".join(f"{code:g} ({n} pixels)" for code, n in strange[:8])
        raise DomainError(
            f"{raster.where}: {len(strange)} codes that '{encoding}' does not have: {shown}. Expected "
            f"{', '.join(map(str, ways))}, and {', '.join(map(str, pits))} in a pit. {_fitting(found)}"
        )
    decoded = np.full(values.shape, NODATA, np.uint8)
    for code, esri in (*zip(ways, ESRI, strict=True), *((pit, PIT) for pit in pits)):
        decoded[(values == code) & raster.valid] = esri
    return decoded


def _fitting(found: np.ndarray) -> str:
    fits = [name for name, groups in CODES.items() if np.isin(found, [c for group in groups for c in group]).all()]
    return f"The codes are those of: {', '.join(fits)}. Set `encoding`." if fits else "Name the encoding, or mask them."


def decode_next(raster: Raster) -> np.ndarray:
    """Return the pixel below each pixel of a NEXTXY raster, int64[pixel]: itself where the flow ends, -1 outside."""
    grid = raster.grid
    col, row = (np.where(raster.valid, band, NEXT_NODATA).astype(np.int64) for band in raster.values)
    inside = raster.valid & (col != NEXT_NODATA)
    end = inside & np.isin(col, NEXT_PITS)
    bad = np.argwhere(inside & ~end & ((col < 1) | (col > grid.n_cols) | (row < 1) | (row > grid.n_rows)))
    if bad.size:
        i, j = bad[0].tolist()
        raise DomainError(
            f"{raster.where}: the pixel at row {i}, column {j} drains to column {col[i, j]}, row {row[i, j]} "
            f"({len(bad)} such pixels), expected 1 to {grid.n_cols} and 1 to {grid.n_rows}, or -9, -10 at an outlet. "
            "Check `encoding`."
        )
    own = np.arange(row.size).reshape(row.shape)
    below = np.where(inside, np.where(end, own, (row - 1) * grid.n_cols + col - 1), -1).ravel()
    lost = (below >= 0) & ~inside.ravel()[below]
    return np.where(lost, own.ravel(), below)  # what drains off the land ends there


def directions_from_elevation(dem: Raster, outlets: str = "edge") -> np.ndarray:
    """Fill depressions and return directions in the ESRI code, uint8[row, col] [Wang & Liu 2006].

    Parameters
    ----------
    outlets : 'edge' or 'lowest'
        Water leaves at every edge of the data, or only at the lowest pixel of it.
    """
    if not dem.valid.any():
        raise DomainError(f"{dem.where}: no pixel has an elevation. Expected numbers; check nodata and the file.")
    heights = np.where(dem.valid, dem.values, np.nan).astype(np.float32)
    mode = "min" if outlets == "lowest" else "edge"
    _, codes = load("pyflwdir").dem.fill_depressions(heights, outlets=mode, nodata=np.nan)
    return np.asarray(codes)


def make_flow(grid: Grid, decoded: np.ndarray, config: NetworkConfig, dem: Raster | None = None) -> Flow:
    """Order decoded directions, measure steps and areas.

    Parameters
    ----------
    decoded : uint8[row, col] or int64[pixel]
        Directions in the ESRI code, or the pixel below each.
    """
    downstream = _downstream(decoded)
    if not (downstream >= 0).any():
        raise DomainError("flow directions: no pixel has one. Expected a river network; check nodata and `encoding`.")
    elevation = None
    if dem is not None:
        # A copy in float32 is enough: no raster knows heights to less than a millimetre.
        elevation = np.where(dem.valid, dem.values, np.nan).astype(np.float32).ravel()
        _check_elevation(dem, np.isnan(elevation) & (downstream >= 0), int(np.count_nonzero(downstream >= 0)))
    area = grid.pixel_areas()
    if config.areas == "map":
        area = np.broadcast_to(grid.map_areas()[:, None], grid.shape)
    sequence = _sequence(downstream)
    _check_cycles(grid, downstream, sequence)
    local = np.where(downstream >= 0, area.ravel(), 0.0)
    upstream_area = load("pyflwdir").streams.accuflux(downstream, sequence, local, -1.0)
    return Flow(grid, downstream, sequence, area, upstream_area, _steps(grid, downstream), elevation)


def _downstream(decoded: np.ndarray) -> np.ndarray:
    if decoded.ndim == 1:
        return decoded.astype(np.int32 if decoded.size < 2**31 - 1 else np.int64)
    dtype = np.int32 if decoded.size < 2**31 - 1 else np.int64
    return np.asarray(load("pyflwdir").core_d8.from_array(decoded, dtype=dtype)[0])


def _sequence(downstream: np.ndarray) -> np.ndarray:
    """All pixels that drain to an end, each after the one below it."""
    core = load("pyflwdir").core
    pits = np.flatnonzero(downstream == np.arange(downstream.size)).astype(downstream.dtype)
    return np.asarray(core.idxs_seq(downstream, pits, downstream.dtype.type(-1)))


def _check_elevation(dem: Raster, missing: np.ndarray, n: int) -> None:
    absent = int(np.count_nonzero(missing))
    if absent == n:
        raise DomainError(
            f"{dem.where}: none of {n} pixels of the network has an elevation. Expected numbers; check nodata and the "
            "file."
        )
    if absent:
        logger.warning("%s: %d of %d pixels of the network have no elevation; reaches that begin or end there have "
                       "slope 0", dem.where, absent, n)


def _check_cycles(grid: Grid, downstream: np.ndarray, sequence: np.ndarray) -> None:
    """What cannot be reached from below, drains into a cycle."""
    lost = downstream >= 0
    lost[sequence] = False
    n = int(np.count_nonzero(lost))
    if n == 0:
        return
    inside = int(np.count_nonzero(downstream >= 0))
    many = n > MANY_LOST * inside
    remedy = (
        "So many are no single fault: check `encoding`, the codes may be those of another one." if many else
        "Break it there with a pit."
    )
    pixel = int(np.flatnonzero(lost)[0])
    place: dict[int, int] = {}
    while pixel not in place:
        place[pixel] = len(place)
        pixel = int(downstream[pixel])
    cycle = [p for p, i in place.items() if i >= place[pixel]]
    row, col = divmod(pixel, grid.n_cols)
    lon, lat = grid.lonlat(np.array([row]), np.array([col]))
    shown = " -> ".join(f"({p // grid.n_cols}, {p % grid.n_cols})" for p in [*cycle[:6], pixel])
    raise DomainError(
        f"flow directions: a cycle of {len(cycle)} pixels near {lon[0]:.4f} E, {lat[0]:.4f} N, (row, column) {shown}; "
        f"{n} pixels drain into such ({n / inside:.0%} of the network). Expected flow that ends in a pit or leaves the "
        f"raster. {remedy}"
    )


def _steps(grid: Grid, downstream: np.ndarray) -> np.ndarray:
    """Way from every pixel to the one below [m], float64[pixel]."""
    steps = np.zeros(downstream.size)
    moving = np.flatnonzero((downstream >= 0) & (downstream != np.arange(downstream.size, dtype=downstream.dtype)))
    below = downstream[moving]
    row = moving // grid.n_cols
    down, right = below // grid.n_cols - row, below % grid.n_cols - moving % grid.n_cols
    near = (np.abs(down) <= 1) & (np.abs(right) <= 1)
    table = np.stack([grid.step_lengths(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    steps[moving[near]] = table[(down[near] + 1) * 3 + right[near] + 1, row[near]]
    if not near.all():
        steps[moving[~near]] = _far_steps(grid, moving[~near], below[~near])
    return steps


def _far_steps(grid: Grid, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Shortest way between pixels that are no neighbours, which NEXTXY allows [m]."""
    (lon, lat), (lon2, lat2) = (grid.lonlat(p // grid.n_cols, p % grid.n_cols) for p in (start, end))
    return np.asarray(load("pyproj").Geod(ellps="WGS84").inv(lon, lat, lon2, lat2)[2])
