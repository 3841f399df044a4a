"""What a file of parameters was fitted to: gauges and years, so that nothing is tested on what it has seen."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time, open_input
from bmi_cdlm.generator.checkpoint import load_checkpoint, load_members
from bmi_cdlm.maps.files import LEARNED_FROM
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CheckpointError, ConfigError, ParameterError

FITTED_IN = ("train", "validation")
"""Periods of a record that a fit has looked at: that of its loss, and that which chose its epoch."""
KEYS = ("gauges", LEARNED_FROM, "periods")
"""Attributes of a parameter file that say so."""


class Seen(NamedTuple):
    """What a file has seen: ids of gauges, and periods as texts, begin and end; both empty where it does not say."""

    where: str
    gauges: frozenset[str]
    periods: tuple[tuple[str, str], ...]

    def check_gauges(self, key: str, held_out: Collection[str], what: str, remedy: str) -> None:
        """Refuse a file that saw a gauge which is held out.

        Raises
        ------
        ConfigError
            Naming the key, the file and the first of these gauges.
        """
        both = [gauge for gauge in held_out if gauge in self.gauges]
        if both:
            raise ConfigError(
                f"{key}: {self.where} was fitted to gauge {both[0]}, which {what} holds out ({len(both)} of "
                f"{len(held_out)} such gauges). Expected one that never saw it. {remedy}"
            )

    def check_period(
        self, key: str, gauges: Collection[str], test: tuple[np.datetime64, np.datetime64], remedy: str
    ) -> None:
        """Refuse a file that saw the test period at one of the gauges which are tested; ConfigError as above."""
        both = self.gauges.intersection(gauges)
        begin, end = (date_text(t) for t in test)  # as texts, which are in order in whatever calendar they are
        late = [period for period in self.periods if period[0] < end and begin < period[1]]
        if both and late:
            raise ConfigError(
                f"{key}: {self.where} was fitted to {' to '.join(late[0])} at gauge {min(both)}, and the test period "
                f"is {begin} to {end}. Expected one that never saw it. {remedy}"
            )


def what_it_saw(path: Path, member: int | None = None) -> Seen:
    """What a checkpoint, a network of windows or a parameter file has seen, as its record says.

    member : of an ensemble, from 1; without it what any of them has.

    Raises
    ------
    CheckpointError, ParameterError
        No such file, or none of these.
    """
    if path.suffix == ".nc":
        return _of_file(path)
    try:
        found = load_members(path) if member is None else (load_checkpoint(path, member),)
        records = [one.record for one in found]
    except CheckpointError as cause:
        from cdlm_training.window_file import load_windowed

        try:
            records = [load_windowed(path).record]
        except CheckpointError:
            raise cause from None
    gauges = frozenset(gauge for record in records for gauge in record.get("gauges", []))
    return Seen(str(path), gauges, tuple(period for record in records for period in _periods(record)))


def _periods(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = record.get("periods", {})
    return [(str(found[name][0]), str(found[name][1])) for name in FITTED_IN if name in found]


@one_at_a_time
def _of_file(path: Path) -> Seen:
    with open_input(path, ParameterError) as data:
        texts = {name: str(data.getncattr(name)) for name in KEYS if name in data.ncattrs()}
    try:
        known = {name: json.loads(text) for name, text in texts.items()}
    except ValueError:  # of another hand
        known = {}
    gauges = frozenset(str(gauge) for name in KEYS[:2] for gauge in known.get(name, []))
    return Seen(str(path), gauges, tuple(_periods(known)))
