"""Records as services and data sets hand them out, written in their layouts, against values by hand."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from pydantic import ValidationError

from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.prepare.gauges.record_layouts import LAYOUTS
from bmi_cdlm.prepare.gauges.records import read_records
from bmi_cdlm.prepare.weather.weather_config import ObservationsConfig

DAY = 86400
DAYS = np.datetime64("2020-01-01", "s") + np.arange(4) * np.timedelta64(DAY, "s")
FOOT3 = 0.3048**3
AREA = 864.0  # km2: 1 mm d-1 is 10 m3 s-1


def read(folder, ids=("G1",), starts=DAYS, step=DAY, **config):
    return read_records(ObservationsConfig(**config), dict.fromkeys(ids, AREA), starts, step, folder)


def assert_days(found, expected, flags=None):
    np.testing.assert_allclose(found[0][:, 0], expected, rtol=1e-12)
    if flags is not None:
        assert found[1][:, 0].tolist() == flags


GRDC = """# Title:                 GRDC STATION DATA FILE
# missing values are indicated by -999.000
# River:                 RIO PARANÁ
# Catchment area (km²):      31100.0
#
# DATA
YYYY-MM-DD;hh:mm; Value
2020-01-01;--:--;   1000.500
2020-01-02;--:--;   -999.000
2020-01-03;--:--;    -99.000
2020-01-04;--:--;      0.000
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_grdc(tmp_path, end):
    (tmp_path / "2549500_Q_Day.Cmd.txt").write_bytes(GRDC.replace("\n", end).encode("latin-1"))
    found = read(tmp_path, ["2549500"], source="{id}_Q_Day.Cmd.txt", layout="grdc")
    assert_days(found, [1000.5, np.nan, np.nan, 0.0], [0, 1, 1, 0])


def test_grdc_of_former_years(tmp_path):
    text = GRDC.replace("hh:mm; Value", "hh:mm; Original; Calculated; Flag").replace(".500", ".500; -999.000; -999")
    (tmp_path / "G1.day").write_bytes(text.replace("00\n", "00; -999.000; -999\n").encode("latin-1"))
    assert_days(read(tmp_path, source="{id}.day", layout="grdc"), [1000.5, np.nan, np.nan, 0.0])


def test_a_letter_of_another_encoding_in_a_comment_does_no_harm(tmp_path):
    (tmp_path / "q.csv").write_bytes("# PARANÁ\ntime,G1\n2020-01-01,1.5\n".encode("latin-1"))
    assert_days(read(tmp_path, source="q.csv", layout="wide", units="m3 s-1"), [1.5, *[np.nan] * 3])
    (tmp_path / "q.csv").write_bytes("time,G1,Paraná\n2020-01-01,1.5,2\n".encode("latin-1"))
    with pytest.raises(ObservationError, match=r"cannot be read as utf-8 .*0xe1 at byte 13.*Set `encoding`"):
        read(tmp_path, source="q.csv", layout="wide", units="m3 s-1")
    config = {"source": "q.csv", "layout": "wide", "units": "m3 s-1", "encoding": "latin-1"}
    assert_days(read(tmp_path, ["Paraná"], **config), [2.0, *[np.nan] * 3])
    with pytest.raises(ObservationError, match="encoding 'latin-99' is not known"):
        read(tmp_path, **{**config, "encoding": "latin-99"})


RDB = """# ---------------------------------- WARNING ----------------------------------------
# Data for the following 1 site(s) are contained in this file
#    USGS 01547700 Marsh Creek
agency_cd\tsite_no\tdatetime\t119331_00060_00003\t119331_00060_00003_cd\t5_00065_00003\t5_00065_00003_cd
5s\t15s\t20d\t14n\t10s\t14n\t10s
USGS\t01547700\t2020-01-01\t100\tA\t2.2\tA
USGS\t01547700\t2020-01-02\tIce\tA\t2.3\tA
USGS\t01547700\t2020-01-03\t\tP\t\tP
USGS\t01547700\t2020-01-04\t35.3\tA:e\t2.2\tA
"""


