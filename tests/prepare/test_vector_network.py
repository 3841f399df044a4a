"""Vector networks: polygons and river lines in the columns that data sets have, against values by hand."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from make_drainage import read_all, write_grid

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.prepare.nextgen import read_table
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

geopandas = pytest.importorskip("geopandas", reason="geopandas is not installed")
shapely = pytest.importorskip("shapely", reason="shapely is not installed")

N = 46
LEFT, TOP, WIDE, HIGH = 5.0, 46.0, 0.07, 0.05
rng = np.random.default_rng(11)
BELOW = np.array([-1] + [int(rng.integers(max(0, k - 6), k)) for k in range(1, N)])
"""Index of the sub-basin below, of 46: number 0 is the outlet."""
AREA, LENGTH = np.round(rng.uniform(5, 90, N), 3), np.round(rng.uniform(800, 9000, N), 1)
SLOPE, HEIGHT = np.round(rng.uniform(1e-4, 0.05, N), 6), np.round(rng.uniform(100, 2500, N), 1)


def boxes(shift=0.0):
    """Skewed quadrangles in a lattice of 8 columns."""
    shapes = []
    for k in range(N):
        x, y = LEFT + shift + (k % 8) * WIDE, TOP - (k // 8) * HIGH
        shapes.append(shapely.Polygon([(x, y), (x + WIDE, y + 0.01), (x + WIDE + 0.01, y - HIGH), (x, y - HIGH)]))
    return shapes


def upstream(values):
    """Sums over all that drains through each sub-basin; those above have greater numbers."""
    total = values.astype(float).copy()
    for k in range(N - 1, 0, -1):
        total[BELOW[k]] += total[k]
    return total


def codes(first, step=1):
    ids = first + step * np.arange(N)
    return ids, np.where(BELOW < 0, -1, ids[BELOW])


def basinmaker(path):
    ids, below = codes(1)
    geopandas.GeoDataFrame({
        "SubId": ids, "DowSubId": below, "RivLength": LENGTH, "RivSlope": SLOPE, "BasArea": AREA * 1e6,
        "MeanElev": HEIGHT, "Obs_NM": ["02KF005" if k in (0, 7) else "" for k in range(N)],
    }, geometry=boxes(), crs="EPSG:4326").to_crs("EPSG:3035").to_file(path)
    return ids


def hydrorivers(path):
    ids, below = codes(20400001)
    lines = [shapely.LineString([box.centroid, boxes()[max(BELOW[k], 0)].centroid if BELOW[k] >= 0 else (4.9, 46.2)])
             for k, box in enumerate(boxes())]
    geopandas.GeoDataFrame({
        "HYRIV_ID": ids, "NEXT_DOWN": np.where(below < 0, 0, below), "LENGTH_KM": LENGTH / 1000, "CATCH_SKM": AREA,
        "UPLAND_SKM": upstream(AREA),
    }, geometry=lines, crs="EPSG:4326").to_file(path)
    return ids


def run_of(folder, network, **block):
    content = {
        "domain": "out/domain.nc", "forcing": "out/forcing.nc", "start": "2000-01-01", "end": "2000-01-04",
        "prepare": {"network": network, **block},
    }
    (folder / "net.yaml").write_text(yaml.safe_dump(content))
    return folder / "net.yaml"


def assert_network(made, ids, *, slope=True, digits=1e-9):
    domain, found = read_domain(made.files["domain"]), read_all(made.files["domain"])
    assert domain.n_reaches == domain.n_cells == N
    at = {one: i for i, one in enumerate(found["reach_id"].tolist())}
    rows = np.array([at[str(one)] for one in ids])
    np.testing.assert_allclose(found["reach_length"][rows], LENGTH, rtol=1e-6)
    np.testing.assert_allclose(found["reach_area"][rows], AREA, rtol=digits)
    np.testing.assert_allclose(found["upstream_area"][rows], upstream(AREA), rtol=digits)
    place = np.empty(N, int)
    place[rows] = np.arange(N)
    below = found["downstream"][rows]
    assert np.where(below >= 0, place[below], -1).tolist() == BELOW.tolist()
    if slope:
        np.testing.assert_allclose(found["reach_slope"][rows], SLOPE, rtol=1e-6)
    return found, rows


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_hydrorivers(tmp_path, suffix):
    ids = hydrorivers(tmp_path / f"rivers.{suffix}")
    made = prepare(run_of(tmp_path, {"table": f"rivers.{suffix}", "layout": "hydrorivers"}))
    found, _ = assert_network(made, ids, slope=False)
    assert found["gauge_id"].tolist() == [str(ids[0])]
    assert "reach_slope" not in found
    network = {"table": f"rivers.{suffix}", "layout": "hydrorivers", "upstream_of": [int(ids[7])]}
    made = prepare(run_of(tmp_path, network), force=True)
    inside = {7}
    for k in range(8, N):
        inside |= {k} if BELOW[k] in inside else set()
    assert sorted(read_domain(made.files["domain"]).reaches.id) == sorted(str(ids[k]) for k in inside)
    network["only"] = [*[int(ids[k]) for k in inside if k != max(inside)][:2], int(ids[0])]
    made = prepare(run_of(tmp_path, network), force=True)
    assert sorted(read_domain(made.files["domain"]).reaches.id) == sorted(str(ids[k]) for k in inside | {0})


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "parquet"])
def test_basinmaker_with_gauges_and_attributes(tmp_path, suffix):
    path = tmp_path / f"finalcat.{suffix}"
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        basinmaker(tmp_path / "finalcat.gpkg")
        geopandas.read_file(tmp_path / "finalcat.gpkg").to_parquet(path)
        ids = codes(1)[0]
    else:
        ids = basinmaker(path)
    with pytest.raises(CdlmError, match="the gauge '02KF005' stands at several"):
        prepare(run_of(tmp_path, {"table": path.name, "layout": "basinmaker", "columns": {"gauge": "Obs_NM"}}))
    made = prepare(run_of(tmp_path, {"table": path.name, "layout": "basinmaker"}))
    found, rows = assert_network(made, ids)
    np.testing.assert_allclose(found["cell_elevation"][[found["cell_id"].tolist().index(str(i)) for i in ids]], HEIGHT)
    np.testing.assert_allclose(found["reach_elevation"][rows], HEIGHT)


def test_areas_and_centres_of_polygons_where_the_table_has_none(tmp_path):
    frame = geopandas.GeoDataFrame({"id": [f"b{k}" for k in range(N)]}, geometry=boxes(), crs="EPSG:4326")
    frame.to_file(tmp_path / "b.gpkg", layer="second")
    geopandas.GeoDataFrame({"x": [1]}, geometry=[shapely.Point(0, 0)], crs=4326).to_file(tmp_path / "b.gpkg", layer="a")
    found = read_all(prepare(run_of(tmp_path, {"table": "b.gpkg", "layer": "second"})).files["domain"])
    from pyproj import Geod

    values = (found[name] for name in ("cell_id", "cell_area", "cell_lon", "cell_lat"))
    for name, area, x, y in zip(*values, strict=True):
        shape = boxes()[int(name[1:])]
        true = abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) / 1e6
        assert area == pytest.approx(true, rel=1e-4)
        assert shape.contains(shapely.Point(x, y))
    assert len(found["gauge_id"]) == N  # none drains on: each is a basin of its own


@pytest.mark.parametrize("shift", [0.0, 360.0])
@pytest.mark.parametrize("size", [0.25, 0.02])
def test_grids_are_shared_out_by_the_polygons(tmp_path, shift, size):
    ids = basinmaker(tmp_path / "cat.gpkg")
    lon, lat = np.arange(4.5, 6.5, size) + shift, np.arange(46.6, 45.2, -size)
    values = rng.uniform(0, 30, (3, lat.size, lon.size)).astype(np.float32)
    write_grid(tmp_path / "p.nc", "pr", values, lon, lat, units="mm d-1", times=[0, 24, 48],
               time_units="hours since 2000-01-01")
    write_grid(tmp_path / "e.nc", "pet", values / 10, lon, lat, units="mm d-1", times=[0, 24, 48],
               time_units="hours since 2000-01-01")
    forcing = {"precipitation": {"source": "p.nc"}, "potential_evapotranspiration": {"source": "e.nc"}}
    config = run_of(tmp_path, {"table": "cat.gpkg", "layout": "basinmaker"}, forcing=forcing)
    found = read_all(prepare(config).files["forcing"])

    def sines(points):
        return np.column_stack([points[:, 0], np.sin(np.radians(points[:, 1]))])

    edges = np.sin(np.radians([lat - size / 2, lat + size / 2]))[:, :, None]  # areas are true there
    pixels = shapely.box(lon - size / 2, edges[0], lon + size / 2, edges[1])
    for k, shape in enumerate(boxes(shift)):
        weights = shapely.area(shapely.intersection(shapely.transform(shape, sines), pixels))
        expected = (weights * values).sum(axis=(1, 2)) / weights.sum()
        column = found["cell_id"].tolist().index(str(ids[k]))
        np.testing.assert_allclose(found["precipitation"][:, column], expected, rtol=2e-5)  # polygons came by EPSG:3035
    simulation = Simulation(load_config(config))
    simulation.run()
    simulation.close()


def test_merit_basins_in_two_files(tmp_path):
    ids, below = codes(22000100, 3)
    geopandas.GeoDataFrame({"COMID": ids, "unitarea": AREA}, geometry=boxes(), crs=4326).to_file(tmp_path / "cat.shp")
    order = rng.permutation(N)
    lines = [shapely.LineString([(5, 45), (6, 46)])] * N
    geopandas.GeoDataFrame(
        {"COMID": ids[order], "lengthkm": LENGTH[order] / 1000, "slope": SLOPE[order],
         "NextDownID": np.where(below < 0, 0, below)[order]}, geometry=lines, crs=4326,
    ).to_file(tmp_path / "riv.shp")
    network = {"table": "cat.shp", "reaches": "riv.shp", "layout": "merit_basins"}
    assert_network(prepare(run_of(tmp_path, network)), ids)
    geopandas.read_file(tmp_path / "riv.shp").iloc[1:].to_file(tmp_path / "riv.shp")
    with pytest.raises(CdlmError, match=rf"has no reach of 1 catchments of .*the first '{ids[order[0]]}'"):
        prepare(run_of(tmp_path, network))


def write_hydrofabric(path):
    """Layers divides, flowpaths and nexus, the last of which drains into the sea."""
    rows, point = range(N), shapely.Point(5, 46)
    geopandas.GeoDataFrame({
        "divide_id": [f"cat-{k}" for k in rows], "id": [f"wb-{k}" for k in rows], "toid": [f"nex-{k}" for k in rows],
        "areasqkm": AREA}, geometry=boxes(), crs=4326).to_crs(5070).to_file(path, layer="divides")
    geopandas.GeoDataFrame({
        "id": [f"wb-{k}" for k in rows], "toid": [f"nex-{k}" for k in rows], "lengthkm": LENGTH / 1000},
        geometry=[shapely.LineString([(5, 45), (6, 46)])] * N, crs=4326).to_crs(5070).to_file(path, layer="flowpaths")
    geopandas.GeoDataFrame({
        "id": [f"nex-{k}" for k in rows], "toid": ["tnx-1" if b < 0 else f"wb-{b}" for b in BELOW]},
        geometry=[point] * N, crs=4326).to_crs(5070).to_file(path, layer="nexus")


def test_a_nextgen_hydrofabric(tmp_path):
    write_hydrofabric(tmp_path / "hf.gpkg")
    made = prepare(run_of(tmp_path, {"table": "hf.gpkg", "layout": "nextgen"}))
    assert_network(made, [f"cat-{k}" for k in range(N)], slope=False)


def test_ngen_is_set_up_from_a_hydrofabric(tmp_path):
    from click.testing import CliRunner

    from bmi_cdlm.cli import main

    write_hydrofabric(tmp_path / "hf.gpkg")
    arguments = ["nextgen", "init", str(tmp_path / "hf.gpkg"), "--to", str(tmp_path / "ngen"), "--start", "2015-12-01",
                 "--end", "2015-12-31"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "ngen").glob("cat-*.nc"))) == N
    for k in (0, 7, 45):
        domain = read_domain(tmp_path / "ngen" / f"cat-{k}.nc")
        assert domain.cells.area.tolist() == [AREA[k]]
        assert boxes()[k].contains(shapely.Point(domain.cells.lon[0], domain.cells.lat[0]))
    missing = CliRunner().invoke(main, [*arguments, "--pet", "penman_monteith"])
    assert missing.exit_code == 1 and "elevation" in missing.output


def test_what_cannot_be_read(tmp_path):
    geopandas.GeoDataFrame({"id": ["a"]}, geometry=boxes()[:1], crs=4326).to_file(tmp_path / "no_crs.shp")
    (tmp_path / "no_crs.prj").unlink()
    with pytest.raises(CdlmError, match=r"has no reference system.*Set network\.crs"):
        prepare(run_of(tmp_path, {"table": "no_crs.shp"}))
    made = prepare(run_of(tmp_path, {"table": "no_crs.shp", "crs": "EPSG:4326"}))
    assert read_domain(made.files["domain"]).n_cells == 1
    frame = geopandas.GeoDataFrame({"id": ["a"]}, geometry=boxes()[:1], crs=4326)
    for layer in ("rivers", "basins"):
        frame.to_file(tmp_path / "layers.gpkg", layer=layer)
    for network in ({"layer": "divides"}, {"layout": "nextgen"}):
        with pytest.raises(CdlmError, match=r"Expected the layer 'divides'; it has rivers, basins\. Name the layer"):
            prepare(run_of(tmp_path, {"table": "layers.gpkg", **network}), force=True)
    frame.to_file(tmp_path / "basins.geojson")
    with pytest.raises(CdlmError, match=r"is a \.geojson file, expected CSV or a hydrofabric GeoPackage"):
        read_table(tmp_path / "basins.geojson")
    (tmp_path / "broken.gpkg").write_text("no geopackage")
    for name, said in (("broken.gpkg", "cannot be read by geopandas"), ("none.gpkg", "there is no such file"),
                       ("net.yaml", "is no table that is known")):
        with pytest.raises(CdlmError, match=said):
            prepare(run_of(tmp_path, {"table": name}), force=True)
