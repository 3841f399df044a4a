"""Optional packages that preparing needs: loaded on first use, with a remedy where one is absent."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from bmi_cdlm.errors import ConfigError

INSTALL = 'Run: pip install "bmi-cdlm[examples]"'


def load(module: str) -> ModuleType:
    """Import an optional module; ConfigError with the remedy where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise ConfigError(
            f"prepare: the Python package '{module}' cannot be imported ({cause}), expected it for reading "
            f"rasters. {INSTALL}"
        ) from cause


PACKAGE = "package:"


def resolve(text: str, folder: Path) -> Path:
    """Return the path that a configuration names: `package:MODULE/...` lies in an installed package.

    The package is only located, never imported. Other paths are relative to `folder`.
    """
    if not text.startswith(PACKAGE):
        return folder / text
    module, _, rest = text.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(module) if module.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        remedy = INSTALL if module == "smash" else "Install the package that carries the module."
        named = "hydro-smash (module 'smash')" if module == "smash" else f"with the module '{module}'"
        raise ConfigError(f"prepare: '{text}' lies in the package {named}, which is not installed. {remedy}")
    return Path(next(iter(found.submodule_search_locations))) / rest


def smash_folder() -> Path:
    """Return the folder of rasters and tables inside the installed package hydro-smash.

    The package is only located, never imported: importing it takes seconds and loads its whole model.
    """
    found = importlib.util.find_spec("smash")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "prepare: the package hydro-smash (module 'smash'), which carries the rasters of this case, is "
            f"not installed. {INSTALL}"
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "factory" / "dataset"
    if not folder.is_dir():
        raise ConfigError(
            f"prepare: the installed module 'smash' has no folder '{folder}', expected the rasters of "
            f"hydro-smash 1.0 or newer there. {INSTALL}"
        )
    return folder


def smash_version() -> str:
    """Return the version of hydro-smash, or 'of unknown version' where it has no metadata."""
    try:
        return version("hydro-smash")
    except PackageNotFoundError:
        return "of unknown version"
