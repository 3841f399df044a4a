"""The examples that compare and recover, on a small case."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import netCDF4
import numpy as np
import pytest
from cases import START
from click.testing import CliRunner, Result
from training_cases import at, drawn_trainer, write_training_case

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_ensemble
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from cdlm_training.config import load_train_config
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.scores import simulate_gauges

ROOT = Path(__file__).resolve().parents[2]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def invoke(module: ModuleType, *words: object) -> Result:
    return CliRunner().invoke(module.main, [str(word) for word in words])


@pytest.fixture
def trained(tmp_path):
    """A case whose spin-up outlasts the memory of its rivers, and a checkpoint far from the start."""
    config, checkpoint = write_training_case(tmp_path, snow="cemaneige", spin_up=4), tmp_path / "drawn.safetensors"
    write_checkpoint(checkpoint, drawn_trainer(config), None)
    return config, checkpoint


def test_the_model_that_couples_is_the_one_that_was_trained(trained):
    config, checkpoint = trained
    result = invoke(example("compare_bmi"), config, "--parameters", checkpoint)
    assert result.exit_code == 0, result.output
    assert not list(config.parent.glob("*compared*"))


def test_another_model_is_told_apart(trained, monkeypatch):
    config, checkpoint = trained
    module = example("compare_bmi")
    stepped = module.step(config, checkpoint)
    monkeypatch.setattr(module, "step", lambda *words: stepped * (1 + 3e-9))
    assert invoke(module, config, "--parameters", checkpoint).exit_code == 1


def test_the_mean_of_an_ensemble_is_that_of_its_members(trained, tmp_path, monkeypatch):
    """As `cdlm run` writes it, beside evaluation and training of each; a mean of other members is told apart."""
    config, checkpoint = trained
    one = load_checkpoint(checkpoint)
    other = {name: values * 1.25 for name, values in one.tensors.items()}
    ensemble = tmp_path / "both.safetensors"
    save_ensemble(ensemble, [one, one._replace(tensors=other)])
    module = example("compare_bmi")
    result = invoke(module, config, "--parameters", ensemble)
    assert result.exit_code == 0 and "a run of 2 members writes" in result.output, result.output
    mean, first = module.mean_of_run(config, ensemble, tmp_path / "run.nc"), simulate_gauges(
        load_train_config(config)[0], checkpoint
    )[1]
    assert module.largest_difference(mean, first) > 1e-6, "members differ"
    monkeypatch.setattr(module, "mean_of_run", lambda *words: first)
    assert invoke(module, config, "--parameters", ensemble).exit_code == 1


def write_basins(
    path: Path, ids: list[str], *, known: bool, days: int = 3, left_out: tuple[str, ...] = ()
) -> None:
    """Basins of some days, discharge missing on one of them or everywhere; left_out : what the file has not."""
    n = len(ids)
    with netCDF4.Dataset(path, "w") as out:
        out.createDimension("time", days)
        out.createDimension("basin", n)
        out.createVariable("basin_id", str, ("basin",))[:] = np.array(ids, object)
        time = out.createVariable("time", "i8", ("time",))
        time.units, time[:] = "days since 1975-10-01", np.arange(days)
        facts = {"lat": ("degrees_north", 40.0), "lon": ("degrees_east", -80.0), "area": ("km2", 8.64),
                 "attr_aridity": ("1", 0.7)}
        for name, (units, value) in ((n, f) for n, f in facts.items() if n not in left_out):
            variable = out.createVariable(name, "f8", ("basin",))
            variable.units, variable[:] = units, value + np.arange(n)
        for name, value in (("precipitation", 4.0), ("temperature", -5.0), ("pet", 1.0), ("runoff_obs", 2.0)):
            series = np.full((days, n), value)
            if name == "runoff_obs":
                series[1 if known else slice(None)] = np.nan
            variable = out.createVariable(name, "f8", ("time", "basin"), fill_value=-99.0)
            variable[:] = np.ma.masked_invalid(series)


def test_basins_become_the_files_of_a_run(tmp_path):
    write_basins(tmp_path / "a.nc", ["01", "02"], known=True)
    write_basins(tmp_path / "b.nc", ["03"], known=True)
    module, folder = example("prepare_lumped"), tmp_path / "mopex"
    result = invoke(module, tmp_path / "a.nc", tmp_path / "b.nc", "--to", folder)
    assert result.exit_code == 0 and "3 basins" in result.output, result.output
    domain = read_domain(folder / "domain.nc")
    assert domain.gauges.id == domain.cells.id == ["01", "02", "03"]
    np.testing.assert_allclose(domain.cells.mean_annual_snowfall, 4.0 * 365.25)
    np.testing.assert_allclose(domain.cells.upstream_area, [8.64, 9.64, 8.64])
    with netCDF4.Dataset(folder / "observations.nc") as found:
        flow = found["discharge"][:].filled(np.nan)
    np.testing.assert_allclose(flow[0], 2.0 * domain.cells.area / 86.4)
    assert np.isnan(flow[1]).all() and not np.isnan(flow[2]).any()
    write_basins(tmp_path / "c.nc", ["04"], known=False)
    assert invoke(module, tmp_path / "c.nc", "--to", tmp_path / "c").exit_code == 0
    assert not (tmp_path / "c" / "observations.nc").exists()


def test_units_that_a_source_does_not_state(tmp_path):
    """A number in per cent without units would be read as a ratio."""
    source, module = tmp_path / "a.nc", example("prepare_lumped")
    write_basins(source, ["01", "02"], known=True)
    with netCDF4.Dataset(source, "a") as data:
        sand = data.createVariable("attr_sand_frac", "f8", ("basin",))
        sand[:] = [30.0, 60.0]
    assert invoke(module, source, "--to", tmp_path / "as_is").exit_code == 0
    result = invoke(module, source, "--units", "sand_frac=percent", "--to", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for folder, expected in (("as_is", "1"), ("out", "percent")):
        with netCDF4.Dataset(tmp_path / folder / "domain.nc") as found:
            assert found["cell_sand_frac"].units == expected and found["cell_aridity"].units == "1"
    for given, message in (("clay_frac=percent", "expected NAME=UNITS of one of"), ("sand_frac", "expected NAME=UNITS"),
                           ("log10_area=km2", "expected NAME=UNITS of one of")):
        refused = invoke(module, source, "--units", given, "--to", tmp_path / "none")
        assert refused.exit_code == 1 and message in refused.output and not (tmp_path / "none").exists()
    with netCDF4.Dataset(source, "a") as data:
        data["attr_sand_frac"].units = "g kg-1"
    refused = invoke(module, source, "--units", "sand_frac=percent", "--to", tmp_path / "none")
    assert refused.exit_code == 1 and "the files say 'g kg-1'" in refused.output


def test_areas_between_the_gauges_of_the_grand_become_official():
    """Two gauges in a row and one beside them; what lies below all stays."""
    module = example("prepare_grand")
    downstream = np.array([1, 2, 5, 4, 5, 6, -1])
    area, gauges = np.array([2.0, 1.0, 4.0, 3.0, 5.0, 1.0, 7.0]), np.array([1, 2, 4])
    official = np.array([6.0, 7.0, 4.0])
    factor = module.to_official_areas(downstream, area, gauges, official)
    np.testing.assert_allclose(factor, [2.0, 2.0, 0.25, 0.5, 0.5, 1.0, 1.0])
    found = module.accumulated(downstream, area * factor)
    np.testing.assert_allclose(found[gauges], official)
    assert found[-1] == (area * factor).sum()


def test_basins_of_another_sample(tmp_path):
    """What a file lacks is made or asked for, basins are left out, and no option passes that means nothing."""
    source, folder, module = tmp_path / "a.nc", tmp_path / "out", example("prepare_lumped")
    write_basins(source, ["011", "012", "021"], known=True, days=730, left_out=("lat", "lon", "area"))
    assert "--area 100" in invoke(module, source, "--to", folder).output and not folder.exists()
    words = (source, "--to", folder, "--area", 100, "--climate", "--leave-out", "012")
    result = invoke(module, *words, "--region", "west=01", "--region", "east=02,03")
    assert result.exit_code == 0 and "2 basins, each of 100 km2, all at 0 N 0 E" in result.output, result.output
    domain = read_domain(folder / "domain.nc")
    assert domain.cells.id == ["011", "021"] and (domain.cells.area == 100).all()
    assert (folder / "regions.csv").read_text() == "gauge,region\n011,west\n021,east\n"
    climate = read_attributes(folder / "domain.nc", domain, "cell", ["aridity", "frac_snow", "t_mean"]).values
    np.testing.assert_allclose(climate, [[0.25, 1.0, -5.0]] * 2, err_msg="of the series, not the 0.7 of the file")
    for extra, message in ((("--leave-out", "9"), "no such basin"), (("--region", "west=01"), "021 is in 0 of")):
        refused = invoke(module, source, "--area", 1, *extra, "--to", tmp_path / "none")
        assert refused.exit_code == 1 and message in refused.output and not (tmp_path / "none").exists()
    write_basins(tmp_path / "b.nc", ["03"], known=True, days=3)
    assert "expected the days of" in invoke(module, source, tmp_path / "b.nc", "--to", tmp_path / "none").output


def test_labels_come_from_elsewhere(monkeypatch):
    """Every second basin of the climate; none of the region, none that both files have."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    places = [("in", 42.0, -80.0), ("west", 42.0, -101.0), ("south", 35.0, -90.0), ("both", 45.0, -90.0),
              ("a", 45.0, -90.0), ("b", 38.0, -80.0), ("c", 41.0, -95.0)]
    ids, lat, lon = (np.array(column) for column in zip(*places, strict=True))
    found = example("prepare_few_gauges").labelled({"basin_id": ids, "lat": lat, "lon": lon}, ["both", "04"])
    assert ids[found].tolist() == ["a", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["linear", "mlp"])
