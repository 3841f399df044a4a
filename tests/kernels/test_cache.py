"""The disk cache of compiled kernels: safe with many processes at once, never stale, never in the way."""

from __future__ import annotations

import inspect
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from numba import config, njit, types
from numba.core.compiler import CompileResult

from bmi_cdlm.kernels import cache
from bmi_cdlm.kernels.graph import digest
from bmi_cdlm.kernels.launch import callee, compiled, new_root
from bmi_cdlm.kernels.loops import routing
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM

PACKAGE = Path(cache.__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is cached without the compiler")

# Four loops, small and quick to compile; the digest of what they give, then hits and misses of the cache.
JOB = """
import hashlib
import numpy as np
from bmi_cdlm.kernels.groups import Links, ReachSeries
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.prepared import fill_loops, ordinate_loops
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.kernels.loops.reaches import reach_loops
from bmi_cdlm.kernels.loops.routing import accumulate
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM
cells, reaches = CellPlan(GR4J), ReachPlan(MUSKINGUM)
step = cells.constant_group(1.0, 1.0, 0.04, 2.5)
fill_ordinates = ordinate_loops(GR4J.queues["unit_hydrograph_2"], step._fields).fill
fill_coefficients = fill_loops(MUSKINGUM.prepared[1], ("seconds",), ()).fill
collect_runoff = reach_loops(reaches, LINKS).collect
two, p = np.empty((6, 2)), np.empty((4, 3))
compiled(fill_ordinates)(np.array([2.5, 1.7]), step, two)
compiled(fill_coefficients)(
    np.array([0.0, 4000.0, 9e4]), np.array([0.2, 0.2, 0.4]), reaches.constant_group(3600.0), *p
)
lateral = np.empty((2, 4))
links = Links(np.array([0, 1, 3]), np.array([0, 0, 1]), np.array([1.0, 2.0, 0.5]))
compiled(collect_runoff)(links, np.ones((4, 2)), ReachSeries(lateral, np.arange(2), np.zeros(2)), 0, 2)
total = np.arange(5.0)
compiled(accumulate)(np.array([2, 2, 4, 4, -1]), total)
used = [compiled(f) for f in (fill_ordinates, fill_coefficients, collect_runoff, accumulate)]
digest = hashlib.sha256(b"".join(a.tobytes() for a in (two, p, lateral, total))).hexdigest()
print(digest, sum(sum(f.stats.cache_hits.values()) for f in used),
      sum(sum(f.stats.cache_misses.values()) for f in used), lateral[0, 0])
"""


@pytest.fixture
def copied(tmp_path) -> Path:
    """A copy of the package that nobody else edits, as a folder for PYTHONPATH."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "bmi_cdlm", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def start(path: Path) -> subprocess.Popen:
    """Run the job in a process of its own, with the package found at `path` and the cache of the environment."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", JOB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(path)}, cwd="/",
    )


def finish(process: subprocess.Popen) -> list[str]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert errors == ""
    return out.split()


def run_fresh() -> tuple[np.ndarray, object]:
    """Accumulate with kernels that this process has not compiled yet."""
    accumulate = new_root(routing.accumulate, np.float64)
    total = np.arange(5.0)
    accumulate(np.array([2, 2, 4, 4, -1]), total)
    assert total.tolist() == [0, 1, 3, 3, 10]
    return accumulate.stats


@pytest.mark.slow
def test_eight_processes_at_once_on_an_empty_folder(kernel_cache, copied):
    results = [finish(p) for p in [start(copied) for _ in range(8)]]
    assert len({digest for digest, *_ in results}) == 1
    files = {path.name: path.stat().st_mtime_ns for path in kernel_cache.iterdir()}
    assert len(files) == 4, "one file per loop, no temporary file left"
    digest, hits, misses, _ = finish(start(copied))
    assert (digest, int(hits), int(misses)) == (results[0][0], 4, 0)
    assert files == {path.name: path.stat().st_mtime_ns for path in kernel_cache.iterdir()}


