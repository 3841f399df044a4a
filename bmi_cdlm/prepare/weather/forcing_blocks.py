"""Blocks of time of a forcing file: read, made and checked one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmi_cdlm.files.amounts import RAIN, doubt, told
from bmi_cdlm.model.pet import RANGE
from bmi_cdlm.names.calendars import mean_year
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.weather.forcing_checks import check_range, check_values
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather, needs
from bmi_cdlm.prepare.weather.inputs import PET, Target
from bmi_cdlm.prepare.weather.pet import BY_PYET, Site, compute, formula_of, spread_over_day
from bmi_cdlm.prepare.weather.quantities import Given, Provider, Quantity, open_quantity
from bmi_cdlm.version import __version__

FIELDS, FIELDS_OF_PYET, FIELDS_OF_FORMULA = 3, 20, 7
# Arrays of a block that exist at once, float64 each, beside the inputs [counted, then measured]: where demand is given,
# made by pyet, or by a formula, which reads some more.


class ForcingBlocks:
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
            self._check(name, values, self.steps.starts[first:stop], self.missing[name][first:stop], self.steps.step)
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
        if set(RANGE) <= set(values):
            check_range(values, (self._direct | self._pet)[RANGE[0]].where)

    def _check(self, name: str, values: np.ndarray, starts: np.ndarray, gone: np.ndarray, seconds: int) -> None:
        """Refuse values without a meaning, of steps [s]; rounding below zero becomes zero, in place."""
        source = (self._direct | self._pet).get(name)
        where = source.where if source is not None else f"pet.method {self.weather.pet.method}"
        check_values(
            name, values, starts, gone, seconds=seconds, tolerance=self.weather.forcing.negative_tolerance, where=where,
            target=self.target,
        )
