"""The file of maps, NAME_maps.nc: written, read by cell, and laid into a domain as attributes of its cells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, select_ids
from bmi_cdlm.maps.basins import UNITS, Basins
from bmi_cdlm.maps.config import SignaturesConfig, Target
from bmi_cdlm.maps.predict import TargetMap
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, DomainError, ParameterError
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.version import __version__

PERIOD = "period"
"""Attribute of a file of maps: begin and end of the records that they are of."""
INTERVAL = "hysep_window"
"""Of maps, and attribute of a map of the baseflow index in a domain file: HYSEP's interval [d]."""
LEARNED_FROM = "learned_from"
"""Attribute of a map in a domain file: ids of the gauges that it was learned from."""
MEANINGS: dict[Target, str] = {
    "mean_runoff": "mean annual runoff", "baseflow_index": "baseflow index (HYSEP, sliding interval)",
}


class Maps(NamedTuple):
    """Maps of signatures at the cells of a domain, in its order: float64[cell] by name; window : of HYSEP [d]; seen :
    ids of the gauges that they were learned from; fold : None for maps of all gauges; period : begin and end of the
    records, None where the file does not say."""

    values: dict[Target, np.ndarray]
    window: int
    seen: tuple[str, ...]
    fold: int | None
    period: tuple[str, ...] | None = None


@one_at_a_time
def write_maps(
    path: Path, basins: Basins, config: SignaturesConfig, maps: Mapping[Target, TargetMap],
    fitted: Sequence[np.ndarray], outside: np.ndarray, period: Sequence[np.datetime64],
) -> None:
    """Write maps, beside their place and moved onto it.

    period : begin and end of the records
    fitted : bool[gauge] per map of a fold, the gauges that it was learned from; outside : int8[cell].
    """
    domain = basins.domain
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.setncatts({
            "Conventions": "CF-1.10", "title": "signatures of flow, learned from gauges and mapped to cells",
            "source": f"bmi_cdlm {__version__}", "predictors": ", ".join(basins.names),
            PERIOD: " ".join(date_text(t) for t in period),
            "settings": json.dumps(config.model_dump(mode="json", exclude={"output", "processes"})),
        })
        for name, size in (("cell", domain.n_cells), ("gauge", len(basins.ids)), ("fold", len(fitted))):
            out.createDimension(name, size)
        _put(out, "cell_id", ("cell",), np.array(domain.cells.id, object), long_name="cell")
        _put(out, "cell_lon", ("cell",), domain.cells.lon, units="degrees_east", standard_name="longitude")
        _put(out, "cell_lat", ("cell",), domain.cells.lat, units="degrees_north", standard_name="latitude")
        _put(out, "out_of_range", ("cell",), outside, units="1", coordinates="cell_lon cell_lat",
             long_name="predictors outside of the range of the basins that were learned from")
        _put(out, INTERVAL, (), np.array(basins.window, np.int32), units="d",
             long_name="sliding interval of the median basin")
        _put(out, "gauge_id", ("gauge",), np.array(basins.ids, object), long_name="gauge")
        _put(out, "gauge_fold", ("gauge",), basins.fold.astype(np.int32),
             long_name="fold whose map never saw the gauge")
        _put(out, "gauge_seen", ("fold", "gauge"), np.stack(fitted).astype(np.int8), flag_values=np.array([0, 1], "i1"),
             flag_meanings="unseen learned_from", long_name="whether the map of a fold was learned from a gauge")
        _put(out, "gauge_used", ("gauge",), basins.usable.astype(np.int8), flag_values=np.array([0, 1], "i1"),
             flag_meanings="unseen learned_from", long_name="whether the map of all gauges was learned from a gauge")
        for target, one in maps.items():
            _put_target(out, basins, target, one)


def _put_target(out: netCDF4.Dataset, basins: Basins, target: Target, one: TargetMap) -> None:
    units, meaning = UNITS[target], MEANINGS[target]
    where = {"units": units, "coordinates": "cell_lon cell_lat"}
    _put(out, target, ("cell",), one.whole, **where, long_name=meaning, ancillary_variables=f"{target}_spread "
         "out_of_range", regression=one.model, scores=json.dumps(one.scores))
    _put(out, f"{target}_fold", ("fold", "cell"), one.folds, **where,
         long_name=f"{meaning}, learned without the gauges of a fold")
    _put(out, f"{target}_spread", ("cell",), one.folds.std(axis=0), **where,
         long_name=f"{meaning}: standard deviation over the maps of the folds")
    _put(out, f"{target}_observed", ("gauge",), basins.targets[target], units=units, long_name=f"{meaning} of records")
    _put(out, f"{target}_predicted", ("gauge",), one.at_gauges, units=units,
         long_name=f"{meaning} predicted for basins that were left out")


def _put(out: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: np.ndarray, **attributes: object) -> None:
    array = np.asarray(values)
    is_text = array.dtype == object
    options: dict[str, Any] = {"fill_value": np.nan} if array.dtype.kind == "f" else {}
    options |= {} if is_text or not dims else {"compression": "zlib", "complevel": 1, "shuffle": True}
    variable = out.createVariable(name, str if is_text else array.dtype, dims, **options)
    variable.setncatts(attributes)
    variable[...] = array


