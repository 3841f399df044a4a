"""Basins without rasters: a table of catchments, weather and records in the layouts that data sets come in."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from make_drainage import read_all

from bmi_cdlm.cli import main
from bmi_cdlm.doctor import examine
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.output import read_output
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError, ForcingError
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("pandas", "scipy", "sklearn", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
DAYS = np.arange("2000-01-01", "2001-01-01", dtype="datetime64[D]")
FOOT3 = 0.3048**3
PET = "potential_evapotranspiration"


def save(folder, prepare_block, start=DAYS[0], end=DAYS[-1] + 1, **keys):
    content = {
        "domain": "out/domain.nc", "forcing": "out/forcing.nc", "observations": "out/observations.nc",
        "start": str(start), "end": str(end), "output": "out/run.nc", **keys, "prepare": prepare_block,
    }
    (folder / "basin.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "basin.yaml"


# ---- CAMELS-US ---------------------------------------------------------------------------------------------------


def write_camels_us(folder, basin, days, weather, discharge):
    """The files of a basin as CAMELS-US has them. basin: id, lat, lon, area [km2], elevation [m]; weather: rain
    [mm d-1], minimum and maximum temperature [degC], vapour pressure [Pa], radiation over the daylight [W m-2].
    """
    one, lat, lon, area, elevation = basin
    forcing, flow = folder / "basin_mean_forcing" / "daymet" / one[:2], folder / "usgs_streamflow" / one[:2]
    forcing.mkdir(parents=True, exist_ok=True)
    flow.mkdir(parents=True, exist_ok=True)
    rows = [f"   {lat:.5f}", f" {elevation:.2f}", f" {area * 1e6:.0f}",
            "Year Mnth Day Hr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\tswe(mm)\ttmax(C)\ttmin(C)\tvp(Pa)"]
    flows = []
    for k, day in enumerate(days.astype(object)):
        rain, low, high, vapour, light = (values[k] for values in weather)
        rows.append(f"{day.year} {day.month:02d} {day.day:02d} 12\t43200.00\t{rain:.2f}\t{light:.2f}\t0.00\t"
                    f"{high:.2f}\t{low:.2f}\t{vapour:.2f}")
        q = discharge[k]
        flows.append(f"{one} {day.year} {day.month:02d} {day.day:02d} " + (
            "  -999.00 M" if np.isnan(q) else f"{q / FOOT3:9.2f} A"))
    (forcing / f"{one}_lump_cida_forcing_leap.txt").write_text("\n".join(rows) + "\n")
    (flow / f"{one}_streamflow_qc.txt").write_text("\n".join(flows) + "\n")
    topo = folder / "camels_topo.txt"
    if not topo.is_file():
        topo.write_text("gauge_id;gauge_lat;gauge_lon;elev_mean;slope_mean;area_gages2;area_geospa_fabric\n")
    with topo.open("a") as file:
        file.write(f"{one};{lat:.5f};{lon:.5f};{elevation:.2f};21.6;{area:.2f};{area + 1:.2f}\n")


CAMELS_US = {
    "network": {"table": "camels_topo.txt", "layout": "camels_us", "only": ["01013500"]},
    "attributes": {"climate": True},
    "forcing": {"layout": "camels_us", "source": "basin_mean_forcing/daymet"},
    "pet": {"method": "oudin"},
    "observations": {"source": "usgs_streamflow/*/{id}_streamflow_qc.txt", "layout": "camels_us"},
}


@pytest.fixture
def camels(tmp_path):
    rng = np.random.default_rng(3)
    n = DAYS.size
    warm = 10.0 - 12.0 * np.cos(2 * np.pi * np.arange(n) / 366)
    weather = [np.round(v, 2) for v in (
        rng.exponential(4.0, n) * (rng.random(n) < 0.5), warm - 5.0, warm + 6.0, np.full(n, 900.0), np.full(n, 300.0))]
    flow = np.round(rng.uniform(5, 50, n), 2) * FOOT3 * 100
    flow[10] = np.nan
    write_camels_us(tmp_path, ("01013500", 47.23739, -68.58264, 2252.7, 250.31), DAYS, weather, flow)
    write_camels_us(tmp_path, ("01022500", 44.60797, -67.93524, 573.6, 92.68), DAYS, [v * 0.5 for v in weather], flow)
    return tmp_path, weather, flow


def test_a_basin_of_camels_us_in_one_command_and_fifteen_lines(camels):
    folder, (rain, low, high, *_), flow = camels
    page = (ROOT / "docs" / "tutorials" / "lumped.md").read_text(encoding="utf-8")
    text = page.split("# camels.yaml\n")[1].split("```")[0]
    assert len(text.strip().splitlines()) <= 15
    config = folder / "basin.yaml"
    config.write_text(text.replace("end: 2010", "end: 2001").replace(" basin/", " out/"))
    result = CliRunner().invoke(main, ["prepare", str(config), "--quiet"])
    assert result.exit_code == 0, result.output
    names = ("domain", "forcing", "observations")
    domain, forcing, observed = (read_all(folder / "out" / f"{name}.nc") for name in names)
    assert domain["cell_id"].tolist() == domain["reach_id"].tolist() == domain["gauge_id"].tolist() == ["01013500"]
    assert (domain["cell_area"][0], domain["upstream_area"][0], domain["cell_elevation"][0]) == (2252.7, 2252.7, 250.31)
    assert domain["reach_length"].tolist() == [0.0]
    assert domain["cell_mean_slope"][0] == 21.6
    np.testing.assert_allclose(forcing["precipitation"][:, 0], rain, rtol=1e-6)
    np.testing.assert_allclose(forcing["air_temperature"][:, 0], 0.5 * (low + high), atol=1e-5)
    assert 1.0 < forcing["potential_evapotranspiration"][180, 0] < 8.0
    np.testing.assert_allclose(observed["discharge"][:, 0], flow, atol=0.0051 * FOOT3)
    assert [f.text for f in examine(config) if f.level == "fail"] == []
    simulation = Simulation(load_config(config))
    simulation.run()
    simulation.close()
    assert np.isfinite(read_output(folder / "out" / "run.nc", "discharge")[2]).all()
    assert CliRunner().invoke(main, ["evaluate", str(config)]).exit_code == 0


def test_radiation_of_the_daylight_becomes_that_of_the_day(camels):
    """300 W m-2 over 12 of 24 hours are 150 W m-2 of the day: as given, evaporation is far too high."""
    folder, *_ = camels
    block = {**CAMELS_US, "pet": {"method": "priestley_taylor"}}
    found = read_all(prepare(save(folder, block)).files["forcing"])["potential_evapotranspiration"]
    block["forcing"] = {**CAMELS_US["forcing"], "shortwave_radiation": {"times": None, "scale": 1.0}}
    other = read_all(prepare(save(folder, block)).files["forcing"])["potential_evapotranspiration"]
    block["forcing"]["shortwave_radiation"] = {"times": None, "scale": 0.5}
    half = read_all(prepare(save(folder, block)).files["forcing"])["potential_evapotranspiration"]
    np.testing.assert_allclose(found, half, rtol=1e-5, atol=1e-6)
    assert other[180, 0] > 1.5 * found[180, 0]


@pytest.mark.parametrize(
    ("pet", "run"), [("hargreaves", "given"), ("oudin", "hargreaves"), ("oudin", "given")],
)
def test_extremes_that_are_means_are_no_range(tmp_path, pet, run):
    """As Maurer's and NLDAS's files of CAMELS (US) have them: Hargreaves' demand would be 0."""
    days = DAYS[:40]
    warm = np.linspace(-5.0, 20.0, 40).round(2)
    weather = [np.full(40, 3.0), warm, warm, np.full(40, 900.0), np.full(40, 300.0)]
    write_camels_us(tmp_path, ("01013500", 47.2, -68.6, 2252.7, 250.0), days, weather, np.ones(40))
    config = save(tmp_path, {**CAMELS_US, "attributes": {}, "pet": {"method": pet}}, end=days[-1] + 1, pet=run)
    if "hargreaves" in (pet, run):
        with pytest.raises(ForcingError, match=r"leap\.txt: the lowest and the highest .* of all 40 days .* oudin"):
            prepare(config)
        return
    made = prepare(config)
    np.testing.assert_allclose(read_all(made.files["forcing"])["air_temperature"][:, 0], warm, atol=1e-5)
    assert read_all(made.files["forcing"])["potential_evapotranspiration"][-1, 0] > 1.0


