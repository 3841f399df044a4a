"""What drives processes over a block of steps: inputs, and parameters that vary in time, given or by a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.model.checks import check_varying
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.model.pet import factor_loop
from bmi_cdlm.model.state import State
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.parameters import check_series
from bmi_cdlm.names.season import season
from bmi_cdlm.processes.catalogue import Chain


def all_varying(
    chain: Chain, varying: Sequence[str], given: Collection[str], pet: PetNetwork | None, lstm: Lstm | None
) -> tuple[str, ...]:
    """Names of parameters that vary in time: those that come with the forcing, a network's, the factor on demand.

    Parameters
    ----------
    varying, pet, lstm : as of `Model`
    given : names of parameters
        Of one value per cell or reach.

    Raises
    ------
    ParameterError
        One that no process lets vary.
    """
    asked = [*varying, *(() if lstm is None else lstm.components)]
    check_varying(chain, asked)
    takes_factor = any(p.name == FACTOR for process in chain.cells for p in process.parameters)
    if pet is not None or (FACTOR in given and takes_factor):
        asked.append(FACTOR)
    return tuple(dict.fromkeys(asked))


class Driving:
    """Makes, by registry name, what the processes of cells take over a block of steps.

    Parameters
    ----------
    operators : Operators
    varying : sequence of str
        As `all_varying` has them.
    parameters : mapping of registry names to float64[cell | reach]
    pet, lstm : as of `Model`
    """

    def __init__(
        self, operators: Operators, varying: Sequence[str], parameters: Mapping[str, np.ndarray],
        pet: PetNetwork | None, lstm: Lstm | None,
    ) -> None:
        self._chain, self._domain, self._workers = operators.chain, operators.domain, operators.workers
        self._varying, self._parameters, self._pet, self._lstm = varying, parameters, pet, lstm
        made_here = (*(() if lstm is None else lstm.components), *((FACTOR,) if pet is not None else ()))
        self._needed = (*self._chain.inputs, *(name for name in varying if name not in made_here))
        self._tasks = self._workers.tasks(self._domain.n_cells)

    def take(self, forcing: Forcing) -> dict[str, np.ndarray]:
        """Inputs and varying parameters by registry name, float64[time, cell]."""
        series = forcing.series()
        if self._varying and FACTOR in self._parameters and FACTOR not in series:
            series[FACTOR] = np.repeat(self._parameters[FACTOR][None], forcing.precipitation.shape[0], 0)
        for name in self._needed:
            if name not in series:
                raise ForcingError(
                    f"forcing lacks '{name}', which {', '.join(self._chain.names)} need. Give float64[time, cell]."
                )
        for name, values in (forcing.varying or {}).items():
            if name in self._varying:
                check_series(name, values, self._domain.cells.id, "forcing")
        return series

    def vary_parameters(self, series: dict[str, np.ndarray], state: State) -> None:
        """Parameters that a network gives anew at every step, from the demand as it is before any factor."""
        if self._lstm is not None:
            series |= self._lstm.advance(series, state.lstm_hidden, state.lstm_memory, self._workers, self._tasks)

    def correct_demand(
        self, series: dict[str, np.ndarray], day_of_year: np.ndarray | None, factor: np.ndarray
    ) -> None:
        """The factor on potential evapotranspiration, where there is a network for it: float64[time, cell], filled."""
        if self._pet is None:
            return
        if day_of_year is None:
            raise ForcingError("forcing lacks day_of_year, which the PET network takes. Give season.day_of_year.")
        demand = series["potential_evapotranspiration"]
        # Where nobody takes temperature there is none, and the network has no weight on it.
        temperature = series.get("air_temperature", demand)
        self._workers.run(compiled(factor_loop(self._pet)), (
            series["precipitation"], demand, temperature, season(day_of_year), self._pet, factor,
        ), self._tasks, demand.size)
        series[FACTOR] = factor
