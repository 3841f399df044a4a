"""HBV: golden values and gradients of an independent program, reference series, water, variants, unit hydrograph."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from make_domain import lumped_domain, random_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.hbv import HBV, HBV_1_0, HBV_1_1P, HBV_2_0, regional_exchange

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "refs" / "ref_hbv_hydrodl2.nc"
STORES = ("snow_ice", "snow_liquid_water", "soil_moisture", "upper_zone", "lower_zone")
NAMES = {p.symbol: p.name for p in HBV_2_0.parameters}
MIDDLE = {"BETA": 3.5, "FC": 525.0, "K0": 0.475, "K1": 0.255, "K2": 0.1005, "LP": 0.6, "PERC": 5.0, "UZL": 50.0,
          "TT": 0.0, "CFMAX": 5.25, "CFR": 0.05, "CWH": 0.1, "BETAET": 2.65, "C": 0.5, "RT": 10.0, "AC": 1250.0}
"""The middles of the ranges of the published code."""
T = np.arange(1000)
WEATHER = {
    "precipitation": np.maximum(0, 12 * np.sin(0.37 * T) + 8 * np.sin(0.051 * T + 1)),
    "potential_evapotranspiration": 2.5 + 2 * np.sin(2 * np.pi * T / 365 - 1.3),
    "air_temperature": 8 + 12 * np.sin(2 * np.pi * T / 365 - 1.7) + 6 * np.sin(0.9 * T),
}
A = MIDDLE | {"UZL": 20.0, "CFR": 0.05, "RT": 0.0}
B = A | {"TT": 1.0, "BETA": 1.0, "BETAET": 0.3, "LP": 1.0, "RT": 2.0, "AC": 600.0}
C = B | {"AC": 1500.0, "BETA": 6.0, "BETAET": 5.0, "C": 1.0, "FC": 50.0}
AT = [0, 1, 2, 10, 100, 200, 500, 999]
GOLDEN = {
    "A": (A, [0, 0, 7.33900817607e-06, .0001111201422, .0120738026462, .0167705960014, 5.54829588064, .531713985042],
          {"runoff": 1400.73068685, "evapotranspiration": 2522.51437681, "recharge": 1970.04433384,
           "capillary_rise": 564.554674553, "deep_percolation": 1508.66353404, "refreezing": 150.196063412,
           "melt_in_snow": 1139.66115769}, {"soil_moisture": 400.888878714, "lower_zone": 4.75897243329}),
    "B": (B, [.0603, .087419925, .101974867137, .124429057227, .230516990495, .233247112077, 8.43027599999,
              1.00299670773],
          {"runoff": 2216.22511499, "evapotranspiration": 2340.20304659, "groundwater_exchange": 600.0},
          {"soil_moisture": 363.487683189, "lower_zone": 8.97707003589}),
    "C": (C, [0, 0, 0, 0, 0, 0, 7.14227029439, .864134705253],
          {"runoff": 1862.98461804, "evapotranspiration": 1611.44427259, "groundwater_exchange": -800.331303269},
          {"soil_moisture": 46.3985003509, "lower_zone": 7.73422057089}),
}
GRADIENT = {
    "BETA": -9.96034986806, "FC": .102635638922, "K0": 1.17523610377, "K1": 33.1724557156, "K2": -102.399919694,
    "LP": 81.2777094544, "PERC": -2.06805995554, "UZL": -.0954333785104, "TT": -2.57958070513, "CFMAX": -1.73911887007,
    "CFR": -59.6828721178, "CWH": -19.9075861577, "BETAET": 1.45611301828, "C": -11.5929212671, "RT": 7.03580397439,
    "AC": -.0469053598292,
}
GRADIENT_OF_START = [.200511797911, .204843062458, .209562574535, .53881725982, .309923872237]


def basins(n=1, upstream_area=900.0, elevation=500.0):
    """Lumped basins under a river of that size."""
    domain = lumped_domain(n)
    area, height = (np.broadcast_to(v, n).astype(float) for v in (upstream_area, elevation))
    return domain._replace(cells=domain.cells._replace(upstream_area=area, elevation=height))


class Run:
    """A run of a variant over columns of weather: runoff, fluxes [time, cell], state and totals."""

    def __init__(self, process, values, weather=WEATHER, step=DAY, start=None, varying=(), **basin):
        series = {name: np.ascontiguousarray(np.reshape(v, (len(v), -1))) for name, v in weather.items()}
        n_steps, n = series["precipitation"].shape
        self.operator = o = CellOperator(process, basins(n, **basin), step, np.float64, Workers(1), varying)
        given = {NAMES[s]: np.broadcast_to(v, n).astype(float) for s, v in values.items()}
        defaults = {p.name: np.full(n, float(p.range_at(step).default)) for p in process.parameters}
        wanted = [p.name for p in process.parameters if not p.optional and p.name not in varying]
        self.p = o.prepare({name: given.get(name, defaults[name]) for name in wanted})
        self.state = o.start(self.p)
        for name, value in zip(STORES, start or (), strict=start is not None):
            getattr(self.state, name)[:] = value
        self.before = self.water()
        names = o.plan.flux_group._fields
        self.fluxes = o.plan.flux_group(*(np.empty((n_steps, n)) for _ in names))
        self.totals = o.plan.total_group(*(np.zeros(n) for _ in range(4)))
        self.runoff, self.series = np.empty((n_steps, n)), series
        o.advance(series, self.p, self.state, self.runoff, self.totals, self.fluxes)

    def water(self):
        return sum(np.sum(getattr(self.state, name), axis=0) if name in self.operator.process.queues
                   else getattr(self.state, name) for name in self.state._fields)


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_values(case):
    values, flow, sums, end = GOLDEN[case]
    run = Run(HBV, values)
    np.testing.assert_allclose(run.runoff[AT, 0], flow, rtol=1e-9, atol=1e-12)
    for name, value in sums.items():
        series = run.runoff if name == "runoff" else getattr(run.fluxes, name)
        assert series.sum() == pytest.approx(value, rel=1e-9), name
    for name, value in end.items():
        assert getattr(run.state, name)[0] == pytest.approx(value, rel=1e-9), name


def test_golden_gradient():
    """Of a sum of runoff, evapotranspiration and stores; that of evapotranspiration comes through the balance."""
    values, start = A | {"RT": 2.0, "AC": 600.0, "CFR": 0.002}, (5.0, 1.0, 100.0, 10.0, 30.0)
    weather = {name: v[:400] for name, v in WEATHER.items()}
    weights, at_end = np.cos(0.1 * T[:400])[:, None], 0.1 * np.arange(1, 6)

    def objective(given, at_start):
        run = Run(HBV, given, weather, start=at_start)
        end = [getattr(run.state, name)[0] for name in STORES]
        return float((weights * (run.runoff + 0.3 * run.fluxes.evapotranspiration)).sum() + at_end @ end)

    assert objective(values, start) == pytest.approx(217.669283728588, rel=1e-11)
    # ea_t = P_t + g_t - q_t - (W_t+1 - W_t): the sum with weights w is one of runoff, exchange and stored water, and
    # stored water of a step is an adjoint of the state between two runs.
    found, at_start = gradient(values, start, weather, weights, at_end)
    for symbol, value in GRADIENT.items():
        assert found[symbol] == pytest.approx(value, rel=1e-8), symbol
    np.testing.assert_allclose(at_start, GRADIENT_OF_START, rtol=1e-8)


def gradient(values, start, weather, weights, at_end):
    """Step by step backwards, through the operator: (dL/d parameter by symbol, dL/d start)."""
    runs, state = [], start
    for t in range(400):
        run = Run(HBV, values, {name: v[t : t + 1] for name, v in weather.items()}, start=state)
        runs.append((run, state))
        state = tuple(float(getattr(run.state, name)[0]) for name in STORES)
    total: dict[str, float] = dict.fromkeys(values, 0.0)
    adj = np.array(at_end, float)
    for t in range(399, -1, -1):
        run, before = runs[t]
        w = 0.3 * weights[t, 0]
        o = run.operator
        # L_t = w ea = w (P + g - q - (after - before)): g counts where it is not limited, by RT and AC.
        state_adj = o.plan.state_group(*(np.array([a - w]) for a in adj))
        fresh = o.plan.state_group(*(np.array([v]) for v in before))
        _, record = o.run(run.series, run.p, fresh)
        _, p_adj = o.reverse(record, np.array([[weights[t, 0] - w]]), state_adj)
        named = o.prepare_adjoint(run.p, p_adj)
        for symbol in values:
            total[symbol] += float(named[NAMES[symbol]][0])
        growing = (900.0 - values["AC"]) / 1000.0
        total["RT"] += w * growing
        total["AC"] += -w * values["RT"] / 1000.0
        adj = np.array([a[0] for a in state_adj]) + w
    return total, adj


# ---- series of an independent program, five cells, three parameters that vary ------------------------------


@pytest.fixture(scope="module")
def reference():
    if not REFERENCE.is_file():
        pytest.skip(f"reference file {REFERENCE} is not there")
    with netCDF4.Dataset(REFERENCE) as dataset:
        return {name: np.asarray(dataset[name][:]) for name in dataset.variables}


VARYING = ("recharge_shape", "quickflow_rate", "evaporation_shape")


def run_reference(reference, process, cells=slice(None), varying=VARYING):
    """The run of the reference: unit hydrographs of its own, dynamic parameters, areas that take every branch."""
    symbols = [str(s) for s in reference["parameter"]]
    own = {p.symbol for p in process.parameters}
    values = {s: reference["static_parameter"][cells, k] for k, s in enumerate(symbols) if s in own}
    values |= {"a": reference["route_a"][cells], "b": reference["route_b"][cells]} if process.queues else {}
    dynamic = {"recharge_shape": "BETA", "quickflow_rate": "K0", "evaporation_shape": "BETAET"}
    weather = {
        "precipitation": reference["precipitation"][:, cells], "air_temperature": reference["temperature"][:, cells],
        "potential_evapotranspiration": reference["pet"][:, cells],
    } | {name: reference[f"dynamic_{dynamic[name]}"][:, cells] for name in varying}
    left = {dynamic[name]: reference[f"dynamic_{dynamic[name]}"][-1, cells] for name in VARYING if name not in varying}
    place = {"upstream_area": reference["upstream_area"][cells], "elevation": reference["elevation"][cells]}
    return Run(process, {s: v for s, v in values.items() if NAMES[s] not in varying} | left, weather, varying=varying,
               **place)


@pytest.mark.shared_data
def test_series_of_exact_mass_and_of_the_original(reference):
    """dHBV 2.0: runoff before the unit hydrograph and every store to 1e-9, the original within 5e-4 mm/d."""
    low = reference["elevation"] < 2000.0
    assert 0 < low.sum() < low.size
    run = run_reference(reference, HBV_2_0)
    made = sum(getattr(run.fluxes, name) for name in ("quickflow", "interflow", "baseflow"))
    np.testing.assert_allclose(made, reference["exact_q"], rtol=1e-9, atol=1e-9)
    end = np.stack([getattr(run.state, name) for name in STORES], axis=-1)
    np.testing.assert_allclose(end, reference["exact_states"][-1], rtol=1e-9, atol=1e-9)
    assert np.abs(made - reference["streamflow_no_rout"]).max() < 5e-4
    assert np.abs(run.runoff - reference["streamflow"]).max() < 5e-4
    pairs = {"groundwater_exchange": "spec_regional", "capillary_rise": "capillary", "recharge": "recharge",
             "soil_overflow": "excs", "deep_percolation": "percolation", "refreezing": "spec_refreeze",
             "melt_in_snow": "spec_melt", "snowfall": "spec_snow", "evapotranspiration": "AET_hydro",
             "quickflow": "srflow_no_rout", "interflow": "ssflow_no_rout", "baseflow": "gwflow_no_rout"}
    for ours, theirs in pairs.items():  # floors of 1e-5 mm and stores of 0.001 mm at the start are theirs alone
        assert np.abs(getattr(run.fluxes, ours) - reference[theirs]).max() < 3e-3, ours
    alone = run_reference(reference, HBV, low)
    np.testing.assert_allclose(alone.runoff, reference["exact_q"][:, low], rtol=1e-9, atol=1e-9)


@pytest.mark.shared_data
@pytest.mark.parametrize(("process", "name", "varying"), [
    (HBV_1_1P, "hbv11p_q", VARYING), (HBV_1_0, "hbv10_q", ("recharge_shape", "evaporation_shape")),
])
def test_series_of_earlier_variants(reference, process, name, varying):
    """Within 5e-4 mm/d: those of the reference have the original's floors and its water at the start."""
    run = run_reference(reference, process, varying=varying)
    made = sum(getattr(run.fluxes, f) for f in ("quickflow", "interflow", "baseflow"))
    assert np.abs(made - reference[name]).max() < 5e-4


