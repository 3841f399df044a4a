"""Files that older versions wrote go on being read: states of format 2, checkpoints of format 1.

`data/make_old_files.py` made them, and the discharge that those versions then gave.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import Q, change_config, opened, outputs, step_all, write_case
from generator_cases import attribute_fields
from make_domain import write_domain

from bmi_cdlm.files.restart import FORMAT, READ, read_restart
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.container import unseal
from bmi_cdlm.names.errors import CheckpointError, StateError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

DATA = Path(__file__).resolve().parent / "data"
SNOWS = ("none", "cemaneige", "cemaneige_hysteresis")
PREFIX = "ngen::serialization_"


def expected(name: str) -> np.ndarray:
    with np.load(DATA / "discharge.npz") as file:
        return file[name]


def old_state(snow: str) -> Path:
    return DATA / f"format_2_{snow}.nc"


def attributes(path: Path) -> dict[str, str]:
    with netCDF4.Dataset(path) as dataset:
        return {key: dataset.getncattr(key) for key in dataset.ncattrs()}


@pytest.mark.parametrize("snow", SNOWS)
def test_a_run_goes_on_from_a_state_of_format_2(tmp_path, snow):
    assert attributes(old_state(snow))["format"] == READ[0] == "bmi_cdlm restart 2" != FORMAT
    config = write_case(tmp_path, snow=snow, initial_state=str(old_state(snow)), ledger_tolerance=1e-10)
    with opened(config) as component:
        assert component.get_current_time() == 5 * DAY
        found = step_all(component)[Q]
    assert found.shape == (4, 40) and found.any()
    # Unit hydrographs take their powers from the machine's library.
    np.testing.assert_allclose(found, expected(snow), rtol=1e-12)


@pytest.mark.parametrize("snow", SNOWS)
def test_bytes_of_format_2_are_taken_by_bmi(tmp_path, snow):
    with opened(write_case(tmp_path, snow=snow)) as component, opened(
        change_config(tmp_path / "case.yaml", initial_state=str(old_state(snow)))
    ) as other:
        component.update()
        component.set_value(f"{PREFIX}state", np.frombuffer(old_state(snow).read_bytes(), np.uint8))
        assert component.get_current_time() == 5 * DAY
        for name, values in outputs(other).items():
            np.testing.assert_array_equal(component.get_value_ptr(name), values, err_msg=name)


def test_what_waits_in_a_state_of_format_2_is_handed_out(tmp_path):
    """Saved within a step: such states hold the discharge that waits, and neither its runoff nor for how long."""
    with opened(write_case(tmp_path)) as one, opened(tmp_path / "case.yaml") as other:
        for k in range(1, 4 * 5 + 3):
            one.update_until(k * DAY / 4)
        saved = one._stepper.simulation.snapshot()
        assert saved.attributes["release_seconds"] == str(DAY // 4) and "waiting_runoff" in saved.cell
        new = ("release_seconds", "call_depth", "cells")
        attributes = {key: value for key, value in saved.attributes.items() if key not in new}
        cell = {name: values for name, values in saved.cell.items() if name != "waiting_runoff"}
        other._stepper.simulation.restore(saved._replace(attributes=attributes, cell=cell))
        for k in range(4 * 5 + 3, 4 * 8):
            for component in (one, other):
                component.update_until(k * DAY / 4)
            for name, values in outputs(one).items():
                np.testing.assert_allclose(component.get_value_ptr(name), values, rtol=1e-12, err_msg=name)
            for name in ("ngen::mass_out", "ngen::mass_stored"):
                np.testing.assert_allclose(other.get_value_ptr(name), one.get_value_ptr(name), rtol=1e-11)


@pytest.mark.parametrize("snow", SNOWS)
def test_what_is_saved_again_is_of_the_new_format_and_the_same_state(tmp_path, snow):
    config = write_case(tmp_path, snow=snow, initial_state=str(old_state(snow)))
    with opened(config) as component:
        simulation = component._stepper.simulation
        simulation.save(tmp_path / "new.nc")
        ids = simulation.model.domain.cells.id, simulation.model.domain.reaches.id
        old, new = (read_restart(path, *ids) for path in (old_state(snow), tmp_path / "new.nc"))
    unseal((tmp_path / "new.nc").read_bytes(), FORMAT, "", StateError, "")
    assert (new.attributes["runoff"], new.attributes["routing"]) == ("gr4j", "muskingum")
    assert old.attributes["runoff"] == "gr4j" and old.attributes["routing"] == "muskingum"
    gone = old.cell.keys() - new.cell.keys()
    assert gone == {
        "none": {"snowpack", "thermal_state", "snow_peak", "snow_cover"}, "cemaneige": {"snow_peak", "snow_cover"},
        "cemaneige_hysteresis": set(),
    }[snow]
    assert not any(old.cell[name].any() for name in gone), "a state of snow that there is not"
    assert not new.cell.keys() - old.cell.keys() and new.reach.keys() == old.reach.keys()
    for name, values in (new.cell | new.reach).items():
        if name in ("reach_storage", "reach_flow"):
            # Coefficients made by another compiler than the file's may differ in the last digit: water is kept.
            np.testing.assert_allclose(old.reach[name], values, rtol=1e-14)
        else:
            np.testing.assert_array_equal((old.cell | old.reach)[name], values, err_msg=name)


def test_water_in_reaches_of_format_2_is_kept_with_another_celerity(tmp_path):
    """Their volume stands there as a flow and a storage time."""
    config = write_case(tmp_path, initial_state=str(old_state("none")))
    shutil.copy(tmp_path / "parameters.nc", tmp_path / "slow.nc")
    with netCDF4.Dataset(tmp_path / "slow.nc", "a") as dataset:
        dataset["celerity"][:] = 0.3
    other = change_config(config, parameters="slow.nc")
    with opened(config) as component, opened(other) as changed:
        name = variable("reach_storage").name
        before, after = component.get_value_ptr(name).copy(), changed.get_value_ptr(name).copy()
        flows = [c._stepper.simulation.model.state.reach.copy() for c in (component, changed)]
    assert before.any() and (flows[0] != flows[1]).any()
    np.testing.assert_allclose(after, before, rtol=1e-13, atol=1e-9)


@pytest.mark.parametrize(("keys", "message"), [
    ({"snow": "none"}, "snow is 'cemaneige', expected 'none'"), ({"step": 3600}, "time_step is '86400'"),
])
def test_a_state_of_format_2_of_another_run_is_refused(tmp_path, keys, message):
    config = write_case(tmp_path, **{"snow": "cemaneige", "initial_state": str(old_state("cemaneige")), **keys})
    with pytest.raises(StateError, match=message), opened(config):
        pass


def test_a_damaged_state_of_format_2_is_refused(tmp_path):
    content = bytearray(old_state("none").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "old.nc").write_bytes(content)
    with pytest.raises(StateError, match=r"sha256|cannot be read"):
        read_restart(tmp_path / "old.nc", ["c0"], ["r0"])


def test_a_checkpoint_of_format_1_gives_what_it_gave(tmp_path):
    path = DATA / "format_1.safetensors"
    assert b"bmi_cdlm checkpoint 1" in path.read_bytes()
    config = write_case(tmp_path, snow="cemaneige", parameters=str(path))
    write_domain(tmp_path / "domain.nc", attribute_fields(7, 40, 25))
    with opened(config) as component:
        found = step_all(component)[Q]
    # tanh and exp of the generator are numpy's.
    np.testing.assert_allclose(found, expected("checkpoint"), rtol=1e-9)
    spec = load_checkpoint(path).spec
    assert (spec.snow, spec.runoff, spec.routing) == ("cemaneige", "gr4j", "muskingum")


def test_a_checkpoint_of_format_1_is_of_gr4j_and_muskingum(tmp_path):
    checkpoint = load_checkpoint(DATA / "format_1.safetensors")
    run = {"time_step": DAY, "routing_step": 3600, "snow": "cemaneige"}
    checkpoint.check_run(**run)
    for key, value in (("runoff", "another"), ("routing", "another"), ("snow", "none")):
        with pytest.raises(CheckpointError, match=f"was trained with {key}: .*, the run has {key}: {value}"):
            checkpoint.check_run(**run | {key: value})
