"""jFUSE [Eythorsson]: FUSE [Clark et al. 2008] and Muskingum-Cunge in JAX, on one core, on our river and weather.

Its structure of PRMS, one routing step a day, discharge at the outlet kept; gradients by all parameters of every unit
and the roughness of every reach. Its network holds a number for every pair of reaches, so that the river is small.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class JFuse:
    """Runs of jFUSE in float32 on a river whose reaches each have a unit of their own.

    downstream : int64[reach] in routing order; length [m], slope, area [km2] : float[reach]; rain, demand [mm d-1],
    temperature [degC] : float[time, reach].

    Raises
    ------
    ImportError
        jax or jfuse is not installed.
    """

    def __init__(
        self, downstream: np.ndarray, length: np.ndarray, slope: np.ndarray, area: np.ndarray, *weather: np.ndarray
    ) -> None:
        import jax
        from jfuse.coupled import CoupledModel
        from jfuse.fuse.config import PRMS_CONFIG
        from jfuse.routing.network import create_network_from_topology

        names = list(range(downstream.size))
        network = create_network_from_topology(names, downstream.tolist(), length.tolist(), slope.tolist())
        arrays, place = network.to_arrays(), jax.numpy.asarray
        model = CoupledModel(
            PRMS_CONFIG, arrays, place(area * 1e6, "float32"), routing_max_substeps=1, reach_hru_col=arrays.reach_ids,
        )
        forcing = tuple(place(values, "float32") for values in weather)

        def total(parameters: Any) -> Any:
            discharge, _ = model.simulate(forcing, parameters)
            return discharge.sum(), discharge

        self.wait, self.parameters = jax.block_until_ready, model.default_params()
        self._forward, self._both = jax.jit(total), jax.jit(jax.value_and_grad(total, has_aux=True))
        self.discharge, self.gradient = np.empty(0), np.empty(0)

    def forward(self) -> None:
        """Discharge at the outlet."""
        _, found = self.wait(self._forward(self.parameters))
        self.discharge = np.asarray(found)

    def both(self) -> None:
        """Discharge at the outlet, and the gradient of its sum by all parameters."""
        (_, found), gradient = self.wait(self._both(self.parameters))
        self.discharge, self.gradient = np.asarray(found), np.asarray(gradient.manning_n)