def test_a_twin_is_made_trained_and_judged(tmp_path, mapping):
    config = write_training_case(tmp_path, snow="cemaneige")
    result = invoke(example("twin_experiment"), config, "--to", tmp_path / "twin", "--epochs", 1, "--steps", 1,
                    "--mapping", mapping)
    assert result.exit_code == 0, result.output
    assert f"{mapping} student, truth 7: NSE median" in result.output and "kept: 1 - NSE" in result.output
    truth, student = (load_checkpoint(tmp_path / "twin" / f"{n}.safetensors") for n in ("truth", "student"))
    level = [t.name for t in truth.spec.cell.targets].index("thermal_weighting")
    assert not truth.tensors["cell.0.weight"][level].any() and truth.tensors["cell.0.weight"].any()
    assert student.spec.cell.mapping == mapping


def test_few_gauges_are_trained_once_with_and_without_a_start(tmp_path):
    """The table's numbers are those of the gauges that were not fitted; a second call trains nothing."""
    config = write_training_case(
        tmp_path, pet_factor=False, epochs=1, updates=1, gauges=["g0", "g1", "g2", "g3"], missing=0.0,
    )
    checkpoint = tmp_path / "drawn.safetensors"
    write_checkpoint(checkpoint, drawn_trainer(config), None)
    words = (config, "--from", checkpoint, "--to", tmp_path / "few", "--count", 2, "--seeds", 1, "--until", at(DAY, 50))
    module = example("few_gauges")
    first = invoke(module, *words)
    assert first.exit_code == 0, first.output
    kept = {name: np.load(tmp_path / "few" / f"2_1_{name}.npy") for name in ("plain", "taught0")}
    assert {v.size for v in kept.values()} == {2} and not np.array_equal(*kept.values())
    run, training = load_train_config(tmp_path / "few" / "2_1_taught0.yaml")
    assert str(training.start_from) == str(checkpoint) and str(run.end) == str(START + np.timedelta64(50, "D"))
    ids, simulated = simulate_gauges(load_config(config), training.output)
    whole = load_config(config)
    observed = read_observations(whole.observations, ids, whole.start, whole.end, DAY)[1]
    own = [k for k, g in enumerate(ids) if g not in training.gauges]
    np.testing.assert_allclose(kept["taught0"], [nse(simulated[50:, k], observed[50:, k]) for k in own])
    trained = (tmp_path / "few" / "2_1_plain.safetensors").stat().st_mtime_ns
    assert invoke(module, *words).output == first.output
    assert (tmp_path / "few" / "2_1_plain.safetensors").stat().st_mtime_ns == trained


