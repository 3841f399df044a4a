"""Label files: parameters per gauge or cell, how good and how certain they are, and what they were made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, require
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.version import __version__
from cdlm_training.fields import Ranged, unbounded

Per = Literal["gauge", "cell"]
FARTHEST = 4.0
"""A label is no farther from the middle of its range, on the scale without bounds: at a bound it would be infinite."""
CAPACITIES = {"gr4j": "production_capacity", "hbv": "field_capacity"}
"""Which parameter of a runoff process of the model is the storage capacity of its soil [mm]."""
JOINED = "storage_capacity"
SKILL = {
    "kge": ("1", "Kling-Gupta efficiency in the last quarter of the period, which the fit has not seen"),
    "kge_fitted": ("1", "Kling-Gupta efficiency in the part of the period that was fitted"),
    "n_values": ("1", "Observed values that were fitted"),
}


class LabelError(CdlmError, ValueError):
    """Labels cannot be made, or do not fit what they are to teach."""


class Column(NamedTuple):
    """A parameter of a label model: name, units, range and meaning."""

    name: str
    units: str
    low: float
    high: float
    scale: str
    meaning: str


class LabelSet(NamedTuple):
    """Labels of one model.

    values : float64[parameter, site], NaN where there are none; spread : float64[parameter, site], standard deviation
    over the restarts on the scale without bounds [1]; skill : float64[site] by the names of SKILL.
    """

    model: str
    columns: tuple[Column, ...]
    capacity: str | None
    values: np.ndarray
    spread: np.ndarray
    skill: Mapping[str, np.ndarray]
    source: str


class Sites(NamedTuple):
    """Where labels are: gauges or cells, by id, with the centre of their areas [degrees] and their size [km2]."""

    per: Per
    id: Sequence[str]
    lon: np.ndarray
    lat: np.ndarray
    area: np.ndarray


def chosen(columns: Sequence[Ranged], tries: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the best of several restarts, and the spread over those that came to an end: float64[parameter, site].

    tries : float64[restart, parameter, site]; cost : float64[restart, site], infinite or NaN where a fit failed.
    """
    ended = np.isfinite(cost)
    best = np.where(ended, cost, np.inf).argmin(axis=0)
    values = tries[best, :, np.arange(tries.shape[2])].T
    free = np.stack([unbounded(c, tries[:, k], FARTHEST) for k, c in enumerate(columns)], axis=1)
    weight = ended[:, None] / np.maximum(ended.sum(axis=0), 1)
    free = np.where(ended[:, None], free, 0.0)
    spread = np.sqrt((weight * (free - (weight * free).sum(axis=0)) ** 2).sum(axis=0))
    known = ended.any(axis=0)
    return np.where(known, values, np.nan), np.where(known, spread, np.nan)


def join_capacities(sets: Sequence[LabelSet]) -> np.ndarray | None:
    """Storage capacity over models [mm], float64[site]: exp of the mean of its logarithm, weighted by max(KGE, 0).

    NaN where no model has a KGE above 0; None where no model has a capacity.
    """
    own = [s for s in sets if s.capacity is not None]
    if not own:
        return None
    logs = np.stack([np.log(s.values[[c.name for c in s.columns].index(str(s.capacity))]) for s in own])
    weights = np.stack([np.maximum(np.nan_to_num(s.skill["kge"]), 0.0) for s in own])
    weights = np.where(np.isfinite(logs), weights, 0.0)
    total = weights.sum(axis=0)
    mean = (weights * np.nan_to_num(logs)).sum(axis=0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, np.exp(mean), np.nan)


