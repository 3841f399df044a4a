"""The registry of variables is consistent: names that BMI clients accept, units that mean something."""

from __future__ import annotations

import importlib.util
import re

import pytest

from bmi_cdlm.files.netcdf import same_units
from bmi_cdlm.names.declaration import CellProcess
from bmi_cdlm.names.errors import UnknownNameError
from bmi_cdlm.names.inputs import INGREDIENTS
from bmi_cdlm.names.variables import SOURCES, VARIABLES, select, variable
from bmi_cdlm.processes.catalogue import OWN

every = pytest.mark.parametrize("entry", VARIABLES, ids=lambda v: v.short)


def test_names_are_unique():
    assert len({v.short for v in VARIABLES}) == len(VARIABLES)
    names = [n for v in VARIABLES for n in {v.name, v.ngen.name if v.ngen else v.name}]
    assert len(set(names)) == len(names)
    assert not {v.short for v in VARIABLES} & set(names)


@every
def test_entries_are_complete(entry):
    assert re.fullmatch(r"[a-z][a-z_]*", entry.short)
    assert entry.meaning[0].isupper() and not entry.meaning.endswith(".")
    assert entry.grid in ("cell", "reach", "gauge", "domain")
    assert entry.role in ("input", "flux", "state", "total")
    assert entry.role != "input" or entry.grid == "cell"
    depths = {"cell": "mm", "domain": "m"} if "depth" in entry.short else {"cell": "mm"}
    assert entry.role != "total" or entry.units == depths.get(entry.grid, "m3")


@every
def test_units_are_known_to_udunits(entry):
    from cf_units import Unit

    assert not Unit(entry.units).is_unknown()
    if entry.role == "flux" and entry.grid == "cell":
            assert entry.units == ("1" if entry.short == "pet_factor" else "mm d-1")
    if entry.ngen:
        for value in (0.0, 7.5):
            converted = value * entry.ngen.factor + entry.ngen.offset
            assert converted == pytest.approx(Unit(entry.ngen.units).convert(value, Unit(entry.units)), abs=1e-9)


@every
@pytest.mark.skipif(importlib.util.find_spec("standard_names") is None, reason="standard_names is not installed")
def test_names_are_csdms_standard_names(entry):
    """bmi-tester asks this package."""
    from standard_names.standardname import is_valid_name

    assert is_valid_name(entry.name)


CELLS = [p for p in OWN if isinstance(p, CellProcess)]
PET = {"pet_factor", "corrected_evapotranspiration"}


def test_what_processes_tell_has_an_entry_and_nothing_else():
    told = {name for p in CELLS for name in p.fluxes}
    assert told | PET == {v.short for v in VARIABLES if v.grid == "cell" and v.role == "flux"}
    assert {v.short for v in VARIABLES if v.part == "pet"} == PET
    assert {v.role for v in VARIABLES if v.part == "weather"} == {"input"}
    for process in CELLS:
        own = {v.short for v in VARIABLES if process.name in v.of}
        water = {f"mean_{name}" for name, store in process.stores.items() if store.holds_water}
        held = {queue.held for queue in process.queues.values()}
        assert own == {*process.fluxes, *process.stores, *water, *held}
        for name, store in process.stores.items():
            assert (variable(name).bounds, variable(name).units) == (store.bounds, store.units)
    assert {v.short for v in VARIABLES if v.part == "process"} == {v.short for v in VARIABLES if v.of} - {"runoff"}
    assert variable("snowpack").of == ("cemaneige", "cemaneige_hysteresis", "cemaneige_gradual")
    assert variable("discharge").of == ()


