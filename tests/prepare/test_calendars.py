"""Weather of climate models in their own calendars: every day of the model once, and no other."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml
from make_drainage import write_grid

from bmi_cdlm.names.calendars import parse
from bmi_cdlm.names.errors import CdlmError, ForcingError
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.prepare.weather.pet import Site, compute
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("rasterio", "shapely", "pyproj", "cf_units"):
    pytest.importorskip(package, reason=f"{package} is not installed")

LON, LAT = np.arange(10.0, 11.0, 0.25), np.arange(50.0, 49.0, -0.25)
DAYS = {"noleap": ["02-27", "02-28", "03-01", "03-02"], "360_day": ["02-29", "02-30", "03-01", "03-02"]}


def write(tmp_path, calendar, *, per_day=1, first=None, **keys):
    """Rain 1, 2, 3, 4 mm/d on four days, temperature five more, on a grid; a lumped basin in the midst."""
    first = first or f"2000-{DAYS[calendar][0]}"
    rain = np.repeat(np.arange(1.0, 5.0), per_day)[:, None, None] * np.ones((1, LAT.size, LON.size))
    options = {"times": np.arange(rain.shape[0]) / per_day, "time_units": f"days since {first}", "calendar": calendar}
    write_grid(tmp_path / "gcm.nc", "pr", rain, LON, LAT, units="mm d-1", **options)
    write_grid(tmp_path / "gcm.nc", "tas", rain + 278.15, LON, LAT, units="K", **options)
    (tmp_path / "basins.csv").write_text("id,gauge,area,lat,lon\na,a,100,49.6,10.4\n")
    source = {"source": "gcm.nc", "method": "nearest"}
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "observations": "obs.nc", "calendar": calendar,
        "start": first, "end": "2000-03-03", "output": "run.nc", "pet_kind": "oudin",
        "prepare": {
            "network": {"table": "basins.csv"}, "forcing": {"precipitation": source, "air_temperature": source},
            "pet": {"method": "oudin"},
            "observations": {"source": "q.csv", "layout": "wide", "units": "m3 s-1"},
        },
    } | keys
    (tmp_path / "q.csv").write_text("time,a\n" + "\n".join(
        f"2000-{day},{k}" for k, day in enumerate(("02-27", "02-28", "02-29", "03-01", "03-02"))))
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "case.yaml"


def dates_and(path, name):
    with netCDF4.Dataset(path) as dataset:
        time = dataset["time"]
        dates = netCDF4.num2date(time[:], time.units, time.calendar)
        return [one.isoformat()[5:10] for one in dates], dataset[name][:, 0].filled(np.nan).tolist()


@pytest.mark.parametrize("calendar", DAYS)
def test_from_grids_to_a_run(tmp_path, calendar, caplog):
    config = write(tmp_path, calendar)
    prepare(config)
    assert dates_and(tmp_path / "forcing.nc", "precipitation") == (DAYS[calendar], [1, 2, 3, 4])
    days, demand = dates_and(tmp_path / "forcing.nc", "potential_evapotranspiration")
    start = int(parse(f"2000-{days[0]}", calendar).astype(np.int64))
    expected = compute("oudin", start, {"air_temperature": np.arange(6.0, 10.0)[:, None]}, Site(
        np.array([49.6]), np.array([10.4])))
    np.testing.assert_allclose(demand, expected[:, 0], rtol=1e-5)
    observed = {"noleap": [0, 1, 3, 4], "360_day": [2, np.nan, 3, 4]}[calendar]
    np.testing.assert_array_equal(dates_and(tmp_path / "obs.nc", "discharge")[1], observed)
    assert ("up to 1 values of a record, of days that noleap does not have" in caplog.text) == (calendar == "noleap")
    simulation = Simulation(load_config(config))
    simulation.run()
    simulation.close()
    assert dates_and(tmp_path / "run.nc", "discharge")[0] == DAYS[calendar]


def test_parts_of_days_and_bounds_of_the_year(tmp_path):
    """Six-hourly values across New Year, stamped at their ends."""
    config = write(tmp_path, "360_day", per_day=4, first="1999-12-29", end="2000-01-03")
    content = yaml.safe_load(config.read_text())
    content["prepare"]["observations"]["allow_absent"] = True
    for source in content["prepare"]["forcing"].values():
        source["stamp"] = "end"
    config.write_text(yaml.safe_dump(content))
    with netCDF4.Dataset(tmp_path / "gcm.nc", "a") as dataset:
        dataset["time"][:] = (np.arange(16) + 1) / 4
    prepare(config)
    assert dates_and(tmp_path / "forcing.nc", "precipitation") == (["12-29", "12-30", "01-01", "01-02"], [1, 2, 3, 4])


def test_real_dates_are_no_days_of_a_model(tmp_path):
    config = write(tmp_path, "noleap")
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({k: v for k, v in content.items() if k != "calendar"}))
    with pytest.raises(ForcingError, match=r"'pr' is in the calendar noleap, expected standard.*calendar: noleap"):
        prepare(config)
    table = {"source": "rain.csv", "layout": "wide", "units": "mm d-1"}
    content["prepare"]["forcing"]["precipitation"] = table
    config.write_text(yaml.safe_dump(content))
    days = ["02-27", "02-28", "03-01", "03-02"]
    (tmp_path / "rain.csv").write_text("time,a\n" + "\n".join(f"2000-{day},{k}" for k, day in enumerate(days)))
    prepare(config)
    assert dates_and(tmp_path / "forcing.nc", "precipitation") == (days, [0, 1, 2, 3])
    (tmp_path / "rain.csv").write_text("time,a\n" + "\n".join(f"2000-{day},1" for day in [*days, "02-29"]))
    with pytest.raises(CdlmError, match=r"a row of 2000-02-29.*that the calendar noleap does not have"):
        prepare(config)


def test_records_are_counted_in_real_days(tmp_path):
    """Step 3 from 27 February 2000 is the 29th, which noleap does not have: it is no 1 March."""
    config = write(tmp_path, "noleap")
    content = yaml.safe_load(config.read_text())
    (tmp_path / "q.tss").write_text("q\n2\ntimestep\na\n" + "\n".join(f"{k} {k}" for k in (1, 2, 3, 4, 5)))
    content["prepare"]["observations"] |= {"source": "q.tss", "first_step": "2000-02-27", "step": "1 d"}
    config.write_text(yaml.safe_dump(content))
    prepare(config)
    assert dates_and(tmp_path / "obs.nc", "discharge") == (DAYS["noleap"], [1, 2, 4, 5])


def test_rasters_by_the_dates_of_the_model(tmp_path, write_raster):
    config = write(tmp_path, "360_day")
    content = yaml.safe_load(config.read_text())
    for k, day in enumerate(("0229", "0230", "0301", "0302")):
        write_raster(tmp_path / f"r_2000{day}.tif", np.full((4, 4), k, np.float32), left=10.0, top=50.0, size=0.25,
                     crs="EPSG:4326", nodata=-9999.0)
    content["prepare"]["forcing"]["precipitation"] = {
        "source": "r_%Y%m%d.tif", "units": "mm d-1", "method": "nearest"}
    config.write_text(yaml.safe_dump(content))
    prepare(config)
    assert dates_and(tmp_path / "forcing.nc", "precipitation")[1] == [0, 1, 2, 3]
