"""The operators under torch: gradients against central differences, and the kernels that they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from make_domain import random_domain

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.kernels import launch
from bmi_cdlm.kernels.graph import callees
from bmi_cdlm.kernels.loops.plan import places_of
from bmi_cdlm.kernels.loops.reach_plan import reach_plan
from bmi_cdlm.model import cell_operator, elementwise, reach_operator, route_adjoint
from bmi_cdlm.model import memory as memory_module
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.route_adjoint import routing_blocks
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM
from cdlm_training.operators import Advance, Route

FORCING = ("precipitation", "potential_evapotranspiration", "air_temperature")
SNOW = ("thermal_weighting", "melt_factor", "accumulation_threshold", "cover_ratio_threshold")
GR4J = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
RIVER = ("travel_time", "weighting")
FACTOR = "pet_factor"
STEPS = {"daily": DAY, "hourly": HOUR}
N_STEPS, N_CELLS, N_REACHES, N_SUB = 7, 3, 5, 2


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.model.cell_operator.BLOCK_STEPS", 3)
    monkeypatch.setattr("bmi_cdlm.model.route_adjoint.block_steps", lambda *_: 2)


class Case(NamedTuple):
    """A domain, a chain of processes and inputs by name; at: reaches whose discharge counts, one of them twice."""

    domain: Domain
    step: int
    snow: str
    components: int
    at: np.ndarray
    inputs: dict[str, np.ndarray]

    def operators(self, dtype: type = np.float64, varying: tuple[str, ...] = (FACTOR,)) -> Operators:
        """The operators of this case."""
        return Operators(
            choose(self.snow), self.domain, self.step, self.step // N_SUB, dtype, varying=varying,
            components={"gr4j": self.components},
        )

    def tensors(self, *names: str) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(self.inputs[name].copy()).requires_grad_() for name in names}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of everything that the whole chain takes."""
        forcing = FORCING if self.snow != "none" else FORCING[:2]
        snow = {"none": (), "cemaneige": SNOW[:2], "cemaneige_hysteresis": SNOW}[self.snow]
        return (*forcing, FACTOR, *snow, *GR4J, *RIVER)


