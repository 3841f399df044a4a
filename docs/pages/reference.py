"""The reference that `cdlm reference` renders, a page per part; and the keys of a training."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bmi_cdlm.reference import render
from cdlm_training import reference as training

PLACES = {
    "Configuration keys": "configuration", "Keys of `prepare`": "prepare", "Files": "files",
    "Formulas of potential evapotranspiration": "pet", "Variables": "variables", "Parameters": "parameters",
    "Scores": "scores",
}
"""Names of pages by the headings of the reference."""


def parts(text: str) -> dict[str, str]:
    """What stands below each heading of the second level, with the heading as that of a page."""
    found = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {
        title: f"# {title}\n{re.sub('^###', '##', body, flags=re.MULTILINE)}"
        for title, body in zip(found[1::2], found[2::2], strict=True)
    }


def reference_pages() -> Iterator[tuple[str, str]]:
    """A page per part; a part that has no name yet gets one of its heading."""
    for title, text in parts(render()).items():
        yield f"reference/{PLACES.get(title, slug(title))}", text
    keys = [text for title, text in parts(training.render()).items() if title.startswith("Keys")]
    head = "# Keys of `training` and `experiment`\n\n`training` is a key of a configuration, `experiment` another.\n\n"
    yield "reference/training", head + "\n".join(text.replace("# ", "## ", 1) for text in keys)


def slug(title: str) -> str:
    """A heading as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