def test_catchments_that_are_chosen_need_nothing_of_the_others(tmp_path):
    (tmp_path / "basins.csv").write_text("id,area,lat,lon\n0,1,45,3\na,7,45,3\n0,2,45,3\n")
    (tmp_path / "rivers.csv").write_text("id,length\na,1200\n")
    network = {"table": "basins.csv", "reaches": "rivers.csv"}
    with pytest.raises(DomainError, match=r"has no reach of 2 catchments"):
        prepare(save(tmp_path, {"network": network}, pet="oudin"))
    domain = read_domain(prepare(save(tmp_path, {"network": {**network, "only": ["a"]}}, pet="oudin")).files["domain"])
    assert domain.reaches.id == ["a"] and domain.cells.area.tolist() == [7.0]
    assert domain.reaches.length.tolist() == [1200.0]


def test_several_basins_in_one_domain_each_with_its_own_weather(camels):
    folder, (rain, *_), _ = camels
    block = {**CAMELS_US, "network": {"table": "camels_topo.txt", "layout": "camels_us"}}
    made = prepare(save(folder, block))
    domain, forcing = read_all(made.files["domain"]), read_all(made.files["forcing"])
    place = {one: i for i, one in enumerate(domain["cell_id"].tolist())}
    np.testing.assert_allclose(forcing["precipitation"][:, place["01013500"]], rain, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(forcing["precipitation"][:, place["01022500"]], rain * 0.5, atol=5.1e-3)
    assert sorted(q.id for q in made.report) == ["01013500", "01022500"]
    assert all(q.area == q.official_area for q in made.report)


def test_a_basin_without_weather_is_named_and_no_other_stands_in(camels):
    folder, *_ = camels
    (folder / "basin_mean_forcing" / "daymet" / "01" / "01022500_lump_cida_forcing_leap.txt").unlink()
    block = {**CAMELS_US, "network": {"table": "camels_topo.txt", "layout": "camels_us"}}
    config = save(folder, block)
    with pytest.raises(ForcingError, match=r"no series of 1 of 2 catchments: 01022500") as caught:
        prepare(config)
    assert any(str(caught.value) in f.text for f in examine(config) if f.level == "fail")
    block["network"]["only"] = ["01013501"]
    with pytest.raises(DomainError, match=r"no catchment '01013501', which network\.only names.*mean '01013500'"):
        prepare(save(folder, block))


def test_a_gap_in_a_basins_file_is_refused_and_not_filled(camels):
    folder, *_ = camels
    path = folder / "basin_mean_forcing" / "daymet" / "01" / "01013500_lump_cida_forcing_leap.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:30] + lines[31:]))
    block = {**CAMELS_US, "network": {"table": "camels_topo.txt", "layout": "camels_us"}}
    config = save(folder, block)
    with pytest.raises(ForcingError, match=r"'precipitation' is missing at 2000-01-27.* in cell 01013500"):
        prepare(config)
    assert any("'precipitation' is missing at 2000-01-27T00:00:00 in cell 01013500" in f.text for f in examine(config)
               if f.level == "fail")
    with pytest.raises(ForcingError, match=r"has no interval of 86400 s from 2000-01-27.*begins at 2000-01-01"):
        prepare(save(folder, CAMELS_US))


@pytest.mark.shared_data
def test_a_real_basin_of_camels_us(tmp_path):
    if not (SHARED / "basins_camelsus.nc").is_file():
        pytest.skip("reference file basins_camelsus.nc is not there")
    with netCDF4.Dataset(SHARED / "basins_camelsus.nc") as data:
        data.set_auto_mask(False)
        ids = [str(one) for one in data["basin_id"][:]]
        k = ids.index("01013500") if "01013500" in ids else 0
        days = netCDF4.num2date(data["time"][:], data["time"].units, only_use_cftime_datetimes=False)
        days = np.array([np.datetime64(d, "D") for d in days])
        rain, warm, flow = (data[v][:].T[k] if data[v].dimensions[0] == "time" else data[v][:][k] for v in (
            "precipitation", "temperature", "discharge_obs"))
        lat, lon, area = (float(data[v][k]) for v in ("lat", "lon", "area"))
    good = np.flatnonzero(np.isfinite(rain) & np.isfinite(warm))[: 2 * 366]
    days, rain, warm, flow = days[good], rain[good], warm[good], flow[good]
    one = ids[k].zfill(8)
    n = good.size
    weather = [rain, warm - 5.0, warm + 5.0, np.full(n, 800.0), np.full(n, 200.0)]
    write_camels_us(tmp_path, (one, lat, lon, area, 300.0), days, weather, flow)
    block = {**CAMELS_US, "network": {"table": "camels_topo.txt", "layout": "camels_us"}}
    made = prepare(save(tmp_path, block, start=days[0], end=days[-1] + 1))
    forcing, observed = read_all(made.files["forcing"]), read_all(made.files["observations"])
    np.testing.assert_allclose(forcing["precipitation"][:, 0], rain, atol=5.1e-3)
    np.testing.assert_allclose(forcing["air_temperature"][:, 0], warm, atol=1.01e-2)
    np.testing.assert_allclose(observed["discharge"][:, 0], flow, atol=0.0051 * FOOT3 + 1e-12)
    assert made.report[0].area == pytest.approx(area, abs=0.005)


# ---- many basins -------------------------------------------------------------------------------------------------


def write_mopex(folder, basins, days):
    """A table of basins, and wide tables of rain, demand, temperature and discharge. basins: per id area, lat, lon and
    the four series."""
    lines = ["id,area,lat,lon"] + [f"{one},{b[0]:.3f},{b[1]:.4f},{b[2]:.4f}" for one, b in basins.items()]
    (folder / "basins.csv").write_text("\n".join(lines))
    for k, name in enumerate(("rain", "pet", "warm", "flow"), start=3):
        table = np.stack([b[k] for b in basins.values()], axis=1)
        rows = [",".join([str(day), *("" if np.isnan(v) else f"{v:.4f}" for v in row)]) for day, row in
                zip(days, table, strict=True)]
        (folder / f"{name}.csv").write_text("\n".join([",".join(["time", *basins]), *rows]))


MANY = {
    "network": {"table": "basins.csv"},
    "forcing": {
        "precipitation": {"source": "rain.csv", "layout": "wide", "units": "mm d-1"},
        "potential_evapotranspiration": {"source": "pet.csv", "layout": "wide", "units": "mm d-1"},
        "air_temperature": {"source": "warm.csv", "layout": "wide", "units": "degC"},
    },
    "observations": {"source": "flow.csv", "layout": "wide", "units": "mm d-1", "allow_absent": True},
}


def assert_as_given(folder, basins, made):
    domain, forcing, observed = (read_all(made.files[k]) for k in ("domain", "forcing", "observations"))
    assert sorted(domain["cell_id"].tolist()) == sorted(basins)
    for i, one in enumerate(domain["cell_id"].tolist()):
        area, lat, lon, rain, demand, _, flow = basins[one]
        assert domain["cell_area"][i] == pytest.approx(area, abs=6e-4)
        assert (domain["cell_lat"][i], domain["cell_lon"][i]) == pytest.approx((lat, lon), abs=6e-5)
        np.testing.assert_allclose(forcing["precipitation"][:, i], rain, atol=6e-5)
        np.testing.assert_allclose(forcing["potential_evapotranspiration"][:, i], demand, atol=6e-5)
        g = domain["gauge_id"].tolist().index(one)
        expected = flow * area * 1000.0 / 86400.0
        slack = 6e-5 * area * 1000.0 / 86400.0 + 6e-4 * np.nanmax(flow) * 1000.0 / 86400.0
        np.testing.assert_allclose(observed["discharge"][:, g], expected, atol=slack)


@pytest.mark.shared_data
def test_a_hundred_basins_of_mopex_in_one_domain(tmp_path):
    if not (SHARED / "basins_mopex_a.nc").is_file():
        pytest.skip("reference file basins_mopex_a.nc is not there")
    with netCDF4.Dataset(SHARED / "basins_mopex_a.nc") as data:
        data.set_auto_mask(False)
        days = np.datetime64("1975-10-01") + np.arange(400)
        def of(name):
            values = data[name][:400] if data[name].dimensions[0] == "time" else data[name][:, :400].T
            return np.asarray(values, float)

        series = [of(v) for v in ("precipitation", "pet", "temperature", "runoff_obs")]
        ids = [str(one) for one in data["basin_id"][:]]
        places = [np.asarray(data[v][:], float) for v in ("area", "lat", "lon")]
    basins = {}
    for k, one in enumerate(ids):
        own = [p[k] for p in places] + [s[:, k] for s in series]
        if all(np.isfinite(s[k]) for s in places) and all(np.isfinite(s).all() for s in own[3:6]):
            basins[one] = own
    basins = dict(list(basins.items())[:100])
    assert len(basins) == 100
    write_mopex(tmp_path, basins, days)
    config = save(tmp_path, MANY, start=days[0], end=days[-1] + 1)
    assert_as_given(tmp_path, basins, prepare(config))
    simulation = Simulation(load_config(config))
    simulation.run()
    simulation.close()
    assert read_output(tmp_path / "out" / "run.nc", "discharge")[2].shape == (400, 100)


def made_up(n, days, seed=1):
    rng = np.random.default_rng(seed)
    def series(low, high):
        return np.round(rng.uniform(low, high, days.size), 4)

    def one():
        place = [round(rng.uniform(10, 900), 3), round(rng.uniform(30, 48), 4), round(rng.uniform(-120, -70), 4)]
        return [*place, series(0, 20), series(0, 5), series(-5, 20), series(0, 5)]

    return {f"{k:05d}": one() for k in range(n)}


def test_a_hundred_made_up_basins(tmp_path):
    days = DAYS[:20]
    basins = made_up(100, days)
    write_mopex(tmp_path, basins, days)
    assert_as_given(tmp_path, basins, prepare(save(tmp_path, MANY, end=days[-1] + 1)))


def test_columns_in_another_order_and_more_of_them_make_no_difference(tmp_path):
    days = DAYS[:5]
    basins = made_up(6, days)
    write_mopex(tmp_path, basins, days)
    whole = prepare(save(tmp_path, MANY, end=days[-1] + 1)).files
    before = {key: read_all(whole[key]) for key in ("domain", "forcing")}
    for name in ("rain", "pet", "warm"):
        rows = [line.split(",") for line in (tmp_path / f"{name}.csv").read_text().splitlines()]
        turned = [[row[0], "1", *row[:0:-1]] for row in rows]
        turned[0][1] = "elsewhere"
        (tmp_path / f"{name}.csv").write_text("\n".join(",".join(row) for row in turned))
    again = prepare(save(tmp_path, MANY, end=days[-1] + 1)).files
    for key, values in before.items():
        for name, value in read_all(again[key]).items():
            np.testing.assert_array_equal(value, values[name], err_msg=name)


def test_long_tables_and_files_for_each_give_the_same_as_wide_ones(tmp_path):
    days = DAYS[:5]
    basins = made_up(4, days)
    write_mopex(tmp_path, basins, days)
    config = save(tmp_path, MANY, end=days[-1] + 1)
    wide = read_all(prepare(config).files["forcing"])
    rows = ["station;day;P;E"]
    for one, basin in basins.items():
        rows += [f"{one};{day};{p:.4f};{e:.4f}" for day, p, e in zip(days, basin[3], basin[4], strict=True)]
        (tmp_path / f"{one}.txt").write_text("\n".join(["day;P;E", *(r.partition(";")[2] for r in rows[-days.size:])]))
    (tmp_path / "long.csv").write_text("\n".join(rows))
    for layout, source in (("long", "long.csv"), ("single", "{id}.txt")):
        common = {"source": source, "layout": layout, "delimiter": ";", "time_column": "day", "units": "mm d-1",
                  "id_column": "station"}
        forcing = {"precipitation": {**common, "variable": "P"},
                   "potential_evapotranspiration": {**common, "variable": "E"}}
        found = read_all(prepare(save(tmp_path, {**MANY, "forcing": forcing}, end=days[-1] + 1)).files["forcing"])
        for name in ("precipitation", "potential_evapotranspiration"):
            np.testing.assert_array_equal(found[name], wide[name])


def test_stations_of_a_table_by_their_places(tmp_path):
    days = DAYS[:5]
    basins = made_up(3, days)
    write_mopex(tmp_path, basins, days)
    stations = ["code,x,y"]
    values = ["time,far,near,a,b,c"] + [f"{day},9,{k},{k + 1},{k + 2},{k + 3}" for k, day in enumerate(days)]
    stations += ["far,0,0", "near,1,1"] + [
        f"{code},{b[2] + 0.01:.4f},{b[1]:.4f}" for code, b in zip("abc", basins.values(), strict=True)]
    (tmp_path / "stations.csv").write_text("\n".join(stations))
    (tmp_path / "rain.csv").write_text("\n".join(values))
    rain = {"source": "rain.csv", "layout": "wide", "units": "mm d-1", "method": "nearest", "stations": "stations.csv",
            "station_columns": {"id": "code", "lon": "x", "lat": "y"}}
    made = prepare(save(tmp_path, {**MANY, "forcing": {**MANY["forcing"], "precipitation": rain}}, end=days[-1] + 1))
    domain, forcing = read_all(made.files["domain"]), read_all(made.files["forcing"])
    for k, one in enumerate(basins):
        i = domain["cell_id"].tolist().index(one)
        assert forcing["precipitation"][:, i].tolist() == [d + k + 1 for d in range(5)]
    assert any("km (median)" in note for note in made.notes)


def test_rain_and_snow_are_added(tmp_path):
    days = DAYS[:5]
    basins = made_up(2, days)
    write_mopex(tmp_path, basins, days)
    for one, basin in basins.items():
        rows = [f"{day},{p:.4f},{p / 2:.4f}" for day, p in zip(days, basin[3], strict=True)]
        (tmp_path / f"{one}.csv").write_text("\n".join(["time,rain,snow", *rows]))
    rain = {"source": "{id}.csv", "layout": "single", "units": "mm d-1", "variable": "rain", "add": "snow"}
    made = prepare(save(tmp_path, {**MANY, "forcing": {**MANY["forcing"], "precipitation": rain}}, end=days[-1] + 1))
    domain, forcing = read_all(made.files["domain"]), read_all(made.files["forcing"])
    for one, basin in basins.items():
        i = domain["cell_id"].tolist().index(one)
        np.testing.assert_allclose(forcing["precipitation"][:, i], 1.5 * basin[3], atol=2e-4)


def test_a_number_for_missing_is_missing_in_what_is_added_too(tmp_path):
    """Rain of 1200 and snow of -999 are no rain of 201."""
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as dataset:
        dataset.createDimension("time", 3)
        time = dataset.createVariable("time", "f8", ("time",))
        time.units, time[:] = "days since 2000-01-01", [0, 1, 2]
        for name, values in (("rain", [1.0, 1200.0, 3.0]), ("snow", [2.0, -999.0, 4.0]), ("pet", [1.0, 1.0, 1.0])):
            dataset.createVariable(name, "f8", ("time",))[:] = values
            dataset[name].units = "mm d-1"
    (tmp_path / "basins.csv").write_text("id,area,lat,lon\na,1,45,3\n")
    keys = {"source": "{id}.nc", "layout": "single", "missing_values": [-999]}
    forcing = {"precipitation": {**keys, "variable": "rain", "add": "snow"}, PET: {**keys, "variable": "pet"}}
    block = {"network": {"table": "basins.csv"}, "forcing": forcing}
    with pytest.raises(ForcingError, match=r"'precipitation' is missing at 2000-01-02"):
        prepare(save(tmp_path, block, end="2000-01-04"))


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "network", "said"),
    [
        ("id,area,lat,lon\na,1,45,3\na,1,45,3\n", {}, r"the id 'a' is empty or stands twice"),
        ("id,area,lat,lon\na,-1,45,3\n", {}, r"'area' of catchment a is -1 km2"),
        ("id,area,lat,lon\na,1,95,3\n", {}, r"'lat' of catchment a is 95 degrees"),
        ("id,lat,lon\na,45,3\n", {}, r"has no column 'area', expected one of km2"),
        ("code,area,lat,lon\na,1,45,3\n", {}, r"has no column 'id'.*It has: code, area"),
        ("id,area,lat,lon,forest\na,1,45,3,0.2\n", {"columns": {"forest": "forest"}}, r"'forest' has no units"),
        ("id,area,lat,lon,downstream\na,1,45,3,b\nb,1,45,3,\n", {}, r"there is no column 'length'"),
        ("id,area,lat,lon,downstream,length\na,1,45,3,b,-5\nb,1,45,3,,1\n", {}, r"'length' of reach a is -5 m"),
        ("id,area,lat,lon,downstream,length\na,1,45,3,b,5\nb,1,45,3,a,1\n", {}, r"cycle"),
        ("id,area,lat,lon,downstream,length\na,90,45,3,b,8.2\nb,90,45,3,,12.1\n", {},
         r"'length' has no units and is 10.15 in the .*expected m\. Is it in km\? Set network\.units: \{length: km\}"),
        ("id,area,lat,lon\na,3e6,45,3\nb,2e6,45,3\n", {}, r"'area' has no units and is 2.5e\+06 .*Is it in m2\?"),
        ("id,area,lat,lon,elevation\na,1,45,3,500\n", {"units": {"elevation": "m"}},
         r"network\.units names 'elevation'.*no such column of numbers, expected one of area, lon, lat.*"
         r"network\.columns: \{elevation: HEADING\}"),
        ("id,area,lat,lon\na,x,45,3\n", {}, r"'x' \(1 times\) are no numbers"),
        ("id,area,lat,lon,gauge\na,1,45,3,g\nb,1,45,3,g\n", {}, r"the gauge 'g' stands at several catchments"),
    ],
)
def test_tables_that_cannot_be(tmp_path, table, network, said):
    (tmp_path / "basins.csv").write_text(table)
    with pytest.raises(CdlmError, match=said):
        prepare(save(tmp_path, {"network": {"table": "basins.csv", **network}}))


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"network": {"table": "t.csv", "directions": "f.tif"}}, r"directions beside `table`"),
        ({"network": {"directions": "f.tif", "layout": "hydrorivers"}}, r"layout without `table`"),
        ({"network": {"table": "t.csv"}, "gauges": {"table": "g.csv"}}, r"gauges or rasters .* beside network\.table"),
        ({"network": {"table": "t.csv"}, "forcing": {"layout": "camels_us"}}, r"layout camels_us without source"),
    ],
)
def test_keys_that_do_not_go_together(tmp_path, block, said):
    with pytest.raises(ConfigError, match=said):
        prepare(save(tmp_path, block))


