"""YAML that is written is the same beside packages that change PyYAML for all."""

from __future__ import annotations

import yaml

from bmi_cdlm.files.yaml_dumper import dump_yaml

CONTENT = {"b": 1, "a": ["2001-01-01", "x\ny"], "on": True, "c": {"z": None, "y": 0.5}}


def test_what_others_teach_the_dumper_changes_nothing(monkeypatch):
    before = dump_yaml(CONTENT)
    read = yaml.safe_load(before)
    assert list(read) == ["b", "a", "on", "c"] and read["a"] == ["2001-01-01", "x\ny"] and read == CONTENT
    monkeypatch.setattr(yaml.SafeDumper, "yaml_representers", dict(yaml.SafeDumper.yaml_representers))
    yaml.add_representer(dict, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", sorted(
        value.items(), key=str)), Dumper=yaml.SafeDumper)
    yaml.add_representer(str, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|"),
                         Dumper=yaml.SafeDumper)
    assert dump_yaml(CONTENT) == before != yaml.safe_dump(CONTENT, sort_keys=False)
