"""Cut a run down to what drains to a gauge or reach: domain, forcing, observations, parameters and configuration.

Discharge there is that of the whole run, bit for bit: reaches keep their order, and a cell that only partly drains
there keeps the links that do.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import yaml

from bmi_cdlm.domain.domain import Domain, check_uncovered, cut, read_domain
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, select_ids
from bmi_cdlm.files.restart import read_restart, write_restart
from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError, UnknownNameError, nearest
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import GRIDS, PATH_KEYS, Config, load_config

BLOCK_BYTES = 64 * 2**20
PRODUCTS = {"output": "run.nc", "restart": "restart.nc"}
"""Files that a run writes: key and name in the folder."""


class Cut(NamedTuple):
    """What stays: the reach at the outlet, the sub-domain, and the places kept in the domain file by dimension."""

    outlet: str
    domain: Domain
    kept: dict[str, np.ndarray]
    replaced: dict[str, np.ndarray]


def subset(config_path: Path, target: str, folder: Path) -> list[Path]:
    """Write the run of a configuration for the area above a gauge or reach into a folder; returns the files.

    Parameters
    ----------
    target : str
        A gauge or reach id; `gauge:ID` or `reach:ID` where an id is both.

    Raises
    ------
    CdlmError
        An unknown id, a reach without cells above, more than 2 % of its area without a cell, or a folder whose
        files are those of the run itself. Nothing is written then.
    """
    config = load_config(config_path)
    domain = read_domain(config.domain)
    part = _cut(config, domain, find_reach(domain, target))
    sources = {key: getattr(config, key) for key in PATH_KEYS if key not in PRODUCTS}
    files = {key: _target(key, path, folder) for key, path in sources.items() if isinstance(path, Path)}
    files["config"] = folder / config_path.name
    for path in (config_path, *(p for p in sources.values() if isinstance(p, Path))):
        if path.resolve() in [file.resolve() for file in files.values()]:
            raise ConfigError(f"--to {folder}: would overwrite {path}, which the run reads. Choose another folder.")
    if not part.domain.gauges.id:
        files.pop("observations", None)
    with ExitStack() as stack:
        for key, path in files.items():
            temporary = stack.enter_context(replacing(path))
            if key == "config":
                content = _configure(config_path, part, files, target)
                temporary.write_text(content, encoding="utf-8")
            elif key == "initial_state":
                inside = part.domain
                write_restart(temporary, read_restart(sources[key], inside.cells.id, inside.reaches.id))
            elif path.suffix == ".safetensors":
                shutil.copyfile(sources[key], temporary)
            else:
                _cut_file(key, sources[key], temporary, domain, part)
    return list(files.values())


def find_reach(domain: Domain, target: str) -> int:
    """Index of the reach that a gauge id or a reach id means; UnknownNameError names the nearest."""
    kind, _, rest = target.partition(":")
    wanted = rest if kind in ("gauge", "reach") and rest else target
    gauges = {} if kind == "reach" and rest else dict(zip(domain.gauges.id, domain.gauges.reach.tolist(), strict=True))
    reaches = {} if kind == "gauge" and rest else {name: i for i, name in enumerate(domain.reaches.id)}
    found = {ids[wanted] for ids in (gauges, reaches) if wanted in ids}
    if len(found) == 2:
        raise UnknownNameError(f"'{wanted}' is a gauge and another reach. Say gauge:{wanted} or reach:{wanted}.")
    if not found:
        hint = nearest(wanted, gauges) or nearest(wanted, list(reaches)[:10_000])
        raise UnknownNameError(
            f"there is no gauge or reach '{wanted}'.{hint} "
            f"Gauges: {', '.join(domain.gauges.id) or 'none'}."
        )
    return int(found.pop())


def _target(key: str, source: Path, folder: Path) -> Path:
    return folder / (f"{key}{source.suffix}" if source.suffix == ".safetensors" else f"{key}.nc")


@one_at_a_time
def _cut(config: Config, domain: Domain, reach: int) -> Cut:
    """Find what stays, and the index variables of the domain file as they become."""
    part, cells, reaches = cut(domain, reach)
    where = str(config.domain)
    if not part.n_cells:
        raise DomainError(f"{where}: no cell drains to reach {domain.reaches.id[reach]}. Choose a reach further down.")
    kept = {"cell": cells, "reach": np.sort(domain.file_order[reaches])}
    place = {dim: _places(places, n) for (dim, places), n in zip(kept.items(), (domain.n_cells, domain.n_reaches),
                                                                 strict=True)}
    with open_input(config.domain, DomainError) as dataset:
        def index(name: str) -> np.ndarray:
            return np.asarray(dataset.variables[name][:], np.int64)

        if "reach_uncovered_area" in dataset.variables:
            uncovered = filled(dataset.variables["reach_uncovered_area"], slice(None))[part.file_order]
            check_uncovered(part.reaches, part.gauges, uncovered, where)
        kept["link"] = np.flatnonzero(place["reach"][index("link_reach")] >= 0)
        downstream = index("downstream")[kept["reach"]]
        replaced = {
            "downstream": np.where(downstream >= 0, place["reach"][downstream], -1),
            "link_cell": place["cell"][index("link_cell")[kept["link"]]],
            "link_reach": place["reach"][index("link_reach")[kept["link"]]],
            "cell_drained_area": domain.cells.drained_area[cells],
        }
        if "gauge" in dataset.dimensions:
            kept["gauge"] = np.flatnonzero(place["reach"][index("gauge_reach")] >= 0)
            replaced["gauge_reach"] = place["reach"][index("gauge_reach")[kept["gauge"]]]
    return Cut(domain.reaches.id[reach], part, kept, replaced)


def _places(kept: np.ndarray, n: int) -> np.ndarray:
    """New index of each of n places, -1 where it does not stay."""
    places = np.full(n, -1, np.int64)
    places[kept] = np.arange(kept.size)
    return places


@one_at_a_time
def _cut_file(key: str, source: Path, target: Path, domain: Domain, part: Cut) -> None:
    """Copy a NetCDF file without what lies elsewhere; ids of a file say which is which, else the domain's order."""
    where = str(source)
    ids = {"cell": part.domain.cells.id, "reach": part.domain.reaches.id, "gauge": part.domain.gauges.id}
    sizes = {"cell": domain.n_cells, "reach": domain.n_reaches, "gauge": len(domain.gauges.id)}
    with open_input(source, CdlmError) as dataset:
        kept = {}
        for dim in part.kept if key == "domain" else ids:
            if dim not in dataset.dimensions:
                continue
            if key != "domain" and f"{dim}_id" in dataset.variables:
                found = read_strings(dataset, f"{dim}_id", where, CdlmError)
                kept[dim] = np.sort(select_ids(found, ids[dim], f"{dim}_id", where, CdlmError))
            elif key == "domain" or dataset.dimensions[dim].size == sizes[dim]:
                kept[dim] = part.kept[dim]
        _copy(dataset, target, kept, part.replaced if key == "domain" else {})


