"""The forcing file: made block by block of time, so that it fits into memory and a killed preparation goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.forcing import LIMITS
from bmi_cdlm.files.netcdf import create_time, one_at_a_time, write_time
from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.names.variables import variable
from bmi_cdlm.names.writing import check_writable, replacing
from bmi_cdlm.prepare.weather.inputs import Target, has_warmth, open_input
from bmi_cdlm.prepare.weather.pet import DAY, Site, compute, inputs, spread_over_day
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig
from bmi_cdlm.version import __version__

CONVENTIONS = "CF-1.10"
CHUNK_VALUES = 2**20
CHUNK_STEPS = 512
CHUNK_CELLS = 4096
PET, RAIN, WARMTH = "potential_evapotranspiration", "precipitation", "air_temperature"
STANDARD_NAMES = {RAIN: "lwe_precipitation_rate", WARMTH: "air_temperature", PET: "water_potential_evaporation_flux"}
FIELDS_OF_PET = {"given": 3, "oudin": 8, "hargreaves": 8, "priestley_taylor": 20, "fao56": 26}
# Arrays of a block that exist at once, float64 each, beside the inputs [counted, then measured].

logger = logging.getLogger(__name__)


class Weather(NamedTuple):
    """What the preparation is told about the weather."""

    forcing: ForcingConfig
    pet: PetConfig


class Steps(NamedTuple):
    """Steps of the file: starts : datetime64[s][time], UTC; step [s]."""

    starts: np.ndarray
    step: int


class Needs(NamedTuple):
    """Variables to read: direct, at the steps of the file; pet, what evaporative demand is made of, at `days`."""

    direct: tuple[str, ...]
    pet: tuple[str, ...]
    days: Steps


def needs(weather: Weather, steps: Steps) -> Needs:
    """Return what has to be read; ForcingError where a formula lacks a source."""
    sources, method = weather.forcing.sources, weather.pet.method
    if method == "given" and PET not in sources:
        raise ForcingError(
            f"forcing: there is no source of '{PET}' and pet.method is given. Expected one of both. Name a source, or "
            "set pet.method to a formula, such as oudin."
        )
    daily = method != "given" or sources[PET].interannual or sources[PET].step == DAY
    days = Steps(steps.starts, DAY if daily else steps.step)
    if steps.step != DAY and daily:
        days = Steps(np.unique(steps.starts.astype("datetime64[D]")).astype("datetime64[s]"), DAY)
    given = [*sources, *((WARMTH,) if has_warmth(sources, DAY) else ())]
    direct = (RAIN, *((WARMTH,) if has_warmth(sources, steps.step) else ()))
    return Needs(direct, inputs(method, dict.fromkeys(given)) or (PET,), days)


def write_forcing(
    path: Path, weather: Weather, target: Target, steps: Steps, folder: Path, attributes: Mapping[str, str]
) -> None:
    """Make a forcing file.

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

    Raises
    ------
    ForcingError
        Sources that are not there, do not fit or hold values without a meaning. Nothing is written then.
    """
    check_writable(path)
    plan = _Plan(weather, target, steps, folder)
    partial = path.with_name(f"{path.name}.partial")
    _take_up(partial, plan.fingerprint())
    try:
        for first in range(0, steps.starts.size, plan.block_steps):
            block = partial / f"{first:08d}.npy"
            if not block.exists():
                values = plan.make(first, min(first + plan.block_steps, steps.starts.size))
                _keep(block, values)
                logger.info("%s: %s", path.name, steps.starts[first])
        with replacing(path) as temporary:
            _assemble(temporary, partial, plan, attributes)
    except CdlmError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(partial)


class _Plan:
    """Everything that makes a block, opened and checked."""

    def __init__(self, weather: Weather, target: Target, steps: Steps, folder: Path) -> None:
        self.weather, self.target, self.steps = weather, target, steps
        needed, sources = needs(weather, steps), weather.forcing.sources
        self._days = needed.days.starts
        self.names = (RAIN, PET, *needed.direct[1:])
        self._direct = {
            name: open_input(name, sources, target, folder, steps.starts, steps.step) for name in needed.direct
        }
        self._pet = {
            name: open_input(name, sources, target, folder, self._days, needed.days.step) for name in needed.pet
        }
        self.n_cells = target.drainage.cells.area.size
        self.block_steps = self._length()
        self.missing: dict[str, np.ndarray] = {RAIN: self._direct[RAIN].missing, PET: self._missing_pet()}
        if WARMTH in self._direct:
            self.missing[WARMTH] = self._direct[WARMTH].missing

    def make(self, first: int, stop: int) -> np.ndarray:
        """Values of a block, float32[variable, time, cell], checked."""
        made = np.empty((len(self.names), stop - first, self.n_cells), np.float32)
        for k, name in enumerate(self.names):
            values = self._pet_of(first, stop) if name == PET else self._direct[name].read(first, stop)
            self._check(name, values, first)
            made[k] = values
        return made

    def fingerprint(self) -> str:
        """Hash of all that the values depend on."""
        cells = self.target.drainage.cells
        told = json.dumps({
            "forcing": self.weather.forcing.model_dump(mode="json"), "pet": self.weather.pet.model_dump(mode="json"),
            "starts": [str(self.steps.starts[0]), str(self.steps.starts[-1]), self.steps.step],
            "files": [one.fingerprint() for one in (*self._direct.values(), *self._pet.values())],
            "block": self.block_steps, "version": __version__,
        }, sort_keys=True)
        digest = hashlib.sha256(told.encode())
        digest.update("\n".join(map(str, cells.id)).encode())
        for values in (cells.lon, cells.lat, self._elevation()):
            digest.update(b"" if values is None else np.ascontiguousarray(values, np.float64).tobytes())
        return digest.hexdigest()

    def _length(self) -> int:
        """Steps per block that keep its arrays within the memory allowed."""
        read = sum(one.n_used for one in (*self._direct.values(), *self._pet.values()))
        fields = FIELDS_OF_PET[self.weather.pet.method] + len(self._pet) + 2
        per_step = 8.0 * (fields * self.n_cells + 3 * read)
        length = int(self.weather.forcing.memory * 1e9 / per_step)
        per_day = max(1, DAY // self.steps.step)
        if length < per_day:
            need = per_step * per_day / 1e9
            raise ForcingError(
                f"forcing.memory is {self.weather.forcing.memory:g} GB, expected at least {need:.2g} GB for a day of "
                f"{self.n_cells} cells. Raise it."
            )
        return min(length // per_day * per_day, max(self.steps.starts.size, 1))

    def _elevation(self) -> np.ndarray | None:
        given = self.weather.pet.elevation
        return self.target.elevation if given is None else np.full(self.n_cells, given)

    def _missing_pet(self) -> np.ndarray:
        gone = np.zeros(self._days.size, bool)
        for one in self._pet.values():
            gone |= one.missing
        return gone[self._day_of(0, self.steps.starts.size)] if self._spreads else gone

    @property
    def _spreads(self) -> bool:
        return next(iter(self._pet.values())).starts is self._days and self._days is not self.steps.starts

    def _day_of(self, first: int, stop: int) -> np.ndarray:
        """Index of the day that each step lies in."""
        days = self.steps.starts[first:stop].astype("datetime64[D]").astype("datetime64[s]")
        return np.searchsorted(self._days, days)

    def _pet_of(self, first: int, stop: int) -> np.ndarray:
        """Rates of steps, float64[time, cell]."""
        if not self._spreads:
            return self._pet_between(first, stop)
        day = self._day_of(first, stop)
        daily = self._pet_between(int(day[0]), int(day[-1]) + 1)
        starts, step = self.steps.starts[first:stop], self.steps.step
        return spread_over_day(daily[day - day[0]], starts, step, self.weather.pet.noon)

    def _pet_between(self, first: int, stop: int) -> np.ndarray:
        values = {name: one.read(first, stop) for name, one in self._pet.items()}
        if self.weather.pet.method == "given":
            return values[PET]
        days = (self._days[first:stop] + np.timedelta64(DAY // 2, "s")).astype("datetime64[D]")
        latitude = self.target.drainage.cells.lat
        site = Site(latitude, self._elevation(), self.weather.pet.wind_height)
        return compute(self.weather.pet.method, days, values, site)

    def _check(self, name: str, values: np.ndarray, first: int) -> None:
        """Raise on values without a meaning; rounding below zero becomes zero, in place."""
        low, high = LIMITS[name]
        gone = self.missing[name][first : first + values.shape[0]]
        if name != WARMTH:
            tiny = (values < 0.0) & (values >= -self.weather.forcing.negative_tolerance)
            values[tiny] = 0.0
        wrong = np.isinf(values) | ~((values >= low) & (values <= high))
        wrong[gone] = False
        if not wrong.any():
            return
        row, cell = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        cells = self.target.drainage.cells
        got = "missing" if np.isnan(values[row, cell]) else f"{values[row, cell]:g} {variable(name).units}"
        source = (self._direct | self._pet).get(name)
        where = source.where if source is not None else f"pet.method {self.weather.pet.method}"
        remedy = (
            "Complete the source, or declare the stamp as `missing`" if got == "missing"
            else f"Correct the source, its units or `kind`{'' if name == WARMTH else ', or raise negative_tolerance'}"
        )
        raise ForcingError(
            f"{where}: '{name}' is {got} at {self.steps.starts[first + row]} in cell {cells.id[cell]} at "
            f"{cells.lon[cell]:.3f} E, {cells.lat[cell]:.3f} N, the first of {np.count_nonzero(wrong)} such values in "
            f"{np.count_nonzero(wrong.any(axis=0))} cells (of this block of time), expected {low:g} to {high:g}. "
            f"{remedy}."
        )


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
def _assemble(path: Path, partial: Path, plan: _Plan, attributes: Mapping[str, str]) -> None:
    """Put the blocks together, chunk by chunk of the file."""
    starts, step = plan.steps
    forcing = plan.weather.forcing
    gone = np.any(list(plan.missing.values()), axis=0)
    with netCDF4.Dataset(path, "w") as dataset:
        notes = {"day_boundary": forcing.day_boundary, "comment": forcing.comment, **attributes}
        dataset.setncatts({
            "Conventions": CONVENTIONS, **{key: text for key, text in notes.items() if text},
            "missing_steps": " ".join(one.isoformat() for one in starts[gone].tolist()) or "none",
        })
        dataset.createDimension("cell", plan.n_cells)
        ids = dataset.createVariable("cell_id", str, ("cell",))
        ids.long_name = "cell, as in the domain"
        ids[:] = np.asarray(plan.target.drainage.cells.id).astype(object)
        create_time(dataset)
        write_time(dataset, 0, starts, step)
        width = min(plan.n_cells, CHUNK_CELLS)
        length = min(starts.size, CHUNK_STEPS, max(1, CHUNK_VALUES // width))
        for k, name in enumerate(plan.names):
            out = dataset.createVariable(
                name, "f4", ("time", "cell"), zlib=True, complevel=1 if plan.n_cells > width else 4,
                fill_value=np.float32(np.nan), chunksizes=(length, width),
            )
            out.setncatts(_described(name, plan.weather))
            for first in range(0, starts.size, length):
                stop = min(first + length, starts.size)
                _copy(out, partial, k, first, stop, plan)


def _copy(out: netCDF4.Variable, partial: Path, k: int, first: int, stop: int, plan: _Plan) -> None:
    """Copy one row of chunks."""
    edges = range(first // plan.block_steps * plan.block_steps, stop, plan.block_steps)
    blocks = {edge: np.load(partial / f"{edge:08d}.npy", mmap_mode="r") for edge in edges}
    width = min(plan.n_cells, CHUNK_CELLS)
    for left in range(0, plan.n_cells, width):
        right = min(left + width, plan.n_cells)
        parts = [
            values[k, max(0, first - edge) : stop - edge, left:right] for edge, values in blocks.items()
        ]
        out[first:stop, left:right] = np.concatenate(parts)


def _described(name: str, weather: Weather) -> dict[str, str]:
    entry = variable(name)
    words = {"long_name": entry.meaning, "units": entry.units, "cell_methods": "time: mean", "coordinates": "cell_id"}
    if name in STANDARD_NAMES and name != PET:
        words = {"standard_name": STANDARD_NAMES[name], **words}
    if name == PET and weather.pet.method != "given":
        words["comment"] = f"computed by the method {weather.pet.method}"
    return words
