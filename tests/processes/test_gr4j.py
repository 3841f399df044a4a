"""GR4J: golden values, airGR's own run, and what must hold for any parameters."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import netCDF4
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_domain import lumped_domain, part_of

from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.plan import CellPlan, places_of
from bmi_cdlm.kernels.loops.prepared import ordinate_loops
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.preparation import step_numbers
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.gr4j import GR4J

EVERY_FLUX = tuple(GR4J.fluxes)

NAMES = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
T = np.arange(1000)
RAIN = np.maximum(0, 12 * np.sin(0.37 * T) + 8 * np.sin(0.051 * T + 1))
DEMAND = 2.5 + 2 * np.sin(2 * np.pi * T / 365 - 1.3)
# SPEC 1.8: X1 to X4; Q at t = 0, 1, 2, 10, 100, 500, 999; sums of Q, AE and exchange; S and R at the end.
GOLDEN = [
    ((350, 0.5, 90, 1.7),
     [0.742677783115, 0.784015372252, 0.889513084677, 2.6000294249, 0.467991433521, 4.37508010265, 1.50414857304],
     {"runoff": 2008.12526478, "evapotranspiration": 2345.18083349, "groundwater_exchange": 141.104597214,
      "production_store": 215.508254877, "routing_store": 50.9461219497}),
    ((120, -1.5, 40, 3.3),
     [0.293391307583, 0.278895136143, 0.306324248112, 6.19873353131, 0.0996139738513, 5.2758271898, 1.27320250781],
     {"runoff": 1630.04657122, "evapotranspiration": 2174.45598448, "groundwater_exchange": -461.316041549}),
    ((800, 3, 200, 0.5),
     [1.88709212666, 1.90333606227, 1.96481918296, 2.0703428649, 0.818104503102, 4.00482831297, 1.85848650061], {}),
    ((250, -8, 60, 9.99),
     [0.401994699741, 0.338800846211, 0.291841798436, 0.552251531809, 0.117889586369, 0.335767887798,
      1.55980310201], {"runoff": 863.059019862, "groundwater_exchange": -1048.29261731}),
]
FLUXES = {
    "Pn": "net_rainfall", "Ps": "infiltration", "AE": "evapotranspiration", "Perc": "percolation",
    "PR": "effective_rainfall", "Q9": "routed_flow", "Q1": "direct_flow", "Exch": "potential_exchange",
    "AExch1": "routing_store_exchange", "AExch2": "direct_exchange", "AExch": "groundwater_exchange",
    "QR": "routing_store_outflow", "QD": "direct_runoff", "Qsim": "runoff",
}
STORES = {"Prod": "production_store", "Rout": "routing_store"}


def cells_with(parameters, **options) -> Model:
    """A model of one basin per row of X1 to X4."""
    values = np.array(parameters, float).reshape(-1, 4)
    return Model(lumped_domain(len(values)), dict(zip(NAMES, values.T, strict=True)), routing_step=HOUR, **options)


def on_cells(values: np.ndarray, n: int) -> np.ndarray:
    return np.repeat(np.asarray(values, float)[:, None], n, axis=1)


@pytest.mark.parametrize(("parameters", "flow", "sums"), GOLDEN, ids=str)
def test_golden_daily(parameters, flow, sums):
    model = cells_with(parameters)
    out = model.advance(Forcing(on_cells(RAIN, 1), on_cells(DEMAND, 1)), keep=EVERY_FLUX)
    np.testing.assert_allclose(out["runoff"][[0, 1, 2, 10, 100, 500, 999], 0], flow, rtol=1e-9)
    for name, expected in sums.items():
        got = model.live[name][0] if name in STORES.values() else out[name].sum()
        assert got == pytest.approx(expected, rel=1e-9), name


def test_golden_hourly():
    """SPEC 1.9: the sum and Q at six hours; forcing and runoff are rates per day at every step length."""
    t = np.arange(2000)
    rain = np.maximum(0, 1.2 * np.sin(0.05 * t) + 0.8 * np.sin(0.011 * t + 1) - 0.9)
    demand = np.maximum(0, 0.15 * np.sin(2 * np.pi * t / 24 - np.pi / 2))
    model = cells_with((500, -0.2, 80, 10.5), step=HOUR)
    out = model.advance(Forcing(on_cells(24 * rain, 1), on_cells(24 * demand, 1)), keep=("runoff",))
    flow = out["runoff"][:, 0] / 24
    expected = [0.600387484586, 0.328348208916, 0.0650526524219, 0.0094565013802, 0.0101982009803, 0.0245288316504]
    np.testing.assert_allclose(flow[[0, 10, 100, 500, 1000, 1999]], expected, rtol=1e-9)
    assert flow.sum() == pytest.approx(64.720437003, rel=1e-9)


@pytest.mark.slow
@pytest.mark.shared_data
def test_runoff_of_airgr_for_every_parameter_set(shared_path):
    """airGR's literals are of single precision: 5.8e-7 mm d-1 at most from exact constants (SPEC 0.2)."""
    with netCDF4.Dataset(shared_path("ref_gr4j_airgr.nc")) as reference:
        parameters = np.asarray(reference["X"][:])
        rain, demand, expected = (np.asarray(reference[name][:]) for name in ("P", "E", "Qsim"))
    model = cells_with(parameters)
    forcing = Forcing(on_cells(rain, len(parameters)), on_cells(demand, len(parameters)))
    flow = model.advance(forcing, keep=("runoff",))["runoff"]
    np.testing.assert_allclose(flow, expected, rtol=0, atol=1e-6)


