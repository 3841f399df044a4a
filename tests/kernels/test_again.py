"""A kernel called again is the kernel, whatever comes: other types go the way through numba."""

from __future__ import annotations

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import config, njit

from bmi_cdlm.kernels import again
from bmi_cdlm.kernels.again import Again

Group = namedtuple("Group", "a b")
Other = namedtuple("Other", "a b")


def total(values, scale, lo, hi):
    found = 0.0
    for i in range(lo, hi):
        found += values.a[i] * scale + values.b[i]
    return found


@pytest.fixture
def kernel():
    return njit(total)


def group(n: int, dtype: type = np.float64, kind: type = Group):
    return kind(np.arange(n).astype(dtype), np.ones(n, dtype))


def test_it_gives_what_the_kernel_gives(kernel):
    called = Again(kernel)
    one, two = group(5), group(7)
    for _ in range(3):
        assert called(one, 2.0, 0, 5) == 25.0
        assert called(two, 2.0, 1, 7) == 48.0
        assert called(one, 3, 0, 5) == 35.0
        assert called(Group(one.a[::2], one.b[::2]), 2.0, 0, 3) == 15.0
        assert called(group(5, np.float32), 2.0, 0, 5) == 25.0
        assert called(group(5, kind=Other), 2.0, 0, 5) == 25.0


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_types_are_asked_for_once(kernel):
    called = Again(kernel)
    for _ in range(3):
        assert called(group(5), 2.0, 0, 5) == 25.0
    called._kernel = None  # numba is not asked any more
    assert called(group(5), 4.0, 0, 5) == 45.0


def shown(a):
    try:
        return again._kind(a)
    except TypeError:
        return object()


def test_what_is_alike_is_of_one_type():
    values = np.zeros((3, 4))
    read_only = values.view()
    read_only.flags.writeable = False
    masked = np.ma.masked_array(values)
    assert again._alike(values, np.ones((9, 2))) and again._alike(values, values[:2])
    assert again._alike(Group(values, 1), Group(np.ones((2, 2)), 2)) and again._alike(2.0, 3.0)
    assert again._alike(np.float32(1), np.float32(2)) and not again._alike(np.float32(1), np.float64(1))
    for a, b in (
        (values, values[:, :2]), (values, values[:1]),
        (values, values.T), (values, values[0]), (values, read_only), (values, masked),
        (values, values.astype(np.float32)), (values, np.empty(9)[1:].view(np.uint8)[1:33].view(np.float64)),
        (values, None), (1, True), (1, 2.0), (Group(1, 1), Other(1, 1)), ((values,), (values, values)), ("a", "b"),
    ):
        assert not again._alike(a, b) and shown(a) != shown(b)
    assert again._kind(Group(values, 1)) == again._kind(Group(np.ones((2, 2)), 2)) != again._kind((values, 1))


def test_threads_may_call_it(kernel):
    called, n = Again(kernel), 200
    def run(k: int) -> float:
        return called(group(n), 2.0, k, k + 1)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(n))) == [2.0 * k + 1.0 for k in range(n)]


def test_what_is_no_kernel_of_numba_is_called_as_it_is():
    called = Again(lambda *arguments: arguments)
    assert [called(1, 2), called(1, 2), called(3, 4)] == [(1, 2), (1, 2), (3, 4)]
