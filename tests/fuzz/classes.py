"""The classes of hostile cases: each a function of a folder with a whole case in it and a source of chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from bmi_classes import bmi_calls, states_as_bytes
from damage import VALUES, damaged_text
from file_classes import (
    checkpoints,
    evaluated_bytes,
    hdf5_bytes,
    kernels,
    netcdf_structure,
    resumed,
    run,
    states_in_a_file,
)
from harness import Outcome, call
from prepare_classes import preparations, rasters, tables

Work = Callable[[Path, random.Random], Outcome]


def configurations(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "case.yaml"
    text = path.read_text()
    if rng.random() < 0.4:
        extra = [
            "spin_up", "threads", "memory", "output_at", "output_step", "output_precision", "restart", "restart_every",
            "snow", "runoff", "routing", "components", "initial_rain", "day_begins", "call_sums", "forcing_fill_limit",
            "pet", "ledger_tolerance", "initial_state", "output_variables", "forcing_fill", "training", "prepare",
            "name_profile", "published_inputs", "sub_step_policy", "time_units", "spinup",
        ]
        text += f"\n{rng.choice(extra)}: {rng.choice(VALUES)}\n"
    path.write_bytes(damaged_text(text, rng) if rng.random() < 0.8 else text.encode())
    return run(folder) if rng.random() < 0.8 else call(["doctor", "case.yaml"], folder)


def command_lines(folder: Path, rng: random.Random) -> Outcome:
    commands = ["run", "doctor", "evaluate", "subset", "prepare", "reference", "nextgen", "init", "nothing"]
    options = [
        "--quiet", "--resume", "--parameters", "--partitions", "--to", "--no-plots", "--source", "--help", "--version",
        "--scheduler", "--start", "--end", "--snow", "--x", "-", "--", "--verbose",
    ]
    words = [
        "case.yaml", "domain.nc", "nowhere.yaml", "", "x" * 300, "a/" * 2500, "a/" * 1000, "\udcff", "/dev/null", "0",
        "-5", "9" * 30, "g0", "reach:r1", "gauge:", "out", "é", "..", "case.yaml/x", "/dev/full", "2001-01-01",
    ]
    line = [rng.choice(commands)] if rng.random() < 0.9 else []
    for _ in range(rng.randrange(6)):
        line.append(rng.choice(options if rng.random() < 0.4 else words))
    if "--scheduler" in line:
        line = [w for w in line if w != "--scheduler"]  # waits for one, by design
    return call(line, folder, (".partial", "run.nc", ".csv", ".yaml", ".json", "domain.nc", "out"))


CLASSES: dict[str, tuple[str, Work, int]] = {
    "configurations": ("run", configurations, 18),
    "HDF5 bytes": ("run", hdf5_bytes, 14),
    "classic NetCDF bytes": ("classic", hdf5_bytes, 8),
    "NetCDF structure": ("run", netcdf_structure, 14),
    "outputs and observations": ("evaluate", evaluated_bytes, 5),
    "checkpoints": ("checkpoint", checkpoints, 8),
    "states in files": ("state", states_in_a_file, 6),
    "states as bytes": ("state", states_as_bytes, 6),
    "resume": ("resume", resumed, 6),
    "kernel cache": ("kernels", kernels, 2),
    "rasters": ("prepare", rasters, 3),
    "tables": ("prepare", tables, 3),
    "preparations": ("prepare", preparations, 3),
    "command lines": ("run", command_lines, 4),
    "BMI calls": ("state", bmi_calls, 4),
}
"""Of each class: the case it starts from, the work, and its share."""
