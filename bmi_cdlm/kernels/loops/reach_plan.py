"""A process of reaches as the templates of loops see it: its symbols by what they are, and calls of its step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

from bmi_cdlm.kernels.adjoint import derive
from bmi_cdlm.kernels.dialect import is_arithmetic
from bmi_cdlm.kernels.loops.groups import group
from bmi_cdlm.kernels.loops.source import arguments_of, returned_count
from bmi_cdlm.names.declaration import ReachProcess
from bmi_cdlm.names.errors import DeclarationError

RESERVED = {
    "adjoints", "back", "day", "discharge", "flow", "flow_adj", "flows", "i", "inflow_adj", "k", "lateral_adj",
    "lateral_inflow", "mean", "n", "n_steps", "n_sub", "outflow", "outflow_adj", "p", "p_adj", "place", "real", "space",
    "state", "state_adj", "step_seconds", "t", "tape", "total", "volume", "y", "y_adj",
}
"""Names of the loops' own, which can be no symbols."""
SECONDS = "seconds"
"""Symbol of the length of a routing step [s]."""


class ReachPlan:
    """A reach process as the templates see it.

    Raises
    ------
    DeclarationError
        The declaration does not fit its steps.
    """

    def __init__(self, process: ReachProcess) -> None:
        self.process = process
        self.parameters = {p.name: p for p in process.parameters}
        self._check()

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """Symbols that the step takes, in its order."""
        return arguments_of(self.process.step)

    @cached_property
    def coefficients(self) -> tuple[str, ...]:
        """Symbols of parameters and prepared values that the step takes."""
        return tuple(a for a in self.takes if a not in (self.process.symbol, "inflow", SECONDS))

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Symbols of parameters and prepared values, one per reach."""
        prepared = [symbol for one in self.process.prepared for symbol in one.returns]
        return tuple(dict.fromkeys([*(p.symbol for p in self.process.parameters), *prepared]))

    @cached_property
    def constant_group(self) -> type[Any]:
        """Numbers of a routing step: its length [s]."""
        return group("RoutingStep", (SECONDS,))

    @cached_property
    def learned(self) -> tuple[str, ...]:
        """Symbols whose adjoints the step's adjoint returns."""
        return self.coefficients

    @cached_property
    def read(self) -> tuple[str, ...]:
        """Symbols that the step, the volume, its inverse or a steady flow take."""
        process = self.process
        taken = dict.fromkeys(self.coefficients)
        for function in (process.volume, process.from_volume, process.steady):
            taken |= dict.fromkeys(arguments_of(function))
        return tuple(a for a in taken if a in self.fixed)

    @cached_property
    def parameter_group(self) -> type[Any]:
        """float[reach]: what the process reads, by symbol."""
        return group("ReachParameters", self.read)

    @cached_property
    def adjoint_group(self) -> type[Any]:
        """float[reach]: adjoints of what the step takes."""
        return group("ReachAdjoints", self.coefficients)

    @cached_property
    def adjoint(self) -> Callable:
        """The adjoint of the step: takes the step's arguments and the adjoints of outflow and state; returns those of
        state, inflow and coefficients."""
        process = self.process
        if process.adjoint is not None:
            return process.adjoint
        active = (process.symbol, "inflow", *self.coefficients)
        return derive(
            process.step, active, {0: "outflow_adj", 1: f"{process.symbol}_adj"},
            name=f"{process.step.__name__}_adjoint",
        )

    @cached_property
    def in_lanes(self) -> bool:
        """Whether the step can be taken by eight reaches at once: it is arithmetic alone."""
        return is_arithmetic(self.process.step)

    @cached_property
    def adjoint_in_lanes(self) -> bool:
        """Whether the adjoint can be taken by eight reaches at once: of a linear step, arithmetic alone too."""
        return self.in_lanes and self.process.linear and is_arithmetic(self.adjoint)

    @cached_property
    def adjoint_takes(self) -> tuple[str, ...]:
        """Arguments of the adjoint."""
        return arguments_of(self.adjoint)

    def _check(self) -> None:
        process = self.process
        if process.symbol not in self.takes or "inflow" not in self.takes:
            self._refuse(
                f"step '{process.step.__name__}' takes {', '.join(self.takes)}, expected '{process.symbol}' and "
                "'inflow' among them. Rename its arguments, or the symbol of the state"
            )
        for a in self.coefficients:
            if a not in self.fixed:
                self._refuse(
                    f"step '{process.step.__name__}' takes '{a}', which is no parameter or prepared value. Known: "
                    f"{', '.join(self.fixed)}"
                )
            if a in RESERVED:
                self._refuse(f"'{a}' cannot be a symbol: the loops use that name. Choose another")
        if returned_count(process.step) != 2:
            self._refuse(
                f"step '{process.step.__name__}' returns {returned_count(process.step)} values, expected two: the "
                "outflow and the state"
            )
        own = {process.symbol, "volume", "flow", SECONDS, *self.fixed}
        for function in (process.volume, process.from_volume, process.steady, *(process.waves or ())):
            for a in arguments_of(function):
                if a not in own:
                    self._refuse(f"'{function.__name__}' takes '{a}', expected some of {', '.join(sorted(own))}")

    def _refuse(self, message: str) -> None:
        raise DeclarationError(f"process '{self.process.name}': {message}.")


@cache
def reach_plan(process: ReachProcess) -> ReachPlan:
    """Return the plan of a process; the same object at every call, as every making of its loops is compiled anew."""
    return ReachPlan(process)


def numbered(items: list[str], k: int | str) -> str:
    """Names of the same things of reach k."""
    return ", ".join(f"{item}_{k}" for item in items)


def call(plan: ReachPlan, inflow: str, k: str = "") -> str:
    """The step of one reach."""
    values = {plan.process.symbol: f"state{k}", "inflow": inflow, SECONDS: SECONDS}
    return f"{plan.process.step.__name__}({', '.join(values.get(a, a + k) for a in plan.takes)})"


def adjoint_call(plan: ReachPlan, values: dict[str, str]) -> str:
    """The adjoint of the step."""
    return f"{plan.adjoint.__name__}({', '.join(values.get(a, a) for a in plan.adjoint_takes)})"
