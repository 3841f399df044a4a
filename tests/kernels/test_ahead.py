"""Kernels that are to be compiled are listed, do not run meanwhile, and are shared out over two processes."""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest
from numba import config

from bmi_cdlm.kernels import ahead, launch
from bmi_cdlm.kernels.loops import rows

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")


class Work(NamedTuple):
    name: str
    work: int


@pytest.fixture
def roots(kernel_cache):
    """Two kernels that nobody has compiled."""
    return launch.new_root(rows.copy_row, np.float64), launch.new_root(rows.add_row, np.float64)


def test_what_is_listed_does_not_run(roots):
    copy_row, add_row = roots
    values, copy = np.arange(3.0), np.zeros(3)
    with ahead.listed() as missing:
        assert copy_row(values, copy) is None and not copy.any()
        add_row(copy, values)
        add_row(copy, values)
    assert [m.function for m in missing] == [rows.copy_row, rows.add_row, rows.add_row]
    with ahead.listed() as missing:
        other = threading.Thread(target=copy_row, args=(values, copy))  # lists nothing
        other.start()
        other.join()
        copy_row(values, copy)  # it is compiled
    assert not missing and copy.tolist() == [0.0, 1.0, 2.0]


def test_a_kernel_of_the_folder_is_loaded_and_runs(roots):
    values, copy = np.arange(3.0), np.zeros(3)
    roots[0](values, copy)
    with ahead.listed() as missing:
        launch.new_root(rows.copy_row, np.float64)(values, copy + 1)
    assert not missing


def test_shares_are_about_equal():
    work = [Work(str(n), n) for n in (3, 9, 1, 5, 4)]
    first, second = ahead.shared_out([*work, work[0]])
    assert first[0].work == 9 and sorted(m.work for m in first + second) == [1, 3, 4, 5, 9]
    assert abs(sum(m.work for m in first) - sum(m.work for m in second)) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without copies of a process")
def test_a_copy_compiles_its_share_and_the_rest_is_compiled_here(roots, kernel_cache, monkeypatch):
    values = np.arange(3.0)
    with ahead.listed() as missing:
        roots[0](values, values.copy())
        roots[1](values, values.copy())
    monkeypatch.setattr(ahead, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(ahead, "_may_fork", lambda: True)
    ahead.compile_beside(missing)
    assert len(list(kernel_cache.glob("*.kernel"))) == 2
    assert sorted(len(root.overloads) for root in roots) == [0, 1]
    for root in roots:
        root(values, values.copy())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without copies of a process")
def test_a_copy_that_hangs_is_ended(monkeypatch):
    """It may wait for a lock that nobody gives back: this process goes on, and nothing is left of the copy."""
    here, compiled, copies, fork = os.getpid(), [], [], os.fork

    class Root:
        def compile(self, types):
            compiled.append(types)
            while os.getpid() != here:
                time.sleep(0.01)

    monkeypatch.setattr(ahead, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(ahead, "PATIENCE", 0.1)
    monkeypatch.setattr(os, "fork", lambda: copies.append(fork()) or copies[-1])
    monkeypatch.setattr(ahead, "_may_fork", lambda: True)
    ahead.compile_beside([ahead.Missing(f, Root(), ("a",)) for f in (rows.copy_row, rows.add_row)])
    assert compiled == [("a",)]
    with pytest.raises(ProcessLookupError):
        os.kill(copies[0], 0)


def test_no_copy_where_it_could_disturb(roots, kernel_cache, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1}, raising=False)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert ahead._may_fork() is hasattr(os, "fork")
    for name, value in (("sched_getaffinity", lambda _pid: {0}), ("fork", None)):
        with monkeypatch.context() as patch:
            patch.delattr(os, name) if value is None else patch.setattr(os, name, value)
            assert not ahead._may_fork()
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not ahead._may_fork()
