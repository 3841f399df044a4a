"""The example of a reservoir in a river: its water, its picture, and the same bits behind a server."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cases import opened, write_case

from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.variables import variable

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "reservoir"


@pytest.fixture(scope="module")
def example():
    """The modules of the example."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield importlib.import_module("level_pool"), importlib.import_module("river_and_dam")
    finally:
        sys.path.remove(str(EXAMPLE))


def pool(example, tmp_path, **settings):
    path = tmp_path / "pool.yaml"
    path.write_text(yaml.safe_dump(settings))
    component = example[0].LevelPool()
    component.initialize(str(path))
    return component


def value(component, name):
    return float(component.get_value_ptr(name)[0])


@pytest.mark.parametrize("seconds", [3600.0, 86400.0, 40 * 86400.0])
def test_the_pool_closes_its_water_and_spills_above_its_crest(example, tmp_path, seconds):
    names = example[0]
    dam = pool(example, tmp_path, area=1e5, crest=3.0, weir=2.0, target=1.0, level=2.0, step=seconds)
    rng, came, left, at_start = np.random.default_rng(1), 0.0, 0.0, value(dam, names.STORAGE)
    for _ in range(300):
        inflow = rng.exponential(3.0) * (rng.random() < 0.4)
        dam.set_value(names.INFLOW, np.array([inflow]))
        dam.update()
        release, spill, out = (value(dam, n) for n in (names.RELEASE, names.SPILL, names.OUTFLOW))
        level = value(dam, names.LEVEL)
        assert out == pytest.approx(release + spill, abs=1e-9) and 0.0 <= release <= 1.0
        assert spill == pytest.approx(2.0 * max(level - 3.0, 0.0) ** 1.5, rel=1e-6, abs=1e-9)
        assert level >= 0.0 and (release == 1.0 or level == 0.0)  # less than asked for only where it is empty
        came, left = came + inflow * seconds, left + out * seconds
    assert abs(value(dam, names.STORAGE) - at_start - came + left) <= 1e-12 * (came + at_start)
    assert left > 0


def test_a_steady_pool_stands_where_the_weir_takes_the_rest(example, tmp_path):
    names = example[0]
    dam = pool(example, tmp_path, area=1e5, crest=3.0, weir=2.0, target=1.0, level=3.0)
    dam.set_value(names.INFLOW, np.array([6.4]))
    for k in range(1, 9):
        dam.update_until(k * 100 * 86400.0)
    assert value(dam, names.LEVEL) == pytest.approx(3.0 + (5.4 / 2.0) ** (2 / 3), rel=1e-9)
    with pytest.raises(ValueError, match="cannot go back"):
        dam.update_until(0.0)
    dam.set_value(names.INFLOW, np.array([np.nan]))
    with pytest.raises(ValueError, match="inflow is nan"):
        dam.update()
    for settings, said in [
        ({"depth": 3.0}, "unknown key 'depth'"), ({"area": 0}, "area is 0, expected a finite number, more than 0"),
        ({"crest": "high"}, "crest is 'high'"), ({"weir": True}, "weir is True"), ({"target": -1.0}, "target is -1.0"),
        ({"level": float("nan")}, "level is nan"), ({"step": [1]}, "step is"),
    ]:
        with pytest.raises(ValueError, match=said):
            pool(example, tmp_path, **settings)


def test_settings_are_numbers_as_pymt_writes_them(example, tmp_path):
    """Its template gives 150000.0 and 1.5e+05, people write 1.5e5, which YAML takes for a text."""
    path = tmp_path / "pool.yaml"
    path.write_text("area: 1.5e5\ncrest: 4\n")
    settings = example[0].read_settings(str(path))
    assert (settings.area, settings.crest, settings.weir) == (150000.0, 4.0, example[0].Settings().weir)
    assert type(settings.crest) is float and example[0].read_settings("") == example[0].Settings()


def test_both_components_close_the_water_of_a_case(example, tmp_path):
    driver = example[1]
    config = write_case(tmp_path, n_steps=200, coupled_inputs=["reach_inflow"], ledger_tolerance=1e-12)
    found = []
    for there in (False, True):
        with opened(config) as river:
            domain = river._stepper.simulation.model.domain
            inner = np.flatnonzero(domain.reaches.downstream >= 0)
            place = int(inner[domain.reaches.upstream_area[inner].argmax()])
            dam = pool(example, tmp_path, area=5e4, crest=3.0, weir=2.0, target=0.05, level=1.0) if there else None
            found.append(driver.couple(river, dam, place, 200, None, 0.0))
            taken = variable("reach_inflow_taken").name
            assert bool(river.get_value_ptr(taken)[place] < 0) is there
            assert bool(river.get_value_ptr(variable("discharge").name)[place] == 0.0) is there
    natural, dammed = found
    assert dammed.closure < 1e-9 and natural.closure < 1e-9
    assert dammed.spill.max() > 0.0 and dammed.inflow.sum() > 0 and dammed.storage.max() > dammed.storage.min()
    # What the pool gave over all steps but the last, and what flowed into it, differ by what it holds.
    kept = (dammed.inflow - dammed.release - dammed.spill).sum() * DAY
    assert kept == pytest.approx(dammed.storage[-1] - 5e4, rel=1e-9)


def run_example(tmp_path, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "training")])}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "river_and_dam.py"), "--picture", str(tmp_path / "dam.png"), *arguments],
        capture_output=True, text=True, timeout=300, env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_command_draws_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    told = run_example(tmp_path)
    closure = float(re.search(r"closed to ([\d.e-]+)", told)[1])
    assert closure < 1e-9 and (tmp_path / "dam.png").read_bytes()[:4] == b"\x89PNG"
    flows = [float(x) for x in re.findall(r"([\d.]+)(?: m3 s-1)? with", told)]
    assert len(flows) == 2 and flows[1] < flows[0], told  # the dam lowers the largest flow


def test_a_case_of_ones_own_stays_as_it_is(tmp_path):
    pytest.importorskip("matplotlib")
    config = write_case(tmp_path, n_steps=20)
    before = config.read_text(), sorted(p.name for p in tmp_path.iterdir())
    assert "20 steps" in run_example(tmp_path, "--config", str(config))
    assert (config.read_text(), sorted({p.name for p in tmp_path.iterdir()} - {"dam.png"})) == before


@pytest.mark.slow
def test_behind_a_server_it_is_the_same(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("grpc4bmi.bmi_grpc_client", reason="grpc4bmi is not installed (extra `coupling`)")
    here, there = run_example(tmp_path, "--days", "40"), run_example(tmp_path, "--days", "40", "--server")
    assert here == there
