"""One measurement of one checkout, in a process of its own: what `against.py` starts, old and new in turn.

    python against_child.py GROUP CHECKOUT [OPTIONS AS JSON]

It imports the benchmark scripts of the checkout itself and runs them with fewer repeats. It times their cases in place
of `timing.interleave`; where a script has no such thing, it reads the tables that the script prints. One line of JSON
goes out at the end: time by row, the best of the repeats, in units of `UNITS`.
"""

from __future__ import annotations

import importlib
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

MARK = "AGAINST "
"""What the line of results begins with: scripts may print whatever else they like."""
Times = dict[str, float]
NANO, MICRO, SECOND = "ns", "us", "s"
UNITS = {"forward": NANO, "gradient": NANO, "bmi": MICRO, "national": SECOND, "cold": SECOND}
"""Per cell-step or reach-step; per update, or per initialize; whole."""
RATE = "10⁶ per second"


def number(text: str) -> float:
    """The first number of a cell, such as 1,234 (1,200–1,300)."""
    return float(text.split("(")[0].replace(",", "").strip())


def best_rate(text: str) -> float:
    """The greatest of `median (least–greatest)`, or the number alone."""
    if "(" not in text:
        return number(text)
    return number(text.split("(")[1].rstrip(") ").replace("-", "–").split("–")[-1])


def row_name(name: str, precision: str, threads: int) -> str:
    return f"{name}, {precision}, {threads} core{'s' if threads > 1 else ''}"


def times_of_tables(group: str, tables: list[dict]) -> Times:
    """Times of every row of printed tables, by the headings that are known; others are passed over."""
    found: Times = {}
    for table in tables:
        for cells in table["rows"]:
            row = dict(zip(table["headings"], cells, strict=True))
            if RATE in row:
                found[row_name(row["what runs"], row["precision"], int(row["cores"]))] = 1e3 / best_rate(row[RATE])
            elif "update [us]" in row:
                found[f"update, {row['model']}, by {row['call']}"] = number(row["update [us]"])
            elif "steps/s" in row:
                found[f"many catchments, {row['model']}: step"] = 1e6 / number(row["steps/s"])
                found[f"many catchments, {row['model']}: initialize"] = 1e3 * number(row["initialize [ms]"])
            elif group == "national" and row.get("part") == "runoff, routing, output":
                found["runoff, routing, output"] = number(row["seconds"])
    return found


def capture_tables() -> list[dict]:
    """Let rich's console hand over its tables as cells, and print nothing."""
    from rich.console import Console
    from rich.table import Table

    tables: list[dict] = []

    def take(self: Any, *things: object, **options: object) -> None:
        for table in (thing for thing in things if isinstance(thing, Table)):
            rows = list(zip(*(column.cells for column in table.columns), strict=True))
            tables.append({"headings": [str(column.header) for column in table.columns], "rows": rows})

    Console.print = take  # type: ignore[method-assign]
    return tables


def capture_rates() -> Times:
    """Take the place of `timing.interleave`, and hand over the best rate of every case.

    Cases of one thread are timed by the processor's clock, from which other programs do not take; others by the wall's.
    """
    found: Times = {}
    try:
        timing = importlib.import_module("timing")
        assert callable(timing.interleave)
    except (ImportError, AttributeError):
        return found

    def interleave(cases: Any, repeats: int) -> list[np.ndarray]:
        rates = np.empty((len(cases), repeats))
        for k in range(-1, repeats):
            for rate, case in zip(rates, cases, strict=True):
                clock = time.process_time if case.threads == 1 else time.perf_counter
                if case.threads > 1:
                    case.run()  # threads that sleep through the other cases may wake up on one core
                begin = clock()
                case.run()
                rate[k] = case.work / (clock() - begin)  # that of round -1 is overwritten by the last
        for case, rate in zip(cases, rates, strict=True):
            found[row_name(case.name, case.precision, case.threads)] = 1e9 / float(rate.max())
        return list(rates)

    timing.interleave = interleave
    return found


