"""power, exp, log and tanh: their error, their edges, and the same bits compiled, interpreted and on a device."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import mpmath
import numpy as np
import pytest
from numba import config, njit

from bmi_cdlm.kernels import transcendental
from bmi_cdlm.kernels.bits import COMPILED
from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.launch import compiled, new_root, retyped

PROGRAM = Path(__file__).with_name("compare_transcendental.py")
DTYPES = [np.float64, np.float32]
POINTS = 300 if config.DISABLE_JIT else 2000
FUNCTIONS = ("power", "exp", "log", "tanh")


def kernels(dtype):
    """The functions of `transcendental` as kernels call them."""
    found = (f for f in vars(transcendental).values() if inspect.isfunction(f))
    own = (f for f in found if f.__module__ == transcendental.__name__)
    return types.SimpleNamespace(**{f.__name__: compiled(f, dtype) for f in own})


INTERPRETED = {plain.__name__: plain for plain in COMPILED}
compiled_only = pytest.mark.skipif(config.DISABLE_JIT, reason="inspects machine code: needs the compiler")
both_precisions = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def exactly(value) -> mpmath.mpf:
    return mpmath.mpf(float(value))


def ulps(dtype, got: float, exact: mpmath.mpf) -> float:
    """Error in units of the last place at the exact result, below the smallest normal number in those of that."""
    limits = np.finfo(dtype)
    place = limits.minexp if exact == 0 else max(int(mpmath.floor(mpmath.log(abs(exact), 2))), limits.minexp)
    return float(abs(exactly(got) - exact) / mpmath.mpf(2) ** (place - limits.nmant))


def worst_of(function, exact, *points) -> float:
    dtype = points[0].dtype.type
    return max(ulps(dtype, function(*v), exact(*map(exactly, v))) for v in zip(*points, strict=True))


def range_of(dtype) -> tuple[float, float]:
    """Logarithms of the smallest normal and of the largest number."""
    limits = np.finfo(dtype)
    return float(np.log(float(limits.tiny))), float(np.log(float(limits.max)))


def about(dtype, *centres: float) -> np.ndarray:
    """The numbers at some centres and on either side."""
    at = np.array(centres, dtype)
    return np.r_[at, np.nextafter(at, dtype(np.inf)), np.nextafter(at, dtype(-np.inf))]


# ---- error ---------------------------------------------------------------------------------------------------


@both_precisions
@pytest.mark.parametrize(("largest", "allowed"), [(1, 1), (10, 1), (100, 2), (500, 4)])
def test_error_of_power(dtype, largest, allowed):
    """x such that results are even over the logarithms of the normal numbers, and x about 1, where they come from b."""
    rng, (lowest, highest) = np.random.default_rng(largest), range_of(dtype)
    b = rng.uniform(-largest, largest, POINTS).astype(dtype)
    far = np.exp(np.clip(rng.uniform(lowest, highest, POINTS) / b, lowest, highest))
    x = np.where(rng.uniform(size=POINTS) < 0.5, far, rng.uniform(0.5, 2, POINTS)).astype(dtype)
    logarithm = b.astype(float) * np.log(x.astype(float))
    normal = (logarithm > 0.999 * lowest) & (logarithm < 0.999 * highest)
    assert worst_of(kernels(dtype).power, mpmath.power, x[normal], b[normal]) <= allowed


@both_precisions
def test_error_of_exp(dtype):
    rng, (lowest, highest) = np.random.default_rng(2), range_of(dtype)
    halves = np.log(2) * (np.arange(int(lowest / np.log(2)) + 2, int(highest / np.log(2)) - 2) + 0.5)
    x = np.r_[
        rng.uniform(lowest, highest, POINTS), rng.uniform(-1, 1, POINTS), about(dtype, *halves), 0, lowest * 1.02,
        rng.choice([-1, 1], POINTS) * np.exp(rng.uniform(-50, 0, POINTS)),
    ].astype(dtype)
    x = np.r_[x, np.nextafter(dtype(np.log(np.finfo(dtype).max)), dtype(0))]
    assert worst_of(kernels(dtype).exp, mpmath.exp, x) <= 1


@both_precisions
def test_error_of_log(dtype):
    rng, (lowest, highest) = np.random.default_rng(3), range_of(dtype)
    limits = np.finfo(dtype)
    x = np.r_[
        np.exp(rng.uniform(lowest, highest, POINTS)), rng.uniform(0.5, 2, POINTS),
        1 + rng.choice([-1, 1], POINTS) * np.exp(rng.uniform(-35, -1, POINTS)),
        about(dtype, 1, 0.5**0.5, 2**0.5, 0.5, 2), limits.max, limits.tiny,
        np.exp(rng.uniform(lowest - 10, lowest, 20)), limits.smallest_subnormal,
    ].astype(dtype)
    assert worst_of(kernels(dtype).log, mpmath.log, x) <= 2


@both_precisions
def test_error_of_tanh(dtype):
    rng = np.random.default_rng(4)
    halves = np.log(2) / 2 * (np.arange(58) + 0.5)
    x = np.r_[
        rng.uniform(-21, 21, POINTS), np.exp(rng.uniform(range_of(dtype)[0], 0, POINTS)), rng.uniform(-1, 1, POINTS),
        about(dtype, *halves), about(dtype, 9.0109, 19.0615, 20), np.finfo(dtype).smallest_subnormal,
    ].astype(dtype)
    assert worst_of(kernels(dtype).tanh, mpmath.tanh, x) <= 2.5


@both_precisions
def test_parts_of_the_logarithm(dtype):
    """Together far better than one number: a power of b magnifies their error b times."""
    rng, (lowest, highest) = np.random.default_rng(5), range_of(dtype)
    x = np.r_[np.exp(rng.uniform(lowest, highest, POINTS)), rng.uniform(0.5, 2, POINTS)].astype(dtype)
    worst = 0.0
    for v in x:
        hi, lo = kernels(dtype).log_parts(v)
        exact = mpmath.log(exactly(v))
        worst = max(worst, float(abs((exactly(hi) + exactly(lo) - exact) / exact)))
    assert worst <= np.finfo(dtype).eps / 2**6


# ---- edges ---------------------------------------------------------------------------------------------------


@both_precisions
def test_edges_of_power(dtype):
    power, (inf, nan) = kernels(dtype).power, (np.inf, np.nan)
    for x, b, expected in (
        (0, 2.5, 0), (0, 1e-30, 0), (0, 0, 1), (0, -0.0, 1), (0, -1, inf), (-0.0, 2, 0), (-1e-9, 2, 0), (-3, 0, 1),
        (-3, -2, inf), (-inf, 2, 0), (1, 7, 1), (1, -7.3, 1), (5, 0, 1), (inf, 0.1, inf), (inf, -0.1, 0), (inf, 0, 1),
        (2, 10, 1024), (2, -1, 0.5), (10, 400, inf), (10, -400, 0), (0.1, 400, 0), (2, 1e30, inf), (2, -1e30, 0),
        (0.5, 1e30, 0), (nan, 2, nan), (2, nan, nan), (nan, 0, nan), (0, nan, nan), (inf, nan, nan), (-1, nan, nan),
        (nan, nan, nan),
    ):
        found = power(dtype(x), dtype(b))
        assert type(found) in (dtype, float)
        np.testing.assert_array_equal(found, dtype(expected), err_msg=f"{x}^{b}")
    for x in np.random.default_rng(1).uniform(0, 9, 50).astype(dtype):
        assert power(x, dtype(1)) == x


@both_precisions
def test_edges_of_exp_log_and_tanh(dtype):
    of, (inf, nan), limits = kernels(dtype), (np.inf, np.nan), np.finfo(dtype)
    for name, x, expected in (
        ("exp", 0, 1), ("exp", -0.0, 1), ("exp", inf, inf), ("exp", -inf, 0), ("exp", nan, nan), ("exp", 710, inf),
        ("exp", 1e30, inf), ("exp", -746, 0), ("exp", -1e30, 0), ("log", 1, 0), ("log", 0, -inf), ("log", -0.0, -inf),
        ("log", -2, -inf), ("log", -inf, -inf), ("log", inf, inf), ("log", nan, nan), ("tanh", 0, 0), ("tanh", -0.0, 0),
        ("tanh", 20, 1), ("tanh", -20, -1), ("tanh", inf, 1), ("tanh", -inf, -1), ("tanh", 1e30, 1), ("tanh", nan, nan),
    ):
        np.testing.assert_array_equal(getattr(of, name)(dtype(x)), dtype(expected), err_msg=f"{name}({x})")
    over = np.nextafter(dtype(np.log(float(limits.max))), dtype(inf))
    assert of.exp(np.nextafter(over, dtype(inf))) == inf
    assert np.isfinite(of.exp(np.nextafter(np.nextafter(over, dtype(0)), dtype(0))))


@both_precisions
def test_results_below_the_normal_numbers_fade_out(dtype):
    of, lowest = kernels(dtype), range_of(dtype)[0]
    for x in np.linspace(lowest * 1.03, lowest, 40).astype(dtype):
        assert ulps(dtype, of.exp(x), mpmath.exp(exactly(x))) <= 1
        half = dtype(np.exp(float(x) / 2))
        assert ulps(dtype, of.power(half, dtype(2)), exactly(half) ** 2) <= 1


@both_precisions
def test_tanh_is_odd_and_at_most_1(dtype):
    tanh = kernels(dtype).tanh
    x = np.linspace(0, 21, 2 * POINTS).astype(dtype)
    found = np.array([tanh(v) for v in x], dtype)
    assert found.max() == 1
    assert (np.diff(found) >= -2 * np.finfo(dtype).eps).all()
    assert [tanh(-v) for v in x] == [-v for v in found]


# ---- the same bits -------------------------------------------------------------------------------------------


def plain_chain(dtype) -> dict:
    """The plain functions in a precision, never compiled."""
    names: dict = {"fma": fma, **INTERPRETED}
    for name, function in vars(transcendental).items():
        if inspect.isfunction(function) and function.__module__ == transcendental.__name__:
            names[name] = retyped(function, dtype, names)
    return names


@compiled_only
@both_precisions
def test_compiled_functions_have_the_bits_of_the_plain_ones(dtype):
    rng, (lowest, highest) = np.random.default_rng(6), range_of(dtype)
    limits, plain, compiled = np.finfo(dtype), plain_chain(dtype), kernels(dtype)
    edges = [0, -1, 1, np.inf, -np.inf, np.nan, limits.max, limits.tiny, limits.smallest_subnormal, 720, -740, -95]
    x = np.r_[
        edges, np.exp(rng.uniform(lowest - 9, highest, 700)), rng.uniform(-30, 30, 300),
        rng.uniform(lowest, highest, 300),
    ].astype(dtype)
    b = rng.uniform(-10, 10, x.size).astype(dtype)
    for v, e in zip(x, b, strict=True):
        arguments = {"power_and_log": (v, e), "power": (v, e), "exp": (v,), "log": (v,), "tanh": (v,)}
        for name, given in arguments.items():
            ours, theirs = np.atleast_1d(compiled.__dict__[name](*given)), np.atleast_1d(plain[name](*given))
            assert theirs.dtype == dtype
            np.testing.assert_array_equal(ours.astype(dtype), theirs, err_msg=f"{name}{given}")


@compiled_only
@both_precisions
def test_bits_are_moved_as_numpy_does(dtype):
    """What the compiler makes of `bits` against numpy's own functions, edges of the range and subnormal numbers too."""
    named = {plain.__name__: f for plain, f in COMPILED.items()}
    compiled = {name: njit(calling(f, 2 if name == "times_two_to" else 1)) for name, f in named.items()}
    rng, limits = np.random.default_rng(7), np.finfo(dtype)
    x = np.r_[
        np.exp(rng.uniform(range_of(dtype)[0] - 10, range_of(dtype)[1], 500)), about(dtype, 0.5**0.5, 2**0.5, 1, 2),
        limits.max, limits.tiny, limits.smallest_subnormal,
    ].astype(dtype)
    for v in x:
        assert compiled["split_exponent"](v) == INTERPRETED["split_exponent"](v)
        m, k = INTERPRETED["split_exponent"](v)
        assert np.ldexp(m, int(k)) == v and dtype(0.5**0.5) <= m <= dtype(2**0.5)
    for n in np.r_[np.arange(-1200, 1200), -1e6, 1e6].astype(dtype):
        for v in rng.uniform(0.5, 2, 2).astype(dtype):
            assert compiled["times_two_to"](v, n) == INTERPRETED["times_two_to"](v, n)
    for v in np.r_[rng.uniform(-1100, 1100, 500), -0.5, 0.5, 1.5, 2.5].astype(dtype):
        assert compiled["nearest"](v) == INTERPRETED["nearest"](v)
    assert np.isnan(compiled["nearest"](dtype(np.nan)))
    for two_to in (compiled["times_two_to"], INTERPRETED["times_two_to"]):
        assert np.isnan(two_to(dtype(np.nan), dtype(np.nan)))


