"""Errors: short whatever they echo, harmless on a screen, of the kinds that Python's own callers catch."""

from __future__ import annotations

import pickle

import pytest

from bmi_cdlm.names import errors
from bmi_cdlm.names.errors import (
    LONGEST_MESSAGE,
    LONGEST_VALUE,
    CdlmError,
    ConfigError,
    LedgerError,
    LifecycleError,
    OutputError,
    UnknownNameError,
    nearest,
    shown,
)

EVERY = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, CdlmError)]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_a_message_is_what_was_said(kind):
    error = kind("a.nc: is 3, expected 4. Correct it.")
    assert str(error) == "a.nc: is 3, expected 4. Correct it." and isinstance(error, CdlmError)
    again = pickle.loads(pickle.dumps(error))  # from a worker of a cluster
    assert type(again) is kind and str(again) == str(error)


@pytest.mark.parametrize(("kind", "python"), [
    (ConfigError, ValueError), (LedgerError, ArithmeticError), (OutputError, OSError), (UnknownNameError, KeyError),
    (LifecycleError, RuntimeError),
])
def test_who_knows_only_python_catches_them(kind, python):
    with pytest.raises(python, match="broken"):
        raise kind("broken")


def test_a_message_is_short_whatever_it_echoes():
    assert len(str(ConfigError("x" * 10**6))) < LONGEST_MESSAGE + 50
    assert str(ConfigError("x" * LONGEST_MESSAGE)) == "x" * LONGEST_MESSAGE
    assert CdlmError("a", 3).args == ("a", 3), "what is no text is left as it is"


@pytest.mark.parametrize(("value", "text"), [
    ("plain", "plain"), ("two\nlines", "two\nlines"), ("é – µ", "é – µ"), (3.5, "3.5"), ([1, "a"], "[1, 'a']"),
    ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"), ("bell\x07", "bell\\x07"), ("zero\0", "zero\\x00"),
    ("right\u202eleft", "right\\u202eleft"), ("a" * LONGEST_VALUE, "a" * LONGEST_VALUE),
    ("a" * (LONGEST_VALUE + 1), "a" * LONGEST_VALUE + "... (101 letters)"),
    ("\x07" * 1000, "\\x07" * 25 + "... (1000 letters)"),
])
def test_what_a_screen_would_act_on_is_written_out(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(("name", "hint"), [
    ("thraeds", " Did you mean 'threads'?"), ("Threads", " Did you mean 'threads'?"), ("zzz", ""), ("", ""),
    ("threads" * 20, ""), (7, ""),
])
def test_the_nearest_name(name, hint):
    assert nearest(name, iter(["threads", "routing", "snow"])) == hint
    assert nearest(name, []) == ""
