"""What something that was trained hangs on, as text beside it, by which it is known again, also after an update."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel


class Keys(NamedTuple):
    """Keys of a configuration: all that count, and those of them that are not at their defaults."""

    whole: dict[str, Any]
    set_apart: dict[str, Any]


def keys_of(config: BaseModel, *, include: set[str] | None = None, exclude: Any = None) -> Keys:
    """The keys of a configuration that count, as JSON has them."""
    return Keys(*(
        config.model_dump(mode="json", include=include, exclude=exclude, exclude_defaults=one) for one in (False, True)
    ))


class Identity(NamedTuple):
    """What a result hangs on, by name in an order that stays; set_apart : the same without keys at their defaults."""

    content: dict[str, Any]
    set_apart: dict[str, Any]

    def text(self) -> str:
        """As it is kept beside the result."""
        return json.dumps(list(self.content.values()))

    def unlike(self, kept: str) -> list[str]:
        """Names of what was other where a `text` was kept, `training.epochs` say; none where nothing was.

        A key that an earlier version did not have was at its default.
        """
        try:
            saved = dict(zip(self.content, json.loads(kept), strict=True))
        except (ValueError, TypeError):
            return list(self.content)
        return _unlike(saved, self.content, self.set_apart)


def identify(**parts: Any) -> Identity:
    """The identity made of parts by name, `Keys` or whatever JSON can write."""
    whole = {name: part.whole if isinstance(part, Keys) else part for name, part in parts.items()}
    set_apart = {name: part.set_apart if isinstance(part, Keys) else part for name, part in parts.items()}
    return Identity(*(json.loads(json.dumps(one)) for one in (whole, set_apart)))  # as it will be read again


def _unlike(
    saved: Mapping[str, Any], now: Mapping[str, Any], set_apart: Mapping[str, Any], within: str = ""
) -> list[str]:
    found = []
    for key in dict.fromkeys((*now, *saved)):
        name = f"{within}.{key}" if within else key
        if key not in saved:
            found += [name] if key in set_apart else []
        elif key not in now:
            found.append(name)
        elif isinstance(saved[key], dict) and isinstance(now[key], dict):
            found += _unlike(saved[key], now[key], set_apart.get(key) or {}, name)
        elif saved[key] != now[key]:
            found.append(name)
    return found
