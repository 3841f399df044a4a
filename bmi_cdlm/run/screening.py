"""Gauges that are near natural and have a record worth the name: a table says which, and every command honours it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bmi_cdlm.files.csv_table import read_csv, rows_by
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.errors import ObservationError, nearest, shown

if TYPE_CHECKING:
    from bmi_cdlm.run.config import Config

REGULATED, WITHDRAWN, SHORT = 0.05, 0.1, 5.0
"""Storage upstream and withdrawals over the mean annual flow [1] above which a gauge is not near natural; years of
record below which it is short [yr]."""
CALENDAR_YEAR = 365 / 365.25
"""Five calendar years are five years, also without their leap day."""
JUDGED = ("degree_of_regulation", "withdrawal", "years", "regulated")
UNKNOWN = "unknown"
SAID = ("yes", "no", UNKNOWN)
"""What a table says of whether a gauge is regulated."""
logger = logging.getLogger(__name__)
TOLD: set[tuple[str, ...]] = set()
"""What this process has said of screened gauges."""


class ScreeningConfig(BaseModel):
    """Which gauges count. The table is relative to the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Path = Field(
        description="CSV with a row per gauge, such as the gauge_report.csv of `cdlm prepare`: id (or gauge) and some "
        "of degree_of_regulation and withdrawal [1, shares of the mean annual flow], years of record [yr], regulated "
        "(yes, no, unknown)."
    )
    columns: dict[str, str] = Field(default={}, description="Headings of the table by these names, where they differ.")
    degree_of_regulation: float = Field(
        default=REGULATED, gt=0, description="Storage upstream over mean annual flow above which a gauge is left "
        "out [1]."
    )
    withdrawal: float = Field(
        default=WITHDRAWN, gt=0, description="Withdrawals over mean annual flow above which a gauge is left out [1]."
    )
    shortest_record: float = Field(
        default=SHORT, ge=0, description="Years of record below which a gauge is left out; calendar years count as "
        "whole [yr]."
    )
    unknown: Literal["keep", "drop"] = Field(
        default="keep", description="What to do with gauges of which neither regulation nor withdrawals are known."
    )


def screened_out(config: ScreeningConfig | None, ids: Sequence[str]) -> dict[str, str]:
    """Gauges that do not count, with the reason, by id; in the order of `ids`.

    Raises
    ------
    ObservationError
        No such table, no column to judge by, a value that is no number, or a gauge that is not there.
    """
    if config is None:
        return {}
    rows = _read(config)
    found = {}
    for gauge in ids:
        if gauge not in rows:
            raise ObservationError(f"{config.table}: has no gauge '{gauge}'.{nearest(gauge, rows)} Add a row.")
        why = _judge(config, rows[gauge])
        if why:
            found[gauge] = why
    told = (str(config.table), *found)
    if found and told not in TOLD:
        TOLD.add(told)
        some = "; ".join(f"{gauge}: {why}" for gauge, why in list(found.items())[:5])
        logger.warning("screening leaves out %d of %d gauges (%s%s)", len(found), len(ids), some,
                       "; ..." if len(found) > 5 else "")
    return found


def read_records(
    run: Config, ids: Sequence[str], first: np.datetime64, last: np.datetime64, step: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Begins of the steps, and observed discharge of a run [m3 s-1], float64[time, gauge], NaN of gauges screened out.

    first, last : begin and end (exclusive); step : that of the model where None [s].
    """
    assert run.observations is not None
    starts, observed = read_observations(run.observations, ids, first, last, step or run.time_step)
    out = screened_out(run.screening, ids)
    if out:
        observed = observed.copy()
        observed[:, [k for k, gauge in enumerate(ids) if gauge in out]] = np.nan
    return starts, observed


def _judge(config: ScreeningConfig, row: Mapping[str, str]) -> str:
    """Why a gauge does not count; empty where it does."""
    values = {name: _number(config, row, name) for name in JUDGED[:3]}
    said = _said(config, row)
    if values["years"] < config.shortest_record * CALENDAR_YEAR:
        return f"{values['years']:.1f} years of record"
    for name, limit in (("degree_of_regulation", config.degree_of_regulation), ("withdrawal", config.withdrawal)):
        if values[name] > limit:
            return f"{name.replace('_', ' ')} {values[name]:.2f}"
    known = any(math.isfinite(values[name]) for name in JUDGED[:2])
    if said == "yes" and not known:
        return "regulated"
    if config.unknown == "drop" and not known and said != "no":
        return "regulation unknown"
    return ""


def _number(config: ScreeningConfig, row: Mapping[str, str], name: str) -> float:
    text = row[name]
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = -1.0
    if value < 0.0 or math.isinf(value):
        raise ObservationError(
            f"{config.table}: {name} of gauge {row['id']} is {shown(text)}, expected a number of 0 or more, or nothing "
            "where it is unknown."
        )
    return value


def _said(config: ScreeningConfig, row: Mapping[str, str]) -> str:
    """Whether the table calls a gauge regulated: yes, no or unknown."""
    said = row["regulated"].lower() or UNKNOWN
    if said not in SAID:
        raise ObservationError(
            f"{config.table}: regulated of gauge {row['id']} is {shown(row['regulated'])}, expected "
            f"{', '.join(SAID)}, or nothing."
        )
    return said


def _read(config: ScreeningConfig) -> dict[str, dict[str, str]]:
    """Rows by id, with our names."""
    where = config.table
    names = ("id", *JUDGED)
    for name in config.columns:
        if name not in names:
            raise ObservationError(
                f"{where}: screening.columns: there is no '{shown(name)}'.{nearest(name, names)} Expected some of "
                f"{', '.join(names)}."
            )
    table = read_csv(where, ObservationError, "a table of gauges in CSV")
    heads = table.headings
    own = {name: config.columns.get(name, name) for name in names}
    if own["id"] == "id" and "id" not in heads and "gauge" in heads:
        own["id"] = "gauge"
    lacking = [head for name, head in own.items() if name in config.columns and head not in heads]
    if own["id"] not in heads or lacking or not any(own[name] in heads for name in JUDGED):
        raise ObservationError(
            f"{where}: has the columns {shown(', '.join(heads))}; expected id (or gauge) and one or more of "
            f"{', '.join(JUDGED)}{f', and {lacking[0]}' if lacking else ''}, with commas between them. Name them in "
            "screening.columns."
        )
    rows = rows_by(table, own["id"], where, ObservationError)
    return {key: {name: row.get(head, "") for name, head in own.items()} for key, row in rows.items()}
