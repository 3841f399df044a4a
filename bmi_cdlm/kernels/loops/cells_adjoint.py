"""The adjoint loops of a process of cells, written from its declaration; they mirror `cells`.

A block of steps is run again tile by tile from the state at its start, with a tape of what the adjoints of the stages
read, then swept backwards. What is kept between forward and backward is the states at block starts only.
"""

from __future__ import annotations

import types
from functools import cache
from typing import Any

from bmi_cdlm.kernels.loops.cells import KNOWN, alias_checks, row_call, row_text, title, value_of
from bmi_cdlm.kernels.loops.plan import MOST_ALIAS_CHECKS, CellPlan, Reverse
from bmi_cdlm.kernels.loops.source import make_functions, signature
from bmi_cdlm.names.declaration import Stage


@cache
def cell_adjoint_loops(plan: CellPlan) -> types.SimpleNamespace:
    """Return the adjoint loops of a process: `reverse`, and the rows of every stage by their names."""
    process, writer = plan.process, AdjointText(plan)
    text = "\n\n".join([
        *(row_text(plan, stage) for stage in process.stages),
        *(text for k in range(len(process.stages)) for text in writer.rows(k)),
        writer.retrace(), writer.tile(), writer.reverse(),
    ])
    known: dict[str, Any] = KNOWN | {stage.step.__name__: stage.step for stage in process.stages}
    known |= {writer.step_name(k): r.function for k, r in plan.reverses.items()}
    made = make_functions(text, f"adjoint loops of {title(plan)}", known)
    return types.SimpleNamespace(**made, reverse=made[f"reverse_{process.name}"])


