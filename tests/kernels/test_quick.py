"""What makes a start short: what is held while numba compiles, and what a start from the folder leaves out."""

from __future__ import annotations

import dis

import numpy as np
import pytest
from numba import config
from numba.core.base import BaseContext
from numba.core.types.functions import BaseFunction

from bmi_cdlm.kernels import graph, quick
from bmi_cdlm.kernels.launch import new_root
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.space import part, row_part
from bmi_cdlm.processes.gr4j import GR4J

compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="there is nothing to compile")
DTYPES = [np.float64, np.float32]


def polynomial(x):
    return x * x + x * x * x + x * x * x * x + x * x * x * x * x


def loop(values):
    for i in range(values.size):
        values[i] = polynomial(values[i])


def parts(values, t, lo, hi, row, within):
    taken, inner = row_part(values, t, lo, hi), part(values[t], lo, hi)
    for i in range(hi - lo):
        row[i] = taken[i]
        within[i] = inner[i]
    return taken.size + inner.size


@compiled_only
def test_numba_is_asked_once_for_what_a_call_is_meant_for(kernel_cache, monkeypatch):
    asked = []
    resolve = BaseFunction.get_call_type

    def get_call_type(function, context, args, kws):
        asked.append((function, args, tuple(kws.items())))
        return resolve(function, context, args, kws)

    monkeypatch.setattr(BaseFunction, "get_call_type", get_call_type)
    monkeypatch.setattr(quick, "_signatures", {})
    size = BaseContext.get_abi_sizeof
    values = np.array([2.0])
    new_root(loop, np.float64)(values)
    assert values[0] == 4 + 8 + 16 + 32
    products = [one for one in asked if "mul" in str(one[0])]
    assert quick.HAS_PLACES and len(products) == 1, "of ten in the code"
    assert quick._signatures.keys() and BaseFunction.get_call_type is get_call_type
    assert BaseContext.get_abi_sizeof is size, "numba is left as it was"


@compiled_only
def test_a_kernel_from_the_folder_makes_nothing_that_it_calls(kernel_cache):
    made, loaded = new_root(loop, np.float64), new_root(loop, np.float64)
    values = np.array([1.0])
    made(values)
    loaded(values)
    assert values[0] == 4 + 16 + 64 + 256 + 1024 - 4
    assert sum(loaded.stats.cache_hits.values()) == 1 and not loaded.stats.cache_misses
    assert "polynomial" in made.py_func.__globals__ and "polynomial" not in loaded.py_func.__globals__


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "apart"])
def test_parts_of_rows_are_those_of_numpy(kernel_cache, dtype, layout):
    values = np.arange(60, dtype=dtype).reshape(5, 12)
    values = values if layout == "C" else values[:, ::2]
    for t, lo, hi in ((0, 0, 6), (4, 2, 5), (2, 3, 3), (4, 6, 6)):
        row, within = np.full((2, 6), -1, dtype)
        assert new_root(parts, dtype)(values, t, lo, hi, row, within) == 2 * (hi - lo)
        for found in (row, within):
            np.testing.assert_array_equal(found[: hi - lo], values[t, lo:hi])
            assert (found[hi - lo :] == -1).all()


def test_names_are_those_that_dis_finds():
    many = "\n".join(f"def f{i}(): pass" for i in range(300))
    calls = "; ".join(f"f{i}()" for i in range(300))
    names: dict = {}
    exec(f"{many}\ndef last():\n    {calls}\n    return [f1() + i.f2 for i in (lambda: f0)()]", names)
    functions = [names["last"], polynomial, *graph.call_graph(cell_loops(CellPlan(GR4J)).advance)]
    for function in functions:
        found = {i.argval for i in graph._instructions(function) if i.opname == "LOAD_GLOBAL"}
        assert graph._loaded(function) == found
    assert len(graph._loaded(names["last"])) == 300 and "EXTENDED_ARG" in dis.opmap


def test_a_numba_without_these_places_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(quick, "HAS_PLACES", False)
    monkeypatch.delattr(BaseContext, "get_abi_sizeof")
    resolve = BaseFunction.get_call_type
    with quick.quick():
        assert BaseFunction.get_call_type is resolve and not hasattr(BaseContext, "get_abi_sizeof")
