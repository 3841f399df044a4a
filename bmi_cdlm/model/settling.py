"""How long rivers remember: after how many routing steps less than a share is left of what stood in them.

Of a linear process whose state is one number the step itself says it: of a unit that enters a reach, `direct` leaves
in the same routing step, and gain times given times kept^(k - 1) leaves k steps later. Of the sum T of independent
times, one in each reach of a way, less than E[exp(s T)] exp(-s t) is later than t [Chernoff 1952], for every s; E is
the product of those of the reaches. With magnitudes in place of coefficients it holds for responses that change their
sign, too.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.network import longest_way
from bmi_cdlm.kernels.dialect import flatten
from bmi_cdlm.kernels.loops.reach_plan import SECONDS, ReachPlan

SHARES, MOST = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97), 30.0
"""Shares of the largest s that a bound can have, of which the best is taken; s where nothing stays in any reach."""
OPERATIONS: Mapping[str, Callable] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "fma": lambda a, b, c: a * b + c,
}


class Response(NamedTuple):
    """What a reach makes of a unit of inflow and of a unit of its state, float64[reach]."""

    direct: np.ndarray
    gain: np.ndarray
    given: np.ndarray
    kept: np.ndarray


def response(plan: ReachPlan, symbols: Mapping[str, np.ndarray], seconds: float, count: int) -> Response | None:
    """The response of every reach, from parameters and prepared values by symbol; None of a step that is more than
    linear arithmetic."""
    if not (plan.process.linear and plan.in_lanes):
        return None
    zero, one = np.zeros(count), np.ones(count)
    fixed = {a: symbols[a].astype(np.float64) for a in plan.coefficients} | {SECONDS: np.full(count, seconds)}
    direct, gain = _evaluate(plan.process.step, fixed | {plan.process.symbol: zero, "inflow": one})
    given, kept = _evaluate(plan.process.step, fixed | {plan.process.symbol: one, "inflow": zero})
    return Response(direct, gain, given, kept)


def _evaluate(step: Callable, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """An arithmetic step of whole arrays, to rounding: its own would take them number by number."""
    lines, arguments, returned = flatten(step)
    found = {id(value): values[name] for name, value in arguments.items()}
    for value in lines.values:
        if value.operation in OPERATIONS:
            operands = (one if isinstance(one, float) else found[id(one)] for one in value.operands)
            found[id(value)] = OPERATIONS[value.operation](*operands)
    like = next(iter(values.values()))
    return [np.broadcast_to(one if isinstance(one, float) else found[id(one)], like.shape) for one in returned]


def settling(of: Response, downstream: np.ndarray, least: float) -> float:
    """Routing steps after which less than the share `least` is left of what stood anywhere or has entered; inf where
    something stays for good, or a coefficient has no value."""
    direct, later, kept = np.abs(of.direct), np.abs(of.gain * of.given), np.abs(of.kept)
    largest = float(kept.max(initial=0.0))
    if not largest < 1.0:
        return math.inf
    most, steps = MOST if largest == 0.0 else min(-math.log(largest), MOST), math.inf
    for s in (share * most for share in SHARES):
        stays = 1.0 - kept * math.exp(s)
        spent = np.log(np.maximum(direct + later * (math.exp(s) / stays), (1.0 - kept) / stays))
        steps = min(steps, (longest_way(downstream, np.maximum(spent, 0.0)) - math.log(least)) / s)
    return steps