def test_selection_by_role_grid_and_processes():
    assert [v.short for v in select(role="input")][:3] == [
        "precipitation", "potential_evapotranspiration", "air_temperature"]
    assert set(select()) - set(select(pet=False)) == {variable(n) for n in PET}
    assert {v.part for v in select(ledger=False)} == {"core", "process", "pet", "weather"}
    names = {v.short for v in select(processes=("gr4j", "muskingum"))}
    assert names >= {"production_store", "queued_direct_flow", "mean_routing_store", "runoff", "discharge"}
    assert not names & {"snowpack", "snowfall", "snow_peak", "mean_snowpack"}
    plain, full = (
        {v.short for v in select(processes=(snow, "gr4j"))} for snow in ("cemaneige", "cemaneige_hysteresis")
    )
    assert plain - names == {"snowpack", "thermal_state", "snowfall", "snowmelt", "mean_snowpack"}
    assert full - plain == {"snow_peak", "snow_cover"}
    assert [v.short for v in select(grid="gauge")] == ["gauge_discharge"]
    assert select() == list(VARIABLES)


def test_an_unknown_name_is_answered_with_the_nearest():
    assert variable("discharge").units == "m3 s-1"
    with pytest.raises(UnknownNameError) as found:
        variable("dischage")
    assert str(found.value).startswith("There is no variable 'dischage'. Did you mean 'discharge'? Known: ")


@pytest.mark.parametrize(("got", "expected", "same"), [
    ("mm/day", "mm d-1", True), ("mm day-1", "mm d-1", True), ("kg m-2 s-1", "mm d-1", False), ("K", "degC", False),
    ("km^2", "km2", True), ("m3/s", "m3 s-1", True), ("", "1", False), ("furlong", "m", False),
])
def test_spellings_of_units(got, expected, same):
    assert same_units(got, expected) is same


known = pytest.mark.parametrize("entry", SOURCES.values(), ids=SOURCES)


def test_every_input_has_facts_and_nothing_else():
    assert all((v.facts is not None) == (v.role == "input") for v in VARIABLES)
    assert len(SOURCES) == len(select(role="input")) + len(INGREDIENTS)


@known
def test_facts_are_consistent(entry):
    facts = entry.known
    assert -1e9 < facts.low < facts.typical < facts.high < 1e9 and facts.evidence and facts.usual
    lengths, highs = [[p[k] for p in facts.peaks] for k in (0, 1)]
    assert lengths == sorted(lengths, reverse=True) and [facts.high, *highs] == sorted([facts.high, *highs])
    for fill in (-9999.0, 9999.0, 32767.0, -32768.0, 9.969209968386869e36, 1e20, float("inf"), float("nan")):
        for seconds in (86400, 3600):
            low, high = facts.limits(seconds)
            mountain = (entry.short, fill) == ("air_pressure", 32767.0)  # of Everest's summit
            assert mountain or not low <= fill <= high


@known
def test_units_that_inputs_are_confused_with(entry):
    from cf_units import Unit

    for one in entry.known.confused:
        for value in (0.0, 280.0):
            meant = Unit(one.units).convert(value, Unit(entry.units))
            assert value * one.factor + one.offset == pytest.approx(meant, abs=1e-6)


def test_limits_by_length():
    rain = variable("precipitation").known
    assert [rain.limits(s)[1] for s in (10 * 86400, 86400, 43200, 3600, 900, 1)] == [2000, 2000, 9700, 9700, 6e4, 6e4]
    assert variable("air_temperature").known.limits(1) == (-100.0, 70.0)


@pytest.mark.parametrize(("short", "value", "given", "expected"), [
    ("air_temperature", 283.15, "degC", "in K (283.15 K = 10 degC)"),
    ("air_temperature", 95.0, "degC", "in degF (95 degF = 35 degC)"),
    ("air_temperature", 10.0, "K", "in degC (10 degC)"),
    ("air_pressure", 1013.0, "Pa", "in hPa (1013 hPa = 101300 Pa)"),
    ("air_pressure", 101.3, "Pa", "in kPa (101.3 kPa = 101300 Pa)"),
    ("specific_humidity", 8.0, "1", "in g kg-1 (8 g kg-1 = 0.008 1)"),
    ("shortwave_radiation", 2e6, "W m-2", "in J m-2 h-1"),
    ("precipitation", 5.0, "mm s^-1", "in mm d-1 (5 mm d-1)"),
])
def test_units_are_guessed(short, value, given, expected):
    entry = variable(short)
    assert expected in entry.known.guess(value, entry.units, given)
    assert entry.known.guess(9.97e36, entry.units, given) == ""
