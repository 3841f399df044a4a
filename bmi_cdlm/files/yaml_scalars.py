"""Which plain words of YAML are numbers, truths or nothing: the core rules of YAML 1.2, all others are text as written.

YAML 1.1, PyYAML's own, takes 010 for eight, 12:30 for 750, NO for false and 2001-02-29 for a date that it cannot make.
Narrower than YAML 1.2 in one thing: digits that begin with a zero, such as the gauge 01547700, are text.
"""

from __future__ import annotations

import re
from typing import TypeVar

import yaml

PLAIN = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "merge": (r"<<", "<"),
}
"""Kind: what it looks like, and the letters that it begins with."""
Loader = TypeVar("Loader", bound=type[yaml.resolver.BaseResolver])


def as_written(loader: Loader) -> Loader:
    """Give a loader of PyYAML these rules in place of its own; a decorator."""
    loader.yaml_implicit_resolvers = {}
    for kind, (form, first) in PLAIN.items():
        loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{form})$"), list(first))
    return loader
