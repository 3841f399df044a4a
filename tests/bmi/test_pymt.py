"""The plugin that pymt loads: its metadata, its template, and pymt itself where it is installed."""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import yaml
from cases import E, P, Q

from bmi_cdlm import BmiCdlm, __version__
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.plugin import render_plugin
from bmi_cdlm.run.config import Config, load_config

ROOT = Path(__file__).resolve().parents[2]
META = ROOT / "bmi_cdlm" / "bmi" / "meta"
DIFFERENT = {"grid_profile": "points", "forcing": "caller", "domain": "domain.nc", "start": "2000-01-01",
             "end": "2001-01-01", "initial_state": ""}
"""Defaults of the plugin that are not those of a configuration."""


def section(name):
    return yaml.safe_load((META / f"{name}.yaml").read_text())


def template(**keys):
    jinja2 = pytest.importorskip("jinja2")
    values = {name: p["value"]["default"] for name, p in section("parameters").items()}
    return jinja2.Template((META / "cdlm.yaml").read_text()).render(**{**values, **keys})


def test_the_entry_point_leads_to_the_class_and_the_class_to_its_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (name, target), = project["project"]["entry-points"]["pymt.plugins"].items()
    module, found = target.split(":")
    assert getattr(import_module(module), found) is BmiCdlm
    assert name.isidentifier()
    assert resources.files(module) / BmiCdlm.METADATA == META
    assert {p.name for p in META.iterdir() if p.is_file()} == {
        "api.yaml", "info.yaml", "parameters.yaml", "run.yaml", "cdlm.yaml", "domain.nc"}


def test_metadata_say_what_the_code_says():
    assert section("api")["class"] == "BmiCdlm" and section("api")["package"] == "bmi_cdlm"
    assert section("info")["version"] == __version__
    assert "doi" not in section("info")  # pymt wants a valid one or none
    assert section("run")["config_file"] == section("api")["initialize_args"] == "cdlm.yaml"
    assert section("info")["url"].startswith("https://")


def test_setup_has_every_key_of_a_configuration():
    """And says of each what the class says: nothing can be forgotten, or fall behind."""
    parameters = section("parameters")
    assert list(parameters) == list(Config.model_fields)
    for name, entry in parameters.items():
        field = Config.model_fields[name]
        value = entry["value"]
        assert entry["description"] == " ".join(field.description.replace("`", "").split())
        assert value["type"] in ("str", "int", "choice")
        if name in DIFFERENT:
            assert value["default"] == DIFFERENT[name]
        elif name in ("time_step", "routing_step"):
            assert value["default"] == field.examples[0]
        elif field.default in (None, {}):
            assert value["default"] == ""
        elif name not in ("memory", "output_variables", "coupled_inputs", "sub_step_outputs", "call_sums"):
            assert value["default"] == field.default
        words = [w for a in get_args(field.annotation) for w in (get_args(a) or (a,))]
        if words and all(isinstance(w, str) for w in words):
            assert value["choices"] == words
    for name, text in render_plugin().items():
        assert (META / name).read_text() == text, "run: cdlm reference --pymt bmi_cdlm/bmi/meta"


SET = {
    "domain": "d.nc", "forcing": "f.nc", "forcing_fill": "hold", "forcing_fill_limit": "6 h",
    "parameters": "p.nc", "calendar": "standard", "member": 2, "start": "2010-01-01T06:00",
    "end": "2010-02-01T06:00", "time_step": "1 h", "day_begins": "", "routing_step": "15 min",
    "precipitation": "undercatch", "snow": "cemaneige", "runoff": "gr4j", "routing": "muskingum", "components": 3,
    "pet": "given", "pet_kind": "oudin", "initial_state": "equilibrium", "initial_rain": "", "initial_runoff": 1.5,
    "restart_mode": "hot_start", "spin_up": 1, "output": "o.nc", "output_variables": "[runoff]", "output_at": "cells",
    "output_step": "6 h", "output_precision": 4, "restart": "r.nc", "restart_every": "12 h", "memory": "64 MiB",
    "observations": "q.nc", "screening": "{table: gauges.csv, withdrawal: 0.2}", "training": "{epochs: 3}",
    "experiment": "{folds: 3}", "signatures": "{search: 0}", "map_fit": "{folds: true}",
    "prepare": "{title: a case}", "threads": 2,
    "sub_step_policy": "refuse", "ledger_tolerance": 1e-9, "time_units": "since", "name_profile": "ngen",
    "published_inputs": "[precipitation]", "coupled_inputs": "[reach_inflow]",
    "sub_step_outputs": "[discharge]", "call_sums": "[discharge]", "grid_profile": "unstructured",
}


