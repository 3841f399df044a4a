"""Floods of a gauge, found in the rain above it and its observed discharge, and what is read off them: signatures."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.evaluate.evaluation import GaugeResult, rain_above
from bmi_cdlm.evaluate.plot import plot_event
from bmi_cdlm.evaluate.signatures import OF_EVENTS, OF_PERIODS, Window, signatures, slow_flow, step_of
from bmi_cdlm.evaluate.summary import number
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.file_names import file_names
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import Config

QUANTILE = 0.995
"""A peak is a flood where it is not below this quantile of the observed flow."""
BEFORE, LONGEST, RECEDING = 72, 240, 48
"""Hours: before the peak in which rain begins a flood; how long it goes on; over which its quick flow must be least."""
SEARCHED = BEFORE + LONGEST + RECEDING
"""Hours about a flood in which it is looked for: no shorter record has one."""
STEEP, STRONG = 0.8, 0.2
"""Quantile of the rise of rain that is steep; share of the largest energy of rain that begins a flood."""
ENERGY = (1, 23)
"""Hours before and after a rise of rain whose energy (root of the sum of squares) tells how strong it is."""

FLOWS = ("observed", "simulated")


class Event(NamedTuple):
    """A flood, in numbers of steps: first and last that belong to it, largest rain, largest flow; several : floods that
    overlapped are joined in it.
    """

    first: int
    last: int
    rain: int
    peak: int
    several: bool = False


class Read(NamedTuple):
    """Signatures by name, of observed and simulated flow; event : where they were read, or None for the period."""

    observed: dict[str, float]
    simulated: dict[str, float]
    event: Event | None = None


class GaugeReads(NamedTuple):
    """A gauge with the rain above it [mm per step], what was read, and what floods were left out, in words."""

    result: GaugeResult
    rain: np.ndarray
    reads: list[Read]
    notes: list[str]


def find_events(
    rain: np.ndarray, flow: np.ndarray, step: int, quantile: float = QUANTILE
) -> tuple[list[Event], dict[int, str]]:
    """Find floods in the rain of a basin and the discharge at its outlet.

    Every peak of flow at or above its quantile is a flood. It begins with the first steep and strong rise of rain in
    the 72 h before the peak, and ends where the quick flow of the 48 h that follow is least, at most 240 h after its
    begin. Floods that overlap are joined. The rules are those of hydro-smash [Huynh et al. 2023].

    Parameters
    ----------
    rain : float[time]
        Mean over the basin [mm per step], without NaN.
    flow : float[time]
        [m3 s-1], NaN where it was not observed; a peak beside a gap is none.
    step : int
        [s], at most a day; hours above are rounded up to whole steps.

    Returns
    -------
    events : list of Event, one after the other
    left_out : dict of int to str
        Peaks that make no event, and why: the record begins, ends or has a gap near them, or no rain sets in before.
    """
    events: list[Event] = []
    left_out: dict[int, str] = {}
    known = np.asarray(flow, np.float64)
    if np.isnan(known).all():
        return events, left_out
    tops = _tops(known)
    for peak in tops[known[tops] >= np.nanquantile(known, quantile)].tolist():
        found = _event(np.asarray(rain, np.float64), known, peak, step)
        if isinstance(found, str):
            left_out[peak] = found
            continue
        while events and found.first <= events[-1].last:
            found = _joined(events.pop(), found, rain, known)
        events.append(found)
    return events, left_out


def _event(rain: np.ndarray, flow: np.ndarray, peak: int, step: int) -> Event | str:
    """The flood of a peak, or why there is none."""
    begin = peak - _steps(BEFORE, step)
    if begin < 0:
        return f"the record begins less than {BEFORE} h before it"
    first = begin + _rise(rain, begin, peak, step)
    if not rain[first:peak].any():
        return f"no rain sets in within the {BEFORE} h before it"
    tops = _tops(rain[first:peak])
    tops = tops if tops.size else np.arange(peak - first)
    largest = first + int(tops[rain[first:peak][tops].argmax()])
    stop = first + _steps(LONGEST, step) + _steps(RECEDING, step) - 1  # the last 48 h begin 240 h after the first step
    if stop > flow.size:
        return f"the record ends less than {LONGEST + RECEDING} h after its begin"
    if np.isnan(flow[first:stop]).any():
        return f"observations are missing within {LONGEST + RECEDING} h of its begin"
    after = flow[peak - 1 : stop]
    sums = np.convolve(after - slow_flow(after), np.ones(_steps(RECEDING, step)), "valid")
    return Event(first, peak + int(sums.argmin()), largest, peak)


def _rise(rain: np.ndarray, begin: int, peak: int, step: int) -> int:
    """Step, counted from begin, at which the rain of a flood begins."""
    slope = np.gradient(rain[begin:peak])
    tops = _tops(slope)
    tops = tops[slope[tops] >= np.quantile(slope, STEEP)]
    if tops.size > 1:
        before, after = (_steps(hours, step) for hours in ENERGY)
        energy = np.array([np.linalg.norm(rain[max(begin + t - before, 0) : begin + t + after]) for t in tops])
        tops = tops[energy > STRONG * energy.max()]
    return int(tops[0]) if tops.size else int(slope.argmax())


def _tops(values: np.ndarray) -> np.ndarray:
    """Steps that lie above the one before and not below the next, int64."""
    return np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])) + 1


def _joined(one: Event, other: Event, rain: np.ndarray, flow: np.ndarray) -> Event:
    return Event(
        min(one.first, other.first), max(one.last, other.last), max(one.rain, other.rain, key=lambda t: rain[t]),
        max(one.peak, other.peak, key=lambda t: flow[t]), several=True,
    )


def _steps(hours: int, step: int) -> int:
    return math.ceil(hours * HOUR / step)


def read_period(rain: np.ndarray, observed: np.ndarray, simulated: np.ndarray, step: int, area: float) -> Read:
    """Signatures of a period, over the parts of its observations without a gap that are at least 240 h long.

    Baseflow is found in each part alone; NaN where there is none. Arrays and units as of `find_events`.
    """
    parts = whole_parts(observed, step)
    if not parts:
        nothing = {one.name: math.nan for one in OF_PERIODS}
        return Read(nothing, nothing)

    def read(flow: np.ndarray) -> dict[str, float]:
        quick = np.concatenate([flow[part] - slow_flow(flow[part]) for part in parts])
        whole = [np.concatenate([series[part] for part in parts]) for series in (rain, flow)]
        return signatures(OF_PERIODS, Window(whole[0], whole[1], quick, step, area))

    return Read(read(observed), read(simulated))


def whole_parts(observed: np.ndarray, step: int) -> list[slice]:
    """Parts of a record without a gap that are at least 240 h long; step [s]."""
    edges = np.flatnonzero(np.diff(np.r_[False, ~np.isnan(observed), False].astype(np.int8)))
    return [slice(a, b) for a, b in edges.reshape(-1, 2).tolist() if b - a >= _steps(LONGEST, step)]


def read_event(
    event: Event, rain: np.ndarray, observed: np.ndarray, simulated: np.ndarray, step: int, area: float
) -> Read:
    """Signatures of a flood; baseflow is found within it. Arrays and units as of `find_events`."""
    part = slice(event.first, event.last + 1)

    def read(flow: np.ndarray) -> dict[str, float]:
        inside = flow[part]
        return signatures(OF_EVENTS, Window(rain[part], inside, inside - slow_flow(inside), step, area))

    return Read(read(observed), read(simulated), event)


def median_error(reads: Sequence[Read], name: str) -> float:
    """Median of 100 (s / o - 1) over reads whose observed signature is above 0 [%]; NaN without one."""
    pairs = [(read.simulated[name], read.observed[name]) for read in reads]
    errors = [100 * (s / o - 1) for s, o in pairs if o > 0]
    return float(np.median(errors)) if errors else math.nan


def evaluate_signatures(config: Config, results: Sequence[GaugeResult]) -> list[GaugeReads]:
    """Signatures of the period of every gauge, observed and simulated; errors as of `evaluate_events`."""
    rain, step = _ready(config, results, "--signatures")
    return [
        GaugeReads(r, rain[r.gauge_id], [read_period(rain[r.gauge_id], r.observed, r.simulated, step, r.area)], [])
        for r in results
    ]


def evaluate_events(
    config: Config, results: Sequence[GaugeResult], quantile: float = QUANTILE
) -> list[GaugeReads]:
    """Floods of every gauge and their signatures, observed and simulated.

    results : as `evaluate` gives them at the output's own steps.

    Raises
    ------
    ConfigError
        No rain (the forcing comes from a caller), steps longer than a day, or a period shorter than a flood with its
        time before.
    """
    rain, step = _ready(config, results, "--events")
    return [_floods(r, rain[r.gauge_id], step, quantile) for r in results]


def _floods(result: GaugeResult, rain: np.ndarray, step: int, quantile: float) -> GaugeReads:
    events, left_out = find_events(rain, result.observed, step, quantile)
    reads = [read_event(e, rain, result.observed, result.simulated, step, result.area) for e in events]
    notes = [
        f"gauge {result.gauge_id}: the flood of {date_text(result.starts[peak])} is left out: {why}"
        for peak, why in left_out.items()
    ]
    if np.isnan(result.observed).all():
        notes.append(f"gauge {result.gauge_id}: has no observations in the period")
    return GaugeReads(result, rain, reads, notes)


def _ready(config: Config, results: Sequence[GaugeResult], what: str) -> tuple[Mapping[str, np.ndarray], int]:
    """Rain above every gauge and the step [s], where signatures can be read."""
    starts, step = results[0].starts, step_of(results[0].starts)
    if step > DAY:
        raise ConfigError(
            f"cdlm evaluate {what}: steps of the output are {step / HOUR:g} h, expected at most a day. Write an output "
            "of shorter steps."
        )
    least = SEARCHED if what == "--events" else LONGEST
    if starts.size * step < least * HOUR:
        raise ConfigError(
            f"cdlm evaluate {what}: the period has {starts.size * step / HOUR:g} h from {date_text(starts[0])}, "
            f"expected at least {least}. Choose another with --from and --to, or run over a longer time."
        )
    rain = rain_above(config, results)
    if rain is None:
        raise ConfigError(
            f"cdlm evaluate {what}: forcing is {config.forcing}, expected a file with precipitation, for floods and "
            "runoff coefficients are read off the rain above a gauge. Set 'forcing'."
        )
    return rain, step


def write_reads(path: Path, gauges: Sequence[GaugeReads], *, floods: bool) -> None:
    """Write signatures as CSV, a row per gauge, or per flood with the begins of its first and last step and those of
    its largest rain and flow; what is not defined stays empty.
    """
    wanted = OF_EVENTS if floods else OF_PERIODS
    about = ("begin", "end", "rain_peak", "flood_peak", "several_peaks") if floods else ("area_km2",)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["gauge", *about, *(f"{one.name}_{flow}" for one in wanted for flow in FLOWS)])
        for gauge in gauges:
            for read in gauge.reads:
                table.writerow([
                    gauge.result.gauge_id, *_about(gauge.result, read),
                    *(number(values[one.name]) for one in wanted for values in (read.observed, read.simulated)),
                ])


def _about(result: GaugeResult, read: Read) -> list[str]:
    event = read.event
    if event is None:
        return [f"{result.area:g}"]
    when = (event.first, event.last, event.rain, event.peak)
    return [*(date_text(result.starts[t]) for t in when), "yes" if event.several else "no"]


def draw_events(config: Config, gauges: Sequence[GaugeReads]) -> list[Path]:
    """Draw a picture of every flood beside the output file; return the paths."""
    assert config.output is not None
    names, paths = file_names(gauge.result.gauge_id for gauge in gauges), []
    for gauge in gauges:
        result = gauge.result
        for read in gauge.reads:
            assert read.event is not None
            part, when = slice(read.event.first, read.event.last + 1), date_text(result.starts[read.event.peak])
            safe = re.sub("[^0-9T]", "", when)
            path = config.output.with_name(f"{config.output.stem}_{names[result.gauge_id]}_flood_{safe}.png")
            o, s = read.observed, read.simulated
            plot_event(
                path, result.starts[part], result.simulated[part], result.observed[part], gauge.rain[part],
                f"{result.gauge_id}, flood of {when.removesuffix(':00:00')}",
                f"peak {o['Epf']:.4g}, simulated {s['Epf']:.4g} m³/s   runoff {o['Erc']:.2f}, simulated {s['Erc']:.2f}",
            )
            paths.append(path)
    return paths