# ---- water, variants, areas --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("process", [HBV, HBV_1_0, HBV_1_1P, HBV_2_0], ids=lambda p: p.name)
def test_no_water_is_lost_in_a_run(process, step):
    """Precipitation + exchange - evapotranspiration - runoff = what is held more, to 1e-12 of the precipitation."""
    rng, n, n_steps = np.random.default_rng(3), 24, 600
    values = {}
    for p in process.parameters:
        if not p.optional:
            low, high, _ = p.range_at(step)
            values[p.symbol] = rng.uniform(low, high, n)
    wet = rng.random((n_steps, n)) < 0.4
    weather = {
        "precipitation": np.where(wet, rng.exponential(12.0, (n_steps, n)), 0.0),
        "potential_evapotranspiration": rng.uniform(0, 6, (n_steps, n)),
        "air_temperature": 2.0 + 12.0 * np.sin(np.arange(n_steps) / 58.1)[:, None] + rng.normal(0, 3, (n_steps, n)),
    }
    run = Run(process, values, weather, step, upstream_area=rng.uniform(0, 4000, n), elevation=rng.uniform(0, 3000, n))
    total = run.totals
    rain = weather["precipitation"].sum(axis=0) * step / DAY
    np.testing.assert_allclose(total.precipitation_total, rain, rtol=1e-12)
    np.testing.assert_allclose(total.runoff_total, run.runoff.sum(axis=0) * step / DAY, rtol=1e-11)
    exchanged = run.fluxes.groundwater_exchange if "groundwater_exchange" in run.fluxes._fields else np.zeros((1, n))
    assert (np.abs(exchanged).max(axis=0) > 0).any() is np.bool_(process in (HBV, HBV_2_0))
    left = rain + total.exchange_total - total.evapotranspiration_total - total.runoff_total
    assert np.abs((left - (run.water() - run.before)) / rain).max() < 1e-12
    assert (run.runoff >= 0).all()


