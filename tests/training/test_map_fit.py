"""Cells fitted to maps: the baseflow index and its slopes, maps that are met, blocks, files, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
import yaml
from cases import write_series
from click.testing import CliRunner
from training_cases import N_CELLS, change_training, write_training_case

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.evaluate.signatures import baseflow_index
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.maps.files import read_maps
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.parameter_file import read_parameters, save_parameters
from cdlm_training.cli import main
from cdlm_training.loss import baseflow_indices
from cdlm_training.map_fit.cells import Aim, CellModel, fit_cells, residuals
from cdlm_training.map_fit.config import load_map_fit
from cdlm_training.map_fit.rivers import check_rivers, fit_rivers
from cdlm_training.map_fit.run import _read_block
from cdlm_training.scores import simulate_gauges

N_STEPS, N_FOLDS = 70, 2


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training case with maps for its cells, of two folds, and a fit to them."""
    folder = tmp_path_factory.mktemp("maps")
    config = write_training_case(folder, n_steps=N_STEPS, snow="cemaneige")
    domain = read_domain(folder / "domain.nc")
    n_gauges = len(domain.gauges.id)
    fold = np.array([0, 0, 0, 1])  # g0, g1 and g2 are nested
    rng = np.random.default_rng(5)
    with netCDF4.Dataset(folder / "maps.nc", "w") as out:
        for name, size in (("cell", N_CELLS), ("gauge", n_gauges), ("fold", N_FOLDS)):
            out.createDimension(name, size)
        for name, dims, values in (
            ("cell_id", ("cell",), np.array(domain.cells.id, object)),
            ("gauge_id", ("gauge",), np.array(domain.gauges.id, object)),
            ("gauge_fold", ("gauge",), fold), ("gauge_used", ("gauge",), np.ones(n_gauges, "i1")),
            ("gauge_seen", ("fold", "gauge"), (fold != np.arange(N_FOLDS)[:, None]).astype("i1")),
            ("hysep_window", (), np.array(5, "i4")),
            ("mean_runoff", ("cell",), rng.uniform(400, 900, N_CELLS)),
            ("mean_runoff_fold", ("fold", "cell"), rng.uniform(400, 900, (N_FOLDS, N_CELLS))),
            ("baseflow_index", ("cell",), rng.uniform(0.55, 0.75, N_CELLS)),
            ("baseflow_index_fold", ("fold", "cell"), rng.uniform(0.55, 0.75, (N_FOLDS, N_CELLS))),
        ):
            kind = str if values.dtype == object else values.dtype
            out.createVariable(name, kind, dims)[...] = values
    content = yaml.safe_load(change_training(config).read_text())
    content["map_fit"] = {"maps": "maps.nc", "output": "fitted.nc", "warm_up": 10, "folds": True}
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_baseflow_indices_are_those_of_records() -> None:
    flow = np.random.default_rng(2).gamma(0.7, 2.0, (60, 4))
    for window, area in ((7, 700.0), (3, 50.0)):
        found = baseflow_indices(torch.from_numpy(flow), window).numpy()
        np.testing.assert_allclose(found, [baseflow_index(series, area) for series in flow.T], rtol=1e-13)
    series = torch.tensor([[3.0], [1.0], [2.0], [5.0]], dtype=torch.float64, requires_grad=True)
    baseflow_indices(series, 3).sum().backward()  # baseflow 1 + 1 + 1 + 2 of 11
    np.testing.assert_allclose(series.grad[:, 0], [-5 / 121, 3 / 11 - 5 / 121, 1 / 11 - 5 / 121, -5 / 121], rtol=1e-13)


