"""Processes as others would write them, for the tests of what is generated from declarations.

None is declared by import: `installed` puts some into the registries and the catalogue, and takes them out again.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from bmi_cdlm.kernels.transcendental import power
from bmi_cdlm.names import parameters, registry, variables
from bmi_cdlm.names.declaration import (
    LIQUID_WATER,
    RUNOFF,
    CellProcess,
    Flux,
    Input,
    Prepared,
    Queue,
    ReachProcess,
    Stage,
    Store,
)
from bmi_cdlm.names.parameters import INFINITE, Parameter, Range
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes import catalogue
from bmi_cdlm.processes.gr4j import s_curve_1, s_curve_1_adjoint
from bmi_cdlm.processes.muskingum import CELERITY
from bmi_cdlm.processes.pet import PET_FACTOR

SOURCE = "made for the tests"


def example(name):
    """A file of `examples/own_process`, which need not be installed."""
    path = Path(__file__).resolve().parents[1] / "examples" / "own_process" / "own_process" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given(name, symbol, units, low, high, default, legal=(0.0, INFINITE), hourly=1.0, grid="cell", may_vary=False):
    """A parameter; its hourly range is a share of the daily one."""
    daily = Range(low, high, default)
    by_hour = Range(*(v * hourly for v in daily))
    return Parameter(name, symbol, units, legal, daily, by_hour, "linear", "A parameter of the tests", SOURCE, grid,
                     may_vary)


# ---- three stages, no queue, a store that two of them change ------------------------------------------------


def hbv_snow_step(pack, liquid, P, T, TT, CFMAX, CFR, CWH):
    """Snow with liquid water in it. Returns pack, liquid, rain plus melt, melt and snowfall."""
    snow = P if T < TT else 0.0
    full = pack + snow
    warmth = CFMAX * (T - TT)
    melt = min(max(warmth, 0.0), full)
    wet = liquid + melt
    left = full - melt
    frozen = min(max(-CFR * warmth, 0.0), wet)
    left = left + frozen
    wet = wet - frozen
    out = max(wet - CWH * left, 0.0)
    return left, wet - out, (P - snow) + out, melt, snow


def hbv_soil_step(soil, lower, water, E, FC, BETA, LP, BETAET, C):
    """Soil, with capillary rise from the lower store. Returns soil, lower, recharge, evaporation and rise."""
    recharge = water * power(min(soil / FC, 1.0), BETA)
    filled = soil + water - recharge
    excess = max(filled - FC, 0.0)
    filled = filled - excess
    drawn = min(E * power(min(filled / (LP * FC), 1.0), BETAET), filled)
    filled = filled - drawn
    rise = C * lower * (1.0 - min(filled / FC, 1.0))
    return filled + rise, lower - rise, recharge + excess, drawn, rise


def hbv_response_step(upper, lower, recharge, PERC, UZL, K0, K1, K2):
    """Two stores and three outlets. Returns upper, lower, runoff, percolation and base flow."""
    high = upper + recharge
    seeping = min(PERC, high)
    high = high - seeping
    quick = K0 * max(high - UZL, 0.0)
    high = high - quick
    inter = K1 * high
    deep = lower + seeping
    base = K2 * deep
    return high - inter, deep - base, quick + inter + base, seeping, base


def store(symbol, name, **more):
    return Store(symbol, "mm", f"soil_test-{name}_water__volume-per-area_storage_density", "A store of the tests",
                 holds_water=True, **more)


def flux(symbol, name):
    return Flux(symbol, f"soil_test-{name}_water__volume_flux", "A flux of the tests")


HBV = CellProcess(
    name="three_stages",
    title="HBV in three stages",
    source=SOURCE,
    inputs={
        "precipitation": Input("P"), "air_temperature": Input("T", "level"),
        "potential_evapotranspiration": Input("E", factor="pet_factor", corrected="corrected_evapotranspiration"),
    },
    stages=(
        Stage(hbv_snow_step, returns=("pack", "liquid", "water", "melt", "snow")),
        Stage(hbv_soil_step, returns=("soil", "lower", "recharge", "drawn", "rise")),
        Stage(hbv_response_step, returns=("upper", "lower", "Q", "seeping", "base")),
    ),
    stores={
        "test_pack": store("pack", "pack"), "test_liquid": store("liquid", "liquid"),
        "test_soil": store("soil", "soil", at_most="test_field_capacity", start=0.4, start_of="FC"),
        "test_upper": store("upper", "upper"), "test_lower": store("lower", "lower", start=5.0),
    },
    parameters=(
        given("test_snow_limit", "TT", "degC", -1, 1, 0.0, (-9.0, 9.0)),
        given("test_melt_rate", "CFMAX", "mm degC-1 per step", 1, 8, 3.0, hourly=1 / 24),
        given("test_freezing", "CFR", "1", 0.01, 0.1, 0.05),
        given("test_holding", "CWH", "1", 0.05, 0.2, 0.1),
        given("test_field_capacity", "FC", "mm", 100, 800, 250.0, (1.0, INFINITE)),
        given("test_recharge_shape", "BETA", "1", 1, 5, 2.0, may_vary=True),
        given("test_evaporation_limit", "LP", "1", 0.3, 1, 0.7, (0.01, 1.0)),
        given("test_evaporation_shape", "BETAET", "1", 0.5, 3, 1.0, may_vary=True),
        given("test_rise", "C", "per step", 0, 0.3, 0.05, (0.0, 1.0), 1 / 24),
        given("test_percolation", "PERC", "mm per step", 0, 6, 1.0, hourly=1 / 24),
        given("test_threshold", "UZL", "mm", 5, 80, 20.0),
        given("test_quick", "K0", "per step", 0.1, 0.8, 0.3, (0.0, 1.0), 1 / 24),
        given("test_inter", "K1", "per step", 0.02, 0.4, 0.1, (0.0, 1.0), 1 / 24),
        given("test_slow", "K2", "per step", 0.002, 0.15, 0.02, (0.0, 1.0), 1 / 24),
        PET_FACTOR,
    ),
    fluxes={
        "test_melt": flux("melt", "melt"), "test_snow": flux("snow", "snow"),
        "test_recharge": flux("recharge", "recharge"), "evapotranspiration": Flux("drawn", ledger="out"),
        "test_rise_flux": flux("rise", "rise"), "test_seeping": flux("seeping", "seeping"),
        "test_base": flux("base", "base"), "runoff": Flux("Q"),
    },
    gives=(RUNOFF, "Q"),
)


# ---- a queue, and water that passes beside it --------------------------------------------------------------


def split_step(soil, P, E, capacity, quick):
    """Soil that evaporates and sheds. Returns soil, evaporation, water to the queue, water beside it and wetness."""
    filled = soil + P
    drawn = min(E * (filled / capacity), filled)
    filled = filled - drawn
    shed = max(filled - capacity, 0.0)
    share = quick * shed
    return filled - shed, drawn, shed - share, share, filled / capacity


def join_step(lake, delayed, beside, soaked, drawn, E, share, leak, days):
    """A linear lake; part of what passed beside the queue seeps away.

    Returns lake, runoff, gain, its evaporation and that of all.
    """
    lost = leak * beside * (1.0 - min(0.3 * soaked, 1.0))
    held = lake + delayed + (beside - lost)
    risen = min(0.1 * E, held)
    held = held - risen
    left = held * share / (share + days)
    return left, held - left, -lost, risen, drawn + risen


def share_of_lake(residence):
    """Steps of a day in the residence time of the lake."""
    return 1.0 * residence


BESIDE = CellProcess(
    name="beside_a_queue",
    title="A queue between two stages, and water that passes beside it",
    source=SOURCE,
    inputs={
        "liquid_water": Input("P"),
        "potential_evapotranspiration": Input("E", factor="pet_factor", corrected="corrected_evapotranspiration"),
    },
    stages=(
        Stage(split_step, returns=("soil", "drawn", "shed", "beside", "soaked"), kept=("soaked",)),
        Stage(join_step, returns=("lake", "Q", "gained", "open", "away"), kept=("lake",)),
    ),
    queues={
        "test_queue": Queue(
            takes="shed", gives="delayed", share=1.0, curve=s_curve_1, adjoint=s_curve_1_adjoint, base="test_base_time",
            spans=1.0, at_least=0.5, held="test_queued",
            standard_name="soil_test-queue_water__volume-per-area_storage_density", meaning="Water in the queue",
        ),
    },
    stores={
        "test_sponge": store("soil", "sponge", start=5.0),
        "test_lake": store("lake", "lake", start=0.1, start_of="residence"),
    },
    parameters=(
        given("test_capacity", "capacity", "mm", 10, 60, 30.0, (1.0, INFINITE), may_vary=True),
        given("test_beside", "quick", "1", 0.1, 0.9, 0.4, (0.0, 1.0), may_vary=True),
        given("test_leak", "leak", "1", 0.0, 0.5, 0.1, (0.0, 1.0)),
        given("test_base_time", "X4", "steps", 0.5, 6, 2.3, (0.0, 480.0)),
        given("test_residence", "residence", "d", 0.5, 10, 3.0, (0.01, INFINITE)),
        PET_FACTOR,
    ),
    prepared=(Prepared(share_of_lake, returns=("share",)),),
    constants={"exponent": {DAY: 2.5, HOUR: 1.25}},
    fluxes={
        "evapotranspiration": Flux("away", ledger="out"), "test_beside_flux": flux("beside", "beside"),
        "test_delayed": flux("delayed", "delayed"),
        "test_open": flux("open", "open"),
        "groundwater_exchange": Flux("gained", ledger="exchange"),
        "test_soaked": Flux("soaked", "soil_test-soaked_water__fraction", "Wetness", units="1", kind="level"),
        "runoff": Flux("Q"),
    },
    gives=(RUNOFF, "Q"),
)


# ---- snow some of which leaves for the air, and some of which comes from it: before runoff, and in the ledger ----


def windy_step(pack, P, T, limit, loss, dew, days):
    """Snow that sublimates and on which water freezes out of the air. Returns pack, water, what it lost and won."""
    snow = P if T < limit else 0.0
    won = dew * days if T < limit else 0.0
    full = pack + snow + won
    lost = min(loss * days, full)
    left = full - lost
    melt = min(3.0 * days * max(T - limit, 0.0), left)
    return left - melt, (P - snow) + melt, lost, won


WINDY = CellProcess(
    name="windy_snow",
    title="Snow that sublimates",
    source=SOURCE,
    inputs={"precipitation": Input("P"), "air_temperature": Input("T", "level")},
    stages=(Stage(windy_step, returns=("pack", "water", "lost", "won")),),
    stores={"test_drift": store("pack", "drift")},
    parameters=(
        given("test_windy_limit", "limit", "degC", -1, 2, 0.5, (-9.0, 9.0)),
        given("test_sublimation", "loss", "mm d-1", 0.1, 3, 0.5), given("test_rime", "dew", "mm d-1", 0.1, 1, 0.2),
    ),
    fluxes={
        "test_sublimated": flux("lost", "sublimated")._replace(ledger="out"),
        "test_rimed": flux("won", "rimed")._replace(ledger="in"),
    },
    gives=(LIQUID_WATER, "water"),
)


# ---- reaches that are not linear ---------------------------------------------------------------------------


RESERVOIRS = replace(
    example("reach").NONLINEAR_REACH, name="reservoirs", state="test_water",
    parameters=(CELERITY, given("test_exponent", "m", "1", 1, 2, 1.25, (1.0, 3.0), grid="reach")),
)

OTHERS = (HBV, BESIDE, WINDY, RESERVOIRS)
EVERY = (*catalogue.OWN, *OTHERS)
CELLS = tuple(p for p in EVERY if isinstance(p, CellProcess))
REACHES = tuple(p for p in EVERY if isinstance(p, ReachProcess))
VARYING = {"gr4j": ("pet_factor",), "three_stages": ("pet_factor", "test_evaporation_shape", "test_recharge_shape"),
           "beside_a_queue": ("pet_factor", "test_beside", "test_capacity"),
           "hbv_2_0": ("evaporation_shape", "pet_factor", "quickflow_rate", "recharge_shape")}
"""Parameters that vary in time in some case, by process."""


def point_to(process, name=None):
    """What stands for the entry point of a process."""
    name = process.name if name is None else name
    return types.SimpleNamespace(name=name, value=f"package:{name}", load=lambda: process)


@contextmanager
def restored() -> Iterator[None]:
    """The registries and the catalogue as they were, at the end."""
    dictionaries = (
        registry.PROCESSES, registry.OWNERS, parameters.BY_NAME, parameters.STARTS, variables.BY_SHORT,
    )
    kept, entries = [dict(d) for d in dictionaries], list(variables.VARIABLES)
    try:
        yield
    finally:
        for found, before in zip(dictionaries, kept, strict=True):
            found.clear()
            found.update(before)
        variables.VARIABLES[:] = entries
        catalogue._others.cache_clear()
        catalogue.choose.cache_clear()


@contextmanager
def pointed(*points) -> Iterator[None]:
    """Packages with these entry points are installed."""
    real = importlib.metadata.entry_points

    def entry_points(**selected):
        return points if selected.get("group") == catalogue.ENTRY_POINTS else real(**selected)

    with restored(), mock.patch("importlib.metadata.entry_points", entry_points):
        catalogue._others.cache_clear()
        catalogue.choose.cache_clear()
        yield


def installed(*processes):
    """A package with these processes is installed."""
    return pointed(*map(point_to, processes))