def test_usgs_daily(tmp_path):
    (tmp_path / "01547700.rdb").write_text(RDB)
    found = read(tmp_path, ["01547700"], source="{id}.rdb", layout="usgs_rdb")
    assert_days(found, [100 * FOOT3, np.nan, np.nan, 35.3 * FOOT3], [0, 1, 1, 0])
    flags = {"flag_column": "*_00060_00003_cd", "rejected_flags": ["A:e"]}
    found = read(tmp_path, ["01547700"], source="{id}.rdb", layout="usgs_rdb", **flags)
    assert found[1][:, 0].tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("word", ["Ice", "Eqp", "***", "Bkw", "Mnt", "Rat", "Ssn", "Dis"])
def test_words_of_the_usgs_are_missing(tmp_path, word):
    (tmp_path / "G1.rdb").write_text(RDB.replace("\t100\t", f"\t{word}\t").replace("Ice", word))
    assert_days(read(tmp_path, source="{id}.rdb", layout="usgs_rdb"), [np.nan] * 3 + [35.3 * FOOT3])


def test_an_unknown_word_is_named_with_its_key(tmp_path):
    (tmp_path / "G1.rdb").write_text(RDB.replace("\t100\t", "\tLost\t"))
    said = r"column '119331_00060_00003': 'Lost' \(1 times\) are no numbers.*missing_text"
    with pytest.raises(ObservationError, match=said):
        read(tmp_path, source="{id}.rdb", layout="usgs_rdb")


def test_two_series_of_discharge_in_one_file_are_not_chosen_among(tmp_path):
    (tmp_path / "G1.rdb").write_text(RDB.replace("5_00065_00003", "5_00060_00003"))
    with pytest.raises(ObservationError, match=r"columns 119331_00060_00003, 5_00060_00003 all fit"):
        read(tmp_path, source="{id}.rdb", layout="usgs_rdb")
    found = read(tmp_path, source="{id}.rdb", layout="usgs_rdb", value_column="5_00060_00003")
    np.testing.assert_allclose(found[0][0, 0], 2.2 * FOOT3, rtol=1e-12)


def test_usgs_instants_over_the_end_of_daylight_saving(tmp_path):
    """On 1 November 2020 the hour from 1 to 2 comes twice in the east of the USA: EDT, then EST."""
    lines = ["agency_cd\tsite_no\tdatetime\ttz_cd\t1_00060\t1_00060_cd", "5s\t15s\t20d\t6s\t14n\t10s"]
    utc = np.datetime64("2020-11-01T04:00") + np.arange(12) * np.timedelta64(15, "m")
    for k, moment in enumerate(utc):
        ahead, zone = (4, "EDT") if moment < np.datetime64("2020-11-01T06:00") else (5, "EST")
        local = str(moment - np.timedelta64(ahead, "h")).replace("T", " ")
        lines.append(f"USGS\tG1\t{local}\t{zone}\t{k}\tP")
    (tmp_path / "G1.rdb").write_text("\n".join(lines))
    hours = np.datetime64("2020-11-01T04:00", "s") + np.arange(3) * np.timedelta64(1, "h")
    found = read(tmp_path, source="{id}.rdb", layout="usgs_rdb_iv", starts=hours, step=3600)
    np.testing.assert_allclose(found[0][:, 0], np.array([1.5, 5.5, 9.5]) * FOOT3, rtol=1e-12)


def test_a_clock_with_daylight_saving_by_its_name(tmp_path):
    """Two in the night comes twice on 25 October 2020 in Paris, and is not there on 29 March."""
    lines = [f"25.10.2020 {hour}:00;{k}" for k, hour in enumerate(["01", "02", "02", "03"])]
    (tmp_path / "q.csv").write_text("time;G1\n" + "\n".join(lines))
    hours = np.datetime64("2020-10-24T23:00", "s") + np.arange(4) * np.timedelta64(1, "h")
    config = {"source": "q.csv", "layout": "wide", "units": "m3 s-1", "delimiter": ";", "time_format": "%d.%m.%Y %H:%M"}
    found = read(tmp_path, starts=hours, step=3600, time_zone="Europe/Paris", **config)
    assert found[0][:, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ObservationError, match="there twice"):
        read(tmp_path, starts=hours, step=3600, utc_offset=1, **config)
    with pytest.raises(ObservationError, match="time_zone 'Europe/Paradise' is not known"):
        read(tmp_path, starts=hours, step=3600, time_zone="Europe/Paradise", **config)
    lines = [f"29.03.2020 {hour}:00;{k}" for k, hour in enumerate(["01", "03", "04"])]
    (tmp_path / "q.csv").write_text("time;G1\n" + "\n".join(lines))
    hours = np.datetime64("2020-03-29T00:00", "s") + np.arange(3) * np.timedelta64(1, "h")
    found = read(tmp_path, starts=hours, step=3600, time_zone="Europe/Paris", **config)
    assert found[0][:, 0].tolist() == [0, 1, 2]


