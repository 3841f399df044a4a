"""gr4, gr5 and gr6: an independent program of their equations, reference series, water, gradients."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import N_CELLS, add_cell_attribute, change_config, simulated, write_case, write_parameters
from make_domain import lumped_domain

from bmi_cdlm.evaluate.balance import balance
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.gr_structures import GR4, GR5, GR6
from bmi_cdlm.run.config import load_config

REFERENCES = Path(__file__).resolve().parents[3] / "shared" / "refs"
STRUCTURES = {p.name: p for p in (GR4, GR5, GR6)}
SYMBOLS = {"X1": "cp", "X2": "kexc", "X3": "ct", "ci": "ci", "threshold": "aexc", "coefficient": "be"}
"""Symbols of the reference program."""
THEIRS = {
    "net_rainfall": "pn", "infiltration": "ps", "percolation": "perc", "routing_store_outflow": "qr",
    "direct_runoff": "qd", "potential_exchange": "lexc", "exponential_store_outflow": "qe",
}
STORES = {"interception_store": "I", "production_store": "S", "routing_store": "R", "exponential_store": "X"}


class Run:
    """A run over columns of weather [mm per step]: runoff and fluxes [time, cell], state and totals."""

    def __init__(self, process, values, P, E, step, start):
        n = P.shape[1]
        self.operator = o = CellOperator(process, lumped_domain(n), step, np.float64, Workers(1))
        wanted = [p for p in process.parameters if p.symbol in values]
        given = {p.name: np.broadcast_to(values[p.symbol], n).astype(float) for p in wanted}
        self.p, per_day = o.prepare(given), DAY // step
        self.state = o.start(self.p)
        for name, value in start.items():
            if name in process.stores:
                getattr(self.state, name)[:] = value
        self.before = self.water()
        self.fluxes = o.plan.flux_group(*(np.empty(P.shape) for _ in o.plan.flux_group._fields))
        self.totals, self.runoff = o.plan.total_group(*(np.zeros(n) for _ in range(4))), np.empty(P.shape)
        # Fluxes of a model are per day whatever its step.
        series = {"precipitation": P * per_day, "potential_evapotranspiration": E * per_day}
        self.series = {k: np.ascontiguousarray(v) for k, v in series.items()}
        o.advance(self.series, self.p, self.state, self.runoff, self.totals, self.fluxes)
        self.runoff, self.share = self.runoff / per_day, 1.0 / per_day

    def flux(self, name):
        return getattr(self.fluxes, name) * self.share

    def water(self):
        return sum(getattr(self.state, name) for name in self.state._fields)


def by_hand(name, v, P, E, step, start):
    """The structures from their equations for one cell: runoff and stores at every step."""
    I, S, R, X = (start[n] for n in STORES)  # noqa: E741 - the symbol of the equations
    c, found = 9 / 4 * (86400 / step) ** 0.25, []
    for p, e in zip(P, E, strict=True):
        ei = min(e, p + I)
        pn = max(0.0, p - (v["ci"] - I) - ei)
        I, en = I + p - ei - pn, e - ei  # noqa: E741
        T = np.tanh(pn / v["X1"])
        ps = v["X1"] * (1 - (S / v["X1"]) ** 2) * T / (1 + S / v["X1"] * T)
        T = np.tanh(en / v["X1"])
        es = S * (2 - S / v["X1"]) * T / (1 + (1 - S / v["X1"]) * T)
        S = S + ps - es
        perc = S * (1 - (1 + (S / v["X1"] / c) ** 4) ** -0.25)
        S, water = S - perc, pn - ps + perc
        filling = R / v["X3"]
        exchange = v["X2"] * (filling**3.5 if name == "gr4" else filling - v["threshold"])
        R = max(0.0, R + (0.54 if name == "gr6" else 0.9) * water + exchange)
        qr = R - (R**-4.0 + v["X3"] ** -4.0) ** -0.25 if R > 0 else 0.0
        R, q = R - qr, qr + max(0.0, 0.1 * water + exchange)
        if name == "gr6":
            full = X + 0.36 * water + exchange
            qe = v["coefficient"] * np.logaddexp(0.0, full / v["coefficient"])
            X, q = full - qe, q + qe
        found.append((q, I, S, R, X))
    return np.array(found).T


def weather(step):
    t = np.arange(500)
    P = np.maximum(0, 9 * np.sin(0.37 * t) + 7 * np.sin(0.051 * t + 1) - 3) * (step / DAY)
    E = np.maximum(0, 3 + 3 * np.sin(0.21 * t)) * (step / DAY)
    return P, E


VALUES = {"X1": 220.0, "X2": -0.4, "X3": 60.0, "ci": 1.1, "threshold": 0.3, "coefficient": 6.0}
START = {"interception_store": 0.3, "production_store": 90.0, "routing_store": 20.0, "exponential_store": -9.0}


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("X2", [-3.0, -0.4, 0.0, 0.5])
def test_a_program_of_the_equations_gives_the_same(name, step, X2):
    """And water is there to the last digits: exchange that takes all there is, among them."""
    P, E = weather(step)
    values = VALUES | {"X2": X2 * step / DAY}
    run = Run(STRUCTURES[name], values, P[:, None], E[:, None], step, START)
    q, *stores = by_hand(name, values, P, E, step, START)
    np.testing.assert_allclose(run.runoff[:, 0], q, rtol=1e-10, atol=1e-12)
    for store, expected in zip(STORES, stores, strict=True):
        if store in STRUCTURES[name].stores:
            assert getattr(run.state, store)[0] == pytest.approx(expected[-1], rel=1e-10, abs=1e-12), store
    came, gone = P.sum() + run.flux("groundwater_exchange").sum(), run.flux("evapotranspiration").sum() + q.sum()
    assert abs(came - gone - float((run.water() - run.before)[0])) <= 1e-12 * P.sum()
    assert (run.flux("interception_evaporation") <= run.flux("evapotranspiration") + 1e-15).all()


def test_no_leaves_is_no_interception():
    """With a capacity of 0 demand is met by rain first, as in GR4J."""
    P, E = weather(DAY)
    run = Run(GR4, VALUES | {"ci": 0.0}, P[:, None], E[:, None], DAY, START | {"interception_store": 0.0})
    assert not run.state.interception_store.any()
    np.testing.assert_allclose(run.flux("net_rainfall")[:, 0], np.maximum(P - E, 0.0), rtol=1e-13, atol=1e-15)


@pytest.mark.shared_data
@pytest.mark.parametrize("which", ["uniform", "varying"])
@pytest.mark.parametrize(("basin", "step"), [("cance", HOUR), ("lez", DAY)])
@pytest.mark.parametrize("name", STRUCTURES)
def test_reference_series(name, basin, step, which):
    """Every flux and store of some cells of Cance, hourly, and of the Lez, daily, recomputed in float64."""
    paths = [REFERENCES / f"ref_smash_{basin}_{kind}.nc" for kind in ("gr4_lr_uniform", f"{name}_kw_{which}")]
    for path in paths:
        if not path.is_file():
            pytest.skip(f"reference file {path} is not there")
    with netCDF4.Dataset(paths[0]) as data:
        P, E = (np.ma.filled(data[v][:].astype(float), np.nan) for v in ("precipitation", "pet"))
    with netCDF4.Dataset(paths[1]) as data:
        at = data["picked_cell"][:].data
        there = {s: f"parameter_{o}" for s, o in SYMBOLS.items() if f"parameter_{o}" in data.variables}
        given = {s: data[o][:].astype(float).data[at] for s, o in there.items()}
        expected = {v.removesuffix("_f64"): data[v][:].data for v in data.variables if v.endswith("_f64")}
    P, E = P[:, at], E[:, at]
    assert (P >= 0).all() and (E >= 0).all()
    leaves, wet, filled = map(float, np.float32([0.2, 0.35, 0.3]))  # as the reference started
    start = {"interception_store": leaves * given["ci"], "production_store": wet * given["X1"],
             "routing_store": filled * given["X3"], "exponential_store": -12.0}
    run = Run(STRUCTURES[name], given, P, E, step, start)
    for ours, theirs in THEIRS.items():
        if theirs in expected:
            np.testing.assert_allclose(run.flux(ours), expected[theirs], rtol=1e-9, atol=1e-12, err_msg=ours)
    for store, fill, scale in (("production_store", "hp", "X1"), ("routing_store", "ht", "X3")):
        np.testing.assert_allclose(getattr(run.state, store), expected[fill][-1] * given[scale], rtol=1e-9)
    if name == "gr6":
        np.testing.assert_allclose(run.state.exponential_store, expected["he"][-1], rtol=1e-9)


def test_a_balance_is_closed_though_stores_are_in_deficit(tmp_path):
    """Stored water below 0 is no share of which a residual could be too much."""
    config = write_case(
        tmp_path, n_steps=3, runoff="gr6", parameters="p.nc", ledger_tolerance=1e-12, initial_state="equilibrium",
    )
    write_parameters(tmp_path / "p.nc", {
        "production_capacity": np.full(N_CELLS, 1.0), "routing_capacity": np.full(N_CELLS, 1.0),
        "exponential_coefficient": np.full(N_CELLS, 20.0),
    })
    with simulated(config) as simulation:
        for k in range(3):
            simulation.advance(simulation.read_forcing(k, 1))
            assert simulation.model.live["cell_water_stored"].max() < 0.0
            simulation.check_ledger()
    assert all(row.closed for row in balance(load_config(config)))


def test_the_domain_says_what_leaves_hold_unless_parameters_do(tmp_path):
    held = np.linspace(0.5, 1.4, N_CELLS)
    config = write_case(tmp_path, runoff="gr4", parameters="default", step=HOUR, n_steps=20)
    write_parameters(tmp_path / "p.nc", {"interception_capacity": held})
    given = change_config(config, "given.yaml", parameters="p.nc")

    def leaves(path):
        with simulated(path) as simulation:
            simulation.advance(simulation.read_forcing(0, 20))
            return simulation.model.live["interception_store"].copy()

    without, expected = leaves(config), leaves(given)
    add_cell_attribute(tmp_path / "domain.nc", "interception_capacity", held, "mm")
    assert np.array_equal(leaves(config), expected) and not np.array_equal(without, expected)
    write_parameters(tmp_path / "p.nc", {"interception_capacity": np.ones(N_CELLS)})
    assert np.array_equal(leaves(given), without), "1 mm, the default, in place of the domain's"
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as file:
        file["cell_interception_capacity"].units = "m"
    with pytest.raises(DomainError, match="'interception_capacity' has units 'm', expected 'mm'"):
        leaves(config)
