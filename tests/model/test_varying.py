"""Parameters that vary in time: the same bits as one value where they do not, their gradients, and what is refused.

The factor on potential evapotranspiration is one of them: of a parameter file, of a caller, or of a network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from generator_cases import drawn_tensors, specify, write_attribute_domain
from make_domain import part_of, random_domain, random_forcing, random_parameters
from process_cases import BESIDE, HBV, RESERVOIRS, VARYING, installed

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.generator import pet_network, read_inputs
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ForcingError, ParameterError
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import known

N_STEPS = 11
CHAINS: dict[str, dict[str, Any]] = {
    "gr4j": {"snow": "cemaneige"},
    "three_stages": {"runoff": "three_stages", "routing": "reservoirs"},
    "beside_a_queue": {"runoff": "beside_a_queue", "snow": "cemaneige_hysteresis"},
    "hbv_2_0": {"runoff": "hbv_2_0"},
}
every_chain = pytest.mark.parametrize("name", CHAINS)


@pytest.fixture(autouse=True)
def processes(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.model.cell_operator.BLOCK_STEPS", 4)
    monkeypatch.setattr("bmi_cdlm.model.route_adjoint.block_steps", lambda *_: 3)
    with installed(HBV, BESIDE, RESERVOIRS):
        known()
        yield


@pytest.fixture
def domain():
    return random_domain(5, 12, 6)


def drawn(name: str, n_cells: int, n_steps: int = N_STEPS, seed: int = 1, step: int = DAY) -> dict[str, np.ndarray]:
    """Series of the parameters that vary, within their ranges."""
    rng = np.random.default_rng(seed)
    ranges = {n: parameter(n).range_at(step) for n in VARYING[name]}
    return {n: rng.uniform(r.low, r.high, (n_steps, n_cells)) for n, r in ranges.items()}


def make(domain, name: str, values=None, **options) -> Model:
    """A chain with every parameter at random, and those of `values`."""
    model = Model(domain, **CHAINS[name], **{k: v for k, v in options.items() if k == "step"})
    rng, own = np.random.default_rng(2), {}
    for n, value in model.parameters.items():
        r = parameter(n).range_at(model.step)
        own[n] = rng.uniform(r.low, r.high, value.shape)
    model.close()
    options = {"routing_step": HOUR if options.get("step", DAY) == HOUR else 6 * HOUR, **options}
    return Model(domain, own | (values or {}), **CHAINS[name], **options)


def state_of(model: Model) -> dict[str, np.ndarray]:
    return {n: a.copy() for n, a in model.state.arrays().items()}


@pytest.mark.parametrize("step", [DAY, HOUR], ids=["daily", "hourly"])
@every_chain
def test_series_of_one_value_give_the_bits_of_that_value(domain, name, step):
    n, forcing = domain.n_cells, random_forcing(3, N_STEPS, domain.n_cells)
    one = {p: a[0] for p, a in drawn(name, n, step=step).items()}
    fixed = make(domain, name, one, step=step, ledger=True)
    series = {p: np.repeat(a[None], N_STEPS, 0) for p, a in one.items()}
    varying = make(domain, name, step=step, varying=VARYING[name], ledger=True)
    assert set(VARYING[name]) - set(varying.varying) == set()
    keep = [*(f for p in fixed.chain.cells for f in p.fluxes), "discharge", "corrected_evapotranspiration"]
    theirs = {k: v.copy() for k, v in fixed.advance(forcing, keep).items()}
    ours = varying.advance(forcing._replace(varying=series), keep)
    for k, expected in theirs.items():
        assert ours[k].tobytes() == expected.tobytes(), k
    for k, expected in state_of(fixed).items():
        assert state_of(varying)[k].tobytes() == expected.tobytes(), k
    for k, expected in fixed.live.items():
        np.testing.assert_array_equal(varying.live[k], expected, err_msg=k)
    np.testing.assert_array_equal(ours["corrected_evapotranspiration"],
                                  forcing.potential_evapotranspiration * one["pet_factor"])


@every_chain
def test_steps_blocks_threads_and_restored_states_give_the_same_bits(domain, name):
    n = domain.n_cells
    forcing = random_forcing(4, N_STEPS, n)._replace(varying=drawn(name, n))
    whole, steps, several = (make(domain, name, varying=VARYING[name], threads=t) for t in (1, 1, 3))
    block = {k: v.copy() for k, v in whole.advance(forcing, ("runoff", "discharge")).items()}
    np.testing.assert_array_equal(several.advance(forcing, ("discharge",))["discharge"], block["discharge"])
    several.close()
    for t in range(N_STEPS):
        if t == 5:
            saved, steps = steps.state.copy(), make(domain, name, varying=VARYING[name])
            steps.restore(saved.on_cells(), saved.on_reaches())
        row = steps.advance(part_of(forcing, t, t + 1), ("runoff", "discharge"))
        for k, expected in block.items():
            np.testing.assert_array_equal(row[k][0], expected[t], err_msg=k)
    for k, expected in state_of(whole).items():
        assert state_of(steps)[k].tobytes() == expected.tobytes(), k


@every_chain
def test_water_closes(domain, name):
    model = make(domain, name, varying=VARYING[name], ledger=True)
    model.advance(random_forcing(4, N_STEPS, domain.n_cells)._replace(varying=drawn(name, domain.n_cells)))
    model.ledger.check(1e-12, model.state, model.live, "the end")
    assert model.live["water_out"][0] > 0 and model.live["evapotranspiration_total"].any()


def smooth(n_steps: int, n_cells: int) -> Forcing:
    """Away from the kink P = E."""
    rng = np.random.default_rng(1)
    shape = n_steps, n_cells
    return Forcing(
        rng.uniform(12.0, 40.0, shape) * rng.choice([0.02, 1.0], shape), rng.uniform(1.0, 5.0, shape),
        0.5 - 5.0 * np.cos(0.7 * np.arange(n_steps))[:, None] + rng.normal(0, 2, shape), 100.0 + np.arange(n_steps),
    )


def filled(model: Model) -> Model:
    """Water everywhere, snow below freezing: away from kinks."""
    rng = np.random.default_rng(7)
    for process, group in zip(model.chain.cells, model.state.cells, strict=True):
        for n, store in process.stores.items():
            low, high = (-2.0, -0.1) if store.bounds[1] == 0.0 else (0.2, 0.8) if store.units == "1" else (8.0, 25.0)
            getattr(group, n)[:] = rng.uniform(low, high, getattr(group, n).shape)
        for n in process.queues:
            getattr(group, n)[:] = rng.uniform(0.1, 1.0, getattr(group, n).shape)
    model.state.reach[:] = rng.uniform(0.5, 2.0, model.state.reach.shape) * (1.0 if model.chain.reach.linear else 3e4)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("components", [1, 2])
@every_chain
def test_gradients_are_central_differences(domain, name, components):
    """Of the series, of the forcing, of parameters of one value and of the initial state."""
    n = domain.n_cells
    model = filled(make(domain, name, varying=VARYING[name], components={name: components}))
    series, forcing = drawn(name, n), smooth(N_STEPS, n)
    rng = np.random.default_rng(11)
    pull = rng.normal(size=(N_STEPS, domain.n_reaches))

    def total(**changed) -> float:
        own = forcing._replace(**{k: v for k, v in changed.items() if k in forcing._fields})
        return float((model.record(own._replace(varying=series | changed.get("series", {}))) * pull).sum())

    total()
    got = model.adjoint(pull)
    assert got.forcing.keys() == set(model.chain.inputs)
    fixed = {k for k in model.parameters if k not in VARYING[name]}
    assert got.parameters.keys() - {"travel_time"} == fixed | set(VARYING[name])
    checked = []

    def check(key: str, move, gradient: np.ndarray, scale: np.ndarray) -> None:
        way, h, totals = rng.normal(size=gradient.shape) * scale, 1e-6, []
        for s in (h, -h):
            totals.append(move(s * way))
        expected, size = float((gradient * way).sum()), np.abs(gradient * way).sum()
        found = (totals[0] - totals[1]) / (2 * h)
        assert abs(found - expected) <= 2e-6 * size + 3e-9 * np.abs(totals).max(), key
        if size > 0.0:
            checked.append(key)

    for k in VARYING[name]:
        assert got.parameters[k].shape == (N_STEPS, n)
        check(k, lambda d, k=k: total(series={k: series[k] + d}), got.parameters[k], series[k])
    for k, gradient in got.forcing.items():
        check(k, lambda d, k=k: total(**{k: getattr(forcing, k) + d}), gradient, np.ones((N_STEPS, n)))
    for k, gradient in got.state.items():
        array = model.state.arrays()[k]
        kept = array.copy()

        def moved(d, array=array, kept=kept) -> float:
            array[:] = kept + d
            found = total()
            array[:] = kept
            return found

        check(k, moved, gradient, np.maximum(np.abs(kept), 0.1))
    given = {k: a.copy() for k, a in model.parameters.items()}
    for k in fixed:
        def changed(d, k=k) -> float:
            other = filled(Model(
                domain, given | {k: given[k] + d}, **CHAINS[name], routing_step=6 * HOUR, varying=VARYING[name],
                components={name: components},
            ))
            found = float((other.record(forcing._replace(varying=series)) * pull).sum())
            other.close()
            return found

        if not any(q.base == k for p in model.chain.cells for q in p.queues.values()):
            check(k, changed, got.parameters[k].reshape(given[k].shape), given[k])
    assert set(VARYING[name]) <= set(checked) and len(checked) > 12


@pytest.mark.parametrize(("options", "varying", "message"), [
    (CHAINS["gr4j"], ("production_capacity",),
     r"'production_capacity' cannot vary in time here.*these can: pet_factor\. Give one value per cell or reach"),
    (CHAINS["gr4j"], ("celerity",), "parameter 'celerity' cannot vary in time here"),
    (CHAINS["three_stages"], ("test_recharge_shap",), r"Did you mean 'test_recharge_shape'\?"),
    (CHAINS["three_stages"], ("test_capacity",), "Of three_stages, reservoirs, these can: test_recharge_shape, "
     "test_evaporation_shape, pet_factor"),
])
def test_what_cannot_vary(domain, options, varying, message):
    with pytest.raises(ParameterError, match=message):
        Model(domain, **options, varying=varying)


def test_a_series_that_is_missing(domain):
    model = make(domain, "three_stages", varying=VARYING["three_stages"])
    series, forcing = drawn("three_stages", domain.n_cells), random_forcing(4, N_STEPS, domain.n_cells)
    for name in VARYING["three_stages"]:
        some = {n: a for n, a in series.items() if n != name}
        for run in (model.advance, model.record, model.fill_rivers):
            with pytest.raises(ForcingError, match=f"forcing lacks '{name}', which three_stages, reservoirs need"):
                run(forcing._replace(varying=some))


# ---- the factor on potential evapotranspiration ------------------------------------------------------------


def test_a_factor_of_one_is_none_and_any_other_changes_the_demand(domain):
    forcing = random_forcing(4, N_STEPS, domain.n_cells)
    values = random_parameters(3, domain)
    factor = np.random.default_rng(5).uniform(0.5, 2.0, domain.n_cells)
    plain, one, other = (Model(domain, values | f) for f in ({}, {"pet_factor": np.ones(1)[0]}, {"pet_factor": factor}))
    scaled = Model(domain, values)
    runs = [m.advance(forcing, ("discharge", "runoff"))["runoff"].copy() for m in (plain, one, other)]
    by_hand = forcing._replace(potential_evapotranspiration=forcing.potential_evapotranspiration * factor)
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[2], scaled.advance(by_hand, ("runoff",))["runoff"])
    assert (runs[2] != runs[0]).any()
    assert "corrected_evapotranspiration" not in plain.live
    np.testing.assert_array_equal(other.live["corrected_evapotranspiration"], by_hand.potential_evapotranspiration[-1])
    np.testing.assert_array_equal(other.live["pet_factor"], factor)


@pytest.mark.parametrize("components", [1, 3])
def test_a_factor_is_one_for_all_components(domain, components):
    values = random_parameters(3, domain) | {"pet_factor": np.linspace(0.5, 2.0, domain.n_cells)}
    model = Model(domain, values, components={"gr4j": components})
    assert model.parameters["pet_factor"].shape == (domain.n_cells,)
    alone = Model(domain, values)
    forcing = random_forcing(4, N_STEPS, domain.n_cells)
    ours, theirs = (m.advance(forcing, ("runoff",))["runoff"].copy() for m in (model, alone))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_the_gradient_of_a_fixed_factor_is_its_sum_over_time(domain):
    n, forcing = domain.n_cells, smooth(N_STEPS, domain.n_cells)
    values, factor = random_parameters(3, domain), np.linspace(0.6, 1.8, domain.n_cells)
    fixed = Model(domain, values | {"pet_factor": factor})
    varying = Model(domain, values, varying=("pet_factor",))
    pull = np.random.default_rng(1).normal(size=(N_STEPS, domain.n_reaches))
    series = {"pet_factor": np.repeat(factor[None], N_STEPS, 0)}
    np.testing.assert_array_equal(fixed.record(forcing), varying.record(forcing._replace(varying=series)))
    one, other = fixed.adjoint(pull).parameters["pet_factor"], varying.adjoint(pull).parameters["pet_factor"]
    assert one.shape == (n,) and other.shape == (N_STEPS, n)
    np.testing.assert_allclose(one, other.sum(axis=0), rtol=1e-14)
    totals = []
    for d in (1e-6, -1e-6):
        totals.append((Model(domain, values | {"pet_factor": factor + d}).record(forcing) * pull).sum())
    assert (totals[0] - totals[1]) / 2e-6 == pytest.approx(one.sum(), rel=1e-5)


@pytest.mark.parametrize("value", [-1e-300, np.nan, np.inf, -np.inf])
def test_a_series_outside_the_legal_range(domain, value):
    """The factor is legal from 0 on: 0 itself is, and a state is as it was before what is refused."""
    model = make(domain, "gr4j", varying=("pet_factor",))
    forcing, series = random_forcing(4, N_STEPS, domain.n_cells), drawn("gr4j", domain.n_cells)
    series = {"pet_factor": series["pet_factor"]}
    series["pet_factor"][3, 2] = 0.0
    model.record(forcing._replace(varying=series))
    before = state_of(model)
    series["pet_factor"][7, 4:] = value
    where = rf"forcing: 'pet_factor' is {value} in step 7 \(from 0\) at cell {domain.cells.id[4]} \("
    message = where + rf"{domain.n_cells - 4} of {N_STEPS * domain.n_cells} values are bad\), expected .* 0 to inf"
    for run in (model.advance, model.record, model.fill_rivers):
        with pytest.raises(ParameterError, match=message):
            run(forcing._replace(varying=series))
    assert all(state_of(model)[n].tobytes() == a.tobytes() for n, a in before.items())


def test_a_series_between_two_limits(domain):
    low, high = parameter("test_recharge_shape").legal
    assert np.isfinite([low, high]).any()
    model = make(domain, "three_stages", varying=VARYING["three_stages"])
    series = drawn("three_stages", domain.n_cells)
    beyond = np.nextafter(high, np.inf) if np.isfinite(high) else np.nextafter(low, -np.inf)
    series["test_recharge_shape"][0, 1] = beyond
    forcing = random_forcing(4, N_STEPS, domain.n_cells)._replace(varying=series)
    with pytest.raises(ParameterError, match=rf"'test_recharge_shape' is .* in step 0 .*cell {domain.cells.id[1]} "):
        model.advance(forcing)
    model.advance(part_of(forcing, 1, N_STEPS))


def test_a_network_is_a_factor_that_varies(tmp_path):
    """What the network gives, handed over as a series: the same bits."""
    path = write_attribute_domain(tmp_path / "domain.nc", 5, 9, 4)
    domain = read_domain(path)
    spec = specify(path, snow="none", hidden=(3,), pet_hidden=(5, 3))
    network = pet_network(spec, drawn_tensors(spec, 4), read_inputs(spec, path, domain))
    forcing, values = smooth(N_STEPS, 4), random_parameters(3, domain)
    by_network, by_series = Model(domain, values, pet=network), Model(domain, values, varying=("pet_factor",))
    ours = {k: v.copy() for k, v in by_network.advance(forcing, ("pet_factor", "discharge")).items()}
    assert ours["pet_factor"].std() > 0.01
    theirs = by_series.advance(forcing._replace(varying={"pet_factor": ours["pet_factor"]}), ("discharge",))
    np.testing.assert_array_equal(ours["discharge"], theirs["discharge"])
