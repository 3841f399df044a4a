"""Values of configuration keys: durations, dates, amounts of memory."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    PlainSerializer,
    ValidationInfo,
)

from bmi_cdlm.names.calendars import NAMES_IN_FILES, STANDARD, calendar_of, date_text, parse
from bmi_cdlm.names.coupling import COUPLING
from bmi_cdlm.names.entry import SUMMED
from bmi_cdlm.names.errors import shown
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select

GRIDS = {"gauges": "reach", "reaches": "reach", "cells": "cell"}
"""Where `output_at` may write, and the grid of what is there."""
LONGEST_NUMBER = 15
UNITS = {"s": 1, "min": 60, "h": HOUR, "d": DAY}
DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}(?::\d{2}){0,2})?$")
BYTES = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"'{shown(text)}' has {len(text)} digits; expected at most {LONGEST_NUMBER}")
    return int(text)


def parse_duration(value: object) -> int:
    """Return the seconds of a duration such as '1 d', '1 h' or '15 min'."""
    words = str(value).split()
    if len(words) == 2 and words[1] in UNITS and words[0].isdecimal() and 0 < int(words[0][:LONGEST_NUMBER]):
        return _whole(words[0]) * UNITS[words[1]]
    raise ValueError(
        f"'{shown(value)}' is not a duration; expected a whole number and a unit, such as '1 d', '1 h', '15 min'"
    )


def parse_memory(value: object) -> int:
    """Return the bytes of an amount of memory such as '512 MiB' or '2 GB'."""
    words = str(value).split()
    if len(words) == 2 and words[1] in BYTES and words[0].isdecimal() and 0 < int(words[0][:LONGEST_NUMBER]):
        return _whole(words[0]) * BYTES[words[1]]
    raise ValueError(
        f"'{shown(value)}' is no amount of memory; expected a whole number and a unit, such as '512 MiB', '2 GiB', "
        "'2 GB'"
    )


def duration_text(seconds: int) -> str:
    """The duration that `parse_duration` reads, in its largest whole unit."""
    unit = max((u for u, size in UNITS.items() if seconds % size == 0), key=UNITS.__getitem__)
    return f"{seconds // UNITS[unit]} {unit}"


def memory_text(size: int) -> str:
    """The amount of memory that `parse_memory` reads, in its largest whole unit; bytes have none."""
    whole = [unit for unit, one in BYTES.items() if size % one == 0]
    unit = max(whole, key=BYTES.__getitem__) if whole else ""
    return f"{size // BYTES[unit]} {unit}" if whole else str(size)


def parse_date(value: object, calendar: str = STANDARD) -> np.datetime64:
    """Return a date or time of day as datetime64[s], from text, dates or datetime objects, in a calendar."""
    wrong = f"'{shown(value)}' is not a date; expected for example 2012-08-01 or 2012-08-01T06:00"
    if isinstance(value, np.datetime64) and calendar_of(value) != STANDARD:
        return value
    if calendar != STANDARD:
        try:
            return parse(str(value), calendar)
        except ValueError as cause:
            raise ValueError(f"{wrong}, in the calendar {calendar}: {cause}") from cause
    if isinstance(value, np.datetime64) and not np.isnat(value):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError as cause:
            if DATE.match(str(value).strip()):  # the form is right, the day or hour does not exist
                wrong = f"{wrong}, a time that exists: {cause}"
            raise ValueError(wrong) from cause
    if not isinstance(value, datetime.date):  # a number among them: 2012 is no date
        raise ValueError(wrong)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            try:
                value = value.astimezone(datetime.UTC).replace(tzinfo=None)
            except OverflowError as cause:
                raise ValueError(wrong) from cause
        if value.microsecond:
            raise ValueError(f"'{shown(value)}' is within a second; expected a whole second")
    return np.datetime64(value, "s")


def _date_in_calendar(value: object, info: ValidationInfo) -> np.datetime64:
    """A date in the calendar of the configuration: the key before it, or of the run that a block belongs to."""
    found = {**(info.data or {}), **(info.context or {})}
    return parse_date(value, found.get("calendar", STANDARD))


def parse_time_of_day(value: object) -> int:
    """Return the seconds from midnight of a time such as 06:00; YAML 1.1 reads 12:00 as 720, in sixties."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value // 60}:{value % 60:02}"
    hours, _, minutes = str(value).partition(":")
    whole = hours.isdecimal() and minutes.isdecimal() and len(hours) <= 2 == len(minutes)
    if whole and int(hours) < 24 and int(minutes) < 60:
        return int(hours) * HOUR + int(minutes) * 60
    raise ValueError(f"'{shown(value)}' is no time of day; expected hours and minutes, such as '06:00'")


def parse_places(value: object) -> object:
    """Let ids be whole numbers, as YAML reads most of them."""
    if isinstance(value, list):
        for one in value:
            if isinstance(one, float):
                raise ValueError(f"{one!r} is a number with a fraction or exponent; expected an id: put it in quotes")
        return [str(i) if isinstance(i, int) and not isinstance(i, bool) else i for i in value]
    return value


def parse_fill(value: object) -> object:
    """Let one word stand for every input."""
    return {v.short: value for v in select(role="input")} if isinstance(value, str) else value


def parse_calendar(value: object) -> object:
    """Let the names that files use stand for a calendar."""
    return NAMES_IN_FILES.get(value, value) if isinstance(value, str) else value


def parse_call_sums(value: object) -> object:
    """Let `all` be every flux that has a sum."""
    fluxes = (v for v in (*select(role="flux"), *COUPLING) if v.role == "flux" and v.units in SUMMED)
    return tuple(v.short for v in fluxes) if value == "all" else value


def parse_output_places(value: object) -> object:
    """Let ids of reaches be whole numbers, or lines of a file."""
    if isinstance(value, str | Path) and str(value) not in GRIDS:
        try:
            if not Path(value).is_file():
                raise FileNotFoundError("there is no such file")
            lines = Path(value).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as cause:
            raise ValueError(
                f"'{value}' cannot be read ({cause}); expected gauges, reaches, cells, a list of reach ids, or a text "
                "file with one reach id a line"
            ) from cause
        return [line.strip() for line in lines if line.strip()]
    return parse_places(value)


Seconds = Annotated[int, BeforeValidator(parse_duration)]
TimeOfDay = Annotated[int, BeforeValidator(parse_time_of_day)]
Memory = Annotated[int, BeforeValidator(parse_memory)]
Date = Annotated[Any, BeforeValidator(_date_in_calendar), PlainSerializer(date_text)]
Fill = Literal["refuse", "zero", "hold", "interpolate"]
Calendar = Annotated[Literal["standard", "noleap", "360_day"], BeforeValidator(parse_calendar)]
Places = Annotated[Literal["gauges", "reaches", "cells"] | tuple[str, ...], BeforeValidator(parse_output_places)]
