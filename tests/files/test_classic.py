"""Classic NetCDF read byte by byte: what the library wrote, and every way in which a header may be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.files.classic import MAGIC, MOST, read_classic

ABSENT = struct.pack(">iq", 0, 0)
"""A list without entries."""


def named(name: str) -> bytes:
    """A name, filled up to four bytes."""
    return struct.pack(">q", len(name)) + name.encode().ljust(-(-len(name) // 4) * 4, b"\0")


def listed(kind: int, entries: Sequence[bytes]) -> bytes:
    return struct.pack(">iq", kind, len(entries)) + b"".join(entries) if entries else ABSENT


def dimension(name: str, size: int) -> bytes:
    return named(name) + struct.pack(">q", size)


def text(name: str, value: str) -> bytes:
    """An attribute of letters."""
    return named(name) + struct.pack(">iq", 2, len(value)) + value.encode().ljust(-(-len(value) // 4) * 4, b"\0")


def numbers(name: str, values: Sequence[float]) -> bytes:
    """An attribute of doubles."""
    return named(name) + struct.pack(f">iq{len(values)}d", 6, len(values), *values)


def variable(name: str, places: Sequence[int], kind: int, begin: int, attributes: bytes = ABSENT) -> bytes:
    """A variable on dimensions by their places; its size is not read."""
    own = struct.pack(f">q{len(places)}q", len(places), *places)
    return named(name) + own + attributes + struct.pack(">iqq", kind, 0, begin)


def header(
    dimensions: Sequence[bytes] = (), attributes: Sequence[bytes] = (), variables: Sequence[bytes] = (),
    magic: bytes = MAGIC, records: int = 0,
) -> bytes:
    return magic + struct.pack(">q", records) + listed(10, dimensions) + listed(12, attributes) + listed(11, variables)


def begun(kind: int, count: int) -> bytes:
    """A header whose first list says that it is of some kind and length."""
    return MAGIC + struct.pack(">qiq", 0, kind, count) + 2 * ABSENT


def whole() -> bytes:
    """Two dimensions, three attributes, doubles [2, 3] behind a scalar, and letters."""
    def parts(begin: int) -> bytes:
        return header(
            [dimension("row", 2), dimension("column", 3)],
            [text("title", "a test"), numbers("limits", (0.5, 2.0)), text("empty", "")],
            [variable("one", (), 6, begin), variable("table", (0, 1), 6, begin + 8, listed(12, [text("units", "mm")])),
             variable("letters", (1,), 2, begin + 56)],
        )

    begin = len(parts(0))
    return parts(begin) + struct.pack(">7d", 7.5, *range(6)) + b"abc\0"


def test_what_it_holds():
    found = read_classic(whole())
    assert found.attributes == {"title": "a test", "empty": ""}, "numbers are passed over"
    assert found.dimensions == {"one": (), "table": ("row", "column"), "letters": ("column",)}
    assert found.arrays["one"] == 7.5 and found.arrays["one"].shape == ()
    np.testing.assert_array_equal(found.arrays["table"], np.arange(6.0).reshape(2, 3))
    assert found.arrays["letters"].tobytes() == b"abc"


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_what_the_library_writes(tmp_path, kind):
    values = np.arange(1, 7).astype(kind).reshape(2, 3)
    with netCDF4.Dataset(tmp_path / "a.nc", "w", format="NETCDF3_64BIT_DATA") as dataset:
        dataset.title = "odd letters: é"
        for name, size in (("row", 2), ("column", 3)):
            dataset.createDimension(name, size)
        dataset.createVariable("a", kind, ("row", "column"))[:] = values
        dataset.createVariable("nothing", "f8", ())[...] = 2.5
    found = read_classic((tmp_path / "a.nc").read_bytes())
    assert found.attributes["title"] == "odd letters: é"
    np.testing.assert_array_equal(found.arrays["a"], values)
    assert found.arrays["a"].dtype.newbyteorder("=") == np.dtype(kind) and found.arrays["nothing"] == 2.5


def test_a_dimension_without_places_has_empty_arrays():
    found = read_classic(header([dimension("none", 0)], variables=[variable("a", (0,), 6, 0)]))
    assert found.arrays["a"].shape == (0,)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the header ends behind the file"), (b"CDF\x05", "the header ends behind the file"),
    (header(magic=b"CDF\x01"), "no classic NetCDF file without records"),
    (header(records=3), "no classic NetCDF file without records"),
    (begun(11, 0), "the header is not in order"),
    (begun(0, 1), "the header is not in order"),
    (begun(10, MOST + 1), f"the header announces {MOST + 1} entries"),
    (begun(10, -1), f"the header announces {2**64 - 1} entries"),
    (header([dimension("a", 1)])[:-20], "the header ends behind the file"),
    (header([struct.pack(">q", -1)]), "the header ends behind the file"),
    (header(attributes=[named("a") + struct.pack(">iq", 99, 0)]), "there is no type 99"),
    (header(attributes=[named("a") + struct.pack(">iq", 6, 2**60)]), "the header ends behind the file"),
    (header(variables=[variable("a", (), 0, 0)]), "there is no type 0"),
    (header([dimension("x", 2)], variables=[variable("a", (1,), 6, 0)]), "'a' lies on a dimension that is not there"),
    (header([dimension("x", 2)], variables=[variable("a", (0,), 6, 10_000)]), "'a' ends behind the file"),
    (header([dimension("x", 2**62)], variables=[variable("a", (0, 0), 6, 0)]), "'a' ends behind the file"),
])
def test_what_is_no_such_file(content, message):
    with pytest.raises(ValueError, match=message):
        read_classic(content)


def test_no_end_is_another_content():
    """Cut anywhere: an error, never other arrays."""
    content = whole()
    for size in range(len(content) - 1):  # the last byte fills up
        with pytest.raises(ValueError, match=r"ends behind the file|no classic NetCDF"):
            read_classic(content[:size])


def test_letters_that_are_no_text():
    content = header([dimension("a", 1)], [text("title", "words")]).replace(b"words", b"\xffords")
    with pytest.raises(ValueError, match="codec can't decode"):
        read_classic(content)
