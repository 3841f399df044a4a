"""The model: domain, parameters and state, advanced by one step or by a block of steps with the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm import parameters as registry
from bmi_cdlm.buffers import Buffers, make_buffers, whole_series
from bmi_cdlm.domain import Domain
from bmi_cdlm.errors import ConfigError, DomainError, ForcingError, ParameterError, StateError
from bmi_cdlm.kernels.groups import (
    PetFluxes,
    PetNetwork,
    ReachParameters,
    RunoffParameters,
    RunoffState,
    SnowParameters,
)
from bmi_cdlm.kernels.launch import Workers, kernels
from bmi_cdlm.ledger import Ledger
from bmi_cdlm.network import NONE, accumulate_downstream, plan_network
from bmi_cdlm.operators import HYDROGRAPH_EXPONENT, PERCOLATION_SCALE, Operators, step_constants
from bmi_cdlm.parameters import DAY, HOUR, TRAVEL_TIME
from bmi_cdlm.partition import Exchange
from bmi_cdlm.season import season
from bmi_cdlm.sensitivity import Gradients, Recording, Setting, Weather, adjoint, record
from bmi_cdlm.state import State, new_state
from bmi_cdlm.variables import MASSES, select

Snow = Literal["none", "cemaneige", "cemaneige_hysteresis"]
INITIAL_PRODUCTION_FILL, INITIAL_ROUTING_FILL = 0.3, 0.5
"""Share of X1 and X3 in the stores at a cold start."""
SHORTEST_BASE = 0.5
"""X4 [steps] at and below which nothing is delayed."""
COVER_SHARE = 0.9
"""Share of the mean annual snowfall that covers a cell fully in plain CemaNeige."""


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
    parameters : dict of float64[cell | reach]
        By registry name; to change one, `change_parameter`.
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
        self._set_parameters(parameters or {})
        self.state = self._initial_state()
        stored = self.state.arrays()
        self.live = {
            v.short: stored[v.short] if v.short in stored else np.zeros(self.size_of(v.grid)) for v in self.outputs
        }
        self._single = self._buffers(1, ())
        self._block: tuple[tuple[int, tuple[str, ...]], Buffers] | None = None
        self.masses = {v.short: np.zeros(1) for v in MASSES}
        self._open_ledger()
        self._mark_start()

    @property
    def outputs(self) -> list:
        """Registry entries of every variable that the model computes."""
        found = select(
            snow=self.snow != "none", hysteresis=self.snow == "cemaneige_hysteresis", pet=self.pet is not None,
            ledger=self.ledger is not None,
        )
        return [v for v in found if v.role != "input"]

    @property
    def workers(self) -> Workers:
        """The threads, for whoever prepares inputs."""
        return self._workers

    def size_of(self, grid: str) -> int:
        """Number of values of a variable on a grid."""
        sizes = {"cell": self.domain.n_cells, "reach": self.domain.n_reaches,
                 "gauge": self.domain.gauges.reach.size, "domain": 1}
        return sizes[grid]

    def advance(self, forcing: Forcing, keep: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Advance over all steps of the forcing; the bits do not depend on how a run is cut into calls.

        Returns the fluxes named in `keep` as float64[time, cell | reach | gauge], good until the next call;
        states and totals are at the end of the call, in `live` and `state`.
        """
        n_steps = forcing.precipitation.shape[0]
        b = self._single if n_steps == 1 else self._block_buffers(n_steps, tuple(keep))
        demand = self._correct_demand(forcing, b)
        liquid = self._melt_snow(forcing, b)
        self._generate_runoff(forcing.precipitation, liquid, demand, b)
        self._route(b)
        self._keep_last(b)
        return {name: b.series(name, self.domain.gauges.reach) for name in keep}

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
            forcing.precipitation, forcing.air_temperature, self._snow_parameters, self.state.snow, b.liquid, b.snow,
            self._constants, self.snow == "cemaneige_hysteresis",
        ), self._cell_tasks, forcing.precipitation.size)
        return b.liquid

    def _generate_runoff(
        self, precipitation: np.ndarray, liquid: np.ndarray, demand: np.ndarray, b: Buffers
    ) -> None:
        self._workers.run(self._kernels.advance_gr4j, (
            precipitation, liquid, demand, self._runoff_parameters, self.state.runoff, self.state.totals, b.runoff,
            self._constants,
        ), self._cell_tasks, liquid.size)

    def _route(self, b: Buffers) -> None:
        """Collect the runoff of cells in reaches, and route it down the rivers."""
        arguments = (
            self._plan.network, self.domain.links, self._reach_parameters, self.state.reach_flow, b.runoff.runoff,
            b.lateral_inflow, b.hydrographs, b.discharge, self._no_tape, self.state.outflow_total, self.n_sub,
            float(self.step),
        )
        work, exchange, slot = b.hydrographs.shape[1] * self.domain.n_reaches, self.exchange, self._plan.network.slot
        if exchange is not None:
            b.hydrographs[slot[exchange.boundary]] = exchange.draw(b.hydrographs.shape[1])
        for ranges in (self._plan.pieces, self._plan.trunk):
            self._workers.run(self._kernels.route, arguments, ranges, work)
        if exchange is not None:
            exchange.hand_on(b.hydrographs[slot[exchange.outlets]])

    def _keep_last(self, b: Buffers) -> None:
        """Bring the last step of a block into the live arrays."""
        if b is not self._single:
            b.copy_last(self._single)
        self.refresh()

    def refresh(self) -> None:
        """Derive the live values that are not written by a kernel: gauges, storages, totals of the domain."""
        live = self.live
        live["discharge"].take(self.domain.gauges.reach, out=live["gauge_discharge"], mode="clip")
        np.multiply(self.state.reach_flow, self._reach_parameters.storage_time, out=live["reach_storage"])
        self._refresh_totals()
        if self.ledger is not None:
            self.ledger.update(self.state, live)

    def _refresh_totals(self) -> None:
        """Water of the whole domain [m3]: 1 mm on 1 km2 is 1000 m3."""
        live, totals, volume = self.live, self.state.totals, self._volume
        total = self._kernels.compensated_sum
        live["water_in"][0] = total(totals.precipitation_total, volume)
        live["water_exchanged"][0] = total(totals.exchange_total, volume)
        live["water_out"][0] = (
            total(totals.evapotranspiration_total, volume) + total(self.state.outflow_total, self._at_outlets)
        )
        self.refresh_storage()
        live["outlet_discharge"][0] = total(live["discharge"], self._at_outlets)
        for name, mean in self._means:
            live[mean][0] = total(live[name], self._share)
        self._runoff = total(live["runoff"], self._share)
        self.set_runoff_depth(self.step)

    def set_runoff_depth(self, seconds: float) -> None:
        """Express the last step's runoff as a depth [m] over the drained area and a duration [s]."""
        self.live["runoff_depth"][0] = self._runoff / 1000.0 * (seconds / DAY)

    def end_call(self, seconds: float, fallen: np.ndarray | None) -> None:
        """Bring up to date what depends on the caller's clock: the runoff depth of a call [s], and the masses.

        fallen : float64[cell], precipitation not yet used [mm d-1 s], or None.
        """
        self.set_runoff_depth(seconds)
        live, state, masses = self.live, self.state, self.masses
        total, drained = self._kernels.compensated_sum, self._drained
        waiting = total(state.unreleased, self._at_outlets)
        unused = 0.0 if fallen is None else total(fallen, self._volume) / DAY
        at_start = total(state.cell_storage_at_start, self._volume)
        at_start += total(state.reach_storage_at_start, self._every_reach)
        masses["mass_in"][0] = (live["water_in"][0] + unused) / drained
        masses["mass_out"][0] = (live["water_out"][0] - waiting) / drained
        masses["mass_stored"][0] = ((live["water_stored"][0] - at_start) + unused + waiting) / drained
        # What callers add to stores or take has no name of its own in this balance.
        masses["mass_leaked"][0] = -(live["water_exchanged"][0] + live["water_added"][0]) / drained

    def _mark_start(self) -> None:
        """Keep the water there is now: the ledger starts here."""
        self.state.cell_storage_at_start[:] = self.live["cell_water_stored"]
        self.state.reach_storage_at_start[:] = self.live["reach_storage"]

    def refresh_storage(self) -> None:
        """Derive the water in unit hydrographs, cells [mm] and the domain [m3] from the stores."""
        live, runoff, stored = self.live, self.state.runoff, self.live["cell_water_stored"]
        queued = (live["queued_routed_flow"], live["queued_direct_flow"])
        queued[0][:] = _add_rows(runoff.unit_hydrograph_1)
        queued[1][:] = _add_rows(runoff.unit_hydrograph_2)
        np.add(self.state.snow.snowpack, runoff.production_store, out=stored)
        stored += runoff.routing_store
        stored += queued[0] + queued[1]
        total = self._kernels.compensated_sum
        live["water_stored"][0] = total(stored, self._volume) + total(self.state.reach_flow, self.storage_time)

    def refresh_added(self) -> None:
        """Derive the stored water and what callers have added to it, after a change from outside."""
        self.refresh_storage()
        total = self._kernels.compensated_sum
        self.live["water_added"][0] = total(self.state.added_total, self._volume) + total(
            self.state.reach_added_total, self._every_reach
        )
        if self.ledger is not None:
            self.ledger.update(self.state, self.live)

    def _set_parameters(self, given: Mapping[str, np.ndarray]) -> None:
        values = registry.defaults(self.step, self.domain.n_cells, self.domain.n_reaches)
        for name, value in given.items():
            grid = "reach" if name == TRAVEL_TIME else registry.parameter(name).grid
            array = np.array(np.broadcast_to(value, np.shape(value) or (self.size_of(grid),)), np.float64)
            if array.shape != (self.size_of(grid),):
                raise ParameterError(
                    f"parameter '{name}' has shape {array.shape}, expected one value per {grid}: {self.size_of(grid)}."
                )
            values[name] = array
        registry.check(values, "parameters")
        self.parameters = values
        self._prepare_cells(values)
        self._prepare_reaches(values)
        self._prepare_totals()

    def _prepare_totals(self) -> None:
        """Weights of the sums over the domain; a domain that drains nothing has depths of 0."""
        self._volume = self.domain.cells.drained_area * 1000.0
        self._drained = float(self._volume.sum()) * 1000.0 or 1.0
        self._share = self._volume * 1000.0 / self._drained
        self._every_reach = np.ones(self.domain.n_reaches)
        self._at_outlets = np.zeros(self.domain.n_reaches)
        self._at_outlets[self.domain.outlets] = 1.0
        pairs = [(v.short.removeprefix("mean_"), v.short) for v in self.outputs if v.short.startswith("mean_")]
        self._means = pairs

    def change_parameter(self, name: str, places: np.ndarray, values: np.ndarray) -> None:
        """Change a parameter at some places from the next step on; `adjustment` checks it.

        No water is lost or made: unit hydrographs keep what they hold and spread only what flows in from now on
        [SPEC 1.6], reaches keep their volume [SPEC 4.1].
        """
        self._recording = None
        self.parameters[name][places] = values
        if name == TRAVEL_TIME or registry.parameter(name).grid == "reach":
            before = self.storage_time
            self._prepare_reaches(self.parameters)
            self.state.reach_flow[:] = self._same_volume(self.state.reach_flow, before)
        elif name in ("unit_hydrograph_base", "cover_ratio_threshold"):
            runoff = self.state.runoff
            queues = runoff.unit_hydrograph_1, runoff.unit_hydrograph_2
            self._prepare_cells(self.parameters, *(queue.shape[0] for queue in queues))
            ordinates = self._runoff_parameters[-2:]
            longer = [_lengthened(queue, o.shape[0]) for queue, o in zip(queues, ordinates, strict=True)]
            self.state = self.state._replace(runoff=RunoffState(*runoff[:2], *longer))

    def _same_volume(self, flow: np.ndarray, storage_time: np.ndarray) -> np.ndarray:
        """State of reaches [m3 s-1] that hold the water they held under another storage time [s]."""
        now = self.storage_time
        return np.where(storage_time == now, flow, flow * storage_time / now)

    def ordinates(self, which: int) -> np.ndarray:
        """Ordinates of unit hydrograph 1 or 2, float64[k, cell]."""
        return self._runoff_parameters.ordinates_1 if which == 1 else self._runoff_parameters.ordinates_2

    def _prepare_cells(self, p: Mapping[str, np.ndarray], least_1: int = 1, least_2: int = 1) -> None:
        """Derive what kernels take from the parameters of cells; least_*: places that the queues have at least."""
        x4 = p["unit_hydrograph_base"]
        longest = float(x4.max())
        places = max(least_1, int(np.ceil(longest))), max(least_2, int(np.ceil(2 * longest)))
        ordinates = [np.zeros((n, self.domain.n_cells)) for n in places]
        # An X4 of 0 is no delay, as any X4 up to one half is.
        self._kernels.fill_ordinates(np.maximum(x4, SHORTEST_BASE), HYDROGRAPH_EXPONENT[self.step], *ordinates)
        self._runoff_parameters = RunoffParameters(
            p["production_capacity"], p["exchange_coefficient"], p["routing_capacity"], *ordinates
        )
        snowfall = self.domain.cells.mean_annual_snowfall
        if self.snow != "none" and not np.isfinite(snowfall).all():
            raise DomainError(
                f"snow is '{self.snow}' but 'mean_annual_snowfall' [mm yr-1] is missing in the domain, expected on "
                "every cell. Add it to the domain file, or set snow: none."
            )
        share = p["cover_ratio_threshold"] if self.snow == "cemaneige_hysteresis" else COVER_SHARE
        self._snow_parameters = SnowParameters(
            p["thermal_weighting"], p["melt_factor"], p["accumulation_threshold"], share * snowfall
        )

    def _prepare_reaches(self, p: Mapping[str, np.ndarray]) -> None:
        self.travel_time = p.get(TRAVEL_TIME, self.domain.reaches.length / p["celerity"])
        self._reach_parameters = ReachParameters(*(np.empty(self.domain.n_reaches) for _ in ReachParameters._fields))
        self._kernels.fill_coefficients(
            self.travel_time, p["weighting"], float(self.routing_step), self._reach_parameters
        )

    def _initial_state(self) -> State:
        """Stores at their customary fill [SPEC 1.4], rivers in a steady state with the runoff of a dry day."""
        o1, o2 = self._runoff_parameters.ordinates_1, self._runoff_parameters.ordinates_2
        state = new_state(self.domain.n_cells, self.domain.n_reaches, o1.shape[0], o2.shape[0])
        state.runoff.production_store[:] = INITIAL_PRODUCTION_FILL * self._runoff_parameters.production_capacity
        state.runoff.routing_store[:] = INITIAL_ROUTING_FILL * self._runoff_parameters.routing_capacity
        if self.snow == "cemaneige_hysteresis":
            state.snow.snow_peak[:] = self._snow_parameters.full_cover
        return state

    def fill_rivers(self, forcing: Forcing) -> None:
        """Put every reach in a steady state with the mean runoff over the forcing; cells keep their state."""
        kept = self.state.copy()
        b = self._buffers(forcing.precipitation.shape[0], ())
        demand = self._correct_demand(forcing, b)
        self._generate_runoff(forcing.precipitation, self._melt_snow(forcing, b), demand, b)
        runoff = _add_rows(b.runoff.runoff)[None] / b.runoff.runoff.shape[0]
        lateral = whole_series(np.empty((self.domain.n_reaches, 1)))
        self._kernels.collect_runoff(self.domain.links, runoff, lateral, 0, self.domain.n_reaches)
        flow, exchange = np.empty(self.domain.n_reaches), self.exchange
        if exchange is not None:
            lateral.last[exchange.boundary] = exchange.draw_steady()
        self._kernels.steady_flow(self._plan.network, lateral.last, flow)
        if exchange is not None:
            exchange.hand_on_steady(flow[exchange.outlets])
        kept.reach_flow[:] = (1.0 - self._reach_parameters.direct) * flow
        self.state.assign(kept.arrays())
        self.begin(flow)

    def begin(self, discharge: np.ndarray) -> None:
        """Start the clock: the ledger and all fluxes are 0, reaches hold their initial discharge [m3 s-1]."""
        self.state.clear_totals()
        for v in self.outputs:
            if v.role == "flux":
                self.live[v.short][:] = 0.0
        self.live["discharge"][:] = discharge
        self._open_ledger()
        self._mark_start()

    @property
    def storage_time(self) -> np.ndarray:
        """Water in a reach [m3] per unit of its state [m3 s-1], float64[reach] [s]."""
        return self._reach_parameters.storage_time

    def restore(self, cell: Mapping[str, np.ndarray], reach: Mapping[str, np.ndarray]) -> None:
        """Take over a saved state and the last fluxes; the water in reaches is kept where their K or x is another.

        Raises
        ------
        StateError
            The state does not fit this domain.
        """
        flow = self._same_volume(reach["reach_flow"], reach["reach_storage_time"])
        self.state.assign({**cell, **reach, "reach_flow": flow})
        for v in self.outputs:
            source = {"cell": cell, "reach": reach}.get(v.grid, {})
            if v.role == "flux" and v.short in source:
                self.live[v.short][:] = source[v.short]
        self._open_ledger()

    def _open_ledger(self) -> None:
        """Derive the live values, from where residuals count."""
        self.refresh()
        self.refresh_added()
        if self.ledger is not None:
            self.ledger.begin(self.state, self.live)

    def travel_time_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [s] of the travel time from the heads of the reaches above to each reach's end.

        The area-weighted mean over all paths that end in a reach; what the routing step adds is in it. Both
        float64[reach]; SPEC 4.2.
        """
        variance = np.empty(self.domain.n_reaches)
        self._kernels.fill_variance(
            self.travel_time, self.parameters["weighting"], float(self.routing_step), variance
        )
        return _mean_above(self.domain, self.travel_time), np.sqrt(np.maximum(_mean_above(self.domain, variance), 0.0))

    def record(self, forcing: Forcing) -> np.ndarray:
        """Run over the forcing from the present state, which stays; discharge float64[time, reach] of every reach.

        The same bits as `advance` would give. What `adjoint` needs is kept until the next recording.
        """
        n_steps = forcing.precipitation.shape[0]
        own = PetFluxes(*(np.empty((n_steps, self.domain.n_cells)) for _ in PetFluxes._fields))
        demand = self._correct_demand(forcing, self._buffers(n_steps, ())._replace(pet=own))
        weather = Weather(
            forcing.precipitation, forcing.potential_evapotranspiration,
            forcing.air_temperature if self.snow != "none" else None, demand,
            None if forcing.day_of_year is None else season(forcing.day_of_year),
        )
        operators = Operators(self.domain, self.step, self.routing_step, np.float64, self._workers)
        setting = Setting(
            operators, self.snow, self._snow_parameters, self._runoff_parameters, self._reach_parameters,
            np.maximum(self.parameters["unit_hydrograph_base"], SHORTEST_BASE), self.travel_time,
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

    def _block_buffers(self, n_steps: int, keep: tuple[str, ...]) -> Buffers:
        """Buffers of a block, those of the call before where they fit: fresh memory costs as much as the routing."""
        if self._block is None or self._block[0] != (n_steps, keep):
            self._block = None
            self._block = (n_steps, keep), self._buffers(n_steps, keep)
        return self._block[1]

    def _buffers(self, n_steps: int, keep: Sequence[str]) -> Buffers:
        return make_buffers(self.live, n_steps, self.n_sub, keep, self._plan, self.domain.gauges.reach)

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


def _lengthened(queue: np.ndarray, places: int) -> np.ndarray:
    """A queue of that many places with the same water in it; itself where it has them."""
    if queue.shape[0] == places:
        return queue
    return np.concatenate([queue, np.zeros((places - queue.shape[0], queue.shape[1]))])


def _add_rows(values: np.ndarray) -> np.ndarray:
    """Sum over the first axis, row after row; a single column numpy would sum in another order than many."""
    return values.sum(axis=0) if values.shape[1] > 1 else values.cumsum(axis=0)[-1]


def _mean_above(domain: Domain, per_reach: np.ndarray) -> np.ndarray:
    """Area-weighted mean over all reaches above, of the sum of `per_reach` along the path down to each reach's end."""
    reaches = domain.reaches
    path = accumulate_downstream(reaches.downstream, reaches.area)
    weighted = accumulate_downstream(reaches.downstream, per_reach * path)
    return weighted / np.where(path > 0, path, 1.0)
