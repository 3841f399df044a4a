"""Fields over places whose correlation fades with distance, from independent numbers: the square root of a covariance.

Numbers lie on a lattice of knots; a place takes those around it, by a kernel of its distance. Neither matrix is ever
there: with k knots and n places both directions take 64 n steps, and memory for 16 n numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from bmi_cdlm.names.errors import ConfigError

KM_PER_DEGREE = 111.195
SPACING = 0.75
"""Distance of knots, as a share of the correlation length: the correlation is then right to 0.01."""
AROUND = np.arange(-3, 5)
"""Knots that a place takes in each direction, counted from the one below it: to 2.25 lengths at least, where the kernel
has come down to 0.006."""
MOST_KNOTS = 64
"""Knots for each place beyond which the length is hardly one."""


class Fields(Protocol):
    """Fields over places, each N(0, 1), from independent numbers w that are each N(0, 1)."""

    size: int

    def field(self, w: np.ndarray) -> np.ndarray:
        """The field, float64[place], of float64[size]."""

    def adjoint(self, field_adj: np.ndarray) -> np.ndarray:
        """Adjoint of w, float64[size], from that of the field."""


class Independent:
    """Every place by itself."""

    def __init__(self, n: int) -> None:
        self.size = n

    def field(self, w: np.ndarray) -> np.ndarray:
        """The numbers themselves."""
        return w

    def adjoint(self, field_adj: np.ndarray) -> np.ndarray:
        """The adjoint itself."""
        return field_adj


class Correlated:
    """Correlation exp(-d^2 / (2 L^2)) of places d apart.

    The convolution of white noise with exp(-d^2 / L^2) has it; each place is scaled to a variance of 1.

    Parameters
    ----------
    lon, lat : float64[place]
        Degrees.
    length : float
        L [km], above 0.
    """

    def __init__(self, lon: np.ndarray, lat: np.ndarray, length: float) -> None:
        east = (lon - lon[0] + 180.0) % 360.0 - 180.0
        x = east * np.cos(np.radians(lat.mean())) * KM_PER_DEGREE / length
        y = (lat - lat[0]) * KM_PER_DEGREE / length
        (self._column, self._across), (self._row, self._along) = (_kernel(one) for one in (x, y))
        self._n_columns = int(self._column.max()) + AROUND[-1] + 1
        self.size = self._n_columns * (int(self._row.max()) + int(AROUND[-1]) + 1)
        if self.size > MOST_KNOTS * max(lon.size, MOST_KNOTS):
            raise ConfigError(
                f"correlation: {length:g} km is far below the distance of places ({lon.size} of them). Expected a "
                "longer one, or 0: each by itself."
            )

    def field(self, w: np.ndarray) -> np.ndarray:
        """Return the field, float64[place], of float64[size]."""
        found = np.zeros(self._column.size)
        for knot, weight in self._terms():
            found += weight * w[knot]
        return found

    def adjoint(self, field_adj: np.ndarray) -> np.ndarray:
        """Return the adjoint of w, float64[size], from that of the field."""
        found = np.zeros(self.size)
        for knot, weight in self._terms():
            found += np.bincount(knot, weight * field_adj, self.size)
        return found

    def _terms(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One after the other, a knot of every place and its weight."""
        for along, j in zip(self._along, AROUND, strict=True):
            for across, i in zip(self._across, AROUND, strict=True):
                yield (self._row + j) * self._n_columns + self._column + i, along * across


def _kernel(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The knot below each place, int64[place], from 0 on with those around it, and weights, float64[knot, place]."""
    below = np.floor(position / SPACING).astype(np.int64)
    distance = position - SPACING * (below + AROUND[:, None])
    weights = np.exp(-(distance**2))
    return below - below.min() - AROUND[0], weights / np.sqrt((weights**2).sum(axis=0))


def make_fields(lon: np.ndarray, lat: np.ndarray, length: float) -> Fields:
    """Fields over places with a correlation length [km]; 0: each place by itself."""
    return Correlated(lon, lat, length) if length > 0 else Independent(lon.size)
