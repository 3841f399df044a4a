"""Runs of a package, whichever it is, by configurations, commands, files and BMI; and the digests of what they give."""

from __future__ import annotations

import hashlib
import importlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from digest_bits import Digests, digest, digest_file, digest_restart, labelled, little, shortened
from digest_inputs import DAY, HOUR, write_config

PREFIX = "ngen::serialization_"


def package() -> Any:
    return importlib.import_module("bmi_cdlm")


def version() -> str:
    return package().__version__


def command(name: str, *arguments: object) -> None:
    """Run a command of the package in this process, from where its pyproject.toml says."""
    root = Path(package().__file__).resolve().parents[1]
    where = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"][name]
    module, function = where.split(":")
    getattr(importlib.import_module(module), function)([str(a) for a in arguments], standalone_mode=False)


def registry() -> dict[str, tuple[str, str, str]]:
    """Short name, grid and role of all variables by published name, from the reference that the package prints."""
    text = (Path(package().__file__).resolve().parents[1] / "cfg" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|[^|]*\| (\w+) \| (\w+) \|", text, re.MULTILINE)
    return {name: (short, grid, role) for short, name, grid, role in rows}


def short_names(component: Any) -> dict[str, str]:
    """Short names of the outputs and of the masses, by published name."""
    known = registry()
    masses = ("mass_in", "mass_out", "mass_stored", "mass_leaked")
    return {n: known[n][0] for n in component.get_output_var_names()} | {f"ngen::{m}": m for m in masses}


def started(config: Path) -> Any:
    component = package().BmiCdlm()
    component.initialize(str(config))
    return component


def state_bytes(component: Any) -> bytes:
    """The state as NextGen takes it."""
    component.set_value(f"{PREFIX}create", np.ones(1, np.int32))
    content = component.get_value_ptr(f"{PREFIX}state").tobytes()
    component.set_value(f"{PREFIX}free", np.ones(1, np.int32))
    return content


def end_values(component: Any) -> Digests:
    return {short: digest(component.get_value_ptr(name)) for name, short in short_names(component).items()}


def stepped(config: Path, part: int = 1) -> Digests:
    """Every output after every update, in step with the model or in `part` calls a step; then the state."""
    component = started(config)
    found = labelled("begin", end_values(component))
    shorts = short_names(component)
    rows: dict[str, Any] = {name: hashlib.sha256() for name in shorts}
    length = component.get_time_step() / part
    while component.get_current_time() < component.get_end_time():
        component.update_until(component.get_current_time() + length)
        for name, total in rows.items():
            total.update(little(component.get_value_ptr(name)))
    found |= labelled("series", {shorts[name]: shortened(total) for name, total in rows.items()})
    state = digest_restart(state_bytes(component), length)
    if (volume := state.pop("array reach_storage", None)) is not None:
        # The variable is in the series above, to its last step: no other digest is needed.
        name = next(n for n, short in shorts.items() if short == "reach_storage")
        assert volume == digest(component.get_value_ptr(name)), "the state holds another volume of reaches"
    found |= labelled("state", state)
    component.finalize()
    return found


def at_once(config: Path) -> Digests:
    """The outputs at the end of one call over the whole run, and the state."""
    component = started(config)
    component.update_until(component.get_end_time())
    state = digest_restart(state_bytes(component), component.get_end_time())
    found = labelled("end", end_values(component)) | labelled("state", state)
    component.finalize()
    return found


def in_blocks(folder: Path, content: Mapping[str, Any], fluxes: Mapping[str, list[str]]) -> Digests:
    """Written fluxes of `cdlm run` at their places, on one thread and on two, and the restart file of each run."""
    found: Digests = {}
    restart = folder / "restart.nc"
    for threads, (place, names) in enumerate(fluxes.items(), 1):
        config = write_config(
            folder / "run.yaml", content, output="out.nc", output_at=place, output_variables=names,
            restart="restart.nc", threads=threads, memory="2 MiB",
        )
        command("cdlm", "run", config, "--quiet")
        found |= labelled(place, digest_file(folder / "out.nc"))
        saved = digest_restart(restart.read_bytes(), DAY if content["time_step"] == "1 d" else HOUR)
        found |= labelled("restart", saved) if threads == 1 else {"restart on two threads": saved["raw"]}
    return found


def fluxes_of(component: Any) -> dict[str, list[str]]:
    """Short names of all fluxes on cells and on reaches."""
    found: dict[str, list[str]] = {"cells": [], "reaches": []}
    known = registry()
    for name in component.get_output_var_names():
        short, grid, role = known[name]
        if role == "flux" and grid in ("cell", "reach"):
            found["cells" if grid == "cell" else "reaches"].append(short)
    return found
