"""The benchmarks at tiny sizes, so that they cannot rot; what they measure is for `make bench`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
MODULES = ("timing", "kernel_cases", "basin", "forward", "gradient", "bmi")


@pytest.fixture
def forward(monkeypatch):
    """The module `forward.py`, as a script in its folder would see it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("forward")
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def tiny(forward):
    return forward.Sizes(cells=60, steps=25, sources=30, days=4, hours=2, repeats=2)


@pytest.mark.slow
def test_forward_prints_its_table(forward, tiny, capsys):
    forward.main(tiny)
    printed = capsys.readouterr().out
    for heading in ("GR4J, X4 to 20 d", "Muskingum, 24 sub-steps a day", "whole model, 1 sub-step a day"):
        assert heading in printed
    assert "our water balance closes to" in printed
    assert ("hydro-smash, gr4-lr" in printed) == (importlib.util.find_spec("smash") is not None)


@pytest.mark.slow
def test_forward_without_hydro_smash(forward, tiny):
    rows, said = forward.measure_model(tiny, with_smash=False)
    assert [row.case.threads for row in rows] == [1, 2, 1, 2]
    assert all((row.rates > 0).all() and row.of_smash is None for row in rows)
    assert "59 cells x 25 steps" in said[0]


@pytest.mark.slow
def test_gradient_prints_its_table(forward, capsys):
    importlib.import_module("gradient").main(steps=20, repeats=1)
    printed = capsys.readouterr().out
    assert "GR4J, forward and adjoint" in printed
    assert "bytes per cell-day" in printed


def test_random_river_is_one_tree_of_the_shape_it_says(forward):
    """Two tributaries at every junction, one outlet, and about sqrt(pi n) reaches from a source down to it."""
    cases = sys.modules["kernel_cases"]
    depths = []
    for seed in range(20):
        downstream = cases.random_river(seed, 400)
        n = downstream.size
        assert n == 799
        assert np.flatnonzero(downstream < 0).tolist() == [n - 1]
        assert (downstream[:-1] > np.arange(n - 1)).all()
        assert sorted(set(np.bincount(downstream[:-1], minlength=n))) == [0, 2]
        depth = np.ones(n)
        for i in range(n - 2, -1, -1):
            depth[i] = depth[downstream[i]] + 1
        depths.append(depth[np.bincount(downstream[:-1], minlength=n) == 0].mean())
    assert np.mean(depths) == pytest.approx(np.sqrt(np.pi * 400), rel=0.15)


@pytest.mark.slow
def test_bmi_prints_its_tables(forward, capsys):
    bmi = importlib.import_module("bmi")
    bmi.main(bmi.Sizes(updates=20, instances=3, hours=2))
    printed = capsys.readouterr().out
    for heading in ("one cell, median of a call", "hourly, Penman-Monteith", "3 catchments in a process, each"):
        assert heading in printed
