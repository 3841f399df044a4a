"""What a training sees: windows and their warm-up, gauges and their weights, and what is refused."""

from __future__ import annotations

import re

import netCDF4
import numpy as np
import pytest
from cases import START, change_config, write_series
from generator_cases import attribute_fields
from make_domain import domain_fields, write_domain
from training_cases import ALONE, at, change_training, train, write_training_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.errors import ConfigError, DomainError, ObservationError
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.config import load_config
from cdlm_training.config import load_train_config
from cdlm_training.dataset import Dataset
from cdlm_training.loop import Trainer


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


def dataset(config, **training) -> Dataset:
    run, keys = load_train_config(change_training(config, **training) if training else config)
    return Dataset(run, keys, read_domain(run.domain))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_forcing_and_observations_are_those_of_the_files(case, precision):
    data = dataset(case, precision=precision)
    assert list(data.forcing) == ["precipitation", "potential_evapotranspiration"]
    with netCDF4.Dataset(case.parent / "forcing.nc") as file:
        for name, values in data.forcing.items():
            np.testing.assert_array_equal(values, file[name][:].astype(precision))
    _, observed = read_observations(data.run.observations, data.domain.gauges.id, data.run.start, data.run.end, DAY)
    np.testing.assert_array_equal(data.observed, observed.astype(precision))
    assert np.isnan(observed).any()
    np.testing.assert_allclose(data.spread, np.nanstd(observed[:50], axis=0) + 0.1 / data.to_depth, rtol=1e-6)
    assert {a.dtype for a in (data.observed, data.day_of_year, data.spread, data.to_depth, data.weights)} == {
        np.dtype(precision)
    }
    np.testing.assert_array_equal(
        data.day_of_year, day_of_year(START + np.arange(70) * np.timedelta64(1, "D")).astype(precision)
    )
    area = data.domain.reaches.upstream_area[data.domain.gauges.reach]
    np.testing.assert_allclose(data.to_depth, 86.4 / area, rtol=1e-6)


def test_the_official_area_goes_before_that_of_the_cells(case, tmp_path):
    changed = tmp_path / "domain.nc"
    changed.write_bytes((case.parent / "domain.nc").read_bytes())
    with netCDF4.Dataset(changed, "a") as file:
        file["gauge_area"][1] = 12.0
    data = dataset(change_config(case, "area.yaml", domain=str(changed)))
    assert data.to_depth[1] == pytest.approx(86.4 / 12.0)


def test_hourly_steps_and_gauges_by_name(tmp_path):
    data = dataset(write_training_case(tmp_path, step=HOUR, n_steps=140, snow="cemaneige"), gauges=["g2", "g0"])
    np.testing.assert_array_equal(data.gauges, [2, 0])
    assert data.observed.shape == (140, 2)
    assert data.steps_of(data.config.train) == slice(0, 100)
    assert "air_temperature" in data.forcing
    window = data.window(0, 30)
    np.testing.assert_array_equal(window.steps, [*range(120, 140), *range(30)])  # a record shorter than a year


def test_what_other_models_give_is_refused(case):
    with pytest.raises(ConfigError, match="coupled_inputs is reach_inflow, expected none in training"):
        dataset(change_config(case, "coupled.yaml", coupled_inputs=["reach_inflow"]))


# ---- windows ---------------------------------------------------------------------------------------------


def test_windows_lie_in_the_training_period_with_the_warm_up_before(case):
    data = dataset(case, train=[at(DAY, 10), at(DAY, 50)], window=30, warm_up=15)
    windows = data.windows(np.random.default_rng(1), 200)
    firsts = set()
    for window in windows:
        assert window.counted == window.target.size == 30 and window.steps.size == 45
        first = int(window.target[0])
        firsts.add(first)
        np.testing.assert_array_equal(window.target, np.arange(first, first + 30))
        np.testing.assert_array_equal(window.steps[:15], np.arange(first - 15, first) % 70)
    assert firsts == set(range(10, 21))  # both ends occur