def test_slopes_and_a_known_truth(case: Path) -> None:
    """Slopes against central differences; from signatures of a run the parameters behind it are found."""
    fit = load_map_fit(case)
    domain, workers = read_domain(fit.run.domain), Workers(1)
    cells = np.array([1, 3, 6])
    prior = {
        p.name: np.full(cells.size, p.range_at(fit.run.time_step).default, float)
        for process in fit.run.chain.cells for p in process.parameters if not p.optional
    }
    model = CellModel(fit.run, domain, cells, _read_block(fit, domain, cells, workers), prior, fit.free, workers)
    truth = np.array([[0.4, -0.6, 0.1], [-1.0, 0.3, -0.5]])
    nothing = Aim(np.ones(3), np.zeros(3), 5, 1.0, 1e-9, 10)
    came = residuals(model, truth, nothing)[2]
    aim = Aim(came[0], came[1], 5, 2.0, 1e-9, 10)
    start = np.zeros((2, 3))
    slopes = residuals(model, start, aim)[1]
    for k in range(2):
        step = np.zeros((2, 3))
        step[k] = 1e-6
        numeric = (residuals(model, start + step, aim)[0] - residuals(model, start - step, aim)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, k], numeric, rtol=1e-5, atol=1e-8)
    found = fit_cells(model, start, aim, 40)
    np.testing.assert_allclose([found.runoff / came[0], found.baseflow / came[1]], 1.0, atol=2e-4)
    np.testing.assert_allclose(found.z, truth, atol=2e-2)


@pytest.mark.slow
def test_the_command(case: Path) -> None:
    """Files of all gauges and folds; a block that was done is not done again; every gauge by the fold that is blind."""
    with netCDF4.Dataset(case.parent / "maps.nc", "a") as data:
        data.period = "1999-01-01T00:00:00 2001-01-01T00:00:00"
    first = CliRunner().invoke(main, ["fit-maps", str(case)])
    assert first.exit_code == 0, first.output
    assert "the maps are of records from 1999-01-01T00:00:00 to" in " ".join(first.output.split())
    folder, run = case.parent, load_map_fit(case).run
    domain = read_domain(run.domain)
    with netCDF4.Dataset(folder / "fitted_fold1_cells.nc") as data, netCDF4.Dataset(folder / "maps.nc") as maps:
        drains = domain.cells.drained_area > 0
        error = np.abs(data["mean_runoff"][:] / maps["mean_runoff_fold"][1] - 1)[drains & (data["state"][:] == 1)]
        assert error.size > 1
        assert error.max() < 0.01
    with netCDF4.Dataset(folder / "fitted_fold1.nc") as data:
        assert json.loads(data.learned_from) == ["g0", "g1", "g2"]
    whole, blind = (read_parameters(folder / n, domain, run.time_step) for n in ("fitted.nc", "fitted_fold1.nc"))
    assert (whole["pet_factor"] != blind["pet_factor"]).any()
    np.testing.assert_array_equal(whole["production_capacity"], blind["production_capacity"])
    _, unseen = read_observations(folder / "fitted_unseen.nc", domain.gauges.id, run.start, run.end, run.time_step)
    assert np.isfinite(unseen).all()


