"""Names of files made from ids: safe on every system, one for each id, and the id itself where it can be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmi_cdlm.names.file_names import file_names, is_safe


@pytest.mark.parametrize("one", ["Y3204040", "01547700", "cat-27", "0002_0001", "a b.c", "Rhein_Köln"[:6]])
def test_plain_ids_name_their_files(one):
    assert file_names([one]) == {one: one}


@pytest.mark.parametrize(
    "one", ["A/B", "A\\B", "A:B", "..", ".", "", "a.", "a ", "-rf", "con", "NUL.txt", "COM1", "x" * 260, "a\nb", "é",
            "a*", "a?", 'a"', "<a>", "a|b", "\x00", "../../etc"],
)
def test_others_get_a_name_that_is_safe(one):
    (name,) = file_names([one]).values()
    assert is_safe(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name)
    assert len(f"run_{name}.png".encode()) < 255


@given(st.lists(st.text(max_size=300), min_size=1, max_size=8))
def test_different_ids_have_different_files_whatever_the_system_makes_of_capitals(ids):
    names = file_names(ids)
    assert set(names) == set(ids)
    assert len({name.lower() for name in names.values()}) == len(set(ids))
    assert all(is_safe(name) for name in names.values())


def test_ids_alike_but_for_capitals_or_signs_are_told_apart():
    names = file_names(["a1", "A1", "A/1", "A:1", "b"])
    assert names["b"] == "b"
    assert len({name.lower() for name in names.values()}) == 5
