"""The registry of variables is consistent: names that BMI clients accept, units that mean something."""

from __future__ import annotations

import importlib.util
import re

import pytest

from bmi_cdlm.files.netcdf import same_units
from bmi_cdlm.kernels.groups import PetFluxes, RunoffFluxes, SnowFluxes
from bmi_cdlm.names.errors import UnknownNameError
from bmi_cdlm.names.variables import VARIABLES, select, variable

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


def test_every_flux_of_the_kernels_has_an_entry():
    assert {*RunoffFluxes._fields, *SnowFluxes._fields, *PetFluxes._fields} == {
        v.short for v in VARIABLES if v.grid == "cell" and v.role == "flux"}
    assert {v.short for v in VARIABLES if v.part == "pet"} == set(PetFluxes._fields)
    assert {v.short for v in VARIABLES if v.part == "snow"} == {
        *SnowFluxes._fields, "snowpack", "mean_snowpack", "thermal_state", "air_temperature"}
    assert {v.short for v in VARIABLES if v.part == "hysteresis"} == {"snow_peak", "snow_cover"}
    assert {v.role for v in VARIABLES if v.part == "weather"} == {"input"}


def test_selection_by_role_grid_and_snow():
    assert [v.short for v in select(role="input")][:3] == [
        "precipitation", "potential_evapotranspiration", "air_temperature"]
    assert "air_temperature" not in [v.short for v in select(role="input", snow=False)]
    assert set(select()) - set(select(pet=False)) == {variable(n) for n in PetFluxes._fields}
    assert {v.part for v in select(hysteresis=False, ledger=False)} == {"core", "snow", "pet", "weather"}
    assert {v.part for v in select(snow=False)} == {"core", "pet", "weather", "ledger"}
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
