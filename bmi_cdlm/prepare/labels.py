"""Words for the files of a preparation: titles, sources, licences."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

from bmi_cdlm.prepare.config import PrepareConfig
from bmi_cdlm.prepare.network.domain_file import Labels
from bmi_cdlm.prepare.packages import PACKAGE


def labels_of(config: PrepareConfig, path: Path) -> Labels:
    """Words for the files of a preparation: what the configuration says, and packages that gave rasters."""
    used = sorted({text.removeprefix(PACKAGE).partition("/")[0] for text in _texts(config.model_dump()) if
                   text.startswith(PACKAGE)})
    packages = importlib.metadata.packages_distributions() if used else {}
    versions = [
        f"{name} "
        f"{importlib.metadata.version(name)}" for module in used for name in sorted(set(packages.get(module, [])))
    ]
    return Labels(config.title or path.stem, "; ".join(t for t in (config.origin, *versions) if t), config.license)


def _texts(value: object) -> Iterator[str]:
    """Every text anywhere in nested keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _texts(inner)


def titled(labels: Labels, what: str) -> Labels:
    """The words for one of the files."""
    return labels._replace(title=f"{labels.title}: {what}")


def words_of(labels: Labels) -> dict[str, str]:
    """Global attributes, those that say nothing left out."""
    words = {"title": labels.title, "source": labels.source, "license": labels.license, **labels.notes}
    return {key: value for key, value in words.items() if value}
