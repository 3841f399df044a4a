"""Runs the pages of the site, and the README: every file that a page shows is written, every command is executed.

    python docs/run.py [--long] [--list] [PAGE ...]

A page runs in a folder of its own, `build/docs/NAME`, or in that of the page that it continues. What counts:

    ```{code-block} yaml          a file that is written; the caption is its name
    :caption: basin.yaml          (in the README, whose readers know no captions: a first line `# file: basin.yaml`)
    ```sh                         commands, run by bash, which must not fail
    ```python                     a script, which must not fail

Blocks of other kinds (`console`, `text`, `yaml` without a caption) are for the eye. Comments say the rest:

    <!-- continues: start/own_basin -->           runs in the folder of that page, after it
    <!-- long -->                                 with --long only
    <!-- needs: torch smash -->                   left out, with a note, where a module is missing
    <!-- files: cfg/lez.yaml examples/x.py -->    files of the repository that the page's reader has: put there
    <!-- picture: basin/map.png -> lez_map.png --> what the page made becomes docs/pictures/lez_map.png
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BUILD = ROOT / "build" / "docs"
BLOCK = re.compile(r"^(`{3,})(\{code-block\} *)?(\w+)\n(?::caption: *(\S+)\n(?::\w+:.*\n)*\n?)?(.*?)^\1$",
                   re.MULTILINE | re.DOTALL)
WIDEST, HIGHEST = 1300, 1000
COMMENT = re.compile(r"<!-- (continues|needs|files|picture|long)(?:: *(.*?))? -->")


class Page(NamedTuple):
    """A page: its name, blocks (kind, file name or None, text) and comments."""

    name: str
    blocks: list[tuple[str, str | None, str]]
    notes: dict[str, list[str]]


def read(path: Path) -> Page:
    """Read what of a page is run."""
    text = path.read_text(encoding="utf-8")
    notes: dict[str, list[str]] = {}
    for kind, value in COMMENT.findall(text):
        notes.setdefault(kind, []).append(value)
    blocks = []
    for _, directive, kind, caption, body in BLOCK.findall(text):
        named = caption or next(iter(re.findall(r"\A# file: (\S+)\n", body)), None)
        if named or (not directive and kind in ("sh", "python")):
            blocks.append((kind, named, body))
    name = path.relative_to(DOCS).with_suffix("") if path.is_relative_to(DOCS) else path.stem
    return Page(str(name), blocks, notes)


def all_pages() -> dict[str, Page]:
    """Pages with something to run, by name; the README first."""
    paths = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    pages = [read(path) for path in paths if "generated" not in path.parts]
    return {page.name: page for page in pages if page.blocks}


def folder_of(page: Page, pages: dict[str, Page]) -> Path:
    """Where a page runs."""
    while "continues" in page.notes:
        page = pages[page.notes["continues"][0]]
    return BUILD / page.name


def run(page: Page, pages: dict[str, Page]) -> None:
    """Run a page; CalledProcessError where a command of it fails."""
    folder = folder_of(page, pages)
    if "continues" not in page.notes:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in " ".join(page.notes.get("files", [])).split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(ROOT / name, folder / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for kind, caption, text in page.blocks:
        if caption is not None:
            (folder / caption).parent.mkdir(parents=True, exist_ok=True)
            (folder / caption).write_text(text, encoding="utf-8")
            continue
        command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        subprocess.run(command, cwd=folder, env=environment, check=True)
    for note in page.notes.get("picture", []):
        made, _, name = note.partition(" -> ")
        shrink(folder / made, DOCS / "pictures" / name)


def shrink(source: Path, target: Path) -> None:
    """Keep a picture as a repository and a page can bear it: at most WIDEST pixels wide, in few colours."""
    from PIL import Image

    with Image.open(source) as picture:
        scale = min(1.0, WIDEST / picture.width, HIGHEST / picture.height)
        size = (round(picture.width * scale), round(picture.height * scale))
        made = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(64, dither=Image.Dither.NONE)
        made.save(target, optimize=True)


def chosen(pages: dict[str, Page], names: list[str], *, long: bool) -> list[Page]:
    """Pages to run, those that others continue first."""
    found: list[Page] = []
    for name in names or [n for n, page in pages.items() if long or "long" not in page.notes]:
        line = [pages[name]]
        while "continues" in line[0].notes:
            line.insert(0, pages[line[0].notes["continues"][0]])
        found += [page for page in line if page not in found]
    return found


def main(arguments: list[str]) -> int:
    """Run the pages that are asked for; the exit status is the number of those that fail."""
    pages = all_pages()
    wanted = chosen(pages, [a for a in arguments if not a.startswith("--")], long="--long" in arguments)
    failed = []
    for page in wanted:
        needs = " ".join(page.notes.get("needs", [])).split()
        missing = [module for module in needs if importlib.util.find_spec(module) is None]
        if missing or "--list" in arguments:
            print(f"{page.name}: {'not run, without ' + ', '.join(missing) if missing else len(page.blocks)}")
            continue
        print(f"== {page.name}", flush=True)
        began = time.perf_counter()
        try:
            run(page, pages)
        except subprocess.CalledProcessError as error:
            failed.append(page.name)
            print(f"FAILED: {page.name}, code {error.returncode}", flush=True)
        print(f"== {page.name}: {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{len(wanted)} pages, failed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
