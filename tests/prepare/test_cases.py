"""A whole case: a made-up one for behaviour, the real ones against reference files."""

from __future__ import annotations

import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.errors import ConfigError, DomainError, ForcingError, ObservationError, OutputError
from bmi_cdlm.prepare import cases, packages
from bmi_cdlm.prepare.basin import Descriptor
from bmi_cdlm.prepare.cases import Case, prepare_case
from bmi_cdlm.prepare.weather import RasterSeries

GRID_LEFT, GRID_TOP = 75_000.0, 7_125_000.0  # corner of the flow directions of France


def read_all(path):
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {name: variable[:] for name, variable in dataset.variables.items()}


def attributes_of(path):
    with netCDF4.Dataset(path) as dataset:
        return {name: dataset.getncattr(name) for name in dataset.ncattrs()}


@pytest.fixture
def toy(tmp_path, write_raster, monkeypatch):
    """A basin of 8 pixels with one gauge, two days of weather, one of them without rain data."""
    pytest.importorskip("pyproj", reason="pyproj is not installed")
    root = tmp_path / "source"
    write_raster(root / cases.FLOW_DIRECTIONS, np.array([[5, 5, 7], [3, 5, -99], [3, 5, 7]], np.float32))
    (root / "Toy").mkdir()
    (root / "Toy" / cases.GAUGES).write_text("code,x,y,area\nT1,801400,6497600,8.1\n")
    (root / "Toy" / "qobs").mkdir()
    (root / "Toy" / "qobs" / "T1.csv").write_text("20191231\n0.5\n-99\n1.5\n2.5\n")
    field = np.arange(9, dtype=np.float32).reshape(3, 3)
    write_raster(root / "Toy" / "rain" / "20200101.tif", field)
    write_raster(root / "Toy" / "pet" / "0101.tif", field + 1)
    write_raster(root / "Toy" / "pet" / "0102.tif", field + 2)
    write_raster(root / "Toy" / "clay.tif", field / 10)
    case = Case(
        "Toy", "Toy", "2020-01-01", "2020-01-03", 86400,
        RasterSeries("rain/%Y%m%d.tif", missing=("2020-01-02",)),
        RasterSeries("pet/%m%d.tif", interannual=True),
        "start", (Descriptor("clay", "clay.tif", "1", "fraction of clay"),),
        {"day_boundary": "00:00 UTC"}, {"day_boundary": "00:00 UTC"},
    )
    monkeypatch.setitem(cases.CASES, "toy", case)
    monkeypatch.setattr(cases, "smash_folder", lambda: root)
    return root


def test_toy_domain(toy, tmp_path):
    domain = read_all(prepare_case("toy", tmp_path / "out")["domain"])
    assert domain["cell_id"].tolist() == domain["reach_id"].tolist() == [
        "0000_0000", "0000_0001", "0000_0002", "0001_0000", "0001_0001", "0002_0000", "0002_0001",
        "0002_0002",
    ]
    assert domain["downstream"].tolist() == [3, 4, 1, 4, 6, 6, -1, 6]
    assert domain["upstream_area"].tolist() == [1, 2, 1, 2, 5, 1, 8, 1]
    assert domain["reach_length"].tolist() == [1000.0] * 8
    assert domain["gauge_id"].tolist() == ["T1"]
    assert domain["gauge_reach"].tolist() == [6]
    assert domain["gauge_area"].tolist() == [8.1]
    np.testing.assert_allclose(domain["cell_clay"], np.array([0, 1, 2, 3, 4, 6, 7, 8]) / 10, rtol=1e-7)
    np.testing.assert_array_equal(domain["cell_clay"], domain["reach_clay"])


def test_toy_series(toy, tmp_path):
    files = prepare_case("toy", tmp_path / "out")
    forcing, observations = read_all(files["forcing"]), read_all(files["observations"])
    assert forcing["precipitation"][0].tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert np.isnan(forcing["precipitation"][1]).all()
    assert forcing["potential_evapotranspiration"][1].tolist() == [2, 3, 4, 5, 6, 8, 9, 10]
    np.testing.assert_array_equal(forcing["time_bnds"][:, 0], forcing["time"])
    np.testing.assert_array_equal(np.diff(forcing["time_bnds"]), [[86400], [86400]])
    np.testing.assert_array_equal(observations["discharge"], [[np.nan], [1.5]])
    assert attributes_of(files["forcing"])["missing_steps"] == "2020-01-02T00:00:00"


def test_model_reads_the_toy_domain(toy, tmp_path):
    from bmi_cdlm.domain import read_domain

    domain = read_domain(prepare_case("toy", tmp_path / "out")["domain"])
    assert domain.n_cells == domain.n_reaches == 8
    assert domain.reaches.upstream_area[domain.gauges.reach].tolist() == [8.0]


