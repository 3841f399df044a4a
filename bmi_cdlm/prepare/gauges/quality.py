"""What is to be known of every gauge before it is trusted: area, place, nesting, record, water balance, regulation."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_time, read_values
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.errors import DomainError, ForcingError, ObservationError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.config import GaugesConfig
from bmi_cdlm.prepare.gauges.hierarchy import Hierarchy, folds, nest
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.screening import CALENDAR_YEAR

REPORT = "gauge_report.csv"
YEAR_DAYS = 365.25
BLOCK_BYTES = 64 * 2**20


class Record(NamedTuple):
    """A gauge's record: first and last step with a value (datetime64 or NaT), its length in years [yr], the share of
    steps missing between them [1], its mean over the official area or, where that is unknown, the drained one
    [mm d-1], and the mean over the steps that have forcing too of runoff and of precipitation [mm d-1].
    """

    first: np.datetime64
    last: np.datetime64
    years: float
    missing: float
    mean_runoff: float
    runoff: float
    precipitation: float

    @property
    def runoff_ratio(self) -> float:
        """Runoff over precipitation of the same steps [1], NaN where there are none."""
        return self.runoff / self.precipitation if self.precipitation > 0 else np.nan


class GaugeQuality(NamedTuple):
    """One gauge of the report.

    official_area, area, incremental_area [km2]: official; drained in the domain; what drains to it through no other.
    area_error [1]: (area + uncovered) / official - 1. uncovered [1]: share of what drains to it that no cell covers.
    distance [m]: gauge to the end of its reach. below: id of the first gauge
    downstream, or ''. regulated: None where neither column of the table has a value. flags: what speaks against it.
    columns: the other columns of the gauge table. other_area [km2], other_distance [m]: of the other river that a
    gauge without an area may mean, NaN where there is none. border [1]: share of its basin's border on the edge of the
    raster, where the basin may be cut off.
    """

    id: str
    name: str
    reach: str
    official_area: float
    area: float
    area_error: float
    uncovered: float
    distance: float
    below: str
    n_above: int
    incremental_area: float
    fold: int
    record: Record
    regulated: bool | None
    flags: tuple[str, ...]
    columns: Mapping[str, float | str]
    other_area: float = np.nan
    other_distance: float = np.nan
    border: float = 0.0


def assess(run: Config, gauges: SnappedGauges, config: GaugesConfig) -> list[GaugeQuality]:
    """Judge the gauges of a prepared run by its domain, forcing and observations.

    Returns
    -------
    list of GaugeQuality
        In the order of the domain file.
    """
    domain = read_domain(run.domain)
    sites = {site.id: i for i, site in enumerate(gauges.sites)}
    hierarchy = nest(domain.reaches.downstream, domain.reaches.upstream_area, domain.gauges.reach)
    n_folds = min(config.folds, int(hierarchy.tree.max(initial=-1)) + 1)
    fold = folds(hierarchy.tree, hierarchy.incremental_area, n_folds) if n_folds else hierarchy.tree
    records = _read_records(run, domain, hierarchy)
    uncovered = _uncovered_above(run.domain, domain)[domain.gauges.reach]
    report = []
    for i, gauge_id in enumerate(domain.gauges.id):
        place, reach, below = sites[gauge_id], int(domain.gauges.reach[i]), int(hierarchy.below[i])
        site, area = gauges.sites[place], float(domain.reaches.upstream_area[domain.gauges.reach[i]])
        regulated = _is_regulated(site.columns, config)
        report.append(GaugeQuality(
            gauge_id, site.name, domain.reaches.id[reach], site.area, area, (area + uncovered[i]) / site.area - 1,
            float(uncovered[i] / max(area + uncovered[i], 1e-12)), float(gauges.distance[place]),
            domain.gauges.id[below] if below >= 0 else "", int(hierarchy.n_above[i]),
            float(hierarchy.incremental_area[i]), int(fold[i]), records[i], regulated,
            _flags(gauges, place, records[i], regulated, config), site.columns,
            float(gauges.other_area[place]), float(gauges.other_distance[place]), float(gauges.border[place]),
        ))
    return report


@one_at_a_time
def _uncovered_above(path: Path, domain: Domain) -> np.ndarray:
    """Area without a cell that drains through each reach [km2], float64[reach]."""
    with open_input(path, DomainError) as dataset:
        if "reach_uncovered_area" not in dataset.variables:
            return np.zeros(domain.n_reaches)
        own = read_values(dataset, "reach_uncovered_area", ("reach",), "km2", str(path), DomainError)
    return accumulate_downstream(domain.reaches.downstream, own[domain.file_order])


def _is_regulated(columns: Mapping[str, float | str], config: GaugesConfig) -> bool | None:
    known = [
        (float(columns[name]), limit) for name, limit in (
            ("degree_of_regulation", config.regulation_limit), ("withdrawal", config.withdrawal_limit),
        ) if name in columns and not np.isnan(float(columns[name]))
    ]
    return any(value > limit for value, limit in known) if known else None


def _flags(
    gauges: SnappedGauges, place: int, record: Record, regulated: bool | None, config: GaugesConfig
) -> tuple[str, ...]:
    has_record = record.years > 0
    judged = {
        "area": bool(gauges.rejected[place]),
        "no official area": bool(np.isnan(gauges.sites[place].area)),
        "raster edge": bool(gauges.border[place] > 0),
        "no record": not has_record,
        "short record": has_record and record.years < config.shortest_record * CALENDAR_YEAR,
        "gaps": has_record and record.missing > config.largest_gap,
        "runoff ratio > 1": record.runoff_ratio > 1,
        "regulated": bool(regulated),
    }
    return tuple(name for name, holds in judged.items() if holds)


# ---- records -------------------------------------------------------------------------------------------------


def _read_records(run: Config, domain: Domain, hierarchy: Hierarchy) -> list[Record]:
    ids = domain.gauges.id
    if run.observations is None or not run.observations.is_file() or not ids:
        nothing = Record(np.datetime64("NaT"), np.datetime64("NaT"), 0.0, np.nan, np.nan, np.nan, np.nan)
        return [nothing] * len(ids)
    begin, end = _span(run.observations, ObservationError)
    starts, discharge = read_observations(run.observations, ids, begin, end, run.time_step)
    drained = domain.reaches.upstream_area[domain.gauges.reach]
    area = np.where(np.isfinite(domain.gauges.area), domain.gauges.area, drained)
    depth = discharge * DAY / (1000.0 * area)
    rain = _basin_rain(run, domain, hierarchy, starts)
    return [_describe(starts, d, p, run.time_step) for d, p in zip(depth.T, rain.T, strict=True)]


def _describe(starts: np.ndarray, depth: np.ndarray, rain: np.ndarray, step: int) -> Record:
    valid = np.isfinite(depth)
    if not valid.any():
        return Record(np.datetime64("NaT"), np.datetime64("NaT"), 0.0, np.nan, np.nan, np.nan, np.nan)
    first, last = int(valid.argmax()), int(valid.size - 1 - valid[::-1].argmax())
    both = valid & np.isfinite(rain)
    return Record(
        starts[first], starts[last], (last - first + 1) * step / DAY / YEAR_DAYS,
        1.0 - float(valid[first : last + 1].mean()), float(depth[valid].mean()),
        float(depth[both].mean()) if both.any() else np.nan, float(rain[both].mean()) if both.any() else np.nan,
    )


def _basin_rain(run: Config, domain: Domain, hierarchy: Hierarchy, starts: np.ndarray) -> np.ndarray:
    """Precipitation over all that drains to each gauge on given steps [mm d-1], float64[time, gauge]; NaN where the
    forcing does not reach.
    """
    rain = np.full((starts.size, len(domain.gauges.id)), np.nan)
    if run.forcing == "caller" or not Path(run.forcing).is_file() or not rain.size:
        return rain
    step = np.timedelta64(run.time_step, "s")
    begin, end = _span(Path(run.forcing), ForcingError)
    inside = np.flatnonzero((starts >= begin) & (starts + step <= end))
    if not inside.size:
        return rain
    cell, gauge, area = _shares(domain)
    begins = np.flatnonzero(np.r_[True, gauge[1:] != gauge[:-1]])
    total = np.zeros(rain.shape[1])
    total[gauge[begins]] = np.add.reduceat(area, begins)
    # The report tells of what is there; to refuse gaps is for the run.
    fill = run.forcing_fill.get("precipitation", "refuse")
    length = max(1, BLOCK_BYTES // (8 * max(cell.size, domain.n_cells)))
    with ForcingFile(
        Path(run.forcing), ["precipitation"], domain.cells.id, starts[inside[0]], starts[inside[-1]] + step,
        run.time_step, {"precipitation": "zero" if fill == "refuse" else fill},
    ) as forcing:
        for a in range(0, inside.size, length):
            rows = inside[a : a + length]
            rates = forcing.read(a, rows.size)["precipitation"]
            volume = np.zeros((rows.size, total.size))
            volume[:, gauge[begins]] = np.add.reduceat(rates[:, cell] * area, begins, axis=1)
            rain[rows] = volume
    # From what each gauge adds to all that drains to it: upstream gauges first.
    for one in np.argsort(domain.gauges.reach, kind="stable").tolist():
        if hierarchy.below[one] >= 0:
            rain[:, hierarchy.below[one]] += rain[:, one]
            total[hierarchy.below[one]] += total[one]
    return rain / np.where(total > 0, total, np.nan)


def _shares(domain: Domain) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell, gauge and area [km2] of what drains to each gauge through no other, sorted by gauge."""
    met = np.full(domain.n_reaches, -1, np.int64)
    size = accumulate_downstream(domain.reaches.downstream, np.ones(met.size)).astype(np.int64)
    highest: dict[int, int] = {}  # on a reach with several, the first takes what drains to it
    for gauge, reach in enumerate(domain.gauges.reach.tolist()):
        highest.setdefault(reach, gauge)
    for reach in sorted(highest, reverse=True):  # downstream first; a sub-tree is contiguous
        met[reach + 1 - size[reach] : reach + 1] = highest[reach]
    taker = np.repeat(met, np.diff(domain.links.first))
    inside = taker >= 0
    pair = np.asarray(taker[inside] * domain.n_cells + domain.links.cell[inside], np.int64)
    key, where = np.unique(pair, return_inverse=True)
    area = np.bincount(where, weights=domain.links.area[inside])
    return key % domain.n_cells, key // domain.n_cells, area


