"""CDLM: a distributed hydrological model with a CSDMS Basic Model Interface."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bmi_cdlm.names.environment import mend_environment
from bmi_cdlm.version import __version__

mend_environment()  # before anything imports numba

if TYPE_CHECKING:
    from bmi_cdlm.bmi import BmiCdlm
    from bmi_cdlm.model.model import Model

__all__ = ["BmiCdlm", "Model", "__version__"]
# Loaded at first use: they bring numba and netCDF4, which the command line starts without.
_WHERE = {"BmiCdlm": "bmi_cdlm.bmi", "Model": "bmi_cdlm.model.model"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


class _Package(ModuleType):
    """This package: whoever looks into its `__dict__`, as bmi-tester does, finds all of `__all__` there too."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        for name in _WHERE:
            getattr(self, name)
        return globals()


sys.modules[__name__].__class__ = _Package
