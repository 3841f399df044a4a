"""The operators under torch: gradients against central differences, and the kernels that they call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from make_domain import random_domain
from operator_cases import CELL, FORCING, Case, make_case

import bmi_cdlm.model.model as model_module
from bmi_cdlm.kernels import launch
from bmi_cdlm.model import operators, parameter_set
from bmi_cdlm.model.model import Forcing, Model
from bmi_cdlm.names.time_steps import DAY, HOUR
from cdlm_training.operators import Melt, Route, Runoff

SNOW = ("thermal_weighting", "melt_factor", "accumulation_threshold", "full_cover")
RUNOFF = (*CELL, "unit_hydrograph_base", "production_store", "routing_store")
STEPS = {"daily": DAY, "hourly": HOUR}


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.model.operators.BLOCK_STEPS", 3)
    monkeypatch.setattr("bmi_cdlm.model.operators.ROUTING_SUB_STEPS", 4)


def smooth_case(step: int, hysteresis: bool = True) -> Case:
    """A case away from kinks: no ties P = E = 0, no whole X4, every Muskingum branch."""
    rng = np.random.default_rng(step)
    case = make_case(5, random_domain(31, 5, 3, 9), 7, step=step, n_sub=2, hysteresis=hysteresis, warmth=0.5)
    x4 = rng.uniform(0.7, 3.7, 3) if step == DAY else rng.uniform(2.6, 6.4, 3)
    changed = {
        "precipitation": rng.uniform(8.0, 40.0, (7, 3)) * rng.choice([0.02, 1.0], (7, 3)),
        "potential_evapotranspiration": rng.uniform(1.0, 6.0, (7, 3)), "unit_hydrograph_base": x4,
        "full_cover": rng.uniform(10, 30, 3),
    }
    places = int(np.ceil(x4.max())), int(np.ceil(2 * x4.max()))
    return case._replace(n_places=places, inputs=case.inputs | changed)


def tensors(case: Case, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(case.inputs[name].copy()).requires_grad_() for name in names]


def snow_tensors(case: Case) -> list[torch.Tensor]:
    """Plain CemaNeige takes its full cover from the domain: no gradient goes there."""
    inputs = tensors(case, *SNOW)
    return inputs if case.hysteresis else [*inputs[:3], inputs[3].detach()]


def check(function, inputs) -> None:
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("hysteresis", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_melt(step, hysteresis):
    case = smooth_case(STEPS[step], hysteresis)
    ops = case.operators()
    inputs = [*tensors(case, "precipitation", "air_temperature"), *snow_tensors(case)]
    liquid = Melt.apply(ops, hysteresis, *inputs)
    assert float((liquid != inputs[0]).double().mean().detach()) > 0.3  # there is snow
    check(lambda *x: Melt.apply(ops, hysteresis, *x), inputs)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_runoff(step):
    case = smooth_case(STEPS[step])
    ops = case.operators()
    check(
        lambda *x: Runoff.apply(ops, case.n_places, *x),
        tensors(case, "precipitation", "potential_evapotranspiration", *RUNOFF),
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_route(step, monkeypatch):
    case = smooth_case(STEPS[step])
    monkeypatch.setattr("bmi_cdlm.model.operators.ROUTING_BYTES", 2 * case.domain.n_reaches * 2 * 8)
    ops = case.operators()
    assert len(ops._routing_blocks(7)) == 4
    runoff = torch.from_numpy(np.random.default_rng(1).exponential(3.0, (7, 3))).requires_grad_()
    check(lambda *x: Route.apply(ops, case.at, *x), [runoff, *tensors(case, "travel_time", "weighting")])


def run_chain(case, ops, P, E, T, *p):
    liquid = Melt.apply(ops, case.hysteresis, P, T, *p[:4])
    runoff = Runoff.apply(ops, case.n_places, liquid, E, *p[4:10])
    return Route.apply(ops, case.at, runoff, *p[10:])


@pytest.mark.slow
@pytest.mark.parametrize("hysteresis", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_the_whole_chain(step, hysteresis):
    case = smooth_case(STEPS[step], hysteresis)
    ops = case.operators()
    inputs = [*tensors(case, *FORCING), *snow_tensors(case), *tensors(case, *RUNOFF, "travel_time", "weighting")]
    check(lambda *x: run_chain(case, ops, *x), inputs)


def test_float32_stays_float32_and_is_near():
    case = smooth_case(DAY)
    names = (*FORCING, *SNOW, *RUNOFF, "travel_time", "weighting")
    gradients = []
    for dtype in (torch.float64, torch.float32):
        inputs = [t.detach().to(dtype).requires_grad_() for t in tensors(case, *names)]
        discharge = run_chain(case, case.operators(np.float64 if dtype == torch.float64 else np.float32), *inputs)
        assert discharge.dtype == dtype
        discharge.double().sum().backward()
        assert {t.grad.dtype for t in inputs} == {dtype}
        gradients.append([t.grad.double() for t in inputs])
    for name, a, b in zip(names, *gradients, strict=True):
        assert float((a - b).abs().max()) <= 2e-4 * float(a.abs().max()) + 1e-12, name


def test_inputs_stay_as_they_are_and_backward_twice_gives_the_same():
    case = smooth_case(DAY)
    inputs = tensors(case, *FORCING, *SNOW, *RUNOFF, "travel_time", "weighting")
    kept = [t.detach().clone() for t in inputs]
    total = run_chain(case, case.operators(), *inputs).sum()
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    second = torch.autograd.grad(total, inputs)
    for a, b, t, k in zip(first, second, inputs, kept, strict=True):
        assert torch.equal(a, b) and torch.equal(t.detach(), k)


def test_the_second_derivative_is_refused():
    case = smooth_case(DAY)
    inputs = tensors(case, *FORCING, *SNOW, *RUNOFF, "travel_time", "weighting")
    discharge = run_chain(case, case.operators(), *inputs)
    gradient = torch.autograd.grad((discharge**2).sum(), inputs[:1], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.fixture
def asked(monkeypatch) -> dict[str, object]:
    """The kernels that are asked for, by name."""
    found: dict[str, object] = {}

    def compiled(function: Callable, dtype: type = np.float64) -> object:
        found[function.__name__] = launch.compiled(function, dtype)
        return found[function.__name__]

    for module in (model_module, parameter_set, operators):
        monkeypatch.setattr(module, "compiled", compiled)
    return found


def test_operators_call_the_functions_that_the_model_steps(asked):
    case = smooth_case(DAY)
    model = Model(case.domain, step=case.step, routing_step=case.routing_step, snow="cemaneige_hysteresis")
    model.advance(Forcing(*(case.inputs[name] for name in FORCING)))
    for name in ("unit_hydrograph_base", "weighting"):
        model.change_parameter(name, np.arange(1), model.parameters[name][:1])
    by_model = dict(asked)
    asked.clear()
    inputs = tensors(case, *FORCING, *SNOW, *RUNOFF, "travel_time", "weighting")
    discharge = run_chain(case, case.operators(), *inputs)
    physics = set(asked)
    assert physics == {"advance_snow", "advance_gr4j", "route", "fill_ordinates", "fill_coefficients"}
    assert all(asked[name] is by_model[name] for name in physics)
    discharge.sum().backward()
    assert asked.keys() - physics == {
        "reverse_snow", "reverse_gr4j", "spread_runoff", "reverse_route", "fill_ordinates_adjoint",
        "fill_coefficients_adjoint",
    }
