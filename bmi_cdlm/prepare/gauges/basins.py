"""Means of basins given to cells: by the network, or by polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bmi_cdlm.names.errors import ForcingError, nearest
from bmi_cdlm.prepare.network.catchments import Drainage
from bmi_cdlm.prepare.packages import load, resolve
from bmi_cdlm.prepare.text_tables import rows_of
from bmi_cdlm.prepare.weather.remap import Pairs
from bmi_cdlm.prepare.weather.weather_config import ForcingSource

EQUAL_AREA = "EPSG:6933"


def basin_pairs(
    basin_id: list[str], gauge_id: list[str], gauge_reach: np.ndarray, drainage: Drainage, where: str
) -> Pairs:
    """Give every catchment the smallest gauged basin that holds it, and every cell the shares of its catchments.

    Parameters
    ----------
    basin_id : list of str
        Basins of the source, called like the gauges at their outlets.
    gauge_id, gauge_reach : list of str, int64[gauge]
        Gauges and their reaches.

    Raises
    ------
    ForcingError
        No basin is called like a gauge.
    """
    position = rows_of(basin_id, where, ForcingError)
    reaches, links = drainage.reaches, drainage.links
    owner = np.full(reaches.downstream.size, -1, np.int64)
    pairs = zip(gauge_id, gauge_reach.tolist(), strict=True)
    shared = [(reach, position[one]) for one, reach in pairs if one in position]
    if not shared:
        hint = nearest(gauge_id[0], basin_id) if gauge_id else ""
        raise ForcingError(
            f"{where}: none of its {len(basin_id)} basins is called like one of the {len(gauge_id)} gauges, expected "
            f"the same ids.{hint} Set `ids` to the variable that holds them, or choose method polygon or nearest."
        )
    for reach, basin in shared:
        owner[reach] = basin
    downstream = reaches.downstream
    for i in range(owner.size - 1, -1, -1):  # the reach below comes later in routing order
        if owner[i] < 0 <= downstream[i]:
            owner[i] = owner[downstream[i]]
    source = owner[links.reach]
    return _shares(links.cell[source >= 0], source[source >= 0], links.area[source >= 0], drainage)


def own_pairs(place_id: list[str], cell_id: list[str], where: str) -> Pairs:
    """Give every catchment of a list the series that is called like it.

    Raises
    ------
    ForcingError
        A catchment without a series: no other stands in.
    """
    position = rows_of(place_id, where, ForcingError)
    absent = [one for one in cell_id if one not in position]
    if absent:
        shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
        hint = nearest(absent[0], place_id)
        raise ForcingError(
            f"{where}: has no series of {len(absent)} of {len(cell_id)} catchments: {shown}.{hint} "
            "Expected one for each, called by its id. Complete the source, choose catchments with network.only, or set "
            "method: nearest for stations."
        )
    source = np.array([position[one] for one in cell_id], np.int64)
    return Pairs(np.arange(source.size), source, np.ones(source.size))


def polygon_pairs(
    basin_id: list[str], source: ForcingSource, drainage: Drainage, folder: Path, where: str
) -> Pairs:
    """Give every pixel of the network the smallest polygon that holds its centre, and cells the shares of their pixels.

    Raises
    ------
    ForcingError
        No polygons, a basin without one, or polygons without reference system.
    """
    if source.polygons is None:
        raise ForcingError(f"{where}: method polygon without polygons. Set `polygons` to a file of them.")
    path = resolve(source.polygons, folder)
    try:
        frame = load("geopandas").read_file(path)
    except (OSError, RuntimeError, ValueError) as cause:
        raise ForcingError(f"{path}: cannot be read as polygons ({cause}). Expected a file of geopandas.") from cause
    if source.polygon_ids not in frame.columns:
        raise ForcingError(f"{path}: has no column '{source.polygon_ids}' of ids.{nearest(source.polygon_ids, frame)}")
    if frame.crs is None:
        raise ForcingError(f"{path}: has no reference system, expected one. Write it into the file.")
    position = rows_of(basin_id, where, ForcingError)
    frame = frame.assign(basin=[position.get(str(one), -1) for one in frame[source.polygon_ids]])
    frame = frame[frame.basin >= 0]
    if frame.empty:
        raise ForcingError(f"{path}: no polygon is called like a basin of {where}, expected the same ids.")
    size = frame.to_crs(EQUAL_AREA).area.to_numpy()
    frame = frame.iloc[np.argsort(-size, kind="stable")]  # later ones are painted over
    frame = frame.to_crs(drainage.catchments.grid.crs)
    catchments, grid = drainage.catchments, drainage.catchments.grid
    transform = load("rasterio").Affine(grid.dx, 0.0, grid.left, 0.0, -grid.dy, grid.top)
    turns = (-360.0, 0.0, 360.0) if grid.is_geographic else (0.0,)  # polygons may count longitudes in another way
    shapes = [frame.geometry.translate(xoff=turn) if turn else frame.geometry for turn in turns]
    basin = load("rasterio.features").rasterize(
        ((shape, i) for *parts, i in zip(*shapes, frame.basin.tolist(), strict=True) for shape in parts), grid.shape,
        fill=-1, transform=transform, dtype="int32",
    )
    inside = (basin >= 0) & (catchments.cell >= 0)
    area = np.broadcast_to(catchments.area[:, None], grid.shape)[inside]
    return _shares(catchments.cell[inside], basin[inside].astype(np.int64), area, drainage)


def _shares(cell: np.ndarray, source: np.ndarray, area: np.ndarray, drainage: Drainage) -> Pairs:
    """Sum areas by cell and source, as shares of what they cover of the cell."""
    n = int(source.max()) + 1 if source.size else 1
    key, position = np.unique(cell.astype(np.int64) * n + source, return_inverse=True)
    total = np.bincount(position, area, key.size)
    cells = key // n
    covered = np.bincount(cells, total, drainage.cells.area.size)
    return Pairs(cells, key % n, total / covered[cells])
