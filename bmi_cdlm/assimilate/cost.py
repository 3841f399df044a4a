"""The cost of a start: how far the discharge is from what was observed, and the state from the background."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.assimilate.choice import Errors
from bmi_cdlm.assimilate.parts import Parts
from bmi_cdlm.domain.domain import M3_PER_MM_KM2
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import ConfigError, NotFiniteError
from bmi_cdlm.names.time_steps import DAY

LEAST_RUNOFF = 0.1
"""mm d-1. Less than that is little, whatever a gauge has seen in a window."""


class Observed(NamedTuple):
    """Observations of a window: starts : datetime64[time]; gauge_id; reach : int64[gauge]; discharge and its standard
    deviation [m3 s-1], float64[time, gauge], NaN where there is none.
    """

    starts: np.ndarray
    gauge_id: list[str]
    reach: np.ndarray
    discharge: np.ndarray
    deviation: np.ndarray


class Scored(NamedTuple):
    """A start: terms : of the observations of each gauge; background : that of the state; discharge : float64[time,
    gauge].
    """

    terms: np.ndarray
    background: float
    discharge: np.ndarray

    @property
    def cost(self) -> float:
        """J."""
        return float(self.terms.sum()) + self.background


class Fit(NamedTuple):
    """Where a minimisation came to: w, numbers of iterations and of runs, what ended it, and the length of the gradient
    as a share of that at the begin.
    """

    w: np.ndarray
    iterations: int
    runs: int
    ended: str
    slope: float


class Cost:
    """J(w) = 1/2 sum ((h(w) - y) / sd)^2 + 1/2 |w - w0|^2, and its gradient by the adjoint of the model.

    Parameters
    ----------
    model : Model
        In the state at the begin of the window; its stores and reaches are changed.
    forcing : Forcing
        Of the window.
    parts : Parts
    observed : Observed
    centre : float64[control], optional
        w0: 0, the background itself, where not given.
    """

    def __init__(
        self, model: Model, forcing: Forcing, parts: Parts, observed: Observed, centre: np.ndarray | None = None
    ) -> None:
        self._model, self._forcing, self._parts, self._observed = model, forcing, parts, observed
        self.centre = np.zeros(parts.size) if centre is None else centre

    def score(self, w: np.ndarray) -> Scored:
        """Run the window."""
        discharge = self._run(w)[:, self._observed.reach]
        terms = 0.5 * (self._residual(discharge) ** 2).sum(axis=0)
        return Scored(terms, 0.5 * float(((w - self.centre) ** 2).sum()), discharge)

    def __call__(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """Cost and its gradient, float64[control]."""
        scored, o = self.score(w), self._observed
        seed = np.zeros((o.starts.size, self._model.domain.n_reaches))
        pull = self._residual(scored.discharge) / np.where(np.isnan(o.deviation), 1.0, o.deviation)
        for gauge, reach in enumerate(o.reach):  # two gauges may stand at one reach
            seed[:, reach] += pull[:, gauge]
        gradients = self._model.adjoint(seed)
        return scored.cost, self._parts.pull(w, gradients, self._forcing.precipitation) + (w - self.centre)

    def _run(self, w: np.ndarray) -> np.ndarray:
        state, setting = self._model.state, self._parts.setting(w)
        held = state.on_cells()
        for name, values in setting.stores.items():
            held[name][...] = values
        if setting.reach is not None:
            state.reach[:] = setting.reach
        discharge = self._model.record(scaled(self._forcing, setting.rain))
        if not np.isfinite(discharge).all():
            raise NotFiniteError(
                "the discharge of the window is not finite, expected numbers. Check parameters and forcing with `cdlm "
                "run`, or let the state move less (--store-error)."
            )
        return discharge

    def _residual(self, discharge: np.ndarray) -> np.ndarray:
        """(h - y) / sd, 0 where nothing was observed."""
        o = self._observed
        return np.nan_to_num((discharge - o.discharge) / o.deviation, nan=0.0)

    def minimise(self, iterations: int) -> Fit:
        """Go down from the centre by L-BFGS.

        Raises
        ------
        ConfigError
            scipy is not installed.
        """
        try:
            from scipy.optimize import minimize
        except ImportError as cause:
            raise ConfigError(
                "assimilate needs the package scipy, which is not installed. Run: pip install 'bmi-cdlm[assimilate]'"
            ) from cause
        begin = float(np.linalg.norm(self(self.centre)[1]))
        found = minimize(
            self, self.centre, jac=True, method="L-BFGS-B",
            options={"maxiter": iterations, "maxcor": 20, "ftol": 1e-7, "gtol": 1e-5},
        )
        slope = float(np.linalg.norm(found.jac)) / begin if begin > 0.0 else 0.0
        return Fit(np.asarray(found.x), int(found.nit), int(found.nfev), str(found.message), slope)


def scaled(forcing: Forcing, rain: np.ndarray | None) -> Forcing:
    """Forcing with a factor on its precipitation, float64[cell]; as it is where there is none."""
    return forcing if rain is None else forcing._replace(precipitation=forcing.precipitation * rain)


def deviations(discharge: np.ndarray, area: np.ndarray, errors: Errors, step: int) -> np.ndarray:
    """Standard deviation of observations, float64[time, gauge] [m3 s-1].

    A share of each and one of the mean of its gauge, which counts as 0.1 mm d-1 of its area, float64[gauge] [km2], at
    least; where errors last longer than a step [s], the observations within that time count as one.
    """
    there = ~np.isnan(discharge)
    mean = np.where(there, discharge, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    least = np.maximum(mean, LEAST_RUNOFF * area * M3_PER_MM_KM2 / DAY)
    return (errors.flow * discharge + errors.floor * least) * np.sqrt(max(1.0, errors.time / step))
