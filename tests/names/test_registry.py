"""The registries grow by declarations, and refuse what would make one name mean two things."""

from __future__ import annotations

from dataclasses import replace

import pytest
from process_cases import BESIDE, EVERY, HBV, OTHERS, RESERVOIRS, given, restored, store

from bmi_cdlm.names.coupling import COUPLING, SUB_STEPS
from bmi_cdlm.names.declaration import Flux
from bmi_cdlm.names.errors import DeclarationError
from bmi_cdlm.names.parameters import BY_NAME, STARTS
from bmi_cdlm.names.registry import OWNERS, PROCESSES, declare, process
from bmi_cdlm.names.variables import BY_SHORT, VARIABLES
from bmi_cdlm.processes.catalogue import OWN, kind_of
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.muskingum import MUSKINGUM

EVAPORATING = tuple(p.name for p in OWN if kind_of(p) == "runoff" and "evapotranspiration" in p.fluxes)


@pytest.fixture(autouse=True)
def registries():
    with restored():
        yield


def snapshot() -> tuple:
    return dict(PROCESSES), dict(OWNERS), dict(BY_NAME), dict(STARTS), list(VARIABLES), dict(BY_SHORT)


def test_what_is_declared_is_known_and_stands_among_its_kind():
    for one in OTHERS:
        assert declare(one) is one is process(one.name)
    assert [v.short for v in VARIABLES] == list({v.short: v for v in VARIABLES}) and (
        len(VARIABLES) + len(COUPLING) + len(SUB_STEPS) == len(BY_SHORT)
    )
    order = [v.short for v in VARIABLES]
    assert order.index("corrected_evapotranspiration") < order.index("test_soil") < order.index("cell_water_stored")
    assert order.index("outlet_discharge") < order.index("mean_test_soil") < order.index("water_in")
    assert "mean_test_pack" in BY_SHORT and BY_SHORT["test_queued"].units == "mm"
    for one in EVERY:
        for p in one.parameters:
            assert BY_NAME[p.name] == p
    assert OWNERS["celerity"] == "muskingum" and OWNERS["test_exponent"] == "reservoirs"
    assert OWNERS["pet_factor"] == "gr4j"
    # Fluxes that every process has are of one process more.
    assert BY_SHORT["evapotranspiration"].of == (*EVAPORATING, "three_stages", "beside_a_queue")
    assert VARIABLES[order.index("evapotranspiration")] is BY_SHORT["evapotranspiration"]


def test_what_is_declared_again_changes_nothing():
    declare(HBV)
    before = snapshot()
    for one in (HBV, *OWN):
        assert declare(one) is one
    assert snapshot() == before


def changed(**fields):
    return replace(HBV, name="another", **fields)


BAD = {
    "name": (
        replace(HBV, name="gr4j"), r"two processes are called 'gr4j': 'GR4J.*' and 'HBV in three stages'\. Rename one",
    ),
    "name of a reach process": (replace(RESERVOIRS, name="muskingum"), "two processes are called 'muskingum'"),
    "parameter": (
        changed(parameters=(*HBV.parameters, given("routing_capacity", "x", "mm", 0, 1, 0.5))),
        "process 'another': the parameter 'routing_capacity' means something else in process 'gr4j'",
    ),
    "parameter of reaches": (
        replace(RESERVOIRS, name="another", parameters=(given("celerity", "c", "km h-1", 1, 9, 4.0, grid="reach"),)),
        "the parameter 'celerity' means something else in process 'muskingum'",
    ),
    "store": (
        changed(stores=HBV.stores | {"routing_store": store("x", "another")}),
        r"the variable 'routing_store' means something else in process 'gr4j'\. Rename it",
    ),
    "flux of another unit": (
        changed(
            fluxes=HBV.fluxes | {"percolation": Flux("seeping", "soil_percolation__volume_flux", "Seeping", units="1")}
        ),
        "the variable 'percolation' means something else in process 'gr4j'",
    ),
    "flux that stands there": (
        changed(fluxes=HBV.fluxes | {"runoff": Flux("Q", "land_surface_water_runoff__depth", "Runoff")}),
        "the variable 'runoff' means something else",
    ),
    "flux without a name": (
        changed(fluxes=HBV.fluxes | {"seepage": Flux("seeping")}),
        r"the flux 'seepage' has no standard name, and stands in no registry\. Give it one",
    ),
    "flux with the name of a state": (
        changed(fluxes=HBV.fluxes | {"cell_water_stored": Flux("seeping")}),
        "the flux 'cell_water_stored' has no standard name",
    ),
    "standard name": (
        changed(stores=HBV.stores | {"another_store": store("x", "y")._replace(
            standard_name=GR4J.stores["routing_store"].standard_name)}),
        "'another_store' and 'routing_store' have one standard name, 'soil_routing-store_water__volume",
    ),
    "standard name of a variable that every model has": (
        changed(fluxes=HBV.fluxes | {"flow": Flux("seeping", "land_surface_water_runoff__volume_flux", "Runoff")}),
        "'flow' and 'runoff' have one standard name",
    ),
    "name of a queue's water": (
        replace(BESIDE, name="another", queues={"test_queue": BESIDE.queues["test_queue"]._replace(held="snowpack")}),
        "the variable 'snowpack' means something else in process 'cemaneige'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_means_something_else_is_refused_and_leaves_no_trace(case):
    bad, message = BAD[case]
    before = snapshot()
    with pytest.raises(DeclarationError, match=message):
        declare(bad)
    assert snapshot() == before


def test_two_versions_of_one_process_are_two_processes():
    """A package installed twice: not the same object, though it says the same."""
    with pytest.raises(DeclarationError, match="two processes are called 'muskingum'"):
        declare(replace(MUSKINGUM))