def test_own_areas_are_a_domain_of_nested_cells(tmp_path, monkeypatch):
    """A cell for what drains to a gauge through no other; means of attributes and forcing; the river between gauges."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    config = write_training_case(tmp_path)
    result = invoke(example("own_areas"), config, "--to", tmp_path / "own")
    assert result.exit_code == 0, result.output
    whole, own = read_domain(tmp_path / "domain.nc"), read_domain(tmp_path / "own" / "domain.nc")
    ids, at = whole.gauges.id, whole.gauges.reach
    assert sorted(own.gauges.id) == sorted(ids)
    n = len(ids)
    below = [next((m for m in range(n) if m != k and drains(whole, at[k], at[m], at)), -1) for k in range(n)]
    assert sum(b >= 0 for b in below) == 2
    with netCDF4.Dataset(tmp_path / "own" / "domain.nc") as data:
        assert data["downstream"][:].tolist() == below
        area, length = (np.asarray(data[name][:]) for name in ("cell_area", "reach_length"))
        forest = np.asarray(data["cell_forest"][:])
    for k, one in enumerate(ids):
        through = own.reaches.upstream_area[own.gauges.reach[own.gauges.id.index(one)]]
        assert through == pytest.approx(whole.reaches.upstream_area[at[k]], rel=1e-9)
    headwater = next(k for k in range(len(ids)) if k not in below)
    lo, hi = upstream_of(whole.reaches.downstream, int(at[headwater]))
    links = slice(whole.links.first[lo], whole.links.first[hi])
    weights = np.bincount(whole.links.cell[links], whole.links.area[links], whole.n_cells)
    raw = read_attributes(tmp_path / "domain.nc", whole, "cell", ["forest"]).values[:, 0]
    assert forest[headwater] == pytest.approx((weights * raw).sum() / weights.sum(), rel=1e-9)
    assert area[headwater] == pytest.approx(weights.sum(), rel=1e-9) and length[headwater] == 0
    upper = next(k for k in range(len(ids)) if below[k] >= 0)
    way, river = int(at[upper]), 0.0
    while way != at[below[upper]]:
        way = int(whole.reaches.downstream[way])
        river += whole.reaches.length[way]
    assert length[below[upper]] == pytest.approx(river) and river > 0
    forcing = []
    for folder in (tmp_path, tmp_path / "own"):
        with netCDF4.Dataset(folder / "forcing.nc") as data:
            forcing.append(np.asarray(data["precipitation"][:]))
    np.testing.assert_allclose(forcing[1][:, headwater], forcing[0] @ weights / weights.sum(), rtol=1e-5)


def drains(domain, first, last, gauges):
    """Whether one reach drains to another through no gauge between."""
    way = int(domain.reaches.downstream[first])
    while way >= 0 and way not in gauges:
        way = int(domain.reaches.downstream[way])
    return way == last
