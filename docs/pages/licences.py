"""The licences of what the package needs, as the packages themselves state them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("", "plot", "prepare", "train", "zarr", "grib", "distributed", "coupling", "examples", "gpu")
NAME = re.compile(r"[\w.-]+")
LONGEST = 60


def licence_page() -> tuple[str, str]:
    """The page: what each extra brings, directly and by what that needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    lines = [
        "# Licences of dependencies", "",
        "bmi_cdlm is under the MIT licence. What it needs at run time, and what the extras add, directly or because a "
        "package asks for it, states these licences of itself, in the versions that this page was made with. Of the "
        "demo's hydro-smash (GPL) rasters and tables are read: nothing of it is imported or shipped. hydrodl2 (extra "
        "`peers`, for benchmarks) is free for non-commercial use only.", "",
    ]
    seen: set[str] = set()
    for extra in SHOWN:
        found = sorted(set(closure(NAME.match(text)[0] for text in asked[extra])) - seen)  # type: ignore[index]
        seen |= set(found)
        if found:
            lines += [f"## {'At run time' if not extra else f'Extra {extra}'}", "", "| package | version | licence |",
                      "|---|---|---|", *(row(name) for name in found), ""]
    return "develop/licences", "\n".join(lines)


def closure(names: Iterator[str]) -> Iterator[str]:
    """These packages and those that they need here, under their normal names."""
    seen, waiting = set(), [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in seen or name == "bmi-cdlm":
            continue
        seen.add(name)
        yield name
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        waiting += [normal(NAME.match(text)[0]) for text in needed if ";" not in text]  # type: ignore[index]


def normal(name: str) -> str:
    """A name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def row(name: str) -> str:
    """Name, version, licence."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return f"| {name} | not installed here | |"
    classified = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = told.get("License-Expression") or (told.get("License") or "").strip().partition("\n")[0]
    best = stated if 0 < len(stated) <= LONGEST else ", ".join(classified) or stated[:LONGEST] or "not stated"
    return f"| {name} | {told['Version']} | {best} |"
