"""Records of discharge at gauges, from tables or NetCDF, on the steps of the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import netCDF4
import numpy as np

from bmi_cdlm.files.netcdf import create_time, one_at_a_time, write_time
from bmi_cdlm.names.calendars import STANDARD, calendar_of, date_text, in_calendar
from bmi_cdlm.names.errors import ObservationError, nearest
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.prepare.gauges.record_sources import Record, path_of, read_all
from bmi_cdlm.prepare.packages import resolve
from bmi_cdlm.prepare.weather.conversion import conversion, spelled
from bmi_cdlm.prepare.weather.timeline import Stamps, interval_starts
from bmi_cdlm.prepare.weather.weather_config import ObservationsConfig

CONVENTIONS = "CF-1.10"
OBSERVED, MISSING, REJECTED = 0, 1, 2
UNIT = "m3 s-1"
MOST_LISTED = 20
logger = logging.getLogger(__name__)


def write_observations(
    path: Path, config: ObservationsConfig, gauges: Mapping[str, float], starts: np.ndarray, step: int, folder: Path,
    attributes: Mapping[str, str],
) -> None:
    """Make an observations file.

    Parameters
    ----------
    path : Path
        NetCDF to write, `discharge` [m3 s-1] and `discharge_flag` on (time, gauge).
    config : ObservationsConfig
    gauges : mapping of str to float
        Ids of the gauges, in the order of the domain, and their official areas [km2], by which depths become flows.
    starts : datetime64[s][time]
        Starts of the steps, UTC.
    step : int
        Their length [s].
    folder : Path
        What the paths of sources are relative to.
    attributes : mapping of str to str
        Global attributes, such as title, source and license.

    Raises
    ------
    ObservationError
        A record that is not there, cannot be read, has no value in the period, or holds values without a meaning.
    """
    discharge, flags = read_records(config, gauges, starts, step, folder)
    notes = {"day_boundary": config.day_boundary, "comment": config.comment, **attributes}
    with replacing(path) as temporary:
        write_series(temporary, list(gauges), starts, step, discharge, flags, notes)


@one_at_a_time
def read_records(
    config: ObservationsConfig, gauges: Mapping[str, float], starts: np.ndarray, step: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Discharge float64[time, gauge] [m3 s-1], NaN where missing, and flags int8[time, gauge]."""
    interval = config.step or step
    if step % interval:
        raise ObservationError(
            f"{config.source}: intervals of {interval} s, expected whole parts of the step of {step} s. Use finer "
            "records."
        )
    found = read_all(_with_real_dates(config), list(gauges), folder, interval)
    absent: dict[str, str] = {}
    without_date = 0
    discharge = np.full((starts.size, len(gauges)), np.nan)
    flags = np.full(discharge.shape, MISSING, np.int8)
    for k, (one, area) in enumerate(gauges.items()):
        where = f"{path_of(config.source, one, folder)}: gauge {one}"
        record = found.get(one)
        if record is None:
            absent[one] = f"has no record.{nearest(one, found)}"
            continue
        record = record._replace(values=_in_flow(record, config, area, interval, where))
        begins, record, left_out = _dated(_begins(record, config, interval, where), record, starts)
        without_date = max(without_date, left_out)
        if not ((begins >= starts[0]) & (begins < starts[-1] + np.timedelta64(step, "s"))).any():
            span = f"covers {date_text(begins.min())} to {date_text(begins.max())}." if begins.size else ""
            absent[one] = span or "has no value."
            continue
        discharge[:, k], flags[:, k] = _on_steps(record, begins, config, starts, step, interval, where)
    if absent and not config.allow_absent:
        listed = " ".join(f"gauge {one}: {why}" for one, why in list(absent.items())[:MOST_LISTED])
        more = f" And {len(absent) - MOST_LISTED} more." if len(absent) > MOST_LISTED else ""
        raise ObservationError(
            f"{resolve(config.source, folder)}: {len(absent)} of {len(gauges)} gauges have no record in "
            f"{date_text(starts[0])} to {date_text(starts[-1])}: {listed}{more} Expected one for every gauge. "
            "Correct the ids or the period, leave them out with gauges.only, or set allow_absent: true."
        )
    if without_date:
        calendar = calendar_of(starts)
        logger.warning(
            "%s: records have other dates than the run, which has those of %s: values of the same date are taken, up "
            "to %d values of a record, of days that %s does not have, are left "
            "out", config.source, calendar, without_date, calendar,
        )
    return discharge, flags


def _with_real_dates(config: ObservationsConfig) -> ObservationsConfig:
    """Let steps be counted from a real date: rivers are gauged in the standard calendar, whatever the run's is."""
    if config.first_step is None or calendar_of(config.first_step) == STANDARD:
        return config
    real, there = in_calendar(np.array([config.first_step]), STANDARD)
    if not there.all():
        raise ObservationError(
            f"{config.source}: first_step is {date_text(config.first_step)}, expected a real date: records are counted "
            "in the standard calendar. Correct it."
        )
    return config.model_copy(update={"first_step": real[0]})


def _dated(begins: np.ndarray, record: Record, starts: np.ndarray) -> tuple[np.ndarray, Record, int]:
    """Begins of intervals in the calendar of the steps, and the record on those that it has; how many it has not."""
    begins, there = in_calendar(begins, calendar_of(starts))
    if there.all():
        return begins, record, 0
    kept = record._replace(
        stamps=record.stamps[there], values=record.values[there], rejected=record.rejected[there]
    )
    return begins[there], kept, int(np.count_nonzero(~there))


