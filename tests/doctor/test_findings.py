"""What the doctor says of the machine, of states, observations and trainings, one finding at a time."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
from cases import change_config, simulated, write_case
from generator_cases import RECORD, attribute_fields, drawn_tensors, specify
from make_domain import write_domain

from bmi_cdlm.doctor import Finding, machine
from bmi_cdlm.doctor.findings import Case, attempt, day_text, listed, size_text
from bmi_cdlm.doctor.machine import check_estimate, check_machine, check_packages
from bmi_cdlm.doctor.parameters import check_parameters, starts_as_learned
from bmi_cdlm.doctor.run import check_initial_state, check_observations, check_outputs, why_not_writable
from bmi_cdlm.doctor.training import check_training
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.restart import write_restart
from bmi_cdlm.generator.checkpoint import STARTS_AT, save_checkpoint
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.run.config import load_config


def case_of(path: Path) -> Case:
    config = load_config(path)
    return Case(path, config, read_domain(config.domain) if config.domain.is_file() else None)


def found(check: Callable[[Case], Iterator[Finding]], path: Path) -> list[tuple[str, str]]:
    """Levels and texts of what a check finds."""
    return [(one.level, one.text) for one in check(case_of(path))]


# ---- how it is told ----------------------------------------------------------------------------------------


def test_an_error_ends_a_check_and_nothing_is_ok_beside_it(tmp_path):
    def broken(case):
        yield Finding("ok", "a", "fine")
        yield Finding("note", "a", "look")
        raise StateError("it is broken.")

    told = attempt("a", broken, case_of(write_case(tmp_path)))
    assert told == [Finding("note", "a", "look"), Finding("fail", "a", "it is broken.")]
    with pytest.raises(ZeroDivisionError):  # what is not ours is no finding
        attempt("a", lambda case: iter([1 / 0]), case_of(tmp_path / "case.yaml"))


@pytest.mark.parametrize(("size", "text"), [(1500, "1.5 kB"), (2.34e6, "2.34 MB"), (1e9, "1 GB"), (5.5e11, "550 GB")])
def test_sizes(size, text):
    assert size_text(size) == text


def test_long_lists_are_cut_and_midnight_is_left_out():
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdef")).startswith("a, b, c, d") and "f" not in listed(list("abcdef"))
    assert day_text(np.datetime64("2001-03-01", "s")) == "2001-03-01"
    assert day_text(np.datetime64("2001-03-01T06", "s")) == "2001-03-01T06:00:00"


# ---- the machine -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "level", "text"), [
    (1, "ok", "1 of 3 processors used; threads: 3 would use all"), (3, "ok", "3 of 3 processors used"),
    (4, "note", "4 asked for, 3 processors available: .* Set threads: 3"),
])
def test_threads_beside_processors(tmp_path, monkeypatch, threads, level, text):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    said = check_machine(case_of(write_case(tmp_path, threads=threads)))
    (found,) = [one for one in said if one.subject == "threads"]
    assert found.level == level and re.fullmatch(rf"{text}\.?", found.text), found.text


def test_where_kernels_are_kept(tmp_path, monkeypatch):
    def kernels() -> Finding:
        return next(one for one in check_machine(case) if one.subject == "kernels")

    case, folder = case_of(write_case(tmp_path)), tmp_path / "kernels"
    folder.mkdir()
    monkeypatch.setattr(machine, "cache_folder", lambda: folder)
    assert kernels() == Finding("note", "kernels", f"none cached yet: the first start compiles ({folder})")
    (folder / "a.kernel").touch()
    (folder / "b.lock").touch()
    assert kernels() == Finding("ok", "kernels", f"1 compiled functions cached ({folder})")
    monkeypatch.setattr(machine, "cache_folder", lambda: None)
    assert kernels().level == "note" and "every start compiles" in kernels().text


@pytest.mark.parametrize(("keys", "absent", "told"), [
    ({}, (), [("ok", "complete for: run, plot, train, prepare")]),
    ({}, ("torch",), [("ok", "complete for: run, plot, prepare")]),
    ({}, ("matplotlib",), [("note", "matplotlib not installed. Run: pip install \"bmi-cdlm[plot]\""),
                           ("ok", "complete for: run, train, prepare")]),
    ({"observations": None}, ("matplotlib",), [("ok", "complete for: run, train, prepare")]),
    ({"training": {"epochs": 1}}, ("torch", "tensorboard"),
     [("fail", "torch, tensorboard not installed. Run: pip install \"bmi-cdlm[train]\""),
      ("ok", "complete for: run, plot, prepare")]),
    ({"prepare": {"title": "a"}}, ("pyproj",),
     [("fail", "pyproj not installed. Run: pip install \"bmi-cdlm[prepare]\""),
      ("ok", "complete for: run, plot, train")]),
])
def test_packages_that_the_configuration_asks_for(tmp_path, monkeypatch, keys, absent, told):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else SimpleNamespace())
    assert found(check_packages, write_case(tmp_path, **keys)) == told


def test_more_memory_than_there_is(tmp_path, monkeypatch):
    config = write_case(tmp_path, spin_up=2)
    told = {one.subject: one for one in check_estimate(case_of(config))}
    assert told["time"].level == "ok" and " for 27 steps with spin-up" in told["time"].text  # 9, and a year of 9 twice
    assert told["memory"].level == "ok" and "whatever the period" in told["memory"].text
    monkeypatch.setattr(machine, "available_memory", lambda: 1000)
    (short,) = [one for one in check_estimate(case_of(config)) if one.subject == "memory"]
    assert short.level == "fail" and "1 kB are available. Cut the domain, or use a larger machine." in short.text


# ---- states ------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path) -> Path:
    """A case that goes on from the state after its third step."""
    config = write_case(tmp_path)
    with simulated(config) as simulation:
        simulation.advance(simulation.read_forcing(0, 3))
        write_restart(tmp_path / "state.nc", simulation.snapshot())
    return change_config(config, "next.yaml", initial_state="state.nc")


def test_a_state_that_fits(saved):
    assert found(check_initial_state, saved) == [
        ("ok", f"{saved.parent / 'state.nc'}: valid at 2001-03-04T00:00:00, resume")
    ]


@pytest.mark.parametrize(("keys", "told"), [
    ({"snow": "cemaneige", "runoff": "gr5"}, ["its snow is 'none', expected 'cemaneige': use the options of that run.",
                                              "its runoff is 'gr4j', expected 'gr5': use the options of that run."]),
    ({"components": 2}, ["its components is '1', expected '2': use the options of that run."]),
    ({"start": "2001-03-05"}, ["it is valid at 2001-03-04T00:00:00, expected 2001-03-05T00:00:00 or later and before "
                               "2001-03-10T00:00:00: change the period, or set restart_mode: hot_start."]),
    ({"end": "2001-03-04"}, ["it is valid at 2001-03-04T00:00:00, expected 2001-03-01T00:00:00 or later and before "
                             "2001-03-04T00:00:00: change the period, or set restart_mode: hot_start."]),
])
def test_a_state_that_does_not_fit(saved, keys, told):
    path = saved.parent / "state.nc"
    assert found(check_initial_state, change_config(saved, "other.yaml", **keys)) == [
        ("fail", f"{path}: {text}") for text in told
    ]


def test_a_hot_start_is_of_any_time(saved):
    later = change_config(saved, "later.yaml", start="2001-03-05", restart_mode="hot_start")
    assert found(check_initial_state, later)[0][0] == "ok"


@pytest.mark.parametrize(("keys", "told"), [
    ({}, [("note", "steady, without spin-up: the first months depend on it. Set spin_up: 1 or more.")]),
    ({"initial_state": "equilibrium"}, [
        ("note", "equilibrium, without spin-up: the first months depend on it. Set spin_up: 1 or more.")]),
    ({"spin_up": 1}, []), ({"forcing": "caller"}, []),
])
def test_a_start_without_spin_up(tmp_path, keys, told):
    assert found(check_initial_state, write_case(tmp_path, **keys)) == told


# ---- parameters and how full stores are --------------------------------------------------------------------


def test_defaults_are_not_calibrated_and_a_file_is_listed(tmp_path):
    assert found(check_parameters, write_case(tmp_path, parameters="default")) == [
        ("note", "default: nothing is calibrated. Train, or name a checkpoint or parameter file.")
    ]
    (level, text), = found(check_parameters, write_case(tmp_path))
    assert level == "ok" and text.startswith("parameters.nc: ") and "production_capacity" in text


@pytest.fixture
def learned(tmp_path) -> Path:
    """A case whose checkpoint has learned how full stores are at its start."""
    config = write_case(tmp_path, parameters="t.safetensors", snow="cemaneige")
    write_domain(tmp_path / "domain.nc", attribute_fields(7, 40, 25))
    spec = specify(tmp_path / "domain.nc", learn_start=True)
    save_checkpoint(tmp_path / "t.safetensors", spec, drawn_tensors(spec, 3), {
        **RECORD, "gauges": ["g0", "g1"], STARTS_AT: "2001-03-01T00:00:00",
    })
    return config


def test_a_start_that_was_learned(learned):
    said = found(check_parameters, learned)
    assert ("ok", "t.safetensors: checkpoint trained on 2 gauges") in said
    assert ("ok", "stores start as full as was learned for 2001-03-01T00:00:00") in said
    assert starts_as_learned(case_of(learned)) and found(check_initial_state, learned) == []


def test_a_start_that_was_learned_for_another_time(learned):
    later = change_config(learned, "later.yaml", start="2001-03-03")
    (note,) = [text for level, text in found(check_parameters, later) if level == "note"]
    assert note == (
        "the checkpoint learned how full stores are at 2001-03-01T00:00:00, and the run starts at 2001-03-03T00:00:00, "
        "with initial_state: steady. Start there, or spin up."
    )
    assert not starts_as_learned(case_of(later))
    assert [level for level, _ in found(check_initial_state, later)] == ["note"]
    (learned.parent / "t.safetensors").write_bytes(b"nothing")  # told where parameters are, not here
    assert not starts_as_learned(case_of(learned))


# ---- observations and outputs ------------------------------------------------------------------------------


def test_observations(tmp_path):
    config = write_case(tmp_path)
    assert found(check_observations, config) == [("ok", "4 gauges, 100% to 100% of the steps observed")]
    assert found(check_observations, change_config(config, observations=None)) == [
        ("note", "none: `cdlm evaluate` and training need them")
    ]
    with netCDF4.Dataset(tmp_path / "observations.nc", "a") as data:
        data["discharge"][3:6, 1] = np.nan
        data["discharge"][:, 2] = np.nan
    note, said = found(check_observations, config)
    assert note[0] == "note" and "no value in the period at 1 of 4 gauges: g2" in note[1]
    assert said == ("ok", "3 gauges, 67% to 100% of the steps observed")
    table = tmp_path / "gauges.csv"
    table.write_text("id,regulated\n" + "".join(f"g{k},yes\n" for k in range(4)))
    note, said = found(check_observations, change_config(config, screening={"table": str(table)}))
    assert note[0] == "note" and "4 of 4 gauges are left out: g0 (" in note[1]
    assert said == ("fail", "every gauge is left out, expected one that counts.")
    lost = change_config(config, domain="gone.nc", observations="no.nc", prepare={"title": "a"})
    assert found(check_observations, lost) == [
        ("fail", f"{tmp_path / 'no.nc'}: there is no such file. `cdlm prepare {lost}` makes it.")
    ]


def test_outputs(tmp_path, monkeypatch):
    config = write_case(tmp_path, output="out/run.nc", restart="out/end.nc")
    said = found(check_outputs, config)
    assert [level for level, _ in said] == ["ok", "ok"]
    assert "run.nc: up to 0.288 kB, " in said[0][1] and said[1][1].endswith("end.nc: can be written")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    (level, text), _ = found(check_outputs, config)
    assert level == "fail" and "needs up to 0.288 kB, 0.1 kB are free. Write fewer places or variables" in text
    assert why_not_writable(tmp_path) == "it is a folder"
    assert why_not_writable(tmp_path / "case.yaml" / "a.nc") == f"{tmp_path / 'case.yaml'} is no folder"


# ---- trainings ---------------------------------------------------------------------------------------------


def trained(tmp_path: Path, run: dict | None = None, **keys: object) -> list[tuple[str, str]]:
    """What is found of a training of a case with one attribute that says nothing."""
    pytest.importorskip("torch")
    config = write_case(tmp_path, n_steps=20, **(run or {}))
    fields = attribute_fields(7, 40, 25)
    fields["cell_forest"] = fields["cell_forest"]._replace(values=np.full(25, 0.5))
    write_domain(tmp_path / "domain.nc", fields)
    training = {"output": "t.safetensors", "train": ["2001-03-01", "2001-03-15"], "mapping": "linear",
                "cell_attributes": ["elevation"], "reach_attributes": [], **keys}
    return found(check_training, change_config(config, "training.yaml", training=training))


def test_a_training_that_can_begin(tmp_path):
    (level, text), = trained(tmp_path, epochs=3, updates=7)
    assert level == "ok" and text.startswith("2001-03-01 to 2001-03-15; 21 updates of ")
    assert text.endswith(f"writes {tmp_path / 't.safetensors'}")


@pytest.mark.parametrize(("run", "keys", "level", "told"), [
    ({"forcing": "caller"}, {}, "fail", "needs a file in 'forcing'. Name one in the configuration."),
    ({"observations": None}, {}, "fail", "needs a file in 'observations'. Name one in the configuration."),
    ({"forcing": "caller", "coupled_inputs": ["reach_inflow"]}, {}, "fail",
     "coupled_inputs is given, which has no adjoint. Train without it."),
    ({}, {"validate_on": ["2001-03-15", "2001-04-15"]}, "fail",
     "validate_on is 2001-03-15T00:00:00 to 2001-04-15T00:00:00, expected within the run, 2001-03-01T00:00:00 to "
     "2001-03-21T00:00:00."),
    ({}, {"cell_attributes": ["forest", "elevation"]}, "note",
     "the cell attribute 'forest' is 0.5 everywhere: nothing can be learned from it. Leave it out, or check its "
     "source."),
    ({}, {"output": "case.yaml/t.safetensors"}, "fail", "case.yaml is no folder). Choose another path."),
])
def test_what_a_training_needs(tmp_path, run, keys, level, told):
    assert any(one == level and text.endswith(told) for one, text in trained(tmp_path, run, **keys))


def test_gauges_without_a_varying_discharge(tmp_path):
    config = write_case(tmp_path, n_steps=20)
    with netCDF4.Dataset(tmp_path / "observations.nc", "a") as data:
        data["discharge"][:, 1] = 3.0
        data["discharge"][:, 2] = np.nan
    training = {"output": "t.safetensors", "train": ["2001-03-01", "2001-03-15"], "mapping": "uniform"}
    told = found(check_training, change_config(config, "training.yaml", training=training))
    assert ("fail", "no varying discharge in the training period at 2 of 4 gauges: g1, g2. Leave them out with "
            "training.gauges, or choose another period.") in told
    (tmp_path / "gauges.csv").write_text("id,regulated\n" + "".join(f"g{k},yes\n" for k in range(4)))
    screened = change_config(config, "s.yaml", training=training, screening={"table": str(tmp_path / "gauges.csv")})
    assert ("fail", "screening leaves no gauge to train on. Add gauges and their observations.") in found(
        check_training, screened
    )
