"""Forcing and observations for a domain that is there: of rasters, cut out, or of a table."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from make_drainage import read_all, write_grid

from bmi_cdlm.doctor import examine
from bmi_cdlm.names.errors import CdlmError, ConfigError
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.prepare.subset import subset
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("rasterio", "pyproj", "pyflwdir", "shapely", "scipy"):
    pytest.importorskip(package, reason=f"{package} is not installed")

SIZE, ROWS, COLS = 0.05, 4, 6


def change(config, **keys):
    """Change keys of the run, and of `prepare` in a block of that name; None leaves one out."""
    content = yaml.safe_load(config.read_text())
    for key, value in {**keys.pop("prepare", {})}.items():
        content["prepare"][key] = value
    content |= keys
    content["prepare"] = {key: value for key, value in content["prepare"].items() if value is not None}
    config.write_text(yaml.safe_dump(content))
    return config


@pytest.fixture
def case(tmp_path, write_raster):
    """A basin of rasters with two gauges, prepared for two days of four."""
    def raster(name, values, nodata):
        write_raster(tmp_path / name, values, left=10.0, top=50.0, size=SIZE, crs="EPSG:4326", nodata=nodata)

    codes = np.full((ROWS, COLS), 1, np.uint8)
    codes[:, -1], codes[-1, -1] = 4, 0
    raster("flow.tif", codes, 247)
    raster("dem.tif", (400 - np.arange(ROWS * COLS).reshape(ROWS, COLS)).astype(np.float32), -9999.0)
    (tmp_path / "gauges.csv").write_text("id,lon,lat\nlow,10.275,49.825\nup,10.275,49.925\n")
    rng = np.random.default_rng(1)
    lon, lat = np.arange(9.5, 11.0, 0.125), np.arange(50.5, 49.4, -0.125)
    rain = rng.uniform(0, 20, (4, lat.size, lon.size))
    for name, values, units in (("pr", rain, "mm d-1"), ("tas", rain - 5, "degC")):
        write_grid(tmp_path / "w.nc", name, values, lon, lat, units=units, times=np.arange(4) * 24.0)
    (tmp_path / "q.csv").write_text("time,low,up\n" + "\n".join(f"2020-01-0{d},{d},{d / 2}" for d in range(1, 5)))
    content = {
        "domain": "out/domain.nc", "forcing": "out/forcing.nc", "observations": "out/obs.nc", "start": "2020-01-01",
        "end": "2020-01-03",
        "prepare": {
            "network": {"directions": "flow.tif"}, "gauges": {"table": "gauges.csv"},
            "attributes": {"elevation": {"source": "dem.tif"}},
            "forcing": {"precipitation": {"source": "w.nc"}, "air_temperature": {"source": "w.nc"}},
            "pet": {"method": "oudin"}, "observations": {"source": "q.csv", "layout": "wide", "units": "m3 s-1"},
        },
    }
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(content))
    prepare(tmp_path / "case.yaml")
    return tmp_path / "case.yaml"


EXISTING = {"network": {"existing": True}, "gauges": None, "attributes": None}


def test_another_period_without_the_network(case, tmp_path):
    folder = tmp_path / "out"
    domain = (folder / "domain.nc").read_bytes()
    change(case, end="2020-01-05", prepare={})
    prepare(case)
    whole, observed = read_all(folder / "forcing.nc"), read_all(folder / "obs.nc")
    assert (folder / "domain.nc").read_bytes() == domain
    for name in ("flow.tif", "dem.tif", "gauges.csv"):
        (tmp_path / name).unlink()
    change(case, start="2020-01-02", prepare=EXISTING)
    made = prepare(case)
    assert set(made.files) == {"forcing", "observations", "report"}
    assert (folder / "domain.nc").read_bytes() == domain
    again = read_all(folder / "forcing.nc")
    assert again["cell_id"].tolist() == whole["cell_id"].tolist()
    for name in ("precipitation", "air_temperature", "potential_evapotranspiration"):
        np.testing.assert_allclose(again[name], whole[name][1:], rtol=2e-6, atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(read_all(folder / "obs.nc")["discharge"], observed["discharge"][1:])
    assert [f.text for f in examine(case) if f.level == "fail"] == []
    simulation = Simulation(load_config(case))
    simulation.run()
    simulation.close()


def test_a_basin_that_was_cut_out(case, tmp_path):
    whole = read_all(tmp_path / "out" / "forcing.nc")
    subset(case, "up", tmp_path / "part")
    content = yaml.safe_load((tmp_path / "part" / "case.yaml").read_text())
    content["prepare"] = yaml.safe_load(case.read_text())["prepare"]
    (tmp_path / "part" / "case.yaml").write_text(yaml.safe_dump(content))
    before = read_all(tmp_path / "part" / "forcing.nc")
    prepare(change(tmp_path / "part" / "case.yaml", prepare=EXISTING), source=tmp_path)
    found = read_all(tmp_path / "part" / "forcing.nc")
    assert 0 < found["cell_id"].size < whole["cell_id"].size
    assert found["cell_id"].tolist() == before["cell_id"].tolist()
    np.testing.assert_allclose(found["precipitation"], before["precipitation"], rtol=2e-6)


def test_basin_means_by_gauges_and_by_cells(case, tmp_path):
    """Series called like gauges go to all that drains to each through no other; called like cells, to these."""
    domain = read_all(tmp_path / "out" / "domain.nc")
    days = [f"2020-01-0{d}" for d in (1, 2)]
    (tmp_path / "g.csv").write_text("\n".join(["time,low,up", *(f"{day},1,2" for day in days)]))
    rain = {"source": "g.csv", "layout": "wide", "units": "mm d-1"}
    forcing = {"precipitation": rain, "air_temperature": {"source": "w.nc"}}
    prepare(change(case, prepare={**EXISTING, "forcing": forcing}))
    found = read_all(tmp_path / "out" / "forcing.nc")["precipitation"][0]
    rows = np.array([int(one[:4]) for one in domain["cell_id"]])
    assert found.tolist() == np.where(rows < 2, 2.0, 1.0).tolist()  # the upper gauge drains the upper two rows
    ids = domain["cell_id"].tolist()
    (tmp_path / "c.csv").write_text("\n".join([",".join(["time", *ids]), *(
        ",".join([day, *map(str, range(len(ids)))]) for day in days)]))
    prepare(change(case, prepare={"forcing": {**forcing, "precipitation": {**rain, "source": "c.csv"}}}))
    assert read_all(tmp_path / "out" / "forcing.nc")["precipitation"][0].tolist() == list(range(len(ids)))


def test_a_domain_of_a_table_has_no_shapes(tmp_path, case):
    (tmp_path / "basins.csv").write_text("id,area,lat,lon\na,100,49.9,10.2\n")
    change(case, domain="t/domain.nc", forcing="t/forcing.nc", observations=None, prepare={
        "network": {"table": "basins.csv"}, "gauges": None, "attributes": None, "observations": None, "forcing": None,
        "pet": None})
    prepare(case)
    change(case, prepare={"network": {"existing": True}, "forcing": {"precipitation": {"source": "w.nc"}}}, pet="oudin")
    change(case, prepare={"forcing": {"precipitation": {"source": "w.nc"}, "air_temperature": {"source": "w.nc"}}})
    with pytest.raises(CdlmError, match="the catchments have no polygons"):
        prepare(case)


def test_what_does_not_go_together(case, tmp_path):
    with pytest.raises(ConfigError, match=r"gauges beside network\.existing"):
        prepare(change(case, prepare={"network": {"existing": True}}))
    change(case, prepare={**EXISTING, "network": {"existing": True, "directions": "flow.tif"}})
    with pytest.raises(ConfigError, match="directions beside `existing`"):
        prepare(case)
    (tmp_path / "out" / "domain.nc").unlink()
    with pytest.raises(CdlmError, match=r"domain\.nc"):
        prepare(change(case, prepare=EXISTING))
