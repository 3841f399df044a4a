"""Texts that stand elsewhere in the repository and are pages here; links among them are mended, others become paths."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "generated"
TAKEN = {
    "CONTRIBUTING.md": "develop/contributing", "SECURITY.md": "develop/security", "CHANGELOG.md": "develop/changelog",
    "training/README.md": "training", "training/RESULTS.md": "measured/skill", "benchmarks/README.md": "measured/speed",
    "examples/nextgen/README.md": "nextgen", "examples/reservoir/README.md": "reservoir",
    "examples/own_process/README.md": "develop/own_process", "examples/erie.md": "erie",
}
ELSEWHERE = {"cfg/README.md": "reference/configuration", "README.md": "../index", "CITATION.cff": None}
BLOCKS = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def taken_pages() -> Iterator[tuple[str, str]]:
    """The pages, under their names here."""
    for source, name in TAKEN.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == "training/README.md":
            text = text.partition("\n## Keys\n")[0]  # the keys are a page of the reference
        if len(re.findall(r"^# ", text, re.MULTILINE)) > 1:
            text = "# Measured skill\n\n" + re.sub(r"^#", "##", text, flags=re.MULTILINE)
        yield name, "".join(mended_block(block, source, name) for block in BLOCKS.split(text))


def mended_block(block: str, source: str, name: str) -> str:
    """A part of a text with its links mended, but for code."""
    return block if block.startswith("```") else LINK.sub(lambda match: mended(match, source, name), block)


def mended(match: re.Match[str], source: str, name: str) -> str:
    """A link of a text of the repository, as one of the site."""
    picture, words, target = match.groups()
    if "://" in target or target.startswith(("#", "mailto:")):
        return match[0]
    path, _, anchor = target.partition("#")
    where = os.path.normpath(Path(source).parent / path)
    here = {**TAKEN, **ELSEWHERE}
    if picture or where.endswith(".png"):
        copied = GENERATED / "pictures" / Path(where).name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / where, copied)
        return f"![{words}]({relative(f'pictures/{copied.name}', name)})"
    if here.get(where) is None:
        if not (ROOT / where).exists():
            raise ValueError(f"{source}: the link {target} leads nowhere")
        return f"{words} (`{where}`)" if words != where else f"`{where}`"
    if where == "cfg/README.md" and anchor:
        pages = {"scores": "scores", "signatures": "scores"}
        return f"[{words}]({relative(f'reference/{pages[anchor]}.md', name)}#{anchor})"
    return f"[{words}]({relative(f'{here[where]}.md', name)}{'#' + anchor if anchor else ''})"


def relative(target: str, name: str) -> str:
    """A path below `generated` as seen from a page there."""
    return os.path.relpath(target, Path(name).parent)
