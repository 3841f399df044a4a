"""What follows from a cell process before any loop is written: who takes what, and the groups of arrays."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Collection
from functools import cache, cached_property
from typing import Any, NamedTuple

from bmi_cdlm.kernels.loops.groups import group
from bmi_cdlm.kernels.loops.source import arguments_of
from bmi_cdlm.names.declaration import PRECIPITATION, RUNOFF, CellProcess, Queue, Stage
from bmi_cdlm.names.errors import DeclarationError

RESERVED = {
    "block", "cuda", "every", "first", "fluxes", "given_at", "hi", "i", "inputs", "inputs_adj", "j", "last", "lo", "n",
    "n_steps", "np", "out", "out_adj", "p", "p_adj", "place", "rain", "real", "rows", "shift", "start", "starts",
    "state", "state_adj", "step", "t", "tape", "totals", "waste", "width",
}
"""Names of the loops' own, which can be no symbols."""
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
        self._check()

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
        """Whether it hands on runoff, and so keeps all totals of the cell."""
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
                (s for s in self.process.stages if flux.symbol in s.returns or flux.symbol in self._queued(s)), None
            )
            if teller is stage:
                seen[name] = flux.symbol
        return seen

    def _queued(self, stage: Stage) -> list[str]:
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
        if self.process.gives[0] == PRECIPITATION:  # what it adds is in what it gives, which runoff counts as rain
            return []
        found = [("precipitation_total", "rain")] if self.is_runoff and stage is self.process.stages[0] else []
        found += [
            (LEDGER[self.process.fluxes[name].ledger], symbol)  # type: ignore[index]
            for name, symbol in self.fluxes_of(stage).items() if self.process.fluxes[name].ledger
        ]
        if self.is_runoff and self.gives in stage.returns:
            found.append(("runoff_total", self.gives))
        return found

    @cached_property
    def totals(self) -> tuple[str, ...]:
        """Totals of the cell that it keeps: all of them for runoff, of another process those that it adds to."""
        added = {total for stage in self.process.stages for total, _ in self.totals_of(stage)}
        return tuple(total for total in TOTALS if self.is_runoff or total in added)

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
        return group("CellTotals", self.totals)

    @cached_property
    def constant_group(self) -> type[Any]:
        """Numbers of a model step: its length [d], its inverse, and the constants of the process."""
        return group("Step", ("days", "per_day", *self.process.constants))

    # ---- checks ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        process = self.process
        self._check_varying()
        symbols = [*self.stores, *self.inputs, *self.fixed, *self.varying_symbols, *self.numbers]
        known = set(symbols)
        symbols += [q.gives for q in process.queues.values()]
        for symbol in symbols:
            if symbols.count(symbol) > 1:
                self._refuse(f"the symbol '{symbol}' stands for {symbols.count(symbol)} things. Give each its own")
            if symbol in RESERVED or not symbol.isidentifier():
                self._refuse(f"'{symbol}' cannot be a symbol: the loops use that name. Choose another")
        handed_on: set[str] = set()
        for stage in process.stages:
            for a in self._queued(stage):
                queue = self.process.queues[self.queue_of[a]]
                if queue.takes not in handed_on:
                    self._refuse(
                        f"queue '{self.queue_of[a]}' takes '{queue.takes}', which no stage before "
                        f"'{stage.step.__name__}' returns. Correct its 'takes'"
                    )
                known.add(a)
            for a in self.takes(stage):
                if a not in known:
                    self._refuse(
                        f"step '{stage.step.__name__}' takes '{a}', which is no store, input, parameter, prepared "
                        f"value, constant or result of an earlier stage. Known here: {', '.join(sorted(known))}"
                    )
            self._check_returns(stage)
            known |= set(stage.returns)
            handed_on |= set(stage.returns) - set(self.stores) - {self.gives}
        given = [r for stage in process.stages for r in stage.returns]
        if given.count(self.gives) != 1:
            self._refuse(
                f"'{self.gives}', what the process gives, is returned {given.count(self.gives)} times, expected once. "
                "Correct 'gives' or 'returns'"
            )
        for name, flux in process.fluxes.items():
            if flux.symbol not in given and flux.symbol not in self.queue_of:
                self._refuse(f"flux '{name}' is '{flux.symbol}', which no stage returns. Correct its symbol")
        for name, store in process.stores.items():
            if store.symbol not in given:
                self._refuse(f"store '{name}' is '{store.symbol}', which no stage returns. Correct its symbol")
            if store.holds_water and store.units != "mm":
                self._refuse(
                    f"store '{name}' holds water in '{store.units}', expected 'mm': the ledger adds up depths. Convert "
                    "it, or set holds_water=False"
                )
            if store.at_most is not None and store.at_most not in self.parameters:
                self._refuse(f"store '{name}' is at most '{store.at_most}', which is no parameter. Correct at_most")
            if store.start_of is not None and store.start_of not in self.fixed:
                self._refuse(f"store '{name}' starts from '{store.start_of}', which is no parameter or prepared value. "
                             "Correct start_of")
        for name, queue in process.queues.items():
            takers = [stage.step.__name__ for stage in process.stages if queue.gives in self.takes(stage)]
            if len(takers) != 1:
                self._refuse(f"queue '{name}' gives '{queue.gives}' to {len(takers)} steps, expected one, which may "
                             "hand it on. Correct its 'gives', or the arguments of the steps")
            if queue.base not in self.parameters:
                self._refuse(f"queue '{name}' has the base '{queue.base}', which is no parameter here. Correct it")
            if (queue.curve is None) is (queue.weight is None) or (queue.curve is None) is not (queue.adjoint is None):
                self._refuse(f"queue '{name}' needs a curve and its adjoint, or a weight. Give it one of the two")
        self._check_stores()
        self._check_ledger()

    def _check_ledger(self) -> None:
        """Refuse a total that is added to on both sides of a queue: in another order in blocks than step by step; and
        water of a process of precipitation that is neither taken nor given."""
        if self.process.gives[0] == PRECIPITATION:
            held = [f"store '{name}' holds water" for name, s in self.process.stores.items() if s.holds_water]
            held += [f"queue '{name}' holds water" for name in self.process.queues]
            held += [
                f"flux '{name}' is '{flux.ledger}' in the ledger" for name, flux in self.process.fluxes.items()
                if flux.ledger not in (None, "in")
            ]
            if held:
                self._refuse(
                    f"{held[0]}, and what a process of precipitation takes and adds is what it gives. Make it one of "
                    "snow, which gives liquid water"
                )
        first: dict[str, tuple[int, str]] = {}
        for k, (_, stages) in enumerate(self.segments):
            for stage in stages:
                for name in self.fluxes_of(stage):
                    kind = self.process.fluxes[name].ledger
                    before, other = first.setdefault(kind or name, (k, name))
                    if before != k:
                        self._refuse(
                            f"fluxes '{other}' and '{name}' are both '{kind}' in the ledger, on both sides of a queue. "
                            "Hand the first on, and tell their sum behind the queue"
                        )

    def _check_stores(self) -> None:
        """Refuse a store on both sides of a queue, passed by several steps at once, and a kept one that others take."""
        for symbol, name in self.stores.items():
            takers = [stage for stage in self.process.stages if symbol in self.takes(stage)]
            beside = [stages for _, stages in self.segments if any(stage in stages for stage in takers)]
            if len(beside) > 1:
                self._refuse(
                    f"store '{name}' is taken by steps on both sides of a queue, '{takers[0].step.__name__}' and "
                    f"'{takers[-1].step.__name__}'. Hand its value on as a result of the first"
                )
            for stage in takers:
                read = () if stage.adjoint is None else arguments_of(stage.adjoint.step)
                if len(takers) > 1 and (symbol in stage.kept or f"{symbol}_after" in read):
                    self._refuse(
                        f"step '{stage.step.__name__}' keeps the store '{name}', which {len(takers)} steps take. Keep "
                        "stores of one step only"
                    )

    def _check_varying(self) -> None:
        """Refuse parameters that vary in time, and that something else than steps takes."""
        process = self.process
        for name in self.varying:
            symbol = self.parameters[name].symbol
            prepared = [one.step for one in process.prepared if symbol in arguments_of(one.step)]
            users = [f"'{step.__name__}'" for step in prepared]
            users += [f"queue '{q}'" for q, queue in process.queues.items() if queue.base == name
                      or symbol in arguments_of(queue.form)]
            users += [f"store '{s}'" for s, store in process.stores.items() if store.start_of == symbol
                      or store.at_most == name]
            if users:
                self._refuse(f"parameter '{name}' cannot vary in time, since {users[0]} takes one value of it. Give "
                             "one value per cell")

    def _check_returns(self, stage: Stage) -> None:
        count = returned_count(stage.step)
        if count != len(stage.returns):
            self._refuse(f"step '{stage.step.__name__}' returns {count} values, expected {len(stage.returns)}: "
                         f"{', '.join(stage.returns)}. Correct 'returns'")
        for symbol in stage.kept:
            if symbol not in stage.returns:
                self._refuse(f"step '{stage.step.__name__}' keeps '{symbol}', which it does not return. Correct 'kept'")
        taken = [a for a in self.takes(stage) if a in self.stores]
        changed = [r for r in stage.returns if r in self.stores]
        for symbol in changed:
            if symbol not in taken:
                self._refuse(f"step '{stage.step.__name__}' returns the store '{symbol}' without taking it. Correct it")

    def _refuse(self, message: str) -> None:
        raise DeclarationError(f"process '{self.process.name}': {message}.")


@cache
def cell_plan(process: CellProcess, varying: tuple[str, ...]) -> CellPlan:
    """Return the plan of a process; the same object at every call, as every making of its loops is compiled anew."""
    return CellPlan(process, varying)


def returned_count(step: Callable) -> int:
    """How many values a scalar step returns."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(step)))
    *_, last = (node for node in ast.walk(tree) if isinstance(node, ast.Return))
    return len(last.value.elts) if isinstance(last.value, ast.Tuple) else 1


def places_of(queue: Queue, longest: float, least: int = 1) -> int:
    """Places of a queue whose base is at most `longest` steps; at least so many."""
    return max(least, math.ceil(queue.spans * longest)) if math.isfinite(longest) else least  # a training diverged
