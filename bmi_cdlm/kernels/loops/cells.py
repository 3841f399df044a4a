"""The loops around a process of cells, written from its declaration.

A tile is a few hundred cells whose stores stay in the caches of a core while time goes by; inside it a row function
takes all cells of one stage and one step, which is the only loop over cells: contiguous arrays, indexed from 0. Where
water passes a queue, four steps are taken through a stage, then through the queue, then through the next stage.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import Any

from bmi_cdlm.kernels import space
from bmi_cdlm.kernels.loops import queues, rows
from bmi_cdlm.kernels.loops.plan import MOST_ALIAS_CHECKS, CellPlan
from bmi_cdlm.kernels.loops.source import make_functions, signature
from bmi_cdlm.kernels.marks import uncounted
from bmi_cdlm.names.declaration import Stage

KNOWN: dict[str, Callable] = {
    f.__name__: f for f in (
        rows.copy_row, rows.fill_row, rows.add_row, rows.tile_rows, rows.in_fours, rows.up_to_four, rows.only_row,
        rows.tile_width, rows.part_of, space.loose_rows, space.part, space.row_part,
        rows.take_columns, rows.give_columns, rows.add_columns, queues.ring_length, queues.advance_queue,
        queues.unroll_queue, queues.sweep_queue, queues.sum_ordinates,
    )
}


@cache
def cell_loops(plan: CellPlan) -> types.SimpleNamespace:
    """Return the forward loops of a process: `advance`, and the row of every stage by its name.

    `narrow` is `advance` for few cells whose fluxes are asked for, with the same bits: they are told at every step,
    also where only the last one's is asked for, and rows that tell nothing are not compiled.
    """
    process = plan.process
    loops = [make(plan, narrow=narrow) for narrow in (False, True) for make in (tile_text, advance_text)]
    text = "\n\n".join([row_text(plan, stage) for stage in process.stages] + loops)
    known: dict[str, Any] = KNOWN | {stage.step.__name__: stage.step for stage in process.stages}
    made = make_functions(text, f"loops of {title(plan)}", known)
    advance, narrow = (loop_name(plan, narrow=kind) for kind in (False, True))
    for tile in (f"{advance}_tile", f"{narrow}_tile"):
        uncounted(made[tile])
    return types.SimpleNamespace(**made, advance=made[advance], narrow=made[narrow])


def loop_name(plan: CellPlan, *, narrow: bool) -> str:
    """What the loop over cells is called."""
    return f"advance_{'narrow_' if narrow else ''}{plan.process.name}"


def title(plan: CellPlan) -> str:
    """What a generated text is called in tracebacks."""
    return plan.process.name + "".join(f", {name} varying" for name in plan.varying)


def value_of(plan: CellPlan, symbol: str) -> str:
    """A symbol as the scalar step takes it, in a loop over i."""
    if symbol in plan.numbers:
        return f"step.{symbol}"
    if symbol in plan.inputs:
        factor = f" * {plan.factors[symbol]}[i]" if symbol in plan.factors else ""
        kind = plan.process.inputs[plan.inputs[symbol]].kind
        return f"{symbol}[i]{factor}" + (" * step.days" if kind == "rate" else "")
    return f"{symbol}[i]"


def row_inputs(plan: CellPlan, stage: Stage) -> list[str]:
    """Arrays that a row of a stage reads, factors of its inputs among them."""
    found = []
    for symbol in plan.takes(stage):
        if symbol not in plan.numbers:
            found.append(symbol)
        if symbol in plan.factors:
            found.append(plan.factors[symbol])
    return found


def row_outputs(plan: CellPlan, stage: Stage) -> list[str]:
    """Arrays that a row of a stage fills beside stores: what it hands on, what the process gives, what is taped."""
    return [r for r in stage.returns if r in plan.series or r == plan.gives or is_kept(plan, stage, r)]


def is_kept(plan: CellPlan, stage: Stage, symbol: str) -> bool:
    """Whether a returned symbol is there for the tape only."""
    return symbol in stage.kept and symbol not in plan.stores and symbol not in plan.series


def told(plan: CellPlan, stage: Stage) -> list[tuple[str, str]]:
    """Fluxes that a row of a stage tells, and the value of each."""
    values = []
    for name, symbol in plan.fluxes_of(stage).items():
        if symbol == plan.gives:
            continue
        value = f"{symbol}_" if symbol in stage.returns else f"{symbol}[i]"
        rate = plan.process.fluxes[name].kind == "rate"
        values.append((f"{name}_flux", f"{value} * step.per_day" if rate else value))
    for name, symbol in plan.corrected_of(stage).items():
        values.append((f"{name}_flux", f"{symbol}[i] * {plan.factors[symbol]}[i]"))
    return values


def row_text(plan: CellPlan, stage: Stage) -> str:
    """A row of a stage: stores in place; totals, fluxes and the tape's rows may be None, which compiles other code."""
    name, returned = plan.stage_name(stage), [f"{r}_" for r in stage.returns]
    totals, fluxes = plan.totals_of(stage), told(plan, stage)
    arguments = [*row_inputs(plan, stage), "step", *row_outputs(plan, stage)]
    added = list(dict.fromkeys(total for total, _ in totals))
    arguments += [*(["rain"] if ("precipitation_total", "rain") in totals else []), *added, *(f for f, _ in fluxes)]
    lines = [
        f"def {name}_row({signature(arguments)}):",
        f'    """{stage.step.__name__} of a row of cells, in place."""',
        f"    for i in range({row_inputs(plan, stage)[0]}.size):",
        f"        {', '.join(returned)} = {stage.step.__name__}(",
        f"            {signature([value_of(plan, a) for a in plan.takes(stage)], 12)}",
        "        )",
    ]
    for symbol in stage.returns:
        if symbol in plan.stores:
            lines.append(f"        {symbol}[i] = {symbol}_")
        elif symbol == plan.gives:
            lines.append(f"        {symbol}[i] = {symbol}_" + ("" if plan.process.gives_rate else " * step.per_day"))
        elif symbol in plan.series:
            lines.append(f"        {symbol}[i] = {symbol}_")
        elif is_kept(plan, stage, symbol):
            lines += [f"        if {symbol} is not None:", f"            {symbol}[i] = {symbol}_"]
    if totals:
        lines.append(f"        if {added[0]} is not None:")
        for total, symbol in totals:
            value = "rain[i] * step.days" if symbol == "rain" else f"{total_value(plan, stage, symbol)} * step.days"
            lines.append(f"            {total}[i] += {value}")
    if fluxes:
        lines.append(f"        if {fluxes[0][0]} is not None:")
        lines += [f"            {flux}[i] = {value}" for flux, value in fluxes]
    return "\n".join(lines) + "\n"


