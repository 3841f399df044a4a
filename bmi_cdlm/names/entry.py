"""An entry of the registry of variables, and the names that follow from it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from bmi_cdlm.names.facts import InputFacts

Grid = Literal["cell", "reach", "gauge", "domain", "link", "boundary"]
Role = Literal["input", "flux", "state", "total", "parameter", "identity"]
Part = Literal["core", "process", "pet", "weather", "ledger", "coupling"]
INFINITE = float("inf")


class Alias(NamedTuple):
    """Another published name of an input: value in registry units = value * factor + offset."""

    name: str
    units: str
    factor: float
    offset: float


class Variable(NamedTuple):
    """One variable of the model.

    short: name in files, configuration and code; name: CSDMS Standard Name; role: `input`, `flux` (mean
    over the last step), `state` (at the end of the step) or `total` (cumulative since the start); part: what must be
    there for it: `process` one of the processes `of`, `weather` being the inputs that a process or a formula of
    potential evapotranspiration may take. facts: of an input, its limits and whatever
    else is known of it. sub_steps: whether it has a value for every routing sub-step of a step, [sub-step, place].
    """

    short: str
    name: str
    units: str
    grid: Grid
    role: Role
    meaning: str
    part: Part = "core"
    ngen: Alias | None = None
    bounds: tuple[float, float] | None = None
    of: tuple[str, ...] = ()
    facts: InputFacts | None = None
    sub_steps: bool = False

    @property
    def known(self) -> InputFacts:
        """The facts of an input."""
        assert self.facts is not None, self.short
        return self.facts

    @property
    def key(self) -> str:
        """Name of an input among the sources of `prepare`."""
        return self.known.key or self.short


def alias(v: Variable, profile: str) -> Alias:
    """Return the name and units of an input in a name profile, and the way back to registry units."""
    return v.ngen if profile == "ngen" and v.ngen is not None else Alias(v.name, v.units, 1.0, 0.0)


SUMMED = {"mm d-1": "mm", "m3 s-1": "m3"}
"""Units of fluxes that have sums over a call, and those of the sums."""


def over_call(v: Variable) -> tuple[Variable, Variable]:
    """Return the variables that are the sum and the mean of a flux over the last call."""
    thing, quantity = v.name.split("__")
    return (
        v._replace(
            short=f"{v.short}_call_sum", name=f"{thing}__last-call_time_integral_of_{quantity}", units=SUMMED[v.units],
            meaning=f"{v.meaning}: sum over the steps of the last call",
        ),
        v._replace(
            short=f"{v.short}_call_mean", name=f"{thing}__last-call_time_mean_of_{quantity}",
            meaning=f"{v.meaning}: mean over the steps of the last call",
        ),
    )


def plural(grid: str) -> str:
    """Return what places of a grid are called when there are many, or none: `reaches`."""
    return f"{grid[:-1]}ies" if grid.endswith("y") else f"{grid}es" if grid.endswith("ch") else f"{grid}s"
