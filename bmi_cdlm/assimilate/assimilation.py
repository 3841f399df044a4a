"""The assimilation: up to the window, down to the start that fits it best, on to its end, and a restart file."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.assimilate.choice import Choice
from bmi_cdlm.assimilate.cost import Cost, Fit, Observed, Scored
from bmi_cdlm.assimilate.parts import Moved, Setting, make_parts
from bmi_cdlm.assimilate.window import advance_to, check_model, read_window, run_to_window, window_config
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.restart import Restart, write_restart
from bmi_cdlm.model.adjustment import replace_states
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, OutputError
from bmi_cdlm.names.writing import check_writable
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.ensemble import member_configs, member_path
from bmi_cdlm.run.fingerprints import fingerprints
from bmi_cdlm.run.simulation import Simulation

PROVENANCE = "assimilated"
"""Attribute of a restart file: what was assimilated, as JSON."""
Say = Callable[[str], None]


class Analysis(NamedTuple):
    """What became of one start.

    path : the restart file; observed : the window as it was fitted, perturbed for a member; before, after : the
    background and the fit; moved : how far each that is fitted; setting : what it was set to at the begin of the
    window; fit : how the minimisation went.
    """

    path: Path
    observed: Observed
    before: Scored
    after: Scored
    moved: list[Moved]
    setting: Setting
    fit: Fit


def assimilate(
    config: Config, choice: Choice, to: Path, say: Say = lambda text: None, *, force: bool = False
) -> list[Analysis]:
    """Fit the state at the begin of a window to its observations, and write the state at its end.

    With members, of the choice or of an ensemble that the configuration names, each has a file of its own beside `to`,
    as runs of ensembles have them: `initial_state: to` goes on with all.

    Raises
    ------
    CdlmError
        Whatever is wrong with any file, key or choice, before anything is written.
    """
    config.check_target(to, "--to", replaces=("restart", "initial_state"))
    members = [window_config(own, choice) for own in member_configs(config)]
    paths = _targets(to, len(members), choice, force=force)
    observed = read_window(members[0], choice, read_domain(config.domain))
    random = [np.random.default_rng([choice.seed, k]) for k in range(len(paths))]
    found, states = list[Analysis](), list[Restart]()
    for k, own in enumerate(members):
        places = range(len(paths)) if len(members) == 1 else range(k, k + 1)
        say(f"running to {date_text(observed.starts[0])}")
        with closing(Simulation(own)) as simulation:
            check_model(simulation)
            run_to_window(simulation, choice, lambda steps: None)
            start, made_of = simulation.to_bytes(), json.loads(fingerprints(own))
            for place in places:
                say(f"fitting {paths[place].name}")
                perturbed = random[place] if choice.members else None
                analysis, state = _analyse(simulation, start, choice, observed, perturbed, paths[place], made_of)
                found.append(analysis)
                states.append(state)
    for path, state in zip(paths, states, strict=True):  # all or none: some of an ensemble would pass for a smaller one
        write_restart(path, state)
    return found


def _targets(to: Path, n_members: int, choice: Choice, *, force: bool) -> list[Path]:
    """The files to write, none of which may be there."""
    if n_members > 1 and choice.members not in (0, n_members):
        raise ConfigError(
            f"members: {choice.members}, and the configuration is an ensemble of {n_members}, whose members are each "
            f"fitted once. Expected {n_members}, or none."
        )
    n = max(n_members, choice.members)
    paths = [to] if n == 1 else [member_path(to, k) for k in range(1, n + 1)]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise OutputError(f"{there[0]}: is there already. Choose another path (--to), or replace it with --force.")
    if n > 1 and to.exists():
        raise OutputError(
            f"{to}: is there, and a run that names it would take it in place of the members. Move it, or choose "
            "another path (--to)."
        )
    more = member_path(to, n + 1)
    if n > 1 and more.exists():
        raise OutputError(
            f"{more}: is there, of a larger ensemble, and a run that names {to.name} would take it for one of these "
            f"{n}. Move it and those after it, or choose another path (--to)."
        )
    for path in paths:
        check_writable(path)
    return paths


def _analyse(
    simulation: Simulation, start: bytes, choice: Choice, observed: Observed, random: np.random.Generator | None,
    path: Path, made_of: dict[str, str],
) -> tuple[Analysis, Restart]:
    """Fit one start and go on from it to the end of the window: what came of it, and the state to write to `path`.

    made_of : fingerprints of the run.
    """
    config = simulation.config
    simulation.restore_from(start)
    first, last = simulation.n_done, config.n_steps
    forcing = simulation.read_forcing(first, last - first)
    parts = make_parts(simulation.model, choice)
    centre = None
    if random is not None:
        centre = random.standard_normal(parts.size)
        noise = random.standard_normal(observed.discharge.shape)
        observed = observed._replace(discharge=observed.discharge + observed.deviation * noise)
    cost = Cost(simulation.model, forcing, parts, observed, centre)
    before, fit = cost.score(cost.centre), cost.minimise(choice.iterations)
    after, setting = cost.score(fit.w), parts.setting(fit.w)
    simulation.restore_from(start)
    replace_states(simulation.model, setting.stores, setting.reach)
    advance_to(simulation, last, lambda steps: None, setting.rain)
    found = Analysis(path, observed, before, after, parts.moved(fit.w), setting, fit)
    restart = simulation.snapshot()
    words = {**restart.attributes, PROVENANCE: json.dumps(_record(config, choice, found, made_of))}
    cell, reach = ({k: a.copy() for k, a in of.items()} for of in (restart.cell, restart.reach))  # the model goes on
    return found, restart._replace(attributes=words, cell=cell, reach=reach)


def _record(config: Config, choice: Choice, found: Analysis, made_of: dict[str, str]) -> dict[str, object]:
    """What a restart file keeps of its making."""
    used = ~np.isnan(found.observed.discharge)
    return {
        "from": date_text(found.observed.starts[0]), "to": date_text(config.end),
        "observations": str(config.observations),
        "gauges": {g: int(n) for g, n in zip(found.observed.gauge_id, used.sum(axis=0), strict=True)},
        "fit": list(choice.fit), "errors": choice.errors._asdict(),
        "seed": choice.seed if choice.members else None,
        "cost": {
            "before": {"observations": float(found.before.terms.sum()), "background": found.before.background},
            "after": {"observations": float(found.after.terms.sum()), "background": found.after.background},
        },
        "moved": [one._asdict() for one in found.moved], "iterations": found.fit.iterations,
        "run": made_of,
    }


