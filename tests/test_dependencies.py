"""What is declared is what is imported, and what is pinned is what is declared."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Imported where an option asks for them, with the extra that brings them.
OPTIONAL = {"matplotlib": "plot", "zarr": "zarr", "distributed": "distributed", "scipy": "assimilate"}
# Imported, and brought by the package that they are a part of.
PARTS = {"llvmlite": "numba", "pydantic-core": "pydantic"}


@pytest.fixture(scope="module")
def lock():
    """The module that writes the locks."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".ci" / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(path: Path) -> set[str]:
    """Top-level modules that a source file imports anywhere, but for the sake of types."""
    found = set()
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
        nodes += ast.iter_child_nodes(node)
    return found


def names(lock, requirements) -> set[str]:
    return {lock.normalized(re.match(r"[\w.-]+", text)[0]) for text in requirements}


def test_the_core_dependencies_are_what_the_package_outside_prepare_imports(lock):
    package = ROOT / "bmi_cdlm"
    sources = [p for p in package.rglob("*.py") if "prepare" not in p.relative_to(package).parts]
    modules = set().union(*map(imported, sources)) - set(sys.stdlib_module_names) - {"bmi_cdlm", "cdlm_training"}
    distributions = packages_distributions()
    found = {lock.normalized(distributions[module][0]) for module in modules}
    declared = lock.project()
    assert set(OPTIONAL) < found
    for name, extra in OPTIONAL.items():
        assert name in names(lock, declared[extra])
    for name, whole in PARTS.items():
        assert name in names(lock, requires(whole))
    assert found - set(OPTIONAL) - set(PARTS) == names(lock, declared[""])


def test_the_package_without_the_extras(lock):
    hidden = set().union(*(names(lock, r) for extra, r in lock.project().items() if extra))
    hidden -= names(lock, lock.project()[""]) | {"bmi-cdlm"}
    modules = [m for m, found in packages_distributions().items() if lock.normalized(found[0]) in hidden]
    assert {"xarray", "torch", "matplotlib"} <= set(modules)
    script = f"""
import sys
sys.modules.update(dict.fromkeys({modules}))
import bmi_cdlm, bmi_cdlm.cli, bmi_cdlm.doctor, bmi_cdlm.evaluate, bmi_cdlm.run, bmi_cdlm.files
bmi_cdlm.BmiCdlm
bmi_cdlm.cli.main(["--help"])
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=120, stdout=subprocess.DEVNULL)


def test_the_lock_has_every_package_that_is_declared(lock):
    pins = lock.read_pins(ROOT / "constraints.lock")
    cuda = lock.read_pins(ROOT / "constraints-cuda.lock")
    declared = lock.project()
    everything = set().union(*(names(lock, requirements) for requirements in declared.values())) - {"bmi-cdlm"}
    assert everything <= set(pins) | set(cuda)
    assert not set(pins) & set(cuda)
    chosen = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    for name, version in (line.split("==") for line in chosen if "==" in line):
        assert pins[lock.normalized(name)] == version


def test_the_oldest_versions_are_the_lower_bounds(lock):
    def number(version):
        return tuple(map(int, version.split("."))) + (0,) * (4 - len(version.split(".")))

    pins = lock.read_pins(ROOT / "constraints-oldest.lock")
    for name, version in lock.lower_bounds().items():
        assert number(pins[name]) == number(version)
