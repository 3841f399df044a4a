"""Every named layout of weather and of networks, on files written as the data set has them."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml

from bmi_cdlm.prepare.network.network_layouts import LAYOUTS as NETWORKS
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.prepare.weather.forcing_layouts import LAYOUTS as WEATHER

for package in ("pandas", "scipy", "sklearn", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")

DAYS = np.arange("2001-02-26", "2001-03-03", dtype="datetime64[D]")
RNG = np.random.default_rng(4)
IDS = ("912101A", "1001001")
RAIN = {one: np.round(RNG.uniform(0, 30, DAYS.size), 2) for one in IDS}
LOW = {one: np.round(RNG.uniform(-5, 5, DAYS.size), 2) for one in IDS}
HIGH = {one: np.round(RNG.uniform(8, 25, DAYS.size), 2) for one in IDS}
MEAN = {one: np.round(0.5 * (LOW[one] + HIGH[one]) + 0.3, 2) for one in IDS}
PET = {one: np.round(RNG.uniform(0, 6, DAYS.size), 2) for one in IDS}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def dated(sign):
    return [sign.join(str(day).split("-")) for day in DAYS]


def write_camels_us(folder):
    for one in IDS:
        rows = ["47.2", "250.0", "2252700000",
                "Year Mnth Day Hr\tDayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tSWE(mm)\tTmax(C)\tTmin(C)\tVp(Pa)"]
        rows += [f"{day} 12\t43200\t{p}\t300\t0\t{b}\t{a}\t900" for day, p, a, b in
                 zip(dated(" "), RAIN[one], LOW[one], HIGH[one], strict=True)]
        write(folder / "data" / "91" / f"{one}_lump_maurer_forcing_leap.txt", rows)


def write_csv(pattern, heading, columns):
    def make(folder):
        for one in IDS:
            rows = [",".join([str(day), *(str(v[one][k]) if isinstance(v, dict) else v for v in columns)])
                    for k, day in enumerate(DAYS)]
            write(folder / "data" / pattern.format(one), [heading, *rows])

    return make


def write_camels_br(folder):
    for place, name, values in (
        ("04_precipitation_chirps", "precipitation_chirps", RAIN),
        ("08_temperature_mean_cpc", "temperature_mean_cpc", MEAN),
        ("07_temperature_min_cpc", "temperature_min_cpc", LOW), ("09_temperature_max_cpc", "temperature_max_cpc", HIGH),
        ("06_potential_evapotransp_gleam", "potential_evapotransp_gleam", PET),
    ):
        for one in IDS:
            rows = [f"{day} {v}" for day, v in zip(dated(" "), values[one], strict=True)]
            write(folder / "data" / place / f"{one}_{name}.txt", [f"year month day {name}", *rows])


def write_wide(files, heading, sign):
    def make(folder):
        for name, values in files.items():
            quoted = [f'"{one}"' for one in IDS] if sign == "\t" else list(IDS)
            days = dated(",") if sign == "," else [f'"{day}"' for day in DAYS]
            rows = [sign.join([day, *(str(values[one][k]) for one in IDS)]) for k, day in enumerate(days)]
            write(folder / "data" / name, [sign.join([heading, *quoted]), *rows])

    return make


def write_lamah(folder):
    heading = ("YYYY;MM;DD;DOY;2m_temp_max;2m_temp_mean;2m_temp_min;2m_dp_temp_mean;10m_wind_u;10m_wind_v;surf_press;"
               "prec")
    for one in IDS:
        rows = [f"{int(day[:4])};{int(day[5:7])};{int(day[8:])};57;{b};{m};{a};1;1;1;95000;{p}" for day, a, b, m, p in
                zip(map(str, DAYS), LOW[one], HIGH[one], MEAN[one], RAIN[one], strict=True)]
        write(folder / "data" / f"ID_{one}.csv", [heading, *rows])


WRITERS = {
    "camels_us": write_camels_us,
    "camels_gb": write_csv(
        "CAMELS_GB_hydromet_timeseries_{}_19701001-20150930.csv",
        "date,precipitation,pet,temperature,discharge_spec,discharge_vol,peti,humidity,shortwave_rad,longwave_rad,windspeed",
        [RAIN, PET, MEAN, "1", "1", "1", "5", "100", "300", "2"]),
    "camels_de": write_csv(
        "CAMELS_DE_hydromet_timeseries_{}.csv",
        "date,discharge_vol,discharge_spec,precipitation_mean,humidity_mean,radiation_global_mean,temperature_mean,"
        "temperature_min,temperature_max", ["1", "1", RAIN, "70", "100", MEAN, LOW, HIGH]),
    "camels_br": write_camels_br,
    "camels_aus": write_wide({
        "01_p/precipitation_AWAP.csv": RAIN, "03_o/AWAP/tmin_AWAP.csv": LOW, "03_o/AWAP/tmax_AWAP.csv": HIGH,
        "02_e/et_morton_wet_SILO.csv": PET}, "year,month,day", ","),
    "camels_cl": write_wide({
        f"{k}_CAMELScl_{name}/{k}_CAMELScl_{name}.txt": values for k, (name, values) in enumerate({
            "precip_cr2met": RAIN, "tmean_cr2met": MEAN, "tmin_cr2met": LOW, "tmax_cr2met": HIGH,
            "pet_hargreaves": PET}.items())}, '"gauge_id"', "\t"),
    "lamah": write_lamah,
    "caravan": write_csv(
        "{}.csv", "date,total_precipitation_sum,temperature_2m_mean,temperature_2m_min,temperature_2m_max,"
        "potential_evaporation_sum,streamflow", [RAIN, MEAN, LOW, HIGH, PET, "1"]),
}
WITHOUT_MEAN = ("camels_us", "camels_aus")
WITHOUT_PET = ("camels_us", "camels_de", "lamah")


def test_every_layout_of_weather_is_here():
    assert set(WRITERS) == set(WEATHER)


@pytest.mark.parametrize("layout", WEATHER)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["as named", "under a path of its own"])
def test_weather(tmp_path, layout, elsewhere):
    WRITERS[layout](tmp_path)
    write(tmp_path / "basins.csv", ["id,area,lat,lon", *(f"{one},100,{45 + k},{3 + k}" for k, one in enumerate(IDS))])
    source = "data"
    if elsewhere:  # only where a file holds all variables
        if not WEATHER[layout].file:
            pytest.skip("a file per variable")
        source = f"data/{WEATHER[layout].file}"
    given = layout not in WITHOUT_PET
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "start": str(DAYS[0]), "end": str(DAYS[-1] + 1),
        "snow": "cemaneige",
        "prepare": {"network": {"table": "basins.csv"}, "forcing": {"layout": layout, "source": source},
                    "pet": {"method": "given" if given else "oudin"}},
    }
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(content))
    with netCDF4.Dataset(prepare(tmp_path / "case.yaml").files["forcing"]) as dataset:
        dataset.set_auto_mask(False)
        found = {name: v[:] for name, v in dataset.variables.items()}
    for k, one in enumerate(found["cell_id"].tolist()):
        mean = 0.5 * (LOW[one] + HIGH[one]) if layout in WITHOUT_MEAN else MEAN[one]
        np.testing.assert_allclose(found["precipitation"][:, k], RAIN[one], rtol=1e-6)
        np.testing.assert_allclose(found["air_temperature"][:, k], mean, atol=2e-6)
        if given:
            np.testing.assert_allclose(found["potential_evapotranspiration"][:, k], PET[one], rtol=1e-6)


@pytest.mark.parametrize("layout", [name for name in NETWORKS if name not in ("nextgen", "mizuroute")])
def test_networks(tmp_path, layout):
    columns, units = NETWORKS[layout]["columns"], NETWORKS[layout]["units"]
    heads = {name: heading if isinstance(heading, str) else heading[0] for name, heading in columns.items()}
    heads = {"area": "area", "lat": "lat", "lon": "lon", "length": "length", **heads}
    values = {"id": (11, 12, 13), "downstream": (13, 13, -1), "area": (10.0, 20.0, 30.0),
              "length": (1000.0, 2000.0, 500.0), "slope": (0.01, 0.02, 0.03),
              "lat": (45, 46, 47), "lon": (3, 4, 5), "elevation": (100, 200, 300),
              "mean_slope": (10, 20, 30), "name": ("a", "b", "c")}
    factor = {"area": {"m2": 1e6}.get(units.get("area"), 1.0), "length": {"km": 1e-3}.get(units.get("length"), 1.0)}
    rows = [",".join(heads.values())]
    for k in range(3):
        cells = [values[name][k] for name in heads]
        cells = [v * factor[name] if name in factor else v for name, v in zip(heads, cells, strict=True)]
        rows.append(",".join(map(str, cells)))
    write(tmp_path / "net.csv", rows)
    (tmp_path / "case.yaml").write_text(yaml.safe_dump({
        "domain": "domain.nc", "forcing": "caller", "start": "2001-01-01", "end": "2001-01-02",
        "prepare": {"network": {"table": "net.csv", "layout": layout}}}))
    with netCDF4.Dataset(prepare(tmp_path / "case.yaml").files["domain"]) as dataset:
        found = {name: np.asarray(v[:]) for name, v in dataset.variables.items()}
    at = [found["reach_id"].tolist().index(str(one)) for one in values["id"]]
    np.testing.assert_allclose(found["reach_area"][at], values["area"])
    linked = "downstream" in columns
    np.testing.assert_allclose(found["reach_length"][at], values["length"])
    np.testing.assert_allclose(found["upstream_area"][at], [10, 20, 60] if linked else [10, 20, 30])
    if "slope" in columns:
        np.testing.assert_allclose(found["reach_slope"][at], values["slope"])