def _copy(dataset: netCDF4.Dataset, target: Path, kept: Mapping[str, np.ndarray], replaced: Mapping[str, Any]) -> None:
    """Copy a data set with some places of some dimensions, and some variables replaced or added [km2] on cells."""
    dataset.set_auto_maskandscale(False)
    gone = [dim for dim, places in kept.items() if not places.size]
    with netCDF4.Dataset(target, "w") as out:
        out.setncatts({name: dataset.getncattr(name) for name in dataset.ncattrs()})
        for name, dimension in dataset.dimensions.items():
            if name not in gone:
                size = kept[name].size if name in kept else dimension.size
                out.createDimension(name, None if dimension.isunlimited() else size)
        for name, variable in dataset.variables.items():
            if not set(gone) & set(variable.dimensions):
                _copy_variable(variable, out, kept, replaced.get(name))
        if "cell_drained_area" in replaced and "cell_drained_area" not in dataset.variables:
            area = out.createVariable("cell_drained_area", "f8", ("cell",))
            area.setncatts({"units": "km2", "long_name": "area that drains to reaches in the whole domain"})
            area[:] = replaced["cell_drained_area"]


def _copy_variable(
    variable: netCDF4.Variable, out: netCDF4.Dataset, kept: Mapping[str, np.ndarray], replacement: np.ndarray | None
) -> None:
    attributes = {name: variable.getncattr(name) for name in variable.ncattrs()}
    kind: Any = variable.dtype
    compressed = kind is not str and bool((variable.filters() or {}).get("zlib"))
    new: Any = out.createVariable(
        variable.name, kind, variable.dimensions, fill_value=attributes.pop("_FillValue", None), zlib=compressed,
    )
    new.set_auto_maskandscale(False)
    new.setncatts(attributes)
    if replacement is not None:
        new[...] = replacement
        return
    if not variable.dimensions:
        new[...] = variable[...]
        return
    n = variable.shape[0]
    per_row = 8 * int(np.prod(variable.shape[1:], dtype=np.int64))
    length = max(1, BLOCK_BYTES // max(per_row, 1))
    rows = kept.get(variable.dimensions[0], np.arange(n))
    for first in range(0, rows.size, length):
        places = rows[first : first + length]
        block = variable[places[0] : places[-1] + 1][places - places[0]]
        for axis, dim in enumerate(variable.dimensions[1:], start=1):
            if dim in kept:
                block = np.take(block, kept[dim], axis=axis)
        new[first : first + places.size] = block


def _configure(config_path: Path, part: Cut, files: Mapping[str, Path], target: str) -> str:
    """Return the configuration of the sub-basin: that of the whole, with the files of the folder."""
    content: dict[str, Any] = load_yaml(config_path, ConfigError)
    for key in PATH_KEYS:
        if key in PRODUCTS and content.get(key) is not None:
            content[key] = PRODUCTS[key]
        elif key in files:
            content[key] = files[key].name
    gauges = part.domain.gauges.id
    if not gauges:
        content.pop("observations", None)
    content.pop("prepare", None)  # it makes the whole
    at = content.get("output_at", "gauges")
    if isinstance(at, str) and at not in GRIDS:  # a file beside the configuration
        at = list(load_config(config_path).output_at)
    if isinstance(at, list):
        inside = set(part.domain.reaches.id)
        content["output_at"] = [i for i in at if str(i) in inside] or [part.outlet]
    elif at == "gauges" and not gauges:
        content["output_at"] = [part.outlet]
    training = content.get("training")
    if isinstance(training, dict):
        if "output" in training:
            training["output"] = Path(training["output"]).name
        if isinstance(training.get("gauges"), list):
            training["gauges"] = [g for g in training["gauges"] if str(g) in gauges] or "all"
    head = f"# Cut out of {config_path.name}: what drains to {target}.\n"
    return head + yaml.safe_dump(content, sort_keys=False)