def smooth_case(step: int, snow: str = "cemaneige_hysteresis", components: int = 1) -> Case:
    """A case away from kinks: no ties P = E = 0, no whole X4, every Muskingum branch and K = 0."""
    rng = np.random.default_rng(step)
    domain, share = random_domain(31, N_REACHES, N_CELLS, 9), step / DAY
    shape, per_cell = (N_STEPS, N_CELLS), (components, N_CELLS) if components > 1 else (N_CELLS,)
    branch = np.array([0.02, 0.3, 0.9, 1.4, 4.0]) * rng.uniform(0.8, 1.2, N_REACHES)
    inputs = {
        "precipitation": rng.uniform(8.0, 40.0, shape) * rng.choice([0.02, 1.0], shape),
        "potential_evapotranspiration": rng.uniform(1.0, 6.0, shape),
        "air_temperature": 0.5 - 6.0 * np.cos(0.7 * np.arange(N_STEPS))[:, None] + rng.normal(0, 2, shape),
        FACTOR: rng.uniform(0.6, 1.5, shape),
        "thermal_weighting": rng.uniform(0.1, 0.9, N_CELLS),
        "melt_factor": rng.uniform(1, 8, N_CELLS) * share,
        "accumulation_threshold": rng.uniform(30, 200, N_CELLS) * share,
        "cover_ratio_threshold": rng.uniform(0.1, 0.6, N_CELLS),
        "production_capacity": rng.uniform(50, 500, per_cell),
        "exchange_coefficient": rng.uniform(-5, 3, per_cell) * share,
        "routing_capacity": rng.uniform(15, 120, per_cell),
        "unit_hydrograph_base": rng.uniform(0.7, 3.7, per_cell) if step == DAY else rng.uniform(2.6, 6.4, per_cell),
        "travel_time": rng.permutation(branch) * (step // N_SUB),
        "weighting": rng.uniform(0.05, 0.45, N_REACHES),
    }
    at = np.r_[rng.permutation(N_REACHES)[:3], domain.outlets[:1], domain.outlets[:1]]
    return Case(domain, step, snow, components, at, inputs)


def advance(operator, values):
    """What a process of cells gives, from tensors by name."""
    places = {name: places_of(q, 7.0) for name, q in operator.process.queues.items()}
    series = tuple(name for name in operator.taken if name in values)
    names = tuple(p.name for p in operator.process.parameters if p.name in values and p.name not in series)
    return Advance.apply(operator, places, series, names, *(values[n] for n in (*series, *names)))


def run_chain(case, ops, values):
    """Discharge at the reaches that count, from tensors by name."""
    values = dict(values)
    for operator in ops.cells:
        values[operator.gives] = advance(operator, values)
    return Route.apply(ops.reach, case.at, 0, False, RIVER, values["runoff"], *(values[n] for n in RIVER))


def check(function, values) -> None:
    """Compare the gradients of a function of tensors by name with central differences."""
    names = list(values)
    assert torch.autograd.gradcheck(
        lambda *x: function(dict(zip(names, x, strict=True))), tuple(values.values()), eps=1e-6, atol=1e-7, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("snow", ["cemaneige", "cemaneige_hysteresis"])
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_melt(step, snow):
    case = smooth_case(STEPS[step], snow)
    operator = case.operators().cell(snow)
    values = case.tensors(*(n for n in case.names if n in (*FORCING[::2], *SNOW)))
    liquid = advance(operator, values)
    assert float((liquid != values["precipitation"]).double().mean().detach()) > 0.3  # there is snow
    check(lambda x: advance(operator, x), values)


@pytest.mark.slow
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_runoff(step, components):
    case = smooth_case(STEPS[step], "none", components)
    operator = case.operators().cell("gr4j")
    check(lambda x: advance(operator, x), case.tensors(*FORCING[:2], FACTOR, *GR4J))


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_route(step):
    case = smooth_case(STEPS[step])
    reach = case.operators().reach
    assert len(routing_blocks(reach, N_STEPS)) == 4
    runoff = torch.from_numpy(np.random.default_rng(1).exponential(3.0, (N_STEPS, N_CELLS))).requires_grad_()
    values = {"runoff": runoff, **case.tensors(*RIVER)}
    check(lambda x: Route.apply(reach, case.at, 0, False, RIVER, *x.values()), values)
    length = case.domain.reaches.length
    celerity = torch.from_numpy(np.maximum(length, 500.0) / case.inputs["travel_time"]).requires_grad_()
    values = {"runoff": runoff, "celerity": celerity, "weighting": values["weighting"]}
    check(lambda x: Route.apply(reach, case.at, 0, False, ("celerity", "weighting"), *x.values()), values)


def test_only_what_the_rivers_remember_of_a_warm_up_is_routed():
    """Discharge after it, and every gradient of it, are those of the whole within some of rounding."""
    case, warm_up, kept = smooth_case(DAY), 300, 12
    reach = case.operators().reach
    travel_time = case.inputs["travel_time"]
    below, longest = case.domain.reaches.downstream, 0.0
    for i in range(N_REACHES):
        way, j = 0.0, i
        while j >= 0:
            way, j = way + travel_time[j], below[j]
        longest = max(longest, way)
    values = {"runoff": torch.from_numpy(np.random.default_rng(1).exponential(3.0, (warm_up + kept, N_CELLS)))}
    values = {n: v.requires_grad_() for n, v in (values | case.tensors(*RIVER)).items()}
    settled = int(reach.settling_steps(reach.prepare({n: case.inputs[n] for n in RIVER})))
    assert 5 < settled <= np.ceil(np.log(100 / 2.0**-52) * (longest * N_SUB / DAY + 1) / N_SUB)
    found = []
    for cut in (0, warm_up):
        discharge = Route.apply(reach, case.at, cut, False, RIVER, *values.values())[warm_up - cut :]
        gradients = torch.autograd.grad(discharge.square().sum(), list(values.values()))
        found.append([discharge.detach(), *gradients])
    assert bool((found[0][1][: warm_up - settled] != 0).any()) and not found[1][1][: warm_up - settled].any()
    for whole, part in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-13, atol=1e-13 * float(whole.abs().max()))


@pytest.mark.parametrize("warm_up", [0, 200])
def test_an_adjoint_in_the_place_of_the_runoff_has_the_same_bits(warm_up):
    """Where rivers forget a part of the warm-up, too; and a second gradient is refused rather than wrong."""
    case = smooth_case(DAY)
    depth = np.random.default_rng(1).exponential(3.0, (warm_up + 12, N_CELLS))
    found = []
    for spends in (False, True):
        values = {n: v.detach().requires_grad_() for n, v in case.tensors(*RIVER).items()}
        given = torch.from_numpy(depth.copy()).requires_grad_()
        runoff = 1.0 * given
        place = runoff.detach().numpy()
        discharge = Route.apply(case.operators().reach, case.at, warm_up, spends, RIVER, runoff, *values.values())
        total = discharge.square().sum()
        found.append(torch.autograd.grad(total, [given, *values.values()], retain_graph=True))
        assert np.array_equal(place, found[-1][0].numpy() if spends else depth)
    for kept, spent in zip(*found, strict=True):
        assert torch.equal(kept, spent)
    assert bool((found[0][0] != 0).any())
    with pytest.raises(RuntimeError, match="a second time: run it again, or with spends=False"):
        torch.autograd.grad(total, [given])


@pytest.mark.slow
@pytest.mark.parametrize(("snow", "components"), [("none", 1), ("cemaneige", 2), ("cemaneige_hysteresis", 1)])
@pytest.mark.parametrize("step", STEPS)
def test_gradcheck_of_the_whole_chain(step, snow, components):
    case = smooth_case(STEPS[step], snow, components)
    ops = case.operators()
    check(lambda x: run_chain(case, ops, x), case.tensors(*case.names))


def test_components_that_are_alike_share_the_gradient():
    """The runoff is their mean: that of one, and each has its part of its gradient."""
    one = smooth_case(DAY, "none")
    three = one._replace(components=3)
    values = one.tensors(*one.names)
    many = {n: v if n not in GR4J else v.detach().expand(3, -1).clone().requires_grad_() for n, v in values.items()}
    found = []
    for case, own in ((one, values), (three, many)):
        discharge = run_chain(case, case.operators(), own)
        discharge.square().sum().backward()
        found.append(discharge.detach())
    torch.testing.assert_close(found[1], found[0], rtol=1e-13, atol=1e-14)
    for name, value in values.items():
        spread = many[name].grad.sum(0) if name in GR4J else many[name].grad
        torch.testing.assert_close(spread, value.grad, rtol=1e-10, atol=1e-12 * float(value.grad.abs().max()), msg=name)


def test_float32_stays_float32_and_is_near():
    case = smooth_case(DAY)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        inputs = {n: t.detach().to(dtype).requires_grad_() for n, t in case.tensors(*case.names).items()}
        discharge = run_chain(case, case.operators(np.float64 if dtype == torch.float64 else np.float32), inputs)
        assert discharge.dtype == dtype
        discharge.double().sum().backward()
        assert {t.grad.dtype for t in inputs.values()} == {dtype}
        gradients.append([t.grad.double() for t in inputs.values()])
    for name, a, b in zip(case.names, *gradients, strict=True):
        assert float((a - b).abs().max()) <= 2e-4 * float(a.abs().max()) + 1e-12, name


def test_inputs_stay_as_they_are_and_backward_twice_gives_the_same():
    case = smooth_case(DAY, components=2)
    values = case.tensors(*case.names)
    inputs = list(values.values())
    kept = [t.detach().clone() for t in inputs]
    total = run_chain(case, case.operators(), values).sum()
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    second = torch.autograd.grad(total, inputs)
    for a, b, t, k in zip(first, second, inputs, kept, strict=True):
        assert torch.equal(a, b) and torch.equal(t.detach(), k)


def test_only_what_is_asked_for_has_a_gradient():
    case = smooth_case(DAY)
    values = {n: t.detach() for n, t in case.tensors(*case.names).items()}
    values["melt_factor"].requires_grad_()
    run_chain(case, case.operators(), values).sum().backward()
    assert {n for n, t in values.items() if t.grad is not None} == {"melt_factor"}


def test_the_second_derivative_is_refused():
    case = smooth_case(DAY)
    values = case.tensors(*case.names)
    discharge = run_chain(case, case.operators(), values)
    gradient = torch.autograd.grad((discharge**2).sum(), values["precipitation"], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.fixture
def asked(monkeypatch) -> dict[str, object]:
    """The kernels that are asked for, by name."""
    found: dict[str, object] = {}

    def compiled(function: Callable, dtype: type = np.float64) -> object:
        found[function.__name__] = launch.compiled(function, dtype)
        return found[function.__name__]

    for module in (cell_operator, reach_operator, route_adjoint, elementwise, memory_module):
        monkeypatch.setattr(module, "compiled", compiled)
    return found


def test_operators_call_the_functions_that_the_model_steps(asked):
    case = smooth_case(DAY)
    values = {"travel_time": case.inputs["travel_time"]}
    model = Model(case.domain, values, step=case.step, routing_step=case.step // N_SUB, snow=case.snow)
    model.advance(Forcing(*(case.inputs[name] for name in FORCING)))
    by_model = dict(asked)
    asked.clear()
    tensors = {n: t for n, t in case.tensors(*case.names).items() if n != FACTOR}
    discharge = run_chain(case, case.operators(varying=()), tensors)
    loops = reach_operator.reach_loops(reach_plan(MUSKINGUM), LINKS)
    chunks = {"chunks_narrow_muskingum"}  # the loop of the model over one chunk after another, down and up again
    assert {loops.narrow, loops.narrow_reverse} <= set(callees(loops.narrow_chunks))
    assert by_model["route_narrow_muskingum"] is launch.compiled(loops.narrow, np.float64)
    assert chunks < set(asked)
    physics = set(asked) - chunks
    assert physics == {
        "advance_cemaneige_hysteresis", "advance_gr4j", "fill_full_cover", "advance_narrow_cemaneige_hysteresis",
        "fill_inverse_of_capacity",
        "fill_inverse_of_routing_capacity", "fill_ordinates", "advance_narrow_gr4j", "fill_muskingum_coefficients",
        "route_narrow_muskingum", "fill_reach_volume", "fill_state_of_volume", "fill_steady_state",
    }
    assert all(asked[name] is by_model[name] for name in physics)
    discharge.sum().backward()
    assert asked.keys() - physics - chunks == {
        "reverse_cemaneige_hysteresis", "reverse_gr4j", "spread_runoff",
        "fill_ordinates_adjoint", "fill_muskingum_coefficients_adjoint", "fill_full_cover_adjoint",
    }
