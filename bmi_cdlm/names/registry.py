"""The registries grow with the processes that are known: one name means one thing everywhere."""

from __future__ import annotations

from typing import TypeVar

from bmi_cdlm.names.declaration import CellProcess, PetFormula, Process, ReachProcess
from bmi_cdlm.names.entry import INFINITE, Variable
from bmi_cdlm.names.errors import DeclarationError
from bmi_cdlm.names.parameters import BY_NAME, STARTS, Parameter
from bmi_cdlm.names.variables import BY_SHORT, VARIABLES

Declared = TypeVar("Declared", bound=Process)
PROCESSES: dict[str, Process] = {}
OWNERS: dict[str, str] = {}
"""Which process first declared a parameter."""


def declare(process: Declared) -> Declared:
    """Add a process, its variables and its parameters to the registries; returns it.

    Raises
    ------
    DeclarationError
        Another process has its name, or something else a name of its variables or parameters.
    """
    known = PROCESSES.get(process.name)
    if known is process:
        return process
    if known is not None:
        raise DeclarationError(
            f"two processes are called '{process.name}': '{known.title}' and '{process.title}'. Rename one of them."
        )
    variables, parameters = _variables(process), _own(process)
    for v in variables:
        _check_variable(process, v)
    for p in parameters:
        if BY_NAME.get(p.name, p) != p:
            raise DeclarationError(
                f"process '{process.name}': the parameter '{p.name}' means something else in process "
                f"'{OWNERS[p.name]}'. Rename it."
            )
    PROCESSES[process.name] = process
    for v in variables:
        _add_variable(v)
    if isinstance(process, CellProcess):
        for p in process.starts.values():
            STARTS.setdefault(p.name, p)
    for p in parameters:
        BY_NAME.setdefault(p.name, p)
        OWNERS.setdefault(p.name, process.name)
    return process


def _own(process: Process) -> list[Parameter]:
    return [] if isinstance(process, PetFormula) else list(process.parameters)


def _variables(process: Process) -> list[Variable]:
    """Registry entries of what a process tells: fluxes, stores, queues, means of stores over the domain."""
    if not isinstance(process, CellProcess):
        return []
    of, found = (process.name,), []
    for name, flux in process.fluxes.items():
        if flux.standard_name:
            found.append(Variable(name, flux.standard_name, flux.units, "cell", "flux", flux.meaning, "process", of=of))
        else:
            found.append(_common(process, name)._replace(of=of))
    for name, store in process.stores.items():
        found.append(Variable(
            name, store.standard_name, store.units, "cell", "state", store.meaning, "process", bounds=store.bounds,
            of=of,
        ))
    for queue in process.queues.values():
        found.append(Variable(
            queue.held, queue.standard_name, "mm", "cell", "state", queue.meaning, "process", bounds=(0.0, INFINITE),
            of=of,
        ))
    for name, store in process.stores.items():
        if store.holds_water:
            found.append(Variable(
                f"mean_{name}", f"drainage-basin_{store.standard_name}", "mm", "domain", "state",
                f"{store.meaning}, mean over the drained area", "process", of=of,
            ))
    return found


def _common(process: CellProcess, name: str) -> Variable:
    if name in BY_SHORT and BY_SHORT[name].role == "flux":
        return BY_SHORT[name]
    raise DeclarationError(
        f"process '{process.name}': the flux '{name}' has no standard name, and stands in no registry. Give it one."
    )


def _check_variable(process: Process, v: Variable) -> None:
    found = BY_SHORT.get(v.short)
    if found is not None and found._replace(of=()) != v._replace(of=()):
        raise DeclarationError(
            f"process '{process.name}': the variable '{v.short}' means something else"
            + (f" in process '{found.of[0]}'" if found.of else "") + ". Rename it."
        )
    for other in VARIABLES:
        if other.name == v.name and other.short != v.short and other.grid == v.grid:
            raise DeclarationError(
                f"process '{process.name}': '{v.short}' and '{other.short}' have one standard name, '{v.name}'. "
                "Give it its own."
            )


def _add_variable(v: Variable) -> None:
    """At the end of the variables of cells, or of the domain's; a known one is of one process more."""
    if v.short in BY_SHORT:
        known = BY_SHORT[v.short]
        more = known._replace(of=(*known.of, *v.of))
        VARIABLES[VARIABLES.index(known)] = more
    else:
        more = v
        before = "cell_water_stored" if v.grid == "cell" else "water_in"
        VARIABLES.insert(VARIABLES.index(BY_SHORT[before]), v)
    BY_SHORT[v.short] = more


def process(name: str) -> CellProcess | ReachProcess:
    """Return the declared process of cells or reaches of that name."""
    found = PROCESSES[name]
    assert not isinstance(found, PetFormula)
    return found