def test_camels_us(tmp_path):
    folder = tmp_path / "usgs_streamflow" / "01"
    folder.mkdir(parents=True)
    (folder / "01013500_streamflow_qc.txt").write_text(
        "01013500 2020 01 01   655.00 A\n01013500 2020 01 02   640.00 A:e\n01013500 2020 01 03  -999.00 M\n"
    )
    found = read(tmp_path, ["01013500"], source="usgs_streamflow/*/{id}_streamflow_qc.txt", layout="camels_us")
    assert_days(found, [655 * FOOT3, 640 * FOOT3, np.nan, np.nan], [0, 0, 2, 1])
    other = tmp_path / "usgs_streamflow" / "02"
    other.mkdir()
    (other / "01013500_streamflow_qc.txt").write_text("")
    with pytest.raises(ObservationError, match="2 files fit gauge 01013500"):
        read(tmp_path, ["01013500"], source="usgs_streamflow/*/{id}_streamflow_qc.txt", layout="camels_us")


TABLES = {
    "camels_gb": ("date,precipitation,pet,temperature,discharge_spec,discharge_vol,peti\n"
                  "2020-01-01,1,1,1,9,1.5,1\n2020-01-02,1,1,1,NaN,NaN,1\n", 1.5),
    "camels_de": ("date,discharge_vol_obs,discharge_spec_obs,precipitation_mean\n"
                  "2020-01-01,1.5,9,1\n2020-01-02,,,1\n", 1.5),
    "camels_br": ("year month day streamflow_m3s qual_control_by_ana qual_flag\n"
                  "2020 01 01 1.5 1 0\n2020 01 02 nan 0 0\n", 1.5),
    "lamah": ("YYYY;MM;DD;qobs;ckhs\n2020;1;1;1.5;1\n2020;1;2;-999;0\n", 1.5),
    "caravan_csv": ("date,streamflow,total_precipitation_sum\n2020-01-01,0.15,1\n2020-01-02,,1\n", 1.5),
}


@pytest.mark.parametrize("layout", TABLES)
def test_a_table_per_gauge(tmp_path, layout):
    text, value = TABLES[layout]
    (tmp_path / "x_G1.txt").write_text(text)
    assert_days(read(tmp_path, source="x_{id}.txt", layout=layout), [value, *[np.nan] * 3])


@pytest.mark.parametrize(
    ("layout", "text"),
    [("camels_aus", "year,month,day,912101A,G1\n2020,1,1,7,129.6\n2020,1,2,7,-99.99\n"),
     ("camels_cl", '"gauge_id"\t"1001001"\t"G1"\n"2020-01-01"\t" "\t1.5\n"2020-01-02"\t7\t" "\n')],
)
def test_a_column_per_gauge(tmp_path, layout, text):
    (tmp_path / "q.txt").write_text(text)
    assert_days(read(tmp_path, source="q.txt", layout=layout), [1.5, *[np.nan] * 3])


def write_netcdf(path, name, values, **dims):
    """A variable on dimensions of given coordinates."""
    with netCDF4.Dataset(path, "w") as dataset:
        for dim, (variable, coordinates, units) in dims.items():
            dataset.createDimension(dim, len(coordinates))
            axis = dataset.createVariable(variable, "f8", (dim,))
            axis[:] = coordinates
            if units:
                axis.units = units
        dataset.createVariable(name, "f4", tuple(dims), fill_value=np.nan)[:] = values


def test_caravan_is_a_depth_over_the_official_area(tmp_path):
    write_netcdf(tmp_path / "camels_G1.nc", "streamflow", [0.125, np.nan, 0.25], date=("date", [0, 1, 2],
                 "days since 2020-01-01"))
    assert_days(read(tmp_path, source="camels_{id}.nc", layout="caravan"), [1.25, np.nan, 2.5, np.nan])
    with pytest.raises(ObservationError, match=r"cannot be opened|there is no such file"):
        read(tmp_path, ["G2"], source="camels_{id}.nc", layout="caravan")
    assert np.isnan(read(tmp_path, ["G2"], source="camels_{id}.nc", layout="caravan", allow_absent=True)[0]).all()