@pytest.mark.shared_data
def test_every_flux_and_store_of_airgr(shared_path):
    with netCDF4.Dataset(shared_path("ref_gr4j_airgr.nc")) as reference:
        model = cells_with(reference["X"][0])
        forcing = Forcing(on_cells(reference["P"][:], 1), on_cells(reference["E"][:], 1))
        expected = {name: np.asarray(reference[f"flux_{name}"][:]) for name in (*FLUXES, *STORES)}
    model.routing_step = DAY
    n_steps = forcing.precipitation.shape[0]
    got = {name: np.empty(n_steps) for name in expected}
    for t in range(n_steps):
        model.advance(part_of(forcing, t, t + 1))
        for name, ours in (FLUXES | STORES).items():
            got[name][t] = model.live[ours][0]
    for name in expected:
        limit = 1e-5 if name in STORES else 1e-6
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=limit, err_msg=name)


def ordinates(x4: float, step: int) -> list[np.ndarray]:
    """Ordinates of both unit hydrographs, [place, 1]."""
    constants, found = CellPlan(GR4J).constant_group(*step_numbers(GR4J, step, np.float64)), []
    for queue in GR4J.queues.values():
        found.append(np.empty((places_of(queue, x4), 1)))
        compiled(ordinate_loops(queue, constants._fields).fill)(np.array([x4]), constants, found[-1])
    return found


def s_curves(k: int, x4: float, a: float) -> tuple[float, float]:
    """SPEC 1.2, as written there."""
    s1 = 0.0 if k <= 0 else (k / x4) ** a if k < x4 else 1.0
    if k <= 0:
        return s1, 0.0
    if k <= x4:
        return s1, 0.5 * (k / x4) ** a
    return s1, 1 - 0.5 * (2 - k / x4) ** a if k < 2 * x4 else 1.0


@given(st.floats(0.5, 480.0), st.sampled_from([DAY, HOUR]))
def test_unit_hydrographs_follow_the_closed_form_and_sum_to_one(x4, step):
    a = GR4J.constants["exponent"][step]
    for curve, found in enumerate(ordinates(x4, step)):
        assert len(found) == math.ceil((curve + 1) * x4)
        s = [s_curves(k, x4, a)[curve] for k in range(len(found) + 1)]
        np.testing.assert_allclose(found[:, 0], np.diff(s), rtol=1e-12, atol=1e-15)
        assert (found >= 0).all()
        assert abs(math.fsum(found[:, 0]) - 1) <= 2.3e-16


@pytest.mark.parametrize("x4", [0.0, 0.2, 0.5])
def test_a_base_of_half_a_step_or_less_is_no_delay(x4):
    model = cells_with((350, 0, 90, x4))
    out = model.advance(Forcing(on_cells(RAIN[:50], 1), on_cells(DEMAND[:50], 1)), keep=EVERY_FLUX)
    np.testing.assert_allclose(out["routed_flow"], 0.9 * out["effective_rainfall"], rtol=1e-15)
    np.testing.assert_allclose(out["direct_flow"], 0.1 * out["effective_rainfall"], rtol=1e-15)


def test_a_base_of_one_step_splits_the_second_unit_hydrograph_in_halves():
    one, two = ordinates(1.0, DAY)
    assert one.ravel().tolist() == [1.0] and two.ravel().tolist() == [0.5, 0.5]


@st.composite
def cases(draw):
    """A model of a few cells with any legal parameters, with forcing; the longest unit hydrograph is shared."""
    step = draw(st.sampled_from([DAY, HOUR]))
    longest = 20.0 if step == DAY else 120.0
    row = st.tuples(
        st.floats(-2, 5).map(lambda e: 10.0**e),
        st.one_of(st.floats(-100, 100), st.just(0.0)),
        st.floats(-2, 4).map(lambda e: 10.0**e),
        st.one_of(st.floats(0, longest), st.sampled_from([0.5, 1.0, 2.0, longest])),
    )
    rows = draw(st.lists(row, min_size=1, max_size=5))
    shape = (draw(st.integers(1, 60)), len(rows))
    rates = st.one_of(st.just(0.0), st.floats(1e-200, 300), st.sampled_from([5.0, 1e-12, 0.1]))
    forcing = Forcing(draw(hnp.arrays(float, shape, elements=rates)), draw(hnp.arrays(float, shape, elements=rates)))
    return rows, step, forcing


