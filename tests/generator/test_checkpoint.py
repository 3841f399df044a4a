"""Checkpoints: what is refused, and the same run through files, BMI and a process without torch."""

from __future__ import annotations

import dataclasses
import errno
import json
import os

import netCDF4
import numpy as np
import pytest
from cases import START, change_config, simulated, step_all, write_case
from click.testing import CliRunner
from generator_cases import RECORD, attribute_fields, drawn_tensors, specify, write_drawn_checkpoint
from make_domain import write_domain
from safetensors import safe_open
from safetensors.numpy import save_file

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.cli import main
from bmi_cdlm.files.fingerprints import content_digest
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.names.errors import CheckpointError, ConfigError, DomainError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation


@pytest.fixture
def case(tmp_path):
    """A case whose parameters come from a checkpoint with a PET network, and snow."""
    return checkpoint_case(tmp_path)


def checkpoint_case(folder, *, step=DAY, snow="cemaneige", keys=None, **options):
    config = write_case(folder, step=step, snow=snow, parameters="drawn.safetensors", **(keys or {}))
    write_domain(folder / "domain.nc", attribute_fields(7, 40, 25))
    write_drawn_checkpoint(folder / "drawn.safetensors", specify(folder / "domain.nc", snow=snow, step=step, **options))
    return config


def contents(path):
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["bmi_cdlm"]), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118


def test_what_was_saved_is_loaded(case):
    path = case.parent / "drawn.safetensors"
    loaded = load_checkpoint(path)
    spec = specify(case.parent / "domain.nc")
    assert loaded.spec == spec
    for name, value in drawn_tensors(spec).items():
        np.testing.assert_array_equal(loaded.tensors[name], value)
    assert {k: loaded.record[k] for k in RECORD} == RECORD and "code_version" in loaded.record
    assert load_checkpoint(path) is loaded
    with pytest.raises(ValueError, match="read-only"):
        loaded.tensors["cell.0.bias"][:] = 0
    with pytest.raises(TypeError):
        loaded.tensors["cell.0.bias"] = None
    assert [p.name for p in case.parent.glob("*safetensors*")] == ["drawn.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="no limits of the size of files")
def test_a_full_disk_is_told_with_the_file(case):
    """safetensors' own writer has an error that no command knows; the older checkpoint stays."""
    import resource

    path = case.parent / "drawn.safetensors"
    before, spec = path.read_bytes(), load_checkpoint(path).spec
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError) as found:
            save_checkpoint(path, spec, drawn_tensors(spec, 5), RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.value.errno == errno.EFBIG and found.value.filename == str(path)
    assert path.read_bytes() == before and [p.name for p in case.parent.glob("*safetensors*")] == [path.name]


def test_a_changed_file_is_read_anew(case):
    path = case.parent / "drawn.safetensors"
    first = load_checkpoint(path)
    write_drawn_checkpoint(path, first.spec, seed=5)
    os.utime(path, ns=(1, 1))
    assert (load_checkpoint(path).tensors["cell.0.weight"] != first.tensors["cell.0.weight"]).any()


def test_the_same_content_gives_the_same_file(case, tmp_path):
    spec = specify(case.parent / "domain.nc")
    a, b = (write_drawn_checkpoint(tmp_path / n, spec) for n in ("a.safetensors", "b.safetensors"))
    assert content_digest(a) == content_digest(b)
    assert len(content_digest(a)) == 64


@pytest.mark.parametrize("keep", [0, 4, 60, 0.5, 0.99])
def test_a_truncated_file_is_refused(case, keep):
    path = case.parent / "drawn.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04 a pickle it may be" * 9)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path)
    for metadata in (None, {"bmi_cdlm": "{}"}, {"bmi_cdlm": "[1]"}, {"format": "pt"}):
        save_file({"w": np.zeros(2)}, path, metadata)
        with pytest.raises(CheckpointError, match="has no format, expected 'bmi_cdlm checkpoint 2'"):
            load_checkpoint(path)


