"""YAML as it is written here, whatever other packages teach PyYAML's own dumpers: keys in their order."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.representer import SafeRepresenter
from yaml.resolver import Resolver


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper with tables of its own: packages (pymt's among them) put others into SafeDumper."""


_Dumper.yaml_representers = dict(SafeRepresenter.yaml_representers)
_Dumper.yaml_multi_representers = dict(SafeRepresenter.yaml_multi_representers)
_Dumper.yaml_implicit_resolvers = {first: list(found) for first, found in Resolver.yaml_implicit_resolvers.items()}


def dump_yaml(content: Any, width: int = 80) -> str:
    """Return plain values as YAML."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=width))