def test_a_fit_goes_on_after_a_kill(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cdlm_training.map_fit import run as module

    content = yaml.safe_load(case.read_text())
    content["map_fit"] |= {"output": "again.nc", "folds": False, "iterations": 2}
    path = case.with_name("again.yaml")
    path.write_text(yaml.safe_dump(content))
    done, whole = [], module.fit_cells
    monkeypatch.setattr(module, "SERIES", 256 * 2**20 // (8 * N_STEPS * 3))  # three cells to a block

    def killed(*arguments: object) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return whole(*arguments)

    monkeypatch.setattr(module, "fit_cells", killed)
    with pytest.raises(KeyboardInterrupt):
        module.run_map_fit(path, lambda text: None)
    assert not (case.parent / "again.nc").exists()
    calls = []
    monkeypatch.setattr(module, "fit_cells", lambda *a: calls.append(1) or whole(*a))
    told: list[str] = []
    module.run_map_fit(path, told.append)
    n_blocks = sum("block" in text for text in told)
    assert n_blocks > 1
    assert len(calls) == n_blocks - 1
    assert not (case.parent / "again_blocks").exists()


def test_celerity_of_rivers_from_the_timing_of_hydrographs(case: Path, tmp_path: Path) -> None:
    """Observations are a run with a known celerity above each gauge; unseen gauges tell nothing."""
    content = yaml.safe_load(case.read_text())
    content["map_fit"] |= {"rivers": True, "folds": False}
    path = case.with_name("rivers.yaml")
    path.write_text(yaml.safe_dump(content))
    fit = load_map_fit(path)
    domain = read_domain(fit.run.domain)
    check_rivers(fit.run)
    truth = np.full(domain.n_reaches, 1.0)
    for gauge, value in (("g0", 0.4), ("g1", 2.0), ("g2", 0.7), ("g3", 3.0)):  # upstream ones last
        lo, hi = upstream_of(domain.reaches.downstream, int(domain.gauges.reach[domain.gauges.id.index(gauge)]))
        truth[lo:hi] = value
    prior = {
        p.name: np.full(domain.n_cells, p.range_at(DAY).default, float)
        for process in fit.run.chain.cells for p in process.parameters if not p.optional
    }
    save_parameters(tmp_path / "truth.nc", domain, DAY, {
        **prior, "celerity": truth, "weighting": np.full(domain.n_reaches, 0.1),
    }, {})
    cold = fit.run.model_copy(update={"initial_state": "steady"})
    ids, discharge = simulate_gauges(cold, tmp_path / "truth.nc")
    write_series(tmp_path / "observed.nc", "gauge", np.array(ids, object), {"discharge": (discharge, "m3 s-1")},
                 fit.run.start, DAY)
    seen = fit._replace(run=fit.run.model_copy(update={"observations": tmp_path / "observed.nc"}))
    workers = Workers(1)
    found = fit_rivers(
        seen, domain, {**prior, "weighting": np.full(domain.n_reaches, 0.1)}, ["g0", "g1", "g3"],
        lambda own: _read_block(fit, domain, own, workers), workers,
    )
    place = {g: int(domain.gauges.reach[k]) for k, g in enumerate(domain.gauges.id)}
    n_sharp = 0
    for gauge in ("g1", "g3"):
        lo, hi = upstream_of(domain.reaches.downstream, place[gauge])
        if domain.reaches.length[lo:hi].sum() > 2e4:
            np.testing.assert_allclose(found[lo:hi], truth[place[gauge]], rtol=0.02)
            n_sharp += 1
        assert np.unique(found[lo:hi]).size == 1
    assert n_sharp, "a river long enough to tell its celerity from the timing of days"
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("change", "text"), [
    ({"volume": "percolation"}, "frees 'percolation'"), ({"warm_up": 70}, "Expected more"),
    ({"prior_of_folds": "lumped.nc"}, "no {fold} in it"), ({"wait": 2}, "unknown key 'wait'"),
    ({"storage": "pet_factor"}, "name one parameter"),
])
def test_refusals(case: Path, change: dict, text: str) -> None:
    content = yaml.safe_load(case.read_text())
    content["map_fit"] |= change
    path = case.with_name("refused.yaml")
    path.write_text(yaml.safe_dump(content))
    found = CliRunner().invoke(main, ["fit-maps", str(path)])
    assert found.exit_code == 1
    assert text in found.output


def test_maps_that_saw_the_gauges_of_a_fold_are_refused(case: Path) -> None:
    with netCDF4.Dataset(case.parent / "maps.nc", "a") as data:
        seen = data["gauge_seen"][:]
        data["gauge_seen"][1, 3] = 1
    try:
        found = CliRunner().invoke(main, ["fit-maps", str(case)])
    finally:
        with netCDF4.Dataset(case.parent / "maps.nc", "a") as data:
            data["gauge_seen"][:] = seen
    assert found.exit_code == 1
    assert "the maps of fold 1 were learned from gauge g3" in found.output


def prior_of(case: Path, name: str, **attributes: str) -> Path:
    """A parameter file of the case that says what it was fitted to."""
    domain = read_domain(case.parent / "domain.nc")
    values = {"production_capacity": np.full(N_CELLS, 200.0)}
    save_parameters(case.parent / name, domain, DAY, values, attributes)
    return case.parent / name


@pytest.mark.parametrize(("seen", "said"), [
    ({"gauges": '["g3"]'}, "parameters: .* was fitted to gauge g3, which fold 1 holds out"),
    ({"learned_from": '["x", "g0"]'}, r"was fitted to gauge g0, which fold 0 holds out \(1 of 3"),
    ({"gauges": '["x"]'}, None), ({}, None), ({"gauges": "g0, g3"}, None),
])
def test_a_prior_that_saw_the_gauges_of_a_fold_is_refused(case: Path, seen: dict, said: str | None) -> None:
    """As `parameters` of all folds, and as the file of one; what does not say is taken."""
    from cdlm_training.map_fit.run import _check_prior

    held_out = [["g0", "g1", "g2"], ["g3"]]
    path = prior_of(case, "seen_prior.nc", **seen)
    content = yaml.safe_load(case.read_text())
    case.with_name("prior.yaml").write_text(yaml.safe_dump({**content, "parameters": str(path)}))
    content["map_fit"] |= {"prior_of_folds": str(case.parent / "seen_prior{fold}.nc")}
    case.with_name("priors.yaml").write_text(yaml.safe_dump(content))
    for k in range(N_FOLDS):
        (case.parent / f"seen_prior{k}.nc").write_bytes(path.read_bytes())
    for name, key in (("prior.yaml", "parameters"), ("priors.yaml", "map_fit.prior_of_folds")):
        fit, found = load_map_fit(case.with_name(name)), []
        for k in range(N_FOLDS):
            try:
                _check_prior(fit, k, held_out[k])
            except ConfigError as cause:
                found.append(str(cause))
        assert len(found) == (said is not None)
        if said is not None:
            assert re.search(said.replace("parameters: ", f"{key}: "), found[0]), found


def test_a_prior_that_saw_stops_the_command_before_anything_is_fitted(case: Path) -> None:
    content = yaml.safe_load(case.read_text())
    content["parameters"] = str(prior_of(case, "one_prior.nc", gauges='["g3"]'))
    content["map_fit"] |= {"output": "unseen.nc"}
    case.with_name("stops.yaml").write_text(yaml.safe_dump(content))
    found = CliRunner().invoke(main, ["fit-maps", str(case.with_name("stops.yaml"))])
    assert found.exit_code == 1 and "which fold 1 holds out" in " ".join(found.output.split())
    assert not list(case.parent.glob("unseen*"))


def test_a_block_is_of_the_years_and_the_keys_that_it_was_fitted_with(case: Path) -> None:
    """Another begin of the run with as many steps, or another way to fill gaps, is another fit."""
    from cdlm_training.map_fit.run import _identity
    from cdlm_training.map_fit.run import _prior as prior

    def identity(**keys: object) -> str:
        content = yaml.safe_load(case.read_text())
        case.with_name("block.yaml").write_text(yaml.safe_dump({**content, **keys}))
        fit = load_map_fit(case.with_name("block.yaml"))
        domain = read_domain(fit.run.domain)
        return _identity(fit, prior(fit, domain, None), read_maps(fit.config.maps, domain))

    own = identity()
    assert identity() == own and identity(threads=2, output="run.nc") == own
    for keys in (
        {"start": "2001-03-02", "end": "2001-05-11"}, {"forcing_fill": "hold"}, {"memory": "64 MiB"},
        {"map_fit": {**yaml.safe_load(case.read_text())["map_fit"], "warm_up": 11}},
    ):
        assert identity(**keys) != own, keys


def test_a_period_within_a_step_is_refused(case: Path) -> None:
    content = yaml.safe_load(case.read_text())
    content["map_fit"] |= {"period": ["2001-03-01T06:00", "2001-05-01T06:00"]}
    case.with_name("within.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"map_fit\.period has 2001-03-01T06:00:00, within the step"):
        load_map_fit(case.with_name("within.yaml"))


def test_what_the_attributes_leave_out_keeps_the_prior(case: Path) -> None:
    from cdlm_training.map_fit.run import _fitted_cells

    fit = load_map_fit(case)
    domain = read_domain(fit.run.domain)
    forest = read_attributes(fit.run.domain, domain, "cell", ["forest"]).values[:, 0]
    limit = float(np.median(forest))
    drains = domain.cells.drained_area > 0
    some = fit._replace(config=fit.config.model_copy(update={"left_out": {"forest": limit}}))
    np.testing.assert_array_equal(_fitted_cells(some, domain), drains & (forest <= limit))
    np.testing.assert_array_equal(_fitted_cells(fit, domain), drains)
    assert 0 < _fitted_cells(some, domain).sum() < drains.sum()
