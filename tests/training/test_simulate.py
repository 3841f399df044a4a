"""The chain from weights to discharge: equal to the runtime, cut into parts, with right gradients."""

from __future__ import annotations

from contextlib import closing
from itertools import combinations

import numpy as np
import pytest
import torch
from cases import START, add_cell_attribute, case_forcing, change_config
from make_domain import lumped_domain
from training_cases import ALONE, N_CELLS, Trainer, change_training, drawn_trainer, write_training_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.parameter_file import read_parameters
from bmi_cdlm.run.simulation import Simulation
from cdlm_training import simulate
from cdlm_training.evaluate import write_checkpoint
from cdlm_training.loss import baseflow_index_term, mean_runoff_term
from cdlm_training.operators import Route
from cdlm_training.scores import GaugeRuns, simulate_gauges
from cdlm_training.simulate import make_part, make_parts

RUNS = {
    "daily, no snow": {"snow": "none"},
    "daily, CemaNeige": {"snow": "cemaneige", "learn_weighting": True},
    "daily, hysteresis, no PET factor": {"snow": "cemaneige_hysteresis", "pet_factor": False},
    "daily, linear, routing fixed": {"snow": "cemaneige", "mapping": "linear", "learn_routing": False},
    "daily, corrected rain and snow": {"precipitation": "undercatch", "snow": "cemaneige"},
    "daily, three components": {"snow": "cemaneige", "components": 3},
    "hourly, power": {"snow": "cemaneige_hysteresis", "step": HOUR, "n_steps": 140, "mapping": "power"},
}


@pytest.mark.parametrize("run", RUNS)
def test_the_chain_equals_the_runtime(tmp_path, run):
    options = {"n_steps": 70, **RUNS[run]}
    cycles = 4
    config = write_training_case(tmp_path, spin_up=cycles, warm_up=cycles * options["n_steps"], **options)
    trainer = drawn_trainer(config)
    write_checkpoint(tmp_path / "drawn.safetensors", trainer, None)
    ids, expected = simulate_gauges(trainer.run, tmp_path / "drawn.safetensors")
    window = trainer.data.window(0, options["n_steps"])
    seen = []
    for part in trainer.parts:
        with torch.no_grad():
            simulated = trainer.chain(part, window)
        places = trainer.data.gauges[part.gauges]
        got = simulated.discharge.numpy()
        np.testing.assert_allclose(got, expected[:, places], rtol=1e-9, atol=1e-12)
        assert simulated.runoff.shape == (options["n_steps"], part.cells.size)
        assert (simulated.pet_factor is None) == (trainer.spec.pet is None)
        seen += [ids[i] for i in places]
    assert sorted(seen) == ["g0", "g1", "g2", "g3"]
    assert expected.std(axis=0).min() > 0


def test_gauges_alone_have_the_bits_of_the_whole_domain_one_checkpoint_after_another(tmp_path):
    trainer = drawn_trainer(write_training_case(tmp_path, snow="cemaneige", spin_up=1))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write_checkpoint(first, trainer, None)
    with torch.no_grad():
        for weight in trainer.generator.parameters():
            weight.mul_(0.5)
    write_checkpoint(second, trainer, None)
    end = trainer.run.start + np.timedelta64(30, "D")
    with closing(GaugeRuns(trainer.run)) as runs, closing(GaugeRuns(trainer.run, end)) as shorter:
        for path in (first, second, first):
            ids, found = runs(path)
            expected_ids, expected = run_of_the_whole(trainer.run.model_copy(update={"parameters": path}))
            assert ids == expected_ids and found.tobytes() == expected.tobytes()
            assert shorter(path)[1].tobytes() == found.tobytes()  # a year of the record for the spin-up: all of it


def run_of_the_whole(run):
    """Gauge ids and discharge [time, gauge] of a run of all reaches."""
    blocks: list[np.ndarray] = []
    with closing(Simulation(run)) as simulation:
        simulation.run_blocks(["gauge_discharge"], lambda _, values: blocks.append(values["gauge_discharge"].copy()))
    return simulation.model.domain.gauges.id, np.concatenate(blocks)


def test_without_routing_learned_the_celerity_keeps_its_default(tmp_path):
    trainer = Trainer(write_training_case(tmp_path, learn_routing=False), ALONE)
    celerity = trainer.generator.reach_parameters(trainer.chain.attributes.reach)["celerity"]
    np.testing.assert_allclose(celerity.detach().numpy(), 1.0, rtol=1e-12)
    trainer.gradient([trainer.data.window(0, 20)])
    assert all(w.grad is None for w in trainer.generator.reach.parameters())