@one_at_a_time
def read_maps(path: Path, domain: Domain, fold: int | None = None) -> Maps:
    """Read maps in the order of a domain, those of all gauges or of a fold.

    Raises
    ------
    ParameterError
        No such file, no maps in it, or of another domain.
    ConfigError
        A fold that it has not.
    """
    where = str(path)
    with open_input(path, ParameterError) as data:
        present = [name for name in UNITS if name in data.variables]
        if not present or "gauge_seen" not in data.variables:
            raise ParameterError(f"{where}: holds no maps of {' or '.join(UNITS)}. Make them with `cdlm signatures`.")
        n_folds = data.dimensions["fold"].size
        if fold is not None and not 0 <= fold < n_folds:
            raise ConfigError(f"{where}: has maps of folds 0 to {n_folds - 1}, and {fold} is asked for.")
        order = select_ids(
            read_strings(data, "cell_id", where, ParameterError), domain.cells.id, "cell_id", where, ParameterError
        )
        used = filled(data["gauge_used"], ...) if fold is None else filled(data["gauge_seen"], fold)
        gauges = read_strings(data, "gauge_id", where, ParameterError)
        values = {}
        for name in present:
            own = filled(data[name], ...) if fold is None else filled(data[f"{name}_fold"], fold)
            values[name] = np.asarray(own, np.float64)[order]
        seen = tuple(gauge for gauge, is_used in zip(gauges, used, strict=True) if is_used)
        period = tuple(getattr(data, PERIOD, "").split()) or None
        return Maps(values, int(data[INTERVAL][...]), seen, fold, period)


def fold_of(path: Path, gauges: Sequence[str]) -> int | None:
    """The fold whose maps have seen none of some gauges; None without gauges.

    Raises
    ------
    ConfigError
        Every map has seen one of them.
    """
    where = str(path)
    with open_input(path, ParameterError) as data:
        ids = read_strings(data, "gauge_id", where, ParameterError)
        seen = np.asarray(filled(data["gauge_seen"], ...), bool)
    places = [k for k, gauge in enumerate(ids) if gauge in set(gauges)]
    clean = np.flatnonzero(~seen[:, places].any(axis=1))
    if not places:
        return None
    if not clean.size:
        raise ConfigError(
            f"{where}: every map was learned from one of the gauges {', '.join(gauges[:5])}, which are to validate it; "
            "a map that saw a gauge says nothing of gauges that it did not see. Leave out gauges of one fold "
            "(`gauge_fold`), or make maps with the folds of the experiment."
        )
    return int(clean[0])


def check_unseen(maps: Maps, where: str, gauges: Sequence[str]) -> None:
    """Refuse to validate maps at gauges that they were learned from; ConfigError names one."""
    both = [gauge for gauge in gauges if gauge in maps.seen]
    if both:
        which = "the maps of all gauges" if maps.fold is None else f"the maps of fold {maps.fold}"
        raise ConfigError(
            f"{where}: {which} were learned from gauge {both[0]} ({len(both)} of {len(gauges)} that are to validate "
            "them). Expected maps that never saw it: choose its fold (`gauge_fold` of the file)."
        )


def lay_into_domain(path: Path, domain_path: Path, domain: Domain) -> list[str]:
    """Add maps to a domain file as attributes of its cells, of all gauges and of every fold; returns their names.

    Those of a fold are called NAME_foldK. Each says from which gauges it was learned.
    """
    with open_input(path, ParameterError) as data:
        n_folds = data.dimensions["fold"].size
    found = {"": read_maps(path, domain)} | {f"_fold{k}": read_maps(path, domain, k) for k in range(n_folds)}
    names = []
    with replacing(domain_path) as temporary:
        shutil.copyfile(domain_path, temporary)
        with netCDF4.Dataset(temporary, "a") as out:
            if out.dimensions["cell"].size != domain.n_cells:
                raise DomainError(f"{domain_path}: has another number of cells than the maps. Make them anew.")
            for suffix, maps in found.items():
                for target, values in maps.values.items():
                    name = f"cell_{target}{suffix}"
                    if name not in out.variables:
                        out.createVariable(name, "f8", ("cell",))
                    out[name].setncatts({
                        "units": UNITS[target], "long_name": f"{MEANINGS[target]}, a map by `cdlm signatures`",
                        LEARNED_FROM: json.dumps(maps.seen),
                    } | ({INTERVAL: np.int32(maps.window)} if target == "baseflow_index" else {}))
                    out[name][:] = values
                    names.append(name)
    return names


@one_at_a_time
def interval_of(domain_path: Path, name: str) -> int:
    """HYSEP's interval [d] of a map of the baseflow index in a domain file; name : with or without `cell_`.

    Raises
    ------
    DomainError
        The map does not say which, or it is no odd number of days.
    """
    own = f"cell_{name.removeprefix('cell_')}"
    with open_input(domain_path, DomainError) as data:
        found = getattr(data[own], INTERVAL, None) if own in data.variables else None
    if found is None or found != int(found) or found < 1 or int(found) % 2 == 0:
        got = f"no {INTERVAL}" if found is None else f"{INTERVAL} {found}"
        raise DomainError(
            f"{domain_path}: {own}, a map of the baseflow index, has {got}; expected the odd number of days by which "
            "baseflow was told from flow. Lay the map into the domain by `cdlm signatures --to-domain`, or set the "
            f"attribute {INTERVAL}."
        )
    return int(found)