def tampered(path, change):
    header, tensors = contents(path)
    change(header, tensors)
    save_file(tensors, path, {"bmi_cdlm": json.dumps(header)})
    return path


@pytest.mark.parametrize(("change", "message"), [
    (lambda m, t: m.update(format="bmi_cdlm checkpoint 3"), "has format 'bmi_cdlm checkpoint 3', expected"),
    (lambda m, t: m.update(format="bmi_cdlm checkpoint 1"), "does not match its sha256"),
    (lambda m, t: m.pop("record"), "its header lacks 'record'"),
    (lambda m, t: m.pop("digest"), "its header lacks 'digest'"),
    (lambda m, t: t["cell.0.weight"].__setitem__((0, 0), 9.0), "does not match its sha256"),
    (lambda m, t: t.pop("cell.0.weight"), "does not match its sha256"),
    (lambda m, t: t.update({"cell.0.weight": t["cell.0.weight"].T.copy()}), "does not match its sha256"),
    (lambda m, t: m["specification"]["cell"]["targets"][0].update(low=11.0), "does not match its sha256"),
    (lambda m, t: m["record"]["scores"]["g0"].update(nse=0.9), "does not match its sha256"),
])
def test_a_file_changed_by_hand_is_refused(case, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tampered(case.parent / "drawn.safetensors", change))


@pytest.mark.parametrize("bit", [40, 4000, -40])
def test_a_flipped_bit_is_refused(case, bit):
    path = case.parent / "drawn.safetensors"
    content = bytearray(path.read_bytes())
    content[bit] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("cell.0.bias", np.full(6, np.nan), "6 of the 6 weights 'cell.0.bias' are NaN or infinite. The training diverged"),
    ("pet.1.bias", np.r_[np.zeros(4), np.inf], "1 of the 5 weights 'pet.1.bias'"),
    ("cell.0.bias", np.zeros(7), r"'cell.0.bias' are float64\[7\], expected float32 or float64 \[6\]"),
    ("cell.0.bias", np.zeros(6, np.int64), "are int64"),
    ("cell.0.bias", None, "lacks weights 'cell.0.bias'"),
    ("cell.9.bias", np.zeros(6), "has unknown weights 'cell.9.bias'"),
])
def test_weights_that_do_not_fit_are_refused_at_writing_and_at_reading(case, tmp_path, monkeypatch, name, value,
                                                                       message):
    spec = specify(case.parent / "domain.nc")
    tensors = drawn_tensors(spec) | {name: value}
    if value is None:
        del tensors[name]
    path = tmp_path / "bad.safetensors"
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(path, spec, tensors, RECORD)
    assert not path.exists()
    with monkeypatch.context() as unchecked:
        unchecked.setattr("bmi_cdlm.generator.checkpoint._check_tensors", lambda *_: None)
        save_checkpoint(path, spec, tensors, RECORD)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_an_incomplete_record_is_refused(case, tmp_path):
    spec = specify(case.parent / "domain.nc")
    record = {k: v for k, v in RECORD.items() if k not in ("gauges", "command")}
    for bad, message in (
        (record, "its record lacks 'gauges', 'command'"), (RECORD | {"scores": float("nan")}, "no JSON"),
        (RECORD | {"scores": np.zeros(2)}, "no JSON"),
    ):
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(tmp_path / "x.safetensors", spec, drawn_tensors(spec), bad)


def test_a_specification_that_says_nonsense_is_refused(case, monkeypatch):
    path = case.parent / "drawn.safetensors"
    spec = specify(case.parent / "domain.nc")
    broken = json.loads(spec.to_json())
    broken["cell"]["targets"][0]["low"] = -1.0
    broken["colour"] = "blue"
    monkeypatch.setattr("bmi_cdlm.generator.specification.GeneratorSpec.to_json", lambda self: json.dumps(broken))
    save_checkpoint(path, spec, drawn_tensors(spec), RECORD)
    with pytest.raises(CheckpointError, match=r"the specification is refused: .*production_capacity.*colour"):
        load_checkpoint(path)