# ---- parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gauges", "expected"), [
    ("all", [{"g0", "g1", "g2"}, {"g3"}]), (["g2", "g1"], [{"g1"}, {"g2"}]),
    (["g3", "g2", "g0"], [{"g0", "g2"}, {"g3"}]),
])
def test_parts_are_independent_and_cover_what_is_upstream(tmp_path, gauges, expected):
    trainer = Trainer(write_training_case(tmp_path, gauges=gauges), ALONE)
    domain, data = trainer.data.domain, trainer.data
    ids = [{domain.gauges.id[data.gauges[i]] for i in part.gauges} for part in trainer.parts]
    assert sorted(ids, key=sorted) == expected
    covered = np.concatenate([part.reach_places for part in trainer.parts])
    assert np.unique(covered).size == covered.size
    above = [range(*upstream_of(domain.reaches.downstream, int(r))) for r in domain.gauges.reach[data.gauges]]
    assert set(covered.tolist()) == set().union(*above)
    for part in trainer.parts:
        assert [part.domain.reaches.id[i] for i in part.reaches] == [
            domain.reaches.id[domain.gauges.reach[data.gauges[i]]] for i in part.gauges
        ]
        assert part.domain.cells.id == [domain.cells.id[i] for i in part.cells]
        assert part.domain.reaches.id == [domain.reaches.id[i] for i in part.reach_places]


def test_two_gauges_on_one_reach_are_one_part(tmp_path):
    config = write_training_case(tmp_path)
    trainer = Trainer(config, ALONE)
    reach = trainer.data.domain.gauges.reach
    reach[2] = reach[0]
    parts = make_parts(trainer.data)
    assert sorted(sorted(p.gauges.tolist()) for p in parts) == [[0, 1, 2], [3]]


def test_many_small_parts_are_joined_and_have_the_same_gradient(tmp_path, monkeypatch):
    config = write_training_case(tmp_path, loss={"nse": 1.0, "pet_factor": 0.0})
    found = []
    for many in (2, 1):
        monkeypatch.setattr(simulate, "MANY_PARTS", many)
        trainer = drawn_trainer(config)
        loss = trainer.gradient([trainer.data.window(5, 25)])
        found.append((loss, [w.grad.clone() for w in trainer.weights()]))
        assert len(trainer.parts) == many
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for apart, together in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-12)


def test_parts_are_joined_until_they_have_cells_enough():
    domain = lumped_domain(100)
    every = [(i, i + 1) for i in range(100)]
    assert [part.tolist() for part in simulate.joined(domain, every[:16])] == [[i] for i in range(16)]
    joined = [part.tolist() for part in simulate.joined(domain, every[:80:2])]
    assert joined == [list(range(0, 80, 2))]
    assert [len(part) for part in simulate.joined(domain, every)] == [64, 36]
    assert simulate.joined(domain, []) == []


def test_discharge_of_a_part_is_that_of_the_whole(tmp_path):
    """Within the last digits: on some processors torch multiplies matrices of other heights in another order."""
    config = write_training_case(tmp_path, snow="cemaneige")
    whole = drawn_trainer(config)
    window = whole.data.window(30, 20)
    with torch.no_grad():
        expected = {}
        for part in whole.parts:
            discharge = whole.chain(part, window).discharge.numpy()
            expected |= {f"g{g}": discharge[:, k] for k, g in enumerate(part.gauges)}
        for gauge in ("g1", "g2"):
            alone = Trainer(change_training(config, gauges=[gauge]), ALONE)
            alone.generator.load(whole.generator.tensors())
            (part,) = alone.parts
            assert part.domain.n_reaches < whole.parts[0].domain.n_reaches
            found = alone.chain(part, window).discharge.numpy()[:, 0]
            np.testing.assert_allclose(found, expected[gauge], rtol=1e-13)