def calling(function, count: int):
    return (lambda x, n: function(x, n)) if count == 2 else (lambda x: function(x))


def compare(*, simulated: bool) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"}
    environment["NUMBA_ENABLE_CUDASIM"] = "1" if simulated else "0"
    run = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_simulated_device_has_the_bits_of_the_cpu():
    found = compare(simulated=True)
    assert found.pop("simulated") is True
    assert not [(precision, name) for precision, row in found.items() for name, count in row.items() if count], found


@pytest.mark.gpu
def test_device_has_the_bits_of_the_cpu():
    cuda = pytest.importorskip("numba.cuda")
    if not cuda.is_available():
        pytest.skip("no CUDA device (numba.cuda.is_available() is false)")
    found = compare(simulated=False)
    assert found.pop("simulated") is False
    assert not [(precision, name) for precision, row in found.items() for name, count in row.items() if count], found


@compiled_only
@both_precisions
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_product_is_left_that_a_device_would_fuse_with_a_sum(dtype, name, kernel_cache):
    """NVIDIA's compiler does so unless told otherwise: other bits. tanh's 2^n - 1 is the same either way.

    The function is compiled here: of what comes from a folder of compiled kernels numba shows no code.
    """
    scalar = new_root(getattr(transcendental, name), dtype)
    scalar(*[dtype(0.5)] * scalar.py_func.__code__.co_argcount)
    code = "\n".join(scalar.inspect_llvm().values())
    products = set(re.findall(r"(%\S+) = fmul (?:float|double) ", code))
    sums = re.findall(r"= f(?:add|sub) (?:float|double) ([^,]+), ([^,\s]+)", code)
    assert products and sums
    assert len([pair for pair in sums if products & set(pair)]) == (1 if name == "tanh" else 0)


