"""Pins for all that the project installs, as pip resolves it: `make lock` writes three files beside constraints.txt.

constraints.lock         the newest versions that constraints.txt allows
constraints-cuda.lock    what the GPU extras add; apart, since torch's CUDA builds ask for their own versions of that
constraints-oldest.lock  the lower bounds in pyproject.toml, and the newest of what these need

Versions depend little on Python's, but what only another Python needs is missing. torch is that of constraints.txt
everywhere: older builds for CUDA would be gigabytes. Local parts of versions (torch's `+cpu`) are left out.

`lock.py differences LOCK` lists the packages of LOCK of which constraints.txt alone brings another version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Those of the project itself (hatchling, for editable installs too) and of the packages that have no wheels.
BUILD = ("hatchling", "editables", "setuptools", "wheel")
GPU = ("gpu", "gpu-cu13")
# hydro-smash asks for newer packages than preparing does, and GRIB's libraries crash fiona, by which older geopandas
# writes; their tests are skipped where they are absent. Site and wheel are made with new tools only.
NOT_OLDEST = (*GPU, "peers", "examples", "grib", "docs", "release")
# A development tool has no oldest version that matters; one torch for all.
ANY_VERSION = ("torch", "ruff", "mypy", "import-linter", "types-pyyaml")


def project() -> dict[str, list[str]]:
    """Requirements as pyproject.toml has them, per extra; the core's under ''."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def normalized(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lower_bounds() -> dict[str, str]:
    """Lower bound per package that pyproject.toml names, of the extras that the oldest versions are tested with."""
    found = {}
    for extra, requirements in project().items():
        if extra in NOT_OLDEST:
            continue
        for text in requirements:
            match = re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", text)
            if match and normalized(match[1]) not in ANY_VERSION:
                found[normalized(match[1])] = match[2]
    return found


def read_pins(path: Path) -> dict[str, str]:
    """Version per package of a lock."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line)


def resolve(extras: Iterable[str], *constraints: Path) -> dict[str, str]:
    """Version per package that pip would install into an empty environment."""
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", "-",
        *(word for path in constraints for word in ("-c", str(path))), *BUILD, f"{ROOT}[{','.join(extras)}]",
    ]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = {p["metadata"]["name"]: p["metadata"]["version"] for p in json.loads(answer)["install"]}
    return {normalized(name): version.partition("+")[0] for name, version in found.items() if name != "bmi-cdlm"}


def write(path: Path, pins: dict[str, str], what: str) -> None:
    """Write a lock."""
    version = ".".join(map(str, sys.version_info[:2]))
    head = f"# {what}. Written by `make lock` on Python {version}; not to be edited.\n"
    path.write_text(head + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)), encoding="utf-8")


def lock() -> None:
    """Write the three files."""
    extras = [extra for extra in project() if extra]
    chosen, own = ROOT / "constraints.txt", ROOT / "constraints.lock"
    pins = resolve((e for e in extras if e not in GPU), chosen)
    write(own, pins, "Versions that `make` and CI install")
    added = {name: v for name, v in resolve(extras, own).items() if name not in pins}
    write(ROOT / "constraints-cuda.lock", added, "What the GPU extras add to constraints.lock")
    oldest = ROOT / "constraints-oldest.lock"
    torch = next(line for line in chosen.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
    write(oldest, {**lower_bounds(), "torch": torch.removeprefix("torch==")}, "Lower bounds")
    pins = resolve((e for e in extras if e not in NOT_OLDEST), oldest)
    write(oldest, pins, "The oldest versions that pyproject.toml allows, and the newest of what these need")


def differences(path: Path) -> None:
    """Print `package locked newest` for every package that constraints.txt alone brings in another version."""
    locked = read_pins(path)
    extras = (extra for extra in project() if extra and extra not in (*GPU, "peers"))
    newest = resolve(extras, ROOT / "constraints.txt")
    for name, version in sorted(newest.items()):
        if locked.get(name) != version:
            print(name, locked.get(name, "-"), version)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:2] == ["differences"]:
        differences(Path(sys.argv[2]))
    else:
        lock()
