"""Records of discharge as services and data sets hand them out: the keys of `observations` that read each."""

from __future__ import annotations

from typing import Any

USGS_WORDS = (
    "Ice", "Eqp", "***", "Bkw", "Dis", "Ssn", "Rat", "Mnt", "ZFL", "ZFl", "Fld", "Tst", "Pr", "Dry",
    "Prd", "Psn", "Uns",
)
"""Remarks of the USGS in place of a value."""
LAYOUTS: dict[str, dict[str, Any]] = {
    # Global Runoff Data Centre: GRDC_NO_Q_Day.Cmd.txt
    "grdc": {
        "layout": "single", "delimiter": ";", "encoding": "latin-1", "time_column": "YYYY-MM-DD",
        "value_column": ("Value", "Original", "Calculated"), "units": "m3 s-1", "missing_values": (-999.0, -99.0),
        "missing_text": ("--:--",), "step": "1 d",
    },
    # USGS NWIS, daily values: tab-separated, remarks in place of values
    "usgs_rdb": {
        "layout": "single", "delimiter": "\t", "time_column": "datetime",
        "value_column": ("*_00060_00003", "00060_00003", "discharge"), "units": "ft3 s-1", "step": "1 d",
        "missing_text": USGS_WORDS, "missing_values": (-999999.0,),
    },
    # USGS NWIS, instantaneous values: a clock with daylight saving, and its name beside it
    "usgs_rdb_iv": {
        "layout": "single", "delimiter": "\t", "time_column": "datetime", "zone_column": "tz_cd",
        "value_column": ("*_00060", "00060", "discharge"), "units": "ft3 s-1", "step": "15 min",
        "missing_text": USGS_WORDS, "missing_values": (-999999.0,),
    },
    # CAMELS (US): usgs_streamflow/HUC/GAUGE_streamflow_qc.txt
    "camels_us": {
        "layout": "single", "delimiter": r"\s+", "headings": False, "time_column": (2, 3, 4), "value_column": 5,
        "flag_column": 6, "rejected_flags": ("M",), "units": "ft3 s-1", "missing_values": (-999.0,), "step": "1 d",
    },
    "camels_gb": {
        "layout": "single", "time_column": "date", "value_column": "discharge_vol", "units": "m3 s-1", "step": "1 d",
    },
    "camels_de": {
        "layout": "single", "time_column": "date", "value_column": ("discharge_vol_obs", "discharge_vol"),
        "units": "m3 s-1", "step": "1 d",
    },
    # CAMELS-BR: streamflow_m3s/GAUGE_streamflow_m3s.txt
    "camels_br": {
        "layout": "single", "delimiter": r"\s+", "time_column": ("year", "month", "day"),
        "value_column": "streamflow_m3s", "units": "m3 s-1", "step": "1 d",
    },
    # CAMELS-AUS: streamflow_MLd.csv, a column per gauge
    "camels_aus": {
        "layout": "wide", "time_column": ("year", "month", "day"), "units": "1000 m3 d-1",
        "missing_values": (-99.99,), "step": "1 d",
    },
    # CAMELS-CL: 2_CAMELScl_streamflow_m3s.txt, a column per gauge
    "camels_cl": {
        "layout": "wide", "delimiter": "\t", "time_column": "gauge_id", "units": "m3 s-1", "step": "1 d",
    },
    # LamaH-CE: D_gauges/2_timeseries/daily/ID_GAUGE.csv
    "lamah": {
        "layout": "single", "delimiter": ";", "time_column": ("YYYY", "MM", "DD"), "value_column": "qobs",
        "units": "m3 s-1", "missing_values": (-999.0,), "step": "1 d",
    },
    # Caravan: timeseries/netcdf/SOURCE/SOURCE_GAUGE.nc, a depth over the basin
    "caravan": {"layout": "netcdf", "variable": "streamflow", "units": "mm d-1", "step": "1 d"},
    "caravan_csv": {
        "layout": "single", "time_column": "date", "value_column": "streamflow", "units": "mm d-1", "step": "1 d",
    },
    # HYSETS: one NetCDF on (watershed, time)
    "hysets": {
        "layout": "netcdf", "variable": "discharge", "id_variable": "watershedID", "units": "m3 s-1", "step": "1 d",
    },
}
"""Name of the layout and the keys that it sets where they are not given."""
