"""A fit to maps from its configuration to parameter files: block by block of cells, taken up again after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import Domain, read_domain, take_reaches
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.output import OutputFile
from bmi_cdlm.generator.specification import Target
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.maps.basins import UNITS
from bmi_cdlm.maps.files import LEARNED_FROM, Maps, check_unseen, read_maps
from bmi_cdlm.names.calendars import MEAN_YEAR, date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.writing import check_writable, replacing
from bmi_cdlm.prepare.gauges.hierarchy import fold_gauges
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.fingerprints import fingerprints
from bmi_cdlm.run.parameter_file import save_parameters
from bmi_cdlm.run.parameters import make_demand, make_forcing, read_any_parameters, read_elevation
from bmi_cdlm.version import __version__
from cdlm_training.fields import FARTHEST, unbounded
from cdlm_training.kept import held, keep
from cdlm_training.map_fit.cells import NO_REACHES, Aim, CellModel, Found, fit_cells
from cdlm_training.map_fit.config import MapFit, load_map_fit
from cdlm_training.map_fit.rivers import CELERITY, check_rivers, fit_rivers
from cdlm_training.seen import what_it_saw

SERIES = 16
"""Series of a cell that a fit holds at once [float64 values per step]: inputs, what the processes give, its minimum
with the places, and the adjoints."""
NEAR = 5.5
"""z beyond which a parameter counts as at a bound of its range: within half a per cent of it."""
ENOUGH_YEARS = 5
KEPT, FITTED, BOUND = 0, 1, 2


class FitResult(NamedTuple):
    """What came of the maps of all gauges, or of a fold: files, and a line that tells how well maps are met."""

    parameters: Path
    cells: Path
    told: str


def run_map_fit(path: Path, tell: Callable[[str], None]) -> list[FitResult]:
    """Fit cells to the maps of all gauges, and to those of every fold where that is asked for; write the files.

    Raises
    ------
    CdlmError
        What is wrong with the configuration or its files, before anything is fitted.
    """
    fit = load_map_fit(path)
    run, config = fit.run, fit.config
    domain = read_domain(run.domain)
    is_free = _fitted_cells(fit, domain)
    if config.rivers:
        check_rivers(run)
    whole = read_maps(config.maps, domain)
    n_folds = _n_folds(config.maps) if config.folds else 0
    wanted = [whole, *(read_maps(config.maps, domain, k) for k in range(n_folds))]
    if n_folds:
        fold = fold_gauges(domain, n_folds)
        for k, maps in enumerate(wanted[1:]):
            held_out = [g for g, f in zip(domain.gauges.id, fold, strict=True) if f == k]
            check_unseen(maps, str(config.maps), held_out)
            _check_prior(fit, k, held_out)
    for maps in wanted:
        if set(maps.values) != {"mean_runoff", "baseflow_index"}:
            raise ConfigError(f"{config.maps}: has {', '.join(maps.values)}, expected mean_runoff and baseflow_index.")
    years = (fit.steps[1] - fit.steps[0] - config.warm_up) * run.time_step / DAY / MEAN_YEAR
    if years < ENOUGH_YEARS - 0.01:
        tell(f"note: {years:.1f} years count, and a mean over fewer than {ENOUGH_YEARS} is not that of the maps")
    steps = (fit.steps[0] + config.warm_up, fit.steps[1])
    counted = tuple(date_text(run.start + k * np.timedelta64(run.time_step, "s")) for k in steps)
    if whole.period is not None and whole.period != counted:
        tell(
            f"note: the maps are of records from {' to '.join(whole.period)}, and runoff counts from "
            f"{' to '.join(counted)}: wetter or drier years make runoff another than that of the maps. Give both the "
            "same (signatures.period; map_fit.period and warm_up)"
        )
    config.output.parent.mkdir(parents=True, exist_ok=True)
    check_writable(config.output)
    priors = [_prior(fit, domain, maps.fold) for maps in wanted]
    results = [
        _fit_maps(fit, domain, prior, is_free, maps, tell) for prior, maps in zip(priors, wanted, strict=True)
    ]
    if n_folds:
        _simulate_unseen(fit, domain, [r.parameters for r in results[1:]], tell)
    return results


def named(output: Path, fold: int | None, more: str = "") -> Path:
    """The file of a fold, or of all gauges."""
    return output.with_name(f"{output.stem}{'' if fold is None else f'_fold{fold}'}{more}.nc")


def _n_folds(path: Path) -> int:
    with netCDF4.Dataset(path) as data:
        return int(data.dimensions["fold"].size)


def _prior(fit: MapFit, domain: Domain, fold: int | None) -> dict[str, np.ndarray]:
    """Parameters of cells by registry name, float64[cell], and of reaches where they are given."""
    run = _run_of(fit, fold)
    given, pet = read_any_parameters(run, domain)
    if pet is not None:
        raise ConfigError(
            f"{fit.path}: 'parameters' generates a factor on PET day by day, which no parameter file holds. Use a "
            "checkpoint without (training.pet_factor: false), or a parameter file."
        )
    found = dict(given)
    for p in (p for process in run.chain.cells for p in process.parameters):
        if p.name not in found and not p.optional:
            found[p.name] = np.full(domain.n_cells, p.range_at(run.time_step).default)
    for target in fit.free:
        own = found.setdefault(target.name, np.full(domain.n_cells, target.default))
        if not target.low <= own.min() <= own.max() <= target.high:
            raise ConfigError(
                f"{fit.path}: the prior of '{target.name}' goes from {own.min():g} to {own.max():g}, expected within "
                f"{target.low:g} to {target.high:g}, where it is fitted."
            )
    return found


def _run_of(fit: MapFit, fold: int | None) -> Config:
    """The run whose `parameters` are the prior of a fold, or of all gauges."""
    if fold is None or fit.config.prior_of_folds is None:
        return fit.run
    return fit.run.model_copy(update={"parameters": Path(fit.config.prior_of_folds.replace("{fold}", str(fold)))})


def _check_prior(fit: MapFit, fold: int, held_out: list[str]) -> None:
    """Refuse a prior that was fitted to the gauges of a fold which are to validate it."""
    run = _run_of(fit, fold)
    if isinstance(run.parameters, Path):
        key = "parameters" if fit.config.prior_of_folds is None else "map_fit.prior_of_folds"
        what_it_saw(run.parameters, run.member).check_gauges(
            f"{fit.path}: {key}", held_out, f"fold {fold}", "Name one of every fold in map_fit.prior_of_folds."
        )


def _fitted_cells(fit: MapFit, domain: Domain) -> np.ndarray:
    """Cells that are fitted, bool[cell]: those that drain, and that no attribute leaves out."""
    names = list(fit.config.left_out)
    values = read_attributes(fit.run.domain, domain, "cell", names).values
    return (domain.cells.drained_area > 0) & (values <= np.array([fit.config.left_out[n] for n in names])).all(axis=1)


def _fit_maps(
    fit: MapFit, domain: Domain, prior: Mapping[str, np.ndarray], is_free: np.ndarray, maps: Maps,
    tell: Callable[[str], None],
) -> FitResult:
    """Fit all cells to maps, block by block, and write what they came to."""
    runoff, index = maps.values["mean_runoff"], maps.values["baseflow_index"]
    cells = np.flatnonzero(is_free & (runoff > 0) & np.isfinite(index))
    z = np.stack([unbounded(t, prior[t.name], FARTHEST) for t in fit.free])
    came, state = np.full((2, domain.n_cells), np.nan), np.full(domain.n_cells, KEPT, np.int8)
    which = "all gauges" if maps.fold is None else f"fold {maps.fold}"
    folder = fit.config.output.with_name(f"{fit.config.output.stem}_blocks")
    folder.mkdir(exist_ok=True)
    blocks = list(_blocks(fit, cells))
    identity = _identity(fit, prior, maps)
    with closing(Workers(fit.run.threads)) as workers:
        for k, block in enumerate(blocks):
            path = folder / f"{'all' if maps.fold is None else f'fold{maps.fold}'}_{k}.npz"
            found = _held(path, identity)
            if found is None:
                found = _fit_block(fit, domain, prior, maps, block, z[:, block], workers)
                keep(path, identity, **found._asdict())
            z[:, block], came[:, block] = found.z, (found.runoff, found.baseflow)
            state[block] = np.where((np.abs(found.z) > NEAR).any(axis=0), BOUND, FITTED)
            tell(f"{which}: block {k + 1} of {len(blocks)}, {block.size} cells, {found.steps} steps")
            values = _values(fit, prior, z, cells)
        if fit.config.rivers:
            celerity = fit_rivers(
                fit, domain, values, maps.seen, lambda own: _read_block(fit, domain, own, workers), workers
            )
            values[CELERITY] = celerity
            tell(f"{which}: celerity {celerity.min():.2f} to {celerity.max():.2f} m s-1")
    target, sidecar = named(fit.config.output, maps.fold), named(fit.config.output, maps.fold, "_cells")
    save_parameters(target, domain, fit.run.time_step, values, {
        "title": f"parameters of cells fitted to maps of signatures, of {which}", "source": f"bmi_cdlm {__version__}",
        "maps": fit.config.maps.name, LEARNED_FROM: json.dumps(maps.seen), "free": ", ".join(t.name for t in fit.free),
    })
    _write_cells(sidecar, domain, maps, came, state)
    for path in folder.glob("all_*" if maps.fold is None else f"fold{maps.fold}_*"):
        path.unlink()
    if not any(folder.iterdir()):
        shutil.rmtree(folder)
    return FitResult(target, sidecar, _told(which, maps, came, state))


def _blocks(fit: MapFit, cells: np.ndarray) -> Iterator[np.ndarray]:
    """Cells in blocks that `memory` of the run holds."""
    n_steps = fit.steps[1] - fit.steps[0]
    size = max(1, fit.run.memory // (8 * SERIES * n_steps))
    for first in range(0, cells.size, size):
        yield cells[first : first + size]


def _fit_block(
    fit: MapFit, domain: Domain, prior: Mapping[str, np.ndarray], maps: Maps, block: np.ndarray, start: np.ndarray,
    workers: Workers,
) -> Found:
    forcing = _read_block(fit, domain, block, workers)
    own = {name: values[block] for name, values in prior.items() if values.shape == (domain.n_cells,)}
    aim = Aim(
        maps.values["mean_runoff"][block], maps.values["baseflow_index"][block], maps.window, fit.config.weight,
        fit.config.prior, fit.config.warm_up, DAY // fit.run.time_step,
    )
    return fit_cells(CellModel(fit.run, domain, block, forcing, own, fit.free, workers), start, aim,
                     fit.config.iterations)


def _read_block(fit: MapFit, domain: Domain, block: np.ndarray, workers: Workers) -> dict[str, np.ndarray]:
    """What the model reads at some cells over the period, float64[time, cell] by name."""
    run, (first, last) = fit.run, fit.steps
    cells = take_reaches(domain, NO_REACHES, more_cells=block)[0].cells
    step, begin = np.timedelta64(run.time_step, "s"), run.start
    with ForcingFile(
        Path(run.forcing), run.inputs, cells.id, begin + first * step, begin + last * step, run.time_step,
        run.forcing_fill, places=(block, domain.n_cells), bridges=run.bridges,
    ) as file:
        values = file.read(0, last - first)
    demand = make_demand(run, cells, read_elevation(run, domain)[block])
    seconds = int((begin + first * step).astype("datetime64[s]").astype(np.int64))
    made = make_forcing(run, demand, values, seconds, workers, (last - first, block.size)).series()
    return {name: made[name] for name in run.chain.inputs}


def _identity(fit: MapFit, prior: Mapping[str, np.ndarray], maps: Maps) -> str:
    """Whatever the fit of a block depends on."""
    digest = hashlib.sha256()
    arrays = [*prior.items(), *maps.values.items()]
    for name, values in sorted(arrays, key=lambda one: one[0]):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    own = fit.config.model_dump(mode="json", exclude={"output", "folds", "maps", "rivers"})
    return json.dumps([digest.hexdigest(), fingerprints(fit.run), fit.run.memory, own, fit.steps])


def _held(path: Path, identity: str) -> Found | None:
    """A block that was fitted before a kill."""
    done = held(path, identity.__eq__)
    return None if done is None else Found(done["z"], done["runoff"], done["baseflow"], int(done["steps"]))


def _values(
    fit: MapFit, prior: Mapping[str, np.ndarray], z: np.ndarray, cells: np.ndarray
) -> dict[str, np.ndarray]:
    """Parameters of the file: the prior, and what was fitted in its place."""
    found = {name: values.copy() for name, values in prior.items()}
    for target, own in zip(fit.free, z, strict=True):
        found[target.name][cells] = _bounded(target, own[cells])
    return found


def _bounded(target: Target, z: np.ndarray) -> np.ndarray:
    import torch

    from cdlm_training.generator import within

    return within(target, torch.from_numpy(z)).numpy()


def _write_cells(path: Path, domain: Domain, maps: Maps, came: np.ndarray, state: np.ndarray) -> None:
    """What every cell came to, beside what the maps ask for."""
    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        out.setncatts({"Conventions": "CF-1.10", "title": "cells fitted to maps of signatures"})
        out.createDimension("cell", domain.n_cells)
        out.createVariable("cell_id", str, ("cell",))[:] = np.array(domain.cells.id, object)
        for name, units, standard, values in (
            ("cell_lon", "degrees_east", "longitude", domain.cells.lon),
            ("cell_lat", "degrees_north", "latitude", domain.cells.lat),
        ):
            one = out.createVariable(name, "f8", ("cell",))
            one.setncatts({"units": units, "standard_name": standard})
            one[:] = values
        for own, (name, wanted) in zip(came, maps.values.items(), strict=True):
            for suffix, values in (("", own), ("_map", wanted)):
                one = out.createVariable(f"{name}{suffix}", "f4", ("cell",), fill_value=np.nan)
                one.setncatts({"units": UNITS[name], "coordinates": "cell_lon cell_lat"})
                one[:] = values
        one = out.createVariable("state", "i1", ("cell",))
        one.setncatts({"flag_values": np.array([KEPT, FITTED, BOUND], "i1"),
                       "flag_meanings": "left_at_prior fitted at_a_bound", "coordinates": "cell_lon cell_lat"})
        one[:] = state


def _told(which: str, maps: Maps, came: np.ndarray, state: np.ndarray) -> str:
    done = state != KEPT
    error = 100 * np.abs(came[0] / maps.values["mean_runoff"] - 1)[done]
    apart = np.abs(came[1] - maps.values["baseflow_index"])[done]
    return (
        f"{which}: {done.sum()} of {done.size} cells fitted; runoff within 1 % of the map in "
        f"{100 * (error < 1).mean():.0f} % of them (median error {np.median(error):.2f} %), baseflow index within 0.01 "
        f"in {100 * (apart < 0.01).mean():.0f} % (median {np.median(apart):.4f}); "
        f"{100 * (state == BOUND).sum() / max(1, done.sum()):.0f} % have a parameter at a bound"
    ) if done.any() else f"{which}: no cell is fitted"


def _simulate_unseen(fit: MapFit, domain: Domain, files: list[Path], tell: Callable[[str], None]) -> None:
    """Run the parameters of every fold, and keep the discharge of its gauges, which its maps never saw."""
    from cdlm_training.scores import simulate_gauges

    run: Config = fit.run
    fold = fold_gauges(domain, len(files))
    series = np.full((run.n_steps, fold.size), np.nan)
    for k, path in enumerate(files):
        ids, discharge = simulate_gauges(run, path)
        series[:, fold == k] = discharge[:, fold == k]
        tell(f"ran with the parameters of fold {k}")
    target = named(fit.config.output, None, "_unseen")
    starts = run.start + np.arange(run.n_steps) * np.timedelta64(run.time_step, "s")
    with OutputFile(target, "gauge", list(ids), ["discharge"], run.time_step, {}, calendar=run.calendar) as file:
        file.append(starts, {"discharge": series})
    tell(f"wrote {target}: every gauge by the fold that never saw it")