def test_grids_need_polygons_or_a_point(tmp_path):
    from make_drainage import write_grid

    (tmp_path / "basins.csv").write_text("id,area,lat,lon\na,100,45.1,3.1\nb,50,45.4,3.4\n")
    lon, lat = np.arange(2.875, 4.0, 0.25), np.arange(45.875, 44.5, -0.25)
    values = np.arange(lat.size)[:, None] * 10.0 + np.arange(lon.size)
    write_grid(tmp_path / "p.nc", "pr", values[None].repeat(3, axis=0), lon, lat, units="mm d-1", times=[0, 24, 48],
               time_units="hours since 2000-01-01")
    block = {"network": {"table": "basins.csv"}, "forcing": {"precipitation": {"source": "p.nc"}}}
    block["forcing"]["air_temperature"] = {"source": "p.nc", "variable": "pr", "units": "degC", "method": "nearest"}
    with pytest.raises(ForcingError, match=r"is a grid, and the catchments have no polygons.*method nearest"):
        prepare(save(tmp_path, block, end="2000-01-04", pet="oudin"))
    block["forcing"]["precipitation"]["method"] = "nearest"
    found = read_all(prepare(save(tmp_path, block, end="2000-01-04", pet="oudin")).files["forcing"])
    assert found["precipitation"][0].tolist() == [31.0, 22.0]


