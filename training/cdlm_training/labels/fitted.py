"""Labels of the model itself: its parameters on the own area of every gauge, or on every cell by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bmi_cdlm.evaluate.metrics import kge
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.names.parameters import parameter
from cdlm_training.fields import bounded, places
from cdlm_training.fits import descend
from cdlm_training.kept import held, keep
from cdlm_training.labels.areas import Areas
from cdlm_training.labels.offline import FITTED
from cdlm_training.labels.store import CAPACITIES, Column, LabelSet, chosen
from cdlm_training.labels.zones import Zones
from cdlm_training.loop import Trainer
from cdlm_training.objective import Objective, TrainingError
from cdlm_training.simulate import Chain, Part, make_parts

FEWEST = 60
"""Observed steps that a fit needs."""


class Tried(NamedTuple):
    """Fits of one zone: z float64[restart, parameter] and their loss, float64[restart], infinite where it failed."""

    free: np.ndarray
    loss: np.ndarray


class GaugeFits:
    """Fits of the model to every gauge of a training, those upstream first.

    What drains to a gauge through another keeps that one's parameters; its own area gets new ones. So each gauge's
    discharge is that of all above it, and no travel time is lost between gauges.

    Parameters
    ----------
    trainer : Trainer
        Of a training with the keys of `uniform.training_of_one_gauge`.
    areas : Areas
        Of its gauges.
    folder : Path
        For the fits that are done; what is there of the same training is not done again.
    restarts : int
    """

    def __init__(self, trainer: Trainer, areas: Areas, folder: Path, restarts: int) -> None:
        self.trainer, self.areas, self.folder, self.restarts = trainer, areas, folder, restarts
        self.zones = Zones(trainer.spec, trainer.data.domain, areas)
        self.zones.reach.requires_grad_(trainer.config.learn_routing)
        self.chain = Chain(trainer.data, self.zones, places(trainer.data.domain))
        self.objective = Objective(self.chain)
        train = trainer.data.steps_of(trainer.config.train)
        self.n_fitted = int(FITTED * (train.stop - train.start))
        self.fitted = trainer.data.window(train.start, self.n_fitted)
        self.whole = trainer.data.window(train.start, train.stop - train.start)

    def run(self, tell: Callable[[str], None]) -> LabelSet:
        """Fit all; tell takes a line of progress."""
        data, spec = self.trainer.data, self.trainer.spec
        columns, n = columns_of(spec, reaches=self.trainer.config.learn_routing), len(self.areas.above)
        tries = np.full((self.restarts, len(columns), n), np.nan)
        cost = np.full((self.restarts, n), np.inf)
        skill = {name: np.full(n, np.nan) for name in ("kge", "kge_fitted")}
        observed = self.whole.observed(data.observed, np.arange(n)).astype(np.float64)
        counts = np.count_nonzero(~np.isnan(observed[: self.n_fitted]), axis=0)
        for done, k in enumerate(self.areas.order, 1):
            name = data.domain.gauges.id[data.gauges[k]]
            own, part = observed[: self.n_fitted, k], self._part(k)
            free = ~self.zones.zones[0].done[torch.from_numpy(self.zones.owner[part.cells])]
            if counts[k] < FEWEST or np.nanstd(own) == 0 or not self.areas.has_own[k] or not bool(free.any()):
                tell(f"{done} of {n}: gauge {name} has no label: too few observations, or no area of its own")
                continue
            found = self._fits(k, name, part)
            tries[:, :, k] = np.stack([values_of(columns, free) for free in found.free])
            cost[:, k] = found.loss
            if np.isfinite(found.loss).any():
                self.zones.hold(k, found.free[int(found.loss.argmin())])
                simulated = self._simulate(part, k)
                skill["kge_fitted"][k] = kge(simulated[: self.n_fitted], own)
                skill["kge"][k] = kge(simulated[self.n_fitted :], observed[self.n_fitted :, k])
            tell(f"{done} of {n}: gauge {name}, KGE {skill['kge'][k]:.3f} in the part that was not fitted")
        values, spread = chosen(columns, tries, cost)
        name = self.trainer.run.runoff
        skill["n_values"] = counts.astype(np.float64)
        return LabelSet(name, columns, CAPACITIES.get(name), values, spread, skill,
                        f"{name} fitted by LBFGS to the loss of the training")

    def _part(self, place: int) -> Part:
        self.chain._placed.clear()
        return make_parts(self.trainer.data, self.trainer.workers, np.array([place]))[0]

    def _fits(self, place: int, gauge: str, part: Part) -> Tried:
        path = self.folder / f"{place}.npz"
        above = np.concatenate([self.zones.zones[0].held.numpy().ravel(), self.zones.zones[1].held.numpy().ravel()])
        which, training = f"{gauge} {self.restarts} ", self.trainer.identity
        done = held(path, lambda kept: kept.startswith(which) and not training.unlike(kept.removeprefix(which)))
        if done is not None and np.array_equal(done["above"], above):
            return Tried(done["free"], done["loss"])
        frees, losses = [], []
        for restart in range(self.restarts):
            self.zones.begin(None if restart == 0 else self.trainer.config.seed + 1000 * restart)
            losses.append(self._descend(part))
            frees.append(self.zones.get())
        found = Tried(np.stack(frees), np.array(losses))
        keep(path, which + training.text(), free=found.free, loss=found.loss, above=above)
        return found

    def _descend(self, part: Part) -> float:
        weights = [w for w in self.zones.parameters() if w.requires_grad]
        try:
            return descend(weights, lambda: self.objective(self.fitted, part, 1.0))
        except TrainingError:  # a drawn start from which the line search ran away
            return np.inf

    def _simulate(self, part: Part, place: int) -> np.ndarray:
        """Discharge at a gauge over the training period, float64[time]."""
        at = int(np.flatnonzero(part.gauges == place)[0])
        with torch.no_grad():
            return self.chain(part, self.whole).discharge[:, at].double().numpy()


def columns_of(spec: GeneratorSpec, *, reaches: bool) -> tuple[Column, ...]:
    """What the labels of a generator's parameters say of them, cells' before those of reaches, if these are fitted."""
    targets = (*spec.cell.targets, *(spec.reach.targets if reaches else ()))
    known = [parameter(t.name) for t in targets]
    return tuple(
        Column(t.name, p.units, t.low, t.high, t.scale, p.meaning) for t, p in zip(targets, known, strict=True)
    )


def values_of(columns: tuple[Column, ...], free: np.ndarray) -> np.ndarray:
    """Parameters of their z, float64[parameter, ...]; what is not fitted stands at the end of z, and is left out."""
    share = 1.0 / (1.0 + np.exp(-free[: len(columns)]))
    return np.stack([bounded(c, s) for c, s in zip(columns, share, strict=True)])