def test_the_file_names_its_processes_and_their_versions(case):
    header, _ = contents(case.parent / "drawn.safetensors")
    assert header["format"] == "bmi_cdlm checkpoint 2"
    found = header["specification"]
    assert (found["snow"], found["runoff"], found["routing"]) == ("cemaneige", "gr4j", "muskingum")
    assert found["versions"] == {"cemaneige": 1, "gr4j": 1, "muskingum": 1}
    assert [t["components"] for t in found["cell"]["targets"]] == [1] * 6


def rewritten(path, monkeypatch, change, form="bmi_cdlm checkpoint 2"):
    """A checkpoint as another version would write it: its specification changed, its sha256 right."""
    loaded = load_checkpoint(path)
    written = json.loads(loaded.spec.to_json())
    change(written)
    with monkeypatch.context() as other:
        other.setattr("bmi_cdlm.generator.specification.GeneratorSpec.to_json", lambda self: json.dumps(written))
        other.setattr("bmi_cdlm.generator.checkpoint.FORMAT", form)
        save_checkpoint(path, loaded.spec, loaded.tensors, RECORD)


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s["versions"].update(gr4j=2), r"process 'gr4j' is of version 1 here, of 2 where it was trained"),
    (lambda s: s["versions"].update(cemaneige=0), "process 'cemaneige' is of version 1 here, of 0"),
    (lambda s: s["versions"].update(muskingum=3), "process 'muskingum' is of version 1 here, of 3"),
    (lambda s: s.update(runoff="gr5j"), "runoff: there is no process 'gr5j'. Did you mean 'gr5'"),
    (lambda s: s.update(routing="muskingums"), "Did you mean 'muskingum'"),
    (lambda s: s["versions"].update(gr4j="new"), "versions.gr4j"),
])
def test_another_version_of_a_process_is_refused(case, monkeypatch, change, message):
    path = case.parent / "drawn.safetensors"
    rewritten(path, monkeypatch, change)
    with pytest.raises(CheckpointError, match=rf"drawn\.safetensors: the specification is refused: .*{message}"):
        load_checkpoint(path)


def test_a_raised_version_refuses_what_was_trained_before(case):
    path = case.parent / "drawn.safetensors"
    spec = load_checkpoint(path).spec
    with pytest.raises(ValueError, match="version 1 here, of 7"):
        dataclasses.replace(spec, versions={"gr4j": 7})
    assert dataclasses.replace(spec, versions={}).versions == {}  # of which nobody knows


def test_format_1_is_read_as_what_it_knew(case, monkeypatch):
    path = case.parent / "drawn.safetensors"
    with simulated(case) as simulation:
        simulation.run()
        expected = simulation.model.live["discharge"].copy()

    def older(spec):
        for key in ("runoff", "routing", "versions"):
            del spec[key]
        for network in (spec["cell"], spec["reach"]):
            for target in network["targets"]:
                del target["components"]

    rewritten(path, monkeypatch, older, "bmi_cdlm checkpoint 1")
    assert contents(path)[0]["format"] == "bmi_cdlm checkpoint 1"
    spec = load_checkpoint(path).spec
    assert (spec.runoff, spec.routing, spec.versions, spec.components) == ("gr4j", "muskingum", {}, 1)
    with simulated(case) as simulation:
        simulation.run()
        np.testing.assert_array_equal(simulation.model.live["discharge"], expected)


@pytest.mark.parametrize(("keys", "message"), [
    ({"components": 3}, "was trained with components: 1, the run has components: 3. Set components: 1"),
    ({"snow": "none"}, "was trained with snow: cemaneige, the run has snow: none. Set snow: cemaneige"),
    ({"routing_step": "30 min"}, "trained with routing_step: 1 h, the run has routing_step: 30 min. Set routing_step"),
    ({"time_step": "1 h"}, "was trained with time_step: 1 d, the run has time_step: 1 h. Set time_step: 1 d"),
    ({"parameters": "none.safetensors"}, "there is no such checkpoint"),
])
def test_another_run_is_refused(case, keys, message):
    with pytest.raises(CheckpointError, match=message), simulated(change_config(case, **keys)):
        pass


