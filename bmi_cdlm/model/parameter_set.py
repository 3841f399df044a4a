"""The parameters of a model: by registry name, and as kernels take them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.kernels.groups import ReachParameters, RunoffParameters, SnowParameters
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.routing import fill_coefficients, fill_variance
from bmi_cdlm.kernels.loops.runoff import fill_ordinates
from bmi_cdlm.model.operators import HYDROGRAPH_EXPONENT
from bmi_cdlm.names import parameters as registry
from bmi_cdlm.names.errors import DomainError, ParameterError, StateError
from bmi_cdlm.names.parameters import TRAVEL_TIME

SHORTEST_BASE = 0.5
"""X4 [steps] at and below which nothing is delayed."""
COVER_SHARE = 0.9
"""Share of the mean annual snowfall that covers a cell fully in plain CemaNeige."""
Places = tuple[int, int]
"""Lengths of the queues of both unit hydrographs [steps]."""


class ParameterSet:
    """Parameters of cells and reaches at a model step and a routing step [s].

    Attributes
    ----------
    values : dict of float64[cell | reach]
        By registry name, allocated once.
    runoff, snow, reach : groups of kernels
    travel_time : float64[reach]
        K [s].
    """

    def __init__(
        self, domain: Domain, given: Mapping[str, np.ndarray], step: int, routing_step: int, snow: str
    ) -> None:
        self._domain, self._step, self._routing_step, self._snow = domain, step, routing_step, snow
        self.values = registry.defaults(step, domain.n_cells, domain.n_reaches)
        self.values |= {name: self._sized(name, value) for name, value in given.items()}
        registry.check(self.values, "parameters")
        self.prepare_runoff()
        self._prepare_snow()
        self._prepare_reaches()

    def _sized(self, name: str, value: np.ndarray) -> np.ndarray:
        """One value per cell or reach: a copy."""
        grid = "reach" if name == TRAVEL_TIME else registry.parameter(name).grid
        size = self._domain.n_reaches if grid == "reach" else self._domain.n_cells
        array = np.array(np.broadcast_to(value, np.shape(value) or (size,)), np.float64)
        if array.shape != (size,):
            raise ParameterError(f"parameter '{name}' has shape {array.shape}, expected one value per {grid}: {size}.")
        return array

    @property
    def base(self) -> np.ndarray:
        """X4 as unit hydrographs take it, float64[cell] [steps]: 0 is no delay, as any X4 up to one half is."""
        return np.maximum(self.values["unit_hydrograph_base"], SHORTEST_BASE)

    def change(self, name: str, places: np.ndarray, values: np.ndarray) -> None:
        """Change a parameter at some places; after one of X4, `prepare_runoff` must follow."""
        self.values[name][places] = values
        if name == TRAVEL_TIME or registry.parameter(name).grid == "reach":
            self._prepare_reaches()
        elif name == "cover_ratio_threshold":
            self._prepare_snow()

    def prepare_runoff(self, least: Places = (1, 1)) -> None:
        """Derive what kernels take for runoff; least: places that the queues of unit hydrographs have at least."""
        p, longest = self.values, float(self.values["unit_hydrograph_base"].max())
        places = (max(needed, int(np.ceil(n * longest))) for n, needed in enumerate(least, 1))
        ordinates = [np.zeros((n, self._domain.n_cells)) for n in places]
        compiled(fill_ordinates)(self.base, HYDROGRAPH_EXPONENT[self._step], *ordinates)
        self.runoff = RunoffParameters(
            p["production_capacity"], p["exchange_coefficient"], p["routing_capacity"], *ordinates
        )

    def _prepare_snow(self) -> None:
        p, snowfall = self.values, self._domain.cells.mean_annual_snowfall
        if self._snow != "none" and not np.isfinite(snowfall).all():
            raise DomainError(
                f"snow is '{self._snow}' but 'mean_annual_snowfall' [mm yr-1] is missing in the domain, expected on "
                "every cell. Add it to the domain file, or set snow: none."
            )
        share = p["cover_ratio_threshold"] if self._snow == "cemaneige_hysteresis" else COVER_SHARE
        self.snow = SnowParameters(
            p["thermal_weighting"], p["melt_factor"], p["accumulation_threshold"], share * snowfall
        )

    def _prepare_reaches(self) -> None:
        p, reaches = self.values, self._domain.reaches
        self.travel_time = p.get(TRAVEL_TIME, reaches.length / p["celerity"])
        self.reach = ReachParameters(*(np.empty(self._domain.n_reaches) for _ in ReachParameters._fields))
        compiled(fill_coefficients)(self.travel_time, p["weighting"], float(self._routing_step), self.reach)

    def check_store(self, store: np.ndarray) -> None:
        """Refuse a production store [mm], float64[cell], that holds more than its capacity."""
        capacity = self.values["production_capacity"]
        over = np.flatnonzero(store > capacity if store.shape == capacity.shape else False)
        if over.size:
            i = int(over[0])
            raise StateError(
                f"state 'production_store' holds {store[i]:.6g} mm at cell {self._domain.cells.id[i]} ({over.size} of "
                f"{store.size} cells), expected at most its 'production_capacity' here, {capacity[i]:.6g} mm. Use the "
                "parameters of that run, or set the capacity first."
            )

    def travel_time_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Model.travel_time_spread`."""
        variance = np.empty(self._domain.n_reaches)
        compiled(fill_variance)(self.travel_time, self.values["weighting"], float(self._routing_step), variance)
        mean, variance = (_mean_above(self._domain, one) for one in (self.travel_time, variance))
        return mean, np.sqrt(np.maximum(variance, 0.0))


def _mean_above(domain: Domain, per_reach: np.ndarray) -> np.ndarray:
    """Area-weighted mean over all reaches above, of the sum of `per_reach` along the path down to each reach's end."""
    reaches = domain.reaches
    path = accumulate_downstream(reaches.downstream, reaches.area)
    weighted = accumulate_downstream(reaches.downstream, per_reach * path)
    return weighted / np.where(path > 0, path, 1.0)
