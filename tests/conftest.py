"""Shared fixtures, and what is left out without the compiler."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numba
import pytest
from hypothesis import settings
from process_cases import restored

TESTS = Path(__file__).resolve().parent
BENCHMARKS = TESTS.parent / "benchmarks"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
INTERPRETED = bool(numba.config.DISABLE_JIT)

settings.register_profile("compiled", deadline=None, derandomize=True, max_examples=100, database=None)
settings.register_profile("interpreted", deadline=None, derandomize=True, max_examples=15, database=None)
settings.load_profile("interpreted" if INTERPRETED else "compiled")


LONGEST = (
    "model/test_operators.py", "kernels/test_launch.py", "test_digests.py", "test_benchmarks.py",
    "training/test_distributed.py", "training/experiment/test_jobs.py", "training/test_saved_state.py",
    "training/test_demand.py", "training/test_loop.py", "training/experiment/test_honesty.py",
    "training/test_lstm.py", "training/test_simulate.py", "kernels/test_cuda.py", "training/test_device.py",
    "processes/test_own_process.py", "kernels/test_cache.py", "bmi/test_compilation.py", "run/test_resume.py",
    "run/test_distributed.py", "bmi/test_container.py",
)
"""Files that take longest: processes that share files out begin with them, so that none is alone with one at the end.
The order is all that this changes.
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first. Without the compiler nothing that is slow, and of what is tested with many parameters each
    value of each once."""
    if INTERPRETED:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow without the compiler (NUMBA_DISABLE_JIT=1)"))
        if not config.getoption("--every-case"):
            kept = each_value_once(items)
            config.hook.pytest_deselected(items=[item for item in items if item not in kept])
            items[:] = [item for item in items if item in kept]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {TESTS / name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path, len(place)), item.path not in slow))


def pytest_collection_finish() -> None:
    """What is there now stays: the collector of garbage need not go through it while kernels are compiled."""
    gc.collect()
    gc.freeze()


def each_value_once(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """Of every test those cases, in their order, that have a value which no case before them has.

    A product of 2 steps, 3 kinds of snow and 6 sets of keys is then 9 cases in place of 36. The compiled run has them
    all; what the interpreter could do otherwise, it does by process, operator, precision or thread, not by their pairs.
    """
    seen: set[tuple] = set()
    kept = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        spec = getattr(item, "callspec", None)
        values = [(name, spelled(value)) for name, value in spec.params.items()] if spec is not None else []
        fresh = {(test, *value) for value in values} - seen
        if fresh or not values:
            kept.add(item)
        seen |= fresh
    return kept


def spelled(value: object) -> object:
    """What tells a value of a parameter from others: itself, or its text where it cannot be looked up."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return type(value), value


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-case", action="store_true",
                     help="without the compiler, too, every combination of parameters")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The adjoint contract as tables: what the dot tests found at most, and which gradients `gradcheck` confirmed."""
    worst: dict[str, float] = {}
    checked = []
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        if report.when != "call":
            continue
        name = re.sub(r"-\d+\]$", "]", report.nodeid.removeprefix("tests/"))
        for key, value in report.user_properties:
            if key == "dot_error":
                worst[name] = max(worst.get(name, 0.0), value)
        if "gradcheck" in name:
            checked.append(f"{report.outcome}  {name}")
    if worst:
        terminalreporter.section("dot tests: largest difference of <J u, v> and <u, J^T v>, relative")
        for name, value in worst.items():
            terminalreporter.line(f"{value:8.1e}  {name}")
    if checked:
        terminalreporter.section("torch.autograd.gradcheck, float64")
        for line in checked:
            terminalreporter.line(line)


@pytest.fixture(autouse=True, scope="module")
def registries_as_they_were() -> Iterator[None]:
    """A file of tests that lists or runs processes of other packages leaves none of them to the next."""
    with restored():
        yield


@pytest.fixture(autouse=True)
def every_job_is_worth_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small cases really run on several threads, where a test asks for them."""
    monkeypatch.setattr("bmi_cdlm.kernels.workers.WORTH_A_THREAD", 0)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a benchmark by its name as a script in its folder would see it, with the others of the folder anew."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = [path.stem for path in BENCHMARKS.rglob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


PREPARE = """
import json, sys
from bmi_cdlm.cli import main
main(["prepare", sys.argv[1], "--to", sys.argv[2]], standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a real basin of cfg/, prepared by the command once for all tests of all processes: to be read, or
    copied. `modules.json` has the names of what the command had imported.
    """
    for package in ("smash", "rasterio", "pyproj", "pyflwdir"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package}, of which the real basins are made, is not installed")
    filelock = pytest.importorskip("filelock")
    here = tmp_path_factory.getbasetemp()
    base = here.parent if os.environ.get("PYTEST_XDIST_WORKER") else here

    def prepare(name: str) -> Path:
        folder = base / f"prepared_{name}"
        with filelock.FileLock(f"{folder}.lock"):
            if not (folder / "modules.json").is_file():
                run = subprocess.run(
                    [sys.executable, "-c", PREPARE, name, str(folder)], cwd=TESTS.parent, capture_output=True,
                    text=True, check=False,
                )
                assert run.returncode == 0, run.stdout + run.stderr
                (folder / "modules.json").write_text(run.stdout.splitlines()[-1], encoding="utf-8")
        return folder

    return prepare


@pytest.fixture(scope="session")
def shared_path() -> Callable[[str], Path]:
    """Path of a reference file beside the project; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"reference file {path} is not there")
        return path

    return find


@pytest.fixture
def kernel_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty folder of compiled kernels of this process and of those it starts."""
    from bmi_cdlm.kernels.cache import cache_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache_folder.cache_clear()
    yield tmp_path / "cache" / "bmi_cdlm" / "kernels"
    cache_folder.cache_clear()
