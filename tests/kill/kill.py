"""Kill -9 at random moments, and go on: `python tests/kill/kill.py --kills 200`; nothing lost, all bits the same.

What is killed: runs (NetCDF, Zarr, spin-up, means over output steps), a training, a preparation, a worker of a dask
scheduler. Before some runs go on, one thing of the run is changed: that must be refused, and change nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "fuzz")]

import netCDF4  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402
from cases import write_case  # noqa: E402
from harness import snapshot  # noqa: E402
from toy_basin import write_toy  # noqa: E402

from bmi_cdlm.cli import main as cdlm  # noqa: E402
from bmi_cdlm.names.time_steps import HOUR  # noqa: E402

RUNS: dict[str, dict] = {
    "run": {"n_steps": 300, "output": "run.nc", "output_at": "reaches", "restart_every": "5 d"},
    "run, Zarr": {"n_steps": 200, "output": "run.zarr", "output_at": "reaches", "restart_every": "5 d"},
    "run, spin-up": {"n_steps": 200, "output": "run.nc", "spin_up": 5, "snow": "cemaneige", "restart_every": "3 d"},
    "run, output steps": {
        "step": HOUR,
        "n_steps": 24 * 40,
        "output": "run.nc",
        "output_step": "1 d",
        "output_precision": 5,
        "restart_every": "2 d",
    },
}
SHARES = {
    "run": 26,
    "run, Zarr": 18,
    "run, spin-up": 18,
    "run, output steps": 18,
    "training": 8,
    "preparation": 8,
    "worker": 4,
}
CHANGES = ("routing_step", "spin_up", "parameters", "forcing", "domain")


class Loss(Exception):
    """Something is lost, other, or left over."""


def forked(work: Callable[[], None]) -> int:
    """Start some work in a child with its own group; returns the process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgrp()
            with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
                work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_in(child: int, seconds: float) -> bool:
    """Kill a child after some time; False where it had ended well before."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    code = ended(child)
    if code not in (0, -signal.SIGKILL):
        raise Loss(f"it ended with {code} before it was killed")
    return code != 0


def command(folder: Path, *words: str) -> Callable[[], None]:
    def work() -> None:
        logging.disable(logging.CRITICAL)
        from bmi_cdlm.run.simulation import Simulation

        Simulation.block_length = lambda *_: 3  # type: ignore[method-assign]
        with contextlib.chdir(folder):
            cdlm(list(words), prog_name="cdlm")

    return work


def train(folder: Path, *, resume: bool) -> Callable[[], None]:
    def work() -> None:
        logging.disable(logging.CRITICAL)
        from training_cases import train as run_training

        run_training(folder / "case.yaml", resume=resume)

    return work


# ---- what is compared --------------------------------------------------------------------------------------------


def content(path: Path) -> object:
    """All values and words of a file; the bytes of one that is neither NetCDF nor a log with times of day."""
    if path.suffix != ".nc" or path.name == "restart.nc":
        return path.read_bytes()
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        words = {k: str(dataset.getncattr(k)) for k in dataset.ncattrs() if k not in ("history", "created")}
        values = {n: np.asarray(v[...]) for n, v in dataset.variables.items()}
        return words, {n: v.tolist() if v.dtype.kind == "O" else (v.shape, v.tobytes()) for n, v in values.items()}


def compare(folder: Path, unbroken: Path, names: tuple[str, ...]) -> None:
    """The same files with the same content, and nothing else in the folder."""
    for name in names:
        for path in sorted(p for p in (unbroken / name, *(unbroken / name).rglob("*")) if p.is_file()):
            other = folder / path.relative_to(unbroken)
            if not other.is_file():
                raise Loss(f"{other.relative_to(folder)} is missing")
            if content(other) != content(path):
                raise Loss(f"{other.relative_to(folder)} differs")
    left = [p.name for p in folder.rglob("*") if p.name.endswith((".tmp", ".partial", ".parts", ".new"))]
    if left:
        raise Loss(f"left over: {left}")


# ---- kinds -------------------------------------------------------------------------------------------------------


class Killer:
    """Whole cases with their unbroken results and times, and one trial of each kind."""

    def __init__(self, root: Path) -> None:
        self.root, self.seconds = root, {}
        for name, keys in RUNS.items():
            folder = self._case(name, lambda f, keys=keys: write_case(f, restart="restart.nc", **keys))
            self._time(name, command(folder, "run", "case.yaml", "--quiet"))
        self._prepared = self._training = False

    def _case(self, name: str, make: Callable[[Path], object]) -> Path:
        fresh, unbroken = self.root / name / "fresh", self.root / name / "unbroken"
        make(fresh)
        shutil.copytree(fresh, unbroken)
        return unbroken

    def _time(self, name: str, work: Callable[[], None]) -> None:
        began = time.monotonic()
        if code := ended(forked(work)):
            raise Loss(f"{name}: the unbroken one ended with {code}")
        self.seconds[name] = time.monotonic() - began

    def trial(self, name: str, rng: random.Random) -> str:
        folder = self.root / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        if name == "worker":
            return self._worker(rng)
        if name == "training" and not self._training:
            from training_cases import write_training_case

            unbroken = self._case(
                name, lambda f: ended(forked(lambda: write_training_case(f, epochs=4, updates=2) and None))
            )
            self._time(name, train(unbroken, resume=False))
            self._training = True
        if name == "preparation" and not self._prepared:
            unbroken = self._case(name, write_toy)
            self._time(name, command(unbroken, "prepare", "toy.yaml", "--no-map", "--quiet"))
            self._prepared = True
        shutil.copytree(self.root / name / "fresh", folder)
        return self._one(name, folder, rng)

    def _one(self, name: str, folder: Path, rng: random.Random) -> str:
        unbroken, killed = self.root / name / "unbroken", 0
        for k in range(rng.choice([1, 1, 2, 3])):
            moment = rng.uniform(0.0, 0.9 * self.seconds[name])
            killed += kill_in(forked(self._work(name, folder, resume=k > 0)), moment)
        said = ""
        if name in RUNS and killed and rng.random() < 0.3 and (folder / "restart.nc").exists():
            said = self._meddle(folder, rng)
        code = ended(forked(self._work(name, folder, resume=True)))
        if code:
            raise Loss(f"going on ended with {code}")
        names = {
            "training": ("out/trained.safetensors", "out/trained_training/last.safetensors"),
            "preparation": ("out/domain.nc", "out/forcing.nc", "out/observations.nc"),
        }
        compare(folder, unbroken, names.get(name, (str(RUNS.get(name, {}).get("output")), "restart.nc")))
        return ("killed" if killed else "ended before") + said

    def _work(self, name: str, folder: Path, *, resume: bool) -> Callable[[], None]:
        if name == "training":
            state = folder / "out" / "trained_training" / "state.pt"
            return train(folder, resume=resume and state.exists())
        if name == "preparation":
            return command(folder, "prepare", "toy.yaml", "--no-map", "--quiet")
        return command(folder, "run", "case.yaml", "--quiet", *(["--resume"] if resume else []))

    def _meddle(self, folder: Path, rng: random.Random) -> str:
        """Change one thing of the run: going on must be refused and change nothing."""
        change = rng.choice(CHANGES)
        kept = {name: (folder / name).read_bytes() for name in ("case.yaml", "forcing.nc", "domain.nc")}
        if change in ("forcing", "domain"):
            names = {"forcing": "precipitation", "domain": "reach_length"}
            with netCDF4.Dataset(folder / f"{change}.nc", "r+") as dataset:
                dataset[names[change]][:] = 2 * dataset[names[change]][:]
        else:
            text = yaml.safe_load(kept["case.yaml"])
            text[change] = {"routing_step": "5 min", "spin_up": 7, "parameters": "default"}[change]
            (folder / "case.yaml").write_text(yaml.safe_dump(text))
        before = snapshot(folder)
        if not ended(forked(command(folder, "run", "case.yaml", "--quiet", "--resume"))):
            raise Loss(f"it went on with another {change}")
        if snapshot(folder) != before:
            raise Loss(f"refusing another {change} changed something")
        for name, old in kept.items():
            (folder / name).write_bytes(old)
        return ", another was refused"

    def _worker(self, rng: random.Random) -> str:
        """A scheduler and two workers in processes of their own; one of them is killed, another takes its part."""
        name = "run"
        unbroken, folder = self.root / name / "unbroken", self.root / "trial"
        shutil.copytree(self.root / name / "fresh", folder)
        lines = [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            "--port",
            "0",
            "--host",
            "127.0.0.1",
            "--no-dashboard",
            "--scheduler-file",
            str(folder / "scheduler.json"),
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        processes = [subprocess.Popen(lines, **quiet)]
        try:
            while not (folder / "scheduler.json").exists():
                time.sleep(0.1)
            address = yaml.safe_load((folder / "scheduler.json").read_text())["address"]
            line = [
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--no-dashboard",
                "--local-directory",
                str(self.root / "dask"),
            ]
            processes += [subprocess.Popen(line, **quiet) for _ in range(2)]
            text = yaml.safe_load((folder / "case.yaml").read_text())
            text.pop("restart_every")
            (folder / "case.yaml").write_text(yaml.safe_dump(text))
            child = forked(command(folder, "run", "case.yaml", "--quiet", "--scheduler", address, "--partitions", "8"))
            time.sleep(rng.uniform(2.0, 8.0))
            processes[rng.choice([1, 2])].kill()
            if code := ended(child):
                raise Loss(f"the run ended with {code}")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        compare(folder, unbroken, ("run.nc",))
        return "killed"


def run_all(root: Path, kills: int, seed: int, kinds: list[str]) -> tuple[dict[str, Counter], int]:
    """Trials until so many processes were killed; the table, and the number of losses."""
    rng, killer, losses, done = random.Random(seed), Killer(root), 0, 0
    table: dict[str, Counter] = {name: Counter() for name in kinds}
    while done < kills:
        name = rng.choices(kinds, [SHARES[k] for k in kinds])[0]
        try:
            outcome = killer.trial(name, rng)
        except Loss as loss:
            losses += 1
            outcome = "LOST"
            print(f"{name}: {loss}", flush=True)
            with contextlib.suppress(OSError):
                shutil.copytree(
                    root / "trial", Path("build/kill") / f"{seed}-{done}-{name.replace(', ', '-')}", dirs_exist_ok=True
                )
        table[name][outcome] += 1
        done += outcome != "ended before"
    return table, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(SHARES).replace(", ", "; "), help="Separated by commas.")
    given = parser.parse_args()
    kinds = [k.replace("; ", ", ") for k in given.kinds.split(",")]
    with tempfile.TemporaryDirectory(prefix="cdlm-kill-") as text:
        table, losses = run_all(Path(text), given.kills, given.seed, kinds)
    for name, counts in table.items():
        print(f"{name:20s}", ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())))
    print(f"{sum(c.total() - c['ended before'] for c in table.values())} kills, {losses} losses; seed {given.seed}")
    sys.exit(losses > 0)


if __name__ == "__main__":
    main()
