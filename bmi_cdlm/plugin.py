"""What pymt's `setup` offers, rendered from the configuration class: every key, its type, default and meaning.

A key whose default here is empty is left out of the configuration until it is given.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.names.time_steps import STEP_NAMES
from bmi_cdlm.run.config import Config

FOLDER = "bmi_cdlm/bmi/meta"
DEFAULTS: dict[str, object] = {
    "domain": "domain.nc", "forcing": "caller", "start": "2000-01-01", "end": "2001-01-01", "grid_profile": "points",
    "initial_state": "",
}
"""Defaults that are not those of a configuration: a made-up basin of three cells, and grids as pymt wants them; the
initial state is left to the configuration, for which the model step decides."""
MOST = 1_000_000
HEAD = "# Staged by `setup` of the pymt plugin. Paths are relative to this file; cfg/README.md lists every key.\n"


def render_plugin() -> dict[str, str]:
    """Return the texts of `parameters.yaml` and of the template `cdlm.yaml`."""
    entries = {name: _entry(name, field) for name, field in Config.model_fields.items()}
    lines = []
    for name, entry in entries.items():
        line = f"{name}: {{{{ {name} }}}}"
        if entry["value"]["default"] == "":
            line = f'{{% if {name} not in ("", none) %}}{line}{{% endif %}}'
        lines.append(line)
    return {
        "parameters.yaml": dump_yaml(entries, width=110),
        "cdlm.yaml": HEAD + "\n".join(lines) + "\n",
    }


def _entry(name: str, field: FieldInfo) -> dict[str, Any]:
    text = " ".join(str(field.description).replace("`", "").split())
    default = DEFAULTS.get(name, _default(name, field))
    value: dict[str, Any] = {"type": "str", "default": default}
    choices = _choices(name, field)
    if choices:
        value = {"type": "choice", "default": default, "choices": choices}
    elif field.annotation is int and isinstance(default, int):
        limits = {word: getattr(m, word) for m in field.metadata for word in ("ge", "le") if hasattr(m, word)}
        value = {
            "type": "int", "default": default, "units": "1",
            "range": {"min": limits.get("ge", 0), "max": limits.get("le", MOST)},
        }
    return {"description": text, "value": value}


def _default(name: str, field: FieldInfo) -> object:
    default = field.default
    if default is None or default is PydanticUndefined or default == {}:
        return ""
    if name == "memory":
        return f"{default // 2**20} MiB"
    if name in ("time_step", "routing_step"):
        return STEP_NAMES[default]
    return f"[{', '.join(default)}]" if isinstance(default, tuple) else default


def _choices(name: str, field: FieldInfo) -> list[str]:
    """All values of a key that has nothing but words."""
    if name == "time_step":
        return list(STEP_NAMES.values())
    words: list[str] = []
    for one in get_args(field.annotation):
        inner = get_args(one) or (one,)
        if not all(isinstance(word, str) for word in inner):
            return []
        words += inner
    return words