@pytest.mark.slow
def test_an_edit_of_the_physics_is_seen_by_what_it_touches(kernel_cache, copied):
    """The same cache folder, the links' constant doubled: never the old machine code; undone: the old file again."""
    first = finish(start(copied))
    source = copied / "bmi_cdlm" / "processes" / "links.py"
    text = source.read_text()
    assert "0.011574074074074073" in text
    source.write_text(text.replace("0.011574074074074073", "0.023148148148148147"))
    edited = finish(start(copied))
    assert float(edited[3]) == 2 * float(first[3])
    assert edited[1:3] == ["3", "1"], "another than the loop over links was compiled again, or nothing"
    source.write_text(text)
    assert finish(start(copied))[:2] == [first[0], "4"]


def test_a_second_compilation_is_read_from_the_folder(kernel_cache):
    stats = run_fresh()
    assert (sum(stats.cache_hits.values()), sum(stats.cache_misses.values())) == (0, 1)
    [path] = kernel_cache.iterdir()
    assert path.name.startswith("accumulate-") and path.suffix == ".kernel"
    assert kernel_cache.stat().st_mode & 0o777 == 0o700
    stats = run_fresh()
    assert (sum(stats.cache_hits.values()), sum(stats.cache_misses.values())) == (1, 0)
    assert list(kernel_cache.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "another pickle"])
