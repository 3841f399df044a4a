"""All compilation is in `initialize`, which says so once; the first update waits for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import N_CELLS, change_config, opened, outputs, write_case

from bmi_cdlm.kernels import launch
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run import rehearsal

ROOT = Path(__file__).resolve().parents[2]
DRIVE = """
import json, logging, sys, time
import numpy as np
from numba.core import event
from bmi_cdlm import BmiCdlm

class Count(event.Listener):
    n = 0
    def on_start(self, e): self.n += 1
    def on_end(self, e): pass

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
count = Count()
event.register("numba:compile", count)
found = []
for config in sys.argv[1:]:
    model = BmiCdlm()
    begin = time.process_time()
    model.initialize(config)
    found.append([count.n, time.process_time() - begin])
    count.n = 0
    for name in model.get_input_var_names():
        model.set_value(name, np.full(model.get_var_nbytes(name) // 8, 3.0))
    model.update()
    model.update_until(model.get_current_time() + 3 * model.get_time_step())
    model.update_until(model.get_current_time() + 60.0)
    for name in model.get_parameter_names():
        model.set_value(name, model.get_value_ptr(name) * 1.0)
    model.set_value("ngen::serialization_create", [1])
    model.set_value("ngen::serialization_state", model.get_value_ptr("ngen::serialization_state"))
    model.update()
    found[-1].append(count.n)
    count.n = 0
    model.finalize()
print(json.dumps(found))
"""


def driven(*configs):
    """Compilations and seconds of initialize, compilations after it; and what the log says."""
    result = subprocess.run(
        [sys.executable, "-c", DRIVE, *map(str, configs)], capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'training'}"},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), [line for line in result.stderr.splitlines() if "compil" in line]


@pytest.mark.slow
def test_an_empty_cache_is_filled_by_initialize_alone(kernel_cache, tmp_path):
    config = write_case(tmp_path, forcing="caller", snow="cemaneige", pet="oudin")
    other = change_config(config, "hourly.yaml", time_step="1 h", routing_step="15 min", end="2001-03-02")
    (first, second), log = driven(config, other)
    assert first[0] > 10 and first[2] == second[2] == 0
    assert len(log) == 1 and log[0].startswith("WARNING compiling the kernels")
    assert f"usually {rehearsal.USUAL_SECONDS} s" in log[0] and str(kernel_cache) in log[0]
    assert first[1] < 4 * rehearsal.USUAL_SECONDS  # it is no lie
    found, log = driven(config, other)
    assert [row[0] for row in found] == [row[2] for row in found] == [0, 0] and not log


def loaded():
    return {
        (function.__module__, function.__name__, np.dtype(dtype).name, s)
        for (function, dtype), made in launch._roots.items() for s in getattr(made, "overloads", ())
    }


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("snow", ["none", "cemaneige", "cemaneige_hysteresis"])
@pytest.mark.parametrize("keys", [
    {"forcing": "caller"}, {"forcing": "caller", "pet": "oudin", "name_profile": "ngen"}, {}, {"pet": "oudin"},
    {"ledger_tolerance": 1e-9}, {"threads": 2},
], ids=str)
def test_what_a_step_calls_is_there_before_it(tmp_path, step, snow, keys):
    with opened(write_case(tmp_path, step=step, snow=snow, **keys)) as component:
        before = loaded()
        for name in component.get_input_var_names():
            value = {"mm s^-1": 3.0 / DAY, "K": 280.0}.get(component.get_var_units(name), 3.0)
            component.set_value(name, np.full(N_CELLS, value))
        component.update()
        component.update_until(component.get_current_time() + 2 * step)
        assert loaded() == before


@pytest.mark.parametrize("keys", [{}, {"snow": "cemaneige", "forcing": "caller"}, {"initial_runoff": 1.0}])
def test_a_rehearsed_run_is_one_that_was_not(tmp_path, keys):
    config = write_case(tmp_path, **keys)
    rehearsal._rehearsed.clear()
    with opened(config) as first, opened(config) as second:
        assert rehearsal._rehearsed
        for component in (first, second):
            for name in component.get_input_var_names():
                component.set_value(name, np.full(N_CELLS, 3.0))
        assert_equal(first, second)
        for component in (first, second):
            component.update_until(3 * DAY + 60)
        assert_equal(first, second)


def assert_equal(first, second):
    theirs = outputs(second)
    for name, values in outputs(first).items():
        np.testing.assert_array_equal(values, theirs[name], err_msg=name)