def test_exchange_is_off_unless_it_is_given():
    run = Run(HBV, {s: v for s, v in MIDDLE.items() if s not in ("RT", "AC")})
    assert not run.fluxes.groundwater_exchange.any() and not run.totals.exchange_total.any()
    assert {"regional_exchange_capacity", "regional_exchange_area"} <= set(HBV.left_at_default)


@pytest.mark.parametrize(("turn", "area", "share"), [
    (1500.0, 0.0, -1.0), (600.0, 0.0, -0.6), (600.0, 100.0, -0.5), (600.0, 600.0, 0.0), (600.0, 1100.0, 0.5),
    (600.0, 1700.0, 1.0), (1500.0, 2499.0, 0.999), (1500.0, 2500.0, 1.0), (600.0, 2550.0, np.exp(-1.0)),
    (600.0, 9000.0, np.exp(-10.0)),
])
def test_exchange_by_area(turn, area, share):
    assert regional_exchange(3.0, turn, area) == pytest.approx(3.0 * share, rel=1e-14, abs=1e-14)


def test_high_cells_have_snow_below_four_degrees():
    cold = {name: np.full(5, v) for name, v in (
        ("precipitation", 10.0), ("air_temperature", 3.0), ("potential_evapotranspiration", 0.0))}
    for elevation, snow in ((1999.0, 0.0), (2000.0, 10.0)):
        run = Run(HBV_2_0, MIDDLE | {"RT": 0.0}, cold, elevation=elevation)
        assert (run.fluxes.snowfall == snow).all()


