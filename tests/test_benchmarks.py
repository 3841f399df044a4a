"""The benchmarks at tiny sizes, so that they cannot rot; what they measure is for `make bench`."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simulated_threads

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
CANCE = (840_261.0, 6_457_807.0, 381.7e6)
"""Outlet of a basin of 383 cells, in place of one of ten thousand."""


@pytest.fixture
def forward(script):
    return script("forward")


@pytest.fixture
def tiny(forward):
    outlet = sys.modules["basin"].Outlet(*CANCE)
    return forward.Sizes(cells=60, steps=25, sources=30, days=4, hours=2, outlet=outlet, repeats=2)


@pytest.mark.slow
def test_forward_prints_its_table(forward, tiny, capsys):
    forward.main(tiny)
    printed = capsys.readouterr().out
    for heading in (
        "GR4J, X4 to 20 d", "HBV, no ledger", "HBV 2.0", "Muskingum, 24 sub-steps a day", "Muskingum-Cunge, q = 1/3",
        "whole model, 1 sub-step a day",
    ):
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
    outlet = sys.modules["basin"].Outlet(*CANCE)
    gradient = importlib.import_module("gradient")
    gradient.main(steps=20, repeats=1, outlet=outlet, of_hbv=gradient.OF_HBV[:1])
    printed = capsys.readouterr().out
    for heading in ("GR4J, forward and adjoint", "HBV, forward and adjoint", "Muskingum-Cunge, q = 1/3, forward and"):
        assert heading in printed
    assert "bytes per cell-day" in printed


@pytest.mark.slow
@pytest.mark.parametrize("chain", [{}, {"runoff": "hbv", "components": 2, "routing": "muskingum_cunge"}],
                         ids=["gr4j", "hbv"])
def test_a_country_is_run_and_checked(forward, tmp_path, capsys, chain):
    national = importlib.import_module("national")
    sizes = national.Sizes(reaches=3000, cells=400, days=9, gauges=60, memory=2**16, **chain)
    result = national.run_country(sizes, tmp_path)
    national.show(result)
    printed = " ".join(capsys.readouterr().out.split())
    assert "water balance closes to" in printed and "every bit of its discharge and end state" in printed
    assert "core-hours" in printed and result.peak > 0


@pytest.mark.slow
def test_an_epoch_is_told_by_part(script, capsys):
    """And the weights after it have the same bits on one thread and on two."""
    epoch = script("epoch")
    epoch.main(None, [1, 2], 2, lambda threads: epoch.MadeUp(1200, 150, 4, 40, threads))
    printed = capsys.readouterr().out
    for part in (
        "routing, forward again and adjoint", "gr4j, forward", "cemaneige, adjoint", "PET factor, adjoint",
        "by schedule",
    ):
        assert part in printed
    weights = re.findall(r"weights (\w{16})", printed)
    assert len(weights) == 2 and len(set(weights)) == 1


@pytest.mark.slow
def test_growth_is_drawn(forward, tmp_path, capsys):
    national = importlib.import_module("national")
    results = [
        national.run_unchecked(national.Sizes(reaches=n, cells=50, days=365 * y, gauges=5))
        for n, y in ((500, 1), (1000, 1), (500, 2))
    ]
    national.show_growth(results)
    national.draw_growth(results, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
    national.measure_threads(sources=200, stem=20, days=2, repeats=1)
    assert "a stem with long tributaries" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_generators_are_measured(forward, capsys):
    importlib.import_module("generators").main(900, 100, 3, 500)
    printed = capsys.readouterr().out
    assert "with a PET factor of 16 + 16 units" in printed and "static parameters of 500 cells" in printed


def test_a_country_is_the_same_for_the_same_seed_and_has_one_large_basin(forward):
    domains = importlib.import_module("domains")
    country, again = (domains.random_country(4, 5000, 600, 20) for _ in range(2))
    n = country.n_reaches
    assert abs(n - 5000) < 100
    for name in ("downstream", "length", "area"):
        np.testing.assert_array_equal(getattr(country.reaches, name), getattr(again.reaches, name))
    np.testing.assert_array_equal(country.links.cell, again.links.cell)
    below = country.reaches.downstream
    assert ((below == -1) | (below > np.arange(n))).all()
    size = np.ones(n)
    for i in range(n):
        if below[i] >= 0:
            size[below[i]] += size[i]
    assert size[country.outlets].max() / n == pytest.approx(0.42, abs=0.01)
    assert country.links.first[-1] == country.links.cell.size and set(country.links.cell) == set(range(600))
    row, column, cell = domains.hilbert_raster(600)
    assert sorted(cell) == list(range(600))
    steps = np.abs(np.diff(row[cell])) + np.abs(np.diff(column[cell]))
    assert (steps == 1).all(), "the curve jumps"


@pytest.fixture
def compare(forward, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER / "peers"))
    return importlib.import_module("compare")


@pytest.mark.slow
def test_peers_are_measured_where_they_are_installed(compare, capsys):
    """The solvers' discharge and gradients are ours, which `compare` asserts."""
    compare.main(compare.Sizes(
        smash_steps=20, units=50, unit_days=30, sources=200, river_days=1, fuse_sources=20, fuse_days=9, repeats=1,
    ))
    printed = capsys.readouterr().out
    for name, (_, needed) in compare.PEERS.items():
        missing = [package for package in needed if importlib.util.find_spec(package) is None]
        assert (f"{name}: left out, {', '.join(missing)} not installed" in printed) == bool(missing)
    if importlib.util.find_spec("scipy") is not None:
        assert "sparse systems, each anew (as DDR), with gradient" in printed
        assert "399 reaches x 1 days x 24 sub-steps" in printed


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason(compare, capsys, monkeypatch):
    def broken(sizes):
        raise ImportError("libpeer.so: no such file")

    peers = compare.PEERS
    monkeypatch.setattr(compare, "PEERS", {"a": (broken, ("no_such_package",)), "b": (broken, ("numpy",))})
    compare.main()
    printed = capsys.readouterr().out
    assert "a: left out, no_such_package not installed (pip install 'bmi-cdlm[peers]')" in printed
    assert "b: left out, it cannot be imported: libpeer.so" in printed
    measure, _ = peers["jFUSE"]
    monkeypatch.setattr(compare, "PEERS", {"jFUSE": (measure, ("jax", "no_such_package"))})
    compare.main()
    assert "no_such_package not installed (pip install --no-deps jfuse" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("measure.py", "--repeats", "1", "--precisions", "float32"), ("epoch.py", "--epochs", "1"),
], ids=lambda words: words[0])
def test_gpu_scripts_under_the_simulator_and_without_a_device(words):
    """Interpreted on the host, too: nothing has to be compiled for a few steps."""
    pytest.importorskip("numba.cuda")
    pytest.importorskip("torch")
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    script, *options = words
    words = [str(FOLDER / "gpu" / script), "--cells", "6", "--reaches", "7", "--days", "3", *options]
    run = subprocess.run(
        simulated_threads.command(*words, "--simulated"), env=simulated_threads.environment(environment),
        capture_output=True, text=True, check=False,
    )
    assert run.returncode == 0, run.stderr
    assert ("routing, forward + backward" if script == "measure.py" else "million reach-steps/s") in run.stdout
    run = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "no CUDA device here" in run.stderr


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


