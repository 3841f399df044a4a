"""What a regional model is measured against: climatology, fits to single gauges, and donors of such fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.basins import basin_means, nested
from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.yaml_dumper import dump_yaml
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.writing import replacing
from cdlm_training.config import load_train_config
from cdlm_training.dataset import Window
from cdlm_training.distributed import Team
from cdlm_training.experiment.config import Experiment
from cdlm_training.experiment.jobs import CONFIG, Identities, Job
from cdlm_training.experiment.splits import Split
from cdlm_training.fits import descend
from cdlm_training.identity import Identity
from cdlm_training.kept import held, keep
from cdlm_training.loop import Trainer
from cdlm_training.simulate import Part, make_parts
from cdlm_training.uniform import training_of_one_gauge

HALF_WIDTH = 15
"""Days before and after a calendar day that make its climatology."""
EARTH = 6371.0
"""Radius [km]."""
LOCAL = "local"
Weights = Literal["inverse_square", "equal"]


def climatology(observed: np.ndarray, starts: np.ndarray, first: int, last: int) -> np.ndarray:
    """Mean of the calendar days about each step, over the steps first to last, float64[time, gauge] [m3 s-1].

    observed : float64[time, gauge], NaN where missing; starts : datetime64[time]. NaN where no such day has a value.
    """
    day = day_of_year(starts).astype(np.int64) - 1
    inside = slice(first, last)
    total, count = np.zeros((366, observed.shape[1])), np.zeros((366, observed.shape[1]))
    np.add.at(total, day[inside], np.nan_to_num(observed[inside]))
    np.add.at(count, day[inside], ~np.isnan(observed[inside]))
    around = (np.arange(366)[:, None] + np.arange(-HALF_WIDTH, HALF_WIDTH + 1)) % 366
    total, count = total[around].sum(axis=1), count[around].sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[day]


def write_local(experiment: Experiment, gauges: Sequence[str]) -> Path:
    """Write the configuration of fits to single gauges into its folder; ConfigError where it is no training."""
    path = experiment.config.output / LOCAL / CONFIG
    content = {**experiment.content, "training": {
        **training_of_one_gauge(experiment.content["training"]), "output": "local.safetensors",
        "gauges": list(gauges), "held_out_fold": None,
    }}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(dump_yaml(content), encoding="utf-8")
    load_train_config(path)
    return path


class LocalFits:
    """Uniform parameters fitted to every gauge by itself, on all that drains to it.

    Parameters
    ----------
    experiment : Experiment
    gauges : ids of the gauges to fit
    tell : takes a line of progress

    Attributes
    ----------
    found : float64[gauge, parameter]
        Parameters before their bounds, in the order of `gauges`.
    """

    def __init__(self, experiment: Experiment, gauges: Sequence[str], tell: Callable[[str], None]) -> None:
        folder = write_local(experiment, gauges).parent
        identity = Identities().of(Job(LOCAL, Split("temporal", "all", tuple(gauges), ()), 1, folder))
        self.trainer = Trainer(folder / CONFIG, Team(0, 1))
        self.gauges = list(gauges)
        self._start = self._free()
        rows = []
        for place, gauge in enumerate(gauges):
            rows.append(self._fit_once(folder / f"{place}.npz", identity, place))
            tell(f"fitted to gauge {gauge} by itself, {place + 1} of {len(gauges)}")
        self.found = np.stack(rows)

    def close(self) -> None:
        """End the threads."""
        self.trainer.workers.close()

    def _fit_once(self, path: Path, identity: Identity, place: int) -> np.ndarray:
        found = held(path, lambda kept: not identity.unlike(kept))
        if found is not None:
            return found["free"]
        free = self._fit(self._part(place))
        keep(path, identity.text(), free=free)
        return free

    def _part(self, place: int) -> Part:
        """All that drains to one gauge; what was placed for another is let go."""
        self.trainer.chain._placed.clear()
        return make_parts(self.trainer.data, self.trainer.workers, np.array([place]))[0]

    def _fit(self, part: Part) -> np.ndarray:
        trainer = self.trainer
        self._set(self._start)
        train = trainer.data.steps_of(trainer.config.train)
        window = trainer.data.window(train.start, train.stop - train.start)  # one warm-up, whatever `window` is
        weights = [w for w in trainer.generator.parameters() if w.requires_grad]
        descend(weights, lambda: trainer.objective(window, part, 1.0))
        return self._free()

    def _free(self) -> np.ndarray:
        generator = self.trainer.generator
        return torch.cat([n.each[-1].bias.detach() for n in (generator.cell, generator.reach)]).double().numpy().copy()

    def _set(self, free: np.ndarray) -> None:
        cell, reach = (n.each[-1].bias for n in (self.trainer.generator.cell, self.trainer.generator.reach))
        with torch.no_grad():
            cell.copy_(torch.from_numpy(free[: cell.numel()]))
            reach.copy_(torch.from_numpy(free[cell.numel() :]))

    def simulate(self, gauge: str, sets: np.ndarray) -> np.ndarray:
        """Discharge at a gauge over the whole record with each parameter set, float64[set, time] [m3 s-1].

        sets : float64[set, parameter], as `found`. The run begins as windows do, with a warm-up.
        """
        part, n = self._part(self.gauges.index(gauge)), self.trainer.run.n_steps
        window: Window = self.trainer.data.window(0, n)
        out = np.empty((sets.shape[0], n))
        for k, free in enumerate(sets):
            self._set(free)
            with torch.no_grad():
                out[k] = self.trainer.chain(part, window).discharge[:, 0].numpy()
        return out


def distances(domain: Domain, path: Path, attributes: Sequence[str] | None) -> np.ndarray:
    """How far gauges are from each other, float64[gauge, gauge]: in standardised attributes, or in place [km].

    attributes : names of cell attributes, whose basin means are compared; None: centres of basins, along great circles.
    """
    if attributes is not None:
        values = read_attributes(path, domain, "cell", list(attributes)).values
        scaled, _ = standardised(domain, values, range(len(domain.gauges.id)))
        return np.sqrt(((scaled[:, None] - scaled[None]) ** 2).sum(axis=2))
    lat, lon = np.radians(basin_means(domain, np.stack([domain.cells.lat, domain.cells.lon], 1))).T
    across = np.sin((lat[:, None] - lat) / 2) ** 2
    along = np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    return 2 * EARTH * np.arcsin(np.sqrt(np.clip(across + along, 0, 1)))


def standardised(domain: Domain, values: np.ndarray, gauges: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Attributes as they are compared, less their mean over basins and over their spread there: of basins, of cells.

    values : float64[cell, attribute]; gauges : places of those whose basins count. Returns float64[gauge, attribute]
    and float64[cell, attribute].
    """
    means = basin_means(domain, values)[list(gauges)]
    middle, spread = means.mean(axis=0), means.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return (means - middle) / spread, (values - middle) / spread


def donor_weights(apart: np.ndarray, how: Weights) -> np.ndarray:
    """Shares of donors in a mean, of their distances float64[..., donor]: equal, or by the inverse square.

    Where a donor lies at no distance, those that do share all.
    """
    if how == "equal":
        return np.full(apart.shape, 1.0 / apart.shape[-1])
    here = apart <= 0
    found = np.where(here.any(axis=-1, keepdims=True), here, 1.0 / np.maximum(apart, 1e-150) ** 2)
    return found / found.sum(axis=-1, keepdims=True)


def choose_donors(
    domain: Domain, apart: np.ndarray, target: str, candidates: Sequence[str], count: int
) -> list[str]:
    """The nearest gauges to a target that are not nested with it, nearest first, at most `count`.

    apart : float64[gauge, gauge], from `distances`; candidates : ids.
    """
    ids, close = domain.gauges.id, nested(domain)
    t = ids.index(target)
    free = [g for g in candidates if not close[t, ids.index(g)]]
    return sorted(free, key=lambda g: apart[t, ids.index(g)])[:count]