@pytest.mark.parametrize(("shape", "scale", "first", "last"), [
    (0.0, 0.0, (.947745476853, .0477192519874), None),
    (1.45, 3.25, (.0904320140643, .126743889811, .128567731787), .0137808192476),
    (2.9, 6.5, (.000937460942376, .00731397755542), .106698966956),
])
def test_golden_unit_hydrograph(shape, scale, first, last):
    run = Run(HBV_1_1P, {s: v for s, v in MIDDLE.items() if s not in ("RT", "AC")} | {"a": shape, "b": scale})
    found = run.p.symbols["gamma_hydrograph"][:, 0]
    assert found.size == 15 and found.sum() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(found[: len(first)], first, rtol=1e-11)
    if last is not None:
        assert found[14] == pytest.approx(last, rel=1e-11)


def test_unit_hydrograph_of_an_hour_is_that_of_a_day_in_parts():
    """Ordinates of the hours of a day add up to about those of the day; of one step there is no delay."""
    n = 3
    values = {"a": np.full(n, 1.45), "b": np.full(n, 1.0), "length": np.array([360.0, 24.0, 1.0])}
    dry = {name: np.zeros(2) for name in WEATHER}
    hourly = Run(HBV_1_1P, values, {name: np.zeros((2, n)) for name in dry}, HOUR).p.symbols["gamma_hydrograph"]
    daily = Run(HBV_1_1P, {"a": 1.45, "b": 1.0}, dry).p.symbols["gamma_hydrograph"][:, 0]
    assert hourly.shape == (360, n) and daily.shape == (15,)
    np.testing.assert_allclose(hourly[:, 0].reshape(15, 24).sum(axis=1), daily, atol=0.025)
    assert not hourly[24:, 1].any() and hourly[23, 1] > 0 and hourly[0, 2] == 1.0 and not hourly[1:, 2].any()