@pytest.fixture
def calibrate(script, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.syspath_prepend(str(FOLDER / "peers"))
    return script("calibrate")


def test_calibrations_are_kept_and_put_together(calibrate, tmp_path, capsys):
    """Rows of several seeds are one line, and what is there is not made again."""
    results = calibrate.Results(tmp_path / "results.json")
    for seed in (1, 2):
        found = {"fitted": [0.9 + seed / 100, 0.5], "seconds": float(seed)}
        results.add(f"lez, ours, network, all, seed {seed}", lambda found=found: found)
    results.add("lez, smash, uniform, all", lambda: {"fitted": [0.8, 0.7], "after": [0.6, 0.1], "seconds": 12.0})
    again = calibrate.Results(tmp_path / "results.json")
    again.add("lez, smash, uniform, all", lambda: pytest.fail("made again"))
    calibrate.console.print(calibrate.make_table(again.rows))
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│ lez" in line}
    assert "0.915 [0.910, 0.920]  0.500 [0.500, 0.500]" in lines["lez, ours, network, all"]
    assert "0.800  0.700" in lines["lez, smash, uniform, all"] and "12.0" in lines["lez, smash, uniform, all"]


@pytest.mark.slow
def test_our_calibration_is_scored_outlet_first(calibrate, tmp_path):
    from training_cases import write_training_case

    path = write_training_case(tmp_path, pet_factor=False, epochs=1, updates=2)
    _, found = calibrate.our_fit(path)
    assert len(found["fitted"]) == len(found["after"]) == 4 and found["seconds"] > 0
    assert np.isfinite(found["fitted"]).all() and 8 < calibrate.memory(path) < 2000


@pytest.mark.smash
@pytest.mark.slow
def test_what_hydro_smash_has_calibrated_runs_another_period(calibrate):
    """Its calibrated values are those of the run, and the run is what is scored."""
    pytest.importorskip("smash")
    made = calibrate.smash_model(calibrate.BASINS["lez"])
    made.set_rr_parameters("cp", 90.0)
    made.set_rr_initial_states("hp", 0.4)
    run = calibrate.smash_run(made, calibrate.smash_model(calibrate.BASINS["lez"]))
    other = calibrate.smash_run(calibrate.smash_model(calibrate.BASINS["lez"]), made.copy())
    made.forward_run(common_options={"verbose": False})
    np.testing.assert_array_equal(run.response.q, made.response.q)
    assert not np.array_equal(run.response.q, other.response.q)
    assert calibrate.smash_scores(run) == calibrate.smash_scores(made)


def test_every_row_of_ours_begins_at_one_that_is_made_before_it(calibrate):
    for basin in calibrate.BASINS.values():
        made = []
        for name, keys in basin.trainings.items():
            assert keys.get("start_from", "uniform") in [*made, "uniform"] and ("start_from" in keys) == (
                keys["mapping"] == "distributed"
            )
            made.append(name)
        assert made[0] == "uniform"
