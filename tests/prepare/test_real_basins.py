"""Preparations of the Lez, the Cance and Lake Erie, against reference files and each other."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from make_drainage import attributes_of, in_order, read_all

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import open_input, read_time
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.config import load_prepare_config
from bmi_cdlm.prepare.run import prepare

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn"):
    pytest.importorskip(package, reason=f"{package} is not installed")

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
GRID_LEFT, GRID_TOP = 75_000.0, 7_125_000.0  # corner of the flow directions of France


# What the source ships, per case: active pixels, drainage areas at the gauges [km2], first start, steps.
REAL = {
    "lez": (172, [172.0, 142.0, 110.0], "2012-08-01T00", 365, 86400),
    "cance": (383, [383.0, 108.0, 28.0], "2014-09-14T23", 2952, 3600),
}


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_domain_is_read_by_the_model(prepared, name):
    n, areas, *_ = REAL[name]
    domain = read_domain(prepared(name) / "domain.nc")
    assert domain.n_cells == domain.n_reaches == n
    assert domain.outlets.size == 1
    assert domain.reaches.upstream_area[domain.gauges.reach].tolist() == areas
    assert domain.cells.drained_area.sum() == n
    assert set(np.round(domain.reaches.length, 3)) == {1000.0, 1414.214}


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_agree_with_each_other(prepared, name):
    _, _, first, n_steps, step = REAL[name]
    folder = prepared(name)
    for key in ("forcing", "observations"):
        with open_input(folder / f"{key}.nc", ForcingError) as dataset:
            starts, length = read_time(dataset, key, ForcingError)
        assert (starts[0], starts.size, length) == (np.datetime64(first, "s"), n_steps, step)
    domain, forcing, observations = (read_all(folder / f"{key}.nc") for key in ("domain", "forcing", "observations"))
    assert forcing["cell_id"].tolist() == domain["cell_id"].tolist()
    assert observations["gauge_id"].tolist() == domain["gauge_id"].tolist()


@pytest.mark.smash
@pytest.mark.slow
def test_package_that_ships_the_data_is_not_imported(prepared):
    """Its files are read; its code, which needs a Fortran runtime, is not."""
    modules = set(json.loads((prepared("lez") / "modules.json").read_text(encoding="utf-8")))
    assert {"bmi_cdlm.prepare.run", "rasterio"} <= modules and "smash" not in modules


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["lez_daily", "cance_hourly"])
def test_domain_against_reference(prepared, shared, name):
    reference = shared(f"grid_{name}.nc")
    domain = read_all(prepared(name.split("_")[0]) / "domain.nc")
    active = reference["active_cell"] == 1
    row, col = np.nonzero(active)
    top, left = (GRID_TOP - reference["y"][0]) // 1000, (reference["x"][0] - GRID_LEFT) // 1000
    ids = [f"{int(r + top):04d}_{int(c + left):04d}" for r, c in zip(row, col, strict=True)]
    assert domain["cell_id"].tolist() == ids
    order = in_order(domain["reach_id"], ids)
    assert domain["upstream_area"][order].tolist() == reference["upstream_area"][active].tolist()
    np.testing.assert_allclose(domain["cell_lon"], reference["lon"][active], atol=1e-5)
    np.testing.assert_allclose(domain["cell_lat"], reference["lat"][active], atol=1e-5)
    np.testing.assert_array_equal(domain["reach_lon"][order], domain["cell_lon"])
    assert domain["gauge_id"].tolist() == reference["gauge_id"].tolist()
    np.testing.assert_allclose(domain["gauge_area"], reference["gauge_area"], rtol=1e-6)
    position = np.argsort(order)
    gauges = position[domain["gauge_reach"]]
    np.testing.assert_array_equal(row[gauges], reference["gauge_row"])
    np.testing.assert_array_equal(col[gauges], reference["gauge_col"])
    np.testing.assert_array_equal(domain["link_area"], np.ones(len(ids)))
    linked = np.empty(len(ids), np.int64)
    linked[position[domain["link_reach"]]] = domain["link_cell"]
    assert linked.tolist() == list(range(len(ids)))
    below = domain["downstream"][order]
    below = np.where(below >= 0, position[below], -1)
    _check_directions(below, domain["reach_length"][order], reference["flow_direction"][active], row, col)
    _, config = load_prepare_config(ROOT / "cfg" / f"{name.split('_')[0]}.yaml")
    for one in config.attributes.rasters:
        expected = reference[one.removeprefix("terrain_")][active]
        np.testing.assert_array_equal(domain[f"cell_{one}"], expected)
        np.testing.assert_array_equal(domain[f"reach_{one}"][order], expected)
    assert "reach_slope" not in domain  # that of the river bed, which the source does not have


def _check_directions(below, length, esri, row, col):
    """Directions in the ESRI code: 1 E, 2 SE, 4 S, ... clockwise."""
    turn = np.log2(esri).astype(int)
    down, right = np.array([0, 1, 1, 1, 0, -1, -1, -1])[turn], np.array([1, 1, 0, -1, -1, -1, 0, 1])[turn]
    inner = np.flatnonzero(below >= 0)
    np.testing.assert_array_equal(row[below[inner]], (row + down)[inner])
    np.testing.assert_array_equal(col[below[inner]], (col + right)[inner])
    np.testing.assert_allclose(length, np.where(turn % 2 == 0, 1000.0, 1000.0 * np.sqrt(2.0)), rtol=1e-15)


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.shared_data
def test_lez_series_against_reference(prepared, shared):
    reference = shared("grid_lez_daily.nc")
    folder = prepared("lez")
    active = reference["active_cell"] == 1
    forcing = read_all(folder / "forcing.nc")
    np.testing.assert_array_equal(forcing["precipitation"], reference["precipitation"][:, active])
    np.testing.assert_array_equal(forcing["potential_evapotranspiration"], reference["pet"][:, active])
    discharge = read_all(folder / "observations.nc")["discharge"]
    np.testing.assert_allclose(discharge, reference["discharge_obs"], rtol=1e-6)
    assert attributes_of(folder / "forcing.nc")["missing_steps"] == "none"
    starts = (forcing["time"] // 86400) + 4383  # days between 1958 and 1970
    np.testing.assert_array_equal(starts, reference["time"])


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.shared_data
def test_cance_series_against_reference(prepared, shared):
    reference = shared("grid_cance_hourly.nc")
    folder = prepared("cance")
    active = reference["active_cell"] == 1
    forcing = read_all(folder / "forcing.nc")
    ends = (forcing["time_bnds"][:, 1] - 1_388_534_400) // 3600  # hours since 2014
    np.testing.assert_array_equal(ends, reference["time"])
    rain = reference["precipitation"][:, active] * 24
    np.testing.assert_allclose(forcing["precipitation"], rain, rtol=1e-6)
    gap = np.isnan(forcing["precipitation"]).all(axis=1)
    assert forcing["time"][gap].tolist() == [np.datetime64("2014-12-18T23", "s").astype(int)]
    assert attributes_of(folder / "forcing.nc")["missing_steps"] == "2014-12-18T23:00:00"
    discharge = read_all(folder / "observations.nc")["discharge"]
    np.testing.assert_allclose(discharge, reference["discharge_obs"], rtol=1e-6)


@pytest.mark.smash
@pytest.mark.slow
@pytest.mark.shared_data
def test_cance_days_against_reference(prepared, shared):
    reference = shared("grid_cance_daily.nc")
    forcing = read_all(prepared("cance") / "forcing.nc")
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


# ---- GRIP-E --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.shared_data
def test_gripe_gauges_drain_what_the_flow_directions_say(tmp_path, shared):
    basins = shared("basins_gripe.nc")
    content = (ROOT / "cfg" / "gripe.yaml").read_text(encoding="utf-8")
    assert content.count("official_areas: true") == 1
    config = tmp_path / "gripe.yaml"
    config.write_text(content.replace("official_areas: true", "official_areas: false"), encoding="utf-8")
    made = prepare(config, source=SHARED, to=tmp_path)
    domain = read_domain(made.files["domain"])
    assert domain.gauges.id == basins["basin_id"].tolist()
    area = domain.reaches.upstream_area[domain.gauges.reach]
    sound = basins["area_flag"] == 0
    assert sound.sum() == 41
    assert np.abs(area / basins["area_d8"] - 1)[sound].max() < 0.05
    grand = domain.gauges.id.index("02GB001")
    example = shared("example_grand.nc")
    names = example["gauge_id"].tolist()
    for name, reach in zip(names, example["gauge_reach"].tolist(), strict=True):
        expected = example["area_total"][reach]
        assert area[domain.gauges.id.index(name)] == pytest.approx(expected, rel=0.01)
    assert made.report[grand].n_above == 4
    for quality, below in zip(made.report, basins["downstream_basin_id"].tolist(), strict=True):
        assert quality.below == below, quality.id
    with netCDF4.Dataset(made.files["observations"]) as dataset:
        np.testing.assert_allclose(dataset["discharge"][:].filled(np.nan), basins["discharge_obs"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.shared_data
def test_gripe_gauges_drain_their_official_areas(tmp_path, shared):
    """Also those twelve whose flow directions say another basin, the Rouge at Southfield most of all."""
    basins = shared("basins_gripe.nc")
    domain = read_domain(prepare(ROOT / "cfg" / "gripe.yaml", source=SHARED, to=tmp_path).files["domain"])
    area = domain.reaches.upstream_area[domain.gauges.reach]
    np.testing.assert_allclose(area, basins["area_official"], rtol=1e-6)
    assert np.abs(basins["area_d8"] / area - 1).max() > 1.5
