"""The CUDA path against the CPU's: under numba's simulator everywhere, on a device where there is one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numba
import numpy as np
import pytest

from bmi_cdlm.domain.waves import Waves, level_reaches

PROGRAM = Path(__file__).with_name("compare_cuda.py")
SUMS = {"direct", "gain", "keep", "runoff"}
"""Their adjoints in routing are sums over sub-steps: in turn here, in vectors on the CPU."""
DOUBLE = (
    "daily, hysteresis", "daily, plain snow", "daily, blocks of the shipped length", "daily, a launch per sub-step",
    "hourly",
)
SINGLE = ("daily, single precision", "hourly, single precision")


def compare(*, simulated: bool) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"}
    environment["NUMBA_ENABLE_CUDASIM"] = "1" if simulated else "0"
    run = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def simulated() -> dict:
    found = compare(simulated=True)
    assert found["simulated"] is True
    return found


@pytest.fixture(scope="module")
def on_device() -> dict:
    cuda = pytest.importorskip("numba.cuda")
    if not cuda.is_available():
        pytest.skip("no CUDA device (numba.cuda.is_available() is false)")
    return compare(simulated=False)


@pytest.mark.parametrize("case", DOUBLE)
def test_simulated_double_precision_has_the_bits_of_the_cpu(simulated, case):
    for operator, results in simulated[case].items():
        for name, difference in results.items():
            allowed = 1e-12 if operator == "route_adjoint" and name in SUMS else 0.0
            assert difference <= allowed, (operator, name)


@pytest.mark.parametrize("case", SINGLE)
def test_simulated_single_precision_is_close(simulated, case):
    """The interpreter takes square roots in double precision."""
    for operator, results in simulated[case].items():
        assert max(results.values()) <= 1e-5, operator


@pytest.mark.gpu
@pytest.mark.parametrize(("case", "allowed"), [*((c, 1e-12) for c in DOUBLE), *((c, 1e-4) for c in SINGLE)])
def test_device_agrees_with_the_cpu(on_device, case, allowed):
    for operator, results in on_device[case].items():
        assert max(results.values()) <= allowed, operator


def test_every_operator_and_result_is_compared(simulated):
    operators = {"melt", "ordinates", "generate_runoff", "coefficients", "route"}
    for case in (*DOUBLE, *SINGLE):
        assert set(simulated[case]) == operators | {f"{o}_adjoint" for o in operators} | {"chain"}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_device_functions_are_those_of_the_cpu(dtype):
    """The same code objects but for the precision of the literals: no second copy of an equation."""
    from bmi_cdlm.kernels.device.launch import DEVICE, GRID, cuda_kernels
    from bmi_cdlm.kernels.launch import SCALARS, kernels

    of_device, of_cpu = cuda_kernels(dtype), kernels(dtype)
    for function in (*SCALARS, *DEVICE, *GRID):
        code = getattr(of_device, function.__name__).py_func.__code__
        assert code.co_code == function.__code__.co_code, function.__name__
        assert (code.co_filename, code.co_firstlineno) == (
            function.__code__.co_filename, function.__code__.co_firstlineno
        )
    for function in SCALARS:
        cpu = getattr(of_cpu, function.__name__)
        code = getattr(cpu, "py_func", cpu).__code__
        device_code = getattr(of_device, function.__name__).py_func.__code__
        assert (device_code.co_code, device_code.co_names) == (code.co_code, code.co_names), function.__name__
        assert list(map(repr, device_code.co_consts)) == list(map(repr, code.co_consts)), function.__name__


def test_the_loops_around_them_hold_no_equation():
    """Arithmetic with a number other than 0, 0.9 and 0.1 (the split of the unit hydrographs) is in the scalar steps."""
    from bmi_cdlm.kernels.device.launch import DEVICE, GRID

    for function in (*DEVICE, *GRID):
        literals = {c for c in function.__code__.co_consts if isinstance(c, float)}
        assert literals <= {0.0, 0.9, 0.1}, (function.__name__, literals)


def test_the_package_does_not_import_cuda():
    program = (
        "import sys, bmi_cdlm, bmi_cdlm.run.simulation, bmi_cdlm.model.operators, bmi_cdlm.bmi;"
        "assert not [m for m in sys.modules if m.startswith(('numba.cuda', 'numba_cuda'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_stream_is_asked_for_at_every_launch(monkeypatch):
    from bmi_cdlm.kernels.device import launch as cuda

    launched: list[tuple] = []

    class Kernel:
        def __getitem__(self, configuration):
            return lambda *arguments: launched.append((configuration, arguments))

    now = ["first"]
    monkeypatch.setattr(cuda, "SIMULATED", False)
    launcher = cuda.Launcher(np.float64, lambda: now[0], threads=8)
    launcher.kernels = types.SimpleNamespace(clear=Kernel())
    launcher.over(9, "clear", 1)
    now[0] = "second"
    launcher.over(9, "clear", 2)
    launcher.over_times(9, 3, "clear", 3)
    launcher.over(0, "clear", 4)
    assert launched == [
        ((2, 8, "first"), (1,)), ((2, 8, "second"), (2,)), (((2, 3), (8, 1), "second"), (3,)),
    ]


# ---- waves -------------------------------------------------------------------------------------------------


def random_forest(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([rng.integers(i + 1, min(n, i + 9)) if i < n - 3 else -1 for i in range(n)])


@pytest.mark.parametrize("seed", range(5))
def test_a_reach_is_one_level_above_the_reach_below(seed):
    downstream = random_forest(seed, 60)
    levels = level_reaches(downstream)
    assert sorted(levels.reach) == list(range(60))
    level = np.empty(60, np.int64)
    level[levels.reach] = np.repeat(np.arange(levels.first.size - 1), np.diff(levels.first))
    inner = downstream >= 0
    np.testing.assert_array_equal(level[downstream[inner]], level[inner] + 1)
    assert level.min() == 0
    assert set(level[~inner]) == {levels.first.size - 2}


@pytest.mark.parametrize(("n_sub_steps", "tile"), [(80, 4), (80, 80), (7, 3), (3, 1)])
def test_waves_run_every_tile_once_and_after_those_above(n_sub_steps, tile):
    downstream = random_forest(1, 40)
    levels = level_reaches(downstream)
    waves = Waves(levels, n_sub_steps, tile)
    assert waves.n_waves == -(-n_sub_steps // tile) + levels.first.size - 2
    done = np.zeros(40, np.int64)
    for block in waves.blocks(4):
        lowest, highest = waves.within(block)
        for wave in block:
            lo, hi = waves.active(wave)
            assert lowest <= lo <= hi <= highest
            ran = levels.reach[lo:hi]
            for i in ran:
                above = np.flatnonzero(downstream == i)
                assert (done[above] == done[i] + 1).all()  # the tile of the wave before, no older one
                assert set(above) <= set(levels.reach[slice(*waves.crossing(wave))])
            done[ran] += 1
    assert (done == waves.n_tiles).all()


# ---- what the simulator cannot see: types -------------------------------------------------------------------


def array(scalar, dimensions: int):
    return numba.types.Array(scalar, dimensions, "C")


def group(kind, *members):
    return numba.types.NamedUniTuple(members[0], len(members), kind) if len(set(members)) == 1 else (
        numba.types.NamedTuple(list(members), kind)
    )


def signatures(f) -> dict[str, tuple]:
    """Argument types of every kernel, as `operators_cuda` hands them over, for one precision."""
    from bmi_cdlm.kernels.device.routing import Chain, Places
    from bmi_cdlm.kernels.device.runoff import Rings
    from bmi_cdlm.kernels.groups import (
        ReachParameters,
        RunoffParameters,
        RunoffState,
        SnowParameters,
        SnowState,
        Step,
    )

    i, yes, double = numba.int64, numba.boolean, numba.float64
    a1, a2, a3, a4 = (array(f, k) for k in (1, 2, 3, 4))
    d1, d2, index = array(double, 1), array(double, 2), array(i, 1)
    step, rings = group(Step, f, f, f), group(Rings, a2, a2)
    snow, runoff = group(SnowParameters, *[a1] * 4), group(RunoffParameters, a1, a1, a1, a2, a2)
    snow_state, runoff_state = group(SnowState, *[a1] * 4), group(RunoffState, a1, a1, a2, a2)
    snow_starts, runoff_starts = group(SnowState, *[a2] * 4), group(RunoffState, a2, a2, a3, a3)
    places, chain = group(Places, *[array(numba.int32, 1)] * 6), group(Chain, a1, a1, a1)
    return {
        "melt_cells": (a2, a2, snow, snow_state, snow_starts, step, yes, i, a2),
        "melt_cells_adjoint": (
            a2, a2, snow, snow_starts, step, yes, i, a3, a2, snow_state, group(SnowParameters, *[d1] * 4), a2, a2,
        ),
        "runoff_cells": (a2, a2, runoff, runoff_state, runoff_starts, rings, step, i, a2),
        "runoff_cells_adjoint": (
            a2, a2, runoff, runoff_starts, rings, step, i, a3, rings, rings, a2, runoff_state,
            group(RunoffParameters, d1, d1, d1, d2, d2), a2,
        ),
        "fill_ordinates_cells": (a1, f, a2, a2),
        "fill_ordinates_cells_adjoint": (a1, f, d2, d2, a1),
        "sum_links": (index, index, a1, a2, a2, yes),
        "fill_coefficients_reaches": (a1, a1, f, group(ReachParameters, *[a1] * 4)),
        "fill_coefficients_reaches_adjoint": (a1, a1, f, group(ReachParameters, *[d1] * 4), a1, a1),
        "clear": (d1,),
        "take_places": (index, a1, a1),
        "give_reaches": (index, d1, d1),
        "route_wave": (i, i, i, places, chain, a1, a1, a2, a3, a1, i, a2),
        "retrace_wave": (i, i, i, i, i, places, chain, a1, a1, a2, a3, i, a4),
        "reverse_wave": (i, i, i, i, i, places, chain, a4, a2, a1, a3, a1, i, group(Chain, d1, d1, d1), a2),
        "keep_wave": (i, i, i, a1, a3, a2),
        "restore_wave": (i, i, i, a1, a3, a2),
    }


@pytest.fixture
def hopper(monkeypatch):
    """numba-cuda, for a device of compute capability 9.0 that is not there."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install bmi-cdlm[gpu]")
    from numba.cuda import compiler, dispatcher

    device = types.SimpleNamespace(compute_capability=(9, 0))
    for module in (compiler, dispatcher):
        monkeypatch.setattr(module, "get_current_device", lambda: device)
    return device.compute_capability


