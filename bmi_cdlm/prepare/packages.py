"""Optional packages that preparing needs: loaded on first use, with a remedy where one is absent."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.paths import expand

INSTALL = 'Run: pip install "bmi-cdlm[prepare]"'
EXAMPLES = 'Run: pip install "bmi-cdlm[examples]"'


def load(module: str) -> ModuleType:
    """Import an optional module; ConfigError with the remedy where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise ConfigError(
            f"prepare: the Python package '{module}' cannot be imported ({cause}), expected it for preparing "
            f"a domain. {INSTALL}"
        ) from cause


PACKAGE = "package:"


def resolve(text: str, folder: Path) -> Path:
    """Return the path that a configuration names: `package:MODULE/...` lies in an installed package.

    The package is only located, never imported. Other paths are relative to `folder`; `~` is the home folder, `$NAME`
    an environment variable.
    """
    if not text.startswith(PACKAGE):
        return folder / expand(text, ConfigError)
    module, _, rest = text.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(module) if module.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        remedy = EXAMPLES if module == "smash" else "Install the package that carries the module."
        named = "hydro-smash (module 'smash')" if module == "smash" else f"with the module '{module}'"
        raise ConfigError(f"prepare: '{text}' lies in the package {named}, which is not installed. {remedy}")
    return Path(next(iter(found.submodule_search_locations))) / rest
