"""What a run needs: domain, forcing, parameters, initial state, observations, outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bmi_cdlm.doctor.findings import Case, Finding, Level, listed, size_text
from bmi_cdlm.doctor.parameters import starts_as_learned
from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.amounts import PET, RAIN, WETTEST, doubt, told
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_time
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.restart import read_restart
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.pet import RANGE
from bmi_cdlm.names.calendars import date_text, mean_year
from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.continuing import OPTIONS, UNSAID
from bmi_cdlm.run.ensemble import member_configs
from bmi_cdlm.run.parameters import read_any_parameters
from bmi_cdlm.run.screening import screened_out
from bmi_cdlm.run.waves import wave_fit

FULL_CHECK_BYTES = 2 * 2**30
"""Forcing up to this size is read as a whole; of larger, the first and the last steps."""
SAMPLE_STEPS = 30
FLOAT = 8


def read_case_domain(case: Case) -> tuple[Domain | None, list[Finding]]:
    """Read the domain; say what is in it."""
    config = case.config
    try:
        domain = read_domain(config.domain)
    except CdlmError as error:
        made = f" `cdlm prepare {case.path}` makes it." if config.prepare and not config.domain.is_file() else ""
        return None, [Finding("fail", "domain", f"{error}{made}")]
    area = domain.cells.drained_area.sum()
    text = (
        f"{domain.n_cells} cells, {domain.n_reaches} reaches, {len(domain.gauges.id)} gauges, {area:.6g} km2, "
        f"outlets: {domain.outlets.size}"
    )
    findings = [Finding("ok", "domain", text)]
    snowfall = domain.cells.mean_annual_snowfall
    read = {name for process in config.chain.cells for name in process.attributes.values()}
    if "mean_annual_snowfall" in read and not np.isfinite(snowfall).all():
        findings.append(Finding(
            "fail", "domain", f"{config.domain}: snow is '{config.snow}', but 'mean_annual_snowfall' is missing in "
            f"{np.count_nonzero(~np.isfinite(snowfall))} cells. Add it, or set snow: none.",
        ))
    return domain, findings


def check_forcing(case: Case) -> Iterator[Finding]:
    """Units, gaps, time cover and values of each input."""
    config = case.config
    if config.forcing == "caller":
        yield Finding("ok", "forcing", f"comes from the caller: {', '.join(config.inputs)}")
        return
    if case.domain is None:
        if not Path(config.forcing).is_file():
            made = f" `cdlm prepare {case.path}` makes it." if config.prepare else " Check the path."
            yield Finding("fail", "forcing", f"{config.forcing}: there is no such file.{made}")
        return
    size = FLOAT * config.n_steps * case.domain.n_cells
    whole = size * len(config.inputs) <= FULL_CHECK_BYTES
    problems: dict[str, None] = {}
    notes: dict[str, None] = {}
    means: dict[str, np.ndarray] = {}
    for name in config.inputs:
        found = [_try_forcing(case, name, *period, notes, means) for period in _periods(config, whole=whole)]
        if any(found):
            # A period that is not covered must not hide what else is wrong.
            found.append(_try_forcing(case, name, *_first_step(Path(config.forcing), config.time_step), {}, {}))
        problems |= dict.fromkeys(text for text in found if text)
    yield from (Finding("note", "forcing", text) for text in notes)
    yield from (Finding("fail", "forcing", text) for text in problems)
    if not problems:
        amounts = _amounts(config, means) if whole else []
        yield from (Finding("note", "forcing", f"{config.forcing}: {text}, {odd}.") for text, odd in amounts if odd)
        low, high = (means.get(name) for name in RANGE)
        if config.time_step == DAY and low is not None and high is not None and np.array_equal(low, high):
            yield Finding(
                "note", "forcing", f"{config.forcing}: {' and '.join(RANGE)} are the same in the mean, expected a "
                "range: both are means of the day, and a formula of the range gives no demand. Take another source or "
                "formula."
            )
        part = f"the first and last {SAMPLE_STEPS} steps (of {size_text(len(config.inputs) * size)})"
        extent = "all values" if whole else part
        rates = "".join(f"; {text}" for text, odd in amounts if not odd)
        yield Finding("ok", "forcing", f"{', '.join(config.inputs)}: {extent} checked{rates}")


def _amounts(config: Config, means: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """Yearly rain and demand as the file has them, for the eye, and what is odd about each."""
    days = config.n_steps * config.time_step / DAY
    found = []
    for name in (RAIN, PET):
        if name in means and means[name].size:
            yearly = means[name] * mean_year(np.array([config.start]))
            found.append((told(name, yearly), doubt(name, yearly, days)))
    return found


def _try_forcing(
    case: Case, name: str, start: np.datetime64 | None, end: np.datetime64 | None, notes: dict[str, None],
    means: dict[str, np.ndarray],
) -> str:
    """What is wrong with an input in a period, or the empty string; what is filled goes to notes, the mean to means."""
    config = case.config
    if start is None or end is None or case.domain is None:
        return ""
    try:
        with ForcingFile(
            Path(config.forcing), [name], case.domain.cells.id, start, end, config.time_step, config.forcing_fill,
            bridges=config.bridges, means=True,
        ) as file:
            means |= file.means
            notes |= {
                f"{filled.told()}, from {date_text(start)} to {date_text(end)}. Complete the file where that "
                "matters.": None for filled in file.filled.values()
            }
    except CdlmError as error:
        return str(error)
    return ""


@one_at_a_time
def _first_step(path: Path, step: int) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """Begin and end of the first step of a file, None where it cannot be told."""
    try:
        with open_input(path, ForcingError) as dataset:
            first = read_time(dataset, str(path), ForcingError)[0][0]
    except CdlmError:
        return None, None
    return first, first + np.timedelta64(step, "s")


def _periods(config: Config, *, whole: bool) -> list[tuple[np.datetime64, np.datetime64]]:
    length = SAMPLE_STEPS * np.timedelta64(config.time_step, "s")
    if whole or config.n_steps <= 2 * SAMPLE_STEPS:
        return [config.forcing_period]
    first, last = config.forcing_period
    return [(first, first + length), (last - length, last)]


def check_routing(case: Case) -> Iterator[Finding]:
    """The routing step beside the time that flood waves take, where that depends on the flow."""
    config = case.config
    if config.chain.reach.waves is None or case.domain is None:
        return
    parameters, _ = read_any_parameters(member_configs(config)[0], case.domain)
    own = {p.name for p in config.chain.reach.parameters}
    model = Model(
        case.domain, {name: values for name, values in parameters.items() if name in own}, step=config.time_step,
        routing_step=config.routing_step, **config.processes,
    )
    fit = wave_fit(model)
    model.close()
    if fit is not None:
        level: Level = "ok" if fit.fits(config.routing_step) else "note"
        yield Finding(level, "routing", fit.told(config.routing_step))


def check_initial_state(case: Case) -> Iterator[Finding]:
    """A restart file: its cells, reaches, options and clock."""
    config = case.config
    if not isinstance(config.initial_state, Path):
        if not config.spin_up and config.forcing != "caller" and not starts_as_learned(case):
            yield Finding(
                "note", "initial state", f"{config.initial_state}, without spin-up: the first months depend on it. "
                "Set spin_up: 1 or more."
            )
        return
    if case.domain is None:
        return
    states = dict.fromkeys(one.initial_state for one in member_configs(config))
    for state in states:
        yield from _check_restart(case, Path(state))


def _check_restart(case: Case, path: Path) -> Iterator[Finding]:
    config = case.config
    assert case.domain is not None
    restart = read_restart(path, case.domain.cells.id, case.domain.reaches.id)
    wrong = []
    said = UNSAID | dict(restart.attributes)
    for key in OPTIONS:
        got, expected = said.get(key), str(getattr(config, key))
        if got != expected:
            wrong.append(f"its {key} is '{got}', expected '{expected}': use the options of that run")
    if config.restart_mode == "resume" and not config.start <= restart.time < config.end:
        wrong.append(
            f"it is valid at {date_text(restart.time)}, expected {date_text(config.start)} or later and before "
            f"{date_text(config.end)}: change the "
            "period, or set restart_mode: hot_start"
        )
    yield from (Finding("fail", "initial state", f"{path}: {text}.") for text in wrong)
    if not wrong:
        yield Finding("ok", "initial state", f"{path}: valid at {date_text(restart.time)}, {config.restart_mode}")


def check_observations(case: Case) -> Iterator[Finding]:
    """Units, overlap with the run, and what each gauge has."""
    config = case.config
    if config.observations is None:
        yield Finding("note", "observations", "none: `cdlm evaluate` and training need them")
        return
    if case.domain is None:
        if not config.observations.is_file():
            made = f" `cdlm prepare {case.path}` makes it." if config.prepare else " Check the path."
            yield Finding("fail", "observations", f"{config.observations}: there is no such file.{made}")
        return
    ids = case.domain.gauges.id
    if not ids:
        yield Finding("note", "observations", f"{config.observations}: the domain has no gauges to compare with")
        return
    out = screened_out(config.screening, ids)
    if out:
        told = listed([f"{gauge} ({why})" for gauge, why in out.items()])
        yield Finding("note", "screening", f"{len(out)} of {len(ids)} gauges are left out: {told}")
        ids = [gauge for gauge in ids if gauge not in out]
    if not ids:
        yield Finding("fail", "screening", "every gauge is left out, expected one that counts.")
        return
    _, discharge = read_observations(config.observations, ids, config.start, config.end, config.time_step)
    share = np.isfinite(discharge).mean(axis=0)
    empty = [g for g, s in zip(ids, share, strict=True) if s == 0]
    if empty:
        yield Finding(
            "note", "observations", f"no value in the period at {len(empty)} of {len(ids)} gauges: {listed(empty)}. "
            "Scores there are undefined; leave them out of training.",
        )
    if len(empty) < len(ids):
        yield Finding(
            "ok", "observations", f"{len(ids) - len(empty)} gauges, {share[share > 0].min():.0%} to {share.max():.0%} "
            "of the steps observed",
        )
        yield from _runoff(case, ids, discharge)


def _runoff(case: Case, ids: list[str], discharge: np.ndarray) -> Iterator[Finding]:
    """Observed runoff, for the eye: discharge in another unit is many times too much or too little."""
    assert case.domain is not None
    gauges = case.domain.gauges
    area = np.asarray(gauges.area)[[gauges.id.index(one) for one in ids]]
    known = np.flatnonzero(np.isfinite(discharge).any(axis=0) & (area > 0))
    if not known.size:
        return
    depth = np.nanmean(discharge[:, known], axis=0) / area[known] * DAY / 1000.0  # mm d-1
    yearly = depth * mean_year(np.array([case.config.start]))
    odd = yearly > WETTEST
    if odd.any():
        named = [f"{ids[k]} {one:.4g}" for k, one in zip(known[odd], yearly[odd], strict=True)]
        yield Finding(
            "note", "observations", f"a runoff of more than {WETTEST:g} mm a year at {len(named)} gauges: "
            f"{listed(named)}. Check units of the records, and the gauges' area.",
        )
    if not odd.all():
        low, high = yearly[~odd].min(), yearly[~odd].max()
        yield Finding("ok", "observations", f"a runoff of {low:.4g} to {high:.4g} mm a year")


def check_outputs(case: Case) -> Iterator[Finding]:
    """Can outputs be written, and is there room for them."""
    config = case.config
    size = _output_bytes(case)
    for key, path, needed in (("output", config.output, size), ("restart", config.restart, 0)):
        if path is None:
            continue
        problem = why_not_writable(path)
        if problem:
            yield Finding("fail", key, f"{path}: cannot be written ({problem}). Choose another path.")
            continue
        free = shutil.disk_usage(_parent(path)).free
        if needed > free:
            yield Finding(
                "fail", key, f"{path}: needs up to {size_text(needed)}, {size_text(free)} are free. Write fewer "
                "places or variables, or choose another disk.",
            )
        else:
            room = f"up to {size_text(needed)}, {size_text(free)} free" if needed else "can be written"
            yield Finding("ok", key, f"{path}: {room}")
    unknown = _unknown_places(case)
    if unknown:
        yield Finding("fail", "output", f"output_at: the domain has no reach {listed(unknown)}. Use ids of 'reach_id'.")
    if config.output_at == "gauges" and config.output and case.domain is not None and not case.domain.gauges.id:
        yield Finding("fail", "output", "output_at: gauges, but the domain has none. Use reaches, cells, or reach ids.")


def why_not_writable(path: Path) -> str:
    """Why a file cannot be created there, or the empty string; nothing is made."""
    if path.is_dir():
        return "it is a folder"
    parent = _parent(path)
    if not parent.is_dir():
        return f"{parent} is no folder"
    return "" if os.access(parent, os.W_OK | os.X_OK) else f"no permission in {parent}"


def _parent(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next((p for p in path.absolute().parents if p.exists()), Path("/"))


def _unknown_places(case: Case) -> list[str]:
    at = case.config.output_at
    if case.domain is None or isinstance(at, str):
        return []
    known = set(case.domain.reaches.id)
    return [place for place in at if place not in known]


def _output_bytes(case: Case) -> int:
    """Size of the output before compression."""
    config, domain = case.config, case.domain
    if config.output is None or domain is None:
        return 0
    sizes = {"gauges": len(domain.gauges.id), "reaches": domain.n_reaches, "cells": domain.n_cells}
    places = sizes[config.output_at] if isinstance(config.output_at, str) else len(config.output_at)
    return FLOAT * config.n_steps * places * len(config.output_variables)
