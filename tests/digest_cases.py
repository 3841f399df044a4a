"""Runs whose every bit is kept as a digest: of a made country, and of real basins; see test_digests.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import digest_inputs as inputs
import netCDF4
import numpy as np
import yaml
from digest_bits import Digests, digest_file, labelled
from digest_inputs import COUNTRY, DAY, HOUR, START, Size, write_config
from digest_internals import every_job_on_threads
from digest_runs import at_once, command, fluxes_of, in_blocks, package, started, stepped

N_STEPS = {DAY: 96, HOUR: 100}
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Case(NamedTuple):
    """A run of the made country.

    longest: X4 [steps]; hidden: layers of a PET network, whose checkpoint then gives the parameters; needs: functions
    of the machine's libraries on which bits depend; keys: more of the configuration.
    """

    step: int = DAY
    snow: str = "none"
    longest: float = 5.0
    hidden: tuple[int, ...] = ()
    needs: tuple[str, ...] = ("pow",)
    keys: Mapping[str, Any] = MappingProxyType({})


PLACE = ("numpy.sin", "numpy.cos", "numpy.tan", "math.sin", "math.cos", "math.tan")
SEASON = ("math.sin", "math.cos")
FAO = ("pow", "exp", "sin", "acos", *PLACE)
SNOWS = ("none", "cemaneige", "cemaneige_hysteresis")
CASES: dict[str, Case] = {
    "short": Case(snow="cemaneige_hysteresis", longest=1.0, needs=()),
    **{f"daily {snow}": Case(snow=snow) for snow in SNOWS},
    **{f"hourly {snow}": Case(HOUR, snow, 60.0) for snow in SNOWS},
    "daily long": Case(longest=20.0, keys={"spin_up": 1}),
    "hourly long": Case(HOUR, "cemaneige", 110.0, keys={"routing_step": "1 h"}),
    "daily network": Case(snow="cemaneige_hysteresis", hidden=(6, 5), needs=("pow", *SEASON)),
    "hourly network": Case(HOUR, "none", hidden=(9,), needs=("pow", *SEASON)),
    "daily oudin": Case(snow="cemaneige", needs=FAO, keys={"pet": "oudin"}),
    "hourly oudin": Case(HOUR, longest=30.0, needs=FAO, keys={"pet": "oudin"}),
    "hargreaves": Case(needs=FAO, keys={"pet": "hargreaves"}),
    "daily penman": Case(needs=FAO, keys={"pet": "penman_monteith"}),
    "hourly penman": Case(HOUR, longest=30.0, needs=FAO, keys={"pet": "penman_monteith"}),
    "ledger": Case(snow="cemaneige_hysteresis", keys={"ledger_tolerance": float("inf")}),
}


# ---- the made country --------------------------------------------------------------------------------------


def write_files(folder: Path) -> None:
    """Write the domain and the forcing of the country once for all cases."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs.write_domain(folder / "domain.nc", COUNTRY)
    for step, count in N_STEPS.items():
        inputs.write_forcing(folder / f"forcing_{step}.nc", COUNTRY, step, count)


def case_content(folder: Path, case: Case, size: Size, n_steps: int, key: str) -> dict[str, Any]:
    """The configuration of a case; its parameters are written."""
    routing_step = 3 * HOUR if case.step == DAY else 900
    if case.hidden:
        name = f"{key}.safetensors"
        inputs.write_checkpoint(folder / name, case.step, routing_step, case.snow, case.hidden, 200)
    else:
        name = f"{key}.nc"
        inputs.write_parameters(folder / name, size, case.step, case.longest)
    return {
        "domain": "domain.nc", "forcing": f"forcing_{case.step}.nc", "parameters": name, "start": str(START),
        "end": str(START + np.timedelta64(n_steps * case.step, "s")), "snow": case.snow,
        "time_step": "1 d" if case.step == DAY else "1 h", "routing_step": f"{routing_step // 60} min",
        "initial_state": "steady", **case.keys,
    }