def kernels_and_arguments(dtype):
    from bmi_cdlm.kernels.device.launch import GRID, cuda_kernels

    argument_types = signatures({np.float32: numba.float32, np.float64: numba.float64}[dtype])
    assert set(argument_types) == {f.__name__ for f in GRID}
    for name, arguments in argument_types.items():
        yield name, getattr(cuda_kernels(dtype), name).py_func, arguments


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_compile_for_a_device_that_is_not_there(dtype, hopper):
    """Typing and lowering to LLVM need no device; float32 kernels calculate in float32 but for sums in float64."""
    from numba.cuda.compiler import compile_cuda

    for name, kernel, arguments in kernels_and_arguments(dtype):
        library = compile_cuda(kernel, numba.types.void, arguments, cc=hopper).library
        code = "\n".join(part.get_llvm_str() for part in (library, *library.linking_libraries))
        if dtype is np.float32:
            double = [line for line in code.splitlines() if " double " in line and ("fmul" in line or "fdiv" in line)]
            assert not double, (name, double[:3])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_become_the_code_of_a_device(dtype, hopper):
    """NVIDIA's compiler takes them; nothing goes through a thread's local memory, and float32 stays float32."""
    from numba import cuda

    libraries = pytest.importorskip("cuda.pathfinder", reason="an older numba-cuda looks for its compiler otherwise")
    try:
        for name in ("nvvm", "nvrtc"):
            libraries.load_nvidia_dynamic_lib(name)
    except libraries.DynamicLibNotFoundError:
        pytest.skip("no compiler for CUDA: pip install bmi-cdlm[gpu-cu13]")
    for name, kernel, arguments in kernels_and_arguments(dtype):
        code, _ = cuda.compile(kernel, arguments, device=False, cc=hopper, abi="numba")
        assert f".target sm_{hopper[0]}{hopper[1]}" in code
        assert ".entry" in code, name
        assert not re.findall(r"(?:ld|st)\.local.*", code)[:3], name
        if dtype is np.float32:
            assert not re.findall(r"(?:mul|div|fma|sqrt)\S*\.f64.*", code)[:3], name
