"""Sources to cells in every interval: by the sources that are there then, as declared, and never in silence."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple

import numpy as np

from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.network.catchments import Cells
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.weather.nearest import nearest_of, within_reach
from bmi_cdlm.prepare.weather.remap import SLIVER, Pairs, Remap, complete

Gaps = Literal["refuse", "share", "nearest"]
PATTERNS_KEPT = 256


class Layout(NamedTuple):
    """Where sources lie and what may be done where they lack values.

    pairs; places : longitude and latitude of all sources [degrees]; cells; distance : how far a neighbour may be
    [km]; gaps; whole : a cell that lacks one of its sources takes the nearest alone (bilinear); where : for messages.
    """

    pairs: Pairs
    places: tuple[np.ndarray, np.ndarray]
    cells: Cells
    distance: float
    gaps: Gaps
    whole: bool
    where: str


class Weights:
    """Weights that take values from sources to cells.

    `refuse`: sources without values in the first interval are taken for the sea, which other sources fill; one of them
    that has a value later is an error, and so is (to whoever reads the cells) a source that has none later. `share`: a
    cell takes what its sources have in each interval. `nearest`: and where these have nothing, the nearest source
    that has. Cells without any are NaN.

    Parameters
    ----------
    layout : Layout
    around : int64[]
        Sources that neighbours are looked for among.
    valid : bool[source]
        Which of them have a value in the first interval.
    """

    def __init__(self, layout: Layout, around: np.ndarray, valid: np.ndarray) -> None:
        self.layout, pairs = layout, layout.pairs
        reach = np.zeros(valid.size, bool)
        reach[around] = True
        dynamic = layout.gaps == "nearest"
        self._base = complete(
            pairs, reach if dynamic else valid, layout.places, layout.cells, layout.distance, layout.where,
            whole=layout.whole and layout.gaps == "refuse",
        )
        own = np.unique(pairs.source[pairs.share > SLIVER])
        if dynamic:
            read = around
        else:
            read = np.union1d(self._base.sources, own if layout.gaps == "share" else np.zeros(0, np.int64))
            self._watched = self._to_watch(valid, around)
            read = np.union1d(read, self._watched)
        self.sources = np.asarray(read, np.int64)
        self._column = np.full(valid.size, -1, np.int64)
        self._column[self.sources] = np.arange(self.sources.size)
        self._patterns: dict[bytes, tuple[Any, np.ndarray, np.ndarray]] = {}

    def _to_watch(self, valid: np.ndarray, around: np.ndarray) -> np.ndarray:
        """Sources without a value at first that would change the weights if they had one."""
        layout, base = self.layout, self._base
        pairs = layout.pairs
        of_cell = (pairs.share > SLIVER) & ~valid[pairs.source]
        if layout.gaps == "share":
            of_cell &= np.isin(pairs.cell, base.lone)
        nearer = np.zeros(0, np.int64)
        if base.lone.size:
            lon, lat = layout.places
            dark = around[~valid[around] & np.isfinite(lon[around]) & np.isfinite(lat[around])]
            cells = (layout.cells.lon[base.lone], layout.cells.lat[base.lone])
            nearer = dark[within_reach((lon[dark], lat[dark]), cells, base.away * (1.0 - 1e-9))]
        return np.union1d(pairs.source[of_cell], nearer)

    @property
    def is_steady(self) -> bool:
        """Whether all intervals have the same weights."""
        return self.layout.gaps == "refuse"

    @property
    def base(self) -> Remap:
        """Weights of the first interval, or where all sources have values."""
        return self._base

    def check(self, values: np.ndarray, starts: np.ndarray) -> None:
        """Refuse values, float64[time, source read], that show the first interval to have been a gap."""
        if self.layout.gaps == "nearest" or not self._watched.size:
            return
        there = ~np.isnan(values[:, self._column[self._watched]])
        if there.any():
            row, which = (int(i) for i in np.unravel_index(there.argmax(), there.shape))
            lon, lat = (axis[self._watched[which]] for axis in self.layout.places)
            others = "nearest" if self.layout.gaps == "share" else "share (weights of what is there) or nearest"
            raise ForcingError(
                f"{self.layout.where}: the source at {lon:.3f} E, {lat:.3f} N has no value in the first interval and "
                f"one at {date_text(starts[row])} (as have {np.count_nonzero(there.any(axis=0))} such sources in these "
                f"intervals), expected values in all intervals or none. Complete the source, or set `gaps` to {others}."
            )

    def __call__(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From float64[time, source read] to float64[time, cell], and where a neighbour stands in, bool[time, cell].

        The latter has one row where it is the same in all.
        """
        if self.is_steady:
            filled = np.zeros((1, self.layout.cells.row.size), bool)
            filled[0, self._base.lone] = True
            return self._base(values[:, self._column[self._base.sources]]), filled
        out = np.empty((values.shape[0], self.layout.cells.row.size))
        filled = np.zeros(out.shape, bool)
        packed = np.packbits(~np.isnan(values), axis=1)
        patterns, which = np.unique(packed, axis=0, return_inverse=True)
        for k, pattern in enumerate(patterns):
            rows = np.flatnonzero(which.ravel() == k)
            matrix, neighbour, none = self._of(pattern.tobytes(), ~np.isnan(values[rows[0]]))
            out[rows] = (matrix @ values[rows].T).T
            out[np.ix_(rows, none)] = np.nan
            filled[np.ix_(rows, neighbour)] = True
        return out, filled

    def same_for(self, values: np.ndarray) -> bool:
        """Whether all rows, float64[time, source read], have the same weights."""
        there = ~np.isnan(values)
        return self.is_steady or bool((there == there[:1]).all())

    def _of(self, key: bytes, there: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
        """Weights where these sources have values; cells with a neighbour's; cells with none."""
        if key not in self._patterns:
            if len(self._patterns) >= PATTERNS_KEPT:
                self._patterns.clear()
            self._patterns[key] = self._make(there)
        return self._patterns[key]

    def _make(self, there: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
        layout, n = self.layout, self.layout.cells.row.size
        pairs, valid = layout.pairs, np.zeros(self._column.size, bool)
        valid[self.sources[there]] = True
        good = valid[pairs.source] & (pairs.share > SLIVER)
        total = np.bincount(pairs.cell[good], pairs.share[good], n)
        poor = total < (1.0 - 1e-4 if layout.whole and layout.gaps == "nearest" else SLIVER)
        good &= ~poor[pairs.cell]
        lone, found = self._neighbours(np.flatnonzero(poor), valid)
        cell = np.r_[pairs.cell[good], lone]
        column = self._column[np.r_[pairs.source[good], found]]
        share = np.r_[pairs.share[good] / total[pairs.cell[good]], np.ones(lone.size)]
        matrix = load("scipy.sparse").csr_array((share, (cell, column)), shape=(n, self.sources.size))
        return matrix, lone, np.setdiff1d(np.flatnonzero(poor), lone)

    def _neighbours(self, poor: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the cells that have nothing of their own which take a neighbour, and its source."""
        layout = self.layout
        if layout.gaps == "share":
            lone = np.intersect1d(poor, self._base.lone)
            found = self._base.taken[np.searchsorted(self._base.lone, lone)]
            return lone[valid[found]], found[valid[found]]
        lon, lat = layout.places
        candidates = np.flatnonzero(valid & np.isfinite(lon) & np.isfinite(lat))
        if not candidates.size or not poor.size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        cells = (layout.cells.lon[poor], layout.cells.lat[poor])
        found, away = nearest_of((lon[candidates], lat[candidates]), cells)
        near = away <= layout.distance
        return poor[near], candidates[found[near]]

    def fingerprint(self) -> str:
        """Hash of all that the weights follow from."""
        digest = hashlib.sha256(f"{self.layout.gaps} {self.layout.distance} {self.layout.whole}".encode())
        matrix = self._base.matrix
        for part in (self.sources, matrix.indptr, matrix.indices, matrix.data, *self.layout.pairs):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()
