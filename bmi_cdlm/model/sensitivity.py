"""Gradients of a scalar of the discharge to forcing, parameters and initial state, by the adjoint kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.model.blocks import copy_group, zeros_of
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.model.cell_operator import CellRecord
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.parameter_set import ParameterSet
from bmi_cdlm.model.reach_operator import RouteRecord
from bmi_cdlm.model.state import State, by_component
from bmi_cdlm.names.declaration import LIQUID_WATER, PRECIPITATION, RUNOFF
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.parameters import WEIGHT
from bmi_cdlm.processes.pet_network_adjoint import fill_factor_adjoint

DEMAND, TEMPERATURE = "potential_evapotranspiration", "air_temperature"


class Gradients(NamedTuple):
    """Derivatives of a scalar.

    forcing : float64[time, cell] by registry name of the input; parameters : float64[cell | reach] by registry name,
    `travel_time` among them, float64[time, cell] of those that vary, float64[component, cell] of those with several
    components, and of their weights, each moved by itself; state : by name of the state at the start of the
    recording.
    """

    forcing: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


class Recording(NamedTuple):
    """What the adjoint needs of a run.

    series : inputs and varying parameters by name, float64[time, cell]; season : float64[time, 2], where a network
    makes the PET factor; one_factor : whether that is a parameter, the same at all steps.
    """

    operators: Operators
    series: dict[str, np.ndarray]
    cells: list[CellRecord]
    route: RouteRecord
    network: PetNetwork | None
    season: np.ndarray | None
    one_factor: bool


def check_recordable(forcing: Forcing, lstm: Lstm | None) -> None:
    """Refuse what has no adjoint: StateError."""
    if forcing.coupled:
        raise StateError(
            f"forcing has {', '.join(forcing.coupled)} of other models, expected none: there is no adjoint of it. "
            "Record without it."
        )
    if lstm is not None:
        raise StateError(
            f"parameters vary by an LSTM ({', '.join(lstm.components)}), expected none to be recorded: it has "
            "no adjoint here. Give them as series (`varying`), or take gradients in training, by torch."
        )


def record(
    operators: Operators, parameters: ParameterSet, series: dict[str, np.ndarray], state: State,
    network: PetNetwork | None, season: np.ndarray | None, one_factor: bool = False,
) -> tuple[np.ndarray, Recording]:
    """Run over the series from a state, which stays as it is; discharge float64[time, reach] and the recording."""
    taken, records = dict(series), []
    for operator, p, own in zip(operators.cells, parameters.cells, state.cells, strict=True):
        taken[operator.gives], one = operator.run(taken, p, copy_group(own))
        records.append(one)
    reaches = np.arange(operators.domain.n_reaches)
    discharge, routed = operators.reach.run(taken[RUNOFF], parameters.reach, state.reach.copy(), reaches)
    return discharge, Recording(operators, series, records, routed, network, season, one_factor)


def adjoint(recording: Recording | None, discharge_adj: np.ndarray) -> Gradients:
    """Gradients of J from dJ / d discharge, float64[time, reach]; StateError: see `Model.adjoint`."""
    if recording is None:
        raise StateError("there is no recording to go back over. Call record(forcing) first.")
    operators = recording.operators
    expected = (recording.series[PRECIPITATION].shape[0], operators.domain.n_reaches)
    if np.shape(discharge_adj) != expected:
        raise StateError(f"discharge_adj has shape {np.shape(discharge_adj)}, expected {expected}: [time, reach].")
    reach_adj = np.zeros(operators.domain.n_reaches)
    out_adj, p_adj = operators.reach.reverse(
        recording.route, np.ascontiguousarray(discharge_adj, np.float64), reach_adj
    )
    parameters = operators.reach.prepare_adjoint(recording.route.parameters, p_adj)
    state = {operators.chain.reach.state: reach_adj}
    inputs, given = {RUNOFF: out_adj}, {operator.gives for operator in operators.cells}
    for operator, one in zip(reversed(operators.cells), reversed(recording.cells), strict=True):
        own_adj = zeros_of(one.starts[0])
        found, p_adj = operator.reverse(one, inputs.pop(operator.gives), own_adj)
        shape = (operator.components, -1) if operator.components > 1 else (-1,)
        own = operator.prepare_adjoint(one.parameters, p_adj)
        own |= {WEIGHT: found.pop(WEIGHT)} if WEIGHT in found else {}
        parameters |= {name: values.reshape(shape) for name, values in own.items()}
        state |= {name: by_component(a, operator.components) for name, a in own_adj._asdict().items()}
        for name in operator.plan.varying:
            parameters[name] = found.pop(name)
        for own_name, values in found.items():
            # Without snow, rain plus melt is precipitation.
            name = PRECIPITATION if own_name == LIQUID_WATER and LIQUID_WATER not in given else own_name
            inputs[name] = inputs[name] + values if name in inputs else values
    if recording.network is not None:
        _add_factor_adjoint(recording, inputs, parameters.pop(FACTOR))
    if recording.one_factor:
        parameters[FACTOR] = parameters[FACTOR].sum(axis=0)
    order = [name for name in recording.series if name in inputs]
    return Gradients({name: inputs[name] for name in order}, parameters, state)


def _add_factor_adjoint(recording: Recording, inputs: dict[str, np.ndarray], factor_adj: np.ndarray) -> None:
    """Carry the adjoint of the PET factor through its network to the inputs."""
    series, workers = recording.series, recording.operators.workers
    demand = series[DEMAND]
    waste = np.zeros_like(demand)
    workers.run(compiled(fill_factor_adjoint), (
        series[PRECIPITATION], demand, series.get(TEMPERATURE, demand), recording.season, recording.network,
        series[FACTOR], factor_adj, inputs[PRECIPITATION], inputs[DEMAND], inputs.get(TEMPERATURE, waste),
    ), workers.tasks(demand.shape[1]), demand.size)
