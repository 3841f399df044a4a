"""Where reaches are on a map, also in domains that do not say."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.domain.domain import Domain


def reach_places(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of the ends of reaches, float64[reach] [degrees].

    Lumped basins often have none, which reads as 0 everywhere: there it is the middle of the cells that drain into the
    reach, or of all cells where none does.
    """
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