def test_the_order_of_rivers_and_attributes_of_a_network(tmp_path):
    (tmp_path / "net.csv").write_text(
        "SubId,DowSubId,A,len,y,x,for,G\n3,-1,10,2000,45,3,0.3,out\n1,3,20,500,45.1,3,0.1,\n2,3,30,700,45.2,3.1,0.2,up\n"
    )
    network = {
        "table": "net.csv", "units": {"forest": "1"},
        "columns": {"id": "SubId", "downstream": "DowSubId", "area": "A", "length": "len", "lat": "y", "lon": "x",
                    "forest": "for", "gauge": "G"},
    }
    made = prepare(save(tmp_path, {"network": network, "attributes": {"upstream": ["forest"]}}, pet="oudin"))
    domain = read_domain(made.files["domain"])
    place = {one: i for i, one in enumerate(domain.reaches.id)}
    assert domain.reaches.id[-1] == "3"
    assert domain.reaches.downstream[place["1"]] == domain.reaches.downstream[place["2"]] == place["3"]
    assert domain.reaches.upstream_area[place["3"]] == 60.0
    gauges = dict(zip(domain.gauges.id, domain.gauges.reach.tolist(), strict=True))
    assert gauges == {"up": place["2"], "out": place["3"]}
    values = read_all(made.files["domain"])
    at = values["reach_id"].tolist().index("3")
    assert values["reach_upstream_forest"][at] == pytest.approx((0.3 * 10 + 0.1 * 20 + 0.2 * 30) / 60)
    network["upstream_of"] = [2]
    made = prepare(save(tmp_path, {"network": network}, pet="oudin"), force=True)
    assert read_domain(made.files["domain"]).reaches.id == ["2"]
    assert any("drain to ids that the table does not have and are outlets: 2 -> 3" in note for note in made.notes)