def total_value(plan: CellPlan, stage: Stage, symbol: str) -> str:
    """A flux [mm d-1] that a total adds up."""
    value = f"{symbol}_" if symbol in stage.returns else f"{symbol}[i]"
    return value if symbol == plan.gives and plan.process.gives_rate else value + " * step.per_day"


def row_call(plan: CellPlan, stage: Stage, t: str, *, telling: bool, indent: str, tape: bool = False) -> list[str]:
    """The call of a row at step t of a tile."""
    name = plan.stage_name(stage)
    given = []
    for symbol in row_inputs(plan, stage):
        if symbol in plan.inputs or symbol in plan.varying_symbols or symbol in plan.factors.values():
            given.append(f"row_part(inputs.{symbol}, t, lo - shift, hi - shift)")
        elif symbol in plan.queue_of:
            given.append(f"row_part({symbol}, {t}, 0, n)")
        elif symbol in plan.series:
            given.append(series_row(plan, symbol, tape))
        else:
            given.append(symbol)
    given.append("step")
    for symbol in row_outputs(plan, stage):
        if symbol == plan.gives:
            given.append("waste" if tape else f"{symbol}")
        elif symbol in plan.series:
            given.append(series_row(plan, symbol, tape))
        else:
            given.append(f"row_part(tape_{symbol}, t, 0, n)" if tape else "None")
    totals = plan.totals_of(stage)
    if ("precipitation_total", "rain") in totals:
        given.append("None" if tape else "rain")
    added = dict.fromkeys(total for total, _ in totals)
    given += ["None" if tape else total for total in added]
    given += [flux_row(flux) if telling else "None" for flux, _ in told(plan, stage)]
    return [f"{indent}{name}_row(", f"{indent}    {signature(given, len(indent) + 4)}", f"{indent})"]


