"""What a process declares of itself: everything else about it (loops, adjoint, registries, restart, ledger) follows.

A process is a few plain functions of scalars, one cell or reach and one step each, and one of the declarations below.
What a function takes and gives is known by *symbols*, the names of its arguments: of stores, inputs, parameters,
prepared values, constants, and of what an earlier stage or queue gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from bmi_cdlm.names.parameters import INFINITE, Parameter, Range
from bmi_cdlm.names.time_steps import DAY, HOUR

PRECIPITATION, LIQUID_WATER, RUNOFF = "precipitation", "liquid_water", "runoff"
"""What cell processes give to each other and to the rivers: precipitation in place of that of the input, rain plus
melt, runoff [mm d-1]."""
Kind = Literal["rate", "level"]


class Input(NamedTuple):
    """An input of a cell process, by its name in the registry of variables or what an earlier process gives.

    symbol : argument of the steps; kind : a `rate` [mm d-1] reaches the steps as a depth of the step [mm], a `level`
    as it is; factor : name of a parameter that multiplies it, where one is given; corrected : name of the flux that
    is the product.
    """

    symbol: str
    kind: Kind = "rate"
    factor: str | None = None
    corrected: str | None = None


class Store(NamedTuple):
    """A state of a cell.

    symbol : argument of the steps, which return it; standard_name : of CSDMS; holds_water : whether it counts in the
    ledger, in mm; bounds : what a caller may set; at_most : name of a parameter that it never exceeds; start : what is
    in it at a cold start, a share of the parameter or prepared value with the symbol `start_of`, if one is given;
    serves : which flux from outside it gives water to, or takes it from, where another model makes that flux.
    """

    symbol: str
    units: str
    standard_name: str
    meaning: str
    holds_water: bool
    bounds: tuple[float, float] = (0.0, INFINITE)
    at_most: str | None = None
    start: float = 0.0
    start_of: str | None = None
    serves: Literal["", "evapotranspiration", "exchange"] = ""


class Flux(NamedTuple):
    """What a step tells of itself: the symbol of a value that a stage returns or takes from a queue.

    standard_name, meaning : for the registry of variables, empty where the flux stands there for every process;
    ledger : `out` and `in` are water that leaves or enters the cell beside precipitation and runoff, `exchange` is
    positive into the cell; what a process of precipitation adds is `in`, a part of what it gives; kind : a rate is
    published in mm d-1 whatever the step.
    """

    symbol: str
    standard_name: str = ""
    meaning: str = ""
    ledger: Literal["in", "out", "exchange"] | None = None
    units: str = "mm d-1"
    kind: Kind = "rate"


class Adjoint(NamedTuple):
    """An adjoint by hand, in place of the derived one.

    step : its arguments are symbols of the stage's arguments and of what it keeps (`X_after`: store X after the step),
    and `X_adj` for the adjoint of a returned X; returns : symbols whose adjoints it returns, in order; negated :
    symbols whose adjoint is that of another negated, {"E": "P"}.
    """

    step: Callable
    returns: tuple[str, ...]
    negated: Mapping[str, str] = {}


class Stage(NamedTuple):
    """One scalar step of a process.

    returns : symbols of what it returns, in order; kept : those of them that the adjoint reads in place of computing
    them again, a store's symbol standing for its value after the step.
    """

    step: Callable
    returns: tuple[str, ...]
    kept: tuple[str, ...] = ()
    adjoint: Adjoint | None = None


class Queue(NamedTuple):
    """Water on its way: a unit hydrograph between two stages.

    takes, gives : symbols of what flows in, a share of it, and of what leaves; base : name of the parameter that sets
    its length, `spans` times as many steps; at_least : smallest base that there is; held : name of the variable that is
    the sum of what is on its way.

    Its form is one of two. curve : scalar function of the number of steps since, and of symbols of parameters and
    constants: the share of an impulse that has left; adjoint : of the curve by hand, with the adjoint of the share as
    last argument, returns those of the parameters in the curve's order. Or weight : scalar function, in the dialect of
    steps, of the number of steps since (0 leaves at once) and of symbols: what leaves then, up to a factor, for all of
    it leaves; it is 0 beyond the base, and its adjoint is derived.
    """

    takes: str
    gives: str
    share: float
    base: str
    spans: float
    held: str
    standard_name: str
    meaning: str
    at_least: float = 0.0
    curve: Callable | None = None
    adjoint: Callable | None = None
    weight: Callable | None = None

    @property
    def form(self) -> Callable:
        """The scalar function that it follows: of the steps since, and of symbols."""
        found = self.curve if self.weight is None else self.weight
        assert found is not None
        return found


class Prepared(NamedTuple):
    """Values of a cell or reach that follow from parameters, attributes of the domain and constants.

    step : scalar function; its arguments are symbols; returns : symbols of what it returns; adjoint : by hand, with the
    adjoints of `seeds` (of what the step returns) as last arguments; it returns those of `active`; derived where None;
    given : name of a parameter that may be given in place of it.
    """

    step: Callable
    returns: tuple[str, ...]
    adjoint: Callable | None = None
    active: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    given: str | None = None


class Waves(NamedTuple):
    """What a process of reaches does to a small flood wave on a constant `flow` [m3 s-1]: scalar functions of that, of
    prepared values and of `seconds`.

    time : that the wave takes through a reach [s]; channel : variance that the channel adds to it [s2]; step : variance
    that a routing step of `seconds` adds in its place.
    """

    time: Callable
    channel: Callable
    step: Callable


ByStep = Mapping[int, float]
"""A constant by model step [s]."""


@dataclass(frozen=True, eq=False)
class CellProcess:
    """A process of cells: what it takes of each step, and gives.

    Attributes
    ----------
    name : what a configuration calls it
    title, source : one line, and where the equations come from
    stages, queues : in the order of the water; a queue is passed when a stage takes what it gives
    inputs, stores, parameters, fluxes : by their registry names
    gives : name of what it hands on (`PRECIPITATION`, `LIQUID_WATER` or `RUNOFF`) and its symbol, a rate
    gives_rate : whether that symbol is in mm d-1 already, not the depth of a step
    enters : name of the input that brings water into the cell, for the ledger
    closed : parameters with which it exchanges nothing with the groundwater, where another model makes that flux
    prepared, constants, attributes : see `Prepared`; attributes of the domain by symbol
    model_steps : lengths of the model step that it has constants for [s]
    left_at_default : names of parameters that no generator gives unless it is told where they start
    version : raised when its equations or stores change
    """

    name: str
    title: str
    source: str
    stages: tuple[Stage, ...]
    inputs: Mapping[str, Input]
    stores: Mapping[str, Store]
    parameters: tuple[Parameter, ...]
    gives: tuple[str, str]
    fluxes: Mapping[str, Flux] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    prepared: tuple[Prepared, ...] = ()
    constants: Mapping[str, ByStep] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    model_steps: tuple[int, ...] = (DAY, HOUR)
    left_at_default: tuple[str, ...] = ()
    version: int = 1
    gives_rate: bool = False
    enters: str = "precipitation"
    closed: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def starts(self) -> dict[str, Parameter]:
        """By store, how much of what it starts from is in it when a run starts: those that start with a share."""
        found = {}
        for name, store in self.stores.items():
            if store.holds_water and store.start_of is not None:
                of = next((p.name for p in self.parameters if p.symbol == store.start_of), store.start_of)
                found[name] = Parameter(
                    f"{name}_start", f"{store.symbol}0", "1", (0.0, INFINITE if store.at_most is None else 1.0),
                    Range(0, 1, store.start), Range(0, 1, store.start), "linear",
                    f"Content of the {name.replace('_', ' ')} when a run starts, a share of {of}; where it is given, "
                    "unit hydrographs and rivers start empty", "", optional=True,
                )
        return found


@dataclass(frozen=True, eq=False)
class ReachProcess:
    """A process of reaches: how a river carries water, one routing sub-step at a time.

    Attributes
    ----------
    name, title, source, parameters, prepared, attributes, left_at_default, version : as for a `CellProcess`
    step : scalar function of the state, the inflow at the head [m3 s-1] (symbol `inflow`) and prepared values; returns
        the outflow [m3 s-1] and the state
    state : its registry name
    symbol : of the state
    units : of the state
    linear : whether outflow and state are linear in state and inflow: the adjoint then needs no tape
    adjoint : of the step by hand; returns the adjoints of state, inflow and the prepared values, in the step's order
    volume, from_volume : scalar functions of the state (or volume [m3]) and prepared values: water in the reach, and
        the state that holds it
    steady : scalar function of `flow` and prepared values: the state through which a constant flow passes
    travel_time, variance : symbol of the mean travel time [s] of a reach, and scalar function of the variance [s2] that
        it adds, where they are known
    waves : what it does to flood waves, where travel time and diffusion depend on the flow
    """

    name: str
    title: str
    source: str
    step: Callable
    state: str
    symbol: str
    units: str
    parameters: tuple[Parameter, ...]
    volume: Callable
    from_volume: Callable
    steady: Callable
    prepared: tuple[Prepared, ...] = ()
    linear: bool = False
    adjoint: Callable | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    variance: Callable | None = None
    travel_time: str | None = None
    waves: Waves | None = None
    left_at_default: tuple[str, ...] = ()
    version: int = 1


PLACE = ("sin_latitude", "cos_latitude", "tan_latitude", "longitude", "elevation")
"""What a formula of potential evapotranspiration may take of a cell, by these symbols [1, 1, 1, degrees east, m]."""
SKY = ("sin_declination", "cos_declination", "tan_declination", "distance", "solar_hour", "hour_share")
"""What it may take of the sun in the middle of a step: of its declination [1], the term of its distance [1], the solar
time of the cell [h], and the share of a day's demand that falls into that hour [1]."""