def test_every_key_reaches_the_configuration(tmp_path):
    assert list(SET) == list(Config.model_fields)
    (tmp_path / "plain.yaml").write_text(template())
    plain = load_config(tmp_path / "plain.yaml")
    (tmp_path / "cdlm.yaml").write_text(template(**SET))
    config = load_config(tmp_path / "cdlm.yaml")
    same = [name for name in Config.model_fields if getattr(config, name) == getattr(plain, name)]
    assert same == ["calendar", "day_begins", "runoff", "routing", "pet", "initial_rain"]  # those are as they were
    assert config.ledger_tolerance == 1e-9 and config.published == ("precipitation",)
    assert set(config.forcing_fill.values()) == {"hold"}
    day = {"time_step": "1 d", "output_step": "1 d", "restart_every": "2 d", "sub_step_policy": "accumulate"}
    (tmp_path / "cdlm.yaml").write_text(template(**{**SET, **day, "day_begins": "12:00"}))
    assert load_config(tmp_path / "cdlm.yaml").day_begins == 43200
    others = {"calendar": "360_day", "time_units": "s", "name_profile": "csdms"}  # hosts have real dates
    for keys in ({"pet": "oudin"}, {"initial_runoff": "", "initial_rain": 0.7}, others):
        (tmp_path / "cdlm.yaml").write_text(template(**{**SET, **keys}))
        config = load_config(tmp_path / "cdlm.yaml")
        assert config.calendar == keys.get("calendar", "standard")
        assert config.pet == keys.get("pet", "given") and config.initial_rain == keys.get("initial_rain")


def test_the_template_with_its_defaults_is_a_run(tmp_path):
    (tmp_path / "cdlm.yaml").write_text(template())
    (tmp_path / "domain.nc").write_bytes((META / "domain.nc").read_bytes())
    config = load_config(tmp_path / "cdlm.yaml")
    for name, entry in section("parameters").items():
        if entry["value"]["type"] == "choice" and name != "time_step":
            assert getattr(config, name) == entry["value"]["default"]
    assert config.n_steps == 366 and read_domain(config.domain).gauges.id == ["outlet"]
    component = BmiCdlm()
    component.initialize(tmp_path / "cdlm.yaml")
    for grid in range(3):
        assert component.get_grid_type(grid) == "points" and component.get_grid_rank(grid) == 2
    component.set_value(P, np.full(3, 20.0))
    component.set_value(E, np.full(3, 1.0))
    component.update_until(30 * 86400.0)
    assert (component.get_value_ptr(Q) > 0).all()
    component.finalize()


def test_the_template_takes_every_parameter(tmp_path):
    keys = {"time_step": "1 h", "routing_step": "15 min", "snow": "cemaneige", "threads": 2, "name_profile": "ngen",
            "start": "2010-01-01T06:00", "end": "2010-01-02T06:00"}
    (tmp_path / "cdlm.yaml").write_text(template(**keys))
    config = load_config(tmp_path / "cdlm.yaml")
    assert (config.time_step, config.routing_step, config.snow, config.threads) == (3600, 900, "cemaneige", 2)
    assert config.n_steps == 24
    given = {name for name, entry in section("parameters").items() if entry["value"]["default"] != ""}
    assert set(yaml.safe_load(template())) == given


def test_model_metadata_reads_and_stages_it(tmp_path):
    """What pymt's `setup` does, without pymt."""
    metadata = pytest.importorskip("model_metadata")
    from model_metadata.model_setup import FileSystemLoader

    found = metadata.ModelMetadata.from_obj(BmiCdlm())
    assert Path(found.base) == META
    assert found.info["version"] == __version__ and found.run["config_file"]["path"] == "cdlm.yaml"
    values = {name: p["value"]["default"] for name, p in found.parameters.items()}
    FileSystemLoader(found.base).stage_all(str(tmp_path), **{**values, "end": "2000-02-01"})
    assert {p.name for p in tmp_path.iterdir()} == {"cdlm.yaml", "domain.nc"}
    component = BmiCdlm()
    component.initialize(str(tmp_path / "cdlm.yaml"))
    assert component.get_end_time() == 31 * 86400.0
    component.finalize()