def test_a_domain_without_the_attributes_is_refused(case):
    with netCDF4.Dataset(case.parent / "domain.nc", "a") as dataset:
        dataset["cell_elevation"].units = "km"
    with pytest.raises(DomainError, match="'elevation' has units 'km', expected 'm'"), simulated(case):
        pass
    with netCDF4.Dataset(case.parent / "domain.nc", "a") as dataset:
        dataset.renameVariable("cell_elevation", "cell_elevations")
    with pytest.raises(DomainError, match=r"attribute 'elevation' .*Did you mean 'elevations'"), simulated(case):
        pass


def rename_attribute(folder):
    with netCDF4.Dataset(folder / "domain.nc", "a") as dataset:
        dataset.renameVariable("cell_elevation", "cell_height")


def convert_attribute(folder):
    with netCDF4.Dataset(folder / "domain.nc", "a") as dataset:
        dataset["cell_elevation"].units = "km"


def lose_weights(folder):
    """As a version would write them that does not look."""
    spec = specify(folder / "domain.nc")
    tensors = drawn_tensors(spec)
    tensors["cell.0.weight"][0, 0] = np.nan
    with pytest.MonkeyPatch.context() as unchecked:
        unchecked.setattr("bmi_cdlm.generator.checkpoint._check_tensors", lambda *_: None)
        save_checkpoint(folder / "drawn.safetensors", spec, tensors, RECORD)


