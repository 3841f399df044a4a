"""The simulator with threads in turn: every thread runs once, in another order than its number, and none may wait."""

from __future__ import annotations

import json
import subprocess

import pytest
import simulated_threads

pytest.importorskip("numba.cuda")

PROGRAM = """
import json, sys
import numpy as np
from numba import cuda

@cuda.jit(device=True)
def place_of(n):
    i = cuda.grid(1)
    return i if i < n else -1

@cuda.jit
def count(out, order, next_place):
    i = place_of(out.size)
    if i >= 0:
        out[i] += cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x + 1
        order[next_place[0]] = i
        next_place[0] += 1

@cuda.jit
def over_rows(out):
    t, i = cuda.blockIdx.y, cuda.grid(1)
    if i < out.shape[1]:
        out[t, i] += 10 * t + i

@cuda.jit
def waits(out):
    out[cuda.grid(1)] = 1
    cuda.syncthreads()

@cuda.jit
def fails(out):
    out[cuda.grid(1) + 7] = 1 // (cuda.grid(1) - 2)

def of(kernel, *configuration):
    try:
        kernel[configuration](np.zeros(3, np.int64))
    except Exception as error:
        return f"{type(error).__name__}: {error}"

out, order, next_place = np.zeros(10, np.int64), np.zeros(10, np.int64), np.zeros(1, np.int64)
count[3, 4](out, order, next_place)
rows = np.zeros((2, 5), np.int64)
over_rows[(2, 2), (4, 1)](rows)
print(json.dumps({
    "out": out.tolist(), "order": order.tolist(), "rows": rows.tolist(), "waits": of(waits, 1, 3),
    "fails": of(fails, 1, 3), "words": sys.argv[1:], "name": __name__,
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    program = tmp_path_factory.mktemp("program") / "kernels.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        simulated_threads.command(program, "--some", 7), env=simulated_threads.environment(), capture_output=True,
        text=True, check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_thread_runs_once_at_its_place(found):
    assert found["out"] == list(range(1, 11))
    assert found["rows"] == [[0, 1, 2, 3, 4], [10, 11, 12, 13, 14]]


def test_threads_of_a_block_have_no_order_and_blocks_have(found):
    order = found["order"]
    assert sorted(order) == list(range(10)) != order
    assert [sorted(order[lo:hi]) for lo, hi in ((0, 4), (4, 8), (8, 10))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_kernel_whose_threads_wait_for_each_other_is_refused(found):
    assert "waits for the others of its block" in found["waits"]


def test_an_error_of_a_thread_ends_the_launch_and_names_it(found):
    assert found["fails"] is not None and "tid=[" in found["fails"] and "ctaid=[0, 0, 0]" in found["fails"]


def test_the_program_has_its_arguments_and_is_the_main_one(found):
    assert (found["words"], found["name"]) == (["--some", "7"], "__main__")


def test_a_module_is_run_too():
    run = subprocess.run(
        simulated_threads.command("platform", "--terse"), env=simulated_threads.environment(), capture_output=True,
        text=True, check=False,
    )
    assert run.returncode == 0 and run.stdout.strip(), run.stderr


def test_the_environment_is_that_of_the_caller_and_the_simulator():
    assert simulated_threads.environment({"A": "b"}) == {"A": "b", "NUMBA_ENABLE_CUDASIM": "1"}
    assert simulated_threads.environment()["NUMBA_ENABLE_CUDASIM"] == "1"
