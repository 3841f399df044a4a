"""What `map.js` draws of a domain: places with the largest rivers first, and layers of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.places import reach_places, together
from bmi_cdlm.pictures.fields import MapField
from bmi_cdlm.pictures.page import numbers, pack

PLURAL = {"cell": "cells", "reach": "reaches", "gauge": "gauges"}
NO_FLOW, MISSING, CODES = 0, 65535, 8192
"""Codes of discharge: none, missing, and how many there are for the logarithms between the limits: so few deflate well,
and leave an error of 0.13 % at most."""
SPAN = 1e9
"""Ratio of the largest to the smallest flow that has a code of its own."""


def largest_first(domain: Domain) -> np.ndarray:
    """Reaches by upstream area, the largest first, int64[reach]: each after the one that it drains into."""
    area = domain.reaches.upstream_area
    return np.lexsort((-np.arange(area.size), -area))


def map_data(
    domain: Domain, layers: Sequence[MapField], order: np.ndarray, *, cells: bool = True, ids: bool = False
) -> dict[str, Any]:
    """Places and layers of a map; order : the reaches to show, as of `largest_first`, cut where it is too long.

    cells : whether they are shown; ids : whether reaches are told by theirs.
    """
    domain = together(domain)
    reaches, gauges = domain.reaches, domain.gauges
    downstream = reaches.downstream[order]
    place = np.full(domain.n_reaches, -1, np.int64)
    place[order] = np.arange(order.size)
    below = np.where(downstream >= 0, place[downstream], -1)
    area = reaches.upstream_area[order]
    lon, lat = reach_places(domain)
    corners = np.stack([domain.cells.corner_lon, domain.cells.corner_lat], axis=2)
    found: dict[str, Any] = {
        "extent": _extent(domain, lon, lat, cells),
        "reaches": {
            "lon": pack(lon[order]), "lat": pack(lat[order]), "below": pack(below.astype(np.int32)),
            "width": numbers(np.sqrt(area / max(float(area.max(initial=0.0)), 1e-12))), "area": numbers(area),
            **({"ids": [reaches.id[i] for i in order]} if ids else {}),
        },
        "gauges": {
            "lon": pack(lon[gauges.reach]), "lat": pack(lat[gauges.reach]), "ids": list(gauges.id),
            "names": list(gauges.name),
        },
        "layers": [layer_data(field, order) for field in layers if cells or field.on != "cell"],
    }
    if cells:
        found["cells"] = {"corners": pack(corners.reshape(-1)), "ids": list(domain.cells.id)}
    return found


def layer_data(field: MapField, order: np.ndarray) -> dict[str, Any]:
    """A layer of a field of the domain."""
    low, high, lower, higher = field.scale()
    values = field.values[order] if field.on == "reach" else field.values
    return {
        "name": field.name, "on": PLURAL[field.on], "units": "" if field.units == "1" else field.units,
        "values": numbers(values), "log": field.log, "colours": field.colours, "low": low, "high": high,
        "lower": lower, "higher": higher,
    }


def flow_codes(flow: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Discharge as codes of 16 bits, and the least and the greatest flow that has one.

    flow : float64[time, reach] [m3 s-1]. What is less than the greatest over `SPAN` is no flow (code 0), NaN is the
    last code; those between lie evenly in the logarithm.
    """
    greatest = float(np.nanmax(flow, initial=0.0))
    if greatest <= 0:
        return np.where(np.isnan(flow), MISSING, NO_FLOW).astype(np.uint16), 1.0, 10.0
    flows = flow > greatest / SPAN
    least = float(np.min(flow, where=flows, initial=greatest))
    if least == greatest:
        least = greatest / 10
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.log(flow / least) / np.log(greatest / least)
    codes = np.where(flows, 1 + np.round(place * (CODES - 1)), NO_FLOW)
    return np.where(np.isnan(flow), MISSING, codes).astype(np.uint16), least, greatest


def frames_layer(name: str, codes: np.ndarray, least: float, greatest: float) -> dict[str, Any]:
    """A layer of discharge that moves with time; codes : uint16[time, reach], of the first reaches of the map."""
    return {
        "name": name, "on": "reaches", "units": "m³ s⁻¹", "frames": pack(codes, changes=True),
        "kept": codes.shape[1], "codes": CODES,
        "least": least, "most": greatest, "log": True, "colours": "flow", "low": max(least, greatest * 1e-5),
        "high": greatest, "lower": least < greatest * 1e-5, "higher": False,
    }


def _extent(domain: Domain, lon: np.ndarray, lat: np.ndarray, cells: bool) -> list[float]:
    """West, south, east, north [degrees], of reaches, and of cells where they are shown."""
    if cells:
        lon = np.concatenate([lon, domain.cells.corner_lon.ravel()])
        lat = np.concatenate([lat, domain.cells.corner_lat.ravel()])
    return [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())]