# ---- speed ---------------------------------------------------------------------------------------------------


def row_of(dtype, name: str):
    of = kernels(dtype)
    power, exp, log, tanh, power_and_log, power_adjoint = (
        of.power, of.exp, of.log, of.tanh, of.power_and_log, of.power_adjoint
    )

    def row_power(x, b, out):
        for i in range(x.size):
            out[i] = power(x[i], b[i])

    def row_exp(x, b, out):
        for i in range(x.size):
            out[i] = exp(x[i])

    def row_log(x, b, out):
        for i in range(x.size):
            out[i] = log(x[i])

    def row_tanh(x, b, out):
        for i in range(x.size):
            out[i] = tanh(x[i])

    def row_all(x, b, out):
        for i in range(x.size):
            out[i] = power(x[i], b[i]) + exp(x[i]) * log(b[i]) + tanh(b[i])

    def row_adjoint(x, b, out):
        for i in range(x.size):
            y, log_x = power_and_log(x[i], b[i])
            x[i], b[i] = power_adjoint(x[i], b[i], y, log_x, out[i])

    chosen = {f.__name__: f for f in (row_power, row_exp, row_log, row_tanh, row_all, row_adjoint)}[f"row_{name}"]
    return njit(error_model="numpy", nogil=True)(chosen)