def test_a_warm_up_before_the_record_cycles_through_the_first_year(case, tmp_path):
    data = dataset(case, warm_up=165)
    np.testing.assert_array_equal(data.window(5, 3).steps, [*(np.arange(-160, 0) % 70), *range(8)])
    data.run = data.run.model_copy(update={"end": START + np.timedelta64(1000, "D")})
    steps = data.window(0, 1).steps
    np.testing.assert_array_equal(steps, [*range(200, 365), 0])


def test_a_window_longer_than_the_period_is_the_period(case, caplog):
    data = dataset(case, window=500, warm_up=0)
    assert "window is 500 steps, and the training period has 50: windows are as long as that" in caplog.text
    (window,) = data.windows(np.random.default_rng(1), 1)
    np.testing.assert_array_equal(window.steps, np.arange(50))
    assert window.counted == 50


def test_the_seed_decides_the_windows(case):
    data = dataset(case)
    def draw(seed):
        return [int(w.target[0]) for w in data.windows(np.random.default_rng(seed), 20)]

    assert draw(1) == draw(1) != draw(2)


# ---- gauges ----------------------------------------------------------------------------------------------


def test_weights_by_incremental_area(case):
    data = dataset(case, gauge_weights="incremental_area")
    domain = data.domain
    above = [range(*upstream_of(domain.reaches.downstream, int(r))) for r in domain.gauges.reach]
    own = [set(above[0]) - set(above[1]) - set(above[2]), set(above[1]), set(above[2]), set(above[3])]
    area = np.array([domain.reaches.area[sorted(s)].sum() for s in own])
    np.testing.assert_allclose(data.weights, area / area.sum(), rtol=1e-12)
    np.testing.assert_allclose(dataset(case).weights, 0.25)


def test_weights_by_gauge(case):
    data = dataset(case, gauge_weights={"g2": 3, "g0": 1, "g1": 9}, gauges=["g0", "g2"])
    np.testing.assert_allclose(data.weights, [0.25, 0.75])
    with pytest.raises(ConfigError, match=r"gauge g1 is trained on and has none \(2 of 4\), expected one for every"):
        dataset(case, gauge_weights={"g0": 1, "g2": 3})
    with pytest.raises(ConfigError, match="gauge_weights: the domain has no gauge 'gX'"):
        dataset(case, gauge_weights={"g0": 1, "gX": 3})


def test_the_offset_of_transforms_is_a_hundredth_of_the_mean(case):
    data = dataset(case)
    np.testing.assert_allclose(data.offset, np.nanmean(data.observed[:50].astype(float), axis=0) / 100, rtol=1e-6)


def test_incremental_area_of_a_chain_of_gauges(tmp_path):
    """Reaches 0 -> 1 -> 2 -> 3 and 4 -> 2, one cell each; gauges at 3, 1, 2, 1 again and 4."""
    n = 5
    area = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    fields = domain_fields(
        np.array([1, 2, 3, -1, 2]), np.arange(n), np.arange(n), area, n, np.array([3, 1, 2, 1, 4]),
        np.random.default_rng(1),
    )
    data = dataset_on(tmp_path, fields)
    np.testing.assert_allclose(data.weights, np.array([8.0, 3.0, 4.0, 3.0, 16.0]) / 34.0)
    data = dataset_on(tmp_path, fields, gauges=["g0", "g1"])
    np.testing.assert_allclose(data.weights, np.array([28.0, 3.0]) / 31.0)


def dataset_on(folder, fields, **training) -> Dataset:
    """A data set on a domain of one's own, with drawn observations."""
    write_domain(folder / "own.nc", fields)
    n_cells, n_gauges = fields["cell_id"].values.size, fields["gauge_id"].values.size
    config = write_training_case(folder / "case")
    rng = np.random.default_rng(1)
    units = {"precipitation": "mm d-1", "potential_evapotranspiration": "mm d-1"}
    columns = {name: (rng.uniform(0, 5, (70, n_cells)), u) for name, u in units.items()}
    write_series(folder / "f.nc", "cell", fields["cell_id"].values, columns, START, DAY)
    columns = {"discharge": (rng.uniform(0, 5, (70, n_gauges)), "m3 s-1")}
    write_series(folder / "o.nc", "gauge", fields["gauge_id"].values, columns, START, DAY)
    config = change_training(config, gauge_weights="incremental_area", **training)
    return dataset(change_config(
        config, **{key: str(folder / name) for key, name in
                   (("domain", "own.nc"), ("forcing", "f.nc"), ("observations", "o.nc"))},
    ))