# ---- pymt itself, which no package index has in a current version ------------------------------------------


@pytest.fixture
def plugin():
    """The class as pymt wraps it."""
    bridge = pytest.importorskip("pymt.framework.bmi_bridge", reason="pymt is installed from conda-forge or source")
    return bridge.bmi_factory(BmiCdlm)


@pytest.mark.filterwarnings("ignore")
def test_pymt_drives_it(plugin, tmp_path):
    model = plugin()
    model.initialize(*model.setup(str(tmp_path), end="2000-03-01"))
    assert set(model.var) == {*model.input_var_names, *model.output_var_names}
    for grid in range(3):
        assert {"node_x", "node_y"} <= set(model.grid[grid])
    model.set_value(P, np.full(3, 20.0))
    model.set_value(E, np.full(3, 1.0))
    model.update()
    assert model.time == 86400.0
    np.testing.assert_array_equal(model.var[Q].data, model.get_value(Q))
    model.update_until(20, units="d")
    assert model.time == 20 * 86400.0
    np.testing.assert_allclose(model.get_value(Q, units="l s-1"), 1000 * model.get_value(Q))
    model.set_value("production_capacity", np.full(3, 500.0))
    assert (model.get_value("production_capacity") == 500.0).all()
    assert model.version == __version__ and "perrin" in model.cite_as[0]
    model.finalize()


def run_notebook(bmi_factory, folder, monkeypatch):
    """The names that the cells of the notebook define, started from its folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    bridge = ModuleType("pymt.framework.bmi_bridge")
    bridge.bmi_factory = bmi_factory
    for name, module in {"pymt": ModuleType("pymt"), "pymt.framework": ModuleType("pymt.framework")}.items():
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name, module))
    monkeypatch.setitem(sys.modules, bridge.__name__, bridge)
    scope: dict = {"__name__": "__main__"}
    for cell in json.loads((folder / "river_and_reservoir.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), "notebook", "exec"), scope)
    return scope


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(plugin, monkeypatch):
    from pymt.framework.bmi_bridge import bmi_factory

    scope = run_notebook(bmi_factory, ROOT / "examples" / "pymt", monkeypatch)
    assert scope["released"].max() < scope["flow"].max()


class Var:
    def __init__(self, data):
        self.data = data


class Bridge:
    """As much of what pymt makes of a component as the notebook uses, over the component and its metadata."""

    component: type

    def __init__(self):
        self.bmi = self.component()
        self.base = Path(sys.modules[self.component.__module__].__file__).parent / self.component.METADATA

    def setup(self, **keys):
        folder = Path(tempfile.mkdtemp())
        read = {p.name: p.read_text() for p in self.base.glob("*.yaml")}
        values = {n: p["value"]["default"] for n, p in yaml.safe_load(read["parameters.yaml"]).items()}
        assert set(keys) <= set(values)
        name = yaml.safe_load(read["run.yaml"])["config_file"]
        for path in self.base.glob("*.nc"):
            (folder / path.name).write_bytes(path.read_bytes())
        text = pytest.importorskip("jinja2").Template(read[name]).render(**{**values, **keys})
        (folder / name).write_text(text)
        return name, str(folder)

    def initialize(self, name, folder):
        self.bmi.initialize(str(Path(folder) / name))

    @property
    def input_var_names(self):
        return self.bmi.get_input_var_names()

    @property
    def end_time(self):
        return self.bmi.get_end_time()

    @property
    def time_step(self):
        return self.bmi.get_time_step()

    @property
    def time(self):
        return self.bmi.get_current_time()

    @property
    def var(self):
        return {n: Var(self.bmi.get_value_ptr(n)) for n in self.bmi.get_output_var_names()}

    def get_value(self, name):
        return self.bmi.get_value_ptr(name).copy()

    def __getattr__(self, name):
        return getattr(self.bmi, name)


def test_the_notebook_runs_without_pymt(monkeypatch):
    """Its cells against a stand-in for pymt: names, metadata and settings of both components fit."""
    def bmi_factory(component):
        return type(component.__name__, (Bridge,), {"component": component})

    scope = run_notebook(bmi_factory, ROOT / "examples" / "pymt", monkeypatch)
    assert scope["released"].max() < scope["flow"].max() and scope["level"].max() > scope["CREST"]
