"""Grids as BMI shows them: cells with faces, reaches with edges, gauges, and the scalar of domain totals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.bmi.lattice import Lattice
from bmi_cdlm.domain.domain import Domain

IDS = {"cell": 0, "reach": 1, "gauge": 2, "domain": 3, "link": 10, "boundary": 11}
CORNER_DIGITS = 7
"""Corners that agree to 1e-7 degrees (1 cm) are one node."""
NO_INDEX = np.zeros(0, np.int32)


class BmiGrid(NamedTuple):
    """One grid.

    x, y : float64[node], of a rectilinear grid float64[column], float64[row];
    edge_nodes : int32[2 edge]; face_nodes, face_edges : int32[sum of nodes per face].
    """

    type: str
    rank: int
    location: str
    x: np.ndarray
    y: np.ndarray
    edge_nodes: np.ndarray = NO_INDEX
    face_nodes: np.ndarray = NO_INDEX
    face_edges: np.ndarray = NO_INDEX
    nodes_per_face: np.ndarray = NO_INDEX

    @property
    def size(self) -> int:
        """Number of nodes; 1 of a scalar."""
        if self.type == "scalar":
            return 1
        return int(self.x.size * self.y.size if self.type == "rectilinear" else self.x.size)


def make_grids(domain: Domain, profile: str, lattice: Lattice | None = None) -> dict[int, BmiGrid]:
    """Return the grids by id for a grid profile; lattice: where the cells lie with `rectilinear`."""
    cells, reaches, gauges = domain.cells, domain.reaches, domain.gauges
    nothing = np.zeros(0)
    at_gauges = (reaches.lon[gauges.reach], reaches.lat[gauges.reach])
    scalar = BmiGrid("scalar", 0, "node", nothing, nothing)
    of_link = np.repeat(np.arange(domain.n_reaches), np.diff(domain.links.first))
    kind = "points" if profile == "points" else "unstructured"
    links = BmiGrid(kind, 2, "node", reaches.lon[of_link], reaches.lat[of_link])
    boundary = BmiGrid(kind, 2, "node", reaches.lon[domain.boundary], reaches.lat[domain.boundary])
    if profile == "points":
        return {
            0: BmiGrid("points", 2, "node", cells.lon, cells.lat),
            1: BmiGrid("points", 2, "node", reaches.lon, reaches.lat),
            2: BmiGrid("points", 2, "node", *at_gauges),
            3: scalar,
            IDS["link"]: links, IDS["boundary"]: boundary,
        }
    above = np.flatnonzero(reaches.downstream >= 0)
    edges = np.stack([above, reaches.downstream[above]], axis=1).astype(np.int32).ravel()
    return {
        0: _faces(cells.corner_lon, cells.corner_lat) if lattice is None else BmiGrid(
            "rectilinear", 2, "node", lattice.x, lattice.y
        ),
        1: BmiGrid("unstructured", 2, "node", reaches.lon, reaches.lat, edges),
        2: BmiGrid("unstructured", 2, "node", *at_gauges),
        3: scalar,
        IDS["link"]: links, IDS["boundary"]: boundary,
    }


def _faces(corner_lon: np.ndarray, corner_lat: np.ndarray) -> BmiGrid:
    """Cells as faces over shared corners and shared edges (UGRID)."""
    n_cells, n_corners = corner_lon.shape
    corners = np.stack([corner_lon.ravel(), corner_lat.ravel()], axis=1)
    _, first, node = np.unique(np.round(corners, CORNER_DIGITS), axis=0, return_index=True, return_inverse=True)
    node = node.reshape(n_cells, n_corners)
    pairs = np.stack([node, np.roll(node, -1, axis=1)], axis=2).reshape(-1, 2)
    edges, edge = np.unique(np.sort(pairs, axis=1), axis=0, return_inverse=True)
    return BmiGrid(
        "unstructured", 2, "face", corners[first, 0], corners[first, 1], edges.astype(np.int32).ravel(),
        node.astype(np.int32).ravel(), np.ravel(edge).astype(np.int32), np.full(n_cells, n_corners, np.int32),
    )