@compiled_only
@both_precisions
@pytest.mark.parametrize("name", [*FUNCTIONS, "all", "adjoint"])
def test_rows_are_vectorised(dtype, name):
    row, real = row_of(dtype, name), {np.float64: "double", np.float32: "float"}[dtype]
    row(*(np.full(64, 0.5, dtype) for _ in range(3)))
    code = row.inspect_llvm(row.signatures[0])
    for operation in (r"fmul", r"fadd", r"@llvm\.fma\S*\("):
        assert re.search(rf"{operation} ?<\d+ x {real}>", code), f"no {operation} of vectors"
    assert not re.search(r"call\b[^\n]*@(?:pow|exp|log|tanh|rint)f?\(", code)
    if dtype is np.float32:
        assert not re.findall(r"\bfpext\b.*", code)
        assert not re.findall(r"\bf(?:add|sub|mul|div|cmp|neg)\b[^\n]*\bdouble\b", code)


# ---- adjoints ------------------------------------------------------------------------------------------------


@both_precisions
def test_adjoint_of_power(dtype):
    rng, of = np.random.default_rng(9), kernels(dtype)
    eps = float(np.finfo(dtype).eps)
    for x, b, y_adj in zip(rng.uniform(0.01, 9, 300), rng.uniform(-9, 9, 300), rng.normal(size=300), strict=True):
        x, b, y_adj = dtype(x), dtype(b), dtype(y_adj)
        found = of.power_adjoint(x, b, *of.power_and_log(x, b), y_adj)
        X, B, Y = map(exactly, (x, b, y_adj))
        for got, exact in zip(found, (B * X ** (B - 1) * Y, X**B * mpmath.log(X) * Y), strict=True):
            assert abs(exactly(got) - exact) <= 5 * eps * abs(exact)


