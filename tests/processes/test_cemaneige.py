"""CemaNeige: golden values, airGR's own run, and what must hold for any parameters."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import netCDF4
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_domain import lumped_domain, part_of

from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.cemaneige import potential_melt, snow_hysteresis_step, snow_step, solid_fraction

T = np.arange(1000)
RAIN = np.maximum(0, 12 * np.sin(0.37 * T) + 8 * np.sin(0.051 * T + 1))
DEMAND = 2.5 + 2 * np.sin(2 * np.pi * T / 365 - 1.3)
WARMTH = 8 + 12 * np.sin(2 * np.pi * T / 365 - 1.7)
RUNOFF = {"production_capacity": 350.0, "exchange_coefficient": 0.5, "routing_capacity": 90.0,
          "unit_hydrograph_base": 1.7}
SNOW = {"thermal_weighting": 0.5, "melt_factor": 4.0}
HYSTERESIS = {"accumulation_threshold": 60.0, "cover_ratio_threshold": 0.4}


def run_daily(model: Model, forcing: Forcing, names) -> dict[str, np.ndarray]:
    """The named live values after every step."""
    n = forcing.precipitation.shape[0]
    out = {name: np.empty((n, model.domain.n_cells)) for name in names}
    for t in range(n):
        model.advance(part_of(forcing, t, t + 1))
        for name in names:
            out[name][t] = model.live[name]
    return out


@pytest.mark.parametrize(("hysteresis", "most", "pack"), [
    (False, 499.271058676, {365: 162.789891292, 420: 498.285044923, 440: 385.863526234, 460: 42.3110441379}),
    (True, 498.911738555, {460: 12.6810540542}),
])
def test_golden(hysteresis, most, pack):
    """SPEC 2.5, MAS = 200 mm; the plain chain into GR4J has a sum of Q too."""
    model = Model(
        lumped_domain(snowfall=200.0), RUNOFF | SNOW | (HYSTERESIS if hysteresis else {}),
        snow="cemaneige_hysteresis" if hysteresis else "cemaneige",
    )
    out = run_daily(model, Forcing(RAIN[:, None], DEMAND[:, None], WARMTH[:, None]),
                    ("snowpack", "snowfall", "snowmelt", "runoff"))
    assert out["snowpack"].max() == pytest.approx(most, rel=1e-9)
    for t, expected in pack.items():
        assert out["snowpack"][t, 0] == pytest.approx(expected, rel=1e-9)
    if not hysteresis:
        assert out["snowmelt"].sum() == pytest.approx(1389.29559046, rel=1e-9)
        liquid = RAIN - out["snowfall"][:, 0] + out["snowmelt"][:, 0]
        np.testing.assert_allclose(liquid[[100, 440, 460]], [0.983640061108, 12.9136671945, 11.8523514186], rtol=1e-9)
        assert out["runoff"].sum() == pytest.approx(1974.49648129, rel=1e-9)


@pytest.mark.shared_data
def test_snow_and_gr4j_of_airgr(shared_path):
    """Five layers of equal area as five cells; GR4J then runs on the mean of their liquid water."""
    names = {"Prod": "production_store", "Rout": "routing_store", "Pn": "net_rainfall", "Ps": "infiltration",
             "AE": "evapotranspiration", "Perc": "percolation", "PR": "effective_rainfall", "Q9": "routed_flow",
             "Q1": "direct_flow", "Exch": "potential_exchange", "AExch1": "routing_store_exchange",
             "AExch2": "direct_exchange", "AExch": "groundwater_exchange", "QR": "routing_store_outflow",
             "QD": "direct_runoff", "Qsim": "runoff"}
    with netCDF4.Dataset(shared_path("ref_cemaneige_gr4j_airgr.nc")) as reference:
        begin = int(reference["time"][0] - reference["time_in"][0])
        n = reference["time"].size
        period = slice(begin - 365, begin + n)  # 1989 is the warm-up
        layer_P, layer_T = (np.asarray(reference[f"layer_{v}"][period]) for v in "PT")
        demand = np.asarray(reference["E"][period])[:, None]
        mean_annual_snowfall = float(reference.mean_annual_solid_precip)
        expected = {name: np.asarray(reference[f"gr4j_{name}"][:]) for name in names}
        layers = {name: np.asarray(reference[f"cemaneige_{name}"][:])
                  for name in ("SnowPack", "Psol", "Melt", "PliqAndMelt", "ThermalState")}
    snow = Model(
        lumped_domain(5, mean_annual_snowfall), {"thermal_weighting": 0.962, "melt_factor": 2.249},
        snow="cemaneige", routing_step=DAY,
    )
    state = np.empty_like(layer_P)
    got = {"snowfall": np.empty_like(layer_P), "snowmelt": np.empty_like(layer_P), "snowpack": np.empty_like(layer_P)}
    forcing = Forcing(layer_P, np.repeat(demand, 5, axis=1), layer_T)
    for t in range(layer_P.shape[0]):
        snow.advance(part_of(forcing, t, t + 1))
        state[t] = snow.state.cells[0].thermal_state
        for name, values in got.items():
            values[t] = snow.live[name]
    liquid = layer_P - got["snowfall"] + got["snowmelt"]
    for name, ours, limit in (
        ("Psol", got["snowfall"], 1e-6), ("Melt", got["snowmelt"], 1e-6), ("PliqAndMelt", liquid, 1e-6),
        ("SnowPack", got["snowpack"], 1e-5), ("ThermalState", state, 1e-6),
    ):
        np.testing.assert_allclose(ours[365:], layers[name], rtol=0, atol=limit, err_msg=name)

    values = (408.774, 2.646, 131.264, 1.174)
    basin = Model(lumped_domain(), dict(zip(RUNOFF, values, strict=True)), routing_step=DAY)
    out = run_daily(basin, Forcing(liquid.mean(axis=1, keepdims=True), demand), names.values())
    for name, ours in names.items():
        limit = 1e-5 if name in ("Prod", "Rout") else 1e-6
        np.testing.assert_allclose(out[ours][365:, 0], expected[name], rtol=0, atol=limit, err_msg=name)


@pytest.mark.parametrize(("temperature", "share"), [(-30, 1), (-1, 1), (0, 0.75), (1, 0.5), (3, 0), (30, 0)])
def test_phase_of_precipitation(temperature, share):
    assert solid_fraction(float(temperature)) == share


def test_a_cold_pack_or_cold_air_does_not_melt():
    assert potential_melt(50.0, -0.1, 5.0, 4.0) == 0
    assert potential_melt(50.0, 0.0, 0.0, 4.0) == 0
    assert potential_melt(50.0, 0.0, 5.0, 4.0) == 20
    assert potential_melt(7.0, 0.0, 5.0, 4.0) == 7


def test_without_a_threshold_the_cell_is_covered_and_nothing_divides_by_zero():
    """MAS = 0: full cover, so that melt is 0.9 + 0.1 of the potential melt."""
    G, _, liquid, _, melt = snow_step(10.0, 0.0, 0.0, 1.0, 0.5, 2.0, 0.0)
    assert (G, liquid, melt) == (8.0, 2.0, 2.0)
    out = snow_hysteresis_step(10.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.5, 2.0, 30.0, 0.0)
    assert out[0] == 8.0 and out[6] == 2.0


def hysteresis_of_airgr(G, eTG, Gl, r, P, T, ctg, kf, Ga, Gt):
    """SPEC 2.4, line by line."""
    fs = min(max(1 - (T + 1) / 4, 0), 1)
    Ps, Pl = fs * P, (1 - fs) * P
    before = G
    G += Ps
    eTG = min(ctg * eTG + (1 - ctg) * T, 0)
    PM = min(kf * T, G) if eTG == 0 and T > 0 else 0
    if PM > 0:
        if G < Gl and r == 1:
            Gl = G
        r = min(G / Gl, 1)
    M = (0.9 * r + 0.1) * PM
    G -= M
    if G - before > 0:
        r = min(r + (Ps - M) / Ga, 1)
        if r == 1:
            Gl = Gt
    else:
        r = min(G / Gl, 1)
    return G, eTG, Gl, r, Pl + M, Ps, M


@given(
    st.integers(0, 2**32), st.floats(0, 1), st.floats(0.1, 15), st.floats(0.5, 100), st.floats(1, 500),
)
def test_hysteresis_is_the_one_of_the_specification(seed, ctg, kf, Ga, Gt):
    rng = np.random.default_rng(seed)
    ours = theirs = (0.0, 0.0, Gt, 0.0)
    for _ in range(120):
        P, T = float(rng.choice([0.0, 15.0]) * rng.random()), float(rng.normal(1, 4))
        ours = snow_hysteresis_step(*ours[:4], P, T, ctg, kf, Ga, Gt)
        theirs = hysteresis_of_airgr(*theirs[:4], P, T, ctg, kf, Ga, Gt)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@st.composite
def cases(draw):
    n = draw(st.integers(1, 5))
    shape = (draw(st.integers(1, 60)), n)
    step = draw(st.sampled_from([DAY, HOUR]))

    def cells(low, high):
        return draw(hnp.arrays(float, n, elements=st.floats(low, high)))

    parameters = {
        "thermal_weighting": cells(0, 1), "melt_factor": cells(0, 50), "accumulation_threshold": cells(1e-3, 200),
        "cover_ratio_threshold": cells(1e-3, 1),
    }
    rain = draw(hnp.arrays(float, shape, elements=st.one_of(st.just(0.0), st.floats(0, 200))))
    warmth = draw(hnp.arrays(float, shape, elements=st.one_of(st.floats(-40, 40), st.sampled_from([0.0, -1.0, 3.0]))))
    snowfall = draw(st.sampled_from([0.0, 1.0, 300.0]))
    kind = draw(st.sampled_from(["cemaneige", "cemaneige_hysteresis"]))
    return Model(lumped_domain(n, snowfall), parameters, snow=kind, step=step), Forcing(rain, rain * 0.1, warmth)


@given(cases())
def test_snow_keeps_its_water_and_its_bounds(case):
    """P = liquid + change of the pack, cell by cell; cover in [0, 1], no warm pack, no negative flux."""
    model, forcing = case
    days = model.step / DAY
    out = model.advance(forcing, keep=("snowfall", "snowmelt"))
    snow = model.state.cells[0]
    fell, melted = (days * np.array([math.fsum(c) for c in out[name].T]) for name in ("snowfall", "snowmelt"))
    assert (np.abs(fell - melted - snow.snowpack) <= 1e-12 * fell).all()
    assert (out["snowfall"] >= 0).all() and (out["snowmelt"] >= 0).all() and (snow.snowpack >= 0).all()
    tiny = np.finfo(np.float64).tiny  # below it, a rate times the hours of a day and back is not exact
    assert (out["snowfall"] <= forcing.precipitation * (1 + 1e-15) + tiny).all()
    assert (snow.thermal_state <= 0).all()
    if model.snow == "cemaneige_hysteresis":
        assert ((snow.snow_cover >= 0) & (snow.snow_cover <= 1)).all()
        assert (snow.snow_peak >= 0).all()
    ledger = model.live["water_in"] - model.live["water_out"] + model.live["water_exchanged"]
    assert np.isfinite(ledger).all()
