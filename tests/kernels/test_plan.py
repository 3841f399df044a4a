"""What follows from a declaration before any loop is written, and the declarations that are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from kernels.every_kernel import PLANS, REACH_PLANS
from process_cases import BESIDE, EVERY, HBV, RESERVOIRS, WINDY, given, store

from bmi_cdlm.kernels.loops.elementwise import elementwise
from bmi_cdlm.kernels.loops.plan import CellPlan, places_of
from bmi_cdlm.kernels.loops.reach_plan import RESERVED as RESERVED_OF_REACHES
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.source import returned_count
from bmi_cdlm.kernels.loops.stage_checks import RESERVED
from bmi_cdlm.names.declaration import Flux, Input, Prepared, Stage
from bmi_cdlm.names.errors import DeclarationError
from bmi_cdlm.names.parameters import INFINITE
from bmi_cdlm.processes.cemaneige import CEMANEIGE
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.muskingum import MUSKINGUM, muskingum_step
from bmi_cdlm.processes.undercatch import UNDERCATCH

SPLIT, JOIN = BESIDE.stages
QUEUE = BESIDE.queues["test_queue"]


def one(v):
    return v


def with_stage(process, k, **fields):
    stages = list(process.stages)
    stages[k] = stages[k]._replace(**fields)
    return replace(process, stages=tuple(stages))


def renamed(process, old, new):
    """A process one of whose parameters has another symbol."""
    return replace(process, parameters=tuple(p._replace(symbol=new if p.symbol == old else p.symbol)
                                             for p in process.parameters))


def returns_too_much(soil, P, E, capacity, quick):
    return soil, P, E, capacity, quick, 0.0


def takes_more(soil, P, E, capacity, quick, nothing):
    return soil, P, E, capacity, quick


def step_without_store(P, E, capacity, quick):
    return P, E, P, E, P


def drained_twice(lake, delayed, beside, soaked, E, share, leak, days, soil):
    return lake, soil, delayed, beside, soaked


def other_join(lake, delayed, beside):
    return lake, delayed + beside


REFUSED: dict[str, tuple[Callable, str]] = {
    "a symbol twice": (
        lambda: renamed(HBV, "BETA", "FC"), r"the symbol 'FC' stands for 2 things\. Give each its own"),
    "a store and an input": (
        lambda: replace(BESIDE, inputs=BESIDE.inputs | {"air_temperature": Input("lake", "level")}),
        "the symbol 'lake' stands for 2 things"),
    "a number of the step": (
        lambda: renamed(HBV, "UZL", "days"), "the symbol 'days' stands for 2 things"),
    "a name of the loops": (
        lambda: renamed(HBV, "UZL", "rain"), r"'rain' cannot be a symbol: the loops use that name\. Choose another"),
    "no name": (lambda: renamed(HBV, "UZL", "K-2"), "'K-2' cannot be a symbol"),
    "a queue's outflow that is a store": (
        lambda: replace(BESIDE, queues={"test_queue": QUEUE._replace(gives="soil")}), "the symbol 'soil' stands for 2"),
    "an unknown symbol": (
        lambda: with_stage(BESIDE, 0, step=takes_more),
        "step 'takes_more' takes 'nothing', which is no store, input, parameter, prepared value, constant or result of "
        "an "
        r"earlier stage\. Known here: E, P, "),
    "a result of a later stage": (
        lambda: replace(HBV, stages=HBV.stages[::-1]), "step 'hbv_response_step' takes 'recharge', which is no store"),
    "another number of results": (
        lambda: with_stage(BESIDE, 0, step=returns_too_much),
        r"step 'returns_too_much' returns 6 values, expected 5: soil, drawn, shed, beside, soaked\. Correct 'returns'"),
    "a result that is not told": (
        lambda: with_stage(BESIDE, 0, returns=SPLIT.returns[:4], kept=()),
        "step 'split_step' returns 5 values, expected 4"),
    "what is kept": (
        lambda: with_stage(BESIDE, 0, kept=("lake",)), "step 'split_step' keeps 'lake', which it does not return"),
    "a store that is not taken": (
        lambda: with_stage(BESIDE, 0, step=step_without_store),
        "step 'step_without_store' returns the store 'soil' without taking it"),
    "nothing given": (
        lambda: replace(BESIDE, gives=("runoff", "flow")),
        r"'flow', what the process gives, is returned 0 times, expected once\. Correct 'gives' or 'returns'"),
    "given twice": (
        lambda: with_stage(BESIDE, 1, returns=("lake", "Q", "gained", "open", "Q")),
        "'Q', what the process gives, is returned 2 times"),
    "a flux": (
        lambda: replace(BESIDE, fluxes=BESIDE.fluxes | {"percolation": Flux("deep")}),
        r"flux 'percolation' is 'deep', which no stage returns\. Correct its symbol"),
    "a store that nobody changes": (
        lambda: replace(BESIDE, stores=BESIDE.stores | {"test_other": store("other", "other")}),
        "store 'test_other' is 'other', which no stage returns"),
    "water in another unit": (
        lambda: replace(BESIDE, stores=BESIDE.stores | {"test_lake": store("lake", "lake")._replace(units="m")}),
        r"store 'test_lake' holds water in 'm', expected 'mm': the ledger adds up depths\. Convert it, or set"),
    "at most": (
        lambda: replace(BESIDE, stores=BESIDE.stores | {"test_lake": store("lake", "lake", at_most="capacity")}),
        r"store 'test_lake' is at most 'capacity', which is no parameter( here)?\. Correct at_most"),
    "a start": (
        lambda: replace(BESIDE, stores=BESIDE.stores | {"test_lake": store("lake", "lake", start_of="test_capacity")}),
        r"store 'test_lake' starts from 'test_capacity', which is no parameter or prepared value\. Correct start_of"),
    "what a queue takes": (
        lambda: replace(BESIDE, queues={"test_queue": QUEUE._replace(takes="nothing")}),
        r"queue 'test_queue' takes 'nothing', which no stage before 'join_step' returns\. Correct its 'takes'"),
    "a queue of a store": (
        lambda: replace(BESIDE, queues={"test_queue": QUEUE._replace(takes="soil")}),
        "queue 'test_queue' takes 'soil', which no stage before"),
    "a queue of an input": (
        lambda: replace(BESIDE, queues={"test_queue": QUEUE._replace(takes="P")}),
        "queue 'test_queue' takes 'P', which no stage before"),
    "a queue of what is given": (
        lambda: replace(BESIDE, queues=BESIDE.queues | {"more": QUEUE._replace(takes="Q", gives="later")}),
        "queue 'more' gives 'later' to 0 steps, expected one, which may hand it on"),
    "a queue for two steps": (
        lambda: replace(BESIDE, stages=(SPLIT, Stage(other_join, ("lake", "held")), JOIN), gives=("runoff", "Q")),
        "queue 'test_queue' gives 'delayed' to 2 steps, expected one"),
    "a store on both sides of a queue": (
        lambda: with_stage(BESIDE, 1, step=drained_twice),
        r"store 'test_sponge' is taken by steps on both sides of a queue, 'split_step' and 'drained_twice'\. "
        "Hand its value"),
    "a kept store that another step takes": (
        lambda: with_stage(HBV, 1, kept=("lower",)),
        r"step 'hbv_soil_step' keeps the store 'test_lower', which 2 steps take\. Keep stores of one step only"),
    "a total on both sides of a queue": (
        lambda: replace(BESIDE, fluxes=BESIDE.fluxes | {
            "evapotranspiration": Flux("drawn", ledger="out"), "test_open": Flux("open", "x", ledger="out")}),
        "fluxes 'evapotranspiration' and 'test_open' are both 'out' in the ledger, on both sides of a queue. Hand the"),
    "a correction of precipitation that holds water": (
        lambda: replace(WINDY, gives=("precipitation", "water")),
        "store 'test_drift' holds water, and what a process of precipitation takes and adds is what it gives. Make it"),
    "a correction of precipitation that evaporates": (
        lambda: replace(UNDERCATCH, fluxes={"test_gone": Flux("gained", "x", ledger="out")}),
        "flux 'test_gone' is 'out' in the ledger, and what a process of precipitation"),
    "a base": (
        lambda: replace(BESIDE, queues={"test_queue": QUEUE._replace(base="X4")}),
        r"queue 'test_queue' has the base 'X4', which is no parameter here\. Correct it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_does_not_fit_its_steps(case):
    make, message = REFUSED[case]
    process = make()
    with pytest.raises(DeclarationError, match=rf"process '{process.name}': ({message})"):
        CellPlan(process)


@pytest.mark.parametrize(("process", "name", "message"), [
    (GR4J, "production_capacity", "since 'inverse_of_capacity' takes one value of it"),
    (GR4J, "unit_hydrograph_base", "since queue 'unit_hydrograph_1' takes one value"),
    (HBV, "test_field_capacity", "since store 'test_soil' takes one value"),
    (BESIDE, "test_residence", "since 'share_of_lake' takes one value"),
])
def test_a_parameter_that_cannot_vary(process, name, message):
    message = rf"parameter '{name}' cannot vary in time, {message}.*\. Give one value"
    with pytest.raises(DeclarationError, match=message):
        CellPlan(process, (name,))


def wrong_inflow(V, water, T, m, seconds):
    return water, V


def three_results(V, inflow, T, m, seconds):
    return inflow, V, T


def unknown_symbol(V, inflow, T, roughness):
    return inflow, V


def takes_reserved(V, inflow, volume):
    return inflow, V


def steady_of_more(flow, depth):
    return flow * depth


REACH_REFUSED: dict[str, tuple[Callable, str]] = {
    "inflow": (lambda: replace(RESERVOIRS, step=wrong_inflow),
               "step 'wrong_inflow' takes V, water, T, m, seconds, expected 'V' and 'inflow' among them"),
    "state": (lambda: replace(RESERVOIRS, symbol="W"), "expected 'W' and 'inflow' among them. Rename"),
    "results": (lambda: replace(RESERVOIRS, step=three_results),
                "step 'three_results' returns 3 values, expected two: the outflow and the state"),
    "a symbol": (lambda: replace(RESERVOIRS, step=unknown_symbol),
                 "step 'unknown_symbol' takes 'roughness', which is no parameter or prepared value. Known: c, m, T"),
    "a name of the loops": (
        lambda: replace(RESERVOIRS, step=takes_reserved, parameters=(
            *RESERVOIRS.parameters, given("test_volume", "volume", "m3", 0, 1, 0.5, (0.0, INFINITE), grid="reach"))),
        "'volume' cannot be a symbol: the loops use that name"),
    "a steady flow": (lambda: replace(RESERVOIRS, steady=steady_of_more),
                      "'steady_of_more' takes 'depth', expected some of T, V, c, flow, m, seconds, volume"),
    "a volume": (lambda: replace(MUSKINGUM, volume=steady_of_more), "'steady_of_more' takes 'depth', expected some of"),
}


@pytest.mark.parametrize("case", REACH_REFUSED)
def test_a_reach_process_that_does_not_fit_its_step(case):
    make, message = REACH_REFUSED[case]
    process = make()
    with pytest.raises(DeclarationError) as found:
        ReachPlan(process)
    assert str(found.value).startswith(f"process '{process.name}': ") and message in str(found.value)


def test_a_function_without_a_name_is_refused():
    """No loop can call a lambda: that is said, with its place."""
    process = replace(MUSKINGUM, steady=lambda flow, direct: (1.0 - direct) * flow)
    with pytest.raises(DeclarationError, match=r"<lambda> \(.*test_plan\.py:\d+\) has no name, expected a"):
        elementwise(process.steady, ())


def test_every_declared_process_has_a_plan():
    assert {plan.process for plan in (*PLANS, *REACH_PLANS)} == set(EVERY)
    assert {plan.process.name for plan in PLANS if plan.varying} == {
        "gr4j", "three_stages", "beside_a_queue", "hbv_2_0"}


def test_symbols_are_none_of_the_loops():
    """The loops' own names are those in the text that is generated, and no symbol of ours is among them."""
    for plan in PLANS:
        own = {*plan.stores, *plan.inputs, *plan.fixed, *plan.varying_symbols, *plan.numbers, *plan.series}
        assert not own & RESERVED
    for plan in REACH_PLANS:
        assert not {*plan.coefficients} & RESERVED_OF_REACHES