class Reading(NamedTuple):
    """A quantity of the weather that a formula reads.

    symbol : argument of the steps; unit : what the steps take it in, in registry units: 1000 for kPa of Pa.
    """

    symbol: str
    unit: float = 1.0


class Formation(NamedTuple):
    """How a quantity is made of single values of inputs, before any mean is taken: mean speeds are not the speed of
    mean components.

    make : function of the values of `of`; carriers : those of them whose units the quantity has.
    """

    of: tuple[str, ...]
    make: Callable
    carriers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PetFormula:
    """A formula of potential evapotranspiration: what the weather of a step evaporates from a cell.

    Attributes
    ----------
    name, title, source, version : as for a `CellProcess`
    steps : by length of the model step [s], scalar function that returns the demand [mm d-1]. Its arguments are symbols
        of inputs, of constants, of `PLACE` and of `SKY`; an input is read at those steps whose function takes it
    inputs : by their registry names
    sun : function of the day of the year: declination [rad], term of the distance [1], and what solar time is ahead of
        mean solar time [h]
    constants : by symbol
    needs_range : without the lowest and highest temperature of the step it gives nothing; others then take the mean
    """

    name: str
    title: str
    source: str
    steps: Mapping[int, Callable]
    inputs: Mapping[str, Reading]
    sun: Callable[[float], tuple[float, float, float]]
    constants: Mapping[str, ByStep] = field(default_factory=dict)
    needs_range: bool = False
    version: int = 1


Process = CellProcess | ReachProcess | PetFormula
"""What a configuration chooses by name."""


@dataclass(frozen=True, eq=False)
class LinkProcess:
    """How the runoff of a cell comes into a reach.

    flow : scalar function of the runoff [mm d-1] and the area of the link [km2]: lateral inflow [m3 s-1]; adjoint : of
    the runoff, from the area and the adjoint of the flow
    """

    name: str
    title: str
    flow: Callable
    adjoint: Callable
