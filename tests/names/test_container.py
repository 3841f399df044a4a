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


@pytest.mark.parametrize(("head", "more", "message"), [
    (b'{"words": {}, "arrays": []}', b"beyond", "6 bytes are left over"),
    (b'{"words": {}, "arrays": [["x", "<f8", [2]]]}', bytes(8), "'x' ends behind the payload"),
    (b'{"words": {}, "arrays": [["x", "O", [1]]]}', b"", "'x' is O, expected an array of a known type, once"),
    (b'{"words": {}, "arrays": [["x", 8, [1]]]}', b"", "'x' is 8, expected an array of a known type, once"),
    (b'{"words": {}, "arrays": [["x", "<f8", [0]], ["x", "<f8", [0]]]}', b"", "'x' is <f8, expected .* once"),
    (b'{"words": {}, "arrays": [["x", "<f8", [-1]]]}', b"", r"'x' has the shape \[-1\]"),
    (b'{"words": {}, "arrays": [["x", "<f8", [true]]]}', b"", r"'x' has the shape \[True\]"),
    (b'{"words": {}, "arrays": [["x", "<f8", [1,1,1,1,1,1,1,1,1]]]}', bytes(8), r"'x' has the shape \[1, .*\]"),
    (b'{"words": {}, "arrays": [["x", "<f8", {}]]}', b"", "'x' has the shape {}"),
    (b'{"words": {"a": 1}}', b"", "'arrays'"),
])
def test_what_is_wrong_with_a_table_of_contents_is_said(head, more, message):
    payload = [len(head).to_bytes(8, "little"), head, more]
    with pytest.raises(StateError, match=rf"here: its content cannot be read \({message}\).*Take it again"):
        opened(b"".join(seal(KIND, payload)))


def test_a_table_of_contents_longer_than_all_there_is():
    with pytest.raises(StateError, match="the table of contents has 99 bytes"):
        opened(b"".join(seal(KIND, [(99).to_bytes(8, "little"), b"{}"])))


def test_what_cannot_be_packed():
    with pytest.raises(ValueError, match="'a' is complex128, expected floats, whole numbers or bytes"):
        pack({}, {"a": np.ones(2, complex)})
    with pytest.raises(ValueError, match="'a' is object"):
        pack({}, {"a": np.array([None])})
    with pytest.raises(StateError, match=r"here: holds no 'test 1', which begins otherwise\. Take it again"):
        opened(b"words that are long enough to be the header of a container, were they one: " + bytes(80))