def test_what_follows_from_gr4j():
    plan = CellPlan(GR4J)
    assert plan.series == ("Pr",) and plan.queued == plan.waiting == {"Pr"} and plan.chunk == 4
    assert [queues for queues, _ in plan.segments] == [[], ["unit_hydrograph_1", "unit_hydrograph_2"]]
    assert plan.learned == ("X1", "X2", "X3") and plan.negated() == {"E": "P"}
    assert plan.state_group._fields == (
        "production_store", "routing_store", "unit_hydrograph_1", "unit_hydrograph_2")
    assert "corrected_evapotranspiration" not in plan.flux_group._fields
    varying = CellPlan(GR4J, ("pet_factor",))
    assert varying.factors == {"E": "pet_factor"} and varying.varying_symbols == ()
    assert varying.flux_group._fields[0] == "corrected_evapotranspiration"
    assert varying.reverses[0].function is plan.reverses[0].function, "a factor leaves the adjoint by hand"


def test_what_passes_beside_a_queue_waits_with_it():
    plan = CellPlan(BESIDE)
    assert set(plan.series) == {"shed", "beside", "soaked", "drawn"} == plan.waiting and plan.queued == {"shed"}
    assert CellPlan(HBV).waiting == set() and CellPlan(HBV).chunk == 1
    assert CellPlan(CEMANEIGE).totals_of(CEMANEIGE.stages[0]) == []


def test_a_parameter_that_varies_takes_the_derived_adjoint():
    plan, varying = CellPlan(BESIDE), CellPlan(BESIDE, ("test_capacity",))
    assert "capacity" in plan.learned and "capacity" not in varying.learned
    assert "capacity" in varying.input_adjoints and varying.varying_symbols == ("capacity",)
    assert varying.input_group._fields[-2:] == ("capacity", "rain")


def test_counts_and_places():
    assert (returned_count(one), returned_count(muskingum_step)) == (1, 2)
    queue = GR4J.queues["unit_hydrograph_2"]
    assert [places_of(queue, x) for x in (0.0, 0.5, 0.51, 1.0, 2.2)] == [1, 1, 2, 2, 5]
    assert places_of(queue, 1.0, 7) == 7


def test_prepared_values_may_follow_from_each_other():
    def double(share):
        return 2.0 * share

    def of_double(lake, delayed, beside, soaked, E, twice, leak, days):
        return lake, delayed, beside, soaked, beside

    process = replace(with_stage(BESIDE, 1, step=of_double), prepared=(
        *BESIDE.prepared, Prepared(double, returns=("twice",))))
    assert CellPlan(process).fixed[-2:] == ("share", "twice")
