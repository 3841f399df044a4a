"""This working tree against a commit, row by row of `make bench`: old, new, old, new, in one run.

    python benchmarks/against.py 0a10580 [--rows WORD ...] [--rounds N] [--json FILE]

Every measurement is a process of its own, pinned to the same cores; each side runs its own benchmark scripts, so that
their interfaces may differ. A row's ratio is the median over rounds of new time / old time of neighbouring processes;
above the tolerance it is flagged, and the exit code is 1. README.md beside this file says more.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from against_child import UNITS, Times, results_in
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CHILD = Path(__file__).resolve().with_name("against_child.py")
NATIONAL = {"reaches": 2_000_000, "days": 60}
FULL_NATIONAL = {"reaches": 9_600_000, "days": 365}
GROUPS = tuple(UNITS)
COLD = "to the first update, nothing compiled:"


class Task(NamedTuple):
    """What a process measures: group, options of `against_child`, and whether kernels are compiled anew."""

    group: str
    options: dict
    cold: bool = False


class Row(NamedTuple):
    """A row: its group and name, and the times of all rounds, [round] each."""

    group: str
    name: str
    old: np.ndarray
    new: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        return self.new / self.old

    @property
    def ratio(self) -> float:
        return float(np.median(self.ratios))


Measure = Callable[[Task, Path], Times]


def run_rounds(tasks: Sequence[Task], sides: tuple[Path, Path], rounds: int, measure: Measure) -> list[Row]:
    """Measure every task on the old and on the new side in turn; rows that both sides have."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for k in range(rounds):
        for task in tasks:
            old, new = (measure(task, side) for side in sides)
            for name in old:
                if name in new:
                    times.setdefault((task.group, name), []).append((old[name], new[name]))
            for name in sorted({*old} ^ {*new}) if k == 0 else ():
                side = "old" if name in old else "new"
                click.echo(f"{task.group}: '{name}' is on the {side} side only", err=True)
    return [Row(*key, *np.array(pairs).T) for key, pairs in times.items()]