@both_precisions
def test_adjoint_of_power_at_the_edges(dtype):
    of = kernels(dtype)
    for x, b, expected in (
        (0, 2.5, (0, 0)), (0, 1, (3, 0)), (0, 0.5, (0, 0)), (0, 0, (0, 0)), (-1, 1, (0, 0)), (-1, 2, (0, 0)),
        (1, 4, (12, 0)), (0.5, 0, (0, 3 * np.log(0.5))), (1e-30, 9, (0, 0)),
    ):
        x, b = dtype(x), dtype(b)
        found = of.power_adjoint(x, b, *of.power_and_log(x, b), dtype(3))
        np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=1e-200, err_msg=f"{x}^{b}")


@both_precisions
def test_adjoints_of_exp_log_and_tanh(dtype):
    rng, of = np.random.default_rng(10), kernels(dtype)
    for x, y_adj in zip(rng.uniform(0.01, 3, 200).astype(dtype), rng.normal(size=200).astype(dtype), strict=True):
        for found, slope in (
            (of.exp_adjoint(of.exp(x), y_adj), mpmath.exp(exactly(x))),
            (of.log_adjoint(x, y_adj), 1 / exactly(x)),
            (of.tanh_adjoint(of.tanh(x), y_adj), mpmath.sech(exactly(x)) ** 2),
        ):
            exact = slope * exactly(y_adj)
            # 1 - y^2 is no better than y.
            assert abs(exactly(found) - exact) <= 5 * np.finfo(dtype).eps * max(abs(exact), abs(exactly(y_adj)))
    assert of.log_adjoint(dtype(0), dtype(2)) == of.log_adjoint(dtype(-1), dtype(2)) == 0
    assert of.tanh_adjoint(of.tanh(dtype(40)), dtype(2)) == 0


def test_adjoints_against_central_differences():
    of, h = kernels(np.float64), 1e-6
    for x in np.random.default_rng(11).uniform(0.1, 3, 30):
        y, log_x = of.power_and_log(x, 1.7)
        x_adj, b_adj = of.power_adjoint(x, 1.7, y, log_x, 1.0)
        differences = {
            x_adj: (of.power(x + h, 1.7) - of.power(x - h, 1.7)) / (2 * h),
            b_adj: (of.power(x, 1.7 + h) - of.power(x, 1.7 - h)) / (2 * h),
            of.exp_adjoint(of.exp(x), 1.0): (of.exp(x + h) - of.exp(x - h)) / (2 * h),
            of.log_adjoint(x, 1.0): (of.log(x + h) - of.log(x - h)) / (2 * h),
            of.tanh_adjoint(of.tanh(x), 1.0): (of.tanh(x + h) - of.tanh(x - h)) / (2 * h),
        }
        np.testing.assert_allclose(list(differences), list(differences.values()), rtol=1e-7, atol=1e-8)
