"""Shared fixtures, and what is left out without the compiler."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numba
import pytest
from hypothesis import settings
from process_cases import restored

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
INTERPRETED = bool(numba.config.DISABLE_JIT)

settings.register_profile("compiled", deadline=None, derandomize=True, max_examples=100, database=None)
settings.register_profile("interpreted", deadline=None, derandomize=True, max_examples=15, database=None)
settings.load_profile("interpreted" if INTERPRETED else "compiled")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if INTERPRETED:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow without the compiler (NUMBA_DISABLE_JIT=1)"))


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
