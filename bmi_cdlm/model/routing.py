"""From runoff of cells to discharge of reaches: links, rivers, and what other models and other parts of a domain give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bmi_cdlm.kernels.groups import Links
from bmi_cdlm.kernels.launch import compiled_if_worth
from bmi_cdlm.kernels.loops.routing import steady_flow
from bmi_cdlm.model.buffers import Buffers, whole_series
from bmi_cdlm.model.coupled_flows import CoupledFlows
from bmi_cdlm.model.exchange import Exchange
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.preparation import Parameters
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.model.state import State
from bmi_cdlm.processes.outside import DIRECT


class Routing:
    """The reaches of a model, as far as more than one process meets in them.

    Parameters
    ----------
    operators : Operators
    live : mapping of str to float64[cell | reach | gauge | 1]
        The model's live arrays, changed in place.
    exchange : Exchange, optional
    coupled, sub_steps : names
        As of `Model`.
    """

    def __init__(
        self, operators: Operators, live: Mapping[str, np.ndarray], exchange: Exchange | None, coupled: Sequence[str],
        sub_steps: Sequence[str],
    ) -> None:
        self._operator, self._exchange, self._step = operators.reach, exchange, operators.step
        self._plan, self._boundary = operators.reach.network, operators.domain.boundary
        self._flows = CoupledFlows(
            operators.domain, live, self._plan.network.slot, operators.step, operators.n_sub, coupled, sub_steps
        )
        self._is_alone = exchange is None and not (self._boundary.size or coupled or sub_steps)
        self._direct = direct(operators) if "given_lateral_inflow" in coupled else self._operator

    def route(
        self, runoff: np.ndarray, p: Parameters, state: State, b: Buffers,
        coupled: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Collect the runoff of cells in reaches, and route it down the rivers; coupled : see `Forcing`."""
        if self._is_alone and not coupled:
            self._operator.route(
                runoff, p, state.reach, b.lateral_inflow, b.hydrographs, b.discharge, state.outflow_total, None
            )
            return
        coupled = coupled or {}
        exchange, slot = self._exchange, self._plan.network.slot
        if exchange is not None:
            b.hydrographs[slot[exchange.boundary]] = exchange.draw(b.hydrographs.shape[1])
        flows, reach = self._flows.begin(coupled, b.hydrographs.shape[1], state), self._operator
        if self._boundary.size:
            self._flows.take_in(coupled, b, flows, state)
        lateral = coupled.get("given_lateral_inflow")
        if lateral is not None:
            reach, runoff, added = self._direct, lateral, state.reach_added_total
            for row in lateral:  # added step by step, as the kernels add
                added += row * self._step
        arguments = (runoff, p, state.reach, b.lateral_inflow, b.hydrographs, b.discharge, state.outflow_total)
        if flows is None:
            reach.route(*arguments, None)
        else:
            reach.route_given(*arguments, flows)
            self._flows.end(flows)
        if exchange is not None:
            exchange.hand_on(b.hydrographs[slot[exchange.outlets]])

    def steady(self, runoff: np.ndarray) -> np.ndarray:
        """Discharge of every reach [m3 s-1] in a steady state with a runoff, float64[1, cell] [mm d-1]."""
        n, exchange = self._operator.domain.n_reaches, self._exchange
        lateral, flow = whole_series(np.empty((n, 1))), np.empty(n)
        self._operator.collect(runoff, lateral)
        if exchange is not None:
            lateral.last[exchange.boundary] = exchange.draw_steady()
        compiled_if_worth(steady_flow, n)(self._plan.network, lateral.last, flow)
        if exchange is not None:
            exchange.hand_on_steady(flow[exchange.outlets])
        return flow

    def begin(self, discharge: np.ndarray) -> None:
        """Let what is told of sub-steps be that of a constant discharge, float64[reach] [m3 s-1]."""
        self._flows.tell_steady(discharge)

    def empty_boundary(self, p: Parameters, state: State) -> None:
        """Let reaches that stand for what was cut off hold nothing: what left them came in."""
        boundary = self._boundary
        if boundary.size:
            state.reach[boundary] = self._operator.from_volume(p, np.zeros(boundary.size), boundary)
            state.reach_storage_at_start[boundary] = 0.0
            state.reach_added_total[boundary] = state.outflow_total[boundary]


def direct(operators: Operators) -> ReachOperator:
    """Routing of lateral inflow that is given for every reach, in place of runoff of cells."""
    n, domain = operators.domain.n_reaches, operators.domain
    links = Links(np.arange(n + 1), np.arange(n), np.ones(n))
    return ReachOperator(
        operators.chain.reach, DIRECT, domain._replace(links=links), operators.step, operators.routing_step, np.float64,
        operators.workers, operators.reach.network,
    )
