"""What follows from a cell process before any loop is written: its stages, their adjoints, the groups of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import cache, cached_property
from typing import Any, NamedTuple

from bmi_cdlm.kernels.loops.groups import group
from bmi_cdlm.kernels.loops.source import arguments_of
from bmi_cdlm.kernels.loops.stage_checks import check_stages
from bmi_cdlm.kernels.loops.stages import CellStages
from bmi_cdlm.names.declaration import CellProcess, Queue, Stage

MOST_ALIAS_CHECKS = 128
"""Beyond so many pairs of arrays that might overlap, LLVM does not vectorise a loop."""


class Reverse(NamedTuple):
    """The adjoint of a stage: its function, the symbols it takes and those whose adjoints it returns."""

    function: Callable
    takes: tuple[str, ...]
    returns: tuple[str, ...]


class CellPlan(CellStages):
    """A cell process as the templates see it: its stages, their adjoints, and the groups of arrays.

    Parameters
    ----------
    process, varying : as of `CellStages`

    Raises
    ------
    DeclarationError
        The declaration does not fit its steps.
    """

    def __init__(self, process: CellProcess, varying: tuple[str, ...] = ()) -> None:
        super().__init__(process, varying)
        check_stages(self)

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
    def reread(self) -> set[str]:
        """Symbols of what stages hand on that the adjoint loops read at every step; of others one row is enough."""
        return (self.queued | {a for r in self.reverses.values() for a in r.takes}) & set(self.series)

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
        return group("CellTotals", self.totals)

    @cached_property
    def constant_group(self) -> type[Any]:
        """Numbers of a model step: its length [d], its inverse, and the constants of the process."""
        return group("Step", self.numbers)


@cache
def cell_plan(process: CellProcess, varying: tuple[str, ...]) -> CellPlan:
    """Return the plan of a process; the same object at every call, as every making of its loops is compiled anew."""
    return CellPlan(process, varying)


def places_of(queue: Queue, longest: float, least: int = 1) -> int:
    """Places of a queue whose base is at most `longest` steps; at least so many."""
    return max(least, math.ceil(queue.spans * longest)) if math.isfinite(longest) else least  # a training diverged
