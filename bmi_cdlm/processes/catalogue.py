"""The processes that there are, by the names that a configuration uses: ours, and those of installed packages."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from typing import Literal, NamedTuple, TypedDict

from bmi_cdlm.names.declaration import (
    LIQUID_WATER,
    PRECIPITATION,
    RUNOFF,
    CellProcess,
    LinkProcess,
    PetFormula,
    Process,
    ReachProcess,
)
from bmi_cdlm.names.errors import ConfigError, DeclarationError, nearest, shown
from bmi_cdlm.names.registry import declare
from bmi_cdlm.processes.cemaneige import CEMANEIGE, CEMANEIGE_HYSTERESIS
from bmi_cdlm.processes.cemaneige_gradual import CEMANEIGE_GRADUAL
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.gr_structures import GR4, GR5, GR6
from bmi_cdlm.processes.hargreaves import HARGREAVES
from bmi_cdlm.processes.hbv import HBV, HBV_1_0, HBV_1_1P, HBV_2_0
from bmi_cdlm.processes.impervious import GR4J_IMPERVIOUS, HBV_IMPERVIOUS
from bmi_cdlm.processes.kinematic import KINEMATIC
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.processes.muskingum_cunge import MUSKINGUM_CUNGE, MUSKINGUM_CUNGE_SHAPED
from bmi_cdlm.processes.oudin import OUDIN
from bmi_cdlm.processes.outside import CALLER, ROUTING_NONE
from bmi_cdlm.processes.penman_monteith import PENMAN_MONTEITH
from bmi_cdlm.processes.undercatch import HBV_UNDERCATCH, UNDERCATCH

Kind = Literal["precipitation", "snow", "runoff", "routing", "pet"]
ENTRY_POINTS = "bmi_cdlm.processes"
NONE, GIVEN = "none", "given"
NOTHING: dict[Kind, list[str]] = {"precipitation": [GIVEN], "snow": [NONE], "pet": [GIVEN]}
"""What a configuration says instead of a process: no snow; precipitation and potential evapotranspiration as they are
given."""
OWN: tuple[CellProcess | ReachProcess, ...] = (
    CEMANEIGE, CEMANEIGE_HYSTERESIS, CEMANEIGE_GRADUAL, GR4J, GR4, GR5, GR6, HBV, HBV_1_0, HBV_1_1P, HBV_2_0,
    GR4J_IMPERVIOUS, HBV_IMPERVIOUS, HBV_UNDERCATCH, UNDERCATCH, CALLER, MUSKINGUM, MUSKINGUM_CUNGE,
    MUSKINGUM_CUNGE_SHAPED, KINEMATIC, ROUTING_NONE,
)
FORMULAS: tuple[PetFormula, ...] = (OUDIN, HARGREAVES, PENMAN_MONTEITH)
ALL_OWN: tuple[Process, ...] = (*OWN, *FORMULAS)
for one in ALL_OWN:
    declare(one)


class Names(TypedDict):
    """Names of the processes that water passes, in that order: keys of a configuration, arguments of `choose`."""

    precipitation: str
    snow: str
    runoff: str
    routing: str


OF_CHAIN: tuple[Kind, ...] = ("precipitation", "snow", "runoff", "routing")


class Chain(NamedTuple):
    """The processes of a model in the order of the water: cells, links, reaches."""

    cells: tuple[CellProcess, ...]
    links: LinkProcess
    reach: ReachProcess

    @property
    def processes(self) -> tuple[CellProcess | ReachProcess, ...]:
        """The processes of cells and of reaches."""
        return (*self.cells, self.reach)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the processes that are chosen."""
        return tuple(p.name for p in self.processes)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Registry names of what the processes take from outside."""
        return _inputs(self.cells)

    @property
    def enters(self) -> str:
        """Registry name of the input that brings water into the cells."""
        return self.cells[0].enters

    @property
    def holds_water(self) -> bool:
        """Whether anything of a cell is carried from step to step."""
        return any(p.stores or p.queues for p in self.cells)


@cache
def _inputs(cells: tuple[CellProcess, ...]) -> tuple[str, ...]:
    taken = [cells[0].enters, *(name for p in cells for name in p.inputs if name != LIQUID_WATER)]
    return tuple(dict.fromkeys(taken))


def kind_of(process: Process) -> Kind:
    """What a configuration chooses the process as."""
    if isinstance(process, PetFormula):
        return "pet"
    if isinstance(process, ReachProcess):
        return "routing"
    kinds: dict[str, Kind] = {PRECIPITATION: "precipitation", LIQUID_WATER: "snow"}
    return kinds.get(process.gives[0], "runoff")


@cache
def _others() -> dict[str, importlib.metadata.EntryPoint]:
    """Processes of installed packages by name: nothing of theirs is imported before it is chosen."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name in found or point.name in {p.name for p in ALL_OWN}:
            first = found[point.name].value if point.name in found else "bmi_cdlm"
            raise DeclarationError(
                f"two processes are called '{point.name}': of {first} and of {point.value}. Uninstall one of the "
                "packages."
            )
        found[point.name] = point
    return found


