"""Pages read back without a browser: their data, decoded by other means than those that wrote them."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmi_cdlm.pictures import page

KINDS = {"f4": "<f4", "f8": "<f8", "u1": "<u1", "u2": "<u2", "i4": "<i4"}
FOLDER = Path(page.__file__).parent
ALONE = {"meta", "br", "input", "link", "img", "hr"}


class Tags(HTMLParser):
    """Checks that tags close as they opened, and collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ALONE:
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def read_page(path: Path) -> tuple[Tags, dict[str, Any]]:
    """The tags of a page that is whole and loads nothing, and its data."""
    text = path.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not tags.open and not tags.loads and "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\(", text)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return tags, json.loads(found.group(1))


def decode(found: dict[str, Any]) -> np.ndarray:
    """An array of a page."""
    raw = zlib.decompress(base64.b64decode(found["bytes"]))
    values = np.frombuffer(raw, KINDS[found["array"]]).reshape(found["shape"])
    return np.cumsum(values, axis=0, dtype=values.dtype) if found.get("changes") else values


def run_scripts(names: tuple[str, ...], script: str) -> Any:
    """What a script prints as JSON, run by node after some of the scripts of a page."""
    text = "".join((FOLDER / name).read_text() for name in names) + script
    done = subprocess.run(["node", "-e", text], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the scripts of a page")
