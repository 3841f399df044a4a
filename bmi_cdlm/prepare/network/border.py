"""How much of the border of a basin lies on the edge of the raster, beyond which it may go on."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.prepare.network.catchments import Drainage

SHOWN = 5


def border_shares(drainage: Drainage) -> np.ndarray:
    """Share of the border of the basin above every reach that is the raster's edge [1], float64[reach].

    A border is made of sides of fine pixels. 0 where a basin does not touch the edge.
    """
    catchment, downstream = drainage.catchments.reach, drainage.reaches.downstream
    n = downstream.size
    if drainage.is_listed:
        return np.zeros(n)
    sides = np.concatenate([catchment[0], catchment[-1], catchment[:, 0], catchment[:, -1]])
    own = np.bincount(sides[sides >= 0], minlength=n).astype(np.float64)
    if not own.any():
        return np.zeros(n)
    on_edge = accumulate_downstream(downstream, own)
    size = accumulate_downstream(downstream, np.ones(n)).astype(np.int64)
    touched = on_edge[_outlets(downstream)] > 0  # bool[reach], of its whole basin
    pixels = np.bincount(catchment[catchment >= 0], minlength=n).astype(np.float64)
    inner = np.zeros(n)  # pairs of neighbours, by the first reach whose basin holds both
    for a, b in ((catchment[:, :-1], catchment[:, 1:]), (catchment[:-1], catchment[1:])):
        held = (a >= 0) & (b >= 0)
        same = held & (a == b)
        inner += np.bincount(a[same], minlength=n)
        apart = held & ~same
        first, second = a[apart].astype(np.int64), b[apart].astype(np.int64)
        matters = touched[first] & touched[second]
        common = _meeting(downstream, size, first[matters], second[matters])
        inner += np.bincount(common[common >= 0], minlength=n)
    border = accumulate_downstream(downstream, 4.0 * pixels - 2.0 * inner)
    return np.where(on_edge > 0, on_edge / np.maximum(border, 1.0), 0.0)


def border_notes(drainage: Drainage, gauged: Collection[int]) -> list[str]:
    """Say which basins at outlets without a gauge touch the raster's edge; those of gauges are in the report."""
    downstream, area = drainage.reaches.downstream, drainage.reaches.upstream_area
    shares = border_shares(drainage)
    cut = np.array([i for i in np.flatnonzero((downstream < 0) & (shares > 0)) if i not in set(gauged)], np.int64)
    if not cut.size:
        return []
    worst = cut[np.argsort(-area[cut], kind="stable")][:SHOWN].tolist()
    listed = ", ".join(f"{drainage.reaches.id[i]} ({area[i]:.4g} km2, {shares[i]:.1%} of its border)" for i in worst)
    more = f" and {cut.size - SHOWN} more" if cut.size > SHOWN else ""
    return [
        f"network: {cut.size} of {np.count_nonzero(downstream < 0)} outlets have a basin that touches the raster's "
        f"edge, where it may be cut off: {listed}{more}. Use a larger raster where that matters."
    ]


def _outlets(downstream: np.ndarray) -> np.ndarray:
    """Reach at the outlet below every reach, int64[reach]."""
    outlet = np.where(downstream >= 0, downstream, np.arange(downstream.size))
    while (further := outlet[outlet] != outlet).any():  # twice as far in every pass
        outlet[further] = outlet[outlet[further]]
    return outlet


def _meeting(downstream: np.ndarray, size: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The first reach through which both of two reaches drain, int64[pair]; -1 where there is none.

    In depth-first order the basin of a reach is the range of `size` reaches that ends with it.
    """
    low, at = np.minimum(one, other), np.maximum(one, other)
    going = np.flatnonzero(at + 1 - size[at] > low)
    while going.size:
        at[going] = downstream[at[going]]
        going = going[at[going] >= 0]
        going = going[at[going] + 1 - size[at[going]] > low[going]]
    return at
