"""What the parameters of a run need: a parameter file, or a checkpoint and what its training assumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bmi_cdlm.doctor.findings import Case, Finding, listed
from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.generator.checkpoint import STARTS_AT, Checkpoint, load_checkpoint, load_members
from bmi_cdlm.generator.specification import Attribute, transformed
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError, DomainError
from bmi_cdlm.names.parameters import STARTS, Grid, check
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameter_file import read_attribute_of, read_parameters


def check_parameters(case: Case) -> Iterator[Finding]:
    """Parameter file or checkpoint, and the attributes that it needs against those it was trained on."""
    config = case.config
    if config.parameters == "default":
        yield Finding("note", "parameters", "default: nothing is calibrated. Train, or name a checkpoint or parameter "
            "file.")
        return
    path = Path(config.parameters)
    if path.suffix != ".safetensors":
        if case.domain is None:
            return
        values = read_parameters(path, case.domain, config.time_step)
        check(values, str(path))
        yield Finding("ok", "parameters", f"{path.name}: {listed(list(values))}")
        return
    members = load_members(path) if config.member is None else (load_checkpoint(path, config.member),)
    if len(members) > 1:
        yield Finding("ok", "parameters", f"{path.name}: an ensemble of {len(members)} members")
    # What holds of several members is said once.
    yield from dict.fromkeys(finding for one in members for finding in _check_checkpoint(case, one))


def _check_checkpoint(case: Case, checkpoint: Checkpoint) -> Iterator[Finding]:
    """A checkpoint, or a member of an ensemble."""
    config, gauges = case.config, checkpoint.record.get("gauges")
    where = Path(config.parameters).name
    yield Finding("ok", "parameters", f"{where}: checkpoint trained on {len(gauges) if gauges else 'unknown'} gauges")
    yield from _check_options(checkpoint, config)
    yield from _check_start(checkpoint, config)
    if case.domain is not None:
        yield from check_ranges(case, checkpoint)


def _check_start(checkpoint: Checkpoint, config: Config) -> Iterator[Finding]:
    """Whether the run starts as the training of its checkpoint assumed."""
    training = checkpoint.record.get("training")
    warm_up = training.get("warm_up") if isinstance(training, dict) else None
    stored = isinstance(config.initial_state, Path)
    if checkpoint.spec.has_start:
        at = checkpoint.record[STARTS_AT]
        if at == date_text(config.start) and not stored:
            yield Finding("ok", "start", f"stores start as full as was learned for {at}")
        elif not stored:
            yield Finding(
                "note", "start", f"the checkpoint learned how full stores are at {at}, and the run starts at "
                f"{date_text(config.start)}, with initial_state: {config.initial_state}. Start there, or spin up.",
            )
    elif warm_up and not config.spin_up and not stored:
        yield Finding(
            "note", "start", f"the checkpoint was trained after a warm-up of {warm_up} steps, and the run has no "
            "spin-up: for about so long discharge is not what was fitted. Set spin_up: 1, or start earlier.",
        )


def starts_as_learned(case: Case) -> bool:
    """Whether the parameters say how full stores are when the run starts."""
    config = case.config
    if config.parameters == "default" or case.domain is None:
        return False
    path = Path(config.parameters)
    try:
        if path.suffix != ".safetensors":
            learned = read_attribute_of(path, STARTS_AT)
            there = any(name in STARTS for name in read_parameters(path, case.domain, config.time_step))
            return there and learned in (None, date_text(config.start))
        members = load_members(path)
    except CdlmError:  # told where parameters are
        return False
    return all(one.spec.has_start and one.record[STARTS_AT] == date_text(config.start) for one in members)


def _check_options(checkpoint: Checkpoint, config: Config) -> Iterator[Finding]:
    """Each option by itself: the others are taken as the checkpoint has them."""
    spec = checkpoint.spec
    own = {"time_step": spec.step, "routing_step": spec.routing_step, **spec.processes, "components": spec.components}
    for key in own:
        try:
            checkpoint.check_run(**{**own, key: getattr(config, key)})
        except CdlmError as error:
            yield Finding("fail", "parameters", str(error))


def check_ranges(case: Case, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Every attribute of a checkpoint: is it there, in its units, and within the range of training."""
    spec = checkpoint.spec
    n_checked, outside = 0, []
    needed: tuple[tuple[Grid, tuple[Attribute, ...]], ...] = (
        ("cell", spec.cell.attributes), ("reach", spec.reach.attributes),
        ("cell", spec.pet.attributes if spec.pet else ()), ("cell", spec.lstm.attributes if spec.lstm else ()),
    )
    for grid, attributes in needed:
        for attribute in attributes:
            try:
                share = _share_outside(case, grid, attribute)
            except DomainError as error:
                yield Finding("fail", "attributes", str(error))
                continue
            n_checked += 1
            if share > 0:
                outside.append(f"{grid} {attribute.name} ({share:.0%})")
    outside = list(dict.fromkeys(outside))
    if outside:
        yield Finding(
            "note", "attributes", f"beyond the range of training at a share of places: {listed(outside, 6)}. The "
            "checkpoint extrapolates there; train on a domain like this one where it matters.",
        )
    elif n_checked:
        yield Finding("ok", "attributes", f"{n_checked} within the range of training everywhere")


def _share_outside(case: Case, grid: Grid, attribute: Attribute) -> float:
    assert case.domain is not None
    table = read_attributes(case.config.domain, case.domain, grid, [attribute.name], [attribute.units])
    values = transformed(attribute.transform, attribute.floor, table.values[:, 0])
    margin = 1e-9 * max(abs(attribute.low), abs(attribute.high))
    return float(np.mean((values < attribute.low - margin) | (values > attribute.high + margin)))
