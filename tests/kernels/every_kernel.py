"""Every kernel: what the modules of kernels and processes define, what is generated from declarations, what these call.

Of two functions with the same code, the same marks and the same callees there is one: processes share them.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Iterator

from process_cases import CELLS, REACHES, VARYING

from bmi_cdlm import processes
from bmi_cdlm.kernels import elementary, loops, transcendental
from bmi_cdlm.kernels.graph import callees, digest, is_scalar
from bmi_cdlm.kernels.launch import call_graph
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.cells_adjoint import cell_adjoint_loops
from bmi_cdlm.kernels.loops.demand import demand_loop, plan_of
from bmi_cdlm.kernels.loops.elementwise import elementwise
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.prepared import fill_loops, ordinate_loops
from bmi_cdlm.kernels.loops.reach_flows import flow_loops
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.processes.catalogue import FORMULAS
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.pet import FORMATIONS

TEMPLATES = {
    "cells", "cells_adjoint", "demand", "elementwise", "groups", "plan", "prepared", "reach_plan", "link_texts",
    "reaches", "reaches_lanes", "reaches_adjoint", "reaches_lanes_adjoint", "reaches_chunks", "reach_flows", "source",
    "stage_checks", "stages", "catalogue",
}
"""Modules beside kernels: what writes loops, and the catalogue. A new module is one of kernels until it stands here."""
PLANS = [CellPlan(p, varying) for p in CELLS for varying in dict.fromkeys([(), VARYING.get(p.name, ())])]
REACH_PLANS = [ReachPlan(p) for p in REACHES]


def functions_of(space: object) -> list[types.FunctionType]:
    return [f for f in vars(space).values() if isinstance(f, types.FunctionType)]


def generated_of(plan: CellPlan | ReachPlan) -> Iterator[types.FunctionType]:
    """What is generated for a process, but for what its operators add to fill arrays beforehand."""
    process, numbers = plan.process, plan.constant_group._fields
    for one in process.prepared:
        filler = fill_loops(one, numbers, process.attributes)
        yield from (filler.fill, filler.adjoint)
    if isinstance(plan, CellPlan):
        yield from functions_of(cell_loops(plan))
        yield from functions_of(cell_adjoint_loops(plan))
        for queue in process.queues.values():
            filler = ordinate_loops(queue, numbers)
            yield from (filler.fill, filler.adjoint)
    else:
        yield from functions_of(reach_loops(plan, LINKS))
        yield from functions_of(flow_loops(plan, LINKS))
        for function in (process.volume, process.from_volume, process.steady, process.variance):
            if function is not None:
                yield elementwise(function, tuple(numbers))


def label(function: types.FunctionType) -> str:
    """The name of a function, and what it was generated for."""
    place = function.__code__.co_filename
    return f"{function.__name__} of {place[1:-1]}" if place.startswith("<") else function.__name__


MODULES = (elementary, transcendental, *(
    importlib.import_module(f"{room.__name__}.{found.name}")
    for room in (loops, processes) for found in pkgutil.iter_modules(room.__path__) if found.name not in TEMPLATES
))
DEFINED = [f for module in MODULES for f in functions_of(module) if f.__module__ == module.__name__]
GENERATED = {f: plan for plan in (*PLANS, *REACH_PLANS) for f in generated_of(plan)}
DEMANDS = [
    demand_loop(plan_of(formula, step), formed)
    for formula in FORMULAS for step in formula.steps for formed in ((), tuple(FORMATIONS.items()))
]
_first: dict[str, types.FunctionType] = {}
for _function in call_graph(*DEFINED, *GENERATED, *DEMANDS):
    _first.setdefault(digest(_function), _function)
KERNELS = list(_first.values())
SCALARS = [f for f in KERNELS if is_scalar(f)]
CALLED = {digest(called) for f in KERNELS for called in callees(f)}
ROOTS = [f for f in KERNELS if digest(f) not in CALLED]
ROWS = [f for f in KERNELS if digest(f) in CALLED and not is_scalar(f) and all(map(is_scalar, callees(f)))]
"""Loops within loops: those that are called, and call scalar steps only."""