@pytest.mark.parametrize(
    ("ids", "below", "downstream"),
    [
        (("1", "2", "3"), ("2.0", "3.0", ""), {"1": "2", "2": "3"}),  # a column of numbers with a gap
        (("1.0", "2.0", "3.0"), ("2", "3", "0"), {"1.0": "2.0", "2.0": "3.0"}),
        (("1", "2", "3"), ("2.0", "3.0", "0.0"), {"1": "2", "2": "3"}),
        (("1", "1.0", "3"), ("3", "1.00", ""), {"1": "3"}),  # of two that may be meant neither is taken
    ],
)
def test_whole_numbers_with_a_fraction_are_the_ids_they_mean(tmp_path, ids, below, downstream):
    rows = [
        f"{one},{to},10,{45 + i / 10},3,1000,{gauge}"
        for i, (one, to, gauge) in enumerate(zip(ids, below, ("", "", "7.0"), strict=True))
    ]
    (tmp_path / "net.csv").write_text("\n".join(["id,downstream,area,lat,lon,length,gauge", *rows]))
    made = prepare(save(tmp_path, {"network": {"table": "net.csv"}}, pet="oudin"))
    domain = read_domain(made.files["domain"])
    names = domain.reaches.id
    assert {names[i]: names[j] for i, j in enumerate(domain.reaches.downstream.tolist()) if j >= 0} == downstream
    assert domain.gauges.id == ["7"]
    assert len(made.notes) == (1 if "1.00" in below else 0)


