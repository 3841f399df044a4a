"""Damage to bytes and texts, from a seed."""

from __future__ import annotations

import random

VALUES = [
    "null",
    "true",
    "-1",
    "0",
    "1e309",
    ".nan",
    "-.inf",
    '""',
    "x" * 5000,
    '"\\0"',
    "é",
    "[]",
    "{}",
    "[[]]",
    "9" * 40,
    "9" * 5000,
    "1 d",
    "0 d",
    "-1 d",
    "1e3 d",
    "٣ d",
    "1 parsec",
    "2001-02-30",
    "0000-01-01",
    "9999-12-31",
    "2001-03-01",
    "2001-03-01T25:00:00",
    "2001-03-01 00:00:00 +99:99",
    "2001-03-01T06:00+14:00",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/proc/self/mem",
    "/",
    ".",
    "..",
    "domain.nc",
    "forcing.nc",
    "case.yaml",
    "~root/x",
    "$HOME",
    "a/" * 1500 + "b",
    "n" * 300,
    "!!int abc",
    "!!binary x",
    "!!python/object/apply:os.system [ls]",
    "&a [*a]",
    "*b",
    "| \n  text",
    "0x1F",
    "0o17",
    "1_000",
    "12:30:45",
    "=",
    "<<",
    "caller",
    "default",
    "steady",
    "512 MiB",
    "999999999999999 GiB",
    "1 MB",
    "[1, 2, 3]",
    "{a: 1}",
    "[r0, r1]",
    "[r0, r0]",
    "cells",
    "reaches",
    "gauges",
    "discharge",
    "[discharge, discharge]",
    "[snowpack]",
    "cemaneige",
    "cemaneige_hysteresis",
    "oudin",
    "penman_monteith",
    "1 h",
    "7 min",
    "86400",
    "1e-9",
    "1.5",
    "no",
    "off",
    "2001-03-10",
    "2001-03-05",
    "1 d extra",
    "\u2028",
    "\ud7ff",
    "'a''b'",
    '"\\xff"',
    "- a",
    "? b",
    "@x",
    "%x",
    "`",
]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with some damage: flipped, overwritten, cut, continued, moved."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        n = len(data)
        if not n:
            return bytes(data)
        at = rng.randrange(n) if rng.random() < 0.6 else min(rng.randrange(2048), n - 1)
        kind = rng.randrange(9)
        if kind <= 2:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 4:
            end = min(n, at + rng.choice([2, 4, 8, 64]))
            data[at:end] = rng.choice([b"\0", b"\xff", b"\x7f"]) * (end - at)
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            data += rng.randbytes(rng.choice([1, 8, 1000]))
        elif kind == 7:
            size = rng.choice([1, 4, 16, 256])
            data[at : at + size] = rng.randbytes(size)
        else:
            size, to = rng.choice([1, 8, 512]), rng.randrange(n)
            data[at : at + size] = data[to : to + size]
    return bytes(data)


def damaged_text(text: str, rng: random.Random) -> bytes:
    """A configuration or table with some lines, values or bytes changed."""
    lines = text.splitlines()
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, kind = rng.randrange(max(1, len(lines))), rng.randrange(10)
        if not lines:
            break
        if kind <= 4:
            key, colon, _ = lines[at].partition(":")
            lines[at] = f"{key}{colon} {rng.choice(VALUES)}"
        elif kind == 5:
            del lines[at]
        elif kind == 6:
            lines.insert(at, rng.choice(lines))
        elif kind == 7:
            lines.insert(
                at, rng.choice(["[" * 2000, "a: [", "x: &x [*x]", "\t", "---", "...", "%YAML 9.9", "? ", "- " * 200])
            )
        elif kind == 8:
            lines[at] = " " * rng.randrange(1, 9) + lines[at]
        else:
            return damaged("\n".join(lines).encode("utf-8", "surrogatepass"), rng)
    return "\n".join(lines).encode("utf-8", "surrogatepass")
