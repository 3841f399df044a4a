"""Pages that the code writes: reference, processes, command line, errors; and texts that stand elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pages.command_line import command_pages
from pages.errors import error_page
from pages.licences import licence_page
from pages.processes import process_pages
from pages.reference import reference_pages
from pages.taken import taken_pages


def all_pages() -> Iterator[tuple[str, str]]:
    """Names, without suffix, and texts of all pages."""
    yield from reference_pages()
    yield from command_pages()
    yield error_page()
    yield from process_pages()
    yield licence_page()
    yield from taken_pages()


def write_all(folder: Path) -> None:
    """Write every page anew; those that no code writes any more are gone."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in all_pages():
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
