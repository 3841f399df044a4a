"""What drives a model over consecutive steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Forcing(NamedTuple):
    """Forcing of consecutive steps, float64[time, cell]: mm d-1, mm d-1, degC (None where no process takes it).

    day_of_year : float64[time], from `season.day_of_year`; read by a PET network only. others : further inputs, varying
    : parameters that vary in time, float64[time, cell] or [component, time, cell], by registry name; coupled : what
    other models give, by registry name, float64[time, reach].
    """

    precipitation: np.ndarray
    potential_evapotranspiration: np.ndarray | None
    air_temperature: np.ndarray | None = None
    day_of_year: np.ndarray | None = None
    others: Mapping[str, np.ndarray] | None = None
    varying: Mapping[str, np.ndarray] | None = None
    coupled: Mapping[str, np.ndarray] | None = None

    def part(self, steps: slice) -> Forcing:
        """Some of the steps."""
        def cut(a: Any) -> Any:
            if isinstance(a, Mapping):
                return {name: v[steps] if v.ndim < 3 else v[:, steps] for name, v in a.items()}
            return None if a is None else a[steps]

        return Forcing(*map(cut, self))

    def series(self) -> dict[str, np.ndarray]:
        """Every input and varying parameter by registry name."""
        found = {"precipitation": self.precipitation}
        if self.potential_evapotranspiration is not None:
            found["potential_evapotranspiration"] = self.potential_evapotranspiration
        if self.air_temperature is not None:
            found["air_temperature"] = self.air_temperature
        return found | dict(self.others or {}) | dict(self.varying or {}) if self.others or self.varying else found
