"""The two example cases, Lez and Cance, made from the rasters inside the package hydro-smash."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.errors import ConfigError, nearest
from bmi_cdlm.files import check_writable
from bmi_cdlm.prepare.basin import Descriptor, read_basin
from bmi_cdlm.prepare.gauges import Gauge, Stamp, read_discharge, read_gauges
from bmi_cdlm.prepare.packages import smash_folder, smash_version
from bmi_cdlm.prepare.weather import RasterSeries, read_series
from bmi_cdlm.prepare.write import Labels, Record, case_files, write_case

FLOW_DIRECTIONS = "France_flwdir.tif"
GAUGES = "gauge_attributes.csv"
LICENSE = "GPL-3.0, the licence of the package hydro-smash; it does not name the providers of the data"
DAYS = "00:00 UTC assumed: the source names days without a time zone or hour"
HOURS = "00:00 UTC; the stamps of the source mark the end of an hour, `time` is its start"
AS_SHIPPED = "unit not stated by the source; values as shipped"


class Case(NamedTuple):
    """What is particular about a case.

    folder : below the dataset folder of hydro-smash; start, end : of the whole period, UTC; step [s];
    discharge_stamp : the end of a step that the first line of a record marks; notes : global attributes
    of forcing and of observations.
    """

    title: str
    folder: str
    start: str
    end: str
    step: int
    precipitation: RasterSeries
    potential_evapotranspiration: RasterSeries
    discharge_stamp: Stamp
    descriptors: tuple[Descriptor, ...]
    forcing_notes: dict[str, str]
    observation_notes: dict[str, str]


LEZ = Case(
    title="Lez, France, 1 km, daily",
    folder="Lez",
    # A raster's stamp is its day: rain stamped D raises discharge on D, and more on D+1. Were it the end of
    # the day, no storm would raise the discharge on its own day, in a basin that answers within hours.
    start="2012-08-01", end="2013-08-01", step=86400,
    precipitation=RasterSeries("prcp/%Y/%m/%Y%m%d%H%M_PT.tif"),
    potential_evapotranspiration=RasterSeries("pet/%Y/%m/%Y%m%d%H%M_ETP.tif"),
    discharge_stamp="start",
    descriptors=(
        Descriptor("terrain_slope", "descriptor/slope.tif", "1", "slope of the terrain", AS_SHIPPED),
        Descriptor(
            "drainage_density", "descriptor/drainage_density.tif", "1", "drainage density", AS_SHIPPED
        ),
        Descriptor("karst", "descriptor/karst.tif", "1", "fraction of karst"),
        Descriptor("woodland", "descriptor/woodland.tif", "1", "fraction of woodland"),
        Descriptor("urban", "descriptor/urban.tif", "1", "fraction of urban land"),
        Descriptor("soil_water_storage", "descriptor/soil_water_storage.tif", "mm", "soil water storage"),
    ),
    forcing_notes={"day_boundary": DAYS},
    observation_notes={"day_boundary": DAYS},
)

CANCE = Case(
    title="Cance, France, 1 km, hourly",
    folder="Cance",
    start="2014-09-14T23:00", end="2015-01-15T23:00", step=3600,
    precipitation=RasterSeries(
        "prcp/%Y/%m/%d/rain_precipitation_%Y%m%d%H%M_%Y%m%d%H%M.tif",
        factor=0.1 * 24,  # 1/10 mm in the hour
        stamp="end",
        missing=("2014-12-19T00:00",),
    ),
    potential_evapotranspiration=RasterSeries("pet/%m%d_ETPJIA.tif", interannual=True),
    discharge_stamp="end",
    descriptors=(
        Descriptor("terrain_slope", "descriptor/slope.tif", "1", "slope of the terrain", AS_SHIPPED),
        Descriptor("drainage_density", "descriptor/dd.tif", "1", "drainage density", AS_SHIPPED),
    ),
    forcing_notes={
        "day_boundary": HOURS,
        "comment": "potential evapotranspiration is the mean of many years for the calendar day, spread over "
                   "its hours (UTC) by fixed shares that sum to one",
    },
    observation_notes={
        "day_boundary": HOURS,
        "comment": "the source does not say whether a value is the mean of the hour or that of its end",
    },
)

CASES = {"lez": LEZ, "cance": CANCE}


def prepare_case(name: str, folder: Path) -> dict[str, Path]:
    """Make domain.nc, forcing.nc and observations.nc of an example case in `folder`.

    Parameters
    ----------
    name : 'lez' or 'cance'
    folder : Path
        Made where it does not exist; files of the same names in it are replaced.

    Returns
    -------
    dict
        'domain', 'forcing', 'observations' -> path.

    Raises
    ------
    ConfigError
        Unknown name, or a package that is not installed.
    OutputError
        The folder cannot be written.
    DomainError, ForcingError, ObservationError
        The rasters or tables are damaged. Nothing has been written then.
    """
    if name not in CASES:
        raise ConfigError(
            f"prepare: there is no case '{name}', expected one of {', '.join(CASES)}.{nearest(name, CASES)}"
        )
    case = CASES[name]
    for path in case_files(folder).values():
        check_writable(path)
    dataset = smash_folder()
    root = dataset / case.folder
    gauges = read_gauges(root / GAUGES)
    basin = read_basin(dataset / FLOW_DIRECTIONS, gauges, root, case.descriptors)
    step = np.timedelta64(case.step, "s")
    starts = np.arange(np.datetime64(case.start, "s"), np.datetime64(case.end, "s"), step)
    record = Record(
        starts, case.step,
        read_series(root, case.precipitation, starts, case.step, basin.pixels),
        read_series(root, case.potential_evapotranspiration, starts, case.step, basin.pixels),
        _read_all_discharge(root, case, gauges, starts),
    )
    source = f"hydro-smash {smash_version()}, smash/factory/dataset/{case.folder} and {FLOW_DIRECTIONS}"
    labels = Labels(case.title, source, LICENSE, case.forcing_notes, case.observation_notes)
    return write_case(folder, basin, record, labels)


def _read_all_discharge(root: Path, case: Case, gauges: list[Gauge], starts: np.ndarray) -> np.ndarray:
    """Discharge of every gauge, float64[time, gauge]."""
    paths = [root / "qobs" / f"{gauge.id}.csv" for gauge in gauges]
    return np.stack([read_discharge(path, starts, case.step, case.discharge_stamp) for path in paths], axis=1)
