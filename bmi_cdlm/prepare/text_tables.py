"""Tables as they are handed out: any encoding, lines before and below headings, dates in pieces, words for gaps."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from bmi_cdlm.names.errors import CdlmError, nearest
from bmi_cdlm.prepare.packages import load

if TYPE_CHECKING:
    from bmi_cdlm.prepare.weather.weather_config import TextKeys

Name = str | int
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None", "-", "--", "---")
"""Words that mean missing in any table."""
PIECES = {3: "%Y %m %d", 4: "%Y %m %d %H", 5: "%Y %m %d %H %M", 6: "%Y %m %d %H %M %S"}
"""Format of a date that is spread over so many columns."""
FORMATS = re.compile(r"\d+[sdn](?:\t\d+[sdn])+\s*", re.IGNORECASE)
"""The line of formats (5s, 14n) below the headings of an rdb table."""
ZONES = {
    "UTC": 0, "GMT": 0, "Z": 0, "AST": -4, "ADT": -3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8, "HST": -10, "HDT": -9, "SST": -11, "ChST": 10, "NST": -3.5,
    "NDT": -2.5,     "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "EET": 2, "EEST": 3, "BST": 1,
}
"""Hours ahead of UTC of clocks in zone columns, as the USGS and European services write them."""
MOST_SHOWN = 5
TSS = ".tss"


def read_text(path: Path, keys: TextKeys, error: type[CdlmError]) -> Any:
    """Return a table as a pandas.DataFrame of text, its columns by heading, or by place from 1 without headings.

    Raises
    ------
    error
        A file that is not there, in another encoding than said (beside comments), or no table.
    """
    lines = [line for line in _text(path, keys, error).splitlines() if line.strip()]
    if path.suffix.lower() == TSS:
        return _read_tss(lines, path, error)
    if keys.comment_marks:
        lines = [line for line in lines if not line.lstrip().startswith(tuple(keys.comment_marks))]
    lines = lines[keys.skip_rows :]
    if keys.headings:
        lines[1:] = lines[1 + keys.skip_below :]
        if len(lines) > 1 and keys.delimiter == "\t" and FORMATS.fullmatch(lines[1]):
            del lines[1]
    else:
        lines = lines[keys.skip_below :]
    if len(lines) <= int(keys.headings):
        raise error(f"{path}: has no line of values, expected a table. Check skip_rows and skip_below, or the file.")
    pandas = load("pandas")
    if len(keys.delimiter) == 1 and all(line.rstrip(" ").endswith(keys.delimiter) for line in lines[1:]):
        lines = [lines[0], *(line.rstrip(" ")[:-1] for line in lines[1:])]  # one at the end of every line
    mark = keys.comment_marks[0] if len(keys.comment_marks) == 1 and len(keys.comment_marks[0]) == 1 else None
    how = {"sep": keys.delimiter, "dtype": str, "skipinitialspace": True, "keep_default_na": False, "comment": mark}
    try:
        with warnings.catch_warnings():  # pandas drops what is beyond the headings with a warning
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                io.StringIO("\n".join(lines)), header=0 if keys.headings else None, index_col=False, **how
            )
        first = pandas.read_csv(io.StringIO(lines[0]), header=None, **how).iloc[0]
    except pandas.errors.ParserWarning as cause:
        raise error(
            f"{path}: lines of values have more fields than the headings, '{lines[0][:60]}'. Expected as many. Check "
            "`delimiter` and `decimal`: a comma may stand for both."
        ) from cause
    except ValueError as cause:
        raise error(
            f"{path}: cannot be read as a table ({' '.join(str(cause).split())}). Expected as many fields in every "
            "line; check `delimiter` and `skip_rows`."
        ) from cause
    frame.columns = [str(c).strip() for c in frame.columns] if keys.headings else list(range(1, frame.shape[1] + 1))
    if keys.headings:
        names = [str(c).strip() for c in first.tolist()]
        frame.attrs["twice"] = {name for name in names if name and names.count(name) > 1}
    return frame.fillna("")


def _read_tss(lines: list[str], path: Path, error: type[CdlmError]) -> Any:
    """A time series table of PCRaster as text: a title, the number of columns, a line for each; or values alone."""
    names: list[str] = []
    if len(lines) > 1 and len(lines[1].split()) == 1 and lines[1].strip().isdecimal() and not _is_number(lines[0]):
        n = int(lines[1])
        names, lines = [line.strip() for line in lines[2 : 2 + n]], lines[2 + n :]
    rows = [line.split() for line in lines]
    width = len(names) or (len(rows[0]) if rows else 0)
    wrong = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if not rows or wrong is not None or width < 2:
        got = "no line of values" if wrong is None else f"'{' '.join(rows[wrong])[:60]}' in line {wrong + 1} of values"
        raise error(
            f"{path}: has {got}, expected a time step and {max(width - 1, 1)} values, blanks between them, below a "
            "title, the number of columns and their names. Correct the table."
        )
    names = names or [str(k) for k in range(width)]
    table = load("pandas").DataFrame(rows, columns=["time", *names[1:]], dtype=str)
    table = table.replace(dict.fromkeys(("1e31", "1e+31", "1E31", "1E+31"), ""))
    table.attrs["twice"] = {one for one in names if names.count(one) > 1}
    return table


def _is_number(text: str) -> bool:
    try:
        float(text.split()[0])
    except ValueError:
        return False
    return True


def rows_of(ids: Sequence[str], where: str, error: type[CdlmError]) -> dict[str, int]:
    """Return the row of every id.

    Raises
    ------
    error
        One that stands twice: which of them is meant, nobody knows.
    """
    rows = {one: i for i, one in enumerate(ids)}
    if len(rows) < len(ids):
        twice = next(one for i, one in enumerate(ids) if rows[one] != i)
        raise error(f"{where}: the id '{twice}' stands twice, expected each once. Correct it, or name another column.")
    return rows


def check_once(table: Any, name: Name, path: Path, error: type[CdlmError]) -> None:
    """Refuse a column whose heading stands twice: which of them is meant, nobody knows."""
    if name in table.attrs.get("twice", ()):
        raise error(f"{path}: the heading '{name}' stands twice, expected once. Rename one, or name it by its place.")


def _text(path: Path, keys: TextKeys, error: type[CdlmError]) -> str:
    """The text of a file; letters of another encoding do no harm in comments, which are left out."""
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror}). Expected delimited text.") from cause
    encoding = "utf-8-sig" if keys.encoding.lower().replace("-", "") == "utf8" else keys.encoding
    try:
        return content.decode(encoding)
    except LookupError as cause:
        raise error(
            f"{path}: encoding '{keys.encoding}' is not known. Expected such as utf-8, latin-1, cp1252."
        ) from cause
    except UnicodeDecodeError as cause:
        marks = tuple(mark.encode("ascii", "replace") for mark in keys.comment_marks)
        plain = [line for line in content.splitlines() if not (marks and line.lstrip().startswith(marks))]
        try:
            return b"\n".join(plain).decode(encoding)
        except UnicodeDecodeError:
            raise error(
                f"{path}: cannot be read as {keys.encoding} ({cause.reason} {content[cause.start]:#04x} at byte "
                f"{cause.start}). Set `encoding`, such as latin-1 or cp1252."
            ) from cause


def find_column(table: Any, name: Name | Sequence[Name], path: Path, error: type[CdlmError]) -> Any:
    """Return the column of a name, a place from 1, or the first of several that is there; `*` stands for any letters.

    Raises
    ------
    error
        None or several fit.
    """
    names = [name] if isinstance(name, str | int) else list(name)
    known = list(table.columns)
    for one in names:
        if one in known:
            check_once(table, one, path, error)
            return table[one]
        if isinstance(one, int) and 1 <= one <= len(known):
            return table.iloc[:, one - 1]
        fitting = [c for c in known if isinstance(one, str) and "*" in one and fnmatchcase(str(c), one)]
        if len(fitting) > 1:
            raise error(f"{path}: columns {', '.join(fitting)} all fit '{one}', expected one. Write its name out.")
        if fitting:
            return table[fitting[0]]
    shown = ", ".join(map(str, known[:20])) + (" ..." if len(known) > 20 else "")
    raise error(
        f"{path}: has no column '{names[0]}'.{nearest(str(names[0]), map(str, known))} It has: {shown}. Set the "
        "column's name, its place counted from 1, or the delimiter."
    )


def numbers_of(column: Any, keys: TextKeys, path: Path, error: type[CdlmError]) -> np.ndarray:
    """Return a column as float64[row], words that mean missing as NaN.

    Raises
    ------
    error
        Other words, of which the first few are named.
    """
    text = column.astype(str).str.strip()
    text = text.where(~text.isin([*MISSING, *keys.missing_text]), "nan")
    if keys.decimal == ",":
        text = text.str.replace(",", ".", regex=False)
    try:
        return np.asarray(text.to_numpy(np.float64))
    except ValueError as cause:
        found: dict[str, int] = {}
        for one in text.tolist():
            try:
                float(one)
            except ValueError:
                found[one] = found.get(one, 0) + 1
        listed = ", ".join(f"'{word}' ({n} times)" for word, n in list(found.items())[:MOST_SHOWN])
        hint = " Set decimal: ',' for commas." if any("," in word for word in found) else ""
        raise error(
            f"{path}: column '{column.name}': {listed}{' ...' if len(found) > MOST_SHOWN else ''} are no numbers. "
            f"Expected numbers.{hint} Correct the table, or name words that mean missing in missing_text."
        ) from cause


def stamps_of(table: Any, keys: TextKeys, path: Path, error: type[CdlmError]) -> np.ndarray:
    """Return the stamps of a table, datetime64[s][row]: in UTC where a zone is known, else as its clock has them.

    Raises
    ------
    error
        A column that is not there, or a date that cannot be read.
    """
    names = keys.time_column
    pieces = names if isinstance(names, tuple) else (names,)
    if keys.first_step is not None:
        return _counted(find_column(table, names, path, error), keys, path, error)
    columns = [find_column(table, name, path, error).astype(str).str.strip().tolist() for name in pieces]
    texts = [" ".join(row) for row in zip(*columns, strict=True)]
    form = keys.time_format or (PIECES.get(len(pieces)) if len(pieces) > 1 else None)
    moments = []
    for text in texts:
        try:
            moments.append(datetime.fromisoformat(text) if form is None else datetime.strptime(text, form))
        except ValueError as cause:
            raise error(
                f"{path}: column '{', '.join(map(str, pieces))}': '{text}' is no date ({cause}). Expected "
                f"{form or 'ISO 8601'}; set time_format, first_step where steps are counted, or skip_below where "
                "lines below the headings hold no values."
            ) from cause
    if keys.zone_column is not None:
        zones = find_column(table, keys.zone_column, path, error).astype(str).str.strip().tolist()
        moments = [_in_zone(one, zone, path, error) for one, zone in zip(moments, zones, strict=True)]
    elif keys.time_zone is not None:
        moments = _by_clock(moments, keys.time_zone, path, error)
    utc = [moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment for moment in moments]
    return np.array(utc, "datetime64[s]")


def _counted(column: Any, keys: TextKeys, path: Path, error: type[CdlmError]) -> np.ndarray:
    """Stamps of steps that are counted from 1."""
    step: int | None = getattr(keys, "step", None)
    if step is None:
        raise error(f"{path}: counts its steps from first_step, and their length is not known. Set step, such as 1 d.")
    numbers = numbers_of(column, keys, path, error)
    if not (np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()):
        raise error(f"{path}: column '{column.name}' counts steps from first_step, expected whole numbers. Correct it.")
    stamps: np.ndarray = keys.first_step + ((numbers.astype(np.int64) - 1) * step).astype("timedelta64[s]")
    return stamps


def _in_zone(moment: datetime, zone: str, path: Path, error: type[CdlmError]) -> datetime:
    if zone not in ZONES:
        raise error(f"{path}: the zone '{zone}' at {moment} is not known. Expected one of {', '.join(ZONES)}.")
    return moment.replace(tzinfo=timezone(timedelta(hours=ZONES[zone])))


def _by_clock(moments: list[datetime], zone: str, path: Path, error: type[CdlmError]) -> list[datetime]:
    """Moments of a clock with daylight saving; of an hour that comes twice the second is the later one."""
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as cause:
        raise error(
            f"{path}: time_zone '{zone}' is not known. Expected a name such as Europe/Paris or Etc/GMT+5."
        ) from cause
    found: list[datetime] = []
    seen: set[datetime] = set()
    for moment in moments:
        found.append(moment.replace(tzinfo=place, fold=1 if moment in seen else 0))
        seen.add(moment)
    return found
