"""Cut a run in two at a gauge or reach, above and below: domain, forcing, observations, parameters, configuration.

Discharge above is that of the whole run, bit for bit: reaches keep their order, and a cell that only partly drains
there keeps the links that do. So it is below, where the discharge of what was cut off is given at every sub-step: the
reach there stays as a boundary, at its place among the tributaries of the reach below it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Domain, check_uncovered, cut, read_domain, take_reaches
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, select_ids
from bmi_cdlm.files.restart import read_restart, write_restart
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.files.yaml_loader import load_yaml
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError, UnknownNameError, nearest
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import PATH_KEYS, Config, load_config
from bmi_cdlm.run.values import GRIDS

BLOCK_BYTES = 64 * 2**20
STANDS_FOR = "reach_stands_for"
PRODUCTS = {"output": "run.nc", "restart": "restart.nc"}
"""Files that a run writes: key and name in the folder."""


class Cut(NamedTuple):
    """What stays: the reach at the outlet, the sub-domain, and the places kept in the domain file by dimension."""

    outlet: str
    domain: Domain
    kept: dict[str, np.ndarray]
    replaced: dict[str, np.ndarray]
    below: bool = False


def subset(config_path: Path, target: str, folder: Path, *, below: bool = False) -> list[Path]:
    """Write the run of a configuration for the area above a gauge or reach into a folder; returns the files.

    Parameters
    ----------
    target : str
        A gauge or reach id; `gauge:ID` or `reach:ID` where an id is both.
    below : bool
        The complement: all that does not drain through it.

    Raises
    ------
    CdlmError
        An unknown id, a reach without cells above, more than 2 % of its area without a cell, an outlet, below which
        nothing lies, or a folder whose files are those of the run itself. Nothing is written then.
    """
    config = load_config(config_path)
    domain = read_domain(config.domain)
    part = _cut(config, domain, find_reach(domain, target), below=below)
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


def _cut_below(domain: Domain, reach: int, where: str) -> tuple[Domain, np.ndarray, np.ndarray]:
    """As `domain.cut`, what does not drain through a reach, and the reach itself as a boundary."""
    name = domain.reaches.id[reach]
    if domain.reaches.downstream[reach] < 0:
        raise DomainError(f"{where}: reach {name} is an outlet, nothing lies below it. Choose a reach further up.")
    above = np.arange(upstream_of(domain.reaches.downstream, reach)[0], reach)
    reaches = np.setdiff1d(np.arange(domain.n_reaches), above)
    part, cells = take_reaches(domain, reaches, np.array([reach]))
    if not part.n_cells:
        raise DomainError(f"{where}: no cell drains elsewhere than to reach {name}. Choose a reach further up.")
    return part._replace(boundary=np.union1d(part.boundary, np.searchsorted(reaches, reach))), cells, reaches


@one_at_a_time
def _cut(config: Config, domain: Domain, reach: int, *, below: bool) -> Cut:
    """Find what stays, and the index variables of the domain file as they become."""
    where = str(config.domain)
    part, cells, reaches = _cut_below(domain, reach, where) if below else cut(domain, reach)
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
            uncovered[part.boundary] = 0.0
            check_uncovered(part.reaches, part.gauges, uncovered, where)
        cut_off = domain.file_order[reach] if below else -1
        kept["link"] = np.flatnonzero((place["reach"][index("link_reach")] >= 0) & (index("link_reach") != cut_off))
        downstream = index("downstream")[kept["reach"]]
        replaced = {
            "downstream": np.where(downstream >= 0, place["reach"][downstream], -1),
            "link_cell": place["cell"][index("link_cell")[kept["link"]]],
            "link_reach": place["reach"][index("link_reach")[kept["link"]]],
            "cell_drained_area": domain.cells.drained_area[cells],
        }
        if "gauge" in dataset.dimensions:
            of_gauge = index("gauge_reach")
            kept["gauge"] = np.flatnonzero((place["reach"][of_gauge] >= 0) & (of_gauge != cut_off))
            replaced["gauge_reach"] = place["reach"][of_gauge[kept["gauge"]]]
        if below:
            replaced |= _at_boundary(dataset, domain, reach, kept["reach"])
    outlet = domain.reaches.id[reach] if not below else part.reaches.id[int(part.outlets[-1])]
    return Cut(outlet, part, kept, replaced, below)


def _at_boundary(dataset: netCDF4.Dataset, domain: Domain, reach: int, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Variables of the domain file where a reach stands for all that drains through it; kept : places in the file."""
    cut_off = int(domain.file_order[reach])
    found = {}
    for name in ("reach_area", "reach_length", "reach_uncovered_area"):
        if name in dataset.variables:
            values = filled(dataset.variables[name], slice(None))
            values[cut_off] = 0.0
            found[name] = values[kept]
    stands_for = np.zeros(domain.n_reaches, np.int64)
    if STANDS_FOR in dataset.variables:
        stands_for = np.asarray(dataset.variables[STANDS_FOR][:], np.int64)
    above = domain.file_order[np.arange(*upstream_of(domain.reaches.downstream, reach))]
    stands_for[cut_off] = np.maximum(stands_for[above], 1).sum()
    return found | {STANDS_FOR: stands_for[kept]}


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
        if STANDS_FOR in replaced and STANDS_FOR not in dataset.variables:
            count = out.createVariable(STANDS_FOR, "i4", ("reach",))
            count.setncatts({
                "units": "1",
                "long_name": "number of reaches that a boundary stands for, all that drains through it; 0 of others",
            })
            count[:] = replaced[STANDS_FOR]
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
    if part.below:  # nobody trains or spins up what lacks its rivers
        content.pop("training", None)
        content.pop("spin_up", None)
        content["coupled_inputs"] = [*dict.fromkeys([*content.get("coupled_inputs", []), "boundary_inflow"])]
    training = content.get("training")
    if isinstance(training, dict):
        if "output" in training:
            training["output"] = Path(training["output"]).name
        if isinstance(training.get("gauges"), list):
            training["gauges"] = [g for g in training["gauges"] if str(g) in gauges] or "all"
    head = f"# Cut out of {config_path.name}: what drains to {target}.\n"
    if part.below:
        head = (
            f"# Cut out of {config_path.name}: what does not drain to {target}, whose discharge is given through BMI\n"
            "# at every routing sub-step (boundary_inflow). With a state of the whole rivers begin as they had been.\n"
        )
    return head + dump_yaml(content)