@pytest.mark.parametrize(("drawn", "expected"), [
    ([1], [{"g1"}]), ([3, 0], [{"g0"}, {"g3"}]), ([2, 0], [{"g0", "g2"}]), ([0, 1, 2, 3], [{"g0", "g1", "g2"}, {"g3"}]),
])
def test_drawn_gauges_bring_what_drains_to_them(tmp_path, drawn, expected):
    trainer = Trainer(write_training_case(tmp_path, gauges=["g0", "g1", "g2", "g3"]), ALONE)
    domain = trainer.data.domain
    parts = make_parts(trainer.data, trainer.workers, np.array(drawn))
    ids = [{domain.gauges.id[trainer.data.gauges[i]] for i in part.gauges} for part in parts]
    assert sorted(ids, key=sorted) == expected
    above = [range(*upstream_of(domain.reaches.downstream, int(domain.gauges.reach[k]))) for k in drawn]
    assert {int(i) for part in parts for i in part.reach_places} == set().union(*above)
    assert {part.stands_for for part in parts} == {4 / len(drawn)}
    for part in parts:
        assert [domain.reaches.id[domain.gauges.reach[i]] for i in part.gauges] == [
            part.domain.reaches.id[i] for i in part.reaches
        ]


@pytest.mark.parametrize("weights", ["equal", "incremental_area"])
def test_the_mean_over_all_draws_is_the_gradient_of_all_gauges(tmp_path, weights):
    """Of the terms of gauges; those of cells are those of the cells drawn."""
    loss = {"nse": 1.0, "kge": 0.5, "rmse_log": 0.3, "pet_factor": 0.0}
    trainer = drawn_trainer(write_training_case(tmp_path, loss=loss, gauge_weights=weights))
    windows = [trainer.data.window(10, 25)]

    def gradient(parts):
        value = trainer.gradient(windows, parts)
        return np.r_[value, torch.cat([w.grad.flatten() for w in trainer.weights()]).numpy()]

    draws = [gradient(make_parts(trainer.data, trainer.workers, np.array(d))) for d in combinations(range(4), 2)]
    whole = gradient(None)
    assert np.ptp([d[0] for d in draws]) > 0.01 * whole[0]
    np.testing.assert_allclose(np.mean(draws, axis=0), whole, rtol=1e-9, atol=1e-12 * np.abs(whole).max())


def test_updates_draw_as_many_gauges_as_asked(tmp_path):
    config = write_training_case(tmp_path, gauges_per_update=2)
    trainer = Trainer(config, ALONE)
    draws = [sorted(int(g) for part in trainer._draw_parts() for g in part.gauges) for _ in range(12)]
    assert {len(d) for d in draws} == {2} and len(set(map(tuple, draws))) > 2
    assert {g for d in draws for g in d} == {0, 1, 2, 3}
    for count in (4, 9, None):
        everything = Trainer(change_training(config, gauges_per_update=count), ALONE)
        assert everything._draw_parts() is everything.parts


# ---- gradients -------------------------------------------------------------------------------------------

EVERYTHING = {
    "loss": {"nse": 1.0, "kge": 0.5, "rmse_log": 0.3, "mean_runoff": 0.2, "baseflow_index": 0.6, "pet_factor": 0.4,
             "pet_roughness": 3.0},
    "mean_runoff_attribute": "mean_runoff", "baseflow_index_attribute": "baseflow_index",
    "gauge_weights": "incremental_area",
}


MAPS = {"loss": {"mean_runoff": 0.2, "baseflow_index": 0.6}, "mean_runoff_attribute": "mean_runoff",
        "baseflow_index_attribute": "baseflow_index"}


@pytest.mark.parametrize("run", [pytest.param(r, marks=pytest.mark.slow if "hourly" in r else ()) for r in RUNS])
def test_the_gradient_of_every_weight_is_that_of_the_loss(tmp_path, run, monkeypatch):
    monkeypatch.setattr("bmi_cdlm.model.cell_operator.BLOCK_STEPS", 16)
    monkeypatch.setattr("bmi_cdlm.model.route_adjoint.block_steps", lambda *_: 4)
    trainer = drawn_trainer(write_training_case(tmp_path, **RUNS[run], **EVERYTHING))
    windows = [trainer.data.window(first, 25) for first in (3, 20)]
    trainer.gradient(windows)
    rng = np.random.default_rng(1)
    for name, weight in trainer.generator.named_parameters():
        if not weight.requires_grad:
            continue
        gradient, h = weight.grad.clone(), 1e-5
        way = torch.from_numpy(rng.normal(size=tuple(weight.shape)))
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * h * way
            losses.append(trainer.gradient(windows))
            with torch.no_grad():
                weight -= sign * h * way
        slope = float((gradient * way).sum())
        assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(slope, rel=2e-4, abs=1e-8), name


