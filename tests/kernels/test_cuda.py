"""The CUDA path against the CPU's: under numba's simulator everywhere, on a device where there is one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest
from kernels.cuda_cases import Case, cases, domain_of, flows_of, outlets_and_more, parameters_of, series_of
from process_cases import CELLS, REACHES, VARYING

from bmi_cdlm.domain.waves import Waves, level_reaches
from bmi_cdlm.kernels.launch import call_graph, callee
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.reach_plan import ReachPlan
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.links import LINKS

pytest.importorskip("numba.cuda")

from bmi_cdlm.kernels.device import arrays, reaches, rings
from bmi_cdlm.kernels.device.cells import cell_kernels
from bmi_cdlm.kernels.device.launch import Launcher, cuda_compiled, is_grid
from bmi_cdlm.kernels.device.prepared import fill_kernels, ordinate_kernels
from bmi_cdlm.kernels.device.reaches import link_kernels, reach_kernels
from bmi_cdlm.model import memory_cuda, operators_cuda
from bmi_cdlm.model.operators_cuda import CudaOperators

PROGRAM = Path(__file__).with_name("compare_cuda.py")
CASES = cases()
DOUBLE = [name for name, case in CASES.items() if case.dtype is np.float64]
SINGLE = [name for name, case in CASES.items() if case.dtype is np.float32]
SUMMED_OTHERWISE = {f"{p.name}_adjoint" for p in REACHES}
"""Adjoints of routing are sums over sub-steps: in turn here, in vectors on the CPU."""


def allowance(operator: str, name: str, usual: float) -> float:
    """Adjoints of what is prepared, such as an exponent, are sums that cancel: in single precision few digits stay."""
    return 1e-3 if operator in SUMMED_OTHERWISE and name.startswith("symbol ") else usual


def compare(*, simulated: bool) -> dict:
    """In a process of its own; beside the simulator the host is interpreted, too: that has the bits of what is compiled
    (test_processes.py), and nothing has to be compiled for a few steps.
    """
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": f"{simulated:d}", "NUMBA_DISABLE_JIT": f"{simulated:d}"}
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


@pytest.mark.slow
@pytest.mark.parametrize("case", DOUBLE)
def test_simulated_double_precision_has_the_bits_of_the_cpu(simulated, case):
    """With components, the share of each in an adjoint is rounded once less than on the CPU."""
    for operator, results in simulated[case].items():
        close = operator in SUMMED_OTHERWISE or (operator.endswith("_adjoint") and CASES[case].components > 1)
        for name, difference in results.items():
            assert difference <= (1e-12 if close else 0.0), (operator, name)


@pytest.mark.slow
@pytest.mark.parametrize("case", SINGLE)
def test_simulated_single_precision_is_close(simulated, case):
    """The interpreter takes square roots in double precision."""
    for operator, results in simulated[case].items():
        for name, difference in results.items():
            assert difference <= allowance(operator, name, 1e-5), (operator, name)


@pytest.mark.gpu
@pytest.mark.parametrize(("case", "allowed"), [*((c, 1e-12) for c in DOUBLE), *((c, 1e-4) for c in SINGLE)])
def test_device_agrees_with_the_cpu(on_device, case, allowed):
    for operator, results in on_device[case].items():
        for name, difference in results.items():
            assert difference <= (allowance(operator, name, allowed) if case in SINGLE else allowed), (operator, name)


@pytest.mark.slow
def test_every_operator_and_result_is_compared(simulated):
    compared = set()
    for name, case in CASES.items():
        assert set(simulated[name]) == {f"{process}{end}" for process in case.compared for end in ("", "_adjoint")}
        compared |= set(case.compared)
    assert compared == {p.name for p in (*CELLS, *REACHES)}
    adjoints = simulated["three_stages, varying"]["three_stages_adjoint"]
    assert set(adjoints) > {"input pet_factor", "input test_recharge_shape", "state test_lower", "parameter test_slow"}


def generated() -> dict[Callable, set[float]]:
    """The kernels that are written from declarations, and the shares of the queues in them."""
    found: dict[Callable, set[float]] = {}
    for process in CELLS:
        shares, numbers = {q.share for q in process.queues.values()}, CellPlan(process).constant_group._fields
        kernels = [cell_kernels(process, ()), cell_kernels(process, tuple(sorted(VARYING.get(process.name, ()))))]
        kernels += [fill_kernels(one, numbers, tuple(process.attributes)) for one in process.prepared]
        kernels += [ordinate_kernels(queue, numbers) for queue in process.queues.values()]
        found |= dict.fromkeys(functions_of(kernels), shares)
    for process in REACHES:
        numbers = ReachPlan(process).constant_group._fields
        kernels = [reach_kernels(process), *(fill_kernels(one, numbers, tuple(process.attributes))
                                            for one in process.prepared)]
        found |= {f: set() for f in functions_of([*kernels, link_kernels(LINKS)])}
    return found


def functions_of(spaces: list) -> list[Callable]:
    values = [v for space in spaces for v in (space if isinstance(space, tuple) else vars(space).values())]
    return [f for f in values if isinstance(f, types.FunctionType)]


def of_device(*, loops_only: bool = False) -> list[Callable]:
    """The kernels and device functions around the steps, and what they come to call."""
    loops = [f for module in (arrays, reaches, rings) for f in functions_of([module])
             if f.__module__ == module.__name__ and not hasattr(f, "__wrapped__")]
    loops = [f for f in loops if not f.__name__.endswith("_kernels")] + list(generated())
    return loops if loops_only else list(call_graph(*loops))


def test_what_asks_for_its_place_in_the_grid_is_a_kernel():
    assert is_grid(link_kernels(LINKS).collect) and is_grid(cell_kernels(CELLS[0], ()).reverse)
    assert not is_grid(reaches.pull_inflow) and not is_grid(rings.pass_ring)
    assert {f.__name__ for f in arrays_and_waves() if not is_grid(f)} == {"pull_inflow"}
    assert all(map(is_grid, generated()))


def arrays_and_waves() -> list[Callable]:
    return [f for f in of_device(loops_only=True) if f.__module__ in (arrays.__name__, reaches.__name__)]


def test_kernels_are_written_once_for_every_operator():
    """A process compiles what it launches; of the same processes it shall not do so for every part of a domain."""
    process = CELLS[0]
    assert cell_kernels(process, ()) is cell_kernels(process, ())
    assert reach_kernels(REACHES[0]) is reach_kernels(REACHES[0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_device_functions_are_those_of_the_cpu(dtype):
    """The same code objects but for the precision of the literals: no second copy of an equation."""
    from kernels.every_kernel import SCALARS

    for function in of_device():
        code = cuda_compiled(function, dtype).py_func.__code__
        assert code.co_code == function.__code__.co_code, function.__name__
        assert (code.co_filename, code.co_firstlineno) == (
            function.__code__.co_filename, function.__code__.co_firstlineno
        )
    for function in set(SCALARS) & set(of_device()):
        cpu = callee(function, dtype)
        code = getattr(cpu, "py_func", cpu).__code__
        device_code = cuda_compiled(function, dtype).py_func.__code__
        assert (device_code.co_code, device_code.co_names) == (code.co_code, code.co_names), function.__name__
        assert list(map(repr, device_code.co_consts)) == list(map(repr, code.co_consts)), function.__name__


def test_the_loops_around_them_hold_no_equation():
    """Arithmetic with a number other than 0 and the shares of the queues is in the scalar steps."""
    shares = generated()
    for function in of_device(loops_only=True):
        literals = {c for c in function.__code__.co_consts if isinstance(c, float)}
        assert literals <= {0.0} | shares.get(function, set()), (function.__name__, literals)


def test_the_package_does_not_import_cuda():
    program = (
        "import sys, bmi_cdlm, bmi_cdlm.run.simulation, bmi_cdlm.model.operators, bmi_cdlm.bmi;"
        "assert not [m for m in sys.modules if m.startswith(('numba.cuda', 'numba_cuda'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_stream_is_asked_for_at_every_launch(monkeypatch):
    from bmi_cdlm.kernels.device import launch as cuda

    clear = arrays.fill
    launched: list[tuple] = []

    class Kernel:
        def __getitem__(self, configuration):
            return lambda *arguments: launched.append((configuration, arguments))

    now = ["first"]
    monkeypatch.setattr(cuda, "SIMULATED", False)
    monkeypatch.setattr(cuda, "cuda_compiled", lambda function, dtype: Kernel())
    launcher = cuda.Launcher(np.float64, lambda: now[0], threads=8)
    launcher.over(9, clear, 1)
    now[0] = "second"
    launcher.over(9, clear, 2)
    launcher.over_times(9, 3, clear, 3)
    launcher.over(0, clear, 4)
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


NEVER_LAUNCHED = {
    "fill_plain_full_cover_adjoint", "fill_inverse_of_capacity_adjoint", "fill_inverse_of_routing_capacity_adjoint",
}
"""Adjoints of what follows from attributes only, and of inverses that adjoints by hand take to the parameter itself."""


def launched_of(case: Case, monkeypatch) -> set[tuple[Callable, tuple]]:
    """Every kernel that a case launches and the types of its arguments, by operators on a device that is not there."""
    found: set[tuple[Callable, tuple]] = set()

    def note(_launcher: object, function: Callable, _blocks: object) -> Callable:
        return lambda *arguments: found.add((function, tuple(map(numba.typeof, arguments))))

    monkeypatch.setattr(Launcher, "_configure", note)
    for module in (memory_cuda, operators_cuda):
        monkeypatch.setattr(module, "to_device", lambda values: values)
    monkeypatch.setattr(memory_cuda, "as_device_array", np.asarray)
    domain = domain_of(21)
    ops = CudaOperators(
        case.chain, domain, case.step, case.step // 4, case.dtype, empty=np.zeros, tile=case.tile, block=case.waves,
        **case.options,
    )
    for operator in ops.cells:
        p = operator.prepare(parameters_of(operator.process, case, operator.n_units, 0))
        state = operator.start(p)
        out, record = operator.run(series_of(operator.process, case, 0), p, state)
        _, p_adj = operator.reverse(record, out, state)
        operator.prepare_adjoint(p, p_adj, state)
    p, values = ops.reach.prepare(parameters_of(case.chain.reach, case, domain.n_reaches, 0)), flows_of(case, 0)
    out, record = ops.reach.run(values["runoff"], p, values["state"], outlets_and_more(domain))
    ops.reach.prepare_adjoint(p, ops.reach.reverse(record, out, values["state"])[1])
    return found


@pytest.fixture
def hopper(monkeypatch):
    """numba-cuda, for a device of compute capability 9.0 that is not there."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install bmi-cdlm[gpu]")
    from numba.cuda import compiler, dispatcher

    device = types.SimpleNamespace(compute_capability=(9, 0))
    for module in (compiler, dispatcher):
        monkeypatch.setattr(module, "get_current_device", lambda: device)
    return device.compute_capability