@one_at_a_time
def _span(path: Path, error: type[ForcingError] | type[ObservationError]) -> tuple[np.datetime64, np.datetime64]:
    """Begin and end of a file in time."""
    with open_input(path, error) as dataset:
        starts, step = read_time(dataset, str(path), error)
    return starts[0], starts[-1] + np.timedelta64(step or 0, "s")


# ---- what is written and shown -------------------------------------------------------------------------------


def write_report(path: Path, report: list[GaugeQuality], dropped: Mapping[str, str]) -> None:
    """Write the report as CSV: a row per gauge, those dropped last with the reason."""
    extra = list(dict.fromkeys(name for quality in report for name in quality.columns))
    heads = [
        "id", "name", "reach", "official_area_km2", "area_km2", "area_error", "uncovered", "snap_distance_m",
        "gauge_below", "gauges_above", "incremental_area_km2", "fold", "first", "last", "years", "missing",
        "mean_runoff_mm_d-1", "mean_precipitation_mm_d-1", "runoff_ratio", "regulated", "flags", "other_river_km2",
        "other_river_m", "border_on_raster_edge",
    ]
    rows = []
    for q in report:
        r = q.record
        days = ["" if np.isnat(t) else str(t) for t in (r.first, r.last)]
        rows.append([
            q.id, q.name, q.reach, _number(q.official_area, 6), _number(q.area, 6), _number(q.area_error, 4),
            _number(q.uncovered, 4), _number(q.distance, 5), q.below, q.n_above, _number(q.incremental_area, 6), q.fold,
            *days, _number(r.years, 4), _number(r.missing, 4), _number(r.mean_runoff, 4), _number(r.precipitation, 4),
            _number(r.runoff_ratio, 4), {None: "unknown", True: "yes", False: "no"}[q.regulated], "; ".join(q.flags),
            _number(q.other_area, 6), _number(q.other_distance, 5),
            _number(q.border, 4),
            *(v if isinstance(v := q.columns.get(name, ""), str) else _number(v, 6) for name in extra),
        ])
    at = heads.index("flags")
    blank = [""] * (at - 1), [""] * (len(heads) - at - 1 + len(extra))
    rows += [[one, *blank[0], f"dropped: {why}", *blank[1]] for one, why in dropped.items()]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*heads, *extra], *rows])


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}g}"