def test_units_that_are_stated_are_believed(tmp_path):
    (tmp_path / "net.csv").write_text("id,area,lat,lon,downstream,length\na,3e6,45,3,b,2\nb,2e6,45,3,,3\n")
    network = {"table": "net.csv", "units": {"area": "m2", "length": "km"}}
    domain = read_domain(prepare(save(tmp_path, {"network": network}, pet="oudin")).files["domain"])
    assert domain.reaches.length.tolist() == [2000.0, 3000.0] and domain.cells.area.tolist() == [3.0, 2.0]
    network["units"] = {"area": "km2", "length": "m"}
    domain = read_domain(prepare(save(tmp_path, {"network": network}, pet="oudin"), force=True).files["domain"])
    assert domain.reaches.length.tolist() == [2.0, 3.0] and domain.cells.area.tolist() == [3e6, 2e6]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"source": "p.nc", "decimal": ","}, "decimal without layout; expected layout: wide"),
        ({"source": "p.nc", "missing_values": [-99]}, "missing_values without layout"),
        ({"source": "p.csv", "layout": "wide", "select": {"expver": 1}}, "select with layout; expected none"),
    ],
)
def test_keys_that_would_be_passed_over_are_refused(tmp_path, keys, said):
    with pytest.raises(ConfigError, match=said):
        prepare(save(tmp_path, {"network": {"table": "t.csv"}, "forcing": {"precipitation": keys}}))


