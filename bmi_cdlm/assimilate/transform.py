"""Numbers without bounds for a store within bounds: the identity but near a bound, which it nears as an exponential."""

from __future__ import annotations

import numpy as np

SOFT = 0.1
"""Over which part of its standard deviation a store feels its bound."""
EDGE = 0.1
"""A store that lies at a bound is taken to lie so many soft widths within; what it holds stays as it is."""


class Within:
    """x(d) of a store that holds `background` where d is 0, with low <= x <= high and x about background + d.

    x(d) = T(z + d) - T(z) + background, with T(z) = background but at a bound, and T(z) = z far from the bounds.

    Parameters
    ----------
    background, deviation : float64[unit]
        What the store holds, and its standard deviation. A unit whose deviation is 0 stays as it is.
    low, high : float64[unit]
        Bounds, which may be infinite.
    """

    def __init__(self, background: np.ndarray, deviation: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.background, self.low, self.high = background, low, high
        self.free = (deviation > 0.0) & (high > low)
        span = np.where(self.free, np.minimum(deviation, high - low), 1.0)
        self._width = SOFT * span
        edge = EDGE * self._width
        inside = np.where(self.free, np.clip(background, low + edge, high - edge), background)
        self._z = np.where(self.free, self._inverse(inside), 0.0)
        self._at_background = self._soft(self._z)

    def values(self, d: np.ndarray) -> np.ndarray:
        """What the store holds, float64[unit]; the very background where d is 0."""
        moved = self.background + (self._soft(self._z + d) - self._at_background)
        return np.where(self.free, np.clip(moved, self.low, self.high), self.background)

    def slope(self, d: np.ndarray) -> np.ndarray:
        """dx / dd, float64[unit]."""
        z, w = self._z + d, self._width
        slope = _logistic((z - self.low) / w) - _logistic((z - self.high) / w)
        moved = self.background + (self._soft(z) - self._at_background)
        return np.where(self.free & (moved >= self.low) & (moved <= self.high), slope, 0.0)

    def at_bound(self, x: np.ndarray) -> np.ndarray:
        """Which units lie at a bound, or as near to one as it goes, bool[unit]."""
        near = EDGE * self._width
        return self.free & ((x - self.low <= near) | (self.high - x <= near))

    def _soft(self, z: np.ndarray) -> np.ndarray:
        """T: z between the bounds."""
        w = self._width
        with np.errstate(invalid="ignore"):
            up = np.where(np.isfinite(self.low), self.low + w * np.logaddexp(0.0, (z - self.low) / w), z)
        return up - w * np.logaddexp(0.0, (z - self.high) / w)

    def _inverse(self, x: np.ndarray) -> np.ndarray:
        w = self._width
        with np.errstate(divide="ignore", invalid="ignore"):  # of what has no room between its bounds, and stays
            return x + w * (np.log(-np.expm1((self.low - x) / w)) - np.log(-np.expm1((x - self.high) / w)))


def _logistic(v: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * v)
