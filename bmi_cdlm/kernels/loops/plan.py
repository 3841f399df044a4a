"""What follows from a cell process before any loop is written: who takes what, and the groups of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import cache, cached_property
from typing import Any, NamedTuple

from bmi_cdlm.kernels.loops.groups import group
from bmi_cdlm.kernels.loops.plan_checks import check_plan
from bmi_cdlm.kernels.loops.source import arguments_of
from bmi_cdlm.names.declaration import RUNOFF, CellProcess, Queue, Stage

TOTALS = ("precipitation_total", "evapotranspiration_total", "exchange_total", "runoff_total")
LEDGER = {"in": "precipitation_total", "out": "evapotranspiration_total", "exchange": "exchange_total"}
MOST_ALIAS_CHECKS = 128
"""Beyond so many pairs of arrays that might overlap, LLVM does not vectorise a loop."""


class Reverse(NamedTuple):
    """The adjoint of a stage: its function, the symbols it takes and those whose adjoints it returns."""

    function: Callable
    takes: tuple[str, ...]
    returns: tuple[str, ...]


class CellPlan:
    """A cell process as the templates see it.

    Parameters
    ----------
    process : CellProcess
    varying : names of parameters that come as [time, cell] in this run, factors of inputs among them

    Raises
    ------
    DeclarationError
        The declaration does not fit its steps.
    """

    def __init__(self, process: CellProcess, varying: tuple[str, ...] = ()) -> None:
        self.process, self.varying = process, tuple(sorted(varying))
        self.parameters = {p.name: p for p in process.parameters}
        check_plan(self)

    # ---- symbols -----------------------------------------------------------------------------------------

    @cached_property
    def stores(self) -> dict[str, str]:
        """Registry name of a store by symbol."""
        return {s.symbol: name for name, s in self.process.stores.items()}

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Registry name of an input by symbol."""
        return {i.symbol: name for name, i in self.process.inputs.items()}

    @cached_property
    def input_names(self) -> dict[str, str]:
        """Registry name of an input or a parameter that varies in time, by symbol."""
        return self.inputs | {self.parameters[name].symbol: name for name in self.varying}

    @cached_property
    def factors(self) -> dict[str, str]:
        """Symbol of the factor of an input that has one in this run, by symbol of the input."""
        return {
            i.symbol: self.parameters[i.factor].symbol for i in self.process.inputs.values()
            if i.factor is not None and i.factor in self.varying
        }

    @cached_property
    def varying_symbols(self) -> tuple[str, ...]:
        """Symbols of the parameters that come as [time, cell] and that steps take."""
        factors = {i.factor for i in self.process.inputs.values()}
        return tuple(self.parameters[name].symbol for name in self.varying if name not in factors)

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Symbols of parameters and prepared values, one per cell."""
        optional = {i.factor for i in self.process.inputs.values()}
        own = [p.symbol for p in self.process.parameters if p.name not in (*self.varying, *optional)]
        return (*own, *(symbol for one in self.process.prepared for symbol in one.returns))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Symbols of numbers that are the same for all cells: length of the step [d], its inverse, constants."""
        return self.constant_group._fields

    @cached_property
    def gives(self) -> str:
        """Symbol of what the process hands on."""
        return self.process.gives[1]

    @property
    def is_runoff(self) -> bool:
        """Whether it hands on runoff, and so keeps the totals of the cell."""
        return self.process.gives[0] == RUNOFF

    def stage_name(self, stage: Stage) -> str:
        """What functions around a stage are called after."""
        return f"{self.process.name}_{stage.step.__name__.removesuffix('_inverse').removesuffix('_step')}"

    # ---- stages ------------------------------------------------------------------------------------------

    def takes(self, stage: Stage) -> tuple[str, ...]:
        """Symbols that a stage takes, in its order."""
        return arguments_of(stage.step)

    @cached_property
    def series(self) -> tuple[str, ...]:
        """Symbols of what a stage hands to a later stage or to a queue."""
        wanted = {q.takes for q in self.process.queues.values()}
        wanted |= {a for stage in self.process.stages for a in self.takes(stage)}
        given = [r for stage in self.process.stages for r in stage.returns if r not in self.stores]
        return tuple(dict.fromkeys(r for r in given if r in wanted and r != self.gives))

    @cached_property
    def queue_of(self) -> dict[str, str]:
        """Name of the queue that gives a symbol."""
        return {q.gives: name for name, q in self.process.queues.items()}

    @cached_property
    def segments(self) -> list[tuple[list[str], list[Stage]]]:
        """Stages between queues: the queues passed before them, and the stages."""
        parts: list[tuple[list[str], list[Stage]]] = []
        for stage in self.process.stages:
            before = [self.queue_of[a] for a in self.takes(stage) if a in self.queue_of]
            if before or not parts:
                parts.append((before, [stage]))
            else:
                parts[-1][1].append(stage)
        return parts

    @cached_property
    def queued(self) -> set[str]:
        """Symbols of what flows into a queue."""
        return {q.takes for q in self.process.queues.values()}

    @cached_property
    def waiting(self) -> set[str]:
        """Symbols of what a stage hands on beyond the steps that are taken at once: into a queue, or past one."""
        found = set(self.queued)
        for k, (_, stages) in enumerate(self.segments):
            later = {a for _, others in self.segments[k + 1 :] for stage in others for a in self.takes(stage)}
            found |= {r for stage in stages for r in stage.returns if r in later and r in self.series}
        return found

    @cached_property
    def reread(self) -> set[str]:
        """Symbols of what stages hand on that the adjoint loops read at every step; of others one row is enough."""
        return (self.queued | {a for r in self.reverses.values() for a in r.takes}) & set(self.series)

    @property
    def chunk(self) -> int:
        """Steps that are taken at once: four where queues are passed."""
        return 4 if self.process.queues else 1

    def fluxes_of(self, stage: Stage) -> dict[str, str]:
        """Symbol of each flux that the rows of a stage tell, by registry name."""
        seen: dict[str, str] = {}
        for name, flux in self.process.fluxes.items():
            teller = next(
                (s for s in self.process.stages if flux.symbol in s.returns or flux.symbol in self.queued_into(s)), None
            )
            if teller is stage:
                seen[name] = flux.symbol
        return seen

    def queued_into(self, stage: Stage) -> list[str]:
        """Symbols of what queues give to a stage."""
        return [a for a in self.takes(stage) if a in self.queue_of]

    def corrected_of(self, stage: Stage) -> dict[str, str]:
        """Symbol of each corrected input that the rows of a stage tell, by name of the flux."""
        told = {}
        for one in self.process.inputs.values():
            if one.symbol in self.factors and one.corrected is not None:
                teller = next(s for s in self.process.stages if one.symbol in self.takes(s))
                if teller is stage:
                    told[one.corrected] = one.symbol
        return told

    def totals_of(self, stage: Stage) -> list[tuple[str, str]]:
        """Totals that the rows of a stage add to, and the symbol of what is added."""
        if not self.is_runoff:
            return []
        found = [("precipitation_total", "rain")] if stage is self.process.stages[0] else []
        found += [
            (LEDGER[self.process.fluxes[name].ledger], symbol)  # type: ignore[index]
            for name, symbol in self.fluxes_of(stage).items() if self.process.fluxes[name].ledger
        ]
        if self.gives in stage.returns:
            found.append(("runoff_total", self.gives))
        return found

    # ---- adjoint -----------------------------------------------------------------------------------------

    @cached_property
    def reverses(self) -> dict[int, Reverse]:
        """The adjoint of every stage, by its place."""
        found: dict[int, Reverse] = {}
        for k in reversed(range(len(self.process.stages))):
            later = {symbol for reverse in found.values() for symbol in reverse.returns}
            found[k] = self._reverse(self.process.stages[k], later)
        return dict(sorted(found.items()))

    def _reverse(self, stage: Stage, later: Collection[str]) -> Reverse:
        if stage.adjoint is not None and not set(self.varying_symbols) & set(self.takes(stage)):
            hand = stage.adjoint
            return Reverse(hand.step, arguments_of(hand.step), hand.returns)
        return self.derived(stage, later)

    def derived(self, stage: Stage, later: Collection[str] | None = None) -> Reverse:
        """The adjoint of a stage, derived from its source: in what there is an adjoint of, by what comes to it.

        later : symbols whose adjoints later stages return, all that these take where None. What is handed to nothing
        but a flux has none.
        """
        from bmi_cdlm.kernels.adjoint import derive, reached

        own = {*self.stores, *self.series, self.gives}
        left_out = set() if later is None else set(self.series) - self.queued - set(later)
        every_seed = {place: f"{s}_adj" for place, s in enumerate(stage.returns) if s in own}
        seeds = {place: a for place, a in every_seed.items() if stage.returns[place] not in left_out} or every_seed
        kept = {stage.returns.index(s): f"{s}_after" if s in self.stores else s for s in stage.kept}
        every = tuple(a for a in self.takes(stage) if a not in self.numbers)
        come = reached(stage.step, seeds)
        active = tuple(a for a in every if a in come) or every
        function = derive(stage.step, active, seeds, kept=kept, name=f"{stage.step.__name__}_adjoint")
        return Reverse(function, arguments_of(function), active)

    def negated(self) -> dict[str, str]:
        """Input whose adjoint is that of another negated, by symbols."""
        return {
            a: b for k, stage in enumerate(self.process.stages)
            if stage.adjoint is not None and self.reverses[k].function is stage.adjoint.step
            for a, b in stage.adjoint.negated.items()
        }

    @cached_property
    def learned(self) -> tuple[str, ...]:
        """Symbols, one value per cell, whose adjoints the stages return."""
        found = [a for r in self.reverses.values() for a in r.returns if a in self.fixed]
        return tuple(dict.fromkeys(found))

    @cached_property
    def input_adjoints(self) -> tuple[str, ...]:
        """Symbols of inputs and varying parameters whose adjoints the stages return."""
        named = {*self.inputs, *self.varying_symbols}
        return tuple(dict.fromkeys(a for r in self.reverses.values() for a in r.returns if a in named))

    # ---- groups ------------------------------------------------------------------------------------------

    @cached_property
    def input_group(self) -> type[Any]:
        """float[time, cell]: inputs, factors and varying parameters by symbol, and `rain` for the totals."""
        more = ("rain",) if self.is_runoff else ()
        return group("Inputs", (*self.inputs, *self.factors.values(), *self.varying_symbols, *more))

    @cached_property
    def parameter_group(self) -> type[Any]:
        """float[cell]: what steps take, by symbol; float[place, cell]: ordinates by name of the queue."""
        read = {a for stage in self.process.stages for a in self.takes(stage)}
        read |= {a for r in self.reverses.values() for a in r.takes}
        return group("Parameters", (*(s for s in self.fixed if s in read), *self.process.queues))

    @cached_property
    def adjoint_group(self) -> type[Any]:
        """float[cell] and float[place, cell]: adjoints of what can be learned."""
        return group("ParameterAdjoints", (*self.learned, *self.process.queues))

    @cached_property
    def input_adjoint_group(self) -> type[Any]:
        """float[time, cell]: adjoints of inputs and varying parameters."""
        return group("InputAdjoints", self.input_adjoints)

    @cached_property
    def state_group(self) -> type[Any]:
        """float[cell] stores by registry name; float[place, cell] water in queues, leaving `place` steps later."""
        return group("Stores", (*self.process.stores, *self.process.queues))

    @cached_property
    def flux_group(self) -> type[Any]:
        """float[time or 1, cell] by registry name; one row keeps the last step only."""
        corrected = [name for stage in self.process.stages for name in self.corrected_of(stage)]
        return group("Fluxes", (*corrected, *(n for n, f in self.process.fluxes.items() if f.symbol != self.gives)))

    @cached_property
    def total_group(self) -> type[Any]:
        """float[cell]: water since the start [mm]."""
        return group("CellTotals", TOTALS)

    @cached_property
    def constant_group(self) -> type[Any]:
        """Numbers of a model step: its length [d], its inverse, and the constants of the process."""
        return group("Step", ("days", "per_day", *self.process.constants))


@cache
def cell_plan(process: CellProcess, varying: tuple[str, ...]) -> CellPlan:
    """Return the plan of a process; the same object at every call, as every making of its loops is compiled anew."""
    return CellPlan(process, varying)


def places_of(queue: Queue, longest: float, least: int = 1) -> int:
    """Places of a queue whose base is at most `longest` steps; at least so many."""
    return max(least, math.ceil(queue.spans * longest)) if math.isfinite(longest) else least  # a training diverged
