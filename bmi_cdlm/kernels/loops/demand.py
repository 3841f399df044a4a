"""The loop around a formula of potential evapotranspiration, written from its declaration."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from bmi_cdlm.kernels.loops.routing import real
from bmi_cdlm.kernels.loops.source import arguments_of, make_functions, signature
from bmi_cdlm.names.declaration import PLACE, SKY, Formation, PetFormula
from bmi_cdlm.names.errors import DeclarationError
from bmi_cdlm.names.time_steps import STEP_NAMES
from bmi_cdlm.names.variables import BY_SHORT


def hour_of_day(hour):
    """Full hours [h] since midnight, 0 to 23, of any hour."""
    return int(hour - 24.0 * real(math.floor(hour / 24.0))) % 24


class DemandPlan:
    """A formula at a model step [s], as the template sees it.

    Raises
    ------
    DeclarationError
        The declaration does not fit its steps.
    """

    def __init__(self, formula: PetFormula, step: int) -> None:
        self.formula, self.step = formula, step
        self._check()

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """Symbols that the function of the step takes, in its order."""
        return arguments_of(self.formula.steps[self.step])

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Facts of cells that the loop reads: the solar time of a cell follows from its longitude."""
        solar = "solar_hour" in self.takes or "hour_share" in self.takes
        return tuple(one for one in PLACE if one in self.takes or (solar and one == "longitude"))

    @cached_property
    def quantities(self) -> dict[str, str]:
        """Symbol of every quantity of the weather that is read at the step, by registry name."""
        return {name: one.symbol for name, one in self.formula.inputs.items() if one.symbol in self.takes}

    def _check(self) -> None:
        formula, where = self.formula, f"formula '{self.formula.name}'"
        if self.step not in formula.steps:
            raise DeclarationError(
                f"{where}: has no function for a step of {STEP_NAMES[self.step]}, expected one of "
                f"{', '.join(STEP_NAMES[step] for step in formula.steps)}. Choose another formula or step."
            )
        symbols = [one.symbol for one in formula.inputs.values()]
        for name in formula.inputs:
            if name not in BY_SHORT or BY_SHORT[name].role != "input":
                raise DeclarationError(f"{where}: there is no input '{name}'. Read those of the registry.")
        for symbol in (*symbols, *formula.constants):
            if [*symbols, *formula.constants, *PLACE, *SKY].count(symbol) > 1:
                raise DeclarationError(f"{where}: the symbol '{symbol}' means two things. Rename one of them.")
        for symbol in self.takes:
            if symbol not in (*symbols, *formula.constants, *PLACE, *SKY):
                raise DeclarationError(
                    f"{where}: {formula.steps[self.step].__name__} takes '{symbol}', which is no input and no constant "
                    f"of it, and none of {', '.join((*PLACE, *SKY))}. Declare it."
                )
        for name, symbol in zip(formula.inputs, symbols, strict=True):
            if not any(symbol in arguments_of(function) for function in formula.steps.values()):
                raise DeclarationError(f"{where}: reads '{name}' ('{symbol}'), which no step takes. Leave it out.")
        for symbol, by_step in formula.constants.items():
            if symbol in self.takes and self.step not in by_step:
                raise DeclarationError(
                    f"{where}: the constant '{symbol}' has no value for a step of {STEP_NAMES[self.step]}. Give it one."
                )


plan_of = cache(DemandPlan)


@cache
def demand_loop(plan: DemandPlan, formed: tuple[tuple[str, Formation], ...]) -> types.FunctionType:
    """Return the loop that fills the demand of cells, over all steps of a block.

    formed : quantities that are made of others here, in place of being read. Arguments of the loop: arrays of what
    `arrays_of` names, float[time, cell]; of what `places` names, float[cell]; sky, float[time, 5]; shares of the hours
    of a day; demand, float[time, cell] [mm d-1]; first and last cell.
    """
    formula, function = plan.formula, plan.formula.steps[plan.step]
    makers, arrays = dict(formed), arrays_of(plan, dict(formed))
    known: dict[str, Any] = {
        function.__name__: function, "hour_of_day": hour_of_day,
        **{one.make.__name__: one.make for one in makers.values()},
    }
    values = signature([_value(plan, symbol, makers) for symbol in plan.takes], 16)
    head = signature([*arrays, *plan.places, "sky", "shares", "demand", "lo", "hi"])
    name = f"fill_{formula.name}"
    made = make_functions(f'''
def {name}({head}):
    """Demand of the cells lo to hi by {function.__name__} [mm d-1], [time, cell]."""
    for t in range(demand.shape[0]):
        for i in range(lo, hi):
            demand[t, i] = {function.__name__}(
                {values}
            )
''', f"{formula.name}, steps of {plan.step} s" + "".join(f", {one} formed" for one in makers), known)
    return made[name]


def arrays_of(plan: DemandPlan, formed: Mapping[str, Formation]) -> tuple[str, ...]:
    """Registry names of the arrays that a loop reads, in order."""
    return tuple(dict.fromkeys(
        one for name in plan.quantities for one in (formed[name].of if name in formed else (name,))
    ))


def _value(plan: DemandPlan, symbol: str, formed: Mapping[str, Formation]) -> str:
    """A symbol as the function takes it, at step t and cell i."""
    formula = plan.formula
    if symbol in formula.constants:
        return repr(float(formula.constants[symbol][plan.step]))
    if symbol in PLACE:
        return f"{symbol}[i]"
    local = f"sky[t, {SKY.index('solar_hour')}] + longitude[i] / 15.0"
    if symbol == "hour_share":
        return f"shares[hour_of_day({local})]"
    if symbol in SKY:
        return local if symbol == "solar_hour" else f"sky[t, {SKY.index(symbol)}]"
    name = next(name for name, one in plan.quantities.items() if one == symbol)
    unit = formula.inputs[name].unit

    def value(one: str, carries: bool) -> str:
        return f"{one}[t, i] / {float(unit)!r}" if carries and unit != 1.0 else f"{one}[t, i]"

    if name not in formed:
        return value(name, True)
    of, make, carriers = formed[name]
    return f"{make.__name__}({', '.join(value(one, one in carriers) for one in of)})"