def save_labels(path: Path, sites: Sites, sets: Sequence[LabelSet], record: Mapping[str, Any]) -> None:
    """Write labels beside their place and move them onto it; record : plain values that say what they were made of."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.setncatts({
            "Conventions": "CF-1.10", "title": f"locally calibrated parameters per {sites.per}",
            "models": ", ".join(s.model for s in sets), "code_version": __version__, **texts,
        })
        out.createDimension(sites.per, len(sites.id))
        out.createVariable(f"{sites.per}_id", str, (sites.per,))[:] = np.array(list(sites.id), object)
        for name, units, values, meaning in (
            ("lon", "degrees_east", sites.lon, "longitude"), ("lat", "degrees_north", sites.lat, "latitude"),
            ("area", "km2", sites.area, "area that the labels are of"),
        ):
            _put(out, sites, name, units, values, meaning, **({} if name == "area" else {"standard_name": meaning}))
        for one in sets:
            for k, c in enumerate(one.columns):
                said = {"low": c.low, "high": c.high, "scale": c.scale}
                _put(out, sites, f"{one.model}_{c.name}", c.units, one.values[k], c.meaning, **said)
                _put(out, sites, f"{one.model}_{c.name}_spread", "1", one.spread[k], f"{c.meaning}: standard deviation "
                     "over restarts of the logit of its place in its range")
            for name, (units, meaning) in SKILL.items():
                _put(out, sites, f"{one.model}_{name}", units, one.skill[name], meaning, source=one.source)
        joined = join_capacities(sets)
        if joined is not None:
            _put(out, sites, JOINED, "mm", joined, "Storage capacity of the soil, mean of the logarithm over models "
                 "weighted by max(KGE, 0)")


def _put(
    out: netCDF4.Dataset, sites: Sites, name: str, units: str, values: np.ndarray, meaning: str, **more: object
) -> None:
    variable = out.createVariable(name, "f8", (sites.per,), fill_value=np.nan)
    place = {} if name in ("lon", "lat") else {"coordinates": "lat lon"}
    variable.setncatts({"units": units, "long_name": meaning, **place, **more})
    variable[:] = values


class ReadLabels(NamedTuple):
    """Labels of one model as read: sites, and float64[site] by name of the parameter, their spread, and the KGE."""

    where: str
    sites: Sites
    record: Mapping[str, str]
    columns: Mapping[str, Column]
    values: Mapping[str, np.ndarray]
    spread: Mapping[str, np.ndarray]
    kge: np.ndarray

    @property
    def period(self) -> tuple[str, str] | None:
        """Begin and end of the years that they were made of, as texts; None where they do not say."""
        try:
            first, last = json.loads(self.record["period"])
        except (KeyError, ValueError, TypeError):  # of another hand
            return None
        return str(first), str(last)


@one_at_a_time
def read_labels(path: Path, model: str) -> ReadLabels:
    """Read the labels of one model.

    Raises
    ------
    LabelError
        Unreadable, no label file, or none of this model.
    """
    where = str(path)
    with open_input(path, LabelError) as file:
        record = {name: str(file.getncattr(name)) for name in file.ncattrs()}
        per: Per = "gauge" if "gauge" in file.dimensions else "cell"
        models = record.get("models", "").split(", ")
        if model not in models:
            raise LabelError(
                f"{where}: has labels of {', '.join(models) or 'no model'}, and the run has runoff: {model}. Expected "
                f"labels of the same structure. Make them with cdlm-train labels CONFIG --model {model}."
            )
        require(file, [f"{model}_kge", "lon", "lat", "area", f"{per}_id"], where, LabelError)
        columns, values, spread = {}, {}, {}
        for name, variable in file.variables.items():
            if name.startswith(f"{model}_") and "scale" in variable.ncattrs():
                own = name.removeprefix(f"{model}_")
                said = {key: variable.getncattr(key) for key in ("units", "low", "high", "scale", "long_name")}
                columns[own] = Column(own, *said.values())
                require(file, [f"{name}_spread"], where, LabelError)
                values[own] = filled(variable, slice(None))
                spread[own] = filled(file.variables[f"{name}_spread"], slice(None))
        lon, lat, area = (filled(file.variables[name], slice(None)) for name in ("lon", "lat", "area"))
        sites = Sites(per, read_strings(file, f"{per}_id", where, LabelError), lon, lat, area)
        return ReadLabels(where, sites, record, columns, values, spread,
                          filled(file.variables[f"{model}_kge"], slice(None)))
