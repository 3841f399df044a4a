"""Runs whose every bit is kept as a digest, and gradients that are kept as numbers; see test_digests.py."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import digest_inputs as inputs
import netCDF4
import numpy as np
import yaml
from digest_inputs import COUNTRY, DAY, HOUR, SMALL, START, Size, write_config
from digest_internals import TRAINING_STATE, every_job_on_threads, simulation_of

Digests = dict[str, str]
Arrays = dict[str, np.ndarray]
N_STEPS = {DAY: 96, HOUR: 100}
GRADIENT_STEPS = 20
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PREFIX = "ngen::serialization_"


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


# ---- what a machine computes -------------------------------------------------------------------------------


def library_digests() -> Digests:
    """What this machine's libraries give for the functions that bits depend on: compiled, in Python and in numpy."""
    from numba import njit

    @njit
    def fill(x, out):
        for i in range(x.size):
            out[0, i] = x[i] ** 2.5
            out[1, i] = x[i] ** 1.25
            out[2, i] = math.exp(4.0 * x[i] - 2.0)
            out[3, i] = math.sin(3.0 * x[i])
            out[4, i] = math.acos(2.0 * x[i] - 1.0)

    x = inputs.mixed(7, 4001)
    out = np.empty((5, x.size))
    fill(x, out)
    found = {"pow": out[:2], "exp": out[2], "sin": out[3], "acos": out[4]}
    angles = 6.0 * x - 3.0
    for name in ("sin", "cos", "tan"):
        found[f"math.{name}"] = np.array([getattr(math, name)(a) for a in angles])
        found[f"numpy.{name}"] = getattr(np, name)(angles)
    for name in ("exp", "tanh"):
        found[f"numpy.{name}"] = getattr(np, name)(angles)
    return {name: digest(values) for name, values in found.items()}


# ---- digests -----------------------------------------------------------------------------------------------


def digest(values: np.ndarray) -> str:
    """Digest of the bits, the shape and the kind of an array; of text, its letters."""
    return shortened(hashlib.sha256(repr((values.shape, values.dtype.kind)).encode() + little(values)))


def shortened(total: Any) -> str:
    return total.hexdigest()[:12]


