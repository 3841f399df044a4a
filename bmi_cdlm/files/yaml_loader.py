"""The one way in which YAML is read: safely, within limits, with errors that say where.

A text is gone through as events first, which takes no more memory than itself: size, depth and what its aliases would
grow to are limited before anything is built. What was read of a text is kept, for the many instances of one host.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from bmi_cdlm.files.yaml_scalars import as_written
from bmi_cdlm.names.errors import CdlmError, shown
from bmi_cdlm.names.writing import check_path

LARGEST = 16 * 2**20
"""Bytes of a file: a list of a million ids, but no film."""
DEEPEST = 50
MOST_VALUES = 4_000_000
"""Values that a file may hold, every alias counted as what it stands for."""
MOST_ALIASED = 10_000
"""Values that all aliases together may stand for."""
LONGEST_KEPT = 100_000
"""Letters of a text whose content is kept."""
MERGE = "tag:yaml.org,2002:merge"
Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@as_written
class Loader(Parser):  # type: ignore[misc, valid-type]
    """PyYAML's safe loader, in C where there is one; a key given twice is an error, as YAML has it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping; a merged one (`<<`) may be overridden."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{shown(key.value)}' is given twice, first in line {seen[key.value]}. Leave one",
                    key.start_mark,
                )
            seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value; one that its tag or form promises and its text does not keep is an error with its place."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError, TypeError, AttributeError, KeyError, IndexError) as cause:
            text = node.value if isinstance(node.value, str) else node.tag
            raise yaml.constructor.ConstructorError(
                None, None, f"'{shown(text)}' is no {node.tag.rpartition(':')[2]} ({shown(str(cause))})",
                node.start_mark,
            ) from cause


def load_yaml(path: Path, error: type[CdlmError], what: str = "a YAML configuration file") -> Any:
    """Return what a YAML file holds: dicts, lists, texts, numbers.

    Raises
    ------
    error
        The file is missing, no UTF-8, too large or too deep, or no YAML; a key is given twice.
    """
    check_path(path, error)
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise error(f"{path}: has more than {LARGEST // 2**20} MiB. Expected {what}.")
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: cannot be read ({cause}). Expected {what}.") from cause
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, where: str, error: type[CdlmError]) -> Any:
    """Return what a YAML text holds; see `load_yaml`."""
    try:
        return _copy(_parse(text)) if len(text) <= LONGEST_KEPT else _parse.__wrapped__(text)
    except (yaml.YAMLError, _TooMuchError) as cause:
        said = " ".join(str(cause).replace('in "<unicode string>", ', "in ").split())
        raise error(f"{where}: is not valid YAML: {shown(said, 400)}") from cause
    except (RecursionError, MemoryError) as cause:
        kind = type(cause).__name__
        raise error(f"{where}: cannot be read as YAML ({kind}). Expected plain keys and values.") from cause


class _TooMuchError(Exception):
    """A text goes beyond a limit."""


@lru_cache(maxsize=8)
def _parse(text: str) -> Any:
    _check_limits(text)
    return yaml.load(text, Loader)


def _check_limits(text: str) -> None:
    """Go through the text as events, and count."""
    open_at: list[tuple[str | None, int]] = []  # anchor, and the count where it began
    sizes: dict[str, int] = {}
    count = aliased = 0
    reader = Parser(text)
    try:
        while (event := reader.get_event()) is not None:
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in sizes:
                    name = shown(event.anchor)
                    raise _TooMuchError(f"the alias '*{name}' stands for itself or for nothing{_at(event)}")
                aliased += sizes[event.anchor]
                count += sizes[event.anchor]
            elif isinstance(event, yaml.ScalarEvent):
                count += 1
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                open_at.append((event.anchor, count))
                sizes.pop(event.anchor or "", None)
                count += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, began = open_at.pop()
                if anchor is not None:
                    sizes[anchor] = count - began
            if len(open_at) > DEEPEST:
                raise _TooMuchError(f"is nested deeper than {DEEPEST} levels{_at(event)}")
            if aliased > MOST_ALIASED or count > MOST_VALUES:
                raise _TooMuchError(
                    f"holds more than {MOST_VALUES if count > MOST_VALUES else MOST_ALIASED} values"
                    f"{'' if count > MOST_VALUES else ' by aliases'}{_at(event)}"
                )
    finally:
        reader.dispose()


def _at(event: yaml.Event) -> str:
    return "" if event.start_mark is None else f" in line {event.start_mark.line + 1}"


def _copy(value: Any) -> Any:
    """The same dicts and lists, made anew: what is kept stays as it was read."""
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value