@pytest.mark.parametrize("draw", [{}, {"gauges_per_update": 1}, {"pairs_per_update": 1, "updates": 2}])
def test_maps_hold_cells_that_drain_to_no_gauge(tmp_path, draw):
    """Their loss is the mean over all cells, and teaches the generator; without maps they are not run."""
    case = write_training_case(tmp_path, pet_factor=False, gauges=["g2"], loss={"nse": 1e-9, **MAPS["loss"]},
                               **{k: v for k, v in MAPS.items() if k != "loss"}, **draw)
    trainer = drawn_trainer(case)
    domain, beyond, workers = trainer.data.domain, trainer.beyond, trainer.workers
    assert sum(p.domain.cells.drained_area.sum() for p in (*trainer.parts, beyond)) == pytest.approx(
        domain.cells.drained_area.sum(), rel=1e-12)
    assert beyond.cells.size > trainer.parts[0].cells.size
    everywhere = make_part(trainer.data, np.arange(domain.n_reaches), np.arange(1), workers, 1.0)
    window = trainer.data.window(10, 40)
    whole, own = (trainer.chain(part, window).runoff for part in (everywhere, beyond))
    at = np.searchsorted(everywhere.cells, beyond.cells)
    torch.testing.assert_close(own, whole[:, at])
    expected = 0.0
    for part in (*trainer.parts, beyond):
        runoff = whole[:, np.searchsorted(everywhere.cells, part.cells)].detach()
        area = torch.from_numpy(part.domain.cells.drained_area)
        maps = {name: torch.from_numpy(trainer.objective.maps[name][part.cells]) for name in trainer.objective.maps}
        terms = 0.2 * mean_runoff_term(runoff, maps["mean_runoff"], area)
        terms += 0.6 * baseflow_index_term(runoff, maps["baseflow_index"], area, 5)
        expected += float(terms) * part.cells.size / (trainer.parts[0].cells.size + beyond.cells.size)
    assert trainer.gradient([window]) == pytest.approx(expected, rel=1e-6)
    with_map = trainer.generator.cell.each[0].weight.grad.clone()
    if draw:
        trainer._update(lambda loss: None)
    trainer.beyond = None
    trainer.gradient([window])
    assert not torch.allclose(with_map, trainer.generator.cell.each[0].weight.grad, rtol=1e-3)
    assert Trainer(change_training(case, loss={"nse": 1.0}), ALONE).beyond is None


