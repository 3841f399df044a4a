"""The nearest of places on the globe."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.prepare.packages import load

EARTH_RADIUS = 6371.0072  # km, of the sphere with the area of the ellipsoid
Places = tuple[np.ndarray, np.ndarray]


def nearest_of(candidates: Places, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the nearest candidate of each place, int64, and its distance [km] on the sphere.

    candidates, places : longitude and latitude [degrees], float64 each.
    """
    tree = load("sklearn.neighbors").BallTree(_radians(candidates), metric="haversine")
    distance, index = tree.query(_radians(places), k=1)
    return index[:, 0].astype(np.int64), distance[:, 0] * EARTH_RADIUS


def within_reach(candidates: Places, places: Places, distance: np.ndarray) -> np.ndarray:
    """Return the candidates, int64[] rising, that lie within a distance [km], float64[place], of a place."""
    if not candidates[0].size:
        return np.zeros(0, np.int64)
    tree = load("sklearn.neighbors").BallTree(_radians(candidates), metric="haversine")
    found = tree.query_radius(_radians(places), np.maximum(distance, 0.0) / EARTH_RADIUS)
    return np.unique(np.concatenate(found)).astype(np.int64)


def _radians(places: Places) -> np.ndarray:
    lon, lat = places
    return np.radians(np.column_stack([lat, lon]))
