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
from pathlib import Path

import numpy as np
import pytest
from numba import config, njit
from numba.core.compiler import CompileResult

from bmi_cdlm.kernels import cache
from bmi_cdlm.kernels.launch import LOOPS, compile_kernels, kernels

PACKAGE = Path(cache.__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is cached without the compiler")

# Four loops, small and quick to compile; the digest of what they give, then hits and misses of the cache.
JOB = """
import hashlib
import numpy as np
from bmi_cdlm.kernels.groups import Links, ReachParameters, ReachSeries
from bmi_cdlm.kernels.launch import kernels
k = kernels()
one, two = np.empty((3, 2)), np.empty((6, 2))
k.fill_ordinates(np.array([2.5, 1.7]), 2.5, one, two)
p = ReachParameters(*np.empty((4, 3)))
k.fill_coefficients(np.array([0.0, 4000.0, 9e4]), np.array([0.2, 0.2, 0.4]), 3600.0, p)
lateral = np.empty((2, 4))
links = Links(np.array([0, 1, 3]), np.array([0, 0, 1]), np.array([1.0, 2.0, 0.5]))
k.collect_runoff(links, np.ones((4, 2)), ReachSeries(lateral, np.arange(2), np.zeros(2)), 0, 2)
total = np.arange(5.0)
k.accumulate(np.array([2, 2, 4, 4, -1]), total)
used = [k.fill_ordinates, k.fill_coefficients, k.collect_runoff, k.accumulate]
digest = hashlib.sha256(b"".join(a.tobytes() for a in (one, two, *p, lateral, total))).hexdigest()
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
    accumulate = compile_kernels.__wrapped__(np.float64).accumulate
    total = np.arange(5.0)
    accumulate(np.array([2, 2, 4, 4, -1]), total)
    assert total.tolist() == [0, 1, 3, 3, 10]
    return accumulate.stats


@pytest.mark.slow
def test_sixteen_processes_at_once_on_an_empty_folder(kernel_cache, copied):
    results = [finish(p) for p in [start(copied) for _ in range(16)]]
    assert len({digest for digest, *_ in results}) == 1
    files = {path.name: path.stat().st_mtime_ns for path in kernel_cache.iterdir()}
    assert len(files) == 4, "one file per loop, no temporary file left"
    digest, hits, misses, _ = finish(start(copied))
    assert (digest, int(hits), int(misses)) == (results[0][0], 4, 0)
    assert files == {path.name: path.stat().st_mtime_ns for path in kernel_cache.iterdir()}


@pytest.mark.slow
def test_an_edit_of_the_physics_is_seen(kernel_cache, copied):
    """The same cache folder, the links' constant doubled: never the old machine code; undone: the old file again."""
    first = finish(start(copied))
    source = copied / "bmi_cdlm" / "processes" / "links.py"
    text = source.read_text()
    assert "0.011574074074074073" in text
    source.write_text(text.replace("0.011574074074074073", "0.023148148148148147"))
    edited = finish(start(copied))
    assert float(edited[3]) == 2 * float(first[3])
    assert edited[1] == "0", "a file of other sources was used"
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


def test_a_key_holds_function_precision_signature_and_sources(kernel_cache, monkeypatch):
    class Codegen:
        def magic_tuple(self):
            return ("triple", "cpu", "features")

    def path(name="route", dtype="float64", signature="(f8,)"):
        return cache.KernelCache(name, dtype)._path(signature, Codegen())

    different = {path(), path("accumulate"), path(dtype="float32"), path(signature="(f4,)")}
    monkeypatch.setattr(Codegen, "magic_tuple", lambda self: ("triple", "another cpu", "features"))
    different.add(path())
    monkeypatch.setattr(cache, "source_digest", lambda: "other sources")
    different.add(path())
    assert len(different) == 6 and all(p.parent == kernel_cache for p in different)


def test_the_digest_reads_every_kernel_source(monkeypatch):
    read: list[str] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self.name) or real(self))
    cache.source_digest.__wrapped__()
    assert set(read) == {p.name for p in (*(PACKAGE / "kernels").rglob("*.py"), *(PACKAGE / "processes").rglob("*.py"))}


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
def test_every_loop_has_the_cache(dtype):
    compiled = kernels(dtype)
    for function in LOOPS:
        ours = getattr(compiled, function.__name__)._cache
        assert ours._identity == (function.__name__, np.dtype(dtype).name)
