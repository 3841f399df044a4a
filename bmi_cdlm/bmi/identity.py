"""What the places of the grids are: ids, coordinates, areas, and how cells, reaches and gauges belong together."""

from __future__ import annotations

from typing import Any

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.names.entry import Variable
from bmi_cdlm.names.host_variables import IDENTITY

NAMES = {v.name: v for v in IDENTITY}

def identity(domain: Domain, v: Variable) -> np.ndarray | None:
    """Return the values of a variable, one-dimensional and not to be written to; None where ids are no numbers."""
    cells, reaches, gauges, links = domain.cells, domain.reaches, domain.gauges, domain.links
    group: Any = {"cell": cells, "reach": reaches, "gauge": gauges, "link": links, "boundary": None}[v.grid]
    values: np.ndarray | None
    if v.grid == "boundary" and not domain.boundary.size:
        return None
    if v.short.endswith("_id_text"):
        values = as_text(group.id)
    elif v.short.endswith("_id"):
        values = as_numbers(group.id)
    elif v.short == "boundary_reach":
        values = domain.boundary.copy()
    elif v.short == "link_reach":
        values = np.repeat(np.arange(domain.n_reaches), np.diff(links.first))
    elif v.short == "link_share":
        values = links.area / cells.drained_area[links.cell]
    else:
        own = v.short.removeprefix(f"{v.grid}_")
        values = np.array(getattr(group, own if hasattr(group, own) else v.short))
    if values is not None:
        values = values.astype(np.int64) if values.dtype.kind == "i" else values
        values.flags.writeable = False
    return values


def as_text(ids: list[str]) -> np.ndarray:
    """Ids as bytes of one width, uint8[id x width], padded with zeros."""
    letters = np.array([one.encode() for one in ids], np.bytes_)
    return np.frombuffer(letters.tobytes(), np.uint8).copy()


def as_numbers(ids: list[str]) -> np.ndarray | None:
    """Ids as int64[id], where each is a number written plainly."""
    try:
        values = [int(one) for one in ids]
        if [str(value) for value in values] != ids:
            return None
        return np.array(values, np.int64)
    except (ValueError, OverflowError):
        return None
