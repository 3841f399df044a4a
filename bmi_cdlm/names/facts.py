"""What is known of an input: its limits, how it is averaged, and how sources name and confuse it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from bmi_cdlm.names.time_steps import DAY

Within = Literal["mean", "lowest", "highest"]
SOURCE_OF_RECORDS = "World Weather and Climate Extremes Archive, WMO"


class Confusion(NamedTuple):
    """Units that values may have by mistake: value in registry units = value * factor + offset."""

    units: str
    factor: float
    offset: float = 0.0


class InputFacts(NamedTuple):
    """What is known of an input, in its registry units.

    low, high : limits of its mean over a day or longer; beyond them lies a fill value or a value in other units.
    typical : what it often is, for measuring time.
    evidence : where the limits come from.
    peaks : (seconds, high) of means over shorter times, the longest first.
    within : how the values within a step become that of the step.
    forms : what is to be made of every single value before any mean is taken, since a mean does not lead there: the
        speed from the components of wind, the vapour pressure from humidity; empty where the mean may be taken.
    key : its name among the sources of `prepare`, where another.
    usual : names under which files have it.
    standard_name : of CF, for the files that we write.
    confused : units that it is given in by mistake, the likeliest first.
    bridge : the longest gap that `hold` and `interpolate` fill unless told otherwise [s].
    """

    low: float
    high: float
    typical: float
    evidence: str
    peaks: tuple[tuple[int, float], ...] = ()
    within: Within = "mean"
    forms: str = ""
    key: str = ""
    usual: tuple[str, ...] = ()
    standard_name: str = ""
    confused: tuple[Confusion, ...] = ()
    bridge: int = 5 * DAY

    def limits(self, seconds: int = DAY) -> tuple[float, float]:
        """Least and greatest mean over a time [s]."""
        high = self.high
        if seconds < DAY:
            for length, peak in self.peaks:
                high = peak
                if seconds >= length:
                    break
        return self.low, high

    def guess(self, value: float, units: str, given: str, seconds: int = DAY) -> str:
        """A sentence on the units that a refused value may have, or nothing.

        value is as it was given, in the units `given`; `units` are those of the registry.
        """
        low, high = self.limits(seconds)
        for one in (Confusion(units, 1.0), *self.confused):
            meant = value * one.factor + one.offset
            if one.units != given and low <= meant <= high:
                same = "" if one.units == units else f" = {meant:.6g} {units}"
                return f" Is it in {one.units} ({value:.6g} {one.units}{same})? Then convert it."
        return ""


KELVIN = (Confusion("K", 1.0, -273.15), Confusion("degF", 5.0 / 9.0, -160.0 / 9.0))
TEMPERATURES = "-89.2 degC Vostok 1983, 56.7 degC Furnace Creek 1913: " + SOURCE_OF_RECORDS
WIND_SPEEDS = "gust of 113 m s-1, Barrow Island 1996: " + SOURCE_OF_RECORDS
