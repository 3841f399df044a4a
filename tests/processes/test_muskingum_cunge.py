"""Muskingum-Cunge in storage form: golden values of an independent program, floods of a diffusion wave, limits."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from reach_cases import River

from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.model.elementwise import Elementwise
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.processes.muskingum import muskingum_coefficients, muskingum_step
from bmi_cdlm.processes.muskingum_cunge import (
    MUSKINGUM_CUNGE,
    MUSKINGUM_CUNGE_SHAPED,
    channel,
    limited_step,
    muskingum_cunge_step,
    relative_travel_time,
    root_of_flow,
    shaped_channel,
    shaped_step,
)

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "refs" / "ref_mc.nc"
THIRD = 1 / 3
SINGLE = [  # length, slope, n, p, V, inflow; x, W, K, outflow, V
    ((1000.0, 0.002, 0.035, 15.0), (2e4, 30.0), (.3075499103, 29.71336076, 698.1744324, 29.7374352859, 20945.2329708)),
    ((7000.0, 5e-4, 0.04, 25.0), (4e5, 60.0), (.3352435318, 50.53023257, 8423.508501, 47.4861513999, 445049.85496)),
    ((1000.0, 5e-5, 0.03, 100.0), (3e5, 400.0),
     (-13.64213562, 136.1747029, 2441.222916, 381.981774801, 364865.610717)),
    ((1000.0, 0.002, 0.035, 15.0), (0.0, 30.0), (.5, 24.88059792, 740.7316954, 23.8272358715, 22221.9508626)),
]


@pytest.mark.parametrize(("form", "state", "found"), SINGLE)
def test_golden_steps(form, state, found):
    """Weighting, weighted discharge and travel time as well, by the numbers that the step is made of."""
    (V, inflow), (x, W, K, outflow, left) = state, found
    s, spread = compiled(channel)(*form)
    assert compiled(muskingum_cunge_step)(V, inflow, s, spread, 3600.0) == pytest.approx((outflow, left), rel=1e-9)
    D = spread * V**0.75
    assert (1.0 - D) / 2.0 == pytest.approx(x, rel=1e-9)
    g = (1.0 + D) / 3600.0
    y = compiled(root_of_flow)(s * g, V * g + inflow)
    assert (y**3, s / y) == pytest.approx((W, K), rel=1e-9)
    shape = compiled(shaped_channel)(*form, THIRD)
    assert compiled(shaped_step)(V, inflow, *shape, 3600.0) == pytest.approx((outflow, left), rel=1e-9)


@pytest.fixture(scope="module")
def reference():
    if not REFERENCE.is_file():
        pytest.skip(f"reference file {REFERENCE} is not there")
    with netCDF4.Dataset(REFERENCE) as dataset:
        values = {name: np.asarray(dataset[name][:]) for name in dataset.variables}
        facts = {name: {k: dataset[name].getncattr(k) for k in dataset[name].ncattrs()} for name in dataset.variables}
    return values, facts


@pytest.mark.shared_data
def test_golden_tree(reference):
    """Seven reaches of other shapes, 240 h: every discharge and the water at the end; all that comes in is there."""
    values, _ = reference
    down = values["tree_down"].astype(int)
    river = River(MUSKINGUM_CUNGE_SHAPED, down, {
        "manning_roughness": values["tree_n"], "channel_width": values["tree_p"], "channel_shape": values["tree_q"],
    }, values["tree_L"], values["tree_S0"])
    outlet = int(np.flatnonzero(down < 0)[0])
    found, left = river.route(values["tree_lateral"], values["tree_V0"])
    np.testing.assert_allclose(found, values["tree_discharge"], rtol=1e-9)
    np.testing.assert_allclose(left, values["tree_V_end"], rtol=1e-9)
    np.testing.assert_allclose(found[[0, 1, 10, 100, 239], outlet], [
        14.1213200527, 14.1260112214, 14.8925953295, 14.93328634, 14.902483689], rtol=1e-9)
    assert left[outlet] == pytest.approx(189025.980937, rel=1e-9)
    came = values["tree_V0"].sum() + HOUR * values["tree_lateral"].sum()
    assert abs(came - HOUR * found[:, outlet].sum() - left.sum()) <= 1e-12 * came
    dry, _ = river.route(values["tree_lateral"], 0.0)
    np.testing.assert_allclose(
        dry[[0, 1, 2, 10], outlet], [0, .624984218324, 2.64802188521, 14.2530356878], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(("length", "routing_step"), [(1000.0, 3600), (7000.0, 3600), (1000.0, 900)])
@pytest.mark.parametrize("case", ["steep", "mild", "shape", "small"])
def test_floods_of_a_diffusion_wave(reference, case, length, routing_step):
    """Nash-Sutcliffe efficiency of 0.978 at least; the volume to the last digits; an independent program's series."""
    values, facts = reference
    about = {k: float(v) for k, v in facts[f"{case}_inflow"].items() if k in ("p", "q", "S0", "n", "L", "Qb")}
    n = max(1, round(about["L"] / length))
    river = River(MUSKINGUM_CUNGE_SHAPED, [*range(1, n), -1], {
        "manning_roughness": about["n"], "channel_width": about["p"], "channel_shape": about["q"],
    }, about["L"] / n, about["S0"], routing_step)
    inflow = np.zeros((values[f"{case}_inflow"].size, n))
    inflow[:, 0] = values[f"{case}_inflow"]
    start = river.steady(about["Qb"])
    found, left = river.route(inflow, start)
    truth = values[f"{case}_truth"]
    efficiency = 1 - ((found[:, -1] - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert efficiency >= 0.978
    came = start.sum() + HOUR * inflow.sum()
    assert abs(came - HOUR * found[:, -1].sum() - left.sum()) <= 1e-12 * came
    if routing_step == HOUR:  # that of a quarter of an hour has other inflows than means of an hour
        np.testing.assert_allclose(found[:, -1], values[f"{case}_smc_{length / 1000:g}km_1h"], rtol=1e-9)


def drawn(seed: int, n: int) -> dict[str, np.ndarray]:
    """Reaches, states and inflows as no river has them, of no length and without water among them."""
    rng = np.random.default_rng(seed)

    def of(low, high):
        return 10.0 ** rng.uniform(np.log10(low), np.log10(high), n)

    return {
        "length": of(1.0, 1e6) * (rng.random(n) < 0.95), "slope": of(1e-7, 0.5) * (rng.random(n) < 0.95),
        "n": of(1e-3, 1.0), "p": of(0.1, 1e4), "q": rng.uniform(0, 1, n), "V": of(1e-6, 1e10) * (rng.random(n) < 0.9),
        "inflow": of(1e-9, 1e6) * (rng.random(n) < 0.9), "seconds": rng.choice([300.0, 900.0, 3600.0, 86400.0], n),
    }


STEPS = {
    "q = 1/3": (MUSKINGUM_CUNGE, ("length", "slope", "n", "p")),
    "any q": (MUSKINGUM_CUNGE_SHAPED, ("length", "slope", "n", "p", "q")),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("which", STEPS)
def test_a_million_random_states_are_never_negative(which, dtype):
    """Nor is anything lost but by rounding; in float32, of numbers that it can hold."""
    process, names = STEPS[which]
    step, prepare = compiled(process.step, dtype), compiled(process.prepared[0].step, dtype)
    values = {name: v.astype(dtype) for name, v in drawn(1, 1_000_000).items()}
    tolerance = 8 * np.finfo(dtype).eps
    places = np.flatnonzero(values["length"] > 0) if dtype is np.float32 else np.arange(1_000_000)
    for i in places:
        s = prepare(*(values[name][i] for name in names))
        V, inflow, seconds = values["V"][i], values["inflow"][i], values["seconds"][i]
        outflow, left = step(V, inflow, *s, seconds)
        came = float(V) + float(seconds) * float(inflow)
        assert outflow >= 0.0 and left >= 0.0
        assert abs(came - float(seconds) * float(outflow) - float(left)) <= tolerance * came


@pytest.mark.parametrize("seed", range(3))
def test_where_travel_time_and_weighting_are_constant_it_is_muskingum(seed):
    """y = V (1 - C2) / seconds: outflows of 60 steps of every branch agree to 1e-12."""
    rng, seconds = np.random.default_rng(seed), 3600.0
    for _ in range(60):
        K, x = seconds * 10.0 ** rng.uniform(-2, 2), rng.uniform(0.0, 0.5)
        direct, gain, keep, storage_time = muskingum_coefficients(K, x, seconds)
        V = 10.0 ** rng.uniform(2, 7)
        y = V / storage_time
        for inflow in rng.exponential(30.0, 60):
            outflow, V = limited_step(V, inflow, 2.0 * K * (1.0 - x) / seconds, 1.0 - 2.0 * x, seconds)
            expected, y = muskingum_step(y, inflow, direct, gain, keep)
            assert outflow == pytest.approx(expected, rel=1e-12, abs=1e-12)
            assert pytest.approx(y * storage_time, rel=1e-12, abs=1e-9) == V


def test_roots_are_within_a_few_units_of_the_last_digit():
    rng = np.random.default_rng(4)
    s, r = 10.0 ** rng.uniform(-8, 8, 20000), 10.0 ** rng.uniform(-25, 8, 20000)
    root, relative = compiled(root_of_flow), compiled(relative_travel_time)
    y = np.array([root(a, b) for a, b in zip(s, r, strict=True)])
    exact = y.astype(np.longdouble)
    for _ in range(3):
        exact -= (exact * exact * (exact + s) - r) / (exact * (3 * exact + 2 * s))
    assert np.abs(y / exact - 1).max() < 3 * 2.0**-53
    b = rng.uniform(0.6, 0.75, s.size)
    kappa = np.array([relative(*of) for of in zip(s, r, b, strict=True)])
    W = r / (1 + kappa)
    # The slope of the equation tells how far the root is off.
    off = (W + s * W**b - r) / (1 + b * s * W ** (b - 1)) / W
    assert np.abs(off).max() < 1e-13
    assert root(2.0, 0.0) == 0.0 and root(0.0, 8.0) == 2.0
    assert relative(2.0, 0.0, 0.7) == 1e30 and relative(0.0, 8.0, 0.7) == relative(0.0, 0.0, 0.7) == 0.0


@pytest.mark.parametrize("which", STEPS)
def test_a_reach_of_no_length_hands_everything_on(which):
    process, names = STEPS[which]
    values = {"length": 0.0, "slope": 0.0, "n": 0.035, "p": 15.0, "q": 0.4}
    prepared = compiled(process.prepared[0].step)(*(values[name] for name in names))
    assert compiled(process.step)(7200.0, 5.0, *prepared, 3600.0) == pytest.approx((7.0, 0.0), abs=1e-12)


def test_no_slope_counts_as_the_stated_floor():
    at = {slope: compiled(channel)(1000.0, slope, 0.035, 15.0) for slope in (0.0, 1e-6, 1e-5, 1e-4)}
    assert at[0.0] == at[1e-6] == at[1e-5] != at[1e-4]


@pytest.mark.parametrize("which", STEPS)
def test_waves_by_the_routing_itself(which):
    """The mean delay of a small wave and its variance, of the discharge that the step itself makes.

    At steps that cut the weighting nowhere, the step adds the variance of the channel.
    """
    process, names = STEPS[which]
    reach = {"length": 20000.0, "slope": 4e-4, "n": 0.04, "p": 25.0, "q": THIRD}
    river = River(process, [-1], {p.name: reach[p.symbol] for p in process.parameters}, reach["length"], reach["slope"])
    flow, n = 60.0, 400
    inflow = np.full((n, 1), flow)
    inflow[1, 0] += 1e-4
    out = river.route(inflow, river.steady(flow))[0][:, 0] - flow
    t = HOUR * (np.arange(n) - 1.0)
    mean = (out * t).sum() / out.sum()
    variance = (out * (t - mean) ** 2).sum() / out.sum()
    symbols = river.p.symbols
    time, channel_adds, step_adds = (
        float(Elementwise(f, river.operator.constants, np.float64)(symbols, {"flow": np.array([flow])})[0])
        for f in process.waves
    )
    assert mean == pytest.approx(time, rel=0.02)
    assert variance == pytest.approx(step_adds, rel=0.25)
    assert names[0] == "length" and channel_adds > 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["muskingum_cunge_step", "shaped_step"])
def test_the_slope_of_hardly_any_water_has_a_value(name, dtype):
    """Runoff that fades for months ends far below what single precision holds in full."""
    of_third = name == "muskingum_cunge_step"
    step, shape = (muskingum_cunge_step, ()) if of_third else (shaped_step, (2 / 3, 0.75))
    active = ("V", "inflow", "s", "spread")
    adjoint = compiled(derive(step, active, {0: "o_adj", 1: "V_adj"}), dtype)
    forward = compiled(step, dtype)
    few = [0.0, *(float(f"1e-{k}") for k in range(45, 4, -4)), 1.0]
    for s, spread in ((2e4, 2.4e-4), (0.0, 0.0), (50.0, 1e-2), (1e-3, 0.0)):
        for V in few:
            for inflow in few:
                at = [dtype(v) for v in (V, inflow, s, spread, *shape, 3600.0)]
                found = adjoint(*at, dtype(1.0), dtype(1.0))
                assert np.isfinite(found).all(), (at, found)
                outflow, left = forward(*at)
                assert outflow >= 0 and left >= 0
                came = float(at[0]) + 3600.0 * float(at[1])
                assert abs(came - 3600.0 * float(outflow) - float(left)) <= 4 * np.finfo(dtype).eps * came + 1e-35
