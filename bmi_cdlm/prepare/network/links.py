"""Links: the area that every cell shares with every catchment, and what no cell covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bmi_cdlm.domain.domain import UNCOVERED_LIMIT
from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.network.catchments import Drainage, Links


def make_links(reach: np.ndarray, cell: np.ndarray, area: np.ndarray, n_cells: int) -> Links:
    """Sum the pixels of every pair of cell and reach, sorted by reach, then cell.

    Parameters
    ----------
    reach, cell : int32[row, col]
        Of every pixel, -1 outside.
    area : float64[row, col]
        Of a pixel [km2].
    """
    both = np.flatnonzero((reach >= 0) & (cell >= 0))
    key = reach.ravel()[both].astype(np.int64) * n_cells + cell.ravel()[both]
    pairs, place = np.unique(key, return_inverse=True)
    # Areas may repeat one value over a row: taken by row and column, they need no copy of the whole grid.
    row, col = np.divmod(both, reach.shape[1])
    total = np.bincount(place, weights=area[row, col], minlength=pairs.size)
    return Links(pairs % n_cells, pairs // n_cells, total)


def keep_cells(drainage: Drainage, kept: np.ndarray) -> Drainage:
    """Leave out cells, for example those without forcing; what they covered becomes uncovered area of the reaches.

    Parameters
    ----------
    kept : bool[cell]
    """
    catchments, reaches, cells, links = drainage
    place = np.where(kept, np.cumsum(kept) - 1, -1)
    covered = kept[links.cell]
    n = reaches.downstream.size
    lost = np.bincount(links.reach[~covered], weights=links.area[~covered], minlength=n)
    left = Links(place[links.cell[covered]], links.reach[covered], links.area[covered])
    fields: dict[str, Any] = {name: a[kept] for name, a in cells._asdict().items()
                              if name not in ("grid", "polygons")}
    cell = catchments.cell
    return drainage._replace(
        catchments=catchments._replace(cell=np.where(cell >= 0, place[cell], -1).astype(np.int32)),
        reaches=reaches._replace(
            area=np.bincount(left.reach, weights=left.area, minlength=n), uncovered_area=reaches.uncovered_area + lost
        ),
        cells=cells._replace(**fields), links=left,
    )


def uncovered_shares(drainage: Drainage, reach: np.ndarray) -> np.ndarray:
    """Share of the area above each of some reaches (int64[]) that no cell covers, float64[]."""
    missing = accumulate_downstream(drainage.reaches.downstream, drainage.reaches.uncovered_area)
    return np.asarray(missing[reach] / np.maximum(drainage.reaches.upstream_area[reach], 1e-12))


def check_covered(drainage: Drainage, names: Sequence[str], reach: np.ndarray) -> np.ndarray:
    """Return `uncovered_shares` at gauges and refuse more than 2 % at any.

    Raises
    ------
    DomainError
        Names the gauges, most uncovered first.
    """
    shares = uncovered_shares(drainage, reach)
    bad = np.flatnonzero(shares > UNCOVERED_LIMIT)
    if bad.size:
        worst = bad[np.argsort(-shares[bad])][:8].tolist()
        raise DomainError(
            f"links: no cell covers {', '.join(f'{shares[i]:.2%} above gauge {names[i]}' for i in worst)} ({bad.size} "
            f"such gauges), expected at most {UNCOVERED_LIMIT:.0%}. Correct network.cell_mask, or leave the gauges "
            "out."
        )
    return shares
