"""The model: domain, parameters and state, advanced by one step or by a block of steps with the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NONE, plan_network
from bmi_cdlm.kernels.groups import PetFluxes, PetNetwork
from bmi_cdlm.kernels.launch import kernels
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import Buffers, Kept, make_buffers, step_bytes, whole_series
from bmi_cdlm.model.exchange import Exchange
from bmi_cdlm.model.ledger import Ledger
from bmi_cdlm.model.operators import PERCOLATION_SCALE, Operators, step_constants
from bmi_cdlm.model.parameter_set import ParameterSet, Places
from bmi_cdlm.model.sensitivity import Gradients, Recording, Setting, Weather, adjoint, record
from bmi_cdlm.model.state import State, new_state, occupied_places
from bmi_cdlm.model.totals import Totals, add_rows
from bmi_cdlm.names.errors import ConfigError, ForcingError, StateError
from bmi_cdlm.names.season import season
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select

Snow = Literal["none", "cemaneige", "cemaneige_hysteresis"]
INITIAL_PRODUCTION_FILL, INITIAL_ROUTING_FILL = 0.3, 0.5
"""Share of X1 and X3 in the stores at a cold start."""
LONGEST_BLOCK, SHORTEST_BLOCK = 4096, 16
"""Routing steps and model steps beyond which a longer block only drives hydrographs out of the caches."""


class Forcing(NamedTuple):
    """Forcing of consecutive steps, float64[time, cell]: mm d-1, mm d-1, degC (None without snow).

    day_of_year : float64[time], from `season.day_of_year`; read by a PET network only.
    """

    precipitation: np.ndarray
    potential_evapotranspiration: np.ndarray
    air_temperature: np.ndarray | None = None
    day_of_year: np.ndarray | None = None


class Model:
    """GR4J on cells, Muskingum on reaches.

    Parameters
    ----------
    domain : Domain
    parameters : mapping of registry names to float64[cell] or float64[reach]
        Missing ones take their default; `travel_time` [s] on reaches takes the place of length / celerity.
    step, routing_step : int
        Seconds. step is 86400 or 3600; routing_step divides it.
    snow : "none", "cemaneige" or "cemaneige_hysteresis"
    threads : int
    pet : PetNetwork, optional
        Corrects potential evapotranspiration at every step.
    ledger : bool
        Keep the water balance of every cell and reach.
    exchange : Exchange, optional
        The domain is a part of a larger one: where its rivers come from and go to.

    Attributes
    ----------
    state : State
    live : dict of float64[cell | reach | gauge | 1]
        The last step's value of every output variable by its short name: allocated once, changed in place; the
        stores are the state's own arrays.
    ledger : Ledger or None

    Raises
    ------
    ConfigError, ParameterError, DomainError
        A step that the model does not offer; a parameter of another size or outside its legal range; snow on
        a domain without mean annual snowfall.
    """

    def __init__(
        self, domain: Domain, parameters: Mapping[str, np.ndarray] | None = None, *, step: int = DAY,
        routing_step: int = HOUR, snow: Snow = "none", threads: int = 1, pet: PetNetwork | None = None,
        ledger: bool = False, exchange: Exchange | None = None,
    ) -> None:
        check_steps(step, routing_step)
        self.pet, self.exchange = pet, exchange
        self.domain, self.step, self.routing_step, self.snow = domain, step, routing_step, snow
        self.n_sub = step // routing_step
        self._kernels = kernels()
        self._workers = Workers(threads)
        boundary, kept = (NONE, NONE) if exchange is None else (exchange.boundary, exchange.outlets)
        self._plan = plan_network(domain.reaches.downstream, threads, boundary=boundary, kept=kept)
        self._recording: Recording | None = None
        self._no_tape = np.empty((domain.n_reaches, 0))
        self._constants = step_constants(step)
        self._cell_tasks = self._workers.tasks(domain.n_cells)
        self.ledger = Ledger(domain) if ledger else None
        self._given = ParameterSet(domain, parameters or {}, step, routing_step, snow)
        self.state = self._initial_state()
        stored = self.state.arrays()
        self.live = {
            v.short: stored[v.short] if v.short in stored else np.zeros(self.size_of(v.grid)) for v in self.outputs
        }
        self._single = self._buffers(1)
        self._block: tuple[int, Kept, Buffers] | None = None
        self._totals = Totals(domain, self.live, step)
        self._begin_balance()

    @property
    def outputs(self) -> list:
        """Registry entries of every variable that the model computes."""
        found = select(
            snow=self.snow != "none", hysteresis=self.snow == "cemaneige_hysteresis", pet=self.pet is not None,
            ledger=self.ledger is not None,
        )
        return [v for v in found if v.role != "input"]

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Parameters by registry name, float64[cell | reach]; to change one, `change_parameter`."""
        return self._given.values

    @property
    def travel_time(self) -> np.ndarray:
        """K of every reach [s]."""
        return self._given.travel_time

    @property
    def storage_time(self) -> np.ndarray:
        """Water in a reach [m3] per unit of its state [m3 s-1], float64[reach] [s]."""
        return self._given.reach.storage_time

    @property
    def masses(self) -> dict[str, np.ndarray]:
        """Water since the start by the caller's clock, as of `end_call`: float64[1] [m] by `variables.MASSES`."""
        return self._totals.masses

    def ordinates(self, which: int) -> np.ndarray:
        """Ordinates of unit hydrograph 1 or 2, float64[k, cell]."""
        return self._given.runoff.ordinates_1 if which == 1 else self._given.runoff.ordinates_2

    @property
    def workers(self) -> Workers:
        """The threads, for whoever prepares inputs."""
        return self._workers

    def size_of(self, grid: str) -> int:
        """Number of values of a variable on a grid."""
        sizes = {"cell": self.domain.n_cells, "reach": self.domain.n_reaches,
                 "gauge": self.domain.gauges.reach.size, "domain": 1}
        return sizes[grid]

    def advance(
        self, forcing: Forcing, keep: Sequence[str] = (), reaches: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Advance over all steps of the forcing; the bits do not depend on how a run is cut into calls.

        Returns the fluxes named in `keep` as float64[time, cell | reach | gauge], good until the next call; those on
        reaches at the places `reaches`, int64[], or at all. States and totals are at the end of the call, in `live`
        and `state`.
        """
        n_steps = forcing.precipitation.shape[0]
        b = self._single if n_steps == 1 else self._block_buffers(n_steps, self._kept(keep, reaches))
        demand = self._correct_demand(forcing, b)
        liquid = self._melt_snow(forcing, b)
        self._generate_runoff(forcing.precipitation, liquid, demand, b)
        self._route(b)
        self._keep_last(b)
        return {name: b.series(name, self.domain.gauges.reach, reaches) for name in keep}

    def _correct_demand(self, forcing: Forcing, b: Buffers) -> np.ndarray:
        """Potential evapotranspiration [mm d-1], corrected where there is a PET network, float64[time, cell]."""
        demand = forcing.potential_evapotranspiration
        if self.pet is None:
            return demand
        if forcing.day_of_year is None:
            raise ForcingError("forcing lacks day_of_year, which the PET network takes. Give season.day_of_year.")
        # Without snow there is no temperature, and the network has no weight on it.
        temperature = demand if forcing.air_temperature is None else forcing.air_temperature
        self._workers.run(self._kernels.correct_demand, (
            forcing.precipitation, demand, temperature, season(forcing.day_of_year), self.pet, b.pet.pet_factor,
            b.pet.corrected_evapotranspiration,
        ), self._cell_tasks, demand.size)
        return b.pet.corrected_evapotranspiration

    def _melt_snow(self, forcing: Forcing, b: Buffers) -> np.ndarray:
        """Rain plus melt [mm d-1], float64[time, cell]."""
        if self.snow == "none":
            return forcing.precipitation
        self._workers.run(self._kernels.advance_snow, (
            forcing.precipitation, forcing.air_temperature, self._given.snow, self.state.snow, b.liquid, b.snow,
            self._constants, self.snow == "cemaneige_hysteresis",
        ), self._cell_tasks, forcing.precipitation.size)
        return b.liquid

    def _generate_runoff(
        self, precipitation: np.ndarray, liquid: np.ndarray, demand: np.ndarray, b: Buffers
    ) -> None:
        self._workers.run(self._kernels.advance_gr4j, (
            precipitation, liquid, demand, self._given.runoff, self.state.runoff, self.state.totals, b.runoff,
            self._constants,
        ), self._cell_tasks, liquid.size)

    def _route(self, b: Buffers) -> None:
        """Collect the runoff of cells in reaches, and route it down the rivers."""
        arguments = (
            self._plan.network, self.domain.links, self._given.reach, self.state.reach_flow, b.runoff.runoff,
            b.lateral_inflow, b.hydrographs, b.discharge, self._no_tape, self.state.outflow_total, self.n_sub,
            float(self.step),
        )
        exchange, slot = self.exchange, self._plan.network.slot
        if exchange is not None:
            b.hydrographs[slot[exchange.boundary]] = exchange.draw(b.hydrographs.shape[1])
        self._plan.route(self._workers, self._kernels.route, arguments, b.runoff.runoff.shape[0], self.n_sub)
        if exchange is not None:
            exchange.hand_on(b.hydrographs[slot[exchange.outlets]])

    def _keep_last(self, b: Buffers) -> None:
        """Bring the last step of a block into the live arrays."""
        if b is not self._single:
            b.copy_last(self._single)
        self._derive()

    def refresh(self) -> None:
        """Derive the live values from a state that was changed from outside."""
        self._totals.recount(self.state)
        self._derive()

    def _derive(self) -> None:
        """Derive the live values that no kernel writes: at gauges, storages, totals of the domain, residuals."""
        live = self.live
        live["discharge"].take(self.domain.gauges.reach, out=live["gauge_discharge"], mode="clip")
        np.multiply(self.state.reach_flow, self.storage_time, out=live["reach_storage"])
        self._totals.refresh(self.state, self.storage_time)
        if self.ledger is not None:
            self.ledger.update(self.state, live, self._totals.at_start)

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite: whatever is one is found again in what is stored or has flown out."""
        return math.isfinite(self.live["water_stored"][0] + self.live["water_out"][0])

    def end_call(self, seconds: float, fallen: np.ndarray | None) -> None:
        """Bring up to date what depends on the caller's clock; see `Totals.end_call`."""
        self._totals.end_call(self.state, seconds, fallen)

    def change_parameter(self, name: str, places: np.ndarray, values: np.ndarray) -> None:
        """Change a parameter at some places from the next step on; `adjustment` checks it.

        No water is lost or made: unit hydrographs keep what they hold and spread only what flows in from now on
        [SPEC 1.6], reaches keep their volume [SPEC 4.1].
        """
        self._recording = None
        before = self.storage_time
        self._given.change(name, places, values)
        self.state.reach_flow[:] = self._same_volume(self.state.reach_flow, before)
        if name == "unit_hydrograph_base":
            self._fit_queues(occupied_places(self.state.arrays()))

    def _fit_queues(self, least: Places) -> None:
        """Make the queues of unit hydrographs as long as X4 and the water in them need."""
        self._given.prepare_runoff(least)
        self.state = self.state.with_places(*(o.shape[0] for o in self._given.runoff[-2:]))

    def _same_volume(self, flow: np.ndarray, storage_time: np.ndarray) -> np.ndarray:
        """State of reaches [m3 s-1] that hold the water they held under another storage time [s]."""
        now = self.storage_time
        return np.where(storage_time == now, flow, flow * storage_time / now)

    def _initial_state(self) -> State:
        """Stores at their customary fill [SPEC 1.4], rivers in a steady state with the runoff of a dry day."""
        o1, o2 = self._given.runoff.ordinates_1, self._given.runoff.ordinates_2
        state = new_state(self.domain.n_cells, self.domain.n_reaches, o1.shape[0], o2.shape[0])
        state.runoff.production_store[:] = INITIAL_PRODUCTION_FILL * self._given.runoff.production_capacity
        state.runoff.routing_store[:] = INITIAL_ROUTING_FILL * self._given.runoff.routing_capacity
        if self.snow == "cemaneige_hysteresis":
            state.snow.snow_peak[:] = self._given.snow.full_cover
        return state

    def fill_rivers(self, forcing: Forcing) -> None:
        """Put every reach in a steady state with the mean runoff over the forcing; cells keep their state."""
        kept = self.state.copy()
        b = self._buffers(forcing.precipitation.shape[0])
        demand = self._correct_demand(forcing, b)
        self._generate_runoff(forcing.precipitation, self._melt_snow(forcing, b), demand, b)
        runoff = add_rows(b.runoff.runoff)[None] / b.runoff.runoff.shape[0]
        lateral = whole_series(np.empty((self.domain.n_reaches, 1)))
        self._kernels.collect_runoff(self.domain.links, runoff, lateral, 0, self.domain.n_reaches)
        flow, exchange = np.empty(self.domain.n_reaches), self.exchange
        if exchange is not None:
            lateral.last[exchange.boundary] = exchange.draw_steady()
        self._kernels.steady_flow(self._plan.network, lateral.last, flow)
        if exchange is not None:
            exchange.hand_on_steady(flow[exchange.outlets])
        kept.reach_flow[:] = (1.0 - self._given.reach.direct) * flow
        self.state.assign(kept.arrays())
        self.begin(flow)

    def begin(self, discharge: np.ndarray) -> None:
        """Start the clock: the ledger and all fluxes are 0, reaches hold their initial discharge [m3 s-1]."""
        self.state.clear_totals()
        for v in self.outputs:
            if v.role == "flux":
                self.live[v.short][:] = 0.0
        self.live["discharge"][:] = discharge
        self._begin_balance()

    def _begin_balance(self) -> None:
        """Let the balance of water start with what there is now."""
        self.refresh()
        self.state.cell_storage_at_start[:] = self.live["cell_water_stored"]
        self.state.reach_storage_at_start[:] = self.live["reach_storage"]
        self.refresh()

    def restore(self, cell: Mapping[str, np.ndarray], reach: Mapping[str, np.ndarray]) -> None:
        """Take over a saved state and the last fluxes; the water in reaches is kept where their K or x is another.

        Raises
        ------
        StateError
            The state does not fit this domain, or a production store holds more than its X1 here: GR4J has no meaning
            there, and would lose water.
        """
        self._given.check_store(cell.get("production_store", np.zeros(0)))
        flow = self._same_volume(reach["reach_flow"], reach["reach_storage_time"])
        own, saved = occupied_places(self.state.arrays()), occupied_places(cell)
        self._fit_queues((max(own[0], saved[0]), max(own[1], saved[1])))  # X4 may be shorter here than it was there
        self.state.assign({**cell, **reach, "reach_flow": flow})
        for v in self.outputs:
            source = {"cell": cell, "reach": reach}.get(v.grid, {})
            if v.role == "flux" and v.short in source:
                self.live[v.short][:] = source[v.short]
        self.refresh()

    def travel_time_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [s] of the travel time from the heads of the reaches above to each reach's end.

        The area-weighted mean over all paths that end in a reach; what the routing step adds is in it. Both
        float64[reach]; SPEC 4.2.
        """
        return self._given.travel_time_spread()

    def record(self, forcing: Forcing) -> np.ndarray:
        """Run over the forcing from the present state, which stays; discharge float64[time, reach] of every reach.

        The same bits as `advance` would give. What `adjoint` needs is kept until the next recording.
        """
        n_steps = forcing.precipitation.shape[0]
        own = PetFluxes(*(np.empty((n_steps, self.domain.n_cells)) for _ in PetFluxes._fields))
        demand = self._correct_demand(forcing, self._buffers(n_steps)._replace(pet=own))
        weather = Weather(
            forcing.precipitation, forcing.potential_evapotranspiration,
            forcing.air_temperature if self.snow != "none" else None, demand,
            None if forcing.day_of_year is None else season(forcing.day_of_year),
        )
        operators = Operators(self.domain, self.step, self.routing_step, np.float64, self._workers)
        setting = Setting(
            operators, self.snow, self._given.snow, self._given.runoff, self._given.reach,
            self._given.base, self.travel_time,
            self.parameters["weighting"], self.pet,
        )
        discharge, self._recording = record(setting, weather, self.state)
        return discharge

    def adjoint(self, discharge_adj: np.ndarray) -> Gradients:
        """Gradients of any scalar J of the recorded discharge, from dJ / d discharge, float64[time, reach].

        Raises
        ------
        StateError
            Nothing was recorded, or the recording has another shape.
        """
        if self._recording is None:
            raise StateError("there is no recording to go back over. Call record(forcing) first.")
        expected = (self._recording.weather.demand.shape[0], self.domain.n_reaches)
        if np.shape(discharge_adj) != expected:
            raise StateError(f"discharge_adj has shape {np.shape(discharge_adj)}, expected {expected}: [time, reach].")
        return adjoint(self._recording, discharge_adj)

    def block_length(
        self, memory: int, keep: Sequence[str] = (), reaches: np.ndarray | None = None, *, more: int = 0
    ) -> int:
        """Steps per call of `advance` with which its arrays, and `more` bytes per step, fit in `memory` bytes."""
        per_step = more + step_bytes(self.live, self.n_sub, self._kept(keep, reaches), self._plan)
        longest = max(SHORTEST_BLOCK, LONGEST_BLOCK // self.n_sub)
        return int(np.clip(memory // per_step, 1, longest))

    def _kept(self, keep: Sequence[str], reaches: np.ndarray | None) -> Kept:
        return Kept(tuple(keep), reaches, self.domain.gauges.reach)

    def _block_buffers(self, n_steps: int, kept: Kept) -> Buffers:
        """Buffers of a block, those of the call before where they fit: fresh memory costs as much as the routing."""
        held = self._block
        if held is None or held[0] != n_steps or held[1].names != kept.names or held[1].reaches is not kept.reaches:
            self._block = held = None
            self._block = held = n_steps, kept, self._buffers(n_steps, kept)
        return held[2]

    def _buffers(self, n_steps: int, kept: Kept | None = None) -> Buffers:
        return make_buffers(self.live, n_steps, self.n_sub, kept or self._kept((), None), self._plan)

    def close(self) -> None:
        """End the threads."""
        self._workers.close()


def check_steps(step: int, routing_step: int) -> None:
    """Refuse steps that the model does not offer."""
    if step not in PERCOLATION_SCALE:
        raise ConfigError(
            f"time_step is {step} s, expected 86400 s (1 d) or 3600 s (1 h): GR4J has constants for these two only."
        )
    if routing_step <= 0 or step % routing_step:
        raise ConfigError(
            f"routing_step is {routing_step} s, expected a divisor of the time step of {step} s, such as 3600 s."
        )
