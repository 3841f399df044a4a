"""What the results of a configuration depend on: its keys, the content of its files, the processes."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.run.config import Config
from bmi_cdlm.version import __version__

FILES = ("domain", "forcing", "parameters", "initial_state")
"""Keys whose files count by their content, wherever they lie."""
WITHOUT_EFFECT = (
    "output", "restart", "restart_every", "memory", "observations", "training", "prepare", "threads", "sub_step_policy",
    "ledger_tolerance", "time_units", "name_profile", "published_inputs", "grid_profile",
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
    found["processes"] = f"{__version__} {_processes()}"
    return json.dumps(found)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"sha256 {hashlib.sha256(text.encode()).hexdigest()}"


@cache
def _processes() -> str:
    """Hash of the sources of processes and loops: of what a result is computed by."""
    digest, root = hashlib.sha256(), Path(__file__).resolve().parents[1]
    for path in sorted(p for room in ("processes", "kernels", "model") for p in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]
