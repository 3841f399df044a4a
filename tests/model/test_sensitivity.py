"""`Model.record` and `Model.adjoint`: gradients without torch, against central differences."""

from __future__ import annotations

import numpy as np
import pytest
from generator_cases import drawn_tensors, specify, write_attribute_domain
from make_domain import random_domain

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.generator import pet_network, read_inputs
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.parameter_set import ParameterSet
from bmi_cdlm.names.errors import ForcingError, StateError
from bmi_cdlm.names.parameters import TRAVEL_TIME
from bmi_cdlm.names.time_steps import DAY, HOUR

N_STEPS = 9
PARAMETERS = {
    "none": ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base", "celerity",
             "weighting"),
}
PARAMETERS["cemaneige"] = (*PARAMETERS["none"], "thermal_weighting", "melt_factor")
PARAMETERS["cemaneige_hysteresis"] = (*PARAMETERS["cemaneige"], "accumulation_threshold", "cover_ratio_threshold")
STATES = {"none": ("production_store", "routing_store", "unit_hydrograph_1", "unit_hydrograph_2", "reach_flow")}
STATES["cemaneige"] = (*STATES["none"], "snowpack", "thermal_state")
STATES["cemaneige_hysteresis"] = (*STATES["cemaneige"], "snow_peak", "snow_cover")
CASES = [(snow, step, pet) for snow in PARAMETERS for step in (DAY, HOUR) for pet in (False, True)]


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.model.cell_operator.BLOCK_STEPS", 4)
    monkeypatch.setattr("bmi_cdlm.model.route_adjoint.block_steps", lambda *_: 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sensitivity")


def smooth_forcing(n_steps: int, n_cells: int) -> Forcing:
    """Away from the kink P = E."""
    rng = np.random.default_rng(1)
    shape = n_steps, n_cells
    return Forcing(
        rng.uniform(8.0, 40.0, shape) * rng.choice([0.02, 1.0], shape), rng.uniform(1.0, 6.0, shape),
        0.5 - 5.0 * np.cos(0.7 * np.arange(n_steps))[:, None] + rng.normal(0, 2, shape),
        100.0 + np.arange(n_steps),
    )


def given_parameters(domain, step: int, snow: str) -> dict[str, np.ndarray]:
    """Parameters away from kinks: no whole X4."""
    rng = np.random.default_rng(2)
    n, m, hours = domain.n_cells, domain.n_reaches, 1 if step == DAY else 24
    values = {
        "production_capacity": rng.uniform(50, 500, n), "exchange_coefficient": rng.uniform(-5, 3, n) / hours,
        "routing_capacity": rng.uniform(15, 120, n),
        "unit_hydrograph_base": rng.uniform(0.6, 0.9, n) + rng.integers(0, 3, n),
        "thermal_weighting": rng.uniform(0.1, 0.9, n), "melt_factor": rng.uniform(1, 8, n) / hours,
        "accumulation_threshold": rng.uniform(10, 50, n), "cover_ratio_threshold": rng.uniform(0.1, 0.9, n),
        "celerity": rng.uniform(0.2, 3, m), "weighting": rng.uniform(0.05, 0.45, m),
    }
    return {name: values[name] for name in PARAMETERS[snow]}


def make_model(folder, snow: str, step: int, pet: bool) -> Model:
    """A model with water in all its stores, queues and rivers."""
    path = write_attribute_domain(folder / "domain.nc", 5, 9, 4)
    domain = read_domain(path)
    domain.cells.mean_annual_snowfall[:] = [30.0, 60.0, 90.0, 200.0]
    network = None
    if pet:
        spec = specify(path, snow=snow, step=step, hidden=(3,), pet_hidden=(5, 3))
        network = pet_network(spec, drawn_tensors(spec, 4), read_inputs(spec, path, domain))
    model = Model(domain, given_parameters(domain, step, snow), step=step, routing_step=step // 2, snow=snow,
                  pet=network)
    rng = np.random.default_rng(7)
    state, share = model.state, step / DAY
    runoff = state.cells[-1]
    for array, low, high in (
        (runoff.production_store, 10, 45), (runoff.routing_store, 3, 12), (state.reach, 0.1, 2.0),
        (runoff.unit_hydrograph_1, 0.1 * share, 3 * share), (runoff.unit_hydrograph_2, 0.1 * share, share),
    ):
        array[:] = rng.uniform(low, high, array.shape)
    if snow != "none":
        pack = state.cells[0]
        pack.snowpack[:] = [5.0, 20.0, 60.0, 120.0]
        pack.thermal_state[:] = [-0.1, -1.0, -0.4, -2.0]
    if snow == "cemaneige_hysteresis":
        pack.snow_peak[:] = [20.0, 30.0, 70.0, 130.0]
        pack.snow_cover[:] = [0.2, 0.6, 0.7, 0.8]
    return model


def state_arrays(model) -> dict[str, np.ndarray]:
    arrays = model.state.arrays()
    return {n: arrays[n] for n in STATES[model.snow]}


def check_slope(name: str, model: Model, forcing: Forcing, pull, move, gradient, way, h: float) -> None:
    """The central difference of sum(pull * discharge) where `move(s)` puts an input s * way away."""
    totals = []
    for s in (h, -h):
        move(s)
        totals.append(float((model.record(forcing) * pull).sum()))
    move(0.0)
    expected = float((gradient * way).sum())
    size = np.abs(gradient * way).sum()
    assert abs((totals[0] - totals[1]) / (2 * h) - expected) <= 1e-6 * size + 1e-9 * np.abs(totals).max(), name


@pytest.mark.slow
@pytest.mark.parametrize(("snow", "step", "pet"), CASES)
def test_gradients_are_central_differences(folder, snow, step, pet):
    model = make_model(folder, snow, step, pet)
    forcing = smooth_forcing(N_STEPS, model.domain.n_cells)
    rng = np.random.default_rng(11)
    pull = rng.normal(size=(N_STEPS, model.domain.n_reaches))
    model.record(forcing)
    got = model.adjoint(pull)
    inputs = ("precipitation", "potential_evapotranspiration", *(() if snow == "none" else ("air_temperature",)))
    assert got.forcing.keys() == set(inputs)
    assert got.parameters.keys() == {*PARAMETERS[snow], TRAVEL_TIME}
    assert got.state.keys() == state_arrays(model).keys()

    moved = {name: getattr(forcing, name) for name in inputs} | state_arrays(model)
    for name, gradient in (got.forcing | got.state).items():
        way, array, kept = rng.normal(size=gradient.shape), moved[name], moved[name].copy()

        def move(s: float, array=array, kept=kept, way=way) -> None:
            array[:] = kept + s * way

        check_slope(name, model, forcing, pull, move, gradient, way, 1e-5)

    def given(values: dict) -> None:
        model._given = ParameterSet(model.operators, values)

    for name, gradient in got.parameters.items():
        start = model.parameters | ({name: model.travel_time} if name == TRAVEL_TIME else {})
        way = rng.normal(size=gradient.shape) * start[name]

        def set_parameters(s: float, name=name, start=start, way=way) -> None:
            given({**start, name: start[name] + s * way})

        check_slope(name, model, forcing, pull, set_parameters, gradient, way, 1e-5)
        given({n: v for n, v in start.items() if n != TRAVEL_TIME})


@pytest.mark.parametrize("steps", [2, N_STEPS])
@pytest.mark.parametrize(("snow", "step", "pet"), CASES)
def test_recording_gives_the_bits_of_advance_and_leaves_the_model_alone(folder, snow, step, pet, steps):
    model = make_model(folder, snow, step, pet)
    model.refresh()
    forcing = smooth_forcing(steps, model.domain.n_cells)
    kept = [a.copy() for a in forcing if a is not None]
    before = {n: a.copy() for n, a in (model.state.arrays() | model.live).items() if n != "pet_factor"}
    discharge = model.record(forcing)
    for name, array in (model.state.arrays() | model.live).items():
        if name != "pet_factor":
            np.testing.assert_array_equal(array, before[name], err_msg=name)
    for a, b in zip((a for a in forcing if a is not None), kept, strict=True):
        np.testing.assert_array_equal(a, b)
    first = model.adjoint(np.ones_like(discharge))
    np.testing.assert_array_equal(model.advance(forcing, keep=("discharge",))["discharge"], discharge)
    again = model.adjoint(np.ones_like(discharge))  # of the recording, wherever the model is now
    for a, b in zip(first, again, strict=True):
        for name, gradient in a.items():
            np.testing.assert_array_equal(gradient, b[name], err_msg=name)


def test_recording_leaves_the_live_pet_factor_alone(folder):
    model = make_model(folder, "none", DAY, True)
    forcing = smooth_forcing(3, model.domain.n_cells)
    kept = model.live["pet_factor"].copy()
    model.record(forcing)
    np.testing.assert_array_equal(model.live["pet_factor"], kept)


def test_a_recording_of_one_step_with_a_pet_network_is_kept(folder):
    model = make_model(folder, "none", DAY, True)
    forcing = smooth_forcing(2, model.domain.n_cells)
    one = Forcing(*(None if a is None else a[:1].copy() for a in forcing))
    model.record(one)
    pull = np.ones((1, model.domain.n_reaches))
    first = model.adjoint(pull)
    model.advance(Forcing(*(None if a is None else a[1:].copy() for a in forcing)))
    again = model.adjoint(pull)
    np.testing.assert_array_equal(first.parameters["production_capacity"], again.parameters["production_capacity"])


def test_a_recording_of_one_step(folder):
    model = make_model(folder, "cemaneige", DAY, False)
    forcing = smooth_forcing(1, model.domain.n_cells)
    discharge = model.record(forcing)
    assert discharge.shape == (1, model.domain.n_reaches)
    np.testing.assert_array_equal(model.advance(forcing, keep=("discharge",))["discharge"], discharge)


def test_a_base_below_the_shortest_has_no_gradient(folder):
    model = make_model(folder, "none", DAY, False)
    values = {**model.parameters, "unit_hydrograph_base": np.array([0.0, 0.2, 0.4, 2.3])}
    model = Model(model.domain, values)
    model.record(smooth_forcing(6, 4))
    gradient = model.adjoint(np.ones((6, model.domain.n_reaches))).parameters["unit_hydrograph_base"]
    np.testing.assert_array_equal(gradient[:3], 0)
    assert gradient[3] != 0


def test_water_far_below_or_later_has_no_influence():
    domain = random_domain(3, 20, 6)
    model = Model(domain)
    forcing = smooth_forcing(6, 6)
    model.record(forcing)
    pull = np.zeros((6, 20))
    pull[2, 0] = 1.0  # a headwater, at the third step
    got = model.adjoint(pull)
    assert not got.forcing["precipitation"][3:].any()
    cells = domain.links.cell[: domain.links.first[1]]
    assert not np.delete(got.forcing["precipitation"], cells, axis=1).any()
    assert not got.parameters["celerity"][1:].any() and not got.state["reach_flow"][1:].any()


def test_what_cannot_be(folder):
    model = make_model(folder, "none", DAY, True)
    with pytest.raises(StateError, match=r"no recording to go back over\. Call record"):
        model.adjoint(np.zeros((3, 9)))
    forcing = smooth_forcing(3, 4)
    with pytest.raises(ForcingError, match="lacks day_of_year"):
        model.record(forcing._replace(day_of_year=None))
    model.record(forcing)
    for shape in ((2, 9), (3, 8), (3,), (9, 3)):
        with pytest.raises(StateError, match=r"has shape .*, expected \(3, 9\): \[time, reach\]"):
            model.adjoint(np.zeros(shape))
    gradients = model.adjoint(np.zeros((3, 9)))
    assert not any(a.any() for group in gradients for a in group.values())
