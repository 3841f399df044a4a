"""Where cells and reaches are on a map, also in domains that do not say, and across 180 degrees."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.domain.domain import Domain

HALF, WHOLE = 180.0, 360.0
"""Degrees around the Earth."""


def together(domain: Domain) -> Domain:
    """The domain for a map: where it crosses 180 degrees, longitudes go on beyond, in place of a jump around the Earth.

    So it is where all cells lie within half of the Earth; others stay as they are.
    """
    cells, reaches = domain.cells, domain.reaches
    if np.ptp(cells.lon) <= HALF:
        return domain
    around = np.sort(cells.lon % WHOLE)
    gaps = np.diff(np.r_[around, around[0] + WHOLE])
    widest = int(gaps.argmax())
    if gaps[widest] < HALF:
        return domain
    west = float(around[(widest + 1) % around.size])
    middle = west + (WHOLE - gaps[widest]) / 2
    middle -= WHOLE if middle > HALF else 0.0

    def near(lon: np.ndarray) -> np.ndarray:
        return lon - WHOLE * np.round((lon - middle) / WHOLE)

    lon = near(cells.lon)
    corners = cells.corner_lon + (lon - cells.lon)[:, None]
    told = reaches.lon.any() or reaches.lat.any()
    return domain._replace(
        cells=cells._replace(lon=lon, corner_lon=lon[:, None] + (corners - lon[:, None] + HALF) % WHOLE - HALF),
        reaches=reaches._replace(lon=near(reaches.lon)) if told else reaches,
    )


def reach_places(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the ends of reaches, float64[reach] [degrees].

    Lumped basins often have none, which reads as 0 everywhere: there it is the middle of the cells that drain into the
    reach, or of all cells where none does.
    """
    domain = together(domain)
    reaches, cells, links = domain.reaches, domain.cells, domain.links
    if reaches.lon.any() or reaches.lat.any():
        return reaches.lon, reaches.lat
    reach_of = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    weight = np.bincount(reach_of, links.area, domain.n_reaches)
    found = []
    for place in (cells.lon, cells.lat):
        total = np.bincount(reach_of, links.area * place[links.cell], domain.n_reaches)
        found.append(np.where(weight > 0, total / np.maximum(weight, 1e-300), place.mean()))
    return found[0], found[1]
