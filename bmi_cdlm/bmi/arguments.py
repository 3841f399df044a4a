"""Arguments of BMI calls: sizes, types and indices that are refused before anything is touched."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.names.errors import CdlmError


class BmiValueError(CdlmError, ValueError):
    """A value, buffer or index handed to BMI has another size, or lies outside the variable."""


def _check_size(name: str, what: str, array: np.ndarray, size: int) -> None:
    got = np.size(array)
    if got != size:
        raise BmiValueError(f"'{name}': '{what}' holds {got} values, expected {size}. Give an array of that size.")


def check_source(name: str, src: np.ndarray, size: int) -> np.ndarray:
    """Return real numbers of that size as float64[n], or refuse them; what is masked is missing, NaN."""
    if isinstance(src, np.ma.MaskedArray) and src.dtype.kind in "fiu":
        src = np.ma.filled(src.astype(np.float64), np.nan)
    source = np.asarray(src)
    if source.dtype.kind not in "fiu":
        raise BmiValueError(f"'{name}': 'src' is {source.dtype}, expected {size} real numbers.")
    _check_size(name, "src", source, size)
    return source.astype(np.float64, copy=False).ravel()


def check_dest(name: str, dest: np.ndarray, size: int, dtype: np.dtype) -> None:
    """Refuse a buffer of another size, or that cannot hold values of that type."""
    kinds = "f" if dtype.kind == "f" else "iu"
    if not isinstance(dest, np.ndarray) or dest.dtype.kind not in kinds:
        got = getattr(dest, "dtype", type(dest).__name__)
        expected = "floats" if kinds == "f" else "integers"
        raise BmiValueError(
            f"'{name}': 'dest' is {got}, expected a numpy array of {expected}. Give np.empty({size}, '{dtype}')."
        )
    _check_size(name, "dest", dest, size)
    if not dest.flags.writeable:
        raise BmiValueError(f"'{name}': 'dest' is read-only. Give np.empty({size}, '{dtype}').")


def check_indices(name: str, inds: np.ndarray, size: int) -> np.ndarray:
    """Return places within a variable as int64[n], or refuse them."""
    if isinstance(inds, np.ma.MaskedArray) and np.ma.is_masked(inds):
        raise BmiValueError(f"'{name}': indices are masked, expected each to be a place. Give those that are meant.")
    places = np.asarray(inds).ravel()
    if places.size and places.dtype.kind not in "iu":
        raise BmiValueError(f"'{name}': indices are {places.dtype}, expected integers.")
    bad = np.flatnonzero((places < 0) | (places >= size))
    if bad.size:
        raise BmiValueError(f"'{name}': index {places[bad[0]]} is out of range, expected 0 to {size - 1}.")
    return places.astype(np.int64)