def test_slopes_that_are_missing_are_told_and_left_out(tmp_path):
    (tmp_path / "net.csv").write_text(
        "id,downstream,area,length,slope,lat,lon\na,b,10,100,-9998,45,3\nb,,10,100,0.01,45,3\n")
    made = prepare(save(tmp_path, {"network": {"table": "net.csv"}}, pet="oudin"))
    assert "'slope' is missing or negative at 1 of 2 reaches, the first a (-9998)" in made.notes[0]
    assert "reach_slope" not in read_all(made.files["domain"])


GAPS = ("none", "first", "middle", "last", "all", "come and go")


@pytest.mark.parametrize("layout", ["wide", "single"])
@pytest.mark.parametrize("when", GAPS)
@pytest.mark.parametrize("which", ["one", "half", "every"])
@pytest.mark.parametrize("places", [False, True], ids=["without places", "with places"])
def test_gaps_of_basins_are_refused_and_no_neighbour_stands_in(tmp_path, layout, when, which, places):
    """Either every basin has its own values, or nothing is made; with `gaps: nearest` it is asked for and told."""
    days = DAYS[:6]
    basins = made_up(6, days)
    for basin in basins.values():  # within a few km of each other
        basin[1:3] = [45.0 + 0.01 * basin[0] / 900, 3.0 + 0.01 * basin[0] / 900]
    rng = np.random.default_rng(len(when) + len(which))
    chosen = list(basins)[: {"one": 1, "half": 3, "every": 6}[which]]
    rows = {"none": [], "first": [0], "middle": [3], "last": [5], "all": list(range(6))}
    for one in chosen:
        gone = rng.random(6) < 0.5 if when == "come and go" else np.isin(np.arange(6), rows[when])
        gone[2] |= when == "come and go"
        basins[one][3] = np.where(gone, np.nan, basins[one][3])
    write_mopex(tmp_path, basins, days)
    rain = {"source": "rain.csv", "layout": "wide", "units": "mm d-1", "step": "1 d"}
    if layout == "single":
        for one, basin in basins.items():
            lines = [f"{day},{v:.4f}" for day, v in zip(days, basin[3], strict=True) if not np.isnan(v)]
            (tmp_path / f"r_{one}.csv").write_text("\n".join(["time,P", *(lines or ["1999-01-01,1"])]))
        rain = {"source": "r_{id}.csv", "layout": "single", "units": "mm d-1", "variable": "P", "step": "1 d"}
    if places:
        rain |= {"stations": "basins.csv"}
    block = {**MANY, "forcing": {**MANY["forcing"], "precipitation": rain}}
    config = save(tmp_path, block, end=days[-1] + 1)
    if when == "none":
        assert_as_given(tmp_path, basins, prepare(config))
        return
    with pytest.raises(ForcingError, match=r"missing|no interval|does not reach|has no|no value|no line"):
        prepare(config)
    assert not (tmp_path / "out" / "forcing.nc").exists()
    if not places or which == "every":
        return
    rain["gaps"] = "nearest"
    made = prepare(save(tmp_path, block, end=days[-1] + 1))
    (said,) = [note for note in made.notes if "come from a neighbour" in note]
    n_gone = sum(int(np.isnan(basin[3]).sum()) for basin in basins.values())
    assert f"{n_gone} of 36 values of cells" in said
    found = read_all(made.files["forcing"])
    for one in set(basins) - set(chosen):
        column = found["cell_id"].tolist().index(one)
        np.testing.assert_allclose(found["precipitation"][:, column], basins[one][3], atol=6e-5)
