"""A page per process, from its declaration: equations, parameters, stores, fluxes, source, and a worked example."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from make_domain import lumped_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.pet import required, takes_elevation
from bmi_cdlm.names.declaration import LIQUID_WATER, CellProcess, PetFormula, Process, ReachProcess
from bmi_cdlm.names.time_steps import DAY, STEP_NAMES
from bmi_cdlm.names.variables import variable
from bmi_cdlm.processes.catalogue import ALL_OWN, kind_of
from bmi_cdlm.processes.links import LINKS
from pages.equations import equations

TESTS = Path(__file__).resolve().parents[2] / "tests" / "processes"
KINDS = {
    "precipitation": "Precipitation", "snow": "Snow", "runoff": "Runoff", "routing": "Routing",
    "pet": "Potential evapotranspiration",
}
T = np.arange(366)
WEATHER = {
    "precipitation": np.maximum(0, 12 * np.sin(0.37 * T) + 8 * np.sin(0.051 * T + 1)),
    "potential_evapotranspiration": 2.5 + 2 * np.sin(2 * np.pi * T / 365 - 1.3),
    "air_temperature": 8 + 12 * np.sin(2 * np.pi * T / 365 - 1.7) + 6 * np.sin(0.9 * T),
}
"""The weather of the golden values: what a program of your own needs to be compared with."""
SHARED = ("bmi_cdlm.processes.", "bmi_cdlm.kernels.elementary")
"""Where equations stand that a step calls; other functions are those of mathematics."""
TOLD = (0, 1, 2, 10, 100, 200, 365)
"""Days of the worked example."""


def process_pages() -> Iterator[tuple[str, str]]:
    """A page per process of ours, and their list."""
    yield "science/processes", listing()
    for one in ALL_OWN:
        yield f"science/{one.name}", "\n".join(page(one))
    yield "science/links", "\n".join([
        "# Links", "", LINKS.title, "", *stage("From the cells into the reaches", LINKS.flow)
    ])


def listing() -> str:
    """Every process, by what a configuration chooses it as."""
    lines = ["# Processes", "", "Each is one file of `bmi_cdlm/processes`, and one page here that is made of it."]
    for kind, title in KINDS.items():
        lines += ["", f"## {title}", "", "| name | what it is | source |", "|---|---|---|"]
        lines += [f"| [`{p.name}`]({p.name}.md) | {p.title} | {p.source} |" for p in ALL_OWN if kind_of(p) == kind]
    names = "\n".join(one.name for one in ALL_OWN)
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", names, "links", "```", ""])


def page(p: Process) -> list[str]:
    """The lines of a page."""
    module = inspect.getmodule(functions(p)[0][1])
    lines = [f"# {p.name}", "", f"{p.title}.", "", f"- Chosen by `{kind_of(p)}: {p.name}`", f"- Source: {p.source}",
             f"- Code: `{module.__name__}`, version {p.version} of the process", "",
             module_text(module.__doc__), ""]
    own = functions(p)
    for title, function in (*own, *helpers(own)):
        lines += stage(title, function)
    if isinstance(p, PetFormula):
        lines += reads(p)
    else:
        lines += [*parameters(p), *(cell_tables(p) if isinstance(p, CellProcess) else reach_table(p))]
    if isinstance(p, CellProcess) and p.parameters:
        lines += example(p)
    return [*lines, *held_by(module.__name__.rpartition(".")[2])]


def functions(p: Process) -> list[tuple[str, Callable]]:
    """The functions that are the process, with a heading each."""
    if isinstance(p, PetFormula):
        return [(f"Demand at a step of {STEP_NAMES[step]}", one) for step, one in p.steps.items()] + [("Sun", p.sun)]
    before = [(f"Once before the steps: {', '.join(one.returns)}", one.step) for one in p.prepared]
    if isinstance(p, ReachProcess):
        return [("Step of a reach", p.step), ("Water in a reach", p.volume), *before]
    curves = [
        (f"{'Queue' if q.curve is None else 'Unit hydrograph'}: {name}", q.curve or q.weight)
        for name, q in p.queues.items()
    ]
    stages = [(f"Stage {k}: gives {', '.join(one.returns)}", one.step) for k, one in enumerate(p.stages, 1)]
    return [*stages, *curves, *before]


def stage(title: str, function: Callable) -> list[str]:
    """A function: its text, its equations, and its code."""
    return [
        f"## {title}", "", module_text(inspect.getdoc(function)), "", equations(function), "",
        "```{raw} html", f"<details><summary>The code of <code>{function.__name__}</code></summary>", "```", "",
        "```python", inspect.getsource(function).rstrip(), "```", "", "```{raw} html", "</details>", "```", "",
    ]


def module_text(text: str | None) -> str:
    """A docstring as Markdown; what is in backticks stays as it is, sections of our own specification are left out."""
    spans = re.split(r"(`[^`]*`)", re.sub(r"; SPEC [\d.]+|\s*\[SPEC [\d.]+\]", "", text or ""))
    return "".join(one if one.startswith("`") else re.sub(r"([*\[_<])", r"\\\1", one) for one in spans)


def helpers(functions: list[tuple[str, Callable]]) -> Iterator[tuple[str, Callable]]:
    """What the functions of a process call of those that processes share, each once, in the order of the calls."""
    seen, waiting = {one for _, one in functions}, [one for _, one in functions]
    while waiting:
        tree = ast.parse(textwrap.dedent(inspect.getsource(caller := waiting.pop(0))))
        for node in ast.walk(tree):
            called = caller.__globals__.get(node.func.id) if isinstance(node, ast.Call) and isinstance(
                node.func, ast.Name) else None
            if inspect.isfunction(called) and called not in seen and called.__module__.startswith(SHARED):
                seen.add(called)
                waiting.append(called)
                yield f"Called: {called.__name__}", called


def parameters(p: CellProcess | ReachProcess) -> list[str]:
    """A table of the parameters."""
    lines = ["## Parameters", "", "| name | symbol | units | default, daily | learned, daily | default, hourly | "
             "learned, hourly | meaning | source |", "|---|---|---|---|---|---|---|---|---|"]
    for one in p.parameters:
        ranges = [f"{r.default:g} | {r.low:g} to {r.high:g}" for r in (one.daily, one.hourly)]
        head = f"| `{one.name}` | {one.symbol} | {one.units}"
        lines.append(f"{head} | {' | '.join(ranges)} | {one.meaning} | {one.source} |")
    return [*lines, ""] if p.parameters else ["## Parameters", "", "None.", ""]


def reads(p: PetFormula) -> list[str]:
    """What a formula reads at each step."""
    lines = ["## What it reads", "", "| step | variable | units | meaning |", "|---|---|---|---|"]
    for step in p.steps:
        read = [variable(name) for name in required(p, step)]
        lines += [f"| {STEP_NAMES[step]} | `{v.short}` | {v.units} | {v.meaning} |" for v in read]
        if takes_elevation(p, step):
            lines.append(f"| {STEP_NAMES[step]} | `cell_elevation` | m | Attribute of the domain |")
    return [*lines, ""]


def cell_tables(p: CellProcess) -> list[str]:
    """Stores, constants and fluxes of a cell."""
    lines = []
    if p.stores:
        lines += ["## Stores", "", "| name | symbol | units | at a cold start | meaning |", "|---|---|---|---|---|"]
        for name, one in p.stores.items():
            start = f"{one.start:g}" + (f" {one.start_of}" if one.start_of else "")
            lines.append(f"| `{name}` | {one.symbol} | {one.units} | {start} | {one.meaning} |")
    if p.constants:
        steps = list(STEP_NAMES)
        lines += ["", "## Constants", "", f"| symbol | {' | '.join(STEP_NAMES.values())} |"]
        lines.append("|---|" + "---|" * len(steps))
        lines += [f"| {name} | {' | '.join(f'{by[s]:.10g}' if s in by else '' for s in steps)} |"
                  for name, by in p.constants.items()]
    lines += ["", "## Fluxes", "", "| name | symbol | BMI name | units | meaning |", "|---|---|---|---|---|"]
    for name, one in p.fluxes.items():
        v = variable(name)
        lines.append(f"| `{name}` | {one.symbol} | `{v.name}` | {v.units} | {v.meaning} |")
    return [*lines, ""]


def reach_table(p: ReachProcess) -> list[str]:
    """What a reach carries."""
    kind = "The step is linear in state and inflow." if p.linear else "The step is not linear in state and inflow."
    return ["## State", "", f"`{p.state}` ({p.symbol}) [{p.units}]. {kind}", ""]


def example(p: CellProcess) -> list[str]:
    """Some days of a year, parameters at their defaults, from the kernels that run."""
    operator = CellOperator(p, lumped_domain(1), DAY, np.float64, Workers(1))
    defaults = {q.name: np.array([float(q.daily.default)]) for q in p.parameters if not q.optional}
    given = operator.prepare(defaults)
    series = {name: np.ascontiguousarray(values[:, None]) for name, values in WEATHER.items()}
    series[LIQUID_WATER] = series["precipitation"]
    n = len(T)
    told = operator.plan.flux_group(*(np.empty((n, 1)) for _ in operator.plan.flux_group._fields))
    totals = operator.plan.total_group(*(np.zeros(1) for _ in operator.plan.totals)) if operator.plan.totals else None
    given_on = np.empty((n, 1))
    operator.advance(series, given, operator.start(given), given_on, totals, told)
    lines = [
        "## Golden numbers", "",
        "From the kernels, in double precision, as this page was made: one cell, parameters at their daily defaults, a "
        "cold start; precipitation P = max(0, 12 sin 0.37 t + 8 sin(0.051 t + 1)) mm d⁻¹ (as liquid water where the "
        "process reads that), potential evapotranspiration E = 2.5 + 2 sin(2π t / 365 − 1.3) mm d⁻¹, temperature "
        "T = 8 + 12 sin(2π t / 365 − 1.7) + 6 sin 0.9 t °C; t in days from 0. Values of independent programs are in "
        "the tests that are named below.", "",
        "| | " + " | ".join(f"t = {t}" for t in TOLD) + f" | sum over {n} days |", "|---|" + "---:|" * (len(TOLD) + 1),
    ]
    rows = {p.gives[0]: given_on, **{name: getattr(told, name) for name in told._fields if name != p.gives[0]}}
    for name, values in rows.items():
        days = " | ".join(f"{values[t, 0]:.9g}" for t in TOLD)
        lines.append(f"| `{name}` | {days} | {values[:, 0].sum():.10g} |")
    return [*lines, ""]


def held_by(module: str) -> list[str]:
    """The tests of a process, by what they say they hold."""
    path = TESTS / f"test_{module}.py"
    if not path.is_file():
        return []
    tests = [one.name for one in ast.parse(path.read_text(encoding="utf-8")).body
             if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
    return ["## What holds it", "", f"`tests/processes/{path.name}`:", "",
            *(f"- {name.removeprefix('test_').replace('_', ' ')}" for name in tests), "",
            "and, as for every process, `tests/processes/test_declared.py`: the dot test, water, bounds.", ""]
