"""Units of sources converted to those of the model, by UDUNITS; water may be given as a mass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.names.errors import CdlmError

WATER_DENSITY = 1000.0  # kg m-3, declared wherever a mass of water becomes a depth
# Spellings of weather services that UDUNITS does not know.
SPELLINGS = {
    "m of water equivalent": "m", "m of water": "m", "mm of water equivalent": "mm", "(0 - 1)": "1", "~": "1",
    "deg c": "degC", "oc": "degC", "degrees celsius": "degC", "c": "degC", "cfs": "ft3 s-1", "cms": "m3 s-1",
    "us survey foot": "US_survey_foot", "us survey feet": "US_survey_foot", "ftus": "US_survey_foot",
    "us-ft": "US_survey_foot", "m a.s.l.": "m", "masl": "m", "metre above sea level": "m",
    "meters above sea level": "m", "cumec": "m3 s-1", "cumecs": "m3 s-1", "-": "1", "[-]": "1", "unitless": "1",
    "dimensionless": "1", "none": "1", "fraction": "1",
}
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


AMOUNTS = {"mm d-1": ("mm", 86400.0), "W m-2": ("J m-2", 1.0)}
"""What comes as amounts too: units of the amount, and the time that the rate is per [s]."""


class Conversion(NamedTuple):
    """target = value * factor + offset."""

    factor: float
    offset: float = 0.0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Convert float64 values."""
        scaled = values if self.factor == 1.0 else values * self.factor
        return scaled if self.offset == 0.0 else scaled + self.offset


def conversion(units: str | None, target: str, where: str, error: type[CdlmError]) -> Conversion:
    """Return the conversion from `units` to `target`; a mass of water per area becomes a depth.

    Raises
    ------
    error
        No units, units that UDUNITS does not know, or that do not convert.
    """
    if units is None:
        raise error(f"{where}: has no units, expected some that convert to '{target}'. Set `units`.")
    source, goal = _unit(units, where, error, target), _unit(target, where, error, target)
    density = 1.0
    if not source.is_convertible(goal):
        per_volume = source / _unit("kg m-3", where, error, target)
        if not per_volume.is_convertible(goal):
            raise error(f"{where}: units '{units}' do not convert to '{target}'. Correct them, or set `units`.")
        source, density = per_volume, 1.0 / WATER_DENSITY
    zero = float(source.convert(np.float64(0.0), goal))
    if zero:  # temperatures: the factor from a span, without rounding of the offset
        span = round(float(source.convert(np.float64(1000.0), goal)) - zero, 9) / 1000.0
        return Conversion(span * density, zero)
    return Conversion(float(source.convert(np.float64(1.0), goal)) * density)


def rate_conversion(units: str | None, target: str, seconds: int, where: str, error: type[CdlmError]) -> Conversion:
    """Return the conversion from an amount per interval of `seconds` to a rate in `target`."""
    if target not in AMOUNTS:
        raise error(f"{where}: amounts cannot become '{target}', expected a variable in amounts per time. Set `kind`.")
    amount, per = AMOUNTS[target]
    found = conversion(units, amount, where, error)
    return Conversion(found.factor * (per / seconds))


def per_time(units: str | None) -> bool:
    """Return whether units are a rate of the water or energy that falls on an area: mm d-1, kg m-2 s-1, W m-2."""
    if units is None:
        return False
    from cf_units import Unit

    try:
        unit = Unit(spelled(units))
    except ValueError:
        return False
    return any(unit.is_convertible(Unit(rate)) for rate in ("mm d-1", "kg m-2 s-1", "W m-2"))


def spelled(text: str) -> str:
    """Return units as UDUNITS spells them: raised digits on the line, words of weather services replaced."""
    plain = text.strip()
    # Of `m³/s` UDUNITS knows the digit; of `m³ s⁻¹` it knows no minus.
    plain = plain.translate(RAISED) if "⁻" in plain else plain
    return SPELLINGS.get(plain.lower(), plain)


def _unit(text: str, where: str, error: type[CdlmError], target: str):  # type: ignore[no-untyped-def]
    from cf_units import Unit

    try:
        unit = Unit(spelled(text))
    except ValueError as cause:
        raise error(
            f"{where}: units '{text}' are not known to UDUNITS ({cause}). Set `units`, such as '{target}'."
        ) from cause
    if unit.is_unknown() or unit.is_no_unit():
        raise error(f"{where}: has no units, expected some. Set `units`, such as '{target}'.")
    return unit
