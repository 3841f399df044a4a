"""`cdlm-train labels`: own areas, fits of the model upstream to downstream, products on grids, and the file."""

from __future__ import annotations

import re

import netCDF4
import numpy as np
import pytest
from cases import START, change_config, write_series
from click.testing import CliRunner
from training_cases import write_training_case

from bmi_cdlm.cli import main as cdlm
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import create_time, write_time
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from cdlm_training.cli import main
from cdlm_training.labels.areas import main_owner, means, own_areas, shares
from cdlm_training.labels.months import own_runoff, read_product, whole_months
from cdlm_training.labels.store import LabelError, read_labels
from cdlm_training.scores import simulate_gauges

N_STEPS = 500


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A uniform truth on all cells and reaches, so that every gauge has the same labels, whatever is above it."""
    config = write_training_case(
        tmp_path_factory.mktemp("labels"), n_steps=N_STEPS, spin_up=1, missing=0.0, pet_factor=False, warm_up=200,
        train=[str(START), str(START + np.timedelta64(N_STEPS, "D"))], window=300,
    )
    with netCDF4.Dataset(config.parent / "even.nc", "w") as file:
        for name, units, value in (("production_capacity", "mm", 250.0), ("exchange_coefficient", "mm per step", -0.4),
                                   ("routing_capacity", "mm", 70.0), ("unit_hydrograph_base", "steps", 1.8),
                                   ("celerity", "m s-1", 1.2)):
            file.createVariable(name, "f8", ())[:] = value
            file[name].units = units
    ids, discharge = simulate_gauges(load_config(config), config.parent / "even.nc")
    write_series(config.parent / "observations.nc", "gauge", np.array(ids, object), {
        "discharge": (discharge, "m3 s-1")}, START, DAY)
    return config


def call(*words):
    result = CliRunner().invoke(main, ["labels", *(str(w) for w in words)])
    return result.exit_code, " ".join(result.output.split())


def test_own_areas_are_what_no_other_gauge_has(case):
    domain = read_domain(case.parent / "domain.nc")
    areas = own_areas(domain, range(4))
    upstream = domain.reaches.upstream_area[domain.gauges.reach]
    assert areas.above[0] and not areas.above[3]
    for k, above in enumerate(areas.above):
        assert areas.area[k] == pytest.approx(upstream[k] - upstream[above].sum(), rel=1e-9)
    gauge, cell, share = shares(domain, areas)
    np.testing.assert_allclose(np.bincount(gauge, weights=share, minlength=4), areas.has_own)
    own = [np.flatnonzero(np.repeat(areas.reach, np.diff(domain.links.first)) == k) for k in range(4)]
    values = np.arange(8.0)
    for k, links in enumerate(own):
        by_hand = np.average(values[domain.links.cell[links]], weights=domain.links.area[links])
        assert means(domain, areas, values)[k] == pytest.approx(by_hand, rel=1e-12)
    owner = main_owner(domain, areas)
    for c in range(8):
        parts = {g: s * areas.area[g] for g, i, s in zip(gauge, cell, share, strict=True) if i == c}
        assert owner[c] == (max(parts, key=parts.get) if parts else -1)
    alone = own_areas(domain, [0, 0])
    assert sorted(alone.has_own) == [False, True], "of two gauges on one reach, the lower has no area of its own"


def test_the_runoff_of_own_areas_adds_up(case):
    domain = read_domain(case.parent / "domain.nc")
    areas = own_areas(domain, range(4))
    upstream = domain.reaches.upstream_area[domain.gauges.reach]
    flow = upstream[None] * np.array([[1.0], [2.0]]) / 86.4
    np.testing.assert_allclose(own_runoff(flow, areas), [[1.0] * 4, [2.0] * 4], rtol=1e-9)
    flow[0, areas.above[0][0]] = np.nan
    assert np.isnan(own_runoff(flow, areas)[0, 0])


@pytest.mark.slow
def test_labels_of_the_model_find_the_truth_everywhere(case, tmp_path):
    code, said = call(case, "--model", "gr4j", "--model", "gr2m", "--restarts", 1, "--to", tmp_path / "labels.nc")
    assert code == 0, said
    found = read_labels(tmp_path / "labels.nc", "gr4j")
    assert found.sites.id == ["g0", "g1", "g2", "g3"] and found.record["snow"] == "none"
    fitted = ~np.isnan(found.kge)
    assert fitted.sum() >= 3 and found.kge[fitted].min() > 0.995
    for name, truth in (("production_capacity", 250), ("routing_capacity", 70), ("unit_hydrograph_base", 1.8)):
        np.testing.assert_allclose(found.values[name][fitted], truth, rtol=0.1, err_msg=name)
        assert np.isnan(found.values[name][~fitted]).all()
    assert read_labels(tmp_path / "labels.nc", "gr2m").kge.size == 4
    with netCDF4.Dataset(tmp_path / "labels.nc") as file:
        assert file["gr4j_production_capacity"].units == "mm" and file["gr4j_celerity"].units == "m s-1"
        assert file["storage_capacity"].units == "mm" and file.Conventions == "CF-1.10"
        assert "observations" in file.fingerprints and np.isfinite(file["storage_capacity"][:]).any()
    with pytest.raises(LabelError, match=r"labels of gr4j, gr2m, and the run has runoff: hbv"):
        read_labels(tmp_path / "labels.nc", "hbv")
    again = call(case, "--model", "gr4j", "--restarts", 1, "--to", tmp_path / "labels.nc")
    assert again[0] == 0, "what is fitted is not fitted again"
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.nc", "gr4j").values["celerity"],
                                  found.values["celerity"])


def write_grid(path, values, days, units="mm d-1", lat=(1.25, 0.75, 0.25), lon=(359.75, 0.25, 0.75, 1.25)):
    with netCDF4.Dataset(path, "w") as file:
        create_time(file)
        for name, centres in (("lat", lat), ("lon", lon)):
            file.createDimension(name, len(centres))
            file.createVariable(name, "f8", (name,))[:] = centres
        file.createVariable("q", "f8", ("time", "lat", "lon"))[:] = values
        file["q"].units = units
        write_time(file, 0, START + days * np.timedelta64(1, "D"), DAY)


def square(cells, lon, lat, side):
    corner_lon = np.stack([np.add(lon, d) for d in (0, side, side, 0)], 1)
    corner_lat = np.stack([np.add(lat, d) for d in (0, 0, side, side)], 1)
    return cells._replace(id=[f"c{k}" for k in range(len(lon))], corner_lon=corner_lon, corner_lat=corner_lat)


def test_a_product_is_read_on_cells(case, tmp_path):
    """A cell in one pixel, over four, beside the grid, and one across Greenwich on a grid of 0 to 360 degrees."""
    months = whole_months(START + np.arange(N_STEPS) * np.timedelta64(1, "D"), DAY)
    days, size = np.arange(N_STEPS), np.zeros((3, 4))
    pixels = size + np.arange(12.0).reshape(3, 4)
    values = pixels[None] + days[:, None, None]
    values[days < 5, 0, 1] = np.nan
    write_grid(tmp_path / "q.nc", values, days, lon=(0.25, 0.75, 1.25, 1.75))
    cells = square(read_domain(case.parent / "domain.nc").cells, [0.1, 0.0, 9.0, 360.6], [0.1, 0.0, 0.1, 0.6], 0.3)
    cells.corner_lon[1, 1:3], cells.corner_lat[1, 2:] = 1.0, 1.0
    found = read_product(tmp_path / "q.nc", "q", cells, months)
    rate = np.stack([days[a:b].mean() for a, b in zip(months.first, months.stop, strict=True)])
    np.testing.assert_allclose(found[:, 0], (8 + rate) * months.days)
    np.testing.assert_allclose(found[:, 1], ((8 + 9 + 4 + 5) / 4 + rate) * months.days)
    assert np.isnan(found[:, 2]).all()
    np.testing.assert_allclose(found[:, 3], (5 + rate) * months.days)
    write_grid(tmp_path / "m.nc", values[months.first], days[months.first], "mm month-1", lon=(0.25, 0.75, 1.25, 1.75))
    np.testing.assert_allclose(read_product(tmp_path / "m.nc", "q", cells, months)[:, 3], 5 + months.first)
    write_grid(tmp_path / "w.nc", values, days, "m", lon=(0.25, 0.75, 1.25, 1.75))
    with pytest.raises(LabelError, match=r"'q' has units 'm', expected one of mm d-1, mm month-1"):
        read_product(tmp_path / "w.nc", "q", cells, months)
    late = months._replace(number=months.number + 600)
    with pytest.raises(LabelError, match="has no month of the training period"):
        read_product(tmp_path / "q.nc", "q", cells, late)


@pytest.mark.slow
def test_labels_of_cells_follow_a_product(case, tmp_path):
    """Daily runoff of the model with other parameters on every cell, as a product."""
    rng = np.random.default_rng(2)
    x1, x3 = rng.uniform(80, 600, 8), rng.uniform(30, 150, 8)
    with netCDF4.Dataset(tmp_path / "cells.nc", "w") as file:
        file.createDimension("cell", 8)
        for name, values in (("production_capacity", x1), ("routing_capacity", x3)):
            file.createVariable(name, "f8", ("cell",))[:] = values
            file[name].units = "mm"
    run = change_config(case, "product.yaml", parameters=str(tmp_path / "cells.nc"), output=str(tmp_path / "run.nc"),
                        output_at="cells", output_variables=["runoff"])
    ran = CliRunner().invoke(cdlm, ["run", str(run)])
    assert ran.exit_code == 0, ran.output
    code, said = call(case, "--per", "cell", "--model", "gr4j", "--model", "dwbm", "--restarts", 1, "--runoff",
                      f"{tmp_path / 'run.nc'}:runoff", "--to", tmp_path / "labels.nc")
    assert code == 0, said
    found = read_labels(tmp_path / "labels.nc", "gr4j")
    assert found.sites.per == "cell" and found.kge.min() > 0.97 and "celerity" not in found.values
    assert np.corrcoef(np.log(found.values["production_capacity"]), np.log(x1))[0, 1] > 0.9
    with netCDF4.Dataset(tmp_path / "labels.nc") as file:
        assert file["dwbm_kge_fitted"][:].min() > 0.5


@pytest.mark.parametrize("name", ["domain", "forcing", "observations"])
def test_labels_are_not_written_onto_what_they_are_made_of(case, name):
    path = case.parent / f"{name}.nc"
    before = path.read_bytes()
    code, said = call(case, "--model", "gr2m", "--to", path)
    assert code == 1 and f"the file of {name}, which would be lost" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize(("words", "said"), [
    (["--model", "gr2"], r"--model: there is no 'gr2' here. Did you mean 'gr2m'\?"),
    (["--model", "gr2m", "--model", "gr2m"], "--model names one twice"),
    (["--model", "gr2m", "--per", "cell"], "--per cell needs --runoff FILE:VARIABLE"),
    (["--model", "gr2m", "--per", "cell", "--runoff", "q.nc"], "--runoff is 'q.nc', expected FILE:VARIABLE"),
    (["--model", "gr2m", "--to", "labels.csv"], r"labels.csv: expected a name that ends in \.nc"),
])
def test_what_is_refused(case, words, said):
    code, output = call(case, *words)
    assert code == 1 and re.search(said, output), output


def test_components_have_no_labels(tmp_path):
    case = write_training_case(tmp_path, components=2)
    code, output = call(case, "--model", "gr4j")
    assert code == 1 and "labels are one parameter set per site" in output
    short = write_training_case(tmp_path / "short")
    assert "has 1 whole months, expected a year or more" in call(short, "--model", "gr2m")[1]
