"""Monthly water balance models whose parameters serve as labels: GR2M, DWBM, abcd. All of them close the balance.

Plain numpy over cells, one step a month, depths in mm: they are run offline, beside the model, and never by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

Stores = tuple[np.ndarray, np.ndarray]
Symbols = Mapping[str, np.ndarray]
ROUTING_SCALE = 60.0
"""Of the quadratic store of GR2M [mm]."""
YEAR, SPIN_UP_YEARS = 12, 3
"""Months of a year, and how often the first of a record is run before it."""


class LabelParameter(NamedTuple):
    """A parameter of a label model: its name, symbol in the literature, units, range, and how it moves within that."""

    name: str
    symbol: str
    units: str
    low: float
    high: float
    scale: Literal["linear", "log"]
    meaning: str


class Balance(NamedTuple):
    """What a month comes to, float64[cell] [mm]: stores at its end, runoff, evapotranspiration, water from elsewhere.

    P + exchange = evapotranspiration + runoff + what the stores gain.
    """

    stores: Stores
    runoff: np.ndarray
    evapotranspiration: np.ndarray
    exchange: np.ndarray


class MonthlyModel(NamedTuple):
    """A monthly model: step(stores, parameters by symbol, P, E), and what its two stores hold before a spin-up.

    capacity : name of the parameter that is the storage capacity of its soil [mm].
    """

    name: str
    parameters: tuple[LabelParameter, ...]
    capacity: str
    start: Callable[[Symbols], Stores]
    step: Callable[[Stores, Symbols, np.ndarray, np.ndarray], Balance]
    source: str

    def symbols(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters float64[parameter, cell] by their symbols."""
        return {p.symbol: row for p, row in zip(self.parameters, values, strict=True)}


def run(
    model: MonthlyModel, values: np.ndarray, rain: np.ndarray, demand: np.ndarray, stores: Stores | None = None
) -> Balance:
    """Run a model over months.

    Parameters
    ----------
    model : MonthlyModel
    values : float64[parameter, ..., cell]
        In the order of `model.parameters`; of several sets per cell there are more dimensions.
    rain, demand : float64[month, cell]
        Precipitation and potential evapotranspiration [mm per month].
    stores : two of float64[..., cell], optional
        At the start [mm]; without, the first year is run three times before the record.

    Returns
    -------
    Balance
        Stores at the end; the fluxes are float64[month, ..., cell].
    """
    p = model.symbols(values)
    months = range(rain.shape[0])
    if stores is None:
        stores = model.start(p)
        for month in [*months[:YEAR]] * SPIN_UP_YEARS:
            stores = model.step(stores, p, rain[month], demand[month]).stores
    fluxes = tuple(np.empty((rain.shape[0], *np.broadcast_shapes(values.shape[1:], rain.shape[1:]))) for _ in range(3))
    for month in months:
        found = model.step(stores, p, rain[month], demand[month])
        stores = found.stores
        for flux, value in zip(fluxes, found[1:], strict=True):
            flux[month] = value
    return Balance(stores, *fluxes)


