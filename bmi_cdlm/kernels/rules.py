"""Rules of functions that are called rather than read: what they return, and their adjoints.

Such a function is outside the dialect (bits, tables, whole numbers):

    @adjoint_of(tanh_ratio, "n", "d = n + 2.0")
    def tanh_ratio_adjoint(n, n_adj):
        return 2.0 * (n + 1.0) * n_adj
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Rule(NamedTuple):
    """How a function is called and reversed without being read: its results by name, and its adjoint.

    results: "n", or "d = n + 2.0" for one that follows from those before it, the same bits; adjoint: a function in the
    dialect, or its name in the module of the function. It takes what it needs, by name, of the function's arguments,
    results and adjoints of results (n_adj), and returns the adjoints of `of`, by default of every argument in order.
    """

    results: tuple[str, ...]
    adjoint: Callable | str
    of: tuple[str, ...] | None = None


TRANSCENDENTAL = "bmi_cdlm.kernels.transcendental"
RULES: dict[str, Rule] = {
    f"{TRANSCENDENTAL}.exp": Rule(("y",), "exp_adjoint"),
    f"{TRANSCENDENTAL}.log": Rule(("y",), "log_adjoint"),
    f"{TRANSCENDENTAL}.tanh": Rule(("y",), "tanh_adjoint"),
    f"{TRANSCENDENTAL}.power_and_log": Rule(("y", "log_x"), "power_adjoint"),
}
"""Functions that are called rather than read, by module and name; `adjoint_of` adds to them."""


def rule_of(function: Callable) -> Rule | None:
    """Return the rule of a function, or None."""
    return RULES.get(f"{function.__module__}.{function.__qualname__}")


def adjoint_of(function: Callable, *results: str, of: tuple[str, ...] | None = None) -> Callable[[Callable], Callable]:
    """Register what is decorated as the adjoint of a function, which is called rather than read from then on.

    results and of: as in `Rule`.
    """
    def register(adjoint: Callable) -> Callable:
        RULES[f"{function.__module__}.{function.__qualname__}"] = Rule(results, adjoint, of)
        return adjoint

    return register