def light(call: Callable[..., object], make: Callable[[], tuple]) -> None:
    """Call with fewer repeats, or as it is where a script takes them otherwise."""
    try:
        arguments = make()
    except (TypeError, AttributeError):
        arguments = ()
    call(*arguments)


def measure_forward(options: dict) -> Times:
    rates, tables = capture_rates(), capture_tables()
    forward = importlib.import_module("forward")
    light(forward.main, lambda: (forward.Sizes(repeats=options["repeats"], **options.get("sizes", {})),))
    return rates or times_of_tables("forward", tables)


def measure_gradient(options: dict) -> Times:
    rates, tables = capture_rates(), capture_tables()
    gradient = importlib.import_module("gradient")
    light(gradient.main, lambda: (options.get("steps", gradient.STEPS), options["repeats"]))
    return rates or times_of_tables("gradient", tables)


def measure_bmi(options: dict) -> Times:
    """By the processor's clock: all of it runs on one thread.

    Tables round to whole microseconds: the medians of the calls are taken before that, if they can be.
    """
    tables = capture_tables()
    bmi = importlib.import_module("bmi")
    medians: list[float] = []
    bmi.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]
    if hasattr(bmi, "median_us"):
        median = bmi.median_us
        bmi.median_us = lambda *a, **k: medians.append(median(*a, **k)) or medians[-1]
    light(bmi.main, lambda: (bmi.Sizes(**options.get("sizes", {"updates": 1500, "instances": 150})),))
    found = times_of_tables("bmi", tables)
    updates = [name for name in found if name.startswith("update")]
    if len(medians) == 2 * len(updates):
        exact = dict(zip(updates, medians[::2], strict=True))
        found |= {name: value for name, value in exact.items() if abs(value - found[name]) <= 1}
    return found


def measure_national(options: dict) -> Times:
    tables = capture_tables()
    national = importlib.import_module("national")
    found: Times = {}
    show = national.show

    def take(result: Any) -> None:
        show(result)
        found["runoff, routing, output"] = result.run - result.weather
        found["processor, weather included"] = result.processor

    national.show = take
    arguments = ["year", "--reaches", str(options["reaches"]), "--days", str(options["days"])]
    national.main(arguments, standalone_mode=False)
    return found or times_of_tables("national", tables)


def measure_cold(options: dict) -> Times:
    """Processor time of this process up to the end of its first update; the folder of kernels is empty."""
    from bmi_cdlm import BmiCdlm

    component = BmiCdlm()
    component.initialize(options["config"])
    component.update()
    used = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    component.finalize()
    return {options["name"]: sum(u.ru_utime + u.ru_stime for u in used)}


MEASURES = {
    "forward": measure_forward, "gradient": measure_gradient, "bmi": measure_bmi, "national": measure_national,
    "cold": measure_cold,
}


def results_in(text: str) -> Iterator[Times]:
    """What lines of output of this script say."""
    for line in text.splitlines():
        if line.startswith(MARK):
            yield json.loads(line.removeprefix(MARK))


def main(group: str, checkout: str, options: str = "{}") -> None:
    """Measure, and print the line of results."""
    root = Path(checkout).resolve()
    sys.path[:] = [str(root / "benchmarks"), str(root), str(root / "training")] + [
        p for p in sys.path[1:] if Path(p or ".").resolve() != root
    ]
    sys.modules["smash"] = None  # type: ignore[assignment]  # a peer that is no part of the comparison
    out, sys.stdout = sys.stdout, io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        found = MEASURES[group](json.loads(options))
        tempfile.tempdir = None
    sys.stdout = out
    package = importlib.import_module("bmi_cdlm")
    assert Path(str(package.__file__)).resolve().is_relative_to(root), f"bmi_cdlm came from {package.__file__}"
    print(MARK + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
