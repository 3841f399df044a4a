"""The forcing file as it lies on disk: its dimensions, words and chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.names.calendars import calendar_of
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.inputs import PET
from bmi_cdlm.run.config import Config

CONVENTIONS = "CF-1.10"
CHUNK_VALUES = 2**20
CHUNK_STEPS = 512
CHUNK_CELLS = 4096


def define(dataset: netCDF4.Dataset, cell_id: Sequence[str], steps: Steps, attributes: Mapping[str, str]) -> None:
    """Write everything but the inputs into a new forcing file."""
    dataset.setncatts({"Conventions": CONVENTIONS, **{key: text for key, text in attributes.items() if text}})
    dataset.createDimension("cell", len(cell_id))
    ids = dataset.createVariable("cell_id", str, ("cell",))
    ids.long_name = "cell, as in the domain"
    ids[:] = np.array(list(cell_id), object)
    create_time(dataset, calendar_of(steps.starts))
    write_time(dataset, 0, *steps)


def define_input(
    dataset: netCDF4.Dataset, name: str, weather: Weather, chunks: tuple[int, int]
) -> netCDF4.Variable:
    """Add an input to a forcing file, its values to be written yet."""
    level: Literal[1, 4] = 1 if dataset.dimensions["cell"].size > chunks[1] else 4
    out = dataset.createVariable(
        name, "f4", ("time", "cell"), zlib=True, complevel=level, fill_value=np.float32(np.nan), chunksizes=chunks
    )
    out.setncatts(_described(name, weather))
    return out


def chunk_shape(n_steps: int, n_cells: int, n_names: int) -> tuple[int, int]:
    """Steps and cells of a chunk: so few steps that a run with the default memory holds whole chunks of all cells."""
    memory = Config.model_fields["memory"].default // 2  # as a run shares it out
    held = max(1, memory // (2 * n_names) // (8 * n_cells))
    length = min(n_steps, CHUNK_STEPS, held, max(1, CHUNK_VALUES // min(n_cells, CHUNK_CELLS)))
    return length, min(n_cells, max(CHUNK_CELLS, CHUNK_VALUES // (4 * length)))


def _described(name: str, weather: Weather) -> dict[str, str]:
    entry = variable(name)
    way = {"mean": "mean", "lowest": "minimum", "highest": "maximum"}[entry.known.within]
    words = {
        "long_name": entry.meaning, "units": entry.units, "cell_methods": f"time: {way}", "coordinates": "cell_id",
    }
    if entry.known.standard_name:
        words = {"standard_name": entry.known.standard_name, **words}
    if name == PET and weather.pet.method != "given":
        words["comment"] = f"computed by the method {weather.pet.method}"
    return words
