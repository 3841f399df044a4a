"""Steps whose adjoints are derived, and what those are compared with."""

from __future__ import annotations

import inspect
import linecache
import math
import types
from collections.abc import Callable

import numpy as np
from kernels.dual import jacobian
from kernels.test_adjoint_steps import PAIRS, Pair

from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.elementary import percolated_fraction, tanh_ratio
from bmi_cdlm.kernels.fused import fma

OUTSIDE = {"s_curve_1", "s_curve_2", "muskingum_coefficients"}
"""What is calculated once per parameter, not once per step, and has early returns and powers of its own."""
STEPS = [name for name in PAIRS if name not in OUTSIDE]


def derived(name: str) -> Pair:
    """A pair of the adjoints by hand, with the one that is derived in its place."""
    pair = PAIRS[name]
    seeds = {place: f"seed_{k}" for k, place in enumerate(pair.outputs)}
    adjoint = derive(pair.forward, pair.active, seeds)
    reads = tuple(inspect.signature(adjoint).parameters)[: -len(seeds)]
    return pair._replace(adjoint=adjoint, keeps=reads)


def adjoint_and_slopes(function: Callable, arguments: dict[str, float], seeds: dict[int, float]):
    """What is derived and what dual numbers say, for every argument; both float64[argument]."""
    active = tuple(arguments)
    adjoint = derive(function, active, {place: f"seed_{place}" for place in seeds})
    values = arguments | {f"seed_{place}": v for place, v in seeds.items()}
    found = adjoint(*(values[name] for name in inspect.signature(adjoint).parameters))
    exact = jacobian(function, arguments, active)
    return np.atleast_1d(found), sum(v * exact[place] for place, v in seeds.items())


def from_text(text: str, **names: object) -> types.FunctionType:
    """A function whose source is this text."""
    file = f"<text {abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope = {"math": math, "fma": fma, "tanh_ratio": tanh_ratio, "percolated_fraction": percolated_fraction, **names}
    exec(compile(text, file, "exec"), scope)
    return scope["step"]
