"""The one container of what is written to be read back: restart files, states as bytes, training states, kernels.

Magic, format, length and SHA-256, then the payload. All of it is checked before anything parses the payload: a
flipped bit or a missing end is an error, never another content. A digest is no signature: it tells damage, not who
wrote a file.

A payload of named arrays is a line of JSON and the arrays behind it, little-endian, in the order of the line.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bmi_cdlm.names.errors import CdlmError

MAGIC = b"\x93CDLM\r\n\x1a"
"""Not text, and changed by whatever takes the file for text."""
HEADER = struct.Struct("<8s32sQ32s")
LENGTH = struct.Struct("<Q")
ALIGNMENT = 8
TYPES = re.compile(r"<f8|<f4|<i8|<i4|\|u1|\|S[1-9][0-9]{0,8}")
MOST_DIMENSIONS = 8
Bytes = bytes | bytearray | memoryview


class Arrays(NamedTuple):
    """A payload of named arrays: short texts by name, and arrays by name."""

    words: dict[str, str]
    arrays: dict[str, np.ndarray]


def seal(kind: str, parts: Sequence[Bytes]) -> list[Bytes]:
    """Return the pieces of a container around a payload, which is given in pieces; write or join them in order.

    kind : the format with its version, at most 32 letters of ASCII.
    """
    name = kind.encode("ascii").ljust(32, b"\0")
    if len(name) != 32:
        raise ValueError(f"the format '{kind}' is longer than 32 letters")
    pieces: list[Bytes] = [memoryview(part).cast("B") if len(part) else b"" for part in parts]
    length = sum(len(piece) for piece in pieces)
    return [HEADER.pack(MAGIC, name, length, _digest(name, length, pieces)), *pieces]


def is_container(content: Bytes) -> bool:
    """Whether bytes begin as a container does."""
    return bytes(content[: len(MAGIC)]) == MAGIC


def unseal(content: Bytes, kind: str, where: str, error: type[CdlmError], remedy: str) -> memoryview:
    """Return the payload of a container.

    Raises
    ------
    error
        No container, cut off, continued, changed, or of another format; the message ends in `remedy`.
    """
    view = memoryview(content)
    if len(view) < HEADER.size or not is_container(view):
        raise error(f"{where}: holds no '{kind}', which begins otherwise. {remedy}")
    _, name, length, digest = HEADER.unpack(view[: HEADER.size])
    payload = view[HEADER.size :]
    if len(payload) != length:
        raise error(
            f"{where}: has {len(view)} bytes, expected {HEADER.size + length}: it was cut off or changed. {remedy}"
        )
    if _digest(name, length, [payload]) != digest:
        raise error(f"{where}: does not match its sha256: it was damaged or changed. {remedy}")
    found = name.rstrip(b"\0").decode("ascii", "replace")
    if found != kind:
        raise error(f"{where}: format is '{found}', expected '{kind}'. {remedy}")
    return payload


def pack(words: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> list[Bytes]:
    """Return the pieces of a payload of named arrays; numbers become little-endian."""
    rows, pieces = [], []
    for name, values in arrays.items():
        plain: np.ndarray = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(np.shape(values))
        kind = plain.dtype.str
        if not TYPES.fullmatch(kind):
            raise ValueError(f"'{name}' is {values.dtype}, expected floats, whole numbers or bytes")
        rows.append([name, kind, list(plain.shape)])
        pieces += [plain.data.cast("B") if plain.size else b"", bytes(-plain.nbytes % ALIGNMENT)]
    head = json.dumps({"words": dict(words), "arrays": rows}, allow_nan=False).encode()
    head += b" " * (-(len(head) + HEADER.size + LENGTH.size) % ALIGNMENT)
    return [LENGTH.pack(len(head)), head, *pieces]


def unpack(payload: memoryview, where: str, error: type[CdlmError], remedy: str) -> Arrays:
    """Return what `pack` packed; arrays are read-only views of the payload."""
    try:
        (size,) = LENGTH.unpack(payload[: LENGTH.size])
        begin = LENGTH.size + size
        if begin > len(payload):
            raise ValueError(f"the table of contents has {size} bytes")
        head = json.loads(bytes(payload[LENGTH.size : begin]))
        words = {str(key): str(text) for key, text in head["words"].items()}
        arrays: dict[str, np.ndarray] = {}
        for name, kind, shape in head["arrays"]:
            begin = _take(payload, begin, str(name), kind, shape, arrays)
        if begin != len(payload):
            raise ValueError(f"{len(payload) - begin} bytes are left over")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, struct.error) as cause:
        raise error(f"{where}: its content cannot be read ({cause}). {remedy}") from cause
    return Arrays(words, arrays)


def _take(
    payload: memoryview, begin: int, name: str, kind: object, shape: object, arrays: dict[str, np.ndarray]
) -> int:
    """Add one array; returns where the next begins."""
    if name in arrays or not isinstance(kind, str) or not TYPES.fullmatch(kind):
        raise ValueError(f"'{name}' is {kind}, expected an array of a known type, once")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"'{name}' has the shape {shape}")
    dtype, count = np.dtype(kind), math.prod(shape)
    end = begin + count * dtype.itemsize
    if end > len(payload):
        raise ValueError(f"'{name}' ends behind the payload")
    arrays[name] = np.frombuffer(payload, dtype, count, begin).reshape(shape) if count else np.empty(shape, dtype)
    return end + -(count * dtype.itemsize) % ALIGNMENT


def _digest(name: bytes, length: int, pieces: Sequence[Bytes]) -> bytes:
    digest = hashlib.sha256(name + LENGTH.pack(length))
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
