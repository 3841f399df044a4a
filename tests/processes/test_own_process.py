"""Processes of another package: two files and an entry point, and everything else is there.

The example is put on the path beside metadata such as an installation leaves, in processes of their own, so that no
other test sees it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import simulated_threads
import yaml
from cases import write_case

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "own_process"
SOURCES = sorted((EXAMPLE / "own_process").glob("*.py"))
CHOSEN = {"runoff": "nonlinear_reservoir", "routing": "nonlinear_reach", "snow": "cemaneige"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process in which the example is installed."""
    site = tmp_path_factory.mktemp("site")
    metadata = site / "own_process-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-process\nVersion: 0.1.0\n")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["bmi_cdlm.processes"]
    lines = ["[bmi_cdlm.processes]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    paths = [str(site), str(EXAMPLE), str(ROOT), str(ROOT / "training"), str(ROOT / "tests")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def case(tmp_path):
    """A small basin whose configuration chooses the processes of the example."""
    return write_case(tmp_path, n_steps=40, parameters="default", **CHOSEN)


def python(code, environment, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cdlm(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "bmi_cdlm.cli", *map(str, arguments)], capture_output=True, text=True, timeout=300,
        env=environment,
    )


def test_a_process_is_one_file_that_nothing_in_the_package_names():
    """What adding a process touches: its file, and an entry point; each file is at most eighty lines."""
    names = {"nonlinear_reservoir", "nonlinear_reach", "own_process", "soil_capacity", "outflow_exponent"}
    for path in [*(ROOT / "bmi_cdlm").rglob("*.py"), *(ROOT / "training").rglob("*.py")]:
        text = path.read_text()
        assert not [name for name in names if name in text], path
    assert all(len(path.read_text().splitlines()) <= 80 for path in SOURCES)
    assert {p.name for p in EXAMPLE.rglob("*") if p.is_file() and "__pycache__" not in p.parts} == {
        "pyproject.toml", "README.md", "__init__.py", "cell.py", "reach.py",
    }


def test_it_is_listed_with_parameters_bounds_inputs_and_source(installed):
    listed = cdlm(installed, "processes")
    assert listed.returncode == 0, listed.stderr
    assert "nonlinear_reservoir" in listed.stdout and "gr4j" in listed.stdout
    told = cdlm(installed, "processes", "nonlinear_reservoir").stdout
    for word in ("soil_capacity (Smax) [mm]", "1 to 100000", "liquid_water (P)", "soil_water (S) [mm]", "Wittenberg"):
        assert word in told
    missing = cdlm(installed, "processes", "nonlinear_reservoi")
    assert missing.returncode == 1 and "Did you mean 'nonlinear_reservoir'?" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_where_it_is_not_installed_the_error_says_so(tmp_path):
    case = write_case(tmp_path, n_steps=4, parameters="default", runoff="somebodys_reservoir")
    done = cdlm(os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")])}, "run", case)
    assert done.returncode == 1
    assert "there is no process 'somebodys_reservoir'" in done.stderr and "Installed: gr4j" in done.stderr
    assert "Traceback" not in done.stderr


STEPPED = """
import json, sys
import numpy as np
from bmi_cdlm import BmiCdlm
path, restart = sys.argv[1:]
component = BmiCdlm()
component.initialize(path)
model = component._stepper.simulation.model
discharge = []
for step in range(12):
    component.update()
    discharge.append(model.live["discharge"].copy())
    if step == 5:
        component._stepper.simulation.save(__import__("pathlib").Path(restart))
again = BmiCdlm()
again.initialize(path)
again._stepper.simulation.restore_from(__import__("pathlib").Path(restart))
for step in range(6, 12):
    again.update()
    assert again._stepper.simulation.model.live["discharge"].tobytes() == discharge[step].tobytes(), step
live = model.live
through = live["water_in"][0] + live["water_stored"][0]
print(json.dumps({
    "residual": abs(float(live.get("water_residual", [0.0])[0])) / through,
    "names": list(component.get_output_var_names()), "discharge": [d.tolist() for d in discharge],
}))
"""


def test_it_steps_through_bmi_restarts_and_closes_the_balance(case, installed, tmp_path):
    config = yaml.safe_load(case.read_text()) | {"ledger_tolerance": 1e-9}
    case.write_text(yaml.safe_dump(config))
    told = json.loads(python(STEPPED, installed, case, tmp_path / "restart.nc"))
    assert told["residual"] < 1e-12
    assert "soil_water__volume-per-area_storage_density" in told["names"]
    assert "soil_production-store_water__volume-per-area_storage_density" not in told["names"]
    assert np.isfinite(told["discharge"]).all() and np.max(told["discharge"]) > 0


def test_a_run_writes_what_bmi_steps(case, installed, tmp_path):
    config = yaml.safe_load(case.read_text()) | {"output": "run.nc", "output_at": "reaches"}
    case.write_text(yaml.safe_dump(config))
    done = cdlm(installed, "run", case)
    assert done.returncode == 0, done.stderr
    with netCDF4.Dataset(case.parent / "run.nc") as dataset:
        written = np.asarray(dataset["discharge"][:12])
    told = json.loads(python(STEPPED, installed, case, tmp_path / "restart.nc"))
    np.testing.assert_array_equal(written, told["discharge"])


GRADIENT = """
import sys
import numpy as np
from make_domain import random_domain, random_forcing
from bmi_cdlm import Model
domain, forcing = random_domain(5, 25, 12), random_forcing(6, 30, 12)
chosen = dict(snow="cemaneige", runoff="nonlinear_reservoir", routing="nonlinear_reach")
weigh = np.random.default_rng(0).normal(size=(30, domain.n_reaches))
model = Model(domain, **chosen)
model.record(forcing)
found = model.adjoint(weigh)
for name in ("soil_capacity", "drainage_rate", "drainage_exponent", "celerity", "outflow_exponent", "melt_factor"):
    place = int(np.abs(found.parameters[name]).argmax())
    both = []
    for sign in (1, -1):
        moved = {n: values.copy() for n, values in model.parameters.items()}
        step = 1e-5 * moved[name][place]
        moved[name][place] += sign * step
        other = Model(domain, moved, **chosen)
        other.restore(model.state.on_cells(), model.state.on_reaches() | {"reach_storage": model.reach_volume})
        both.append(float((other.record(forcing) * weigh).sum()))
    np.testing.assert_allclose(found.parameters[name][place], (both[0] - both[1]) / (2 * step), rtol=1e-5, err_msg=name)
"""


@pytest.mark.slow
def test_its_gradients_are_those_of_differences(installed):
    python(GRADIENT, installed)


SETTLED = """
import numpy as np
from make_domain import random_domain
from bmi_cdlm import Model
from bmi_cdlm.model.forcing import Forcing
domain = random_domain(5, 25, 12)
given = {"drainage_exponent": np.linspace(1.0, 8.0, domain.n_cells), "soil_capacity": np.linspace(20.0, 900.0, 12)}
for step in (86400, 3600):
    model = Model(domain, given, step=step, snow="cemaneige", runoff="nonlinear_reservoir", routing="nonlinear_reach")
    for asked in ({"rain": 0.3}, {"runoff": 2.0}, {"runoff": 60.0}):
        model.settle(**asked)
        soil, water, flow = model.live["soil_water"].copy(), model.reach_volume.copy(), model.live["discharge"].copy()
        assert (soil > 0.0).all() and (soil <= given["soil_capacity"]).all() and not model.live["snowpack"].any()
        rain = next(iter(asked.values()))  # all that falls runs off
        np.testing.assert_allclose(flow, rain * domain.reaches.upstream_area / 86.4, rtol=1e-8, atol=1e-12)
        shape = (20, domain.n_cells)
        model.advance(Forcing(np.full(shape, rain), np.zeros(shape), np.full(shape, 15.0)))
        np.testing.assert_allclose(model.live["soil_water"], soil, rtol=1e-8)
        np.testing.assert_allclose(model.live["discharge"], flow, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(model.reach_volume, water, rtol=1e-7, atol=1e-6)
    model.close()
"""


def test_it_starts_in_equilibrium(installed):
    python(SETTLED, installed)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_trains_and_the_checkpoint_runs(case, installed, device):
    """On the host, and with the CUDA kernels under numba's simulator."""
    pytest.importorskip("torch")
    if device == "cuda":
        pytest.importorskip("numba.cuda")
    config = yaml.safe_load(case.read_text()) | {"routing_step": "8 h"}
    days = [str(np.datetime64(str(config["start"])[:10]) + n) for n in (0, 7)]
    config["training"] = {
        "output": "own.safetensors", "train": days, "warm_up": 2, "epochs": 1, "updates": 1,
        "mapping": "uniform", "device": device, "licence": "MIT", "pet_kind": "test",
    }
    case.write_text(yaml.safe_dump(config))
    words, environment = [sys.executable, "-m", "cdlm_training", str(case)], installed
    if device == "cuda":
        words, environment = simulated_threads.command("cdlm_training", case), simulated_threads.environment(installed)
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    ran = cdlm(installed, "run", case, "--parameters", case.parent / "own.safetensors")
    assert ran.returncode == 0, ran.stderr