@pytest.fixture(params=[np.float32, np.float64])
def kernels_and_arguments(request, monkeypatch) -> tuple[type, list]:
    """A precision, and every kernel of it with the types of its arguments."""
    kept = [c._replace(dtype=request.param) for c in CASES.values() if c.step == DAY and c.dtype is np.float64]
    launched = set().union(*(launched_of(case, monkeypatch) for case in kept))
    unused = {f for f in of_device() if is_grid(f)} - {f for f, _ in launched}
    assert {f.__name__ for f in unused} == NEVER_LAUNCHED
    return request.param, [
        (f"{f.__name__} of {f.__code__.co_filename}", cuda_compiled(f, request.param).py_func, arguments)
        for f, arguments in sorted(launched, key=lambda one: (one[0].__code__.co_filename, one[0].__name__))
    ]


@pytest.mark.slow
def test_kernels_compile_for_a_device_that_is_not_there(kernels_and_arguments, hopper):
    """Typing and lowering to LLVM need no device; float32 kernels calculate in float32 but for sums in float64."""
    from numba.cuda.compiler import compile_cuda

    dtype, kernels = kernels_and_arguments
    for name, kernel, arguments in kernels:
        library = compile_cuda(kernel, numba.types.void, arguments, cc=hopper).library
        code = "\n".join(part.get_llvm_str() for part in (library, *library.linking_libraries))
        if dtype is np.float32:
            double = [line for line in code.splitlines() if " double " in line and ("fmul" in line or "fdiv" in line)]
            assert not double, (name, double[:3])


@pytest.mark.slow
def test_kernels_become_the_code_of_a_device(kernels_and_arguments, hopper):
    """NVIDIA's compiler takes them; nothing goes through a thread's local memory, and float32 stays float32."""
    from numba import cuda

    libraries = pytest.importorskip("cuda.pathfinder", reason="an older numba-cuda looks for its compiler otherwise")
    try:
        for name in ("nvvm", "nvrtc"):
            libraries.load_nvidia_dynamic_lib(name)
    except libraries.DynamicLibNotFoundError:
        pytest.skip("no compiler for CUDA: pip install bmi-cdlm[gpu-cu13]")
    dtype, kernels = kernels_and_arguments
    for name, kernel, arguments in kernels:
        code, _ = cuda.compile(kernel, arguments, device=False, cc=hopper, abi="numba")
        assert f".target sm_{hopper[0]}{hopper[1]}" in code
        assert ".entry" in code, name
        assert not re.findall(r"(?:ld|st)\.local.*", code)[:3], name
        if dtype is np.float32:
            assert not re.findall(r"(?:mul|div|fma|sqrt)\S*\.f64.*", code)[:3], name