TRANSFORMED = {"nse": 0, "nse_root": 0.5, "nse_inverse": 0.1, "nse_log": 0.3, "nse_box_cox": 0.7, "kge_root": 0.2,
               "kge_inverse": 0.4, "signatures": {"Crc": 0.2}, "events": {"Epf": 0.3}, "flood_quantile": 0.7}


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["lower_quartile", "upper_quartile", {"g0": 1, "g1": 4, "g2": 2, "g3": 3}])
def test_gauges_come_together_as_they_are_weighed(tmp_path, weights):
    """The loss is a quantile, or a mean, of what each gauge costs alone; its slope is that of its values."""
    case = write_training_case(tmp_path, loss={**TRANSFORMED, "pet_factor": 0}, gauge_weights=weights, missing=0.01)
    trainer = drawn_trainer(case)
    windows = [trainer.data.window(first, 25) for first in (3, 20)]
    costs = np.zeros(4)
    for k in range(4):
        for part in make_parts(trainer.data, trainer.workers, np.array([k])):
            costs[k] += np.mean([trainer.objective.costs(window, part)[0] for window in windows])
    if isinstance(weights, str):
        expected = np.quantile(costs, {"lower_quartile": 0.25, "upper_quartile": 0.75}[weights])
    else:
        expected = np.dot(costs, [0.1, 0.4, 0.2, 0.3])
    loss = trainer.gradient(windows)
    assert loss == pytest.approx(expected, rel=1e-9) and np.ptp(costs) > 0.01 * loss
    weight = trainer.generator.cell.each[-1].bias
    slopes, values = weight.grad.clone(), []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            weight += step
        values.append(trainer.gradient(windows))
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(slopes.sum()), rel=1e-5)


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("snow", ["none", "cemaneige", "cemaneige_hysteresis"])
def test_the_adjoint_of_the_model_is_the_gradient_of_torch(tmp_path, snow, step):
    """Forcing, through the PET network too, and parameters, for a start with stores at their fill."""
    n_steps = 40
    config = write_training_case(tmp_path, snow=snow, step=step, n_steps=n_steps, learn_weighting=True)
    trainer = drawn_trainer(config)
    write_checkpoint(tmp_path / "drawn.safetensors", trainer, None)
    domain = read_domain(trainer.run.domain)
    values, pet = load_checkpoint(tmp_path / "drawn.safetensors").evaluate(trainer.run.domain, domain)
    days = day_of_year(START + np.arange(n_steps) * np.timedelta64(step, "s"))
    forcing = case_forcing(n_steps, N_CELLS)
    forcing = forcing._replace(day_of_year=days, air_temperature=forcing.air_temperature - 6.0)
    model = Model(domain, values, step=step, routing_step=trainer.run.routing_step, snow=snow, pet=pet)
    discharge = model.record(forcing)
    pull = np.random.default_rng(3).normal(size=discharge.shape)
    got = model.adjoint(pull)

    P, E, T = (torch.from_numpy(a.copy()).requires_grad_() for a in forcing[:3])
    values = {"precipitation": P, "potential_evapotranspiration": E}
    if snow != "none":
        values["air_temperature"] = T
    factor = trainer.generator.pet_factor(P, E, T, torch.from_numpy(days), trainer.chain.attributes.pet)
    p = {n: torch.from_numpy(np.array(v)).requires_grad_() for n, v in model.parameters.items()}
    series = {**values, "pet_factor": factor}
    operators = Operators(model.chain, domain, step, trainer.run.routing_step, varying=["pet_factor"])
    for operator in operators.cells:
        series[operator.gives] = trainer.chain._advance(operator, series, p)
    river = ("celerity", "weighting")
    every = np.arange(domain.n_reaches)
    routed = Route.apply(operators.reach, every, 0, False, river, series["runoff"], *(p[n] for n in river))
    np.testing.assert_allclose(routed.detach().numpy(), discharge, rtol=1e-9, atol=1e-13)
    (routed * torch.from_numpy(pull)).sum().backward()
    expected = {n: t.grad.numpy() for n, t in (values | p).items() if t.grad is not None and t.grad.any()}
    found = got.forcing | got.parameters
    # Torch starts with stores at their fill, of which the adjoint of the model tells by themselves.
    found["production_capacity"] = found["production_capacity"] + 0.3 * got.state["production_store"]
    found["routing_capacity"] = found["routing_capacity"] + 0.5 * got.state["routing_store"]
    if snow == "cemaneige_hysteresis":  # whose peak starts at full cover
        peak = got.state["snow_peak"] * domain.cells.mean_annual_snowfall
        found["cover_ratio_threshold"] = found["cover_ratio_threshold"] + peak
    for name, gradient in expected.items():
        atol = 1e-10 * np.abs(gradient).max()
        np.testing.assert_allclose(found[name], gradient, rtol=1e-7, atol=atol, err_msg=name)
    needed = {*values, *(p.name for process in (*model.chain.cells, model.chain.reach) for p in process.parameters)}
    assert needed - expected.keys() <= {"thermal_weighting", "accumulation_threshold", "pet_factor"}  # switches, mostly


def test_what_no_generator_gives_is_that_of_the_domain(tmp_path):
    """And of the fields of a training, so that a run elsewhere has it too."""
    held = np.linspace(0.5, 1.2, 8)
    config = write_training_case(tmp_path)
    config = change_config(config, runoff="gr4")
    add_cell_attribute(tmp_path / "domain.nc", "interception_capacity", held, "mm")
    trainer = Trainer(config, ALONE)
    for part in trainer.parts:
        made = trainer.chain._cell_parameters(part)
        assert made["interception_capacity"].tolist() == held[part.cells].tolist()
        assert made["production_capacity"].requires_grad
    field = change_training(config, "field.yaml", mapping="distributed", output="out/f.nc", cell_attributes=None,
                            reach_attributes=None, hidden=None, pet_factor=None)
    trainer = Trainer(field, ALONE)
    write_checkpoint(tmp_path / "f.nc", trainer, None)
    assert read_parameters(tmp_path / "f.nc", trainer.data.domain)["interception_capacity"].tolist() == held.tolist()