class AdjointText:
    """Writes the adjoint loops of a process."""

    def __init__(self, plan: CellPlan) -> None:
        self.plan, self.process = plan, plan.process
        self.stages = list(plan.process.stages)

    # ---- what lies where ---------------------------------------------------------------------------------

    def step_name(self, k: int) -> str:
        """What the adjoint of stage k is called in the text."""
        return f"{self.stages[k].step.__name__}_adjoint"

    def taped_stores(self, k: int) -> list[tuple[str, bool]]:
        """Symbols of stores that the adjoint of stage k reads, and whether after the step, too."""
        takes = self.plan.reverses[k].takes
        return [
            (s, f"{s}_after" in takes) for s in self.plan.takes(self.stages[k])
            if s in self.plan.stores and (s in takes or f"{s}_after" in takes)
        ]

    def tape_of(self, symbol: str, k: int) -> str:
        """Name of the tape of a store before stage k."""
        users = [j for j, stage in enumerate(self.stages) if symbol in self.plan.takes(stage)]
        return f"tape_{symbol}" if len(users) == 1 else f"tape_{symbol}_{k}"

    def kept(self, k: int) -> list[str]:
        """Symbols of results for the tape only."""
        stage = self.stages[k]
        return [s for s in stage.kept if s not in self.plan.stores and s not in self.plan.series]

    def given(self, k: int, symbol: str) -> str:
        """What the adjoint of stage k reads for a symbol at step t."""
        plan = self.plan
        if symbol.endswith("_after") and symbol.removesuffix("_after") in plan.stores:
            own = symbol.removesuffix("_after")
            return f"{self.tape_of(own, k)}[t + 1, :n]"
        if symbol.endswith("_adj"):
            own = symbol.removesuffix("_adj")
            if own == plan.gives:
                return "out_adj[t, lo:hi]"
            return self.series_adj(own) if own in plan.series else f"{own}_adj"
        if symbol in plan.stores:
            return f"{self.tape_of(symbol, k)}[t, :n]"
        if symbol in plan.inputs or symbol in plan.varying_symbols or symbol in plan.factors.values():
            return f"inputs.{symbol}[t, lo - shift : hi - shift]"
        if symbol in plan.queue_of:
            return f"{symbol}[t, :n]"
        if symbol in plan.series or symbol in self.kept(k):
            return f"tape_{symbol}[t, :n]"
        return symbol

    def series_adj(self, symbol: str) -> str:
        """Adjoint of what a stage hands on, at step t."""
        return f"{symbol}_adj[t - first, :n]" if symbol in self.plan.waiting else f"{symbol}_adj[0, :n]"

    def target(self, symbol: str) -> str:
        """Where the adjoint of a symbol goes, at step t."""
        plan = self.plan
        if symbol in plan.inputs or symbol in plan.varying_symbols:
            return f"inputs_adj.{symbol}[t, lo:hi]"
        if symbol in plan.queue_of:
            return f"{symbol}[t, :n]"
        if symbol in plan.series:
            return self.series_adj(symbol)
        return f"{symbol}_adj"

    def adds(self, k: int, symbol: str) -> bool:
        """Whether the adjoint of a symbol is added to: by parameters always, else by all but the first to come."""
        plan = self.plan
        if symbol in plan.stores:
            return symbol not in self.stages[k].returns
        if symbol in plan.fixed:
            return True
        if symbol in plan.queued:
            return True
        return any(symbol in plan.reverses[j].returns for j in range(k + 1, len(self.stages)))

    # ---- rows --------------------------------------------------------------------------------------------

    def parts(self, k: int) -> list[tuple[str, ...]]:
        """Results of the adjoint of stage k by row: all in one, or parameters first and then the rest.

        A loop over too many arrays is not taken in vectors; to take the step twice costs less.
        """
        reverse = self.plan.reverses[k]
        parameters = tuple(s for s in reverse.returns if s in self.plan.fixed)
        rest = tuple(s for s in reverse.returns if s not in self.plan.fixed)
        if not parameters or not rest or self.checks(k, reverse.returns) <= MOST_ALIAS_CHECKS:
            return [reverse.returns]
        # Parameters one by one, if need be: each row reads all that the step does.
        rows: list[tuple[str, ...]] = []
        for symbol in parameters:
            if rows and self.checks(k, (*rows[-1], symbol)) <= MOST_ALIAS_CHECKS:
                rows[-1] = (*rows[-1], symbol)
            else:
                rows.append((symbol,))
        return [*rows, rest]

    def checks(self, k: int, results: tuple[str, ...]) -> int:
        """Alias checks of a row with these results."""
        read, written = self.arrays(k, results)
        return alias_checks(len(written), len([a for a in read if a not in written]))

    def arrays(self, k: int, results: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Names of arrays that a row of stage k reads and writes."""
        plan, reverse = self.plan, self.plan.reverses[k]
        read = []
        for symbol in reverse.takes:
            if symbol in plan.numbers:
                continue
            read.append(symbol)
            if symbol in plan.factors:
                read.append(plan.factors[symbol])
        return read, [self.written(symbol) for symbol in results]

    def written(self, symbol: str) -> str:
        """Name of the array that a row writes for a symbol: of a queue's outflow, the outflow itself."""
        return symbol if symbol in self.plan.queue_of else f"{symbol}_adj"

    def rows(self, k: int) -> list[str]:
        """The adjoint rows of stage k."""
        parts = self.parts(k)
        return [self.row(k, results, j if len(parts) > 1 else None) for j, results in enumerate(parts)]

    def row_name(self, k: int, j: int | None) -> str:
        """Name of the j-th adjoint row of stage k, of the only one where None."""
        return f"{self.plan.stage_name(self.stages[k])}_row_adjoint" + ("" if j is None else f"_{j + 1}")

    def row(self, k: int, results: tuple[str, ...], j: int | None) -> str:
        """An adjoint row: adjoints of stores in place, of parameters added to, of the rest set."""
        plan, reverse = self.plan, self.plan.reverses[k]
        read, written = self.arrays(k, results)
        arguments = [*read, "step", *(a for a in written if a not in read)]
        values = []
        for symbol in reverse.takes:
            if symbol == f"{plan.gives}_adj":
                values.append(f"{symbol}[i]" + ("" if self.process.gives_rate else " * step.per_day"))
            elif symbol.endswith(("_adj", "_after")) or symbol in self.kept(k):
                values.append(f"{symbol}[i]")
            else:
                values.append(value_of(plan, symbol))
        names = [f"d_{s}" if s in results else f"_{s}" for s in reverse.returns]
        assigned = ", ".join(names)
        lines = [
            f"def {self.row_name(k, j)}({signature(arguments)}):",
            f'    """Adjoint of {self.stages[k].step.__name__} of a row of cells."""',
            f"    for i in range({read[0]}.size):",
            f"        {assigned} = {self.step_name(k)}(",
            f"            {signature(values, 12)}",
            "        )",
        ]
        for symbol in results:
            value = f"d_{symbol}"
            if symbol in plan.inputs and self.process.inputs[plan.inputs[symbol]].kind == "rate":
                value += " * step.days"
            operator = "+=" if self.adds(k, symbol) else "="
            lines.append(f"        {self.written(symbol)}[i] {operator} {value}")
        return "\n".join(lines) + "\n"

    def calls(self, k: int, indent: str) -> list[str]:
        """Calls of the adjoint rows of stage k at step t."""
        parts, lines = self.parts(k), []
        for j, results in enumerate(parts):
            read, written = self.arrays(k, results)
            given = [self.given(k, a) for a in read] + ["step"]
            for symbol, name in zip(results, written, strict=True):
                if name not in read:
                    given.append(self.target(symbol))
            lines += [
                f"{indent}{self.row_name(k, j if len(parts) > 1 else None)}(",
                f"{indent}    {signature(given, len(indent) + 4)}", f"{indent})",
            ]
        return lines

    # ---- tiles -------------------------------------------------------------------------------------------

    def tapes(self) -> list[str]:
        """Names of the arrays of the tape, in the order in which `retrace` takes them."""
        return [name for name, _ in self.tape_shapes()]

    def tape_shapes(self) -> list[tuple[str, str]]:
        """Names of the arrays of the tape, and their rows."""
        found: dict[str, str] = {}
        for k in range(len(self.stages)):
            for symbol, after in self.taped_stores(k):
                found[self.tape_of(symbol, k)] = "n_steps + 1" if after else "n_steps"
            for symbol in self.kept(k):
                found[f"tape_{symbol}"] = "n_steps"
        for symbol in self.plan.series:
            rows = "n_steps" if symbol in self.plan.reread else "1"
            found[f"tape_{symbol}"] = "in_fours(n_steps)" if symbol in self.plan.queued else rows
        for name, queue in self.process.queues.items():
            found[queue.gives] = f"in_fours(n_steps) + in_fours(p.{name}.shape[0])"
        return list(found.items())

    def fixed(self) -> list[str]:
        """Symbols of parameters and prepared values that forward or adjoint rows read."""
        return [s for s in self.plan.parameter_group._fields if s not in self.process.queues]

    def ordinates(self) -> list[str]:
        """Arrays of the ordinates of a tile."""
        return [f"ordinates_{name}" for name in self.process.queues]

    def retrace(self) -> str:
        """Run a tile forward again and fill the tape."""
        plan, process = self.plan, self.process
        arguments = ["inputs", "p", "start", "step", "n_steps", *self.fixed(), *self.ordinates(), *self.tapes()]
        stores = list(process.stores)
        lines = [
            f"def retrace_{process.name}({signature([*arguments, 'lo', 'hi', 'shift'])}):",
            f'    """Run a tile forward from the start of a block, as `advance_{process.name}_tile`; fill the tape."""',
            "    n = hi - lo",
            f"    rows = tile_rows({len(stores) + 1}, n, inputs.{self.plan.input_group._fields[0]})",
            f"    waste = rows[{len(stores)}, :n]",
        ]
        for k, name in enumerate(stores):
            symbol = process.stores[name].symbol
            lines += [f"    {symbol} = rows[{k}, :n]", f"    copy_row(start.{name}[lo:hi], {symbol})"]
        for name, queue in process.queues.items():
            lines.append(f"    take_columns(start.{name}[: p.{name}.shape[0] - 1], lo, hi, {queue.gives})")
        if plan.chunk > 1:
            lines += ["    for first in range(0, n_steps, 4):", "        last = min(first + 4, n_steps)"]
            for before, stages in plan.segments:
                for name in before:
                    queue = process.queues[name]
                    lines += [
                        f"        advance_queue({queue.gives}, first, ordinates_{name}, p.{name}.shape[0], "
                        f"tape_{queue.takes}[first:],",
                        f"                      last - first, {queue.share!r})",
                    ]
                lines.append("        for t in range(first, last):")
                for stage in stages:
                    lines += self.retrace_stage(stage, " " * 12)
        else:
            lines.append("    for t in range(n_steps):")
            for stage in self.stages:
                lines += self.retrace_stage(stage, " " * 8)
        for k in range(len(self.stages)):
            lines += [
                f"    copy_row({symbol}, {self.tape_of(symbol, k)}[n_steps])"
                for symbol, after in self.taped_stores(k) if after
            ]
        return "\n".join(lines) + "\n"

    def retrace_stage(self, stage: Stage, indent: str) -> list[str]:
        """Tape the stores before a stage, and take it."""
        k = self.stages.index(stage)
        taped = [
            f"{indent}copy_row({symbol}, {self.tape_of(symbol, k)}[t])" for symbol, _ in self.taped_stores(k)
        ]
        return taped + row_call(self.plan, stage, "t", telling=False, indent=indent, tape=True)

    def tile(self) -> str:
        """The adjoint of a tile."""
        plan, process = self.plan, self.process
        stores, fixed = list(process.stores), self.fixed()
        symbols = [process.stores[name].symbol for name in stores]
        count = len(fixed) + len(stores) + len(plan.learned)
        like = f"inputs.{plan.input_group._fields[0]}"
        lines = [
            f"def reverse_{process.name}_tile(",
            "    inputs, p, start, step, out_adj, state_adj, p_adj, inputs_adj, lo, hi, shift",
            "):",
            f'    """Adjoint of `advance_{process.name}_tile`."""',
            "    n, n_steps = hi - lo, out_adj.shape[0]",
            f"    rows = tile_rows({count}, n, {like})",
        ]
        names = [*fixed, *(f"{s}_adj" for s in symbols), *(f"{s}_adj" for s in plan.learned)]
        lines += [f"    {name} = rows[{k}, :n]" for k, name in enumerate(names)]
        lines += [f"    copy_row(p.{s}[lo:hi], {s})" for s in fixed]
        for name in process.queues:
            lines += [
                f"    ordinates_{name} = tile_rows(in_fours(p.{name}.shape[0]), n, {like})",
                f"    take_columns(p.{name}, lo, hi, ordinates_{name})",
                f"    ordinates_{name}_adj = tile_rows(in_fours(p.{name}.shape[0]), n, {like})",
            ]
        # Rows that queues read in fours may stay as they begin; every other one is written before it is read.
        lines += [
            f"    {name} = {'tile' if 'in_fours' in shape else 'loose'}_rows({shape}, n, {like})"
            for name, shape in self.tape_shapes()
        ]
        for symbol in plan.series:
            lines.append(f"    {symbol}_adj = tile_rows({4 if symbol in plan.waiting else 1}, n, {like})")
        arguments = ["inputs", "p", "start", "step", "n_steps", *fixed, *self.ordinates(), *self.tapes()]
        lines += [f"    retrace_{process.name}(", f"        {signature([*arguments, 'lo', 'hi', 'shift'], 8)}", "    )"]
        for name, symbol in zip(stores, symbols, strict=True):
            lines.append(f"    copy_row(state_adj.{name}[lo:hi], {symbol}_adj)")
        for name, queue in process.queues.items():
            lines.append(
                f"    take_columns(state_adj.{name}[: p.{name}.shape[0] - 1], lo, hi, {queue.gives}[n_steps:])"
            )
        lines += self.backwards()
        for name, symbol in zip(stores, symbols, strict=True):
            lines.append(f"    copy_row({symbol}_adj, state_adj.{name}[lo:hi])")
        for name, queue in process.queues.items():
            lines += [
                f"    give_columns({queue.gives}, state_adj.{name}[: p.{name}.shape[0] - 1], lo, hi)",
                f"    state_adj.{name}[p.{name}.shape[0] - 1, lo:hi] = 0.0",
            ]
        lines += [f"    add_row(p_adj.{s}[lo:hi], {s}_adj)" for s in plan.learned]
        lines += [f"    add_columns(ordinates_{name}_adj, p_adj.{name}, lo, hi)" for name in process.queues]
        return "\n".join(lines) + "\n"

    def backwards(self) -> list[str]:
        """The steps of a tile from the last to the first."""
        plan, process = self.plan, self.process
        if plan.chunk == 1:
            lines = ["    for t in range(n_steps - 1, -1, -1):"]
            for k in reversed(range(len(self.stages))):
                lines += self.calls(k, " " * 8)
            return lines
        lines = [
            "    for first in range(in_fours(n_steps) - 4, -1, -4):", "        last = min(first + 4, n_steps)",
        ]
        queued = dict.fromkeys(q.takes for q in process.queues.values())
        for symbol in queued:
            lines += ["        for j in range(4):", f"            fill_row({symbol}_adj[j], 0.0)"]
        for before, stages in reversed(plan.segments):
            lines.append("        for t in range(last - 1, first - 1, -1):")
            for stage in reversed(stages):
                lines += self.calls(self.stages.index(stage), " " * 12)
            for name in reversed(before):
                queue = process.queues[name]
                lines.append(
                    f"        sweep_queue({queue.gives}[first:], ordinates_{name}, {queue.share!r}, {queue.takes}_adj)"
                )
        for name, queue in reversed(list(process.queues.items())):
            lines.append(
                f"        sum_ordinates({queue.gives}[first:], tape_{queue.takes}[first:], {queue.share!r}, "
                f"ordinates_{name}_adj)"
            )
        return lines

    def reverse(self) -> str:
        """The adjoint of the cells lo to hi in tiles."""
        name = self.process.name
        return "\n".join([
            f"def reverse_{name}(inputs, p, start, step, out_adj, state_adj, p_adj, inputs_adj, lo, hi, shift):",
            f'    """Adjoint of `advance_{name}` in what it gives, for one block of steps and the cells lo to hi.',
            "",
            "    start: state at the start of the block; out_adj: derivative by what is given; state_adj: adjoint of",
            "    the state at the end of the block, becomes that at its start; p_adj: added to; inputs_adj: filled.",
            '    """',
            "    width = tile_width(hi - lo, 768)",
            "    for first in range(lo, hi, width):",
            "        last = min(first + width, hi)",
            f"        reverse_{name}_tile(",
            "            inputs, p, start, step, out_adj, state_adj, p_adj, inputs_adj, first, last, shift",
            "        )",
        ]) + "\n"


__all__ = ["AdjointText", "Reverse", "cell_adjoint_loops"]
