"""The kernels of a process of cells on a CUDA device, written from its declaration: time inside a thread.

Arrays are as on the host, [time, cell] and [place, cell], so that neighbouring threads read neighbouring numbers. A
thread takes one cell, or one component of it, through all steps, with its stores in registers; queues are rings in the
device's memory. The adjoint recomputes blocks of steps from the states at their starts, with a tape of one block of
what the adjoints of the stages read, all in one launch; the adjoints of parameters are summed over a block in the
kernel's precision and over blocks in float64. Where inputs lie [time, cell], units are [component * cell].
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

import numpy as np
from numba import cuda
from numpy import float64 as real  # the factory puts the compiled precision in its place

from bmi_cdlm.kernels.device import rings
from bmi_cdlm.kernels.loops.cells import title
from bmi_cdlm.kernels.loops.cells_adjoint import AdjointText
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.source import make_functions, signature
from bmi_cdlm.names.declaration import CellProcess, Stage

KNOWN: dict[str, Any] = {
    f.__name__: f for f in (
        rings.pass_ring, rings.unroll_ring, rings.roll_ring, rings.sweep_ring, rings.clear_places, rings.add_places,
    )
} | {"cuda": cuda, "np": np, "real": real}


@cache
def cell_kernels(process: CellProcess, varying: tuple[str, ...]) -> types.SimpleNamespace:
    """Return the kernels of a process: `advance` and `reverse`, and the rows of the tape of the second, `n_taped`."""
    writer = KernelText(CellPlan(process, varying))
    known = KNOWN | {stage.step.__name__: stage.step for stage in process.stages}
    known |= {writer.adjoint.step_name(k): r.function for k, r in writer.plan.reverses.items()}
    made = make_functions(
        "\n\n".join([writer.advance(), writer.reverse()]), f"kernels of {title(writer.plan)} on a device", known
    )
    return types.SimpleNamespace(
        advance=made[f"advance_{process.name}"], reverse=made[f"reverse_{process.name}"], n_taped=len(writer.tape)
    )


def arguments_of(kernel: types.FunctionType, known: Mapping[str, Any]) -> list[Any]:
    """What a kernel takes, in its order, of what there is: a kernel takes no group without a member."""
    return [known[name] for name in inspect.signature(kernel).parameters]


class KernelText:
    """Writes the kernels of a process."""

    def __init__(self, plan: CellPlan) -> None:
        self.plan, self.process, self.adjoint = plan, plan.process, AdjointText(plan)
        self.stages, self.queues = list(plan.process.stages), plan.process.queues

    # ---- one step ----------------------------------------------------------------------------------------

    def value(self, symbol: str) -> str:
        """A symbol as the scalar step takes it, at step t of unit i, whose inputs are those of cell j."""
        plan = self.plan
        if symbol in plan.numbers:
            return f"step.{symbol}"
        if symbol in plan.varying_symbols:
            return f"inputs.{symbol}[t, j]"
        if symbol in plan.inputs:
            factor = f" * inputs.{plan.factors[symbol]}[t, j]" if symbol in plan.factors else ""
            rate = plan.process.inputs[plan.inputs[symbol]].kind == "rate"
            return f"inputs.{symbol}[t, j]{factor}" + (" * step.days" if rate else "")
        return symbol

    def passed(self, stage: Stage) -> list[str]:
        """Queues that are passed before a stage."""
        return [self.plan.queue_of[a] for a in self.plan.takes(stage) if a in self.plan.queue_of]

    def take(self, stage: Stage, indent: str) -> list[str]:
        """Pass the queues before a stage, and take it; stores and what is handed on are locals by their symbols."""
        plan, lines = self.plan, []
        for name in self.passed(stage):
            queue = self.queues[name]
            water = f"ring_{name}, head_{name}, p.{name}, {queue.share!r} * {queue.takes}, i"
            lines.append(f"{indent}{queue.gives} = pass_ring({water})")
        named = {*plan.stores, *plan.series, plan.gives, *self.adjoint.kept(self.stages.index(stage))}
        returned = [r if r in named else f"{r}_" for r in stage.returns]
        values = signature([self.value(a) for a in plan.takes(stage)], len(indent) + 4)
        return [
            *lines, f"{indent}{', '.join(returned)} = {stage.step.__name__}(", f"{indent}    {values}", f"{indent})",
        ]

    def move_heads(self, indent: str) -> list[str]:
        """The places that leave with the next step."""
        return [
            f"{indent}head_{name} = head_{name} + 1 if head_{name} + 1 < ring_{name}.shape[0] else 0"
            for name in self.queues
        ]

    def begin(self, symbols: list[str]) -> list[str]:
        """A thread's unit and cell, and the parameters of these symbols."""
        column = f"inputs.{self.plan.input_group._fields[0]}"
        return [
            "    i = cuda.grid(1)", "    if i >= n:", "        return", f"    j = i % {column}.shape[1]",
            *(f"    {symbol} = p.{symbol}[i]" for symbol in symbols),
        ]

    def load(self, group: str, index: str, indent: str, place: str = "") -> list[str]:
        """Stores and queues out of a group."""
        lines = [f"{indent}{s} = {group}.{name}[{index}i]" for s, name in self.plan.stores.items()]
        for name in self.queues:
            lines += [f"{indent}head_{name} = 0", f"{indent}roll_ring({group}.{name}{place}, 0, ring_{name}, i)"]
        return lines

    def save(self, group: str, index: str, indent: str, place: str = "") -> list[str]:
        """Stores and queues into a group."""
        lines = [f"{indent}{group}.{name}[{index}i] = {s}" for s, name in self.plan.stores.items()]
        return lines + [
            f"{indent}unroll_ring(ring_{name}, head_{name}, {group}.{name}{place}, i)" for name in self.queues
        ]

    def heading(self, name: str, arguments: list[str], document: list[str]) -> list[str]:
        """The first lines of a kernel."""
        return [f"def {name}_{self.process.name}(", f"    {signature(arguments)}", "):", *document]

    def present(self, **groups: tuple[str, ...]) -> list[str]:
        """Names of the groups that have a member."""
        return [name for name, fields in groups.items() if fields]

    # ---- forward -----------------------------------------------------------------------------------------

    def advance(self) -> str:
        """The kernel of all steps."""
        plan, states = self.plan, self.plan.state_group._fields
        used = {a for stage in self.stages for a in plan.takes(stage)}
        fixed = [s for s in plan.parameter_group._fields if s in used]
        arguments = [
            "inputs", *self.present(p=plan.parameter_group._fields, state=states, starts=states),
            *(f"ring_{name}" for name in self.queues), "step", "block", "n", "out",
        ]
        lines = self.heading("advance", arguments, [
            f'    """{self.process.title}: n units over all steps; `state` in place.',
            "",
            "    starts: the state before every `block` steps, filled; rings: working space; out: float[time, unit].",
            '    """',
        ]) + self.begin(fixed) + (self.load("state", "", "    ") if states else [])
        lines.append("    for t in range(out.shape[0]):")
        if states:
            lines.append("        if t % block == 0:")
            lines += self.save("starts", "t // block, ", " " * 12, "[t // block]")
        for stage in self.stages:
            lines += self.take(stage, " " * 8)
        given = plan.gives if plan.process.gives_rate else f"{plan.gives} * step.per_day"
        lines += [f"        out[t, i] = {given}", *self.move_heads(" " * 8)]
        return "\n".join(lines + self.save("state", "", "    ")) + "\n"

    # ---- adjoint -----------------------------------------------------------------------------------------

    @cached_property
    def after(self) -> list[str]:
        """Stores whose value after a stage its adjoint reads: no other stage takes them."""
        return [s for k in range(len(self.stages)) for s, after in self.adjoint.taped_stores(k) if after]

    @cached_property
    def tape(self) -> dict[str, int]:
        """Rows of the tape by name: stores before a stage, what the adjoints read of results, inflows of queues."""
        names = [name for k in range(len(self.stages)) for name in (*self.taped_before(k).values(), *self.taped(k))]
        return {name: row for row, name in enumerate(dict.fromkeys(names))}

    def taped_before(self, k: int) -> dict[str, str]:
        """Row of the tape of each store that the adjoint of stage k reads as it was before the stage."""
        return {s: self.adjoint.tape_of(s, k) for s, _ in self.adjoint.taped_stores(k)}

    def taped(self, k: int) -> list[str]:
        """Results of stage k on the tape, and what its queues give: what an adjoint or the ordinates read."""
        plan, stage = self.plan, self.stages[k]
        read = {a for r in plan.reverses.values() for a in r.takes} | plan.queued
        results = [s for s in (*self.adjoint.kept(k), *plan.series) if s in stage.returns and s in read]
        return results + [a for a in plan.takes(stage) if a in plan.queue_of and a in read]

    def reverse(self) -> str:
        """The adjoint kernel."""
        plan = self.plan
        fixed = [s for s in plan.parameter_group._fields if s not in self.queues]
        adjoints, states = plan.adjoint_group._fields, plan.state_group._fields
        rings_ = [a for name in self.queues for a in (f"ring_{name}", f"ring_{name}_adj", f"sums_{name}")]
        arguments = [
            "inputs", *self.present(p=plan.parameter_group._fields, starts=states), *rings_,
            *self.present(tape=tuple(self.tape)), "step", "block", "per_day", "n", "out_adj",
            *self.present(state_adj=states, p_adj=adjoints, inputs_adj=plan.input_adjoints),
        ]
        lines = self.heading("reverse", arguments, [
            f'    """Adjoint of `advance_{self.process.name}` in what it gives.',
            "",
            "    out_adj: float[time, cell], or [time, unit]; per_day: steps in a day, or the share of them that a",
            "    component has in what its cell gives;",
            "    rings, sums (of the ordinates' adjoints over a block), tape: float[row, block, unit]: working space;",
            "    state_adj: at the end of the period, becomes that at its start; p_adj: of float64, set; inputs_adj:",
            "    float[time, unit], filled where there is a row for each step.",
            '    """',
        ]) + self.begin(fixed) + self.begin_adjoint()
        lines += ["    for first in range((n_steps - 1) // block * block, -1, -block):",
                  "        last = min(first + block, n_steps)", *self.retrace(), *self.sweep()]
        lines += [f"        total_{s} += sum_{s}" for s in plan.learned]
        lines += [f"        add_places(p_adj.{name}, sums_{name}, i)" for name in self.queues]
        return "\n".join(lines + self.end_adjoint()) + "\n"

    def begin_adjoint(self) -> list[str]:
        """Adjoints of the state at the end, and of what can be learned."""
        lines = ["    n_steps = out_adj.shape[0]", "    given_at = i % out_adj.shape[1]"]
        lines += [f"    {s}_adj = state_adj.{name}[i]" for s, name in self.plan.stores.items()]
        lines += [f"    total_{s} = np.float64(0)" for s in self.plan.learned]
        for name in self.queues:
            lines += [
                f"    roll_ring(state_adj.{name}, n_steps % ring_{name}.shape[0], ring_{name}_adj, i)",
                f"    clear_places(p_adj.{name}, i)",
            ]
        return lines

    def end_adjoint(self) -> list[str]:
        """Hand them out."""
        lines = [f"    state_adj.{name}[i] = {s}_adj" for s, name in self.plan.stores.items()]
        lines += [f"    unroll_ring(ring_{name}_adj, 0, state_adj.{name}, i)" for name in self.queues]
        return lines + [f"    p_adj.{s}[i] = total_{s}" for s in self.plan.learned]

    def retrace(self) -> list[str]:
        """Run a block forward again and fill the tape."""
        if not self.tape:
            return []
        lines, deep = self.load("starts", "first // block, ", " " * 8, "[first // block]"), " " * 12
        lines.append("        for t in range(first, last):")
        for k, stage in enumerate(self.stages):
            lines += [f"{deep}{self.at(name)} = {s}" for s, name in self.taped_before(k).items()]
            lines += self.take(stage, deep)
            lines += [f"{deep}{self.at(name)} = {name}" for name in self.taped(k)]
        lines += self.move_heads(deep)
        return lines + [f"        {s}_after = {s}" for s in self.after]

    def at(self, name: str) -> str:
        """The place of a row of the tape at step t."""
        return f"tape[{self.tape[name]}, t - first, i]"

    def sweep(self) -> list[str]:
        """The steps of a block from the last to the first."""
        plan, deep = self.plan, " " * 12
        lines = [f"        sum_{s} = real(0)" for s in plan.learned]
        lines += [f"        clear_places(sums_{name}, i)" for name in self.queues]
        lines.append("        for t in range(last - 1, first - 1, -1):")
        returned = {s for r in plan.reverses.values() for s in r.returns}
        unset = [s for s in plan.series if s in plan.queued or s not in returned]
        lines += [f"{deep}{s}_adj = real(0)" for s in unset]
        for k in reversed(range(len(self.stages))):
            lines += self.back(k, deep)
        for symbol in plan.input_adjoints:
            lines += [
                f"{deep}if inputs_adj.{symbol}.shape[0] > 0:", f"{deep}    inputs_adj.{symbol}[t, i] = {symbol}_adj",
            ]
        return lines

    def back(self, k: int, indent: str) -> list[str]:
        """The adjoint of a stage and of the queues before it, at step t."""
        plan, stage, reverse = self.plan, self.stages[k], self.plan.reverses[k]
        lines = [f"{indent}{s} = {self.at(name)}" for s, name in self.taped_before(k).items()]
        read = [a for a in reverse.takes if a in self.tape]
        read += [self.queues[name].takes for name in self.passed(stage)]
        lines += [f"{indent}{a} = {self.at(a)}" for a in dict.fromkeys(read) if a not in plan.stores]
        given = signature([self.adjoint_value(a) for a in reverse.takes], len(indent) + 4)
        lines += [
            f"{indent}{', '.join(f'd_{s}' for s in reverse.returns)} = {self.adjoint.step_name(k)}(",
            f"{indent}    {given}", f"{indent})",
            *(f"{indent}{self.handed(k, s)}" for s in reverse.returns if s not in plan.queue_of),
        ]
        for name in reversed(self.passed(stage)):
            queue = self.queues[name]
            head = f"t % ring_{name}.shape[0]"
            value = f"d_{queue.gives}" if queue.gives in reverse.returns else "real(0)"
            lines += [
                f"{indent}ring_{name}_adj[{head}, i] = {value}",
                f"{indent}{queue.takes}_adj = sweep_ring(",
                f"{indent}    ring_{name}_adj, {head}, p.{name}, {queue.takes}, {queue.share!r}, {queue.takes}_adj,",
                f"{indent}    sums_{name}, i,", f"{indent})",
            ]
        return lines + [f"{indent}{s}_after = {s}" for s in self.taped_before(k) if s in self.after]

    def adjoint_value(self, symbol: str) -> str:
        """A symbol as the adjoint of a stage takes it."""
        return "out_adj[t, given_at] * per_day" if symbol == f"{self.plan.gives}_adj" else self.value(symbol)

    def handed(self, k: int, symbol: str) -> str:
        """Where the adjoint of a symbol goes: parameters are summed, of others the first to come sets, the rest add."""
        plan = self.plan
        if symbol in plan.fixed:
            return f"sum_{symbol} += d_{symbol}"
        value = f"d_{symbol}"
        if symbol in plan.inputs and plan.process.inputs[plan.inputs[symbol]].kind == "rate":
            value += " * step.days"
        return f"{symbol}_adj {'+=' if self.adjoint.adds(k, symbol) else '='} {value}"
