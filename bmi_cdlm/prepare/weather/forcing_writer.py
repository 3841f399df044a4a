"""The forcing file: made block by block of time, so that it fits into memory and a killed preparation goes on."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.progress import Pace
from bmi_cdlm.names.writing import check_writable, replacing
from bmi_cdlm.prepare.weather.forcing_blocks import ForcingBlocks
from bmi_cdlm.prepare.weather.forcing_file import chunk_shape, define, define_input
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.inputs import Target

logger = logging.getLogger(__name__)


def write_forcing(
    path: Path, weather: Weather, target: Target, steps: Steps, folder: Path, attributes: Mapping[str, str],
    say: Callable[[str], None] = logger.info,
) -> list[str]:
    """Make a forcing file; returns what there is to say: of stations, of neighbours that stood in, of yearly amounts.

    Blocks are kept in the folder `NAME.partial` until all are there; a preparation that was killed takes up those of
    the same configuration, sources and version and goes on behind them.

    Parameters
    ----------
    path : Path
        NetCDF to write; an older one is replaced at the end.
    weather : Weather
    target : Target
    steps : Steps
    folder : Path
        What the paths of sources are relative to.
    attributes : mapping of str to str
        Global attributes, such as title, source and license.
    say : callable
        Told after each block of time how far it is.

    Raises
    ------
    ForcingError
        Sources that are not there, do not fit or hold values without a meaning. Nothing is written then.
    """
    check_writable(path)
    plan = ForcingBlocks(weather, target, steps, folder)
    partial = path.with_name(f"{path.name}.partial")
    _take_up(partial, plan.fingerprint())
    pace = Pace()
    try:
        for first in range(0, steps.starts.size, plan.block_steps):
            block = partial / f"{first:08d}.npy"
            if not block.exists():
                before = plan.neighbours()
                values = plan.make(first, min(first + plan.block_steps, steps.starts.size))
                counts = {name: n - before[name] for name, n in plan.neighbours().items()}
                block.with_suffix(".json").write_text(json.dumps(counts))
                _keep(block, values)
            else:
                pace.before = min(first + plan.block_steps, steps.starts.size)
            done = min(first + plan.block_steps, steps.starts.size)
            say(f"forcing: {date_text(steps.starts[done - 1])}, {pace.told(done, steps.starts.size)}")
        notes, amounts = plan.report(partial), plan.amounts(partial)
        with replacing(path) as temporary:
            _assemble(temporary, partial, plan, {**attributes, "filling": " ".join(notes) or "none"})
    except CdlmError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(partial)
    return [*notes, *amounts]


def _take_up(partial: Path, fingerprint: str) -> None:
    """Keep the blocks of an earlier attempt if it was the same, else begin anew."""
    note = partial / "plan"
    if note.is_file() and note.read_text() == fingerprint:
        logger.info("%s: goes on where an earlier preparation ended", partial)
        return
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    note.write_text(fingerprint)


def _keep(block: Path, values: np.ndarray) -> None:
    """Write a block under a passing name and move it: whole or not there."""
    passing = block.with_suffix(".part")
    with passing.open("wb") as file:
        np.save(file, values)
    passing.replace(block)


@one_at_a_time
def _assemble(path: Path, partial: Path, plan: ForcingBlocks, attributes: Mapping[str, str]) -> None:
    """Put the blocks together, chunk by chunk of the file."""
    starts = plan.steps.starts
    forcing = plan.weather.forcing
    gone = np.any(list(plan.missing.values()), axis=0)
    with netCDF4.Dataset(path, "w") as dataset:
        notes = {"day_boundary": forcing.day_boundary, "comment": forcing.comment, **attributes}
        missing = " ".join(map(date_text, starts[gone])) or "none"
        define(dataset, plan.target.drainage.cells.id.tolist(), plan.steps, {**notes, "missing_steps": missing})
        length, width = chunk_shape(starts.size, plan.n_cells, len(plan.names))
        for k, name in enumerate(plan.names):
            out = define_input(dataset, name, plan.weather, (length, width))
            for first in range(0, starts.size, length):
                stop = min(first + length, starts.size)
                _copy(out, partial, k, range(first, stop), width, plan)


def _copy(out: netCDF4.Variable, partial: Path, k: int, steps: range, width: int, plan: ForcingBlocks) -> None:
    """Copy one row of chunks."""
    first, stop = steps.start, steps.stop
    edges = range(first // plan.block_steps * plan.block_steps, stop, plan.block_steps)
    blocks = {edge: np.load(partial / f"{edge:08d}.npy", mmap_mode="r") for edge in edges}
    for left in range(0, plan.n_cells, width):
        right = min(left + width, plan.n_cells)
        parts = [
            values[k, max(0, first - edge) : stop - edge, left:right] for edge, values in blocks.items()
        ]
        out[first:stop, left:right] = np.concatenate(parts)
