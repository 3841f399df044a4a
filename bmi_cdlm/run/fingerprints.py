"""What the results of a configuration depend on: its keys, the content of its files, the processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import FunctionType

from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.kernels.graph import digest
from bmi_cdlm.names.declaration import Process
from bmi_cdlm.processes.catalogue import ALL_OWN
from bmi_cdlm.run.config import Config
from bmi_cdlm.version import __version__

FILES = ("domain", "forcing", "parameters", "initial_state")
"""Keys whose files count by their content, wherever they lie."""
WITHOUT_EFFECT = (
    "output", "restart", "restart_every", "memory", "observations", "screening", "training", "experiment",
    "signatures", "map_fit", "prepare", "threads", "sub_step_policy", "ledger_tolerance", "time_units", "name_profile",
    "published_inputs", "call_sums", "grid_profile",
)
"""Keys that change no bit of a result."""
LONGEST = 60


def fingerprints(config: Config) -> str:
    """Texts by name, as JSON: keys as they are, files and the sources of the processes by their sha256."""
    keys = config.model_dump(mode="json", exclude={*FILES, *WITHOUT_EFFECT})
    found = {name: _short(value) for name, value in keys.items()}
    for name in FILES:
        value = getattr(config, name)
        found[name] = content_digest(value) if isinstance(value, Path) else str(value)
    found["processes"] = " ".join((__version__, code_digest(), *_others(_chosen(config))))
    return json.dumps(found)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"


@cache
def code_digest() -> str:
    """Hash of the sources of processes and loops: of what a result is computed by."""
    found, root = hashlib.sha256(), Path(__file__).resolve().parents[1]
    for path in sorted(p for room in ("processes", "kernels", "model") for p in (root / room).rglob("*.py")):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:32]


def _chosen(config: Config) -> tuple[Process, ...]:
    formula = config.pet_formula
    return (*config.chain.processes, *(() if formula is None else (formula,)))


def _others(chosen: tuple[Process, ...]) -> list[str]:
    """Name and hash of each process of another package."""
    others = [process for process in chosen if process not in ALL_OWN]
    return [f"{p.name} {hashlib.sha256(repr(_facts(p)).encode()).hexdigest()[:32]}" for p in others]


def _facts(value: object) -> object:
    """A declaration in full, functions by their code and what they come to call."""
    if isinstance(value, FunctionType):
        return digest(value)
    if is_dataclass(value):
        return [_facts(one) for one in vars(value).values()]
    if isinstance(value, Mapping):
        return [(key, _facts(one)) for key, one in value.items()]
    return [_facts(one) for one in value] if isinstance(value, tuple) else repr(value)