def test_two_runs_write_the_same_bytes_and_no_path(toy, tmp_path):
    first, second = prepare_case("toy", tmp_path / "a"), prepare_case("toy", tmp_path / "b")
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("victim", "error"),
    [
        ("Toy/rain/20200101.tif", ForcingError),
        ("Toy/clay.tif", DomainError),
        ("Toy/gauge_attributes.csv", DomainError),
        ("Toy/qobs/T1.csv", ObservationError),
    ],
)
def test_nothing_is_written_when_an_input_is_absent(toy, tmp_path, victim, error):
    (toy / victim).unlink()
    with pytest.raises(error, match=Path(victim).name):
        prepare_case("toy", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_replaced_when_writing_fails(toy, tmp_path, monkeypatch):
    files = prepare_case("toy", tmp_path / "out")
    before = {path: path.read_bytes() for path in files.values()}

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr("bmi_cdlm.prepare.write._write_observations", full)
    with pytest.raises(OSError, match="no space left"):
        prepare_case("toy", tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_attribute_with_a_hole_is_refused(toy, tmp_path, write_raster):
    write_raster(toy / "Toy" / "clay.tif", np.full((3, 3), -99, np.float32))
    with pytest.raises(DomainError, match=r"clay\.tif: nodata at pixel 0000_0000 .8 such pixels"):
        prepare_case("toy", tmp_path / "out")


def test_attribute_named_like_something_else_is_refused(toy, tmp_path, monkeypatch):
    slope = Descriptor("slope", "clay.tif", "1", "slope")
    monkeypatch.setitem(cases.CASES, "toy", cases.CASES["toy"]._replace(descriptors=(slope,)))
    with pytest.raises(DomainError, match=r"descriptor 'slope': .*Rename it"):
        prepare_case("toy", tmp_path / "out")


def test_unknown_case():
    with pytest.raises(ConfigError, match=r"no case 'cancee', expected one of lez, cance.* mean 'cance'"):
        prepare_case("cancee", Path("out"))


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_case("lez", tmp_path / "file" / "lez")


def test_absent_package_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'hydro-smash.*not installed.*pip install "bmi-cdlm\[examples\]"'):
        prepare_case("lez", tmp_path)


def test_another_package_called_smash(tmp_path, monkeypatch):
    (tmp_path / "smash").mkdir()
    (tmp_path / "smash" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "smash", raising=False)
    with pytest.raises(ConfigError, match=r"has no folder .*expected the rasters of hydro-smash"):
        packages.smash_folder()


def test_absent_raster_library_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ConfigError, match=r"'rasterio' cannot be imported.*pip install"):
        packages.load("rasterio")


# What the source ships, per case: active pixels, drainage areas at the gauges [km2], first start, steps.
REAL = {
    "lez": (172, [172.0, 142.0, 110.0], "2012-08-01T00", 365, 86400),
    "cance": (383, [383.0, 108.0, 28.0], "2014-09-14T23", 2952, 3600),
}


@pytest.mark.smash
@pytest.mark.parametrize("name", REAL)
def test_real_domain_is_read_by_the_model(prepared, name):
    from bmi_cdlm.domain import read_domain

    n, areas, *_ = REAL[name]
    domain = read_domain(prepared(name)["domain"])
    assert domain.n_cells == domain.n_reaches == n
    assert domain.outlets.size == 1
    assert domain.reaches.upstream_area[domain.gauges.reach].tolist() == areas
    assert domain.cells.drained_area.sum() == n
    assert set(np.round(domain.reaches.length, 3)) == {1000.0, 1414.214}


@pytest.mark.smash
@pytest.mark.parametrize("name", REAL)
def test_real_files_agree_with_each_other(prepared, name):
    from bmi_cdlm.errors import ForcingError
    from bmi_cdlm.files import open_input, read_time

    _, _, first, n_steps, step = REAL[name]
    files = prepared(name)
    for key in ("forcing", "observations"):
        with open_input(files[key], ForcingError) as dataset:
            starts, length = read_time(dataset, key, ForcingError)
        assert (starts[0], starts.size, length) == (np.datetime64(first, "s"), n_steps, step)
    domain, forcing, observations = (read_all(files[key]) for key in ("domain", "forcing", "observations"))
    assert forcing["cell_id"].tolist() == domain["cell_id"].tolist()
    assert observations["gauge_id"].tolist() == domain["gauge_id"].tolist()
    assert "smash" not in sys.modules