def test_slope_of_the_unit_hydrograph():
    """du/da = u (ln t - sum u ln t) and du/db = u (t - sum u t) / (b + 1/2)^2, t the middles of the days."""
    run = Run(HBV_1_1P, {"a": 1.45, "b": 3.25}, {name: v[:3] for name, v in WEATHER.items()})
    u, t = run.p.symbols["gamma_hydrograph"][:, 0], np.arange(15) + 0.5
    weights = np.random.default_rng(1).normal(size=15)
    found = run.operator.preparation.adjoint(run.p.symbols, {"gamma_hydrograph": weights[:, None]})
    by_a, by_b = u * (np.log(t) - u @ np.log(t)), u * (t - u @ t) / 3.75**2
    assert found["unit_hydrograph_shape"][0] == pytest.approx(weights @ by_a, rel=1e-11)
    assert found["unit_hydrograph_scale"][0] == pytest.approx(weights @ by_b, rel=1e-11)
    assert found["unit_hydrograph_length"][0] == 0.0


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("process", [HBV, HBV_1_0, HBV_1_1P, HBV_2_0], ids=lambda p: p.name)
def test_it_starts_in_equilibrium(process, step):
    """Stores that a steady rain leaves as they are: all of it runs off."""
    domain = random_domain(5, 9, 6)
    model = Model(domain, step=step, runoff=process.name)
    model.settle(rain=0.4)
    own = (*process.stores, *process.queues)
    held = {name: values.copy() for name, values in model.state.on_cells().items() if name in own}
    assert all(held[name].min() > 0 for name in ("soil_moisture", "lower_zone"))
    shape = (10, domain.n_cells)
    model.advance(Forcing(np.full(shape, 0.4), np.zeros(shape), np.full(shape, 15.0)))
    for name in own:
        np.testing.assert_allclose(model.state.on_cells()[name], held[name], rtol=1e-8, atol=1e-10, err_msg=name)
    np.testing.assert_allclose(model.live["runoff"], 0.4, rtol=1e-8)