def test_hysets(tmp_path):
    write_netcdf(
        tmp_path / "h.nc", "discharge", [[7, 8], [1.5, np.nan]], watershed=("watershedID", [1, 8210], None),
        time=("time", [0, 1], "days since 2020-01-01"),
    )
    assert_days(read(tmp_path, ["8210"], source="h.nc", layout="hysets"), [1.5, *[np.nan] * 3])


def test_commas_rows_to_skip_and_columns_by_place(tmp_path):
    (tmp_path / "G1.csv").write_text(
        "Station;Lattes\nExport;2024\nDatum;Abfluss\n;[m3/s]\n01.01.2020;1,5\n02.01.2020;Ausfall\n03.01.2020;\n"
    )
    config = {
        "source": "{id}.csv", "layout": "single", "units": "m3 s-1", "delimiter": ";", "skip_rows": 2, "skip_below": 1,
        "time_format": "%d.%m.%Y", "time_column": "Datum", "value_column": "Abfluss", "decimal": ",",
        "missing_text": "Ausfall",
    }
    assert_days(read(tmp_path, **config), [1.5, *[np.nan] * 3])
    by_place = {**config, "headings": False, "skip_rows": 4, "skip_below": 0, "time_column": 1, "value_column": 2}
    assert_days(read(tmp_path, **by_place), [1.5, *[np.nan] * 3])
    with pytest.raises(ObservationError, match=r"'1,5' \(1 times\).*Set decimal: ','"):
        read(tmp_path, **{**config, "decimal": "."})
    with pytest.raises(ObservationError, match=r"'\[m3/s\]'|'' is no date.*skip_below"):
        read(tmp_path, **{**config, "skip_below": 0})
    with pytest.raises(ObservationError, match="has no line of values"):
        read(tmp_path, **{**config, "skip_rows": 9})


def test_keys_that_are_given_count_more_than_the_layout(tmp_path):
    (tmp_path / "G1.txt").write_text(RDB)
    found = read(tmp_path, source="{id}.txt", layout="usgs_rdb", units="m3 s-1", value_column="5_00065_00003")
    assert_days(found, [2.2, 2.3, np.nan, 2.2])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_valid(layout):
    per_gauge = LAYOUTS[layout]["layout"] == "single" or layout == "caravan"
    config = ObservationsConfig(source="q_{id}.txt" if per_gauge else "q.txt", layout=layout)
    assert config.step == (900 if layout == "usgs_rdb_iv" else DAY)
    assert config.units is not None


def test_an_unknown_layout_names_those_there_are():
    with pytest.raises(ValidationError, match=r"layout is 'grcd'; expected wide, .* Did you mean 'grdc'"):
        ObservationsConfig(source="q.txt", layout="grcd")


def test_a_comma_for_both_is_not_cut_off(tmp_path):
    """Beyond its headings pandas drops what a line holds: 1,5 became 1."""
    (tmp_path / "q.csv").write_text("time,G1\n2020-01-01,1,5\n2020-01-02,2,5\n")
    with pytest.raises(ObservationError, match=r"more fields than the headings, 'time,G1'.*a comma may stand for both"):
        read(tmp_path, source="q.csv", layout="wide", units="m3 s-1")
    (tmp_path / "q.csv").write_text("time,G1\n2020-01-01,1.5,\n2020-01-02,2.5,\n")
    assert_days(read(tmp_path, source="q.csv", layout="wide", units="m3 s-1"), [1.5, 2.5, np.nan, np.nan])


def test_a_gauge_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "q.csv").write_text("time,G1,G2,G1\n2020-01-01,1,2,3\n")
    with pytest.raises(ObservationError, match="the heading 'G1' stands twice"):
        read(tmp_path, source="q.csv", layout="wide", units="m3 s-1")
    assert_days(read(tmp_path, ["G2"], source="q.csv", layout="wide", units="m3 s-1"), [2.0, *[np.nan] * 3])