@pytest.mark.smash
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["lez_daily", "cance_hourly"])
def test_domain_against_reference(prepared, shared, name):
    reference = shared(f"grid_{name}.nc")
    domain = read_all(prepared(name.split("_")[0])["domain"])
    active = reference["active_cell"] == 1
    row, col = np.nonzero(active)
    top, left = (GRID_TOP - reference["y"][0]) // 1000, (reference["x"][0] - GRID_LEFT) // 1000
    ids = [f"{int(r + top):04d}_{int(c + left):04d}" for r, c in zip(row, col, strict=True)]
    assert domain["cell_id"].tolist() == ids
    assert domain["upstream_area"].tolist() == reference["upstream_area"][active].tolist()
    np.testing.assert_allclose(domain["cell_lon"], reference["lon"][active], atol=1e-5)
    np.testing.assert_allclose(domain["cell_lat"], reference["lat"][active], atol=1e-5)
    assert domain["gauge_id"].tolist() == reference["gauge_id"].tolist()
    np.testing.assert_allclose(domain["gauge_area"], reference["gauge_area"], rtol=1e-6)
    np.testing.assert_array_equal(row[domain["gauge_reach"]], reference["gauge_row"])
    np.testing.assert_array_equal(col[domain["gauge_reach"]], reference["gauge_col"])
    _check_directions(domain, reference["flow_direction"][active], row, col)
    for descriptor in cases.CASES[name.split("_")[0]].descriptors:
        expected = reference[descriptor.name.removeprefix("terrain_")][active]
        np.testing.assert_array_equal(domain[f"cell_{descriptor.name}"], expected)
        np.testing.assert_array_equal(domain[f"reach_{descriptor.name}"], expected)
    assert "reach_slope" not in domain  # that of the river bed, which the source does not have


def _check_directions(domain, esri, row, col):
    """Directions in the ESRI code: 1 E, 2 SE, 4 S, ... clockwise."""
    turn = np.log2(esri).astype(int)
    down, right = np.array([0, 1, 1, 1, 0, -1, -1, -1])[turn], np.array([1, 1, 0, -1, -1, -1, 0, 1])[turn]
    inner = np.flatnonzero(domain["downstream"] >= 0)
    below = domain["downstream"][inner]
    np.testing.assert_array_equal(row[below], (row + down)[inner])
    np.testing.assert_array_equal(col[below], (col + right)[inner])
    lengths = np.where(turn % 2 == 0, 1000.0, 1000.0 * np.sqrt(2.0))
    np.testing.assert_allclose(domain["reach_length"], lengths, rtol=1e-15)


@pytest.mark.smash
@pytest.mark.shared_data
def test_lez_series_against_reference(prepared, shared):
    reference = shared("grid_lez_daily.nc")
    files = prepared("lez")
    active = reference["active_cell"] == 1
    forcing = read_all(files["forcing"])
    np.testing.assert_array_equal(forcing["precipitation"], reference["precipitation"][:, active])
    np.testing.assert_array_equal(forcing["potential_evapotranspiration"], reference["pet"][:, active])
    discharge = read_all(files["observations"])["discharge"]
    np.testing.assert_allclose(discharge, reference["discharge_obs"], rtol=1e-6)
    assert attributes_of(files["forcing"])["missing_steps"] == "none"
    starts = (forcing["time"] // 86400) + 4383  # days between 1958 and 1970
    np.testing.assert_array_equal(starts, reference["time"])


@pytest.mark.smash
@pytest.mark.shared_data
def test_cance_series_against_reference(prepared, shared):
    reference = shared("grid_cance_hourly.nc")
    files = prepared("cance")
    active = reference["active_cell"] == 1
    forcing = read_all(files["forcing"])
    ends = (forcing["time_bnds"][:, 1] - 1_388_534_400) // 3600  # hours since 2014
    np.testing.assert_array_equal(ends, reference["time"])
    rain = reference["precipitation"][:, active] * 24
    np.testing.assert_allclose(forcing["precipitation"], rain, rtol=1e-6)
    gap = np.isnan(forcing["precipitation"]).all(axis=1)
    assert forcing["time"][gap].tolist() == [np.datetime64("2014-12-18T23", "s").astype(int)]
    assert attributes_of(files["forcing"])["missing_steps"] == "2014-12-18T23:00:00"
    discharge = read_all(files["observations"])["discharge"]
    np.testing.assert_allclose(discharge, reference["discharge_obs"], rtol=1e-6)


@pytest.mark.smash
@pytest.mark.shared_data
def test_cance_days_against_reference(prepared, shared):
    reference = shared("grid_cance_daily.nc")
    forcing = read_all(prepared("cance")["forcing"])
    active = reference["active_cell"] == 1
    first = int((np.datetime64("2014-09-15", "s").astype(int) - forcing["time"][0]) // 3600)
    days = slice(first, first + 122 * 24)

    def daily(name):
        return forcing[name][days].astype(float).reshape(122, 24, -1).mean(axis=1)

    np.testing.assert_allclose(
        daily("potential_evapotranspiration"), reference["pet"][:, active], rtol=1e-6, atol=1e-7
    )
    rain = reference["precipitation"][:, active]
    whole = ~np.isnan(daily("precipitation")).any(axis=1)
    assert np.count_nonzero(~whole) == 1
    np.testing.assert_allclose(daily("precipitation")[whole], rain[whole], rtol=1e-5, atol=1e-5)
