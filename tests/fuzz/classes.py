"""The classes of hostile cases: each a function of a folder with a whole case in it and a source of chance."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import yaml
from cases import GAUGE_Q, P, write_case
from damage import VALUES, damaged, damaged_text
from generator_cases import specify, write_attribute_domain, write_drawn_checkpoint
from harness import Fault, Outcome, call

from bmi_cdlm import BmiCdlm
from bmi_cdlm.bmi.serialization import SIZE, STATE
from bmi_cdlm.names.errors import CdlmError, StateError

Work = Callable[[Path, random.Random], Outcome]
LEFT = (".partial",)
"""What a run that began may leave when it is refused."""


# ---- whole cases, made once --------------------------------------------------------------------------------------


def make_cases(folder: Path) -> None:
    """Every case that some class starts from, with what it gives undamaged."""
    write_case(folder / "run", output="run.nc", snow="cemaneige")
    classic(write_case(folder / "classic", output="run.nc").parent)
    case = write_case(
        folder / "state",
        output="run.nc",
        restart="restart.nc",
        restart_every="2 d",
        output_at="reaches",
        forcing="caller",
    )
    write_case(folder / "state", name="save.yaml", n_steps=9, output=None, restart=None)
    component = BmiCdlm()
    component.initialize(str(folder / "state" / "save.yaml"))
    component.update()
    component.update()
    component._stepper.simulation.save(folder / "state" / "state.nc")
    (folder / "state" / "state.bytes").write_bytes(component._stepper.simulation.to_bytes())
    component.finalize()
    write_case(folder / "state", name="from.yaml", output="run.nc", initial_state="state.nc")
    assert case.exists()
    _half_a_run(folder / "resume")
    config = write_case(folder / "checkpoint", parameters="c.safetensors", output="run.nc", snow="cemaneige")
    write_attribute_domain(folder / "checkpoint" / "domain.nc")
    write_drawn_checkpoint(folder / "checkpoint" / "c.safetensors", specify(config.parent / "domain.nc"))
    _toy(folder / "prepare")


def classic(folder: Path) -> None:
    """The inputs of a case as classic NetCDF."""
    for path in folder.glob("*.nc"):
        old = folder / "old"
        path.rename(old)
        with netCDF4.Dataset(old) as source, netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as target:
            source.set_auto_maskandscale(False)
            for name, dimension in source.dimensions.items():
                target.createDimension(name, dimension.size)
            target.createDimension("letters", 8)
            for name, v in source.variables.items():
                dims, kind, values = v.dimensions, v.dtype, v[...]
                if kind is str:
                    kind, dims = "S1", (*dims, "letters")
                    values = np.array([t.encode() for t in values.tolist()], "S8").view("S1").reshape(-1, 8)
                new = target.createVariable(name, kind, dims)
                new.setncatts({k: v.getncattr(k) for k in v.ncattrs() if k != "_FillValue"})
                new[...] = values
        old.unlink()


def _half_a_run(folder: Path) -> None:
    """A run that was killed after 12 of 20 steps."""
    from bmi_cdlm.run.config import load_config
    from bmi_cdlm.run.simulation import Simulation

    config = write_case(
        folder, n_steps=20, output="run.nc", restart="restart.nc", restart_every="5 d", output_at="reaches"
    )

    class Stop(BaseException):
        pass

    def stop(steps: int) -> None:
        if simulation.n_done >= 12:
            raise Stop

    simulation = Simulation(load_config(config))
    simulation.block_length = lambda *_: 3  # type: ignore[method-assign]
    try:
        simulation.run(stop)
    except Stop:
        simulation.close()


def _toy(folder: Path) -> None:
    """The inputs of a preparation: 3 by 3 pixels, a gauge, two days."""
    try:
        import rasterio
    except ImportError:
        return

    def raster(name: str, values: np.ndarray) -> None:
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=3,
            width=3,
            count=1,
            dtype=values.dtype,
            crs="EPSG:2154",
            transform=rasterio.Affine(1000.0, 0, 8e5, 0, -1000.0, 6.5e6),
            nodata=-99.0,
        ) as file:
            file.write(values, 1)

    field = np.arange(9, dtype=np.float32).reshape(3, 3)
    raster("flow.tif", np.array([[5, 5, 7], [3, 5, -99], [3, 5, 7]], np.float32))
    for name in ("rain/20200101.tif", "rain/20200102.tif", "pet/0101.tif", "pet/0102.tif", "clay.tif"):
        raster(name, field + 1)
    (folder / "source" / "gauges.csv").write_text("code,x,y,area,dor\nT1,801400,6497600,8.1,12\n")
    (folder / "source" / "qobs").mkdir()
    (folder / "source" / "qobs" / "T1.csv").write_text("20191231\n0.5\n-99\n0.05\n0.07\n")
    content = {
        "domain": "out/domain.nc",
        "forcing": "out/forcing.nc",
        "observations": "out/observations.nc",
        "output": "out/run.nc",
        "start": "2020-01-01",
        "end": "2020-01-03",
        "prepare": {
            "network": {"directions": "source/flow.tif", "encoding": "clockwise", "areas": "map"},
            "gauges": {
                "table": "source/gauges.csv",
                "columns": {"id": "code", "degree_of_regulation": "dor"},
                "units": {"degree_of_regulation": "%"},
                "crs": "EPSG:2154",
                "radius": 1500,
            },
            "attributes": {"rasters": {"clay": {"source": "source/clay.tif", "units": "1"}}},
            "forcing": {
                "precipitation": {"source": "source/rain/%Y%m%d.tif", "units": "mm d-1"},
                "potential_evapotranspiration": {
                    "source": "source/pet/%m%d.tif",
                    "units": "mm d-1",
                    "interannual": True,
                },
            },
            "observations": {
                "source": "source/qobs/{id}.csv",
                "layout": "values",
                "step": "1 d",
                "units": "m3 s-1",
                "missing_values": [-99],
            },
        },
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(content))


# ---- what a run gives --------------------------------------------------------------------------------------------


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


# ---- the classes -------------------------------------------------------------------------------------------------


def configurations(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "case.yaml"
    text = path.read_text()
    if rng.random() < 0.4:
        extra = [
            "spin_up",
            "threads",
            "memory",
            "output_at",
            "output_step",
            "output_precision",
            "restart",
            "restart_every",
            "snow",
            "runoff",
            "routing",
            "components",
            "initial_rain",
            "day_begins",
            "call_sums",
            "forcing_fill_limit",
            "pet",
            "ledger_tolerance",
            "initial_state",
            "output_variables",
            "forcing_fill",
            "training",
            "prepare",
            "name_profile",
            "published_inputs",
            "sub_step_policy",
            "time_units",
            "spinup",
        ]
        text += f"\n{rng.choice(extra)}: {rng.choice(VALUES)}\n"
    path.write_bytes(damaged_text(text, rng) if rng.random() < 0.8 else text.encode())
    return run(folder) if rng.random() < 0.8 else call(["doctor", "case.yaml"], folder)


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


def states_as_bytes(folder: Path, rng: random.Random) -> Outcome:
    content = (folder / "state.bytes").read_bytes()
    hostile = damaged(content, rng) if rng.random() < 0.9 else rng.randbytes(rng.choice([0, 1, 8, 80, 5000]))
    component = BmiCdlm()
    component.initialize(str(folder / "save.yaml"))
    component.update()
    before = _everything(component)
    try:
        if rng.random() < 0.5:
            component.set_value(SIZE, np.array([len(hostile)], np.int64))
        component.set_value(STATE, np.frombuffer(hostile, np.uint8))
    except StateError as error:
        if _everything(component) != before:
            raise Fault("changed", str(error)) from error
        component.update()
        return Outcome("refused", str(error))
    if hostile != content:
        raise Fault("wrong", "a damaged state was taken")
    return Outcome("right", "")


def _everything(component: BmiCdlm) -> dict[str, bytes]:
    names = (*component.get_input_var_names(), *component.get_output_var_names())
    return {n: component.get_value_ptr(n).tobytes() for n in names} | {
        "t": np.array(component.get_current_time()).tobytes()
    }


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


def rasters(folder: Path, rng: random.Random) -> Outcome:
    path = rng.choice(sorted((folder / "source").rglob("*.tif")))
    if rng.random() < 0.6:
        path.write_bytes(damaged(path.read_bytes(), rng))
    else:
        import rasterio

        with rasterio.open(path, "r+") as file:
            odd = rng.choice([np.nan, np.inf, -1, 1e30, 255, 0])
            kind = rng.randrange(3)
            if kind == 0:
                values = file.read(1)
                values[rng.randrange(3), rng.randrange(3)] = odd
                file.write(values, 1)
            elif kind == 1:
                size = rng.choice([1e-9, 1e-3, 1e9, np.nan, np.inf, 1000.0])
                file.transform = rasterio.Affine(size, 0, rng.choice([8e5, 1e300, np.nan]), 0, -size, 6.5e6)
            else:
                file.crs = rng.choice(["EPSG:4326", "EPSG:3857", "EPSG:32761"])
    return _prepare(folder)


def tables(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "source" / rng.choice(["gauges.csv", "qobs/T1.csv"])
    text = path.read_text()
    kind = rng.random()
    if kind < 0.4:
        path.write_bytes(damaged(text.encode(), rng))
    elif kind < 0.9:
        words = text.replace("\n", ",\n,").split(",")
        words[rng.randrange(len(words))] = rng.choice(
            [*VALUES, "i" * 100_000, "\0", "1e400", "nan", "-inf", '"', "T1\nT1"]
        )
        path.write_text(",".join(words).replace(",\n,", "\n"), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_text(rng.choice(["", "\n" * 1000, "a", "," * 5000, text * 500, "#" + text]))
    return _prepare(folder)


def preparations(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "toy.yaml"
    path.write_bytes(damaged_text(path.read_text(), rng))
    return _prepare(folder)


def _prepare(folder: Path) -> Outcome:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(["prepare", "toy.yaml", "--no-map", "--quiet"], folder, (".new", ".nc", ".csv", ".json"))


def command_lines(folder: Path, rng: random.Random) -> Outcome:
    commands = ["run", "doctor", "evaluate", "subset", "prepare", "reference", "nextgen", "init", "nothing"]
    options = [
        "--quiet",
        "--resume",
        "--parameters",
        "--partitions",
        "--to",
        "--no-plots",
        "--source",
        "--help",
        "--version",
        "--scheduler",
        "--start",
        "--end",
        "--snow",
        "--x",
        "-",
        "--",
        "--verbose",
    ]
    words = [
        "case.yaml",
        "domain.nc",
        "nowhere.yaml",
        "",
        "x" * 300,
        "a/" * 2500,
        "a/" * 1000,
        "\udcff",
        "/dev/null",
        "0",
        "-5",
        "9" * 30,
        "g0",
        "reach:r1",
        "gauge:",
        "out",
        "é",
        "..",
        "case.yaml/x",
        "/dev/full",
        "2001-01-01",
    ]
    line = [rng.choice(commands)] if rng.random() < 0.9 else []
    for _ in range(rng.randrange(6)):
        line.append(rng.choice(options if rng.random() < 0.4 else words))
    if "--scheduler" in line:
        line = [w for w in line if w != "--scheduler"]  # waits for one, by design
    return call(line, folder, (".partial", "run.nc", ".csv", ".yaml", ".json", "domain.nc", "out"))


def bmi_calls(folder: Path, rng: random.Random) -> Outcome:
    """Sequences of calls with odd arguments: errors of ours, and none of them changes anything."""
    component = BmiCdlm()
    component.initialize(str(folder / "save.yaml"))
    names = [
        *component.get_input_var_names(),
        *component.get_output_var_names(),
        *component.get_parameter_names(),
        SIZE,
        STATE,
        "",
        "x" * 500,
        None,
        3,
    ]
    for _ in range(40):
        name = rng.choice(names)
        odd = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 5.0, 1e-300])
        array = rng.choice(
            [
                np.full(rng.choice([0, 1, 4, 25, 40]), odd),
                odd,
                None,
                "x",
                [odd],
                np.full((2, 2), odd),
                np.array(["a"]),
                np.zeros(25, complex),
                np.zeros(25, object),
                np.zeros(40, bool),
                np.full(25, odd, np.float32)[::-1],
            ]
        )
        places = rng.choice(
            [np.array([0]), np.array([-1]), np.array([10**9]), np.array([0.5]), [], None, np.array([1, 1])]
        )
        actions: list[Callable[[], object]] = [
            lambda: component.set_value(name, array),
            lambda: component.set_value_at_indices(name, places, array),
            lambda: component.get_value(name, array),
            lambda: component.get_value_at_indices(name, array, places),
            lambda: component.get_value_ptr(name),
            lambda: component.get_var_grid(name),
            lambda: component.update_until(rng.choice([odd, 86400.0, 3600.0, -1, "x", None, 10**12])),
            component.update,
            lambda: component.get_grid_x(rng.choice([0, 1, 2, 3, 9, -1, None]), array),
            lambda: component.initialize(rng.choice(["nowhere", "", None, 3, str(folder)])),
            lambda: component.get_value_bounds(name),
            lambda: component.get_grid_type(rng.choice([0, 5, "a"])),
        ]
        before = _everything(component)
        reads_only = (2, 3, 4, 5, 8, 10, 11)
        which = rng.randrange(len(actions))
        try:
            actions[which]()
            done = True
        except (CdlmError, NotImplementedError) as error:
            done = False
            if not 15 <= len(str(error)) <= 5000:
                raise Fault("bad message", str(error)[:500]) from error
            if which not in (6, 7) and _everything(component) != before:
                raise Fault("changed", f"call {which}: {error}") from error
        if done and which in reads_only and _everything(component) != before and not _aliased(component, array):
            raise Fault("changed", f"reading call {which} of {name}")
    component.finalize()
    return Outcome("right", "")


def _aliased(component: BmiCdlm, array: object) -> bool:
    return isinstance(array, np.ndarray) and np.shares_memory(array, component.get_value_ptr(P))


CLASSES: dict[str, tuple[str, Work, int]] = {
    "configurations": ("run", configurations, 18),
    "HDF5 bytes": ("run", hdf5_bytes, 14),
    "classic NetCDF bytes": ("classic", hdf5_bytes, 8),
    "NetCDF structure": ("run", netcdf_structure, 14),
    "outputs and observations": ("evaluate", evaluated_bytes, 5),
    "checkpoints": ("checkpoint", checkpoints, 8),
    "states in files": ("state", states_in_a_file, 6),
    "states as bytes": ("state", states_as_bytes, 6),
    "resume": ("resume", resumed, 6),
    "kernel cache": ("kernels", kernels, 2),
    "rasters": ("prepare", rasters, 3),
    "tables": ("prepare", tables, 3),
    "preparations": ("prepare", preparations, 3),
    "command lines": ("run", command_lines, 4),
    "BMI calls": ("state", bmi_calls, 4),
}
"""Of each class: the case it starts from, the work, and its share."""
assert GAUGE_Q
