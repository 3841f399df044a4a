"""CDLM: a distributed hydrological model with a CSDMS Basic Model Interface."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bmi_cdlm.bmi import BmiCdlm as BmiCdlm
    from bmi_cdlm.model import Model as Model

__version__ = "0.1.0"
__all__ = ["BmiCdlm", "Model", "__version__"]

_LAZY = {"BmiCdlm": "bmi_cdlm.bmi", "Model": "bmi_cdlm.model"}


def __getattr__(name: str) -> object:
    """Import the two faces of the package on first use: a kernel or a registry needs neither."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'bmi_cdlm' has no attribute '{name}'")