def flux_row(flux: str) -> str:
    """The row of a flux at step t: of a series, or the one row that there is."""
    name = f"fluxes.{flux.removesuffix('_flux')}"
    return f"row_part({name}, only_row({name}.shape[0], t), lo, hi)"


def series_row(plan: CellPlan, symbol: str, tape: bool) -> str:
    """Where what a stage hands on lies at step t."""
    if tape:
        return f"row_part(tape_{symbol}, {'t' if symbol in plan.reread else '0'}, 0, n)"
    return f"row_part({symbol}, {'t - first' if symbol in plan.waiting else '0'}, 0, n)"


def tile_symbols(plan: CellPlan) -> tuple[list[str], ...]:
    """What has rows in a tile: stores, fixed parameters, what stages hand on, and what waits for a queue in fours."""
    fixed = [s for s in plan.parameter_group._fields if s not in plan.process.queues and used_forward(plan, s)]
    single = [s for s in plan.series if s not in plan.waiting]
    return list(plan.process.stores), fixed, single, [s for s in plan.series if s in plan.waiting]


def tile_totals(plan: CellPlan) -> list[str]:
    """Totals that the rows of a tile add to."""
    return list(dict.fromkeys(total for stage in plan.process.stages for total, _ in plan.totals_of(stage)))


def tile_text(plan: CellPlan, *, narrow: bool) -> str:
    """A tile of cells over all steps."""
    process = plan.process
    stores, fixed, single, fours = tile_symbols(plan)
    count = len(stores) + len(fixed) + len(single)
    given = ["inputs", "p", "state", *tile_totals(plan), "fluxes", "out", "step", "rows", "lo", "hi", "shift"]
    lines = [
        f"def {loop_name(plan, narrow=narrow)}_tile(",
        f"    {signature(given)}",
        "):",
        '    """All steps of some hundred cells, whose stores stay in the caches of a core while time goes by."""',
        "    n, n_steps = hi - lo, out.shape[0]",
        "    for t in range(rows.shape[0]):",
        "        fill_row(rows[t], 0.0)",
    ]
    for k, name in enumerate(stores):
        symbol = process.stores[name].symbol
        lines += [f"    {symbol} = row_part(rows, {k}, 0, n)", f"    copy_row(part(state.{name}, lo, hi), {symbol})"]
    for k, symbol in enumerate(fixed, len(stores)):
        lines += [f"    {symbol} = row_part(rows, {k}, 0, n)", f"    copy_row(part(p.{symbol}, lo, hi), {symbol})"]
    for k, symbol in enumerate(single, len(stores) + len(fixed)):
        lines.append(f"    {symbol} = rows[{k} : {k + 1}]")
    for k, symbol in enumerate(fours):
        lines.append(f"    {symbol} = rows[{count} + {k} * up_to_four(n_steps) :]")
    if process.queues:
        lines.append(f"    place = {count} + {len(fours)} * up_to_four(n_steps)")
    for name in process.queues:
        lines += [
            f"    places_{name} = p.{name}.shape[0]",
            f"    ordinates_{name} = rows[place : place + in_fours(places_{name})]",
            f"    place += in_fours(places_{name})",
            f"    ring_{name} = rows[place : place + ring_length(places_{name}, n_steps)]",
            f"    place += ring_length(places_{name}, n_steps)",
            f"    take_columns(state.{name}[: places_{name} - 1], lo, hi, ring_{name})",
            f"    take_columns(p.{name}, lo, hi, ordinates_{name})",
        ]
    if plan.flux_group._fields and not narrow:
        every = " or ".join(f"fluxes.{name}.shape[0] > 1" for name in plan.flux_group._fields)
        lines += ["    every = False", "    if fluxes is not None:", f"        every = {every}"]
    if plan.chunk > 1:
        lines += [
            "    for first in range(0, n_steps, 4):", "        last = first + 4 if first + 4 < n_steps else n_steps",
        ]
        for before, stages in plan.segments:
            for name in before:
                queue = process.queues[name]
                # Not carried on from 0: numba would compile what takes it for a literal, and once more for a number.
                lines += [
                    f"        head_{name} = first % ring_{name}.shape[0]",
                    "        advance_queue(",
                    f"            ring_{name}, head_{name}, ordinates_{name}, places_{name}, {queue.takes},",
                    f"            last - first, {queue.share!r},",
                    "        )",
                    f"        {queue.gives} = ring_{name}[head_{name} : head_{name} + last - first]",
                ]
            lines.append("        for t in range(first, last):")
            lines += step_text(plan, stages, "t - first", " " * 12, narrow=narrow)
    else:
        lines.append("    for t in range(n_steps):")
        lines += step_text(plan, list(process.stages), "0", " " * 8, narrow=narrow)
    for name in stores:
        lines.append(f"    copy_row({process.stores[name].symbol}, part(state.{name}, lo, hi))")
    for name in process.queues:
        lines.append(f"    unroll_queue(ring_{name}, n_steps % ring_{name}.shape[0], state.{name}, lo, hi)")
    return "\n".join(lines) + "\n"


