"""Who takes what in a cell process: its symbols, and the stages between its queues."""

from __future__ import annotations

from functools import cached_property

from bmi_cdlm.kernels.loops.source import arguments_of
from bmi_cdlm.names.declaration import PRECIPITATION, RUNOFF, CellProcess, Stage

TOTALS = ("precipitation_total", "evapotranspiration_total", "exchange_total", "runoff_total")
LEDGER = {"in": "precipitation_total", "out": "evapotranspiration_total", "exchange": "exchange_total"}


class CellStages:
    """The symbols and stages of a cell process.

    Parameters
    ----------
    process : CellProcess
    varying : names of parameters that come as [time, cell] in this run, factors of inputs among them
    """

    def __init__(self, process: CellProcess, varying: tuple[str, ...] = ()) -> None:
        self.process, self.varying = process, tuple(sorted(varying))
        self.parameters = {p.name: p for p in process.parameters}

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
        return ("days", "per_day", *self.process.constants)

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
