"""Reading YAML: within limits, with one error that says where."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmi_cdlm.files.yaml_loader import load_yaml, parse_yaml
from bmi_cdlm.names.errors import CdlmError, ConfigError, shown


def bomb(n: int) -> str:
    lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]']
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, n)]
    return "\n".join(lines)


@pytest.mark.parametrize(("text", "message"), [
    ("a: !!int abc", "'abc' is no int .*line 1"), ("a: !!float x", "'x' is no float"),
    ("a: " + "9" * 6000, "is no int"), ("a: !!bool maybe", "is no bool"),
    ("a: !!python/object:os.system x", "python/object"),
    ("a: [" * 60, "nested deeper than 50 levels in line 1"), ("[" * 100_000, "nest"),
    ("- " * 100_000, "line 1"), ("{a: " * 100_000, "nest"), ("? " * 99_999, "nested"),
    (bomb(9), "more than 10000 values by aliases in line"), (bomb(40), "more than 10000 values by aliases"),
    ("a: &a [*a]", "stands for itself or for nothing"), ("a: *b", "stands for itself or for nothing"),
    ("a: &x 1\n<<: {b: *x}\n<<: [1]", "line"), ("a: 1\na: 2", "'a' is given twice, first in line 1"),
    ("? [a]\n: 1", "unhashable"), ("a: 1\n---\nb: 2", "another document"), ("a: \x07", "control characters"),
    ("a: b: c", "line"), ("\t- a", "line"), ("k" * 100_000 + ": 1\na", "line"),
])
def test_refused(text, message):
    began = time.process_time()
    with pytest.raises(ConfigError, match=f"(?s)^here: is not valid YAML: .*{message}") as caught:
        parse_yaml(text, "here", ConfigError)
    assert len(str(caught.value)) < 600 and time.process_time() - began < 2


def test_what_was_read_is_not_shared():
    text = "a: {b: [1, 2]}\nc: 2001-01-01"
    first = parse_yaml(text, "here", ConfigError)
    first["a"]["b"].append(3)
    first["d"] = 1
    assert parse_yaml(text, "here", ConfigError)["a"] == {"b": [1, 2]}


def test_aliases_and_merges_within_limits():
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]", "here", ConfigError) == {
        "a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}],
    }


@given(st.text() | st.text("ab:-[]{}&*!?|>'\"#,\n 1"))
def test_any_text_is_read_or_refused(text):
    try:
        parse_yaml(text, "here", ConfigError)
    except ConfigError as error:
        assert len(str(error)) < 800


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    assert load_yaml(path, ConfigError) == {"a": 1}
    for content, message in ((b"a: \xe9", "cannot be read"), (b"#" * (16 * 2**20 + 1), "more than 16 MiB")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            load_yaml(path, ConfigError)
    for wrong in (tmp_path, tmp_path / "none.yaml", Path("x" * 300), Path("a\0")):
        with pytest.raises(ConfigError):
            load_yaml(wrong, ConfigError)


def test_messages_stay_short():
    assert len(str(CdlmError("x" * 10**6))) < 4100
    assert shown("a" * 100) == "a" * 100 and shown("a" * 101) == "a" * 100 + "... (101 letters)"
    assert shown("a\x1b[2Jb") == "a\\x1b[2Jb" and shown([1]) == "[1]"