def measure_in_process(task: Task, side: Path, cores: frozenset[int] = frozenset()) -> Times:
    """Measure one task of one side, pinned; RuntimeError with what it said where it fails."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "NUMBA_DISABLE_JIT")}
    environment |= {"PYTHONPATH": f"{side}:{side / 'training'}", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as empty:
        if task.cold:
            environment["XDG_CACHE_HOME"] = empty
        run = subprocess.run(
            [sys.executable, str(CHILD), task.group, str(side), json.dumps(task.options)], env=environment, cwd=empty,
            capture_output=True, text=True, check=False,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )
    for found in results_in(run.stdout):
        return found
    raise RuntimeError(f"{task.group} of {side}: exit {run.returncode}\n{run.stderr[-3000:]}")


def make_tasks(groups: Sequence[str], folder: Path, repeats: int, national: dict) -> Iterator[Task]:
    """The tasks of some groups; configurations of cold starts are written to the folder."""
    for group in groups:
        if group == "cold":
            for name, config in cold_configs(folder).items():
                yield Task("cold", {"name": name, "config": str(config)}, cold=True)
        else:
            yield Task(group, national if group == "national" else {"repeats": repeats})


def cold_configs(folder: Path) -> dict[str, Path]:
    """The simplest configuration, and one with all that has kernels of its own; files by their formats alone."""
    sys.path.append(str(ROOT / "tests"))
    import digest_inputs as inputs

    n_steps, snow = 20, "cemaneige_hysteresis"
    inputs.write_domain(folder / "domain.nc", inputs.SMALL, 3)
    inputs.write_forcing(folder / "forcing.nc", inputs.SMALL, inputs.DAY, n_steps)
    inputs.write_checkpoint(folder / "network.safetensors", inputs.DAY, inputs.HOUR, snow, (5,), 200)
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "start": str(inputs.START),
        "end": str(inputs.START + np.timedelta64(n_steps, "D")), "time_step": "1 d", "routing_step": "1 h",
    }
    return {
        f"{COLD} simplest": inputs.write_config(folder / "simplest.yaml", content),
        f"{COLD} snow with hysteresis, PET network": inputs.write_config(
            folder / "full.yaml", content, snow=snow, parameters="network.safetensors"
        ),
    }


def selected(rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """Rows whose group or name holds one of the words; all without words."""
    return [r for r in rows if not words or any(w.lower() in f"{r.group}: {r.name}".lower() for w in words)]


def groups_of(words: Sequence[str]) -> list[str]:
    """Groups to run: those that words name; all, where a word may be in any."""
    named = [g for g in GROUPS if any(w.lower().startswith(g) for w in words)]
    return named if named and all(any(w.lower().startswith(g) for g in GROUPS) for w in words) else list(GROUPS)


def make_table(rows: Sequence[Row], commit: str, tolerance: float) -> Table:
    """All rows: bests, and the ratio with its range; `slower?` where a round said otherwise."""
    table = Table("row", title=f"this tree against {commit}: time, and new / old")
    for heading in ("old best", "new best", "new / old", "range", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        low, high = row.ratios.min(), row.ratios.max()
        said = "" if row.ratio <= tolerance else "slower" if low > 1 else "slower?"
        table.add_row(
            f"{row.group}: {row.name}", f"{row.old.min():.4g} {UNITS[row.group]}",
            f"{row.new.min():.4g} {UNITS[row.group]}", f"{row.ratio:.3f}", f"{low:.3f}–{high:.3f}",
            said, end_section=following is None or following.group != row.group,
        )
    return table


def as_json(rows: Sequence[Row], commit: str, tolerance: float) -> str:
    content = {
        "measured": measured(), "commit": commit, "tolerance": tolerance, "rows": [
            {"group": r.group, "row": r.name, "unit": UNITS[r.group], "old": list(r.old), "new": list(r.new),
             "ratio": r.ratio, "slower": r.ratio > tolerance} for r in rows
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def measured() -> dict[str, str]:
    """What was measured, where and when: machine, date, and the commit of the working tree, + where it differs."""
    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True)
        return run.stdout.strip()

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():  # family and model tell processors apart whose name is cut
        lines = [line.partition(":") for line in info.read_text().split("\n\n")[0].splitlines()]
        found = {key.strip(): value.strip() for key, _, value in lines}
        cpu = found.get("model name", cpu)
        cpu += "".join(f", {key.removeprefix('cpu ')} {found[key]}" for key in ("cpu family", "model") if key in found)
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores", "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else ""),
    }


def check_out(commit: str, folder: Path) -> Path:
    """A clone of this repository at a commit, in a folder of its own."""
    for command in (["clone", "-q", "--shared", "--no-checkout", str(ROOT), str(folder)],
                    ["-C", str(folder), "checkout", "-q", commit]):
        subprocess.run(["git", *command], check=True)
    return folder


@click.command()
@click.argument("commit")
@click.option("--rows", "words", multiple=True, help=f"Groups ({', '.join(GROUPS)}) or words in the names of rows.")
@click.option("--rounds", default=5, show_default=True, help="Processes of each side and script.")
@click.option("--cold-rounds", default=3, show_default=True, help="Of the rows that compile all kernels.")
@click.option("--repeats", default=3, show_default=True, help="Runs of every case within a process.")
@click.option("--full-national", is_flag=True, help="The whole country and year, not 2,000,000 reaches for 60 days.")
@click.option("--cores", default="", help="Cores to pin to, such as 0,1.  [default: the first two of the process]")
@click.option("--tolerance", default=1.03, show_default=True, help="Ratio above which a row is slower.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the results here too.")
def main(
    commit: str, words: tuple[str, ...], rounds: int, cold_rounds: int, repeats: int, full_national: bool, cores: str,
    tolerance: float, path: Path | None,
) -> None:
    """Compare the speed of this working tree with that of COMMIT."""
    pinned = frozenset()
    if hasattr(os, "sched_setaffinity"):
        pinned = frozenset(map(int, cores.split(","))) if cores else frozenset(sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = check_out(commit, folder / "old"), ROOT
        tasks = list(make_tasks(groups_of(words), folder, repeats, FULL_NATIONAL if full_national else NATIONAL))

        def measure(task: Task, side: Path) -> Times:
            return measure_in_process(task, side, pinned)

        warm, cold = ([t for t in tasks if t.cold == kind] for kind in (False, True))
        rows = run_rounds(warm, sides, rounds, measure) + run_rounds(cold, sides, cold_rounds, measure)
    rows = selected(rows, words)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(make_table(rows, commit, tolerance))
    if path is not None:
        path.write_text(as_json(rows, commit, tolerance), encoding="utf-8")
    slower = sum(row.ratio > tolerance for row in rows)
    console.print(f"{slower} of {len(rows)} rows above {tolerance:g}")
    sys.exit(bool(slower))


if __name__ == "__main__":
    main()
