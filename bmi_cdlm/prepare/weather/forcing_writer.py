"""The forcing file: made block by block of time, so that it fits into memory and a killed preparation goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.files.amounts import RAIN, doubt, told
from bmi_cdlm.files.netcdf import create_time, one_at_a_time, write_time
from bmi_cdlm.model.pet import MEAN, RANGE
from bmi_cdlm.names.calendars import calendar_of, date_text, mean_year
from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.names.progress import Pace
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable
from bmi_cdlm.names.writing import check_writable, replacing
from bmi_cdlm.prepare.weather.inputs import PET, Target
from bmi_cdlm.prepare.weather.pet import BY_PYET, Site, compute, formula_of, reads, spread_over_day
from bmi_cdlm.prepare.weather.quantities import Given, Provider, Quantity, check_given, keys_of, open_quantity
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig
from bmi_cdlm.run.config import Config
from bmi_cdlm.version import __version__

CONVENTIONS = "CF-1.10"
CHUNK_VALUES = 2**20
CHUNK_STEPS = 512
CHUNK_CELLS = 4096
FEW = 10  # days and cells that may have no range of temperature by chance
ROUNDING = 0.001  # mm d-1 or W m-2; a mean further below zero is no rounding
FILLS = (-9999.0, -999.0, -99.0, -99.9, -32768.0, 1e20, -1e20, 9.96921e36, -3.4028235e38, 9999.0, 99999.0)
FIELDS, FIELDS_OF_PYET, FIELDS_OF_FORMULA = 3, 20, 7
# Arrays of a block that exist at once, float64 each, beside the inputs [counted, then measured]: where demand is given,
# made by pyet, or by a formula, which reads some more.

logger = logging.getLogger(__name__)


class Weather(NamedTuple):
    """What the preparation is told about the weather; run : inputs of the run, with what its formula reads."""

    forcing: ForcingConfig
    pet: PetConfig
    run: tuple[str, ...] = (RAIN, PET)

    @property
    def method(self) -> str | None:
        """How demand is made; None where neither the run needs it nor the configuration gives or asks for it."""
        if self.pet.method == "given" and PET not in self.run and PET not in self.forcing.sources:
            return None
        return self.pet.method


class Steps(NamedTuple):
    """Steps of the file: starts : datetime64[s][time], UTC; step [s]."""

    starts: np.ndarray
    step: int


class Needs(NamedTuple):
    """Inputs to read: direct, at the steps of the file; pet, what evaporative demand is made of, at `days`."""

    direct: tuple[str, ...]
    pet: tuple[str, ...]
    days: Steps


def needs(weather: Weather, steps: Steps) -> Needs:
    """Return what has to be read; ForcingError where a formula lacks a source."""
    sources, method = weather.forcing.sources, weather.method
    if method == "given" and PET not in sources:
        raise ForcingError(
            f"forcing: there is no source of '{PET}' and pet.method is given. Expected one of both. Name a source, or "
            "set pet.method to a formula, such as oudin."
        )
    daily = method is not None and (method != "given" or sources[PET].interannual or sources[PET].step == DAY)
    days = Steps(steps.starts, DAY if daily else steps.step)
    if steps.step != DAY and daily:
        days = Steps(np.unique(steps.starts.astype("datetime64[D]")).astype("datetime64[s]"), DAY)
    wanted = dict.fromkeys(name for name in weather.run if name != PET)
    warm = keys_of(MEAN, sources, steps.step)
    if all(key in sources for key in warm):
        wanted[MEAN] = None
    if method not in (None, "given"):
        read = reads(method)
        check_given(read, sources, DAY, f"pet: method {method}")
    else:
        read = () if method is None else (PET,)
    direct = (RAIN, *(name for name in wanted if name != RAIN))
    check_given(direct[1:], sources, steps.step, "forcing: the run, for its processes or its formula of pet,")
    return Needs(direct, read, days)


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
    plan = _Plan(weather, target, steps, folder)
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


class _Plan:
    """Everything that makes a block, opened and checked."""

    def __init__(self, weather: Weather, target: Target, steps: Steps, folder: Path) -> None:
        self.weather, self.target, self.steps = weather, target, steps
        needed, cells = needs(weather, steps), target.drainage.cells
        self._days, self.n_cells = needed.days.starts, cells.area.size
        self._site = Site(cells.lat, cells.lon, self._elevation())
        given = Given(weather.forcing.sources, target, folder, self._site, weather.pet.wind_height)
        self._direct = {name: open_quantity(Quantity(name, *steps), given) for name in needed.direct}
        same = needed.days.step == steps.step and needed.days.starts is steps.starts
        self._pet = {
            name: self._direct[name] if same and name in self._direct else open_quantity(
                Quantity(name, *needed.days), given
            )
            for name in needed.pet
        }
        self.names = (RAIN, *((PET,) if needed.pet else ()), *needed.direct[1:])
        self._read_last: dict[int, tuple[tuple[int, int], np.ndarray]] = {}
        self.block_steps = self._length()
        self.missing: dict[str, np.ndarray] = {name: one.missing for name, one in self._direct.items()}
        if needed.pet:
            self.missing[PET] = self._missing_pet()

    @property
    def _providers(self) -> list[Provider]:
        """Everything that is read, each once."""
        return list({id(one): one for one in (*self._direct.values(), *self._pet.values())}.values())

    def neighbours(self) -> dict[str, int]:
        """Intervals of cells so far for which a neighbour stood in, by source."""
        found: dict[str, int] = {}
        for one in self._providers:
            for source in one.sources:
                found[source.name] = max(found.get(source.name, 0), source.n_neighbours)
        return found

    def report(self, partial: Path) -> list[str]:
        """What to say of neighbours, from all blocks, of stamps, and of the distances of stations."""
        notes, counts = [], dict.fromkeys(self.neighbours(), 0)
        for file in partial.glob("*.json"):
            for name, count in json.loads(file.read_text()).items():
                counts[name] = counts.get(name, 0) + count
        sources = {source.name: source for one in self._providers for source in one.sources}
        for name, source in sources.items():
            if source.station_distances is not None:
                away = source.station_distances
                notes.append(
                    f"{name}: cells lie {np.median(away):.3g} km (median) and up to {away.max():.3g} km from their "
                    "station."
                )
            if source.remark:
                notes.append(f"{name}: {source.remark}")
            if source.change is not None:
                notes.append(source.change.told(name))
            if counts[name]:
                total = self.n_cells * source.starts.size * source.ratio
                lone = source.weights.base.away
                far = f", up to {lone.max():.3g} km away" if source.weights.is_steady and lone.size else ""
                notes.append(
                    f"{name}: {counts[name]} of {total} values of cells ({counts[name] / total:.2%}) come from a "
                    f"neighbour{far}, where none of the cell's own sources has one."
                )
        return notes

    def amounts(self, partial: Path) -> list[str]:
        """Yearly rain and demand, for the eye: a wrong `kind` or unit is many times too wet or too dry."""
        total, count = np.zeros((2, self.n_cells)), np.zeros((2, self.n_cells), np.int64)
        shown = self.names[: 2 if PET in self.names else 1]
        for block in sorted(partial.glob("*.npy")):
            values = np.load(block, mmap_mode="r")
            for k in range(len(shown)):
                there = ~np.isnan(values[k])
                total[k] += np.where(there, values[k], 0.0).sum(axis=0, dtype=np.float64)
                count[k] += there.sum(axis=0)
        parts = []
        days = self.steps.starts.size * self.steps.step / DAY
        for k, name in enumerate(shown):
            yearly = total[k] / np.maximum(count[k], 1) * mean_year(self.steps.starts)
            odd = doubt(name, yearly, days, " and `kind` (ERA5-Land's amounts are accumulated, no totals)")
            parts.append(f"{told(name, yearly)}{', ' if odd else ''}{odd}")
        return [f"means at this rate: {'; '.join(parts)}."]

    def make(self, first: int, stop: int) -> np.ndarray:
        """Values of a block, float32[variable, time, cell], checked."""
        made = np.empty((len(self.names), stop - first, self.n_cells), np.float32)
        for k, name in enumerate(self.names):
            values = self._pet_of(first, stop) if name == PET else self._read(self._direct[name], first, stop)
            self._check(name, values, self.steps.starts[first:stop], self.missing[name][first:stop])
            made[k] = values
        if self.steps.step == DAY:
            self._check_range(dict(zip(self.names, made, strict=True)))
        self._read_last.clear()
        return made

    def _read(self, provider: Provider, first: int, stop: int) -> np.ndarray:
        """Values of steps; read once for a block where they become an input and a part of demand."""
        key, known = (first, stop), self._read_last.get(id(provider))
        if known is None or known[0] != key:
            known = key, provider.read(first, stop)
            self._read_last[id(provider)] = known
        return known[1]

    def fingerprint(self) -> str:
        """Hash of all that the values depend on."""
        cells = self.target.drainage.cells
        told = json.dumps({
            "forcing": self.weather.forcing.model_dump(mode="json"), "pet": self.weather.pet.model_dump(mode="json"),
            "names": self.names,
            "starts": [str(self.steps.starts[0]), str(self.steps.starts[-1]), self.steps.step],
            "files": [one.fingerprint() for one in self._providers],
            "block": self.block_steps, "version": __version__,
        }, sort_keys=True)
        digest = hashlib.sha256(told.encode())
        digest.update("\n".join(map(str, cells.id)).encode())
        for values in (cells.lon, cells.lat, self._elevation()):
            digest.update(b"" if values is None else np.ascontiguousarray(values, np.float64).tobytes())
        return digest.hexdigest()

    def _length(self) -> int:
        """Steps per block that keep its arrays within the memory allowed."""
        read = sum(one.n_used for one in self._providers)
        method, fields = self.weather.method, FIELDS
        if method == BY_PYET:
            fields = FIELDS_OF_PYET
        elif formula_of(method) is not None:
            fields = FIELDS_OF_FORMULA + len(self._pet)
        fields += len(self._providers) + 2
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
        return spread_over_day(daily[day - day[0]], starts, step, self._site.longitude, self.weather.pet.noon)

    def _pet_between(self, first: int, stop: int) -> np.ndarray:
        values = {name: self._read(one, first, stop) for name, one in self._pet.items()}
        method = self.weather.method
        if method is None or method == "given":
            return values[PET].copy()
        starts = self._days[first:stop]
        for name, one in self._pet.items():
            self._check(name, values[name], starts, one.missing[first:stop], DAY)
        self._check_range(values)
        return compute(method, int(starts[0].astype("datetime64[s]").astype(np.int64)), values, self._site)

    def _check_range(self, values: Mapping[str, np.ndarray]) -> None:
        """Refuse extremes of days that are one number: means of the day, whose range of 0 would make no demand."""
        if not set(RANGE) <= set(values):
            return
        low, high = (values[name] for name in RANGE)
        valid = ~(np.isnan(low) | np.isnan(high))
        if np.count_nonzero(valid) < FEW or not (low[valid] == high[valid]).all():
            return
        sources = self._direct | self._pet
        raise ForcingError(
            f"{sources[RANGE[0]].where}: the lowest and the highest temperature of all {np.count_nonzero(valid)} days "
            "and cells (of this block of time) are the same, expected a range: both are means of the day, as in the "
            "files of CAMELS (US) by Maurer and NLDAS. Take another source, or a formula of the mean, such as oudin."
        )

    def _check_sign(self, name: str, values: np.ndarray) -> None:
        """Refuse what is below zero in the mean of a block: no rounding, whatever is allowed as such."""
        valid = values[~np.isnan(values)]
        mean = float(valid.mean()) if valid.size else 0.0
        if mean >= -ROUNDING or np.count_nonzero(valid < 0.0) < np.count_nonzero(valid) / 2:
            return  # a few of them, such as -9999 for missing, are no sign: each is refused
        source = (self._direct | self._pet).get(name)
        where = source.where if source is not None else f"pet.method {self.weather.pet.method}"
        key = variable(name).key
        raise ForcingError(
            f"{where}: '{name}' is {mean:.3g} {variable(name).units} in the mean of cells and time, {valid.min():.3g} "
            f"at least, expected 0 or more: its sign is that of a flux downwards, as of ERA5's potential evaporation. "
            f"Set forcing.{key}.scale: -1, or correct the source or its `kind`."
        )

    def _check(
        self, name: str, values: np.ndarray, starts: np.ndarray, gone: np.ndarray, seconds: int | None = None
    ) -> None:
        """Raise on values without a meaning, of steps [s]; rounding below zero becomes zero, in place."""
        entry = variable(name)
        seconds = self.steps.step if seconds is None else seconds
        low, high = entry.known.limits(seconds)
        if low == 0.0:
            self._check_sign(name, values)
            tiny = (values < 0.0) & (values >= -self.weather.forcing.negative_tolerance)
            values[tiny] = 0.0
        wrong = ~((values >= low) & (values <= high))
        wrong[gone] = False
        if not wrong.any():
            return
        row, cell = (int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        cells = self.target.drainage.cells
        value = float(values[row, cell])
        source = (self._direct | self._pet).get(name)
        where = source.where if source is not None else f"pet.method {self.weather.pet.method}"
        tolerance = ", or raise negative_tolerance" if low == 0.0 and value < 0.0 else ""
        if np.isnan(value):
            got, guess = "missing", ""
            remedy = (
                "Complete the source, set `gaps` to share or nearest where others have a value then, or declare the "
                "stamp as `missing`."
            )
        else:
            got = f"{value:g} {entry.units}"
            guess = entry.known.guess(value, entry.units, entry.units, seconds)
            remedy = f"Correct the source, its units or `kind`{tolerance}."
            if any(np.isclose(value, one, rtol=1e-6) for one in FILLS):
                guess = " It looks like a number for missing: name it (`missing_values` of a table, _FillValue)."
        raise ForcingError(
            f"{where}: '{name}' is {got} at {date_text(starts[row])} in cell {cells.id[cell]} at "
            f"{cells.lon[cell]:.3f} E, {cells.lat[cell]:.3f} N, the first of {np.count_nonzero(wrong)} such values in "
            f"{np.count_nonzero(wrong.any(axis=0))} cells (of this block of time), expected {low:g} to {high:g}."
            f"{guess} {remedy}"
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


def _copy(out: netCDF4.Variable, partial: Path, k: int, steps: range, width: int, plan: _Plan) -> None:
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