def test_unknown_gauges_are_named(case):
    with pytest.raises(ConfigError, match=r"no gauge 'gX'. Known: g0, g1, g2, g3\."):
        dataset(case, gauges=["g0", "gX"])


def test_a_held_out_fold_leaves_a_whole_basin_out(case):
    """g1 and g2 lie above g0, g3 in the other basin."""
    kept = [dataset(case, folds=2, held_out_fold=k).gauges.tolist() for k in (0, 1)]
    assert kept == [[3], [0, 1, 2]]
    assert dataset(case, folds=2, held_out_fold=1, gauges=["g2", "g0"]).gauges.tolist() == [2, 0]


def test_a_held_out_fold_that_cannot_be(case):
    with pytest.raises(ConfigError, match=r"3 asked for, expected 1 to 2: .*independent trees"):
        dataset(case, folds=3, held_out_fold=0)
    with pytest.raises(ConfigError, match="held_out_fold: 0 holds all 2 chosen gauges"):
        dataset(case, folds=2, held_out_fold=0, gauges=["g0", "g1"])
    with pytest.raises(ConfigError, match="held_out_fold is 2; expected 0 to 1"):
        dataset(case, folds=2, held_out_fold=2)


def with_observations(case, folder, change):
    """The case with changed observations."""
    run = load_config(case)
    _, observed = read_observations(run.observations, ["g0", "g1", "g2", "g3"], run.start, run.end, DAY)
    change(observed)
    ids = np.array(["g0", "g1", "g2", "g3"], object)
    path = write_series(folder / "changed.nc", "gauge", ids, {"discharge": (observed, "m3 s-1")}, START, DAY)
    return change_config(case, f"{folder.name}.yaml", observations=str(path))


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_a_gauge_without_varying_observations_in_the_period_is_refused(case, tmp_path, value):
    def change(observed):
        observed[:50, 1] = value

    config = with_observations(case, tmp_path, change)
    with pytest.raises(ObservationError, match="gauge g1 has no varying discharge in the training period"):
        dataset(config)
    assert dataset(config, gauges=["g0", "g2"]).observed.shape == (70, 2)


def test_all_gauges_without_observations_are_named_at_once(case, tmp_path):
    def change(observed):
        observed[:50, 1:] = np.nan

    config = with_observations(case, tmp_path, change)
    with pytest.raises(ObservationError, match=r"3 gauges .g1, g2, g3. have no varying discharge"):
        dataset(config)


def test_a_validation_period_without_observations_is_refused(case, tmp_path):
    def change(observed):
        observed[50:60] = np.nan

    config = with_observations(case, tmp_path, change)
    with pytest.raises(ObservationError, match="no training gauge has varying discharge in the period validate_on"):
        dataset(config, validate_on=[at(DAY, 50), at(DAY, 60)])
    dataset(config, validate_on=[at(DAY, 50), at(DAY, 70)])


def test_a_domain_without_gauges_is_refused(tmp_path):
    fields = {n: f for n, f in attribute_fields(1, 6, 4).items() if not n.startswith("gauge")}
    config = write_training_case(tmp_path / "case")
    write_domain(tmp_path / "case" / "domain.nc", fields)
    run, keys = load_train_config(config)
    rng = np.random.default_rng(1)
    columns = {n: (rng.uniform(0, 5, (70, 4)), "mm d-1") for n in ("precipitation", "potential_evapotranspiration")}
    write_series(run.forcing, "cell", fields["cell_id"].values, columns, START, DAY)
    with pytest.raises(ConfigError, match="has no gauges to train on"):
        Dataset(run, keys, read_domain(run.domain))


