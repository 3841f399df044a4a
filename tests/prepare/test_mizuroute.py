"""Network topology of mizuRoute: segments with several HRUs, with none, and HRUs that drain nowhere; by hand."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import CdlmError, ConfigError
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("pandas", "cf_units"):
    pytest.importorskip(package, reason=f"{package} is not installed")

SEGMENTS = {"segId": [10, 20, 30, 40, 50], "downSegId": [30, 30, 40, 0, 0], "length": [1000.0, 2000, 500, 3000, 700],
            "slope": [0.01, 0.02, 0.001, 0.002, 0.03]}
HRUS = {"hruId": [1, 2, 3, 4, 5, 6], "hruToSegId": [10, 10, 20, 40, 50, 0], "area": [5e6, 7e6, 11e6, 13e6, 17e6, 1e6]}
PLACES = {"lat": [45.0, 45.1, 45.2, 45.3, 45.4, 45.5], "lon": [359.0, 1.0, 2.0, 3.0, 4.0, 5.0]}


def write(path, *, units=True, places=True, names=None, **changes):
    """A topology file; `changes` replace values of a variable."""
    with netCDF4.Dataset(path, "w") as out:
        hrus = {**HRUS, **(PLACES if places else {}), "clay": np.arange(6.0)}
        for dim, columns in (("seg", SEGMENTS), ("hru", hrus)):
            out.createDimension(dim, len(next(iter(columns.values()))))
            for name, values in columns.items():
                variable = out.createVariable((names or {}).get(name, name), "f8" if "Id" not in name else "i4", (dim,))
                variable[:] = changes.get(name, values)
                if units and name in ("length", "area"):
                    variable.units = {"length": "m", "area": "m2"}[name]
    return path


def configure(folder, **network):
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "start": "2000-01-01", "end": "2000-01-03", "output": "run.nc",
        "prepare": {"network": {"table": "topology.nc", "layout": "mizuroute", **network}, "forcing": {
            name: {"source": "rain.csv", "layout": "wide", "units": "mm d-1"}
            for name in ("precipitation", "potential_evapotranspiration")}},
    }
    (folder / "rain.csv").write_text("time,1,2,3,4,5\n2000-01-01,1,2,3,4,5\n2000-01-02,6,7,8,9,10\n")
    (folder / "case.yaml").write_text(yaml.safe_dump(content))
    return folder / "case.yaml"


@pytest.mark.parametrize("units", ["-", "m/m", "none"])
def test_a_slope_without_dimension_however_it_says_so(tmp_path, units):
    with netCDF4.Dataset(write(tmp_path / "topology.nc"), "a") as dataset:
        dataset["slope"].units = units
    made = prepare(configure(tmp_path))
    with netCDF4.Dataset(made.files["domain"]) as domain:
        slopes = dict(zip(domain["reach_id"][:].tolist(), domain["reach_slope"][:].tolist(), strict=True))
    assert slopes == {str(one): slope for one, slope in zip(SEGMENTS["segId"], SEGMENTS["slope"], strict=True)}


def test_hrus_are_cells_and_segments_reaches(tmp_path):
    write(tmp_path / "topology.nc")
    made = prepare(configure(tmp_path, columns={"clay": "clay"}, units={"clay": "%"}))
    assert "1 HRUs (1 km2) drain to no segment of the file and are left out, the first 6" in " ".join(made.notes)
    domain = read_domain(tmp_path / "domain.nc")
    reach = {one: i for i, one in enumerate(domain.reaches.id)}
    assert [domain.reaches.length[reach[one]] for one in ("10", "20", "30")] == [1000, 2000, 500]
    below = {one: domain.reaches.downstream[i] for one, i in reach.items()}
    assert below["10"] == below["20"] == reach["30"] and below["30"] == reach["40"] and below["40"] == -1
    upstream = [domain.reaches.upstream_area[reach[str(one)]] for one in SEGMENTS["segId"]]
    assert upstream == [12.0, 11.0, 23.0, 36.0, 17.0]
    assert domain.cells.id == ["1", "2", "3", "4", "5"] and domain.cells.area.tolist() == [5, 7, 11, 13, 17]
    assert domain.cells.lon.tolist() == [-1, 1, 2, 3, 4]
    own = slice(*domain.links.first[[reach["10"], reach["10"] + 1]])
    assert domain.links.cell[own].tolist() == [0, 1] and domain.links.area[own].tolist() == [5, 7]
    assert domain.gauges.id == ["40", "50"] or set(domain.gauges.id) == {"40", "50"}
    with netCDF4.Dataset(tmp_path / "domain.nc") as dataset:
        clay = dict(zip(dataset["reach_id"][:].tolist(), dataset["reach_clay"][:].tolist(), strict=True))
        assert dataset["cell_clay"][:].tolist() == [0, 1, 2, 3, 4]
    assert clay["10"] == pytest.approx(7 / 12) and clay["30"] == 3.0  # without an HRU: that of the segment below
    with netCDF4.Dataset(tmp_path / "forcing.nc") as dataset:
        assert dataset["precipitation"][:].tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    simulation = Simulation(load_config(tmp_path / "case.yaml"))
    simulation.run()
    simulation.close()


def test_names_of_its_own_and_what_drains_to_a_segment(tmp_path):
    names = {"segId": "seg_id", "downSegId": "tosegment", "hruId": "hru_id", "hruToSegId": "hru_seg_id",
             "area": "Basin_Area", "length": "Length", "slope": "Slope"}
    write(tmp_path / "topology.nc", units=False, names=names)
    made = prepare(configure(tmp_path, upstream_of=["30"]))
    assert not [note for note in made.notes if "HRU" in note and "20" in note]
    domain = read_domain(tmp_path / "domain.nc")
    assert set(domain.reaches.id) == {"10", "20", "30"} and domain.cells.id == ["1", "2", "3"]
    assert domain.reaches.upstream_area.max() == 23.0
    write(tmp_path / "topology.nc", names={"segId": "nr"})
    with pytest.raises(CdlmError, match=r"there is no variable 'segId'.*The file has: nr, downSegId"):
        prepare(configure(tmp_path))
    prepare(configure(tmp_path, columns={"id": "nr"}), force=True)


@pytest.mark.parametrize(("change", "message"), [
    ({"downSegId": [30, 30, 40, 10, 0]}, "cycle"),
    ({"segId": [10, 10, 30, 40, 50]}, "the segment '10' stands twice"),
    ({"area": [5e6, -1, 11e6, 13e6, 17e6, 1e6]}, "'area' of HRU 2 is -1e-06 km2"),
    ({"area": [5e6, 7e13, 11e6, 13e6, 17e6, 1e6]}, r"'area' of HRU 2 is 7e\+07 km2.*below that of any river basin"),
    ({"hruToSegId": [0] * 6}, "no HRU drains to any segment"),
    ({"places": False}, "tells not where its HRUs are"),
    ({"units": False, "area": [5, 7, 11, 13, 17, 1]}, r"'area' has no units and is 9 .* expected m2.* such as km"),
    ({"units": False, "length": [1.0, 2, 0.5, 3, 0.7]}, "'length' has no units and is 1 in the middle"),
])
def test_what_is_no_network(tmp_path, change, message):
    write(tmp_path / "topology.nc", **change)
    with pytest.raises(CdlmError, match=message):
        prepare(configure(tmp_path))
    assert not (tmp_path / "domain.nc").exists()


def test_polygons_of_hrus(tmp_path):
    """A box of half a degree per HRU: grids are shared out by them."""
    geopandas = pytest.importorskip("geopandas", reason="geopandas is not installed")
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    write(tmp_path / "topology.nc", places=False)
    boxes = [shapely.box(5 + k / 2, 45, 5.5 + k / 2, 45.5) for k in range(6)]
    geopandas.GeoDataFrame({"hruId": range(1, 7)}, geometry=boxes, crs="EPSG:4326").to_file(tmp_path / "h.gpkg")
    config = configure(tmp_path, polygons="h.gpkg")
    with netCDF4.Dataset(tmp_path / "w.nc", "w") as out:
        for dim, values in (("lat", [45.125, 45.375]), ("lon", 5.125 + 0.25 * np.arange(12))):
            out.createDimension(dim, len(values))
            out.createVariable(dim, "f8", (dim,))[:] = values
        out.createDimension("time", 2)
        time = out.createVariable("time", "i4", ("time",))
        time.units, time[:] = "days since 2000-01-01", [0, 1]
        rain = out.createVariable("pr", "f8", ("time", "lat", "lon"))
        rain.units, rain[:] = "mm d-1", np.arange(12.0)[None, None] * np.ones((2, 2, 1))
    content = yaml.safe_load(config.read_text())
    content["prepare"]["forcing"]["precipitation"] = {"source": "w.nc"}
    config.write_text(yaml.safe_dump(content))
    prepare(config)
    with netCDF4.Dataset(tmp_path / "forcing.nc") as dataset:
        np.testing.assert_allclose(dataset["precipitation"][0], [0.5, 2.5, 4.5, 6.5, 8.5], rtol=1e-6)
    content["prepare"]["network"] |= {"layout": "hydrobasins"}
    config.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="polygons without layout mizuroute"):
        prepare(config)
