"""Restart files of the format before: classic NetCDF (CDF-5), read here byte by byte, since the library may crash.

Only what such a file holds is known: dimensions, text attributes, variables of bytes and doubles without records.
Everything is checked against the length of the content; whatever does not fit is a ValueError.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

MAGIC = b"CDF\x05"
DIMENSIONS, VARIABLES, ATTRIBUTES = 10, 11, 12
TYPES = {1: "|i1", 2: "|S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8", 7: "|u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
MOST = 100_000
"""More dimensions, variables or attributes than any state has."""


class Classic(NamedTuple):
    """Text attributes, arrays by name, and the names of the dimensions of each."""

    attributes: dict[str, str]
    arrays: dict[str, np.ndarray]
    dimensions: dict[str, tuple[str, ...]]


def read_classic(content: bytes) -> Classic:
    """Read a file; ValueError for one that is not whole."""
    reader = _Reader(content)
    if reader.take(4) != MAGIC or reader.number() != 0:
        raise ValueError("no classic NetCDF file without records")
    sizes = [(reader.name(), reader.number()) for _ in range(reader.list_of(DIMENSIONS))]
    attributes = reader.attributes()
    arrays, dimensions = {}, {}
    for _ in range(reader.list_of(VARIABLES)):
        name = reader.name()
        own = [reader.number() for _ in range(reader.count())]
        reader.attributes()
        kind = reader.type()
        reader.number()  # its size, which follows from the rest
        begin = reader.number()
        if any(i >= len(sizes) for i in own):
            raise ValueError(f"'{name}' lies on a dimension that is not there")
        shape = [sizes[i][1] for i in own]
        count = math.prod(shape)
        if begin + count * kind.itemsize > len(content):
            raise ValueError(f"'{name}' ends behind the file")
        arrays[name] = np.frombuffer(content, kind, count, begin).reshape(shape) if count else np.empty(shape, kind)
        dimensions[name] = tuple(sizes[i][0] for i in own)
    return Classic(attributes, arrays, dimensions)


class _Reader:
    """Goes through the header."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size < 0 or self._at + size > len(self._content):
            raise ValueError("the header ends behind the file")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self) -> int:
        """A number of eight bytes."""
        return int.from_bytes(self.take(8), "big")

    def tag(self) -> int:
        """A number of four bytes."""
        return int.from_bytes(self.take(4), "big")

    def count(self) -> int:
        """How many follow."""
        found = self.number()
        if found > MOST:
            raise ValueError(f"the header announces {found} entries")
        return found

    def list_of(self, kind: int) -> int:
        """Number of entries of a list; an absent one has none."""
        found, n = self.tag(), self.count()
        if found != kind and (found, n) != (0, 0):
            raise ValueError("the header is not in order")
        return n

    def padded(self, size: int) -> bytes:
        """Bytes that are filled up to a multiple of four."""
        found = self.take(size)
        self.take(-size % 4)
        return found

    def name(self) -> str:
        """A name."""
        return self.padded(self.number()).decode()

    def type(self) -> np.dtype:
        """A type of numbers or letters."""
        code = self.tag()
        if code not in TYPES:
            raise ValueError(f"there is no type {code}")
        return np.dtype(TYPES[code])

    def attributes(self) -> dict[str, str]:
        """Attributes that are text; others are passed over."""
        found = {}
        for _ in range(self.list_of(ATTRIBUTES)):
            name, kind, n = self.name(), self.type(), self.number()
            value = self.padded(n * kind.itemsize)
            if kind.kind == "S":
                found[name] = value.decode()
        return found
