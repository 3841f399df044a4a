"""What is fitted: stores, rivers, a factor on rain; each a field that is N(0, 1) and 0 at the background."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from bmi_cdlm.assimilate.choice import Choice
from bmi_cdlm.assimilate.correlation import Fields, make_fields
from bmi_cdlm.assimilate.transform import Within
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.sensitivity import PRECIPITATION, Gradients
from bmi_cdlm.names.declaration import Store
from bmi_cdlm.names.errors import ConfigError, nearest

LEAST_SCALE = 50.0
"""mm. A store without a capacity has at least this for one."""
FAR = 3.0
"""Standard deviations beyond which something has moved far."""


class Moved(NamedTuple):
    """How far something was moved, over cells (and components) or reaches: means before and after, the largest change,
    the mean standard deviation, in `units`; how many of how many lie at a bound now that did not, and have moved by
    more than three standard deviations.
    """

    name: str
    units: str
    before: float
    after: float
    largest: float
    deviation: float
    at_bound: int
    far: int
    total: int


class Setting(NamedTuple):
    """What a fit sets: stores by name, float64[cell] or [component, cell]; the state of reaches, float64[reach], and
    the factor on rain, float64[cell], None where they are not fitted.
    """

    stores: dict[str, np.ndarray]
    reach: np.ndarray | None
    rain: np.ndarray | None


class StorePart:
    """A store of the cells; components of a cell move alike, as shares of their standard deviations."""

    def __init__(
        self, name: str, units: str, background: np.ndarray, deviation: np.ndarray,
        bounds: tuple[np.ndarray, np.ndarray], fields: Fields,
    ) -> None:
        self.name, self.units, self.fields, self._shape = name, units, fields, background.shape
        self._deviation = deviation
        self._within = Within(background.ravel(), deviation.ravel(), bounds[0].ravel(), bounds[1].ravel())

    def values(self, field: np.ndarray) -> np.ndarray:
        """What the store holds, float64[(component,) cell], of a field, float64[cell]."""
        return self._within.values((self._deviation * field).ravel()).reshape(self._shape)

    def pull(self, gradients: Gradients, forcing_rain: np.ndarray, field: np.ndarray) -> np.ndarray:
        """Adjoint of the field, float64[cell]."""
        slope = self._within.slope((self._deviation * field).ravel()).reshape(self._shape)
        own = gradients.state[self.name].reshape(self._shape) * slope * self._deviation
        return own if own.ndim == 1 else own.sum(axis=0)

    def moved(self, field: np.ndarray) -> Moved:
        """How far it was moved."""
        before, after = self._within.background, self.values(field).ravel()
        change = after - before
        hit = self._within.at_bound(after) & ~self._within.at_bound(before)
        far = np.abs(change) > FAR * np.broadcast_to(self._deviation, self._shape).ravel()
        return _moved(self, before, after, float(self._deviation.mean()), hit, far)


class RiverPart:
    """The state of the reaches, times exp(deviation field): a dry reach stays dry."""

    units = "m3"

    def __init__(self, model: Model, deviation: float, fields: Fields) -> None:
        self.name, self.fields, self._deviation = model.chain.reach.state, fields, deviation
        self._background, self._model = model.state.reach.copy(), model

    def values(self, field: np.ndarray) -> np.ndarray:
        """The state of the reaches, float64[reach]."""
        return self._background * np.exp(self._deviation * field)

    def pull(self, gradients: Gradients, forcing_rain: np.ndarray, field: np.ndarray) -> np.ndarray:
        """Adjoint of the field, float64[reach]."""
        return gradients.state[self.name] * self.values(field) * self._deviation

    def moved(self, field: np.ndarray) -> Moved:
        """How far the water in the reaches was moved."""
        operator, p = self._model.operators.reach, self._model.reach_parameters
        before, after = (operator.volume(p, state).copy() for state in (self._background, self.values(field)))
        found = _moved(self, before, after, self._deviation, np.zeros(0, bool), np.abs(field) > FAR)
        return found._replace(name="water in reaches", deviation=self._deviation * found.before)


class RainPart:
    """A factor exp(deviation field) on the precipitation of the whole window."""

    name, units = "factor on rain", "1"

    def __init__(self, deviation: float, fields: Fields) -> None:
        self.fields, self._deviation = fields, deviation

    def values(self, field: np.ndarray) -> np.ndarray:
        """The factor, float64[cell]."""
        return np.exp(self._deviation * field)

    def pull(self, gradients: Gradients, forcing_rain: np.ndarray, field: np.ndarray) -> np.ndarray:
        """Adjoint of the field, float64[cell]; forcing_rain : as it was before the factor, float64[time, cell]."""
        return (gradients.forcing[PRECIPITATION] * forcing_rain).sum(axis=0) * self.values(field) * self._deviation

    def moved(self, field: np.ndarray) -> Moved:
        """How far it is from 1."""
        factor = self.values(field)
        return _moved(self, np.ones(factor.size), factor, self._deviation, np.zeros(0, bool), np.abs(field) > FAR)


Part = StorePart | RiverPart | RainPart


class Parts:
    """Everything that is fitted, of one vector w whose entries are N(0, 1) and 0 at the background."""

    def __init__(self, parts: list[Part]) -> None:
        edges = list(accumulate((part.fields.size for part in parts), initial=0))
        self.parts, self.size = parts, edges[-1]
        self._slices = [slice(a, b) for a, b in pairwise(edges)]

    def fields(self, w: np.ndarray) -> list[np.ndarray]:
        """The field of each part."""
        return [part.fields.field(w[own]) for part, own in zip(self.parts, self._slices, strict=True)]

    def setting(self, w: np.ndarray) -> Setting:
        """What a vector stands for."""
        stores, reach, rain = {}, None, None
        for part, field in zip(self.parts, self.fields(w), strict=True):
            values = part.values(field)
            if isinstance(part, StorePart):
                stores[part.name] = values
            elif isinstance(part, RiverPart):
                reach = values
            else:
                rain = values
        return Setting(stores, reach, rain)

    def pull(self, w: np.ndarray, gradients: Gradients, forcing_rain: np.ndarray) -> np.ndarray:
        """Adjoint of w from that of the state at the begin of the window and of the rain."""
        found = np.empty(self.size)
        for part, own, field in zip(self.parts, self._slices, self.fields(w), strict=True):
            found[own] = part.fields.adjoint(part.pull(gradients, forcing_rain, field))
        return found

    def moved(self, w: np.ndarray) -> list[Moved]:
        """How far each was moved."""
        return [part.moved(field) for part, field in zip(self.parts, self.fields(w), strict=True)]


def make_parts(model: Model, choice: Choice) -> Parts:
    """What is fitted of a model in the state at the begin of the window.

    Raises
    ------
    ConfigError
        A store that there is not, nothing to fit, a factor on rain where none falls.
    """
    cells, reaches, errors = model.domain.cells, model.domain.reaches, choice.errors
    on_cells = make_fields(cells.lon, cells.lat, errors.distance)
    parts: list[Part] = []
    if "stores" in choice.fit:
        parts += _store_parts(model, choice, on_cells)
    if "rivers" in choice.fit:
        if not model.state.reach.any():
            raise ConfigError(
                f"fit: rivers, and reaches of routing '{model.chain.reach.name}' hold nothing at the begin of the "
                "window. Expected water in them; fit stores."
            )
        parts.append(RiverPart(model, errors.river, make_fields(reaches.lon, reaches.lat, errors.distance)))
    if "rain" in choice.fit:
        if model.chain.enters != PRECIPITATION:
            raise ConfigError(f"fit: rain, and runoff '{model.chain.cells[-1].name}' takes none. Fit rivers.")
        parts.append(RainPart(errors.rain, on_cells))
    if not parts:
        raise ConfigError(
            f"fit: {', '.join(choice.fit)}, and no store of {', '.join(model.chain.names)} can be fitted. Fit rivers."
        )
    return Parts(parts)


def _store_parts(model: Model, choice: Choice, fields: Fields) -> list[Part]:
    known: dict[str, tuple[Store, np.ndarray, Mapping[str, np.ndarray]]] = {}
    held = model.state.on_cells()
    for process in model.chain.cells:
        symbols = {} if not process.stores else model.symbols(process.name)
        for name, store in process.stores.items():
            if store.holds_water:
                known[name] = store, held[name].copy(), symbols
    for name in (*(choice.stores or ()), *choice.errors.stores):
        if name not in known:
            raise ConfigError(
                f"store: '{name}' is none of {', '.join(model.chain.names)} that holds water.{nearest(name, known)} "
                f"Known: {', '.join(known) or 'none'}."
            )
    wanted = known if choice.stores is None else choice.stores
    parts: list[Part] = []
    for name in known:
        store, background, symbols = known[name]
        if name not in wanted:
            continue
        low, high = (np.full(background.shape, limit) for limit in store.bounds)
        if store.at_most is not None:
            high = model.parameters[store.at_most].copy()
        scale = scale_of(store, background, high, symbols)
        own = choice.errors.stores.get(name)
        deviation = choice.errors.store * scale if own is None else np.where(high > low, own, 0.0)
        if deviation.any():  # interception of no depth has nothing to fit
            parts.append(StorePart(name, store.units, background, deviation, (low, high), fields))
    return parts


def scale_of(store: Store, held: np.ndarray, high: np.ndarray, symbols: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the standard deviation of a store is a share of, in the shape of what it holds.

    Its capacity; else the parameter that says how full it starts; else the mean of what all of them hold now, and 50 mm
    at least.
    """
    if np.isfinite(high).all():
        return high
    if store.start_of is not None:
        return np.asarray(symbols[store.start_of]).reshape(held.shape)
    return np.full(held.shape, max(LEAST_SCALE, float(np.abs(held).mean())))


def _moved(
    part: Part, before: np.ndarray, after: np.ndarray, deviation: float, at_bound: np.ndarray, far: np.ndarray
) -> Moved:
    change = after - before
    largest = float(change[np.abs(change).argmax()])
    return Moved(
        part.name, part.units, float(before.mean()), float(after.mean()), largest, deviation,
        int(np.count_nonzero(at_bound)), int(np.count_nonzero(far)), change.size,
    )
