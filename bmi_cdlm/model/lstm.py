"""Parameters that a network gives anew at every step: the LSTM of a generator, run over the forcing of a block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bmi_cdlm.kernels.groups import LstmNetwork
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.processes.lstm import fill_lstm

RAIN, DEMAND, TEMPERATURE = "precipitation", "potential_evapotranspiration", "air_temperature"


class Lstm:
    """A network with the parameters that it gives.

    Parameters
    ----------
    network : LstmNetwork
    components : mapping of registry names to int
        In the order of the network's outputs: how many of it a cell has.
    """

    def __init__(self, network: LstmNetwork, components: Mapping[str, int]) -> None:
        self.network, self.components = network, dict(components)
        self._series = np.empty((0, 0, 0))

    @property
    def n_units(self) -> int:
        """Units that a state remembers, padding among them."""
        return self.network.static.shape[0]

    @property
    def step_bytes(self) -> int:
        """Bytes of what it gives in a step."""
        return 8 * self.network.last_bias.size * self.network.static.shape[1]

    def of_cells(self, cells: np.ndarray) -> Lstm:
        """The same network for some cells, int64[]."""
        static = np.ascontiguousarray(self.network.static[:, cells])
        return Lstm(self.network._replace(static=static), self.components)

    def advance(
        self, series: Mapping[str, np.ndarray], hidden: np.ndarray, memory: np.ndarray, workers: Workers,
        tasks: Any,
    ) -> dict[str, np.ndarray]:
        """Parameters over the steps of the inputs, float64[time, cell] or [component, time, cell], by registry name.

        They are good until the next call. hidden, memory : float64[unit, cell], in place.
        """
        demand = series[DEMAND]
        shape = (self.network.last_bias.size, *demand.shape)
        if self._series.shape != shape:
            self._series = np.empty(shape)
        # Where nobody takes temperature there is none, and the network has no weight on it.
        weather = series[RAIN], demand, series.get(TEMPERATURE, demand)
        workers.run(
            compiled(fill_lstm), (*weather, self.network, hidden, memory, self._series), tasks, demand.size
        )
        found, first = {}, 0
        for name, count in self.components.items():
            found[name] = self._series[first] if count == 1 else self._series[first : first + count]
            first += count
        return found
