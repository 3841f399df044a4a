"""Classes of hostile files: damaged bytes, other structures, checkpoints, states, interrupted runs, kernels."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import netCDF4
import numpy as np
from damage import damaged, damaged_text
from harness import Fault, Outcome, call

LEFT = (".partial",)
"""What a run that began may leave when it is refused."""


def run(folder: Path, *words: str, config: str = "case.yaml") -> Outcome:
    """`cdlm run`; where it ends well, its output is whole and made of finite numbers."""
    outcome = call(["run", config, "--quiet", *words], folder, LEFT)
    if outcome.kind == "right":
        _check_output(folder)
    return outcome


def _check_output(folder: Path) -> None:
    for path in folder.glob("*run.nc"):
        with netCDF4.Dataset(path) as dataset:
            for name, v in dataset.variables.items():
                if getattr(v.dtype, "kind", "O") == "f" and not np.isfinite(np.ma.filled(v[...], np.nan)).all():
                    raise Fault("wrong", f"'{name}' of {path.name} is not finite, rc 0")
    if list(folder.glob("*.partial")) or list(folder.glob(".*.tmp")):
        raise Fault("half file", f"{[p.name for p in folder.iterdir()]} after rc 0")


def hdf5_bytes(folder: Path, rng: random.Random) -> Outcome:
    path = folder / rng.choice(["domain.nc", "forcing.nc", "parameters.nc"])
    path.write_bytes(damaged(path.read_bytes(), rng))
    return run(folder)


def evaluated_bytes(folder: Path, rng: random.Random) -> Outcome:
    shutil.copy(folder / "done.nc", folder / "run.nc")
    path = folder / rng.choice(["run.nc", "observations.nc", "domain.nc"])
    path.write_bytes(damaged(path.read_bytes(), rng))
    return call(["evaluate", "case.yaml", "--no-plots"], folder)


def netcdf_structure(folder: Path, rng: random.Random) -> Outcome:
    name = rng.choice(["domain.nc", "forcing.nc", "parameters.nc"])
    _restructure(folder / name, rng)
    return run(folder)


def _restructure(path: Path, rng: random.Random) -> None:
    """Write a file anew with one or two variables of another type, shape, name, value or attribute."""
    old = netCDF4.Dataset(path)
    old.set_auto_maskandscale(False)
    new = netCDF4.Dataset(path.with_suffix(".new"), "w")
    chosen = rng.sample(list(old.variables), k=min(rng.choice([1, 1, 2]), len(old.variables)))
    for name, dimension in old.dimensions.items():
        new.createDimension(name, None if rng.random() < 0.02 else dimension.size)
    new.createDimension("extra", rng.choice([0, 1, 3]))
    for name, v in old.variables.items():
        attributes = {k: v.getncattr(k) for k in v.ncattrs() if k != "_FillValue"}
        if name in chosen:
            _change(new, v, attributes, rng)
        else:
            new.createVariable(name, v.dtype, v.dimensions).setncatts(attributes)
            new[name][...] = v[...]
    new.close()
    old.close()
    path.with_suffix(".new").replace(path)


def _change(new: netCDF4.Dataset, v: netCDF4.Variable, attributes: dict, rng: random.Random) -> None:
    values, dims, n = v[...], v.dimensions, v.name
    numeric = v.dtype is not str
    kind = rng.randrange(16)
    if kind == 0:
        return
    if kind in (1, 2):
        t = (
            new.createVLType("f8", f"t_{n}")
            if kind == 1
            else new.createCompoundType(np.dtype([("a", "f8"), ("b", "i4")]), f"t_{n}")
        )
        new.createVariable(n, t, dims).setncatts(attributes)
        return
    if kind == 3:
        new.createVariable(n, str, dims).setncatts(attributes)
        return
    if kind == 4:
        dims = rng.choice([(), (*dims, "extra"), ("extra", *dims), tuple(reversed(dims)), ("extra",)])
        new.createVariable(n, v.dtype, dims).setncatts(attributes)
        return
    if kind == 5 and numeric:
        new.createVariable(n, rng.choice(["i1", "u1", "i2", "u8", "f4"]), dims).setncatts(attributes)
        return
    if kind == 6:
        text = np.full((*np.shape(values), 3), rng.choice([b"\xe9", b"\0", b"x"]), "S1")
        new.createDimension(f"w_{n}", 3)
        new.createVariable(n, "S1", (*dims, f"w_{n}"))[...] = text
        return
    if kind == 7:
        key = rng.choice(
            ["missing_value", "_FillValueX", "scale_factor", "add_offset", "units", "calendar", "bounds", "_Unsigned"]
        )
        attributes[key] = rng.choice(
            ["x", "true", "1", np.array([1.0, 2.0]), np.nan, np.inf, np.int32(0), "x" * 9999, "é", 1e300]
        )
    if kind == 8:
        n = rng.choice([n.upper() + "_", "é" + n, n + "x" * 200])
    made = new.createVariable(n, v.dtype, dims, fill_value=rng.choice([None, 1]) if kind == 9 and numeric else None)
    made.setncatts(attributes)
    made.set_auto_maskandscale(False)
    if np.size(values) and kind > 9 and numeric:
        values = np.array(values)
        place = tuple(rng.randrange(s) for s in values.shape)
        odd = [-1, 0, 1e30, 1e200, 1e308, -1e308, np.nan, np.inf, -np.inf, 2**62, -(2**62), 9.96921e36, 1e-300, 0.5]
        with np.errstate(all="ignore"):
            some = slice(None) if rng.random() < 0.2 else place
            values[some] = np.array(rng.choice(odd)).astype(values.dtype)
    if not numeric and kind > 9:
        values = np.array(values, object)
        values[rng.randrange(values.size)] = rng.choice(["", "x" * 100_000, "é\u2028", "r0", "\x1b[2J", " ", "a/b"])
    made[...] = values


def checkpoints(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "c.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    if rng.random() < 0.5:
        path.write_bytes(damaged(content, rng))
        return run(folder)
    head = json.loads(content[8 : 8 + size])
    kind = rng.randrange(6)
    if kind == 0:
        head["__metadata__"]["bmi_cdlm"] = rng.choice(["{" * 50_000, "[" * 99_999, "", "null", "1", '"x"', "{}", "\0"])
    elif kind == 1:
        inner = json.loads(head["__metadata__"]["bmi_cdlm"])
        inner[rng.choice(list(inner))] = rng.choice([None, 1, "x" * 9999, [], {}, [[[]]]])
        head["__metadata__"]["bmi_cdlm"] = json.dumps(inner)
    elif kind == 2:
        name = rng.choice([k for k in head if k != "__metadata__"])
        head[name][rng.choice(["dtype", "shape", "data_offsets"])] = rng.choice(
            ["F64", "F16", "BOOL", "x", [-1], [10**18, 10**18], [0, 10**12], None, 1, []]
        )
    elif kind == 3:
        head.pop(rng.choice(list(head)))
    elif kind == 4:
        head["x" * rng.choice([1, 10_000])] = rng.choice(list(head.values()))
    else:
        inner = json.loads(head["__metadata__"]["bmi_cdlm"])
        inner["specification"][rng.choice(list(inner["specification"]))] = rng.choice(
            [None, -1, "x", [], {"a": 1}, 1e300]
        )
        head["__metadata__"]["bmi_cdlm"] = json.dumps(inner)
    packed = json.dumps(head).encode()
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + content[8 + size :])
    return run(folder)


def states_in_a_file(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "state.nc"
    path.write_bytes(damaged(path.read_bytes(), rng))
    return _same_or_refused(run(folder, config="from.yaml"), folder, "from_run.nc", same_content=None)


def _same_or_refused(outcome: Outcome, folder: Path, expected: str, same_content: object) -> Outcome:
    """A damaged state that is taken must be the same state: its output has the bits of the undamaged one."""
    if outcome.kind == "right" and _discharge(folder / "run.nc") != _discharge(folder / expected):
        raise Fault("wrong", "another result from a damaged state")
    return outcome


def _discharge(path: Path) -> bytes:
    with netCDF4.Dataset(path) as dataset:
        return np.ma.filled(dataset["discharge"][...], np.nan).tobytes()


def resumed(folder: Path, rng: random.Random) -> Outcome:
    path = folder / rng.choice(["restart.nc", "run.nc.partial"])
    is_restart = path.name == "restart.nc"
    kind = rng.random()
    if kind < 0.7:
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif kind < 0.8:
        path.unlink()
    else:
        text = (folder / "case.yaml").read_text()
        (folder / "case.yaml").write_bytes(damaged_text(text, rng))
    outcome = call(["run", "case.yaml", "--quiet", "--resume"], folder, (*LEFT, ".previous"))
    checked = outcome.kind == "right" and is_restart and kind < 0.7 and (folder / "run.nc").exists()
    if checked and _discharge(folder / "run.nc") != _discharge(folder / "unbroken.nc"):
        raise Fault("wrong", "a resumed run differs")
    return outcome


def kernels(folder: Path, rng: random.Random) -> Outcome:
    """Files of compiled kernels: whatever is in one, the result is that of the whole one."""
    from bmi_cdlm.kernels import cache
    from bmi_cdlm.kernels.launch import new_root
    from bmi_cdlm.kernels.loops import routing

    paths = sorted((folder / "cache").glob("*.kernel"))
    os.environ["XDG_CACHE_HOME"] = str(folder)
    (folder / "bmi_cdlm").mkdir(mode=0o700)
    (folder / "cache").rename(folder / "bmi_cdlm" / "kernels")
    cache.cache_folder.cache_clear()
    target = folder / "bmi_cdlm" / "kernels" / rng.choice(paths).name
    target.write_bytes(damaged(target.read_bytes(), rng))
    folder.chmod(0o700)
    accumulate = new_root(routing.accumulate, np.float64)
    total = np.arange(5.0)
    accumulate(np.array([2, 2, 4, 4, -1]), total)
    if total.tolist() != [0, 1, 3, 3, 10]:
        raise Fault("wrong", f"{total}")
    return Outcome("right", "")