def limited(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """F(x, w) = 1 + x - (1 + x^w)^(1/w), which is at most 1 and at most x [Fu 1981; Zhang et al. 2008].

    Written so that neither a large nor a small x loses its digits.
    """
    small = np.minimum(x, 1.0)
    with np.errstate(divide="ignore"):
        inverse = 1.0 / np.maximum(x, 1.0)
    below = small - np.expm1(np.log1p(small**w) / w)
    above = 1.0 - np.expm1(np.log1p(inverse**w) / w) / inverse
    return np.where(x <= 1.0, below, above)


def _share(amount: np.ndarray, most: np.ndarray, w: np.ndarray) -> np.ndarray:
    """amount * F(most / amount, w), 0 where there is nothing: how much of an amount goes where `most` finds room."""
    some = amount > 0
    return np.where(some, amount * limited(most / np.where(some, amount, 1.0), w), 0.0)


def gr2m_step(stores: Stores, p: Symbols, P: np.ndarray, E: np.ndarray) -> Balance:
    """One month of GR2M [Mouelhi et al. 2006]: S production store, R routing store [mm]."""
    S, R = stores
    X1 = p["X1"]
    wet, dry = np.tanh(P / X1), np.tanh(E / X1)
    S1 = (S + X1 * wet) / (1.0 + S / X1 * wet)
    P1 = P + S - S1
    S2 = S1 * (1.0 - dry) / (1.0 + (1.0 - S1 / X1) * dry)
    S = S2 * (1.0 + (S2 / X1) ** 3) ** (-1.0 / 3.0)
    R1 = R + P1 + S2 - S
    R2 = p["X2"] * R1
    Q = R2**2 / (R2 + ROUTING_SCALE)
    return Balance((S, R2 - Q), Q, S1 - S2, R2 - R1)


def dwbm_step(stores: Stores, p: Symbols, P: np.ndarray, E: np.ndarray) -> Balance:
    """One month of the dynamic water balance model [Zhang et al. 2008]: S soil, G groundwater [mm]."""
    S, G = stores
    SC, d = p["SC"], p["d"]
    X = _share(P, SC - S + E, p["w1"])
    W = X + S
    Y = _share(W, E + SC, p["w2"])
    ET = np.minimum(_share(W, E, p["w2"]), Y)  # but for rounding it is
    base = d * G
    return Balance((Y - ET, (1.0 - d) * G + W - Y), P - X + base, ET, np.zeros_like(ET))


def abcd_step(stores: Stores, p: Symbols, P: np.ndarray, E: np.ndarray) -> Balance:
    """One month of the abcd model [Thomas 1981]: S soil, G groundwater [mm]."""
    S, G = stores
    a, b, c, d = p["a"], p["b"], p["c"], p["d"]
    W = S + P
    half = (W + b) / (2.0 * a)
    # The smaller root of Y^2 - 2 half Y + W b / a, as product over the larger: no difference of near equals.
    Y = np.minimum(W * b / a / (half + np.sqrt(np.maximum(half**2 - W * b / a, 0.0))), W)
    S = Y * np.exp(-E / b)
    G = (G + c * (W - Y)) / (1.0 + d)
    return Balance((S, G), (1.0 - c) * (W - Y) + d * G, Y - S, np.zeros_like(S))


def _shares_of(capacity: str, first: float, second: float) -> Callable[[Symbols], Stores]:
    def start(p: Symbols) -> Stores:
        return first * p[capacity], np.full_like(p[capacity], second)
    return start


GR2M = MonthlyModel(
    "gr2m", (
        LabelParameter("production_capacity", "X1", "mm", 10.0, 3000.0, "log", "Capacity of the production store"),
        LabelParameter("water_exchange", "X2", "1", 0.2, 1.5, "linear", "Share of the routing store after exchange"),
    ), "production_capacity", _shares_of("X1", 0.3, 30.0), gr2m_step, "Mouelhi et al. 2006",
)
DWBM = MonthlyModel(
    "dwbm", (
        LabelParameter("storage_capacity", "SC", "mm", 5.0, 3000.0, "log", "Storage capacity of the soil"),
        LabelParameter("retention_efficiency", "w1", "1", 1.05, 5.0, "linear", "How readily rain is retained"),
        LabelParameter("evaporation_efficiency", "w2", "1", 1.05, 5.0, "linear", "How readily soil water evaporates"),
        LabelParameter("groundwater_recession", "d", "1", 0.01, 1.0, "linear", "Groundwater that runs off in a month"),
    ), "storage_capacity", _shares_of("SC", 0.3, 10.0), dwbm_step, "Zhang et al. 2008",
)
ABCD = MonthlyModel(
    "abcd", (
        LabelParameter("runoff_propensity", "a", "1", 0.5, 1.0, "linear", "Below 1, the soil sheds water before it is "
                       "full"),
        LabelParameter("storage_limit", "b", "mm", 10.0, 3000.0, "log", "Limit of evapotranspiration and soil water"),
        LabelParameter("recharge_share", "c", "1", 0.0, 1.0, "linear", "Excess water that goes to the groundwater"),
        LabelParameter("groundwater_release", "d", "1", 0.01, 2.0, "log", "Runoff of the groundwater over what stays"),
    ), "storage_limit", _shares_of("b", 0.3, 10.0), abcd_step, "Thomas 1981",
)
MODELS = {model.name: model for model in (GR2M, DWBM, ABCD)}