def used_forward(plan: CellPlan, symbol: str) -> bool:
    """Whether a stage takes a symbol."""
    return any(symbol in plan.takes(stage) for stage in plan.process.stages)


def step_text(plan: CellPlan, stages: list[Stage], t: str, indent: str, *, narrow: bool) -> list[str]:
    """One step of a segment's stages; fluxes are told at every step, or at the last one only."""
    lines = []
    for stage in stages:
        if ("precipitation_total", "rain") in plan.totals_of(stage):
            lines.append(f"{indent}rain = row_part(inputs.rain, t, lo - shift, hi - shift)")
        if plan.gives in stage.returns:
            lines.append(f"{indent}{plan.gives} = row_part(out, t, lo, hi)")
        if narrow or not told(plan, stage):
            lines += row_call(plan, stage, t, telling=narrow, indent=indent)
            continue
        deeper = indent + "    "
        quiet_deep = row_call(plan, stage, t, telling=False, indent=deeper)
        deepest = deeper + "    "
        lines += [
            f"{indent}if fluxes is None:", *quiet_deep, f"{indent}else:",
            f"{deeper}if every or t + 1 == n_steps:",
            *row_call(plan, stage, t, telling=True, indent=deepest),
            f"{deeper}else:", *row_call(plan, stage, t, telling=False, indent=deepest),
        ]
    return lines


def advance_text(plan: CellPlan, *, narrow: bool) -> str:
    """The cells lo to hi in tiles."""
    process, name = plan.process, loop_name(plan, narrow=narrow)
    places = " + ".join(f"p.{name}.shape[0]" for name in process.queues) or "0"
    *one_each, fours = tile_symbols(plan)
    count = [str(sum(map(len, one_each))), *([f"{len(fours)} * up_to_four(n_steps)"] if fours else []), *(
        f"in_fours(p.{name}.shape[0]) + ring_length(p.{name}.shape[0], n_steps)" for name in process.queues
    )]
    given = ["inputs", "p", "state", *tile_totals(plan), "fluxes", "out", "step", "rows", "first", "last", "shift"]
    return "\n".join([
        f"def {name}(inputs, p, state, totals, fluxes, out, step, lo, hi, shift):",
        f'    """{process.title}: the cells lo to hi over all steps.',
        "",
        "    State and totals (all None, or all there) are advanced in place, fluxes (or None) and `out` filled; after",
        "    a step, place 0 of a queue is water that leaves with the next. shift: by so many columns the inputs lie",
        "    before the cells.",
        '    """',
        f"    width, n_steps = tile_width(hi - lo, 1024 if {places} <= 24 else 768), out.shape[0]",
        # Of one piece, so that rows differ in where they lie in the cache.
        f"    rows = loose_rows({' + '.join(count)}, width, out)",
        "    for first in range(lo, hi, width):",
        "        last = first + width if first + width < hi else hi",
        *(f"        {total} = part_of(totals.{total}, first, last)" for total in tile_totals(plan)),
        f"        {name}_tile(",
        f"            {signature(given, 12)}",
        "        )",
    ]) + "\n"


def alias_checks(written: int, read: int) -> int:
    """Pairs of arrays that a loop must prove apart before it can be taken in vectors."""
    return written * read + written * (written - 1) // 2


__all__ = ["MOST_ALIAS_CHECKS", "alias_checks", "cell_loops"]
