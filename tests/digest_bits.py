"""Digests of arrays, of files and of states, by name; what libraries of this machine give."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import digest_inputs as inputs
import netCDF4
import numpy as np
from digest_inputs import DAY

Digests = dict[str, str]
NEW_ATTRIBUTES = {"runoff": "gr4j", "routing": "muskingum", "components": "1"}
"""What states say of their processes since format 3; those of format 2 knew no others."""
OF_CALLS = ("release_seconds", "call_depth", "cells")
"""What they say of calls that were no steps, in place of the length of the last call."""


def digest(values: np.ndarray) -> str:
    """Digest of the bits, the shape and the kind of an array; of text, its letters."""
    return shortened(hashlib.sha256(repr((values.shape, values.dtype.kind)).encode() + little(values)))


def shortened(total: Any) -> str:
    return total.hexdigest()[:12]


def little(values: np.ndarray) -> bytes:
    """The bytes of an array whatever the machine's order of bytes."""
    if values.dtype.kind == "O":
        return "\0".join(map(str, values.ravel())).encode()
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def digest_file(path: Path, rounded: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> Digests:
    """Digests of all arrays of a NetCDF file; `rounded` ones to 1e-6, since they come from a library."""
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {
            name: digest(np.round(v[...], 6) + 0.0 if name in rounded else np.asarray(v[...]))
            for name, v in sorted(dataset.variables.items()) if name not in left_out
        }


def digest_restart(content: bytes, call_seconds: float = DAY) -> Digests:
    """Digests of the arrays of a restart, of its attributes but for version, and of its bytes but for these.

    `raw` is empty of what a version writes: the number of the format, the version and the file's own digest; and of
    the bytes up to a multiple of four behind the ids, which netCDF does not set.

    call_seconds : of the last call. States of format 2 say it, later ones what the call handed out, if it was no step.
    """
    if not content.startswith(b"CDF"):
        return _digest_container(content, call_seconds)
    with netCDF4.Dataset("restart", memory=content) as dataset:
        dataset.set_auto_mask(False)
        found = {f"array {n}": digest(np.asarray(v[...])) for n, v in sorted(dataset.variables.items())}
        texts = [np.asarray(v[...]).tobytes() for v in dataset.variables.values() if v.dtype.kind == "S"]
        attributes = {key: dataset.getncattr(key) for key in sorted(dataset.ncattrs())}
    own = attributes.pop("digest").encode()
    if attributes.pop("format") != "bmi_cdlm restart 2":
        attributes = as_format_2(attributes, call_seconds)
    attributes.pop("source")
    bare = content.replace(own, b"0" * len(own))
    for text in texts:
        end = bare.rindex(text) + len(text)
        bare = bare[:end] + b"\0" * (-end % 4) + bare[end + -end % 4 :]
    bare = re.sub(rb"(bmi_cdlm restart )\d+", rb"\1N", bare)
    bare = re.sub(rb"(bmi_cdlm )\d[\w.+]*", rb"\1V", bare)
    found["attributes"] = shortened(hashlib.sha256(repr(attributes).encode()))
    found["raw"] = shortened(hashlib.sha256(bare))
    return found


def _digest_container(content: bytes, call_seconds: float) -> Digests:
    """The same of a state that is no NetCDF file, with the names, ids and attributes that one would have.

    What tells which run wrote a restart file is left out: states of BMI have none.
    """
    from bmi_cdlm.files.restart import FORMAT  # not where `make_digests` runs an old checkout
    from bmi_cdlm.names.container import pack, unpack, unseal
    from bmi_cdlm.names.errors import StateError

    state = unpack(unseal(content, FORMAT, "state", StateError, ""), "state", StateError, "")
    words = {key: value for key, value in state.words.items() if key not in ("source", "fingerprints")}
    arrays = {name.rpartition("/")[2]: values for name, values in state.arrays.items()}
    for name in ("cell_id", "reach_id"):
        arrays[name] = np.ascontiguousarray(arrays[name]).view("S1").reshape(arrays[name].size, -1)
    found = {f"array {name}": digest(values) for name, values in sorted(arrays.items())}
    attributes = as_format_2({"title": "bmi_cdlm restart", **words}, call_seconds)
    found["attributes"] = shortened(hashlib.sha256(repr(attributes).encode()))
    found["raw"] = shortened(hashlib.sha256(b"".join(pack(words, state.arrays))))
    return found


def as_format_2(attributes: dict[str, Any], call_seconds: float) -> dict[str, Any]:
    """Attributes of a later state as one of format 2 has them."""
    said = {key: attributes.pop(key, None) for key in NEW_ATTRIBUTES}
    assert said == NEW_ATTRIBUTES, f"processes of the state are {said}, expected {NEW_ATTRIBUTES}"
    others = {key: value for key, value in attributes.items() if key not in OF_CALLS}
    return dict(sorted({**others, "call_seconds": f"{call_seconds:.0f}"}.items()))


def labelled(prefix: str, found: Mapping[str, str]) -> Digests:
    return {f"{prefix}: {name}": value for name, value in found.items()}


def nested(found: Digests) -> dict[str, Any]:
    """Digests by the parts of their names, as they are kept."""
    tree: dict[str, Any] = {}
    for name, value in found.items():
        *parts, last = name.split(": ")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def flat(tree: Mapping[str, Any]) -> Digests:
    """What `nested` was made of."""
    found: Digests = {}
    for name, value in tree.items():
        found |= {name: value} if isinstance(value, str) else labelled(name, flat(value))
    return found


def library_digests() -> Digests:
    """What this machine's libraries give for the functions that bits depend on: compiled, in Python and in numpy."""
    from numba import njit

    @njit
    def fill(x, out):
        for i in range(x.size):
            out[0, i] = x[i] ** 2.5
            out[1, i] = x[i] ** 1.25
            out[2, i] = math.exp(4.0 * x[i] - 2.0)
            out[3, i] = math.sin(3.0 * x[i])
            out[4, i] = math.acos(2.0 * x[i] - 1.0)

    x = inputs.mixed(7, 4001)
    out = np.empty((5, x.size))
    fill(x, out)
    found = {"pow": out[:2], "exp": out[2], "sin": out[3], "acos": out[4]}
    angles = 6.0 * x - 3.0
    for name in ("sin", "cos", "tan"):
        found[f"math.{name}"] = np.array([getattr(math, name)(a) for a in angles])
        found[f"numpy.{name}"] = getattr(np, name)(angles)
    for name in ("exp", "tanh"):
        found[f"numpy.{name}"] = getattr(np, name)(angles)
    return {name: digest(values) for name, values in found.items()}
