"""YAML as it is written here, whatever other packages teach PyYAML's own dumpers: keys in their order."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml
from yaml.representer import SafeRepresenter
from yaml.resolver import Resolver


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper with tables of its own: packages (pymt's among them) put others into SafeDumper."""

    yaml_representers: ClassVar = dict(SafeRepresenter.yaml_representers)
    yaml_multi_representers: ClassVar = dict(SafeRepresenter.yaml_multi_representers)
    yaml_implicit_resolvers: ClassVar = {first: list(found) for first, found in Resolver.yaml_implicit_resolvers.items()}


def dump_yaml(content: Any, width: int = 80) -> str:
    """Return plain values as YAML."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=width))