def little(values: np.ndarray) -> bytes:
    """The bytes of an array whatever the machine's order of bytes."""
    if values.dtype.kind == "O":
        return "\0".join(map(str, values.ravel())).encode()
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def digest_file(path: Path, rounded: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> Digests:
    """Digests of all arrays of a NetCDF file; `rounded` ones to 1e-6, since they come from a library."""
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {
            name: digest(np.round(v[...], 6) + 0.0 if name in rounded else np.asarray(v[...]))
            for name, v in sorted(dataset.variables.items()) if name not in left_out
        }


def digest_restart(content: bytes, call_seconds: float = DAY) -> Digests:
    """Digests of the arrays of a restart, of its attributes but for version, and of its bytes but for these.

    `raw` is empty of what a version writes: the number of the format, the version and the file's own digest; and of
    the bytes up to a multiple of four behind the ids, which netCDF does not set.

    call_seconds : of the last call. States of format 2 say it, later ones what the call handed out, if it was no step.
    """
    if not content.startswith(b"CDF"):
        return _digest_container(content, call_seconds)
    with netCDF4.Dataset("restart", memory=content) as dataset:
        dataset.set_auto_mask(False)
        found = {f"array {n}": digest(np.asarray(v[...])) for n, v in sorted(dataset.variables.items())}
        texts = [np.asarray(v[...]).tobytes() for v in dataset.variables.values() if v.dtype.kind == "S"]
        attributes = {key: dataset.getncattr(key) for key in sorted(dataset.ncattrs())}
    own = attributes.pop("digest").encode()
    if attributes.pop("format") != "bmi_cdlm restart 2":
        attributes = as_format_2(attributes, call_seconds)
    attributes.pop("source")
    bare = content.replace(own, b"0" * len(own))
    for text in texts:
        end = bare.rindex(text) + len(text)
        bare = bare[:end] + b"\0" * (-end % 4) + bare[end + -end % 4 :]
    bare = re.sub(rb"(bmi_cdlm restart )\d+", rb"\1N", bare)
    bare = re.sub(rb"(bmi_cdlm )\d[\w.+]*", rb"\1V", bare)
    found["attributes"] = shortened(hashlib.sha256(repr(attributes).encode()))
    found["raw"] = shortened(hashlib.sha256(bare))
    return found


def _digest_container(content: bytes, call_seconds: float) -> Digests:
    """The same of a state that is no NetCDF file, with the names, ids and attributes that one would have.

    What tells which run wrote a restart file is left out: states of BMI have none.
    """
    from bmi_cdlm.files.restart import FORMAT  # not where `make_digests` runs an old checkout
    from bmi_cdlm.names.container import pack, unpack, unseal
    from bmi_cdlm.names.errors import StateError

    state = unpack(unseal(content, FORMAT, "state", StateError, ""), "state", StateError, "")
    words = {key: value for key, value in state.words.items() if key not in ("source", "fingerprints")}
    arrays = {name.rpartition("/")[2]: values for name, values in state.arrays.items()}
    for name in ("cell_id", "reach_id"):
        arrays[name] = np.ascontiguousarray(arrays[name]).view("S1").reshape(arrays[name].size, -1)
    found = {f"array {name}": digest(values) for name, values in sorted(arrays.items())}
    attributes = as_format_2({"title": "bmi_cdlm restart", **words}, call_seconds)
    found["attributes"] = shortened(hashlib.sha256(repr(attributes).encode()))
    found["raw"] = shortened(hashlib.sha256(b"".join(pack(words, state.arrays))))
    return found


def as_format_2(attributes: dict[str, Any], call_seconds: float) -> dict[str, Any]:
    """Attributes of a later state as one of format 2 has them."""
    said = {key: attributes.pop(key, None) for key in NEW_ATTRIBUTES}
    assert said == NEW_ATTRIBUTES, f"processes of the state are {said}, expected {NEW_ATTRIBUTES}"
    others = {key: value for key, value in attributes.items() if key not in OF_CALLS}
    return dict(sorted({**others, "call_seconds": f"{call_seconds:.0f}"}.items()))


NEW_ATTRIBUTES = {"runoff": "gr4j", "routing": "muskingum", "components": "1"}
"""What states say of their processes since format 3; those of format 2 knew no others."""
OF_CALLS = ("release_seconds", "call_depth", "cells")
"""What they say of calls that were no steps, in place of the length of the last call."""
HYSTERESIS = ("snow_peak", "snow_cover")
GONE = {"none": ("snowpack", "thermal_state", *HYSTERESIS), "cemaneige": HYSTERESIS, "cemaneige_hysteresis": ()}
"""Arrays of processes that are not chosen, by snow: states of format 2 hold zeros of them, those of format 3 none."""
STATE = re.compile(r"((?:.*: )?(?:state|restart)): array (\w+)")
RAW = re.compile(r"(.*: )?(state: raw|restart: raw|restart on two threads)")
STEPPED = ("stepped: state", "in parts: state")
"""States of runs by `stepped`, which holds their volumes of water in reaches against the variable."""
OTHER_CALLS = re.compile(
    r".*: runoff_depth_total|at once: end: runoff_depth|in parts: series: (runoff_depth|mass_out|mass_stored)"
    r"|in parts: state: array (unreleased|waiting_runoff)"
)
"""The depth of a call over several steps is the water of the call, not the last step's rate over its length; what waits
for the caller leaves in shares, to other last digits. `runoff_depth_total` is new."""
BASIN_CELLS = {"lez": 172, "cance": 383, "grand": 1000}


def as_format_3(case: str, kept: Digests) -> Digests:
    """Digests of a case in format 2, as they are where nothing but the format of states is another.

    Arrays of processes that are not chosen are gone, and held zeros; `reach_storage` stands in place of
    `reach_storage_time`, with the bits of the variable (`stepped` sees to that itself); attributes are as they were
    but for `NEW_ATTRIBUTES`, which
    `digest_restart` takes out; raw bytes are others, see `same_bytes`.
    """
    found: Digests = {}
    snow, cells = snow_and_cells(case)
    for name, value in kept.items():
        place = STATE.fullmatch(name)
        if place and place[2] in GONE[snow]:
            assert value == digest(np.zeros(cells)), f"{case}, {name}: it was no array of zeros, and has to be kept"
        elif place and place[2] == "reach_storage_time":
            if place[1] not in STEPPED:
                found[f"{place[1]}: array reach_storage"] = kept["at once: end: reach_storage"]
        elif not RAW.fullmatch(name) and not OTHER_CALLS.fullmatch(name):
            found[name] = value
    return found


def gradients_of_format_3(name: str, kept: Arrays, found: Arrays) -> Arrays:
    """Gradients that are kept but for those of states that there are no more: of these nothing depended on them."""
    keys = (f"{name}: state {state}" for state in GONE[GRADIENTS[name].snow])
    gone = [key for key in keys if key in kept and key not in found]
    assert not any(kept[key].any() for key in gone), f"one of {', '.join(gone)} was no array of zeros"
    return {key: values for key, values in kept.items() if key not in gone}


def snow_and_cells(case: str) -> tuple[str, int]:
    """The snow and the number of cells of a case, by its name in digests.json."""
    if case.startswith("country, "):
        return CASES[case.removeprefix("country, ")].snow, COUNTRY.cells
    if case not in BASINS:
        return "none", 0
    basin, keys, _ = BASINS[case]
    content = yaml.safe_load((ROOT / "cfg" / f"{basin}.yaml").read_text(encoding="utf-8"))
    return {**content, **keys}.get("snow", "none"), BASIN_CELLS[basin]


def same_bytes(found: Digests) -> set[frozenset[str]]:
    """Which restarts of a case hold the same bytes, threads and ways to step among them."""
    raw: dict[str, set[str]] = {}
    for name, value in found.items():
        if RAW.fullmatch(name):
            raw.setdefault(value, set()).add(name)
    return set(map(frozenset, raw.values()))


def labelled(prefix: str, found: Mapping[str, str]) -> Digests:
    return {f"{prefix}: {name}": value for name, value in found.items()}


def nested(found: Digests) -> dict[str, Any]:
    """Digests by the parts of their names, as they are kept."""
    tree: dict[str, Any] = {}
    for name, value in found.items():
        *parts, last = name.split(": ")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def flat(tree: Mapping[str, Any]) -> Digests:
    """What `nested` was made of."""
    found: Digests = {}
    for name, value in tree.items():
        found |= {name: value} if isinstance(value, str) else labelled(name, flat(value))
    return found


# ---- running -----------------------------------------------------------------------------------------------


def package() -> Any:
    return importlib.import_module("bmi_cdlm")


def version() -> str:
    return package().__version__


def command(name: str, *arguments: object) -> None:
    """Run a command of the package in this process, from where its pyproject.toml says."""
    root = Path(package().__file__).resolve().parents[1]
    where = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"][name]
    module, function = where.split(":")
    getattr(importlib.import_module(module), function)([str(a) for a in arguments], standalone_mode=False)


def registry() -> dict[str, tuple[str, str, str]]:
    """Short name, grid and role of all variables by published name, from the reference that the package prints."""
    text = (Path(package().__file__).resolve().parents[1] / "cfg" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|[^|]*\| (\w+) \| (\w+) \|", text, re.MULTILINE)
    return {name: (short, grid, role) for short, name, grid, role in rows}


def short_names(component: Any) -> dict[str, str]:
    """Short names of the outputs and of the masses, by published name."""
    known = registry()
    masses = ("mass_in", "mass_out", "mass_stored", "mass_leaked")
    return {n: known[n][0] for n in component.get_output_var_names()} | {f"ngen::{m}": m for m in masses}


def started(config: Path) -> Any:
    component = package().BmiCdlm()
    component.initialize(str(config))
    return component


def state_bytes(component: Any) -> bytes:
    """The state as NextGen takes it."""
    component.set_value(f"{PREFIX}create", np.ones(1, np.int32))
    content = component.get_value_ptr(f"{PREFIX}state").tobytes()
    component.set_value(f"{PREFIX}free", np.ones(1, np.int32))
    return content


def end_values(component: Any) -> Digests:
    return {short: digest(component.get_value_ptr(name)) for name, short in short_names(component).items()}


def stepped(config: Path, part: int = 1) -> Digests:
    """Every output after every update, in step with the model or in `part` calls a step; then the state."""
    component = started(config)
    found = labelled("begin", end_values(component))
    shorts = short_names(component)
    rows: dict[str, Any] = {name: hashlib.sha256() for name in shorts}
    length = component.get_time_step() / part
    while component.get_current_time() < component.get_end_time():
        component.update_until(component.get_current_time() + length)
        for name, total in rows.items():
            total.update(little(component.get_value_ptr(name)))
    found |= labelled("series", {shorts[name]: shortened(total) for name, total in rows.items()})
    state = digest_restart(state_bytes(component), length)
    if (volume := state.pop("array reach_storage", None)) is not None:
        # The variable is in the series above, to its last step: no other digest is needed.
        name = next(n for n, short in shorts.items() if short == "reach_storage")
        assert volume == digest(component.get_value_ptr(name)), "the state holds another volume of reaches"
    found |= labelled("state", state)
    component.finalize()
    return found


def at_once(config: Path) -> Digests:
    """The outputs at the end of one call over the whole run, and the state."""
    component = started(config)
    component.update_until(component.get_end_time())
    state = digest_restart(state_bytes(component), component.get_end_time())
    found = labelled("end", end_values(component)) | labelled("state", state)
    component.finalize()
    return found


def in_blocks(folder: Path, content: Mapping[str, Any], fluxes: Mapping[str, list[str]]) -> Digests:
    """Written fluxes of `cdlm run` at their places, on one thread and on two, and the restart file of each run."""
    found: Digests = {}
    restart = folder / "restart.nc"
    for threads, (place, names) in enumerate(fluxes.items(), 1):
        config = write_config(
            folder / "run.yaml", content, output="out.nc", output_at=place, output_variables=names,
            restart="restart.nc", threads=threads, memory="2 MiB",
        )
        command("cdlm", "run", config, "--quiet")
        found |= labelled(place, digest_file(folder / "out.nc"))
        saved = digest_restart(restart.read_bytes(), DAY if content["time_step"] == "1 d" else HOUR)
        found |= labelled("restart", saved) if threads == 1 else {"restart on two threads": saved["raw"]}
    return found


def fluxes_of(component: Any) -> dict[str, list[str]]:
    """Short names of all fluxes on cells and on reaches."""
    found: dict[str, list[str]] = {"cells": [], "reaches": []}
    known = registry()
    for name in component.get_output_var_names():
        short, grid, role = known[name]
        if role == "flux" and grid in ("cell", "reach"):
            found["cells" if grid == "cell" else "reaches"].append(short)
    return found


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


# ---- gradients ---------------------------------------------------------------------------------------------

GRADIENTS: dict[str, Case] = {
    "daily none": Case(), "daily cemaneige": Case(snow="cemaneige"),
    "daily hysteresis, network": Case(snow="cemaneige_hysteresis", hidden=(5,)),
    "hourly hysteresis": Case(HOUR, "cemaneige_hysteresis", 30.0),
    "hourly long": Case(HOUR, longest=110.0),
}
TRAININGS = {"float64": ("cemaneige_hysteresis", 1e-12), "float32": ("cemaneige", 2e-5)}
"""Snow model and tolerance of a training in each precision."""


def gradients(folder: Path, name: str, threads: int) -> tuple[Arrays, Digests]:
    """Gradients of a weighted sum of all discharge, by forcing, parameters and initial state; discharge as digest."""
    folder.mkdir(parents=True, exist_ok=True)
    case = GRADIENTS[name]
    inputs.write_domain(folder / "domain.nc", SMALL, 3)
    inputs.write_forcing(folder / f"forcing_{case.step}.nc", SMALL, case.step, GRADIENT_STEPS)
    content = case_content(folder, case, SMALL, GRADIENT_STEPS, "gradient")
    component = started(write_config(folder / "gradient.yaml", content, threads=threads))
    with every_job_on_threads():
        simulation = simulation_of(component)
        discharge = simulation.model.record(simulation.read_forcing(0, GRADIENT_STEPS))
        weights = inputs.dyadic(300, -1, 1, 64, *discharge.shape)
        found = simulation.model.adjoint(weights)
    arrays = {f"{kind} {n}": np.array(a) for kind in ("forcing", "parameters", "state")
              for n, a in getattr(found, kind).items()}
    bits = {"discharge": digest(discharge)}
    component.finalize()
    return arrays, bits


def training_gradients(folder: Path, precision: str) -> Arrays:
    """Gradients of one training step with drawn weights.

    Through files alone: `cdlm-train` makes a state, its weights are replaced, and after one update of `--resume`
    AdamW's first mean is a tenth of the gradient.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    snow, n_steps = TRAININGS[precision][0], 50
    inputs.write_domain(folder / "domain.nc", SMALL, 3)
    inputs.write_forcing(folder / "forcing.nc", SMALL, DAY, n_steps)
    inputs.write_observations(folder / "observations.nc", DAY, n_steps)
    end = str(START + np.timedelta64(n_steps, "D"))
    config = write_config(folder / "train.yaml", {
        "domain": "domain.nc", "forcing": "forcing.nc", "observations": "observations.nc", "start": str(START),
        "end": end, "time_step": "1 d", "routing_step": "3 h", "snow": snow, "training": {
            "output": "out/trained.safetensors", "train": [str(START), end], "cell_attributes": ["forest", "elevation"],
            "reach_attributes": ["steepness"], "hidden": [4], "pet_hidden": [3], "window": n_steps, "warm_up": 20,
            "updates": 1, "epochs": 1, "precision": precision, "clip": 1e30, "learn_weighting": True,
            "loss": {"nse": 1.0, "rmse_log": 0.5, "pet_factor": 0.01, "pet_roughness": 0.1},
        },
    })
    command("cdlm-train", config)
    path = next(p for t in TRAINING_STATE if (p := folder / "out" / t.format(stem="trained")).is_file())
    state = _training_state(path)
    for k, (name, value) in enumerate(state["generator"].items()):
        drawn = inputs.dyadic(400 + k, -1, 1, 64, *value.shape)
        state["generator"][name] = torch.from_numpy(np.asarray(drawn)).to(value.dtype).reshape(value.shape)
    state["optimizer"]["state"] = {}
    state |= {"epoch": 0, "best_epoch": 0, "best": -math.inf}
    if "fits" in state:  # not yet in older states
        state["fits"] = [{"epochs": 0, "best_epoch": 0, "score": -math.inf, "loss": math.nan, "parameters": {}}]
    _training_state(path, state)
    command("cdlm-train", config, "--resume")
    state = _training_state(path)
    shapes = {name: value.ndim for name, value in state["generator"].items()}
    ordered = [n for n, ndim in shapes.items() if ndim > 1] + [n for n, ndim in shapes.items() if ndim <= 1]
    places = [p for group in state["optimizer"]["param_groups"] for p in group["params"]]
    first_means = [state["optimizer"]["state"][p]["exp_avg"] for p in places]
    shutil.rmtree(folder / "out")
    return {
        name: 10.0 * mean.numpy().astype(np.float64) for name, mean in zip(ordered, first_means, strict=True)
    }


def _training_state(path: Path, changed: dict | None = None) -> dict:
    """Read a training's state, or write a changed one: in a container, or before there was one as torch writes it."""
    import torch

    content = path.read_bytes()
    if bare := content.startswith(b"PK"):
        payload: Any = content
    else:
        from bmi_cdlm.names.container import seal, unseal
        from bmi_cdlm.names.errors import StateError
        from cdlm_training.saved_state import STATE_FORMAT

        payload = bytes(unseal(content, STATE_FORMAT, str(path), StateError, ""))
    if changed is None:
        return torch.load(io.BytesIO(payload), weights_only=True)
    written = io.BytesIO()
    torch.save(changed, written)
    path.write_bytes(written.getvalue() if bare else b"".join(seal(STATE_FORMAT, [written.getvalue()])))
    return changed


def largest_differences(found: Arrays, kept: Arrays, tolerance: float) -> Iterator[str]:
    """What differs by more than the tolerance times the largest of its array, in words."""
    for name in sorted({*found, *kept}):
        if name not in found or name not in kept:
            yield f"{name}: {'not kept' if name in found else 'gone'}"
        elif found[name].shape != kept[name].shape:
            yield f"{name}: shape {found[name].shape}, was {kept[name].shape}"
        else:
            most = np.abs(kept[name]).max(initial=0.0)
            error = np.abs(found[name] - kept[name]).max(initial=0.0)
            if not error <= tolerance * most:
                yield f"{name}: off by {error:.2e}, {error / most if most else np.inf:.1e} of the largest"