# ---- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["train", "validate_on"])
@pytest.mark.parametrize("period", [(-1, 20), (20, 71), (200, 300)])
def test_periods_outside_the_run(case, key, period):
    with pytest.raises(ConfigError, match=rf"^{key} is .* expected within the run, 2001-03-01T00:00:00 to "):
        dataset(case, **{key: [at(DAY, k) for k in period]})


@pytest.mark.parametrize("keys", [{"forcing": "caller"}, {"observations": None}])
def test_files_are_needed(case, keys):
    with pytest.raises(ConfigError, match="training needs files in 'forcing' and 'observations'"):
        Trainer(change_config(case, **keys), ALONE)


def test_snow_needs_the_mean_annual_snowfall(case, tmp_path):
    fields = attribute_fields(4, 14, 8)
    del fields["mean_annual_snowfall"]
    path = write_domain(tmp_path / "domain.nc", fields)
    with pytest.raises(DomainError, match="snow is 'cemaneige' but 'mean_annual_snowfall'"):
        dataset(change_config(case, "snow.yaml", domain=str(path), snow="cemaneige"))


# ---- other files, other calendars of steps ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_store_of_forcing_trains_as_its_file_does(case):
    """A folder of chunks has a fingerprint too, which changes with any of its files."""
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("zarr")
    store = case.parent / "forcing.zarr"
    with xarray.open_dataset(case.parent / "forcing.nc") as data:
        data["cell_id"] = data.cell_id.astype(str)
        data.to_zarr(store, mode="w", consolidated=False, zarr_format=2)
    keys = {"updates": 1, "epochs": 1}
    of_file = train(change_training(case, "file.yaml", output="out/file.safetensors", **keys))[0]
    path = change_training(case, "store.yaml", output="out/store.safetensors", **keys)
    of_store = train(change_config(path, "store.yaml", forcing="forcing.zarr"))[0]
    for name, weight in of_file.generator.named_parameters():
        assert (weight == dict(of_store.generator.named_parameters())[name]).all(), name
    found = of_store.fingerprints["forcing"]
    assert len(found) == 64 and found != of_file.fingerprints["forcing"] and content_digest(store) == found
    chunk = next(p for p in sorted(store.rglob("*")) if p.is_file() and p.stat().st_size > 100)
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
    assert content_digest(store) != found


@pytest.mark.parametrize(("keys", "within"), [
    ({"train": [at(DAY, 0), "2001-04-20T12:00"]}, "train has 2001-04-20T12:00:00"),
    ({"train": ["2001-03-01T01:00", at(DAY, 50)]}, "train has 2001-03-01T01:00:00"),
    ({"validate_on": ["2001-03-05T23:00", at(DAY, 50)]}, "validate_on has 2001-03-05T23:00:00"),
])
def test_a_period_within_a_step_is_refused_with_the_steps_beside(case, keys, within):
    """Whether it is meant to count is not for a training to guess."""
    with pytest.raises(ConfigError, match=f"{within}, within the step of the run that begins at") as told:
        dataset(case, **keys)
    assert re.search(r"expected the begin of a step: that, or 2001-\d\d-\d\dT00:00:00\.", str(told.value))


def test_hours_are_whole_steps_of_an_hourly_run(tmp_path):
    config = write_training_case(tmp_path, step=HOUR, n_steps=140)
    data = dataset(config, train=["2001-03-01T03:00", "2001-03-03T05:00"])
    assert data.steps_of(data.config.train) == slice(3, 53)
    with pytest.raises(ConfigError, match="within the step of the run that begins at 2001-03-01T03:00:00"):
        dataset(config, train=["2001-03-01T03:30", "2001-03-03T05:00"])


def test_gauges_of_a_fold_that_is_held_out_are_named(case):
    assert dataset(case).held_out == []
    both = [dataset(case, folds=2, held_out_fold=k) for k in (0, 1)]
    assert both[0].held_out == ["g0", "g1", "g2"] and both[0].ids == ["g3"]
    assert both[1].held_out == ["g3"] and both[1].ids == ["g0", "g1", "g2"]
    some = dataset(case, folds=2, held_out_fold=1, gauges=["g2", "g0"])
    assert some.ids == ["g2", "g0"] and some.held_out == ["g3"], "in the order that they were asked for"
