"""Weather of basins as data sets hand it out: the keys of `forcing` that read each, with units and calendars."""

from __future__ import annotations

from typing import Any, NamedTuple

Keys = dict[str, Any]
RAIN, PET, MEAN = "precipitation", "potential_evapotranspiration", "air_temperature"
LOW, HIGH = "minimum_temperature", "maximum_temperature"


class ForcingLayout(NamedTuple):
    """common : keys of every variable; file : path below the folder, where all variables are in one; variables : keys
    by the name of the variable, among them `source` where each has files of its own.
    """

    common: Keys
    variables: dict[str, Keys]
    file: str = ""


def _of(variable: str | tuple[str, ...], units: str, **more: Any) -> Keys:
    return {"variable": variable, "units": units, **more}


def _own_file(source: str, units: str, **more: Any) -> Keys:
    return {"source": source, "units": units, **more}


BLANKS = {"layout": "single", "delimiter": r"\s+", "step": "1 d"}
CSV = {"layout": "single", "delimiter": ",", "step": "1 d", "time_column": "date"}
LAYOUTS: dict[str, ForcingLayout] = {
    # basin_mean_forcing/daymet (or maurer, nldas)/HUC/GAUGE_lump_cida_forcing_leap.txt; three lines of latitude,
    # elevation and area come first; radiation is the mean over the daylight, whose length stands beside it
    "camels_us": ForcingLayout(
        {**BLANKS, "skip_rows": 3, "time_column": (1, 2, 3)},
        {
            RAIN: _of(("prcp(mm/day)", "PRCP(mm/day)"), "mm d-1"),
            LOW: _of(("tmin(C)", "Tmin(C)"), "degC"), HIGH: _of(("tmax(C)", "Tmax(C)"), "degC"),
            "vapour_pressure": _of(("vp(Pa)", "Vp(Pa)"), "Pa"),
            "shortwave_radiation": _of(
                ("srad(W/m2)", "SRAD(W/m2)"), "W m-2", times=("dayl(s)", "Dayl(s)"), scale=1.0 / 86400.0
            ),
        },
        "*/{id}_lump_*forcing_leap.txt",
    ),
    "camels_gb": ForcingLayout(
        CSV,
        {
            RAIN: _of("precipitation", "mm d-1"), PET: _of("pet", "mm d-1"), MEAN: _of("temperature", "degC"),
            "specific_humidity": _of("humidity", "g kg-1"), "shortwave_radiation": _of("shortwave_rad", "W m-2"),
            "wind_speed": _of("windspeed", "m s-1"),
        },
        "CAMELS_GB_hydromet_timeseries_{id}_*.csv",
    ),
    "camels_de": ForcingLayout(
        CSV,
        {
            RAIN: _of("precipitation_mean", "mm d-1"), MEAN: _of("temperature_mean", "degC"),
            LOW: _of("temperature_min", "degC"), HIGH: _of("temperature_max", "degC"),
            "relative_humidity": _of("humidity_mean", "%"),
            "shortwave_radiation": _of("radiation_global_mean", "W m-2"),
        },
        "CAMELS_DE_hydromet_timeseries_{id}.csv",
    ),
    # a folder per variable, a file per gauge
    "camels_br": ForcingLayout(
        {**BLANKS, "time_column": ("year", "month", "day")},
        {
            RAIN: _own_file("*precipitation_chirps*/{id}_precipitation_chirps.txt", "mm d-1", variable=4),
            PET: _own_file("*potential_evapotransp_gleam*/{id}_potential_evapotransp*.txt", "mm d-1", variable=4),
            MEAN: _own_file("*temperature_mean*/{id}_temperature_mean*.txt", "degC", variable=4),
            LOW: _own_file("*temperature_min*/{id}_temperature_min*.txt", "degC", variable=4),
            HIGH: _own_file("*temperature_max*/{id}_temperature_max*.txt", "degC", variable=4),
        },
    ),
    # a table per variable, a column per gauge
    "camels_aus": ForcingLayout(
        {"layout": "wide", "delimiter": ",", "step": "1 d", "time_column": ("year", "month", "day"),
         "missing_values": (-99.99,)},
        {
            RAIN: _own_file("*/precipitation_AWAP.csv", "mm d-1"), LOW: _own_file("*/*/tmin_AWAP.csv", "degC"),
            HIGH: _own_file("*/*/tmax_AWAP.csv", "degC"), PET: _own_file("*/et_morton_wet_SILO.csv", "mm d-1"),
        },
    ),
    "camels_cl": ForcingLayout(
        {"layout": "wide", "delimiter": "\t", "step": "1 d", "time_column": "gauge_id"},
        {
            RAIN: _own_file("*precip_cr2met/*precip_cr2met.txt", "mm d-1"),
            MEAN: _own_file("*tmean_cr2met/*tmean_cr2met.txt", "degC"),
            LOW: _own_file("*tmin_cr2met/*tmin_cr2met.txt", "degC"),
            HIGH: _own_file("*tmax_cr2met/*tmax_cr2met.txt", "degC"),
            PET: _own_file("*pet_hargreaves/*pet_hargreaves.txt", "mm d-1"),
        },
    ),
    # A_basins_total_upstrm/2_timeseries/daily
    "lamah": ForcingLayout(
        {"layout": "single", "delimiter": ";", "step": "1 d", "time_column": ("YYYY", "MM", "DD"),
         "missing_values": (-999.0,)},
        {
            RAIN: _of("prec", "mm d-1"), MEAN: _of("2m_temp_mean", "degC"), LOW: _of("2m_temp_min", "degC"),
            HIGH: _of("2m_temp_max", "degC"), "dewpoint_temperature": _of("2m_dp_temp_mean", "degC"),
            "eastward_wind": _of("10m_wind_u", "m s-1"), "northward_wind": _of("10m_wind_v", "m s-1"),
            "surface_pressure": _of("surf_press", "Pa"),
        },
        "ID_{id}.csv",
    ),
    # timeseries/csv/SOURCE or timeseries/netcdf/SOURCE, a file per gauge called like it
    "caravan": ForcingLayout(
        CSV,
        {
            RAIN: _of("total_precipitation_sum", "mm d-1"), MEAN: _of("temperature_2m_mean", "degC"),
            LOW: _of("temperature_2m_min", "degC"), HIGH: _of("temperature_2m_max", "degC"),
            PET: _of(("potential_evaporation_sum_FAO_PENMAN_MONTEITH", "potential_evaporation_sum"), "mm d-1"),
        },
        "{id}.csv",
    ),
}
"""Name of the layout."""


def fill(given: Any) -> Any:
    """Return the keys of `forcing` with the sources that its layout makes of the folder or path in `source`.

    Raises
    ------
    ValueError
        A layout without `source`.
    """
    if not isinstance(given, dict) or given.get("layout") not in LAYOUTS:
        return given
    layout, place = LAYOUTS[given["layout"]], given.get("source")
    if not isinstance(place, str):
        raise ValueError(f"layout {given['layout']} without source; expected the folder of the files")
    filled = {key: value for key, value in given.items() if key != "source"}
    whole = "{id}" in place or "*" in place or place.lower().endswith((".csv", ".txt", ".nc"))
    for name, keys in layout.variables.items():
        own = given.get(name) or {}
        file = keys.get("source", layout.file)
        source = place if whole else f"{place.rstrip('/')}/{file}"
        if isinstance(own, dict):
            filled[name] = {**layout.common, **keys, "source": source, **own}
    return filled
