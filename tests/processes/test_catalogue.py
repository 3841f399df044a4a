"""Which process a name stands for: ours, and those of installed packages; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make_domain import lumped_domain
from process_cases import BESIDE, HBV, RESERVOIRS, installed, point_to, pointed

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ConfigError, DeclarationError
from bmi_cdlm.processes import catalogue
from bmi_cdlm.processes.catalogue import ALL_OWN, FORMULAS, OWN, choose, find, find_formula, kind_of, known
from bmi_cdlm.processes.cemaneige import CEMANEIGE
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.processes.oudin import OUDIN
from bmi_cdlm.processes.undercatch import UNDERCATCH


def test_ours():
    assert known()[: len(ALL_OWN)] == ALL_OWN == (*OWN, *FORMULAS)
    assert {kind_of(one) for one in FORMULAS} == {"pet"} and find_formula("oudin") is OUDIN
    of_cells = ["snow"] * 3 + ["runoff"] * 11 + ["precipitation", "runoff"]
    assert [kind_of(p) for p in OWN] == of_cells + ["routing"] * 5
    chain = choose("cemaneige")
    assert (chain.cells, chain.reach) == ((CEMANEIGE, GR4J), MUSKINGUM) and choose("cemaneige") is chain
    assert chain.names == ("cemaneige", "gr4j", "muskingum")
    assert chain.inputs == ("precipitation", "air_temperature", "potential_evapotranspiration")
    assert choose().inputs == ("precipitation", "potential_evapotranspiration")


def test_those_of_a_package_are_imported_when_they_are_chosen():
    loaded = []
    point = point_to(HBV)
    point.load = lambda: loaded.append(1) or HBV
    with pointed(point, point_to(RESERVOIRS)):
        choose("cemaneige")
        assert not loaded
        chain = choose(runoff="three_stages", routing="reservoirs")
        assert loaded and (chain.cells, chain.reach) == ((HBV,), RESERVOIRS)
        assert chain.inputs == ("precipitation", "air_temperature", "potential_evapotranspiration")
        assert known() == (*ALL_OWN, HBV, RESERVOIRS)
    with pytest.raises(ConfigError, match="there is no process 'three_stages'"):
        choose(runoff="three_stages")


@pytest.mark.parametrize(("kind", "name", "message"), [
    ("runoff", "gr4jj", r"runoff: there is no process 'gr4jj'\. Did you mean 'gr4j'\? Installed: gr4j, .*three_stages, "
     r"reservoirs\. Install .*entry point group bmi_cdlm\.processes"),
    ("runoff", "three_stage", "Did you mean 'three_stages'"),
    ("snow", "cemaneig", r"Did you mean 'cemaneige'\? Installed: cemaneige, cemaneige_hysteresis, .*none"),
    ("snow", "non", r"Did you mean 'none'"),
    ("routing", "xyz", r"routing: there is no process 'xyz'\. Installed: muskingum"),
    ("runoff", "cemaneige", r"runoff: 'cemaneige' is a process of kind snow\. Choose it as `snow:`"),
    ("snow", "gr4j", r"snow: 'gr4j' is a process of kind runoff\. Choose it as `runoff:`"),
    ("routing", "three_stages", "routing: 'three_stages' is a process of kind runoff"),
    ("runoff", "reservoirs", r"runoff: 'reservoirs' is a process of kind routing\. Choose it as `routing:`"),
])
def test_a_name_that_does_not_fit(kind, name, message):
    with installed(HBV, RESERVOIRS):
        with pytest.raises(ConfigError, match=message):
            find(kind, name)
        with pytest.raises(ConfigError, match=message):
            choose(**{kind: name})
        with pytest.raises(ConfigError, match=message):
            Model(lumped_domain(), **{kind: name})


def test_snow_before_a_process_that_has_its_own():
    with installed(HBV, BESIDE):
        with pytest.raises(ConfigError, match=r"snow is 'cemaneige', and runoff 'three_stages' has snow of its own\. "
                                              "Set "
                                              r"snow: none"):
            choose("cemaneige", "three_stages")
        assert choose("none", "three_stages").cells == (HBV,)
        assert choose("cemaneige", "beside_a_queue").cells == (CEMANEIGE, BESIDE)


def test_a_correction_of_precipitation_before_what_takes_it():
    assert choose("cemaneige", precipitation="undercatch").cells == (UNDERCATCH, CEMANEIGE, GR4J)
    found = choose(precipitation="undercatch")
    assert found.cells == (UNDERCATCH, GR4J) and found.enters == "precipitation"
    assert found.inputs == ("precipitation", "air_temperature", "potential_evapotranspiration")
    assert choose(precipitation="given") == choose()
    for keys, message in (
        ({"runoff": "caller"}, r"is 'undercatch', and runoff 'caller' takes none\. Set precipitation: given"),
        ({"runoff": "hbv_undercatch"}, "'hbv_undercatch' has rainfall_correction_factor too: it would count twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            choose(precipitation="undercatch", **keys)


def fails() -> None:
    raise ImportError("no module named 'physics'")


@pytest.mark.parametrize(("points", "message"), [
    ([point_to(fails, "three_stages")],
     r"entry point 'three_stages = package:three_stages' is a function, expected a Cell"),
    ([point_to(HBV, "other")],
     r"entry point 'other = package:other' leads to a process called 'three_stages'\. Give both"),
    ([point_to(HBV), point_to(HBV)],
     r"two processes are called 'three_stages': of package:three_stages and of package"),
    ([point_to(HBV, "gr4j")], r"two processes are called 'gr4j': of bmi_cdlm and of package:gr4j\. Uninstall one"),
    ([point_to(replace(BESIDE, name="other"), "other"),
      point_to(replace(HBV, name="more", stores=BESIDE.stores), "more")],
     None),
])
def test_an_entry_point_that_leads_astray(points, message):
    with pointed(*points):
        if message is None:  # the same variables under two names of processes: no contradiction
            assert len(known()) == len(ALL_OWN) + 2
            return
        with pytest.raises(DeclarationError, match=message):
            known()


def test_a_package_that_cannot_be_imported():
    point = point_to(HBV)
    point.load = fails
    with pointed(point):
        message = r"cannot be imported \(no module named 'physics'\)\. Repair or uninstall"
        with pytest.raises(DeclarationError, match=message):
            known()
        assert choose().cells == (GR4J,), "what nobody chooses is not imported"


def test_a_package_whose_process_contradicts_ours_is_refused_when_it_is_chosen():
    bad = replace(HBV, stores=HBV.stores | {"routing_store": HBV.stores["test_soil"]})
    with installed(bad):
        choose()
        message = "the variable 'routing_store' means something else in process 'gr4j'"
        with pytest.raises(DeclarationError, match=message):
            choose(runoff="three_stages")


def test_the_registries_are_left_as_they_were():
    before = dict(catalogue._others())
    with installed(HBV):
        choose(runoff="three_stages")
    assert catalogue._others() == before
