"""Every kernel of the package, found by what its modules define and what that comes to call."""

from __future__ import annotations

import importlib
import pkgutil
import types

from bmi_cdlm import processes
from bmi_cdlm.kernels import elementary, loops
from bmi_cdlm.kernels.graph import callees, is_scalar
from bmi_cdlm.kernels.launch import call_graph

MODULES = (elementary, *(
    importlib.import_module(found.name)
    for room in (loops, processes) for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
))
DEFINED = [
    f for module in MODULES for f in vars(module).values()
    if isinstance(f, types.FunctionType) and f.__module__ == module.__name__
]
KERNELS = call_graph(*DEFINED)
SCALARS = [f for f in KERNELS if is_scalar(f)]
CALLED = {called for f in KERNELS for called in callees(f)}
ROOTS = [f for f in KERNELS if f not in CALLED]
ROWS = [f for f in KERNELS if f in CALLED and not is_scalar(f) and all(map(is_scalar, callees(f)))]
"""Loops within loops: those that are called, and call scalar steps only."""
