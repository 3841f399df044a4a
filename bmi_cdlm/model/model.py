"""The model: domain, parameters and state, advanced by one step or by a block of steps with the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NONE, plan_network
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import FACTOR, Buffers, Workspace
from bmi_cdlm.model.checks import check_components, check_steps
from bmi_cdlm.model.driving import Driving, all_varying
from bmi_cdlm.model.equilibrium import settle_cells
from bmi_cdlm.model.exchange import Exchange
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.ledger import Ledger
from bmi_cdlm.model.live import Live, size_of
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.outside import EXCHANGE, GivenFluxes
from bmi_cdlm.model.parameter_set import ParameterSet, flood_waves
from bmi_cdlm.model.preparation import Parameters
from bmi_cdlm.model.routing import Routing
from bmi_cdlm.model.sensitivity import Gradients, Recording, adjoint, check_recordable, record
from bmi_cdlm.model.state import State, new_state, occupied_places
from bmi_cdlm.model.sums import add_rows
from bmi_cdlm.model.totals import Outstanding
from bmi_cdlm.names.coupling import SUB_STEPS, coupled_outputs
from bmi_cdlm.names.declaration import RUNOFF
from bmi_cdlm.names.entry import Variable
from bmi_cdlm.names.errors import ParameterError
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.names.season import season
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select
from bmi_cdlm.processes.catalogue import GIVEN, choose


class Model:
    """Processes of cells and of reaches over a domain: by default GR4J and Muskingum.

    Parameters
    ----------
    domain : Domain
    parameters : mapping of registry names to float64[cell] or float64[reach]
        Missing ones take their default; `travel_time` [s] on reaches takes the place of length / celerity.
    step, routing_step : int
        Seconds. step is 86400 or 3600; routing_step divides it.
    snow, runoff, routing, precipitation : str
        Names of processes; snow may be "none", and precipitation "given".
    threads : int
    pet : PetNetwork, optional
        Corrects potential evapotranspiration at every step.
    lstm : Lstm, optional
        Gives parameters of the runoff process anew at every step.
    ledger : bool
        Keep the water balance of every cell and reach.
    exchange : Exchange, optional
        The domain is a part of a larger one: where its rivers come from and go to.
    varying : names of parameters
        That come with the forcing as [time, cell], or as [component, time, cell]; the PET network's factor is one by
        itself.
    components : mapping of process names to int
        Parameter sets per cell of a process, whose mean it hands on; that of the runoff process by the parameter
        `component_weight`, where it is given.
    coupled : names of inputs
        Which of `coupling.COUPLED` may come with the forcing.
    sub_steps : names of fluxes
        Of which `live` has every routing sub-step of the last step too, as `coupling.SUB_STEPS`.

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
        routing_step: int = HOUR, snow: str = "none", runoff: str = "gr4j", routing: str = "muskingum",
        threads: int = 1, pet: PetNetwork | None = None, ledger: bool = False, exchange: Exchange | None = None,
        varying: Sequence[str] = (), components: Mapping[str, int] | None = None, coupled: Sequence[str] = (),
        sub_steps: Sequence[str] = (), lstm: Lstm | None = None, precipitation: str = GIVEN,
    ) -> None:
        self.coupled, self.sub_steps = tuple(coupled), tuple(sub_steps)
        self.chain = choose(snow, runoff, routing, precipitation)
        check_steps(self.chain, step, routing_step)
        given = dict(parameters or {})
        if EXCHANGE in self.coupled:  # that of another model stands in place of the process's own
            given |= {name: np.asarray(value) for name, value in self.chain.cells[-1].closed.items()}
        workers = Workers(threads)
        self.varying = all_varying(self.chain, varying, given, pet, lstm)
        check_components(self.chain, components or {})
        self.pet, self.exchange, self.lstm = pet, exchange, lstm
        self.domain, self.step, self.routing_step, self.snow = domain, step, routing_step, snow
        self.n_sub = step // routing_step
        boundary, kept = (domain.boundary, NONE) if exchange is None else (exchange.boundary, exchange.outlets)
        self.operators = Operators(
            self.chain, domain, step, routing_step, np.float64, workers, varying=self.varying, components=components,
            plan=plan_network(domain.reaches.downstream, threads, boundary=boundary, kept=kept),
        )
        self._given = ParameterSet(self.operators, given)
        weights = self.parameters.get(WEIGHT)
        self.state = new_state(self.operators, self._given.cells, 0 if lstm is None else lstm.n_units)
        self.ledger = Ledger(domain) if ledger else None
        self._live = Live(self.operators, self.state, self.outputs, self.coupled, weights, self.ledger)
        self.live = self._live.values
        self._driving = Driving(self.operators, self.varying, self.parameters, pet, lstm)
        self._given_fluxes = GivenFluxes(self.operators, self.live, self.coupled, weights)
        self._routing = Routing(self.operators, self.live, exchange, self.coupled, self.sub_steps)
        self._workspace = Workspace(self.operators, self.live)
        self._recording: Recording | None = None
        self._begin_balance()

    def advance(
        self, forcing: Forcing, keep: Sequence[str] = (), reaches: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Advance over all steps of the forcing; the bits do not depend on how a run is cut into calls.

        Returns the fluxes named in `keep` as float64[time, cell | reach | gauge], good until the next call; those on
        reaches at the places `reaches`, int64[], or at all. States and totals are at the end of the call, in `live`
        and `state`.
        """
        n_steps = forcing.precipitation.shape[0]
        if self._given_fluxes.served and n_steps > 1:
            return self._advance_singly(forcing, keep, reaches)
        b, series = self._workspace.of(n_steps, keep, reaches), self._driving.take(forcing)
        self._driving.vary_parameters(series, self.state)
        self._correct_demand(series, forcing.day_of_year, b)
        self._melt_snow(series, b)
        self._generate_runoff(series, b, forcing.coupled)
        self._routing.route(series[RUNOFF], self._given.reach, self.state, b, forcing.coupled)
        self._tell(b)
        return {name: b.series(name, self.domain.gauges.reach, reaches) for name in keep}

    def _correct_demand(self, series: dict[str, np.ndarray], day_of_year: np.ndarray | None, b: Buffers) -> None:
        """The factor on potential evapotranspiration, by its network or as it is given; told of every step."""
        self._driving.correct_demand(series, day_of_year, b.factor)
        if self.pet is None and FACTOR in self.varying:
            b.factor[:] = series[FACTOR]

    def _melt_snow(self, series: dict[str, np.ndarray], b: Buffers) -> None:
        """Rain and melt [mm d-1] of cells, where there is snow, of precipitation as it is corrected."""
        for place in range(len(self.operators.cells) - 1):
            self._run_cells(place, series, b)

    def _generate_runoff(
        self, series: dict[str, np.ndarray], b: Buffers, coupled: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Runoff of cells [mm d-1], with the fluxes that another model makes in them."""
        given = self._given_fluxes
        if given.served:
            given.before(series, coupled or {}, self.state, self.parameters)
        self._run_cells(-1, series, b)
        if given.served:
            given.after(self.state)

    def _run_cells(self, place: int, series: dict[str, np.ndarray], b: Buffers) -> None:
        """Advance a process of cells; what it gives joins the series."""
        operator = self.operators.cells[place]
        out, totals = b.given[operator.gives], self.state.totals_at(place)
        operator.advance(series, self._given.cells[place], self.state.cells[place], out, totals, b.fluxes[place])
        series[operator.gives] = out  # what it takes may have that name too

    def _tell(self, b: Buffers) -> None:
        """Bring the last step of a block into the live arrays."""
        if b is not self._workspace.single:
            b.copy_last(self._workspace.single)
        self._live.derive(self.state, self._given.reach)

    def _advance_singly(
        self, forcing: Forcing, keep: Sequence[str], reaches: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """As `advance`, one step after the other: a store may change between steps."""
        rows = []
        for t in range(forcing.precipitation.shape[0]):
            one = self.advance(forcing.part(slice(t, t + 1)), keep, reaches)
            rows.append({name: row.copy() for name, row in one.items()})
        return {name: np.concatenate([row[name] for row in rows]) for name in keep}

    @property
    def outputs(self) -> list[Variable]:
        """Registry entries of every variable that the model computes."""
        found = select(processes=self.chain.names, pet=FACTOR in self.varying, ledger=self.ledger is not None)
        return [v for v in found if v.role != "input"] + coupled_outputs(self.coupled) + [
            v for v in SUB_STEPS if v.of[0] in self.sub_steps
        ]

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Parameters by registry name, float64[cell | reach]; to change one, `change_parameter`."""
        return self._given.values

    @property
    def masses(self) -> dict[str, np.ndarray]:
        """Water since the start by the caller's clock, as of `end_call`: float64[1] [m] by `host_variables.MASSES`."""
        return self._live.totals.masses

    @property
    def has_start(self) -> bool:
        """Whether the parameters say how much is in the stores when a run starts."""
        return bool(self._given.starts)

    def ordinates(self, queue: str) -> np.ndarray:
        """Ordinates of a queue of unit hydrographs, float64[k, cell]."""
        return next(p.symbols[queue] for p in self._given.cells if queue in p.symbols)

    @property
    def reach_volume(self) -> np.ndarray:
        """Water in every reach [m3], float64[reach]."""
        return self.operators.reach.volume(self._given.reach, self.state.reach)

    def reach_state(self, volume: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The state of some reaches that hold a volume [m3], float64[place]."""
        return self.operators.reach.from_volume(self._given.reach, volume, places)

    @property
    def reach_parameters(self) -> Parameters:
        """Parameters of reaches as kernels take them."""
        return self._given.reach

    @property
    def workers(self) -> Workers:
        """The threads, for whoever prepares inputs."""
        return self.operators.workers

    def size_of(self, grid: str) -> int:
        """Number of values of a variable on a grid."""
        return size_of(self.domain, grid)

    def refresh(self) -> None:
        """Derive the live values from a state that was changed from outside."""
        self._live.totals.recount(self.state)
        self._live.derive(self.state, self._given.reach)

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite: whatever is one is found again in what is stored or has flown out."""
        return math.isfinite(self.live["water_stored"][0] + self.live["water_out"][0])

    @property
    def step_depth(self) -> float:
        """Runoff of the last step as a depth over the drained area [m]."""
        return self._live.totals.step_depth

    def mean_depth(self, values: np.ndarray) -> float:
        """Depth over the drained area [m] of depths on cells, float64[cell] [mm]."""
        return self._live.totals.mean_depth(values)

    def end_call(self, depth: float, outstanding: Outstanding) -> None:
        """Bring up to date what depends on the caller's clock; see `Totals.end_call`."""
        self._live.totals.end_call(self.state, depth, outstanding)

    def change_parameter(self, name: str, places: np.ndarray, values: np.ndarray) -> None:
        """Change a parameter at some places from the next step on; `adjustment` checks it.

        No water is lost or made: unit hydrographs keep what they hold and spread only what flows in from now on
        [SPEC 1.6], reaches keep their volume [SPEC 4.1].

        Raises
        ------
        ParameterError
            Weights of components, by which water in stores would be more or less than it was.
        """
        if name == WEIGHT:
            raise ParameterError(
                f"'{WEIGHT}' cannot be changed in a run: stores of a cell would hold other water. Start another run."
            )
        self._recording = None
        held = self.reach_volume
        before = self._given.reach.group
        before = type(before)(*(a.copy() for a in before))
        self._given.change(name, places, values)
        if name in self._given.bases():
            self._fit_queues(occupied_places(self.state.queues(), self.state.arrays()))
        self._keep_volume(held, before, self._given.reach.group)

    def _fit_queues(self, least: Mapping[str, int]) -> None:
        """Make the queues of unit hydrographs as long as their bases and the water in them need."""
        self.state = self.state.with_places(self._given.fit(least))

    def _keep_volume(self, held: np.ndarray, before: Sequence[np.ndarray], now: Sequence[np.ndarray]) -> None:
        """Let reaches whose coefficients are others hold the water [m3] that they held."""
        other = np.any([a != b for a, b in zip(before, now, strict=True)], axis=0)
        places = np.flatnonzero(other)
        if places.size:
            self.state.reach[places] = self.reach_state(held[places], places)

    def fill_rivers(self, forcing: Forcing) -> None:
        """Put every reach in a steady state with the mean runoff over the forcing; cells keep their state."""
        kept = self.state.copy()
        b, series = self._workspace.fresh(forcing.precipitation.shape[0]), self._driving.take(forcing)
        self._driving.vary_parameters(series, self.state)
        self._driving.correct_demand(series, forcing.day_of_year, b.factor)
        self._melt_snow(series, b)
        self._run_cells(-1, series, b)
        self._settle_rivers(kept, add_rows(series[RUNOFF])[None] / series[RUNOFF].shape[0])

    def settle(self, rain: float | None = None, runoff: float | None = None) -> None:
        """Start in equilibrium with a net rain or a mean runoff [mm d-1]; without either a customary rain."""
        found = settle_cells(self, rain, runoff)
        self._settle_rivers(self.state.copy(), found[None])

    def generate_once(self, series: dict[str, np.ndarray]) -> np.ndarray:
        """Advance the runoff process alone by a step of its inputs, float64[1, cell]; the runoff [mm d-1]."""
        self._run_cells(-1, series, self._workspace.single)
        return self._workspace.single.given[RUNOFF][0].copy()

    def start_cells(self) -> None:
        """Bring cells into the state of a cold start."""
        self.state.start_cells(self.operators, self._given.cells)

    def symbols(self, process: str) -> Mapping[str, np.ndarray]:
        """Parameters of a process of cells and what is prepared of them, by symbol, float64[component * cell]."""
        found = zip(self.operators.cells, self._given.cells, strict=True)
        return next(p.symbols for operator, p in found if operator.process.name == process)

    def _settle_rivers(self, kept: State, runoff: np.ndarray) -> None:
        """Put every reach in a steady state with a runoff, float64[1, cell] [mm d-1], and start with it."""
        flow = self._routing.steady(runoff)
        kept.reach[:] = self.operators.reach.steady(self._given.reach, flow)
        self.state.assign(kept.arrays())
        self._routing.empty_boundary(self._given.reach, self.state)
        self.begin(flow)

    def begin(self, discharge: np.ndarray) -> None:
        """Start the clock: the ledger and all fluxes are 0, reaches hold their initial discharge [m3 s-1]."""
        self.state.clear_totals()
        self._live.begin(discharge)
        self._routing.begin(discharge)
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
        self._given.check_stores(cell)
        name = self.state.reach_name
        state = np.array(reach[name], np.float64)
        held, now = reach.get("reach_storage"), self.operators.reach.volume(self._given.reach, state)
        if held is not None:
            other = np.flatnonzero(held != now)
            state[other] = self.reach_state(np.asarray(held)[other], other)
        queues = self.state.queues()
        own, saved = occupied_places(queues, self.state.arrays()), occupied_places(queues, cell)
        self._fit_queues({q: max(own[q], saved[q]) for q in queues})  # a base may be shorter here than it was there
        self.state.assign({**cell, **reach, name: state})
        self._routing.empty_boundary(self._given.reach, self.state)
        self._live.restore(cell, reach)
        self.refresh()

    @property
    def travel_time(self) -> np.ndarray:
        """Mean time [s] that water takes through every reach, where the process knows it beforehand."""
        symbol = self.chain.reach.travel_time
        return self._given.reach.symbols[symbol] if symbol is not None else np.full(self.domain.n_reaches, np.nan)

    def travel_time_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [s] of the travel time from the heads of the reaches above to each reach's end.

        The area-weighted mean over all paths that end in a reach; what the routing step adds is in it. Both
        float64[reach]; SPEC 4.2.
        """
        return self._given.travel_time_spread()

    def flood_waves(self, flow: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """What routing does to small flood waves on a constant flow, float64[reach] [m3 s-1]; None where nobody tells.

        Time through a reach [s], variance that the channel adds, and variance that the routing step adds in its place
        [s2].
        """
        return flood_waves(self.operators.reach, self._given.reach, flow)

    def record(self, forcing: Forcing) -> np.ndarray:
        """Run over the forcing from the present state, which stays; discharge float64[time, reach] of every reach.

        The same bits as `advance` would give. What `adjoint` needs is kept until the next recording. What other models
        give has no adjoint: with it in the forcing a StateError is raised.
        """
        check_recordable(forcing, self.lstm)
        series, angle = self._driving.take(forcing), None
        if self.pet is not None:
            self._driving.correct_demand(series, forcing.day_of_year, np.empty(forcing.precipitation.shape))
            assert forcing.day_of_year is not None
            angle = season(forcing.day_of_year)
        one_factor = self.pet is None and FACTOR in self.parameters and FACTOR not in forcing.series()
        discharge, self._recording = record(
            self.operators, self._given, series, self.state, self.pet, angle, one_factor
        )
        return discharge

    def adjoint(self, discharge_adj: np.ndarray) -> Gradients:
        """Gradients of any scalar J of the recorded discharge, from dJ / d discharge, float64[time, reach].

        Raises
        ------
        StateError
            Nothing was recorded, or the recording has another shape.
        """
        return adjoint(self._recording, discharge_adj)

    def block_length(
        self, memory: int, keep: Sequence[str] = (), reaches: np.ndarray | None = None, *, more: int = 0
    ) -> int:
        """Steps per call of `advance` with which its arrays, and `more` bytes per step, fit in `memory` bytes."""
        more += 0 if self.lstm is None else self.lstm.step_bytes
        return self._workspace.longest(memory, keep, reaches, more)

    def close(self) -> None:
        """End the threads."""
        self.operators.close()
