"""Forcing files of fields: values, units, times, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from forcing_cases import BASINS, DAY, HOUR, LAT, LON, SHAPE, START, constant, make, steps
from make_drainage import make_drainage, write_grid

from bmi_cdlm.files.forcing import ForcingFile
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather.pet import Site, compute

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def test_plain_days(tmp_path, daily):
    made = make(tmp_path, daily)
    assert made["cell_id"].tolist() == make_drainage().cells.id.tolist()
    np.testing.assert_allclose(made["precipitation"], np.array([1, 2, 3])[:, None] * np.ones(16), rtol=1e-6)
    np.testing.assert_allclose(made["potential_evapotranspiration"][:, 0], [4, 5, 6], rtol=1e-6)
    np.testing.assert_allclose(made["air_temperature"][:, 0], [0.0, 10.0, -10.0], atol=2e-5)
    assert made["missing"] == "none"
    assert not (tmp_path / "made" / "forcing.nc.partial").exists()


def test_the_model_reads_the_file(tmp_path, daily):
    make(tmp_path, daily)
    names = ["precipitation", "potential_evapotranspiration", "air_temperature"]
    ids = make_drainage().cells.id.tolist()
    with ForcingFile(tmp_path / "made" / "forcing.nc", names, ids, START, START + 3 * DAY, DAY, {}) as file:
        assert file.read(1, 1)["precipitation"].tolist() == [[2.0] * 16]


def test_fields_go_to_their_cells(tmp_path):
    drainage = make_drainage()
    plane = 0.01 * LON + 0.1 * LAT[:, None]
    for name in ("precipitation", "pet"):
        write_grid(tmp_path / "w.nc", name, np.stack([plane, 2 * plane]), LON, LAT, units="mm d-1", times=[0, 24])
    forcing = {name: {"source": "w.nc", "method": "bilinear"} for name in BASINS}
    made = make(tmp_path, forcing, when=steps(2), drainage=drainage)
    expected = 0.01 * drainage.cells.lon + 0.1 * drainage.cells.lat
    np.testing.assert_allclose(made["precipitation"], [expected, 2 * expected], rtol=1e-6)


def test_accumulation_that_begins_in_its_middle_needs_the_value_before(tmp_path):
    constant(tmp_path, "tp", np.tile(np.arange(1.0, 25.0), 2), file="a.nc", n=48, times=np.arange(1, 49.0), units="mm")
    constant(tmp_path, "pet", 1.0, file="a.nc", n=48, units="mm d-1")
    forcing = {"precipitation": {"source": "a.nc", "kind": "accumulated"},
               "potential_evapotranspiration": {"source": "a.nc", "stamp": "end"}}
    noon = START + 12 * HOUR
    made = make(tmp_path, forcing, when=steps(1, DAY, noon))
    assert made["precipitation"][0, 0] == pytest.approx(24.0)
    for name in ("tp", "pet"):
        constant(tmp_path, name, np.tile(np.arange(1.0, 25.0), 2)[12:36], file="b.nc", n=24, times=np.arange(13, 37.0),
                 units="mm" if name == "tp" else "mm d-1")
    forcing["precipitation"]["source"] = forcing["potential_evapotranspiration"]["source"] = "b.nc"
    with pytest.raises(ForcingError, match=r"no interval of 3600 s from 2020-01-01T11:00:00 UTC"):
        make(tmp_path, forcing, when=steps(1, DAY, noon))


@pytest.mark.parametrize(
    ("units", "kind", "value", "expected"),
    [
        ("m", "total", 0.002, 2.0), ("mm", "total", 2.0, 2.0), ("kg m-2", "total", 2.0, 2.0),
        ("0.1 mm", "total", 20.0, 2.0), ("kg m-2 s-1", None, 2.0 / 86400, 2.0),
        ("kg m**-2 s**-1", "mean", 2.0 / 86400, 2.0), ("mm h-1", None, 1.0, 24.0),
        ("m of water equivalent", "total", 0.002, 2.0),
    ],
)
def test_units_of_rain(tmp_path, units, kind, value, expected):
    constant(tmp_path, "tp", value, units=units)
    constant(tmp_path, "pet", -value, units=units)
    forcing = {"precipitation": {"source": "weather.nc", "kind": kind},
               "potential_evapotranspiration": {"source": "weather.nc", "kind": kind, "scale": -1}}
    made = make(tmp_path, forcing)
    np.testing.assert_allclose(made["precipitation"], expected, rtol=1e-6)
    np.testing.assert_allclose(made["potential_evapotranspiration"], expected, rtol=1e-6)


def test_cell_methods_say_what_an_amount_is(tmp_path, daily):
    constant(tmp_path, "pr", 3.0, file="sums.nc", units="mm", cell_methods="area: mean time: sum")
    made = make(tmp_path, {**daily, "precipitation": {"source": "sums.nc"}})
    np.testing.assert_allclose(made["precipitation"], 3.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("units", "match"),
    [("mm", r"an amount; of each interval.*Set `kind`"), ("K", "do not convert to 'mm d-1'"), ("", "has no units"),
     ("blobs", "not known to UDUNITS")],
)
def test_units_that_do_not_do(tmp_path, daily, units, match):
    constant(tmp_path, "pr", 3.0, file="odd.nc", units=units)
    kind = None if units == "mm" else "mean"
    with pytest.raises(ForcingError, match=match):
        make(tmp_path, {**daily, "precipitation": {"source": "odd.nc", "kind": kind}})


@pytest.mark.parametrize(
    ("stamp", "hours"), [("start", 0.0), ("middle", 12.0), ("end", 24.0)]
)
def test_stamps(tmp_path, daily, stamp, hours):
    constant(tmp_path, "pr", [1.0, 2.0, 3.0], file="s.nc", units="mm d-1", times=np.arange(3) * 24.0 + hours)
    made = make(tmp_path, {**daily, "precipitation": {"source": "s.nc", "stamp": stamp}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3])


def test_bounds_decide_and_local_time_is_shifted(tmp_path, daily):
    times = np.arange(3) * 24.0 + 12.0
    bounds = np.stack([times - 12.0, times + 12.0], axis=1)
    constant(tmp_path, "pr", [1.0, 2.0, 3.0], file="b.nc", units="mm d-1", times=times, bounds=bounds)
    made = make(tmp_path, {**daily, "precipitation": {"source": "b.nc"}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3])
    constant(tmp_path, "pr", [1.0, 2.0, 3.0], file="c.nc", units="mm d-1", times=np.arange(3) * 24.0 + 8.0)
    made = make(tmp_path, {**daily, "precipitation": {"source": "c.nc", "utc_offset": 8}})
    np.testing.assert_allclose(made["precipitation"][:, 0], [1, 2, 3])
    with pytest.raises(ForcingError, match=r"no interval of 86400 s from 2020-01-01T00:00:00 UTC.*utc_offset"):
        make(tmp_path, {**daily, "precipitation": {"source": "c.nc"}})


def test_gap_is_named_or_declared(tmp_path, daily):
    constant(tmp_path, "pr", [1.0, 3.0], file="g.nc", n=2, units="mm d-1", times=[0.0, 48.0])
    source = {"source": "g.nc", "step": "1 d"}
    with pytest.raises(ForcingError, match=r"from 2020-01-02T00:00:00 UTC \(1 of 3 are absent\)"):
        make(tmp_path, {**daily, "precipitation": source})
    made = make(tmp_path, {**daily, "precipitation": {**source, "missing": ["2020-01-02"]}})
    assert np.isnan(made["precipitation"][1]).all()
    np.testing.assert_allclose(made["precipitation"][[0, 2], 0], [1, 3])
    assert made["missing"] == "2020-01-02T00:00:00"


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars_that_are_no_dates(tmp_path, daily, calendar):
    constant(tmp_path, "pr", 1.0, file="m_1.nc", units="mm d-1", n=1, times=[0.0])
    constant(tmp_path, "pr", 1.0, file="m_2.nc", units="mm d-1", n=2, times=[24.0, 48.0], calendar=calendar)
    with pytest.raises(ForcingError, match=rf"m_2\.nc: has dates of the calendar {calendar}, .* of standard"):
        make(tmp_path, {**daily, "precipitation": {"source": "m_*.nc"}})


def test_files_that_overlap_in_time(tmp_path, daily):
    for k in (1, 2):
        constant(tmp_path, "pr", 1.0, file=f"o_{k}.nc", units="mm d-1")
    with pytest.raises(ForcingError, match=r"o_1\.nc: the interval from 2020-01-01.*is there twice, also in .*o_2"):
        make(tmp_path, {**daily, "precipitation": {"source": "o_*.nc"}})


def test_negative_rain_and_rounding(tmp_path, daily):
    constant(tmp_path, "pr", [1.0, -1e-4, 3.0], file="n.nc", units="mm d-1")
    assert make(tmp_path, {**daily, "precipitation": {"source": "n.nc"}})["precipitation"][1, 0] == 0.0
    constant(tmp_path, "pr", [1.0, -0.5, 3.0], file="m.nc", units="mm d-1")
    with pytest.raises(ForcingError, match=r"m\.nc: 'precipitation' is -0\.5 mm d-1 at 2020-01-02.* cell 0000_0000"):
        make(tmp_path, {**daily, "precipitation": {"source": "m.nc"}})
    assert not (tmp_path / "made" / "forcing.nc.partial").exists()


def test_kelvin_called_degrees_is_found_out(tmp_path, daily):
    constant(tmp_path, "t2m", 280.0, file="k.nc", units="degC")
    with pytest.raises(ForcingError, match=r"'air_temperature' is 280 degC.*expected -100 to 70"):
        make(tmp_path, {**daily, "air_temperature": {"source": "k.nc"}})


def test_sea_is_filled_from_the_nearest_land_and_later_gaps_are_named(tmp_path, daily):
    values = np.broadcast_to(LON * 1.0, (3, *SHAPE)).copy()
    values[:, :, LON > 10.03] = np.nan  # the eastern cells
    write_grid(tmp_path / "sea.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    made = make(tmp_path, {**daily, "precipitation": {"source": "sea.nc"}})
    np.testing.assert_allclose(made["precipitation"], 10.0, rtol=1e-6)
    values[1, 8, 10] = np.nan
    write_grid(tmp_path / "hole.nc", "pr", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    with pytest.raises(ForcingError, match=r"hole\.nc: 'precipitation' is missing at 2020-01-02"):
        make(tmp_path, {**daily, "precipitation": {"source": "hole.nc"}})


def test_weather_of_another_region(tmp_path, daily):
    write_grid(tmp_path / "far.nc", "pr", np.ones((3, *SHAPE)), LON + 40, LAT, units="mm d-1", times=[0, 24, 48])
    with pytest.raises(ForcingError, match=r"far\.nc: does not reach 16 of 16 cells"):
        make(tmp_path, {**daily, "precipitation": {"source": "far.nc"}})


def test_no_pet_at_all(tmp_path, daily):
    del daily["potential_evapotranspiration"]
    with pytest.raises(ForcingError, match=r"no source of 'potential_evapotranspiration'.*pet\.method"):
        make(tmp_path, daily)


def test_oudin_from_temperature(tmp_path, daily):
    drainage = make_drainage()
    del daily["potential_evapotranspiration"]
    made = make(tmp_path, daily, {"method": "oudin"}, drainage=drainage)
    T = np.array([0.0, 10.0, -10.0])[:, None] * np.ones(16)
    start = int(START.astype(np.int64))
    expected = compute("oudin", start, {"air_temperature": T}, Site(drainage.cells.lat, drainage.cells.lon))
    np.testing.assert_allclose(made["potential_evapotranspiration"], expected, rtol=1e-4)


def test_mean_temperature_from_the_extremes(tmp_path, daily):
    constant(tmp_path, "tasmin", [1.0, 2.0, 3.0], units="degC")
    constant(tmp_path, "tasmax", [5.0, 8.0, 7.0], units="degC")
    plain = {"source": "weather.nc"}
    forcing = {"precipitation": plain, "minimum_temperature": plain, "maximum_temperature": plain}
    made = make(tmp_path, forcing, {"method": "oudin"})
    np.testing.assert_allclose(made["air_temperature"][:, 0], [3.0, 5.0, 5.0], rtol=1e-6)
    forcing["air_temperature"] = plain
    assert make(tmp_path, forcing, {"method": "oudin"})["air_temperature"][0, 0] == pytest.approx(0.0, abs=2e-5)
