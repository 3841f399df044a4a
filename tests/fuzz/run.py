"""Hostile cases by thousands: `python tests/fuzz/run.py --cases 10000`; classes by outcomes, failed ones are kept."""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from classes import CLASSES  # noqa: E402
from harness import FAULTS, RIGHT, Keeper, Outcome, call, in_child  # noqa: E402
from whole_cases import make_cases  # noqa: E402


def prepare_cases(folder: Path) -> None:
    """Whole cases, and what they give undamaged; everything is compiled and imported before the first fork."""
    logging.disable(logging.CRITICAL)
    make_cases(folder)
    shutil.copytree(folder / "run", folder / "evaluate")
    _done(folder / "evaluate", "done.nc", "run")
    _done(folder / "state", "from_run.nc", "run", config="from.yaml")
    shutil.copytree(folder / "resume", folder / "unbroken")
    for name in ("restart.nc", "run.nc.partial"):
        (folder / "unbroken" / name).unlink()
    _done(folder / "unbroken", "unbroken.nc", "run", clean=False)
    shutil.copy(folder / "unbroken" / "unbroken.nc", folder / "resume")
    _kernels(folder / "kernels")
    if (folder / "prepare" / "toy.yaml").exists():
        shutil.copytree(folder / "prepare", folder / "trial")
        call(["prepare", "toy.yaml", "--no-map", "--quiet"], folder / "trial")


def _done(folder: Path, name: str, *words: str, config: str = "case.yaml", clean: bool = True) -> None:
    outcome = call([*words, config, "--quiet"], folder)
    assert outcome.kind == "right", outcome
    (folder / "run.nc").rename(folder / name)
    if clean:
        (folder / "restart.nc").unlink(missing_ok=True)


def _kernels(folder: Path) -> None:
    from bmi_cdlm.kernels.cache import cache_folder

    (folder / "cache").mkdir(parents=True, mode=0o700)
    own = cache_folder()
    for path in [] if own is None else sorted(own.glob("accumulate-*.kernel")):
        shutil.copy(path, folder / "cache")


def run_one(cases: Path, name: str, seed: int, keeper: Keeper) -> Outcome:
    """One case of a class, from its seed alone."""
    start, work, _ = CLASSES[name]
    with tempfile.TemporaryDirectory(dir=cases, prefix="case-") as text:
        folder = Path(text) / "case"
        shutil.copytree(cases / start, folder)
        outcome = in_child(lambda: work(folder, random.Random(f"{name} {seed}")))
        if outcome.is_fault:
            keeper.keep(folder, f"{name.replace(' ', '_')}-{seed}", outcome)
    return outcome


def run_all(cases: Path, count: int, seed: int, keeper: Keeper, seconds: float = float("inf")) -> dict[str, Counter]:
    """Deal cases to the classes by their shares; stops early when the time is over."""
    total = sum(share for *_, share in CLASSES.values())
    order = [
        name
        for name, (start, _, share) in CLASSES.items()
        for _ in range(-(-count * share // total))
        if (cases / start).is_dir() and (name != "kernel cache" or list((cases / "kernels" / "cache").iterdir()))
    ]
    random.Random(seed).shuffle(order)
    table: dict[str, Counter] = {name: Counter() for name in dict.fromkeys(order)}
    latest = time.monotonic() + seconds
    for number, name in enumerate(order):
        if time.monotonic() > latest:
            break
        outcome = run_one(cases, name, seed * 1_000_000 + number, keeper)
        table[name][outcome.kind] += 1
        if outcome.is_fault:
            lines = [line for line in outcome.text.splitlines() if line.strip()] or [""]
            print(f"{name} {seed * 1_000_000 + number}: {outcome.kind}: {lines[-1][:300]}", flush=True)
    return table


def render(table: dict[str, Counter]) -> str:
    kinds = [*RIGHT, *FAULTS]
    rows = [["class", *kinds, "all"], *([n, *(str(c[k]) for k in kinds), str(c.total())] for n, c in table.items())]
    sums = sum(table.values(), Counter())
    rows.append(["all", *(str(sums[k]) for k in kinds), str(sums.total())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(t.ljust(w) if i == 0 else t.rjust(w) for i, (t, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="Folder of the cases that failed.")
    parser.add_argument("--only", help="One class and seed, as printed: 'HDF5 bytes 1000012'.")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    keeper = Keeper(given.keep)
    with tempfile.TemporaryDirectory(prefix="cdlm-fuzz-") as text:
        cases = Path(text)
        prepare_cases(cases)
        if given.only:
            name, _, seed = given.only.rpartition(" ")
            print(run_one(cases, name, int(seed), keeper))
            return
        began = time.monotonic()
        table = _in_processes(cases, given, keeper)
        print(render(table))
        print(f"{time.monotonic() - began:.0f} s; seed {given.seed}; failed cases in {given.keep}")
        sys.exit(any(table[name][kind] for name in table for kind in FAULTS))


def _in_processes(cases: Path, given: argparse.Namespace, keeper: Keeper) -> dict[str, Counter]:
    """Forked workers, each with its share and a seed of its own."""
    import pickle

    pipes = []
    for k in range(given.processes):
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(read)
            own = cases / f"worker-{k}"
            own.mkdir()
            for path in cases.iterdir():
                if path.is_dir() and not path.name.startswith(("worker-", "case-")):
                    os.symlink(path, own / path.name)
            share = -(-given.cases // given.processes)
            table = run_all(own, share, given.seed + 1000 * k, keeper)
            with os.fdopen(write, "wb") as pipe:
                pickle.dump({name: dict(counts) for name, counts in table.items()}, pipe)
            os._exit(0)
        os.close(write)
        pipes.append(read)
    total: dict[str, Counter] = {}
    for read in pipes:
        with os.fdopen(read, "rb") as pipe:
            for name, counts in pickle.load(pipe).items():
                total.setdefault(name, Counter()).update(counts)
    return total


if __name__ == "__main__":
    main()
