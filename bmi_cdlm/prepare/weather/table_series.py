"""Series of basins or stations from tables: a file for each, a column for each, or rows of all; read as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.names.calendars import STANDARD, date_text, differs, in_calendar
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.gauges.record_sources import id_text
from bmi_cdlm.prepare.gauges.tables import Wanted, read_table
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.packages import resolve
from bmi_cdlm.prepare.text_tables import check_once, find_column, numbers_of, read_text, rows_of, stamps_of
from bmi_cdlm.prepare.weather.curved import CurvedGrid
from bmi_cdlm.prepare.weather.fields import Places, stat_of
from bmi_cdlm.prepare.weather.gridded import choose_variable, is_time, open_dataset, within_range
from bmi_cdlm.prepare.weather.timeline import Stamps, find, interval_starts, read_stamps, spacing
from bmi_cdlm.prepare.weather.weather_config import ForcingSource

NETCDF = (".nc", ".nc4", ".cdf")
STATION = {
    "id": Wanted(text=True, required=True), "lon": Wanted(units="degrees", required=True),
    "lat": Wanted(units="degrees", required=True),
}


class Series(NamedTuple):
    """One place: stamps of its intervals with bounds where the file has some, values float64[interval], units."""

    stamps: Stamps
    values: np.ndarray
    units: str | None


class TableFiles:
    """A variable of basins or stations in tables.

    Parameters
    ----------
    ids : sequence of str, optional
        Basins that matter: of files for each only theirs are read. Without it, the first file stands for all.
    calendar : str
        Of the dates in tables, which do not tell it; one that it has not is an error.
    """

    cell_methods = ""

    def __init__(
        self, source: ForcingSource, usual: Sequence[str], folder: Path, model_step: int,
        ids: Sequence[str] | None = None, calendar: str = STANDARD,
    ) -> None:
        if len(source.source) > 1:
            raise ForcingError(f"{', '.join(source.source)}: expected one path of tables. Name one.")
        self._source, self._usual, self._folder = source, usual, folder
        self._paths: list[Path] = []
        self._calendar = calendar
        found = self._files(ids) if source.layout == "single" else self._columns(ids)
        self.where = str(self._paths[0])
        first = next(iter(found.values()))
        bounds = first.stamps.bounds
        length = int((bounds[0, 1] - bounds[0, 0]).astype(np.int64)) if bounds is not None else 0
        apart = [spacing(one.stamps.values) for one in found.values()]
        self.step = source.step or length or min((one for one in apart if one), default=model_step)
        self.units = source.units or first.units
        self._join(found)
        self.shape: Grid | CurvedGrid | Places = Places(list(found), *self._positions(list(found)))
        self._declared = np.array(list(source.missing), "datetime64[s]")
        self._sources, self.n_read = np.arange(len(found)), len(found)

    def _files(self, ids: Sequence[str] | None) -> dict[str, Series]:
        """Series of files for each."""
        text = self._source.source[0]
        if "{id}" not in text:
            raise ForcingError(f"{text}: layout single without {{id}} in the path. Expected it in the place of the id.")
        paths = _paths_by_id(str(resolve(text, self._folder)))
        if not paths:
            raise ForcingError(f"{text}: no file matches. Expected a file for each basin, {{id}} being its id.")
        wanted = [next(iter(paths))] if ids is None else [one for one in ids if one in paths]
        if not wanted:
            raise ForcingError(
                f"{text}: {len(paths)} files match, of basins such as {next(iter(paths))}, but none of a basin or "
                f"gauge of the domain, such as {ids[0] if ids else 'none'}. Expected the same ids. Correct the path or "
                "the ids."
            )
        self._paths = [paths[one] for one in wanted]
        return {one: self._read(paths[one]) for one in wanted}

    def _read(self, path: Path) -> Series:
        if path.suffix.lower() in NETCDF:
            return self._read_netcdf(path)
        table = read_text(path, self._source, ForcingError)
        return Series(self._stamps(table, path),
                      self._values(table, path), None)

    def _stamps(self, table: Any, path: Path) -> Stamps:
        """The stamps of a table, which are dates of the run's calendar."""
        real = stamps_of(table, self._source, path, ForcingError)
        stamps, there = in_calendar(real, self._calendar)
        if not there.all():
            raise ForcingError(
                f"{path}: has a row of {date_text(real[~there][0])}, a day that the calendar {self._calendar} does not "
                f"have ({np.count_nonzero(~there)} such rows). Expected dates of the run's calendar. Set the calendar "
                "that the table counts in as the run's."
            )
        return Stamps(("time",), stamps, None)

    def _values(self, table: Any, path: Path) -> np.ndarray:
        """Values of a table of one place, or of some rows."""
        source = self._source
        names = source.variable if source.variable is not None else tuple(self._usual)
        values = self._numbers(find_column(table, names, path, ForcingError), path)
        for name in source.add:
            values = values + self._numbers(find_column(table, name, path, ForcingError), path)
        if source.times is not None:
            values = values * self._numbers(find_column(table, source.times, path, ForcingError), path)
        return values

    def _numbers(self, column: Any, path: Path) -> np.ndarray:
        values = numbers_of(column, self._source, path, ForcingError)
        values[np.isin(values, self._source.missing_values)] = np.nan
        return values

    def _read_netcdf(self, path: Path) -> Series:
        if self._source.times is not None:
            raise ForcingError(f"{path}: `times` is a column of a table, and this is NetCDF. Leave the key out.")
        with open_dataset(path, ForcingError) as dataset:
            asked = self._source.variable
            names = (str(asked),) if isinstance(asked, str | int) else tuple(str(one) for one in asked or ())
            name = next((one for one in names if one in dataset.variables), names[0] if names else None)
            name = choose_variable(dataset, name, self._usual, str(path), ForcingError)
            array = dataset[name]
            space = tuple(str(d) for d in array.dims if array.sizes[d] == 1 and not is_time(dataset, str(d)))
            stamps = read_stamps(dataset, array, space, str(path), ForcingError)
            values = self._whole(array)
            for more in self._source.add:
                values = values + self._whole(dataset[choose_variable(dataset, more, (), str(path), ForcingError)])
            if values.size != stamps.values.size:
                raise ForcingError(
                    f"{path}: '{name}' lies on {array.dims}, expected times only in a file of one basin. Name another "
                    "variable, or leave {id} out of the path of a file with all basins."
                )
            units = array.attrs.get("units")
        return Series(stamps, values, None if units is None else str(units))

    def _whole(self, array: Any) -> np.ndarray:
        """All values of a variable, float64[value], those that stand for missing as NaN."""
        values = within_range(np.asarray(array.values, np.float64).ravel(), array)
        values[np.isin(values, self._source.missing_values)] = np.nan
        return values

    def _columns(self, ids: Sequence[str] | None) -> dict[str, Series]:
        """Series of one table."""
        path = _only_file(resolve(self._source.source[0], self._folder))
        self._paths = [path]
        table, source = read_text(path, self._source, ForcingError), self._source
        if source.layout == "long":
            names = find_column(table, source.id_column, path, ForcingError).map(lambda one: id_text(one).strip())
            return {
                one: Series(self._stamps(rows, path),
                            self._values(rows, path), None)
                for one, rows in table.groupby(names, sort=False) if ids is None or source.stations or one in ids
            } or self._none_of(path, names.unique().tolist(), ids)
        stamps = self._stamps(table, path)
        pieces = source.time_column if isinstance(source.time_column, tuple) else (source.time_column,)
        aside = {find_column(table, name, path, ForcingError).name for name in pieces}
        known = [str(one) for one in table.columns if one not in aside]
        kept = [one for one in known if ids is None or source.stations or one in ids]
        for one in kept:
            check_once(table, one, path, ForcingError)
        found = {one: Series(stamps, self._numbers(table[one], path), None) for one in kept}
        return found or self._none_of(path, known, ids)

    def _none_of(self, path: Path, known: list[str], ids: Sequence[str] | None) -> dict[str, Series]:
        raise ForcingError(
            f"{path}: none of its {len(known)} basins or stations, such as {', '.join(known[:3])}, is one of the "
            f"domain, such as {ids[0] if ids else 'none'}. Expected the same ids. Correct them, or name `stations` "
            "with their places for method nearest."
        )

    def _join(self, found: dict[str, Series]) -> None:
        """Bring all places onto the intervals that any of them has."""
        starts = []
        for one, series in found.items():
            begin = interval_starts(
                series.stamps, self._source.stamp, self.step, self._source.utc_offset, self.where, ForcingError
            )
            if np.unique(begin).size < begin.size:
                twice = np.sort(begin)[np.flatnonzero(np.diff(np.sort(begin)).astype(np.int64) == 0)[0]]
                raise ForcingError(
                    f"{self.where}: the interval from {date_text(twice)} is there twice for {one}, expected each "
                    "once. Correct it."
                )
            starts.append(begin)
        self._starts = np.unique(np.concatenate(starts))
        self._all = np.full((self._starts.size, len(found)), np.nan)
        for k, (begin, series) in enumerate(zip(starts, found.values(), strict=True)):
            self._all[np.searchsorted(self._starts, begin), k] = series.values

    def _positions(self, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of stations [degrees], NaN where they are not told."""
        if self._source.stations is None:
            return np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        path = resolve(self._source.stations, self._folder)
        table = read_table(path, self._source.station_columns, STATION, {}, ForcingError)
        place = rows_of(table["id"].tolist(), str(path), ForcingError)
        absent = [one for one in ids if one not in place]
        if absent:
            raise ForcingError(
                f"{path}: has no station '{absent[0]}' ({len(absent)} such), which {self.where} has. Add it."
            )
        rows = [place[one] for one in ids]
        return table["lon"][rows], table["lat"][rows]

    def want(self, starts: np.ndarray) -> np.ndarray:
        """Find every interval; ForcingError where no place has it."""
        other = differs(self._starts, starts)
        if other:
            raise ForcingError(f"{self.where}: {other}")
        position = find(self._starts, starts)
        missing = np.isin(starts, self._declared) & (position < 0)
        absent = np.flatnonzero((position < 0) & ~missing)
        if absent.size:
            end = self._starts[-1] + np.timedelta64(self.step, "s")
            raise ForcingError(
                f"{self.where}: has no interval of {self.step} s from {date_text(starts[absent[0]])} UTC "
                f"({absent.size} of {starts.size} are absent); it begins at {date_text(self._starts[0])} and ends at "
                f"{date_text(end)}. "
                "Expected every interval. Complete the tables, check `stamp`, `step` and `utc_offset`, or declare "
                "gaps as `missing`."
            )
        self._position = position
        return missing

    def select(self, sources: np.ndarray) -> None:
        """Read these places from now on."""
        self._sources, self.n_read = sources, sources.size

    def read(self, first: int, stop: int) -> np.ndarray:
        """Wanted intervals as float64[step, used]."""
        position = self._position[first:stop]
        values = self._all[np.maximum(position, 0)][:, self._sources]
        values[position < 0] = np.nan
        return values

    def fingerprint(self) -> list[str]:
        """Names, sizes and times of the files."""
        return [stat_of(path) for path in self._paths]


def _only_file(path: Path) -> Path:
    """The file that a path with `*` means; ForcingError where several or none do."""
    steady = next((i for i, part in enumerate(path.parts) if "*" in part), None)
    if steady is None:
        return path
    found = sorted(Path(*path.parts[:steady]).glob("/".join(path.parts[steady:])))
    if len(found) != 1:
        raise ForcingError(
            f"{path}: {len(found)} files match, expected one: {', '.join(str(one) for one in found[:3]) or 'none'}. "
            "Write more of the path."
        )
    return found[0]


def _paths_by_id(text: str) -> dict[str, Path]:
    """Files that a path with {id} (and perhaps *) means, by their id; ForcingError where an id has several."""
    parts = Path(text.replace("{id}", "*")).parts
    steady = next(i for i, part in enumerate(parts) if "*" in part)
    form = re.escape(text).replace(re.escape("{id}"), "{id}").replace(r"\*", "[^/]*")
    head, *rest = form.split("{id}")
    form = head + "(?P<id>[^/]+?)" + "(?P=id)".join(rest)
    found: dict[str, Path] = {}
    for path in sorted(Path(*parts[:steady]).glob("/".join(parts[steady:]))):
        match = re.fullmatch(form, str(path))
        if match is None:
            continue
        if match["id"] in found:
            raise ForcingError(
                f"{text}: {found[match['id']]} and {path} are both of basin {match['id']}. Expected one file for each; "
                "write more of the path."
            )
        found[match["id"]] = path
    return found