def _load(name: str) -> Process:
    point = _others()[name]
    try:
        process = point.load()
    except (ImportError, AttributeError) as cause:
        raise DeclarationError(
            f"entry point '{name} = {point.value}' cannot be imported ({cause}). Repair or uninstall its package."
        ) from cause
    if not isinstance(process, Process):
        raise DeclarationError(
            f"entry point '{name} = {point.value}' is a {type(process).__name__}, expected a CellProcess, a "
            "ReachProcess or a PetFormula."
        )
    if process.name != name:
        raise DeclarationError(
            f"entry point '{name} = {point.value}' leads to a process called '{process.name}'. Give both one name."
        )
    return declare(process)


def known() -> tuple[Process, ...]:
    """Every process that is installed."""
    return (*ALL_OWN, *(_load(name) for name in _others()))


def find(kind: Kind, name: str) -> Process:
    """Return the process that a configuration calls by name.

    Raises
    ------
    ConfigError
        There is none of that name installed, or it is one of another kind.
    """
    own = {p.name: p for p in ALL_OWN}
    nothing = name == NONE and kind != kind_of(own[NONE])  # a word for nothing is no process of another kind
    if nothing or (name not in own and name not in _others()):
        names = [p.name for p in ALL_OWN if kind_of(p) == kind] + list(_others()) + NOTHING.get(kind, [])
        raise ConfigError(
            f"{kind}: there is no process '{shown(name)}'.{nearest(name, names)} Installed: {', '.join(names)}. "
            f"Install the package that brings it (entry point group {ENTRY_POINTS})."
        )
    process = own[name] if name in own else _load(name)
    if kind_of(process) != kind:
        own_kind = kind_of(process)
        raise ConfigError(f"{kind}: '{name}' is a process of kind {own_kind}. Choose it as `{own_kind}:`.")
    return process


def find_formula(name: str) -> PetFormula:
    """Return the formula of potential evapotranspiration that a configuration calls by name; see `find`."""
    found = find("pet", name)
    assert isinstance(found, PetFormula)
    return found


@cache
def choose(
    snow: str = NONE, runoff: str = GR4J.name, routing: str = MUSKINGUM.name, precipitation: str = GIVEN,
) -> Chain:
    """Return the processes of a model.

    Raises
    ------
    ConfigError
        A process that is not there, snow before a process that has its own, or a correction of precipitation that
        nothing takes, or that is made twice.
    """
    last = find("runoff", runoff)
    reach = find("routing", routing)
    assert isinstance(last, CellProcess) and isinstance(reach, ReachProcess) and last.gives[0] == RUNOFF
    cells: tuple[CellProcess, ...] = (last,)
    if snow != NONE:
        first = find("snow", snow)
        assert isinstance(first, CellProcess)
        if LIQUID_WATER not in last.inputs:
            raise ConfigError(f"snow is '{snow}', and runoff '{runoff}' has snow of its own. Set snow: {NONE}.")
        cells = (first, last)
    if precipitation != GIVEN:
        correction = find("precipitation", precipitation)
        assert isinstance(correction, CellProcess)
        _check_correction(correction, cells)
        cells = (correction, *cells)
    return Chain(cells, LINKS, reach)


def _check_correction(correction: CellProcess, others: tuple[CellProcess, ...]) -> None:
    """Refuse a process of precipitation before processes that take none, or that have its parameters themselves."""
    said = f"precipitation is '{correction.name}', and"
    first = others[0]
    if not {PRECIPITATION, LIQUID_WATER} & set(first.inputs):
        raise ConfigError(f"{said} {kind_of(first)} '{first.name}' takes none. Set precipitation: {GIVEN}.")
    own = {p.name for p in correction.parameters}
    for process in others:
        twice = [p.name for p in process.parameters if p.name in own]
        if twice:
            raise ConfigError(
                f"{said} '{process.name}' has {twice[0]} too: it would count twice. Set precipitation: {GIVEN}, or "
                f"another {kind_of(process)}."
            )