def report_table(report: list[GaugeQuality], dropped: Mapping[str, str]) -> Table:
    """What matters most of the report, for a screen of 80 columns; the file has the rest."""
    delineated = [float(q.columns.get("delineated_area", np.nan)) for q in report]
    known = bool(np.isfinite(delineated).any())
    left_out = "; ".join(f"{one}: {why}" for one, why in dropped.items())
    table = Table(
        title=f"gauges ({REPORT} tells more)", caption=f"left out: {left_out}" if dropped else None,
        caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
    )
    table.add_column("gauge", no_wrap=True)
    areas = ("official", *(("before",) if known else ()), "network")
    for heading in (*(f"{one}\nkm2" for one in areas), "error\n%", "snap\nm"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("drains\nto", no_wrap=True)
    table.add_column("between\nkm2", justify="right", no_wrap=True)
    table.add_column("flags", min_width=14)
    for q, before in zip(report, delineated, strict=True):
        more = [f"uncovered {q.uncovered:.1%}"] if q.uncovered > 0 else []
        if not np.isnan(q.other_area):
            more.append(f"{_area(q.other_area)} km2 of another river {q.other_distance:.0f} m away")
        if q.border > 0:
            more.append(f"{q.border:.1%} of its border on that edge")
        table.add_row(
            q.id, _area(q.official_area), *((_area(before),) if known else ()), _area(q.area),
            _shown(100 * q.area_error, "+.1f"), _shown(q.distance, ".0f"), q.below, _area(q.incremental_area),
            ", ".join((*q.flags, *more)),
        )
    return table


def _area(value: float) -> str:
    return _shown(value, ".1f" if value < 1000 else ".0f")


def _shown(value: float, style: str) -> str:
    return "-" if np.isnan(value) else format(value, style)