REFUSED = {
    "another format version": (
        lambda f: tampered(f / "drawn.safetensors", lambda m, t: m.update(format="bmi_cdlm checkpoint 7")),
        r"drawn\.safetensors: has format 'bmi_cdlm checkpoint 7', expected 'bmi_cdlm checkpoint 2'\. Use a",
    ),
    "a missing attribute": (
        rename_attribute,
        r"domain\.nc: there is no cell attribute 'elevation' .*Add it to the domain.*drawn\.safetensors reads this",
    ),
    "other units": (
        convert_attribute,
        r"domain\.nc: the cell attribute 'elevation' has units 'km', expected 'm'\. Convert it.*drawn\.safetensors",
    ),
    "NaN weights": (
        lose_weights, r"drawn\.safetensors: 1 of the \d+ weights 'cell\.0\.weight' are NaN or infinite\. .*use an",
    ),
    "a truncated file": (
        lambda f: os.truncate(f / "drawn.safetensors", 1500),
        r"drawn\.safetensors: cannot be read as a checkpoint .*Expected a whole \.safetensors file; copy it again",
    ),
    "a tampered file": (
        lambda f: tampered(f / "drawn.safetensors", lambda m, t: t["cell.0.bias"].__setitem__(0, 5.0)),
        r"drawn\.safetensors: the content does not match its sha256: .*changed by hand\. Copy it again",
    ),
    "another step": (
        lambda f: change_config(f / "case.yaml", "case.yaml", time_step="1 h", routing_step="30 min"),
        r"drawn\.safetensors: was trained with time_step: 1 d, the run has time_step: 1 h\. Set time_step: 1 d",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bmi_refuses(case, what):
    """What is wrong, in which file, what was expected and what to do; the component can be used again."""
    whole = {p: p.read_bytes() for p in case.parent.iterdir()}
    spoil, message = REFUSED[what]
    spoil(case.parent)
    component = BmiCdlm()
    with pytest.raises((CheckpointError, DomainError), match=message):
        component.initialize(str(case))
    for path, content in whole.items():
        path.write_bytes(content)
    component.initialize(str(case))
    component.update()
    component.finalize()


def test_the_factor_needs_a_network_for_it(tmp_path):
    config = write_case(tmp_path, output_variables=["pet_factor"], output_at="cells")
    with pytest.raises(ConfigError, match="'pet_factor' needs a checkpoint with a PET network"), simulated(config):
        pass


@pytest.mark.parametrize("options", [
    {}, {"mapping": "uniform", "pet": False}, {"mapping": "linear"}, {"mapping": "power", "snow": "none"},
    {"step": HOUR, "snow": "cemaneige_hysteresis"},
])
def test_bmi_runs_a_checkpoint_step_by_step_as_the_file_run_does(tmp_path, options):
    pet = options.get("pet", True)
    config = checkpoint_case(tmp_path, keys={"output": "run.nc", "output_at": "reaches"}, **options)
    found = CliRunner().invoke(main, ["run", "--quiet", str(config)])
    assert found.exit_code == 0, found.output
    with netCDF4.Dataset(tmp_path / "run.nc") as dataset:
        expected = np.asarray(dataset["discharge"][...])
    component = BmiCdlm()
    component.initialize(str(config))
    factor = variable("pet_factor").name
    assert (factor in component.get_output_var_names()) == pet
    got = step_all(component)
    np.testing.assert_array_equal(got[variable("discharge").name].astype(expected.dtype), expected)
    if pet:
        m = component.get_value_ptr(factor)
        assert ((m >= 0.3) & (m <= 2.0)).all() and np.ptp(m) > 0
        assert component.get_var_units(factor) == "1"
    component.finalize()


def test_the_command_line_takes_a_checkpoint(case, tmp_path):
    plain = change_config(case, parameters="default", output="plain.nc", output_variables=["pet_factor"],
                          output_at="cells")
    drawn = tmp_path / "drawn.safetensors"
    found = CliRunner().invoke(main, ["run", "--quiet", str(plain), "--parameters", str(drawn)])
    assert found.exit_code == 0, found.output
    with netCDF4.Dataset(tmp_path / "plain.nc") as dataset:
        assert np.ptp(np.asarray(dataset["pet_factor"][...])) > 0.1


def test_restart_and_blocks_give_the_bits_of_an_unbroken_run(case):
    with simulated(case) as whole, simulated(case) as first:
        whole.run()
        for _ in range(3):
            first.advance(first.read_forcing(first.n_done, 1))
        first.save(case.parent / "restart.nc")
    with simulated(change_config(case, initial_state="restart.nc", threads=2)) as rest:
        assert rest.time == START + np.timedelta64(3 * DAY, "s")
        rest.advance(rest.read_forcing(3, 2))
        rest.run()
        for name, value in whole.model.live.items():
            np.testing.assert_array_equal(rest.model.live[name], value, err_msg=name)


def test_a_caller_that_sets_the_forcing_gets_the_same_season(case):
    with simulated(case) as file:
        forcing = file.read_forcing(0, 1)
        file.run()
    component = BmiCdlm()
    component.initialize(str(change_config(case, forcing="caller", pet_kind="oudin")))
    simulation = component._stepper.simulation
    assert simulation.dated(forcing._replace(day_of_year=None), 0, 1).day_of_year == forcing.day_of_year == [60.0]
    component.finalize()


@pytest.mark.parametrize(("keys", "message"), [
    ({"forcing": "caller"}, "'Oudin', the run says nothing of it. Set pet_kind: Oudin"),
    ({"forcing": "caller", "pet_kind": "hamon"}, "'Oudin', the run has 'hamon' for it"),
    ({"pet_kind": "penman_monteith"}, "the run has 'penman_monteith' for it"), ({}, None),
    ({"pet_kind": "OUDIN"}, None), ({"pet": "oudin"}, None), ({"pet": "oudin", "forcing": "caller"}, None),
])
def test_the_demand_must_be_what_the_checkpoint_corrects(case, keys, message):
    config = load_config(change_config(case, **keys))
    if message is None:
        Simulation(config).close()
        return
    with pytest.raises(CheckpointError, match=message):
        Simulation(config)


def test_reset_takes_what_it_is_given(case):
    with simulated(case) as simulation:
        pet, parameters = simulation.model.pet, simulation.model.parameters
        simulation.run()
        kept = simulation.model.live["discharge"].copy()
        simulation.reset(parameters, pet)
        simulation.run()
        np.testing.assert_array_equal(simulation.model.live["discharge"], kept)
        simulation.reset(parameters)
        assert simulation.model.pet is None
        simulation.run()
        assert (simulation.model.live["discharge"] != kept).any()