def water(model: Model) -> np.ndarray:
    r = model.state.cells[-1]
    return np.array([
        math.fsum([S, R, *q1, *q2])
        for S, R, q1, q2 in zip(
            r.production_store, r.routing_store, r.unit_hydrograph_1.T, r.unit_hydrograph_2.T, strict=True
        )
    ])


@given(cases())
def test_mass_closes_and_stores_stay_in_bounds(case):
    """P - AE + exchange - Q = change of S, R and the unit hydrographs [SPEC 1.5], relative to all water moved."""
    rows, step, forcing = case
    model = cells_with(rows, step=step)
    days = step / DAY
    before = water(model)
    out = model.advance(forcing, keep=EVERY_FLUX)
    total = {name: days * np.array([math.fsum(c) for c in out[name].T]) for name in EVERY_FLUX}
    gross = days * (np.abs(out["routing_store_exchange"]) + np.abs(out["direct_exchange"])).sum(axis=0)
    rain = days * np.array([math.fsum(c) for c in forcing.precipitation.T])
    residual = (
        rain - total["evapotranspiration"] + total["groundwater_exchange"] - total["runoff"]
        - (water(model) - before)
    )
    assert (np.abs(residual) <= 1e-12 * (rain + before + gross)).all(), residual

    X1, _, X3, _ = np.array(rows).T
    S, R = model.state.cells[-1].production_store, model.state.cells[-1].routing_store
    assert ((S >= 0) & (X1 >= S)).all()
    assert ((R >= 0) & (R <= X3 * (1 + 1e-9))).all()
    for name in ("runoff", "routing_store_outflow", "direct_runoff", "evapotranspiration", "net_rainfall",
                 "infiltration", "percolation"):
        assert (out[name] >= 0).all(), name
    rounding = 1e-15 * forcing.precipitation.max(axis=0)  # of Pn - Ps, where a dry store takes all of Pn
    for name in ("effective_rainfall", "routed_flow", "direct_flow"):
        assert (out[name] >= -rounding).all(), name
    demand = np.minimum(forcing.potential_evapotranspiration, forcing.precipitation)
    assert (out["evapotranspiration"] >= demand * (1 - 1e-14)).all()
    limit = forcing.potential_evapotranspiration * (1 + 1e-14)
    assert (out["evapotranspiration"] <= limit).all()
    np.testing.assert_allclose(
        out["runoff"], out["routing_store_outflow"] + out["direct_runoff"], rtol=1e-14, atol=1e-300
    )


@given(cases(), st.data())
def test_the_past_does_not_know_the_future(case, data):
    rows, step, forcing = case
    t = data.draw(st.integers(0, forcing.precipitation.shape[0] - 1))
    other = Forcing(forcing.precipitation.copy(), forcing.potential_evapotranspiration.copy())
    other.precipitation[t:] += 50.0
    other.potential_evapotranspiration[t:] *= 0.5
    first, second = (
        cells_with(rows, step=step).advance(f, keep=EVERY_FLUX) for f in (forcing, other)
    )
    for name in EVERY_FLUX:
        assert np.array_equal(first[name][:t], second[name][:t]), name


def test_water_in_a_queue_leaves_in_order():
    """No rain, no stores that feed it: Q1 is what stood in the queue, place by place, nothing twice."""
    model = cells_with((350, 0, 90, 2.5))
    queue = model.state.cells[-1].unit_hydrograph_2
    model.state.cells[-1].production_store[:] = 0
    queue[:, 0] = [3.0, 1.0, 4.0, 1.5, 0.0]
    dry = np.zeros((8, 1))
    out = model.advance(Forcing(dry, dry), keep=("direct_flow",))
    assert out["direct_flow"][:, 0].tolist() == [3.0, 1.0, 4.0, 1.5, 0, 0, 0, 0]
    assert not queue.any()


def test_empty_stores_without_rain_stay_empty():
    model = cells_with([(350, x2, 90, 1.7) for x2 in (-5, 0, 5)])
    for store in model.state.cells[-1]:
        store[...] = 0
    dry = np.zeros((5, 3))
    out = model.advance(Forcing(dry, dry + 4.0), keep=EVERY_FLUX)
    assert not out["runoff"].any() and not out["evapotranspiration"].any()
    assert not water(model).any()
