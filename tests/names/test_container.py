"""The container: what comes out is what went in, or an error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmi_cdlm.names.container import MAGIC, pack, seal, unpack, unseal
from bmi_cdlm.names.errors import StateError

KIND, REMEDY = "test 1", "Take it again."
TYPES = st.sampled_from(["f8", "f4", "i8", "i4", "u1", "S3"])
ARRAYS = TYPES.flatmap(lambda t: hnp.arrays(np.dtype(t), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))


def sealed(words, arrays, kind=KIND) -> bytes:
    return b"".join(seal(kind, pack(words, arrays)))


def opened(content, kind=KIND):
    return unpack(unseal(content, kind, "here", StateError, REMEDY), "here", StateError, REMEDY)


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), ARRAYS, max_size=4))
def test_words_and_arrays_come_back(words, arrays):
    found = opened(sealed(words, arrays))
    assert found.words == words and list(found.arrays) == list(arrays)
    for name, values in arrays.items():
        assert found.arrays[name].dtype == values.dtype and found.arrays[name].shape == values.shape
        assert found.arrays[name].tobytes() == values.tobytes()


def test_every_flipped_bit_and_every_length_is_seen():
    whole = sealed({"a": "b"}, {"x": np.arange(5.0), "ids": np.array([b"a", b"bc"])})
    for at in range(len(whole)):
        for bit in range(8):
            with pytest.raises(StateError, match=r"here: .*Take it again"):
                opened(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        with pytest.raises(StateError, match=r"here: .*Take it again"):
            opened(whole[:at])
    with pytest.raises(StateError, match="was cut off or changed"):
        opened(whole + b"\0")


def test_another_format_is_named():
    with pytest.raises(StateError, match="format is 'test 2', expected 'test 1'"):
        opened(sealed({}, {}, "test 2"))
    with pytest.raises(ValueError, match="longer than 32"):
        seal("x" * 33, [])


@pytest.mark.parametrize("head", [
    b"", b"{", b"[" * 100_000, b"null", b"{}", b'{"words": 1, "arrays": []}', b'{"words": {}, "arrays": [["x"]]}',
    b'{"words": {}, "arrays": [["x", "O", [1]]]}', b'{"words": {}, "arrays": [["x", "<f8", [-1]]]}',
    b'{"words": {}, "arrays": [["x", "<f8", [1000000000000, 1000000000000]]]}',
    b'{"words": {}, "arrays": [["x", "<f8", 3]]}', b'{"words": {}, "arrays": [["x", "|S99999999999", [1]]]}',
    b'{"words": {}, "arrays": [["x", "<f8", [0]], ["x", "<f8", [0]]]}', b"\xff\xfe", b'{"words": {}, "arrays": []}!',
])
def test_a_sealed_content_that_means_nothing_is_refused_too(head):
    """A digest is no signature: what is sealed may still have been made by anybody."""
    with pytest.raises(StateError, match="its content cannot be read"):
        opened(b"".join(seal(KIND, [len(head).to_bytes(8, "little"), head])))
    with pytest.raises(StateError, match="its content cannot be read"):
        opened(b"".join(seal(KIND, [b"short"])))


def test_it_is_no_text():
    content = sealed({}, {})
    assert content.startswith(MAGIC) and content.replace(b"\r\n", b"\n") != content
    with pytest.raises(StateError):
        opened(content.replace(b"\r\n", b"\n"))
