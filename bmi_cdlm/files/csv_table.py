"""Small tables in CSV that people write by hand or in a spreadsheet: read whole, or refused with the line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from bmi_cdlm.names.errors import CdlmError, shown


class CsvTable(NamedTuple):
    """A table as text, blanks around values taken off: headings, and per line its number and value by heading."""

    headings: list[str]
    lines: list[tuple[int, dict[str, str]]]


def read_lines(path: Path, error: type[CdlmError], expected: str = "a table in CSV") -> list[tuple[int, list[str]]]:
    """Number and values of every line that holds anything; a mark of a spreadsheet at the begin (BOM) is left out.

    Raises
    ------
    error
        No such file, or one that is no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            return [(reader.line_num, [one.strip() for one in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise error(f"{path}: cannot be read ({cause}). Expected {expected}.") from cause


def read_csv(path: Path, error: type[CdlmError], expected: str = "a table in CSV") -> CsvTable:
    """Read a table with headings.

    Raises
    ------
    error
        As `read_lines`; a heading that stands twice; a line with more or fewer values than there are headings, such as
        one with a comma in a number.
    """
    lines = read_lines(path, error, expected)
    headings = lines[0][1] if lines else []
    twice = [name for name in headings if name and headings.count(name) > 1]
    if twice:
        raise error(f"{path}: the column '{shown(twice[0])}' stands twice, expected once. Take one out.")
    for number, row in lines[1:]:
        if len(row) != len(headings):
            raise error(
                f"{path}: line {number} has {len(row)} values, expected {len(headings)}, one for each of "
                f"{shown(', '.join(headings))}. Correct it; a value with a comma in it stands in quotes."
            )
    return CsvTable(headings, [(number, dict(zip(headings, row, strict=True))) for number, row in lines[1:]])


def rows_by(table: CsvTable, heading: str, path: Path, error: type[CdlmError]) -> dict[str, dict[str, str]]:
    """Rows by the value of a column, such as the id of a gauge.

    Raises
    ------
    error
        A line without it, or two lines of one.
    """
    found: dict[str, dict[str, str]] = {}
    for number, row in table.lines:
        key = row[heading]
        if not key or key in found:
            what = f"'{shown(key)}' stands in an earlier line too" if key else f"'{heading}' is empty"
            raise error(f"{path}: line {number}: {what}, expected one for each. Correct the table.")
        found[key] = row
    return found
