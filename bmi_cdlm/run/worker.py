"""What a worker of a distributed run does: one partition, from its file to a folder of results."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.names.errors import CdlmError, ClusterError
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.partition import FileExchange, Part, read_part
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.version import __version__

INPUT, OUTPUT, STATE, STOP = "part.{}.npz", "output.nc", "state.npz", "stop"
"""Files in the folder of a run: a partition's input; its output and final state in its own folder; `give up`."""


def code_version() -> str:
    """Version of bmi_cdlm where this runs."""
    return __version__


def run_partition(config: Config, folder: Path, number: int, count: int, above: Sequence[int]) -> int:
    """Run a partition into the folder of its number, which appears when all is in it; returns the number.

    above : numbers of the partitions whose outflow comes in; waiting for their results, dask has run them before.
    """
    done = folder / str(number)
    if done.exists():  # by a worker that was lost after it had finished
        return number
    # First of all: whoever gives up the run says so, and then waits until there is no attempt.
    attempt = Path(tempfile.mkdtemp(prefix=f"{number}.", dir=folder))
    try:
        _check_wanted(folder)
        part = read_part(folder / INPUT.format(number))
        try:
            _run_part(config, part, folder, attempt)
        except CdlmError as cause:
            raise type(cause)(f"partition {_name(part, number, count)}: {cause}") from cause
        except Exception as cause:
            raise ClusterError(
                f"partition {_name(part, number, count)}: failed with {type(cause).__name__}: {cause}. See the log of "
                "the worker."
            ) from cause
        with contextlib.suppress(OSError):  # another attempt, given up for lost, was first with the same
            attempt.rename(done)
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
        if not (folder / INPUT.format(number)).exists():  # the run is over: its folder was made anew by our writing
            shutil.rmtree(folder, ignore_errors=True)
    return number


def _check_wanted(folder: Path) -> None:
    if (folder / STOP).exists() or not folder.exists():
        raise ClusterError("the run was given up, this partition with it. See the error that was first.")


def _run_part(config: Config, part: Part, folder: Path, attempt: Path) -> None:
    def give_up_with_the_run(steps: int = 0) -> None:
        _check_wanted(folder)

    own = np.setdiff1d(np.arange(part.reaches.size), part.boundary)
    with FileExchange(part, [folder / str(s.number) for s in part.sources], attempt) as exchange:
        simulation = Simulation(_own_config(config, part, own, attempt), part, exchange)
        try:
            simulation.run(give_up_with_the_run)
            end = simulation.snapshot()
        finally:
            simulation.close()
    arrays: dict[str, Any] = {f"cell.{name}": values for name, values in end.cell.items()}
    arrays |= {f"reach.{name}": values[own] for name, values in end.reach.items()}
    np.savez(
        attempt / STATE, cells=part.cells, time=end.time, attributes=np.array(list(end.attributes.items())), **arrays
    )


def _own_config(config: Config, part: Part, own: np.ndarray, folder: Path) -> Config:
    """The configuration of a partition's run: its points of the output, in full precision, and no restart file."""
    at, ids = config.output_at, [part.domain.reaches.id[i] for i in own]
    if at == "reaches":
        at = tuple(ids)
    elif isinstance(at, tuple):
        known = set(ids)
        at = tuple(i for i in at if i in known)
    some = bool(part.domain.gauges.id) if at == "gauges" else len(at) > 0
    output = folder / OUTPUT if config.output is not None and some else None
    return config.model_copy(update={
        "output": output, "output_at": at, "output_precision": None, "restart": None, "restart_every": None,
    })


def _name(part: Part, number: int, count: int) -> str:
    lowest = part.domain.reaches.id[-1]
    return f"{number + 1} of {count} ({part.domain.n_reaches} reaches, the last {lowest})"
