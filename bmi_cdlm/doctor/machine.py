"""What the machine offers, and what a run will ask of it: threads, kernels, packages, memory, time."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bmi_cdlm.doctor.findings import Case, Finding, size_text
from bmi_cdlm.kernels.cache import cache_folder
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.calendars import year_length
from bmi_cdlm.names.memory import available_memory
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.beginning import STEADY_DAYS
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.ensemble import member_configs
from bmi_cdlm.run.simulation import Simulation

MEASURED_SECONDS = 1.0
FLOAT = 8
PACKAGES = {
    "plot": ("matplotlib",), "train": ("torch", "tensorboard"),
    "prepare": ("rasterio", "pyproj", "pyflwdir", "geopandas", "pyet", "sklearn"),
}


def check_machine(case: Case) -> Iterator[Finding]:
    """Threads against processors, and the cache of compiled kernels."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = case.config.threads
    if threads > available:
        yield Finding(
            "note", "threads", f"{threads} asked for, {available} processors available: more threads than processors "
            f"only wait for each other. Set threads: {available}.",
        )
    elif threads < available:
        yield Finding("ok", "threads", f"{threads} of {available} processors used; threads: {available} would use all")
    else:
        yield Finding("ok", "threads", f"{threads} of {available} processors used")
    folder = cache_folder()
    if folder is None:
        yield Finding(
            "note", "kernels", "cannot be cached: every start compiles for up to a minute. Set XDG_CACHE_HOME to a "
            "folder of your own.",
        )
    else:
        count = sum(1 for _ in folder.glob("*.kernel"))
        text = f"{count} compiled functions cached" if count else "none cached yet: the first start compiles"
        yield Finding("ok" if count else "note", "kernels", f"{text} ({folder})")


def check_packages(case: Case) -> Iterator[Finding]:
    """Optional packages that what the configuration asks for needs."""
    config = case.config
    needed = {
        "plot": config.observations is not None, "train": config.training is not None,
        "prepare": config.prepare is not None,
    }
    absent = {
        extra: missing for extra, names in PACKAGES.items()
        if (missing := [name for name in names if importlib.util.find_spec(name) is None])
    }
    for extra, names in absent.items():
        if needed[extra]:
            yield Finding(
                "note" if extra == "plot" else "fail", "packages",
                f'{", ".join(names)} not installed. Run: pip install "bmi-cdlm[{extra}]"',
            )
    present = [extra for extra in PACKAGES if extra not in absent]
    yield Finding("ok", "packages", f"complete for: run{''.join(f', {extra}' for extra in present)}")


def check_estimate(case: Case) -> Iterator[Finding]:
    """Run the first steps, and say from them what the whole run takes."""
    config = case.config
    began = time.perf_counter()
    members = member_configs(config)
    simulation = Simulation(_beginning(members[0]))
    started = time.perf_counter() - began
    try:
        seconds_per_step = _seconds_per_step(simulation)
        block = simulation.block_length()
    finally:
        simulation.close()
    steps = config.n_steps + config.spin_up * min(year_length(config.start) * DAY // config.time_step, config.n_steps)
    seconds = len(members) * (started + steps * seconds_per_step)
    each = f" in each of {len(members)} members" if len(members) > 1 else ""
    kept = min(FLOAT * config.n_steps * simulation.model.domain.n_cells * len(config.inputs), config.memory // 2)
    memory = _peak_memory() + kept
    rate = simulation.model.domain.n_cells / seconds_per_step
    yield Finding(
        "ok", "time", f"about {_duration(seconds)} for {steps} steps{each} with spin-up, without output ({rate:.2g} "
        f"cell-steps/s measured here, blocks of {block} steps)",
    )
    free = available_memory()
    if memory > free:
        yield Finding(
            "fail", "memory", f"about {size_text(memory)}, {size_text(free)} are available. Cut the domain, or use "
            "a larger machine.",
        )
    else:
        yield Finding("ok", "memory", f"about {size_text(memory)}, whatever the period; {size_text(free)} available")


def _beginning(config: Config) -> Config:
    """The same run, but its first days only, and nothing written."""
    days = max(STEADY_DAYS * DAY // config.time_step, 64)
    end = config.start + min(days, config.n_steps) * np.timedelta64(config.time_step, "s")
    if isinstance(config.initial_state, Path) and config.restart_mode == "resume":
        end = config.end
    return config.model_copy(update={"end": end, "spin_up": 0, "output": None, "restart": None})


def _seconds_per_step(simulation: Simulation) -> float:
    """Seconds of one step; the first block, which loads or compiles kernels, is not counted where there are more."""
    total = simulation.config.n_steps - simulation.n_done
    length = max(1, min(simulation.block_length(), total // 4))
    best, begun = np.inf, time.perf_counter()
    while simulation.n_done < simulation.config.n_steps and time.perf_counter() - begun < MEASURED_SECONDS:
        count = min(length, simulation.config.n_steps - simulation.n_done)
        start = time.perf_counter()
        simulation.advance(_forcing(simulation, count))
        best = min(best, (time.perf_counter() - start) / count)
    return float(best)


def _forcing(simulation: Simulation, count: int) -> Forcing:
    """Forcing of the next steps: the file's, or from the caller's inputs as they typically are."""
    if simulation.forcing is not None:
        return simulation.read_forcing(simulation.n_done, count)
    shape = (count, simulation.model.domain.n_cells)
    typical = {name: np.full(shape, variable(name).known.typical) for name in simulation.config.inputs}
    return simulation.make_forcing(typical, simulation.n_done, count)


def _peak_memory() -> int:
    """Most memory that this process has held [bytes]; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