def _in_flow(record: Record, config: ObservationsConfig, area: float, interval: int, where: str) -> np.ndarray:
    """Values in m3 s-1, those that stand for missing as NaN."""
    values = record.values.copy()
    values[np.isin(values, config.missing_values)] = np.nan
    units = config.units or record.units
    if units is not None and _is_depth(units):
        if not area > 0:
            raise ObservationError(
                f"{where}: is in '{units}', but its official area is unknown. Expected an area; give it."
            )
        depth = conversion(units, "mm d-1", where, ObservationError)
        values = depth(values) * area * 1000.0 / 86400.0
    else:
        values = conversion(units, UNIT, where, ObservationError)(values)
    bad = np.flatnonzero((values < 0) | np.isinf(values))
    if bad.size:
        raise ObservationError(
            f"{where}: discharge {record.values[bad[0]]:g} at {date_text(record.stamps[bad[0]])}, the first of "
            f"{bad.size} such "
            "values, expected numbers from 0 up. Correct the record, or name what stands for missing in missing_values."
        )
    return values


def _is_depth(units: str) -> bool:
    from cf_units import Unit

    try:
        return bool(Unit(spelled(units)).is_convertible(Unit("mm d-1")))
    except ValueError:
        return False


def _begins(record: Record, config: ObservationsConfig, interval: int, where: str) -> np.ndarray:
    """Starts of a record's intervals, datetime64[s][value], UTC."""
    times = Stamps(("time",), record.stamps, None)
    return interval_starts(times, config.stamp, interval, config.utc_offset, where, ObservationError)


def _on_steps(
    record: Record, begins: np.ndarray, config: ObservationsConfig, starts: np.ndarray, step: int, interval: int,
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Means over steps, float64[time], and flags int8[time]."""
    offset = (begins - starts[0]).astype(np.int64)
    odd = np.flatnonzero(offset % interval)
    if odd.size:
        raise ObservationError(
            f"{where}: an interval begins at {date_text(begins[odd[0]])} UTC ({odd.size} of {begins.size} do), "
            "expected "
            f"{date_text(starts[0])} and every {interval} s from there. Check stamp, step and utc_offset, or choose "
            "a start with this day boundary."
        )
    slot = offset // interval
    ratio = step // interval
    inside = (slot >= 0) & (slot < starts.size * ratio)
    found, counts = np.unique(slot[inside], return_counts=True)
    if (counts > 1).any():
        first = starts[0] + found[counts > 1][0] * np.timedelta64(interval, "s")
        raise ObservationError(
            f"{where}: the interval from {date_text(first)} UTC is there twice ({np.count_nonzero(counts > 1)} such "
            "intervals), expected each once. Correct the record."
        )
    fine = np.full(starts.size * ratio, np.nan)
    out = np.zeros(fine.size, bool)
    kept = np.where(record.rejected, np.nan, record.values)
    fine[slot[inside]], out[slot[inside]] = kept[inside], record.rejected[inside]
    valid = ~np.isnan(fine.reshape(-1, ratio))
    count = valid.sum(axis=1)
    enough = count >= max(1.0, config.min_coverage * ratio - 1e-9)
    total = np.where(valid, fine.reshape(-1, ratio), 0.0).sum(axis=1)
    values = np.where(enough, total / np.maximum(count, 1), np.nan)
    flags = np.where(enough, OBSERVED, np.where(out.reshape(-1, ratio).any(axis=1), REJECTED, MISSING))
    return values, flags.astype(np.int8)


def write_series(
    path: Path, ids: list[str], starts: np.ndarray, step: int, discharge: np.ndarray, flags: np.ndarray,
    attributes: Mapping[str, str],
) -> None:
    """Write discharge [m3 s-1], float64[time, gauge], and its flags as an observations file."""
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.setncatts({"Conventions": CONVENTIONS, **{key: text for key, text in attributes.items() if text}})
        dataset.createDimension("gauge", len(ids))
        names = dataset.createVariable("gauge_id", str, ("gauge",))
        names.setncatts({"long_name": "code of the gauging station", "cf_role": "timeseries_id"})
        names[:] = np.array(ids, object)
        create_time(dataset, calendar_of(starts))
        write_time(dataset, 0, starts, step)
        chunks = (min(starts.size, 512), len(ids))
        flow = dataset.createVariable(
            "discharge", "f8", ("time", "gauge"), zlib=True, fill_value=np.nan, chunksizes=chunks
        )
        flow.setncatts({
            "standard_name": "water_volume_transport_in_river_channel", "long_name": "observed discharge",
            "units": UNIT,
            "cell_methods": "time: mean", "coordinates": "gauge_id", "ancillary_variables": "discharge_flag",
        })
        flow[:] = discharge
        flag = dataset.createVariable("discharge_flag", "i1", ("time", "gauge"), zlib=True, chunksizes=chunks)
        flag.setncatts({
            "long_name": "status of the observed discharge", "flag_values": np.array([0, 1, 2], np.int8),
            "flag_meanings": "observed missing rejected_by_the_source", "coordinates": "gauge_id",
        })
        flag[:] = flags