def test_a_file_that_cannot_be_read_is_compiled_again(kernel_cache, damage, caplog):
    run_fresh()
    [path] = kernel_cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes({
        "empty": b"", "garbage": b"not a pickle", "half": whole[: len(whole) // 2],
        "another pickle": b"\x80\x04N.",  # None
    }[damage])
    assert sum(run_fresh().cache_misses.values()) == 1
    assert "compiling again" in caplog.text
    assert sum(run_fresh().cache_hits.values()) == 1, "the bad file was not replaced"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_folder_that_others_can_write_is_not_used(kernel_cache, mode, above, caplog, monkeypatch, tmp_path):
    private = tmp_path / "temporary"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    kernel_cache.mkdir(parents=True)
    (kernel_cache, *kernel_cache.parents)[above].chmod(mode)
    assert cache.cache_folder() == cache.cache_folder() == private / f"bmi_cdlm-kernels-{os.getuid()}"
    assert caplog.text.count("other users") == 1
    run_fresh()
    assert not list(kernel_cache.iterdir()) and len(list(cache.cache_folder().iterdir())) == 1
    assert cache.cache_folder().stat().st_mode & 0o777 == 0o700


def test_a_private_folder_that_somebody_has_taken(kernel_cache, monkeypatch, tmp_path):
    """A link, or a folder that others write: a fresh one is made, for this process alone."""
    private = tmp_path / "temporary"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    taken = private / f"bmi_cdlm-kernels-{os.getuid()}"
    taken.symlink_to(tmp_path / "elsewhere")
    fresh = cache._private_folder()
    assert fresh.parent == private and fresh != taken and fresh.stat().st_mode & 0o777 == 0o700
    taken.unlink()
    taken.mkdir()
    taken.chmod(0o777)
    assert cache._private_folder() not in (taken, fresh)


def test_another_owner_is_not_trusted(kernel_cache, monkeypatch, caplog):
    run_fresh()
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # whose files these are not
    assert cache._unsafe(kernel_cache) == kernel_cache
    assert sum(run_fresh().cache_hits.values()) == 0
    assert "belongs to another user" in caplog.text


def test_a_planted_pickle_is_not_run(kernel_cache, tmp_path):
    """Content without our container, or with a digest that is not its own, never reaches pickle."""
    run_fresh()
    [path] = kernel_cache.iterdir()

    class Planted:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path.write_bytes(pickle.dumps(Planted()))
    assert sum(run_fresh().cache_misses.values()) == 1
    whole = path.read_bytes()
    path.write_bytes(whole[:80] + pickle.dumps(Planted()).ljust(len(whole) - 80, b"."))
    assert sum(run_fresh().cache_misses.values()) == 1
    assert not (tmp_path / "owned").exists()


def test_no_flipped_bit_is_unpickled(kernel_cache, monkeypatch):
    """Every byte of a file, one bit of it at a time, and every length, as far as the reader is concerned."""
    run_fresh()
    [path] = kernel_cache.iterdir()
    whole, rng, seen = path.read_bytes(), np.random.default_rng(1), []
    monkeypatch.setattr(pickle, "loads", lambda content: seen.append(content))
    monkeypatch.setattr(cache.log, "warning", lambda *_: None)
    places = (*range(200), *rng.integers(200, len(whole), 2000).tolist())
    for at in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
        assert cache._load(path, None) is None
        path.write_bytes(whole[:at])
        assert cache._load(path, None) is None
    assert not seen


def test_exchanged_files_are_compiled_again(kernel_cache, caplog):
    run_fresh()
    [path] = kernel_cache.iterdir()
    (kernel_cache / "route-0.kernel").write_bytes(path.read_bytes())
    assert cache._load(kernel_cache / "route-0.kernel", None) is None
    assert "that of another kernel" in caplog.text


LOCKED = """
import sys, time
from pathlib import Path
from bmi_cdlm.kernels.cache import Lock
Lock(Path(sys.argv[1])).acquire(lambda: False)
print("locked", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(cache.fcntl is None, reason="no locks here")
def test_a_lock_is_waited_for_and_ends_with_its_holder(kernel_cache, tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", LOCKED, str(path)], stdout=subprocess.PIPE, text=True, cwd="/",
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        monkeypatch.setattr(cache, "PATIENCE", 0.2)
        lock, began = cache.Lock(path), time.monotonic()
        lock.acquire(lambda: False)
        assert lock._handle is None and time.monotonic() - began > 0.2  # patience is over
        monkeypatch.setattr(cache, "PATIENCE", 60.0)
        lock.acquire(lambda: True)
        assert lock._handle is None  # what it was for is there
        threading.Timer(0.3, holder.kill).start()
        lock.acquire(lambda: False)
        assert lock._handle is not None  # the holder died
        lock.release()
    assert not path.exists()


def test_one_compiles_and_the_others_wait(copied, kernel_cache):
    """Of eight processes at once, every kernel is compiled by one; no lock is left."""
    found = [finish(p) for p in [start(copied) for _ in range(8)]]
    assert len({digest for digest, *_ in found}) == 1
    assert sum(int(misses) for _, _, misses, _ in found) == 4
    assert {p.suffix for p in kernel_cache.iterdir()} == {".kernel"}


def test_without_a_folder_kernels_are_compiled(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.cache_folder.cache_clear()
    assert cache.cache_folder() is None
    assert sum(run_fresh().cache_hits.values()) == 0
    cache.cache_folder.cache_clear()


class Codegen:
    processor = "cpu"

    def magic_tuple(self):
        return ("triple", self.processor, "features")


def path_of(function, dtype="float64", signature=(types.float64,)):
    return cache.KernelCache(function, dtype, lambda: None)._path(signature, Codegen())


def test_a_key_holds_function_precision_signature_and_compiler(kernel_cache, monkeypatch):
    f = routing.accumulate
    different = {
        path_of(f), path_of(routing.steady_flow), path_of(f, dtype="float32"), path_of(f, signature=(types.float32,)),
    }
    monkeypatch.setattr(Codegen, "processor", "another cpu")
    different.add(path_of(f))
    monkeypatch.setattr(cache, "compiler_digest", lambda: "another compiler")
    different.add(path_of(f))
    assert len(different) == 6 and all(p.parent == kernel_cache for p in different)


def functions(source: str) -> dict:
    names: dict = {}
    exec(compile(source, "<template>", "exec", dont_inherit=True), names)
    return names


def test_a_key_holds_what_a_function_comes_to_call(kernel_cache):
    source = "def step(v):\n    return v * 2.0\ndef row(v):\n    return step(v)\ndef other(v):\n    return v\n"
    before, same, after = map(functions, (source, source, source.replace("2.0", "2.5")))
    assert path_of(before["row"]) == path_of(same["row"]) != path_of(after["row"])
    assert path_of(before["other"]) == path_of(after["other"])
    assert path_of(before["row"]).name.startswith("row-")


def test_a_key_holds_the_fields_of_groups(kernel_cache):
    """The text of a signature has their types only: another order of the fields would be other machine code."""
    def signature(fields):
        return (types.NamedUniTuple(types.float64, 2, namedtuple("Pair", fields)),)

    f = routing.accumulate
    paths = {path_of(f, signature=signature(fields)) for fields in ("p q", "q p", "p q")}
    assert str(signature("p q")) == str(signature("q p")) and len(paths) == 2
    nested = [(types.Tuple([types.int64, *signature(fields)]),) for fields in ("p q", "q p")]
    assert len({path_of(f, signature=s) for s in nested}) == 2


TWO_OF_ONE_NAME = """
import sys
import numpy as np
from bmi_cdlm.kernels.launch import compiled
SOURCE = '''
def total_of(values, a):  # too large to go into its caller
    total = 0.0
    for i in range(values.size):
        if values[i] > 0.5:
            for k in range(5):
                total += values[i] * FACTOR + a
        values[i] = np.sqrt(np.abs(total)) * FACTOR
    return total
def row(values, a):
    total = 0.0
    for k in range(7):
        total += total_of(values[k:], a)
        total += total_of(values[1:], a + total)
        total += total_of(values[2:], a - total)
    return total
'''
same, hits = [], 0
for factor in sys.argv[1:]:
    names = {"np": np}
    exec(compile(SOURCE.replace("FACTOR", factor), "<template>", "exec"), names)
    kernel = compiled(names["row"])
    same.append(np.isclose(kernel(np.ones(9), 0.1), names["row"](np.ones(9), 0.1)))
    hits += sum(kernel.stats.cache_hits.values())
print(*same, hits)
"""


def test_two_functions_of_one_name_from_the_folder_stay_apart(kernel_cache):
    """Each compiled in a process of its own, where numba gives them the same number; then both read into one.

    By their plain names the second would run what the first calls.
    """
    def run(*factors):
        environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
        command = [sys.executable, "-c", TWO_OF_ONE_NAME, *factors]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()

    assert run("2.0") == ["True", "0"]
    assert run("3.0") == ["True", "0"]
    assert run("2.0", "3.0") == ["True", "True", "2"]


def test_the_interface_of_numba_that_the_cache_leans_on():
    """Not public in numba: where one of these goes, KernelCache no longer works as it is written."""
    assert inspect.signature(CompileResult._reduce).parameters.keys() == {"self"}
    parameters = list(inspect.signature(CompileResult._rebuild).parameters.values())
    assert parameters[0].name == "target_context"

    calls: list[str] = []

    class Recorder:
        cache_path = "nowhere"

        def load_overload(self, signature, target_context):
            assert hasattr(target_context, "refresh") and target_context.codegen().magic_tuple()
            calls.append(f"load {signature}")

        def save_overload(self, signature, result):
            assert isinstance(result, CompileResult) and result.codegen.magic_tuple()
            assert len(result._reduce()) == len(parameters) - 1
            calls.append(f"save {signature}")

    @njit
    def double(v):
        return 2.0 * v

    double._cache = Recorder()
    assert double(1.5) == 3.0
    assert calls == ["load (float64,)", "save (float64,)"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_asked_for_has_the_cache_and_what_it_calls_has_not(dtype):
    loops = reach_loops(ReachPlan(MUSKINGUM), LINKS)
    for function in (cell_loops(CellPlan(GR4J)).advance, loops.route, routing.gather_upstream):
        assert compiled(function, dtype)._cache._identity == (
            function.__name__, np.dtype(dtype).name, digest(function)
        )
    called = callee(loops.route, dtype).py_func.__globals__["route_range"]
    assert called is callee(loops.route_range, dtype) and not isinstance(called._cache, cache.KernelCache)