def country(folder: Path, name: str) -> Digests:
    """All digests of a case: in blocks by the command, and by BMI step for step and at once."""
    case, key = CASES[name], name.replace(" ", "_")
    content = case_content(folder, case, COUNTRY, N_STEPS[case.step], key)
    one, two = (write_config(folder / f"{key}_{n}.yaml", content, threads=n) for n in (1, 2))
    component = started(one)
    fluxes = fluxes_of(component)
    component.finalize()
    with every_job_on_threads():
        found = labelled("stepped", stepped(one)) | labelled("at once", at_once(two))
        found |= labelled("in blocks", in_blocks(folder, content, fluxes))
        if name == "daily cemaneige":
            found |= labelled("in parts", stepped(two, part=4))
        if name == "hourly cemaneige":
            found |= labelled("averaged", averaged(folder, content))
    return found


def averaged(folder: Path, content: Mapping[str, Any]) -> Digests:
    """Means over four steps in 32-bit numbers of four digits, at the gauges."""
    config = write_config(folder / "averaged.yaml", content, output="averaged.nc", output_step="4 h",
                          output_precision=4, output_variables=["discharge", "lateral_inflow"])
    command("cdlm", "run", config, "--quiet")
    return digest_file(folder / "averaged.nc")


# ---- real basins -------------------------------------------------------------------------------------------

def prepared(folder: Path, name: str) -> Digests:
    """`cdlm prepare` of a configuration of cfg/; attributes are rounded, since rasters are warped by GDAL."""
    command("cdlm", "prepare", ROOT / "cfg" / f"{name}.yaml", "--to", folder / name)
    content = yaml.safe_load((ROOT / "cfg" / f"{name}.yaml").read_text(encoding="utf-8"))
    for block in ("prepare", "training"):
        content.pop(block, None)
    write_config(folder / f"{name}.yaml", content)
    found: Digests = {}
    with netCDF4.Dataset(folder / name / "domain.nc") as dataset:
        attributes = [n for n, v in dataset.variables.items() if v.dtype == np.float64]
    exact = ("cell_area", "reach_area", "reach_length", "link_area", "upstream_area")
    rounded = tuple(n for n in attributes if n not in exact)
    for file in ("domain", "forcing", "observations"):
        found |= labelled(file, digest_file(folder / name / f"{file}.nc", rounded))
    return found


def basin(folder: Path, name: str, **keys: Any) -> Digests:
    """A prepared basin stepped and at once, and its discharge written by the command."""
    content = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    config = write_config(folder / "basin.yaml", {"initial_state": "steady", **content}, **keys)
    command("cdlm", "run", config, "--quiet")
    found = labelled("written", digest_file(folder / content["output"]))
    with every_job_on_threads():
        return found | labelled("stepped", stepped(config)) | labelled("at once", at_once(config))


def prepare_grand(folder: Path, source: Path) -> Digests:
    """The Grand River from the file beside the project; the script of examples/ is the checkout's own."""
    script = Path(package().__file__).resolve().parents[1] / "examples" / "prepare_grand.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, str(script), str(source), "--to", str(folder / "grand")], env=environment,
                   check=True, capture_output=True)
    content = yaml.safe_load((ROOT / "cfg" / "grand.yaml").read_text(encoding="utf-8"))
    content.pop("training")
    write_config(folder / "grand.yaml", content, end="2011-01-01", spin_up=0)
    return labelled("domain", digest_file(folder / "grand" / "domain.nc", ("mean_annual_snowfall",)))


BASINS = {
    "lez": ("lez", {}, ("pow",)),
    "lez trained": ("lez", {"parameters": str(ROOT / "examples" / "lez.safetensors"), "pet_kind": None},
                    ("pow", "numpy.exp", "numpy.tanh", *SEASON)),
    "cance": ("cance", {}, ("pow",)),
    **{f"grand {snow}": ("grand", {"snow": snow}, ("pow",)) for snow in SNOWS},
}
"""Which basin, keys, and what the bits depend on."""
