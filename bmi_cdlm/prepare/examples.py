"""The cases that come with the package: in an installed one as its data, in a clone in `cfg` and `examples`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bmi_cdlm.names.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "examples", PACKAGE.parent / "cfg", PACKAGE.parent / "examples")
NEEDED = {"smash": "hydro-smash", "rasterio": "rasterio", "pyproj": "pyproj", "matplotlib": "matplotlib"}
"""Modules of the demo, and the packages that have them."""


def find_example(name: str) -> Path:
    """Where a file of an example lies.

    Raises
    ------
    ConfigError
        It is nowhere: the package is not installed as it was built.
    """
    for place in PLACES:
        if (place / name).is_file():
            return place / name
    raise ConfigError(
        f"the example '{name}' is not in {', '.join(map(str, PLACES))}, expected it in the package. Install it anew."
    )


def check_demo() -> None:
    """Refuse, with the remedy, where a package of the demo is not installed."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"the demo needs {', '.join(missing)}, not installed here: its basin is one of the package hydro-smash. "
            'Run: pip install "bmi-cdlm[examples,plot]" (and the extra `train` to see it learn). Running a model needs '
            "none of them."
        )
