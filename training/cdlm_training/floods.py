"""Signatures of floods and periods as terms of the loss: the equations of the evaluation, with slopes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.evaluate.evaluation import cell_weights
from bmi_cdlm.evaluate.events import SEARCHED, find_events, whole_parts
from bmi_cdlm.evaluate.signatures import OF_EVENTS, OF_PERIODS, Signature, signatures
from bmi_cdlm.evaluate.signatures import Window as Read
from bmi_cdlm.names.errors import ConfigError, ObservationError
from bmi_cdlm.names.time_steps import DAY, HOUR
from cdlm_training.dataset import Dataset, Window


class Flood(NamedTuple):
    """First and last step of a flood, in steps of the record."""

    first: int
    last: int


class SignatureTerms:
    """(s / o - 1)^2 of signatures of the period and of floods, weighted as the configuration says, per gauge.

    Floods are found once, in the rain above a gauge and its observed discharge of the training period; those count
    that lie in a window whole. A signature that is not above 0 as observed counts nothing.

    Parameters
    ----------
    dataset : Dataset

    Raises
    ------
    ConfigError
        A training period or window too short for a flood.
    ObservationError
        No gauge has a flood in the training period.
    """

    def __init__(self, dataset: Dataset) -> None:
        loss, self.dataset = dataset.config.loss, dataset
        self.step = dataset.run.time_step
        self.of_period = [(one, loss.signatures[one.name]) for one in OF_PERIODS if one.name in loss.signatures]
        self.of_floods = [(one, loss.events[one.name]) for one in OF_EVENTS if one.name in loss.events]
        self.rain = self._rain()
        self.floods: list[list[Flood]] = [[] for _ in dataset.gauges]
        if self.of_floods:
            self._check_length()
            self._find(loss.flood_quantile)

    def __call__(self, discharge: Tensor, window: Window, part_gauges: np.ndarray) -> Tensor:
        """Terms of each gauge, [gauge]; discharge : [time, gauge] [m3 s-1] of the counted steps of a window."""
        steps = window.target if window.at_gauges is not None else window.target[:, None]
        terms = [
            self._of_gauge(discharge[:, k].double(), int(gauge), steps[:, min(k, steps.shape[1] - 1)])
            for k, gauge in enumerate(part_gauges.tolist())
        ]
        return torch.stack(terms)

    def _of_gauge(self, flow: Tensor, gauge: int, steps: np.ndarray) -> Tensor:
        first, stop = int(steps[0]), int(steps[-1]) + 1  # counted steps follow each other
        observed = self.dataset.observed[first:stop, gauge].astype(np.float64)
        rain = self.rain[first:stop, gauge]
        total = torch.zeros((), dtype=torch.float64, device=flow.device)
        if self.of_period:
            parts = whole_parts(observed, self.step)
            if parts:
                places = np.concatenate([np.arange(part.start, part.stop) for part in parts])
                total = total + self._errors(self.of_period, flow, observed, rain, places, gauge)
        inside = [flood for flood in self.floods[gauge] if first <= flood.first and flood.last < stop]
        for flood in inside:
            places = np.arange(flood.first - first, flood.last + 1 - first)
            total = total + self._errors(self.of_floods, flow, observed, rain, places, gauge) / len(inside)
        return total

    def _errors(
        self, wanted: Sequence[tuple[Signature, float]], flow: Tensor, observed: np.ndarray, rain: np.ndarray,
        places: np.ndarray, gauge: int,
    ) -> Tensor:
        """Weighted sum of the squared relative errors of signatures over some steps."""
        area, known = float(self.dataset.area[gauge]), observed[places]
        of = Read(rain[places], flow[torch.from_numpy(places).to(flow.device)], None, self.step, area)
        target = signatures([one for one, _ in wanted], of._replace(flow=known))
        total = torch.zeros((), dtype=torch.float64, device=flow.device)
        for one, weight in wanted:
            if target[one.name] > 0:
                total = total + weight * (one.of(of) / target[one.name] - 1.0) ** 2
        return total

    def _rain(self) -> np.ndarray:
        """Mean rain above every training gauge [mm per step], float64[time, gauge]."""
        data, domain = self.dataset, self.dataset.domain
        above = np.stack([cell_weights(domain, int(domain.gauges.reach[g])) for g in data.gauges], axis=1)
        return data.forcing["precipitation"].astype(np.float64) @ above * (self.step / DAY)

    def _check_length(self) -> None:
        config, train = self.dataset.config, self.dataset.steps_of(self.dataset.config.train)
        for what, steps in (("the training period", train.stop - train.start), ("window", config.window)):
            if steps * self.step < SEARCHED * HOUR:
                raise ConfigError(
                    f"loss.events: {what} has {steps * self.step / HOUR:g} h, expected at least {SEARCHED}, in which a "
                    "flood is looked for. Make it longer, or leave loss.events out."
                )

    def _find(self, quantile: float) -> None:
        data, train = self.dataset, self.dataset.steps_of(self.dataset.config.train)
        for gauge in range(data.gauges.size):
            found, _ = find_events(self.rain[train, gauge], data.observed[train, gauge], self.step, quantile)
            self.floods[gauge] = [Flood(e.first + train.start, e.last + train.start) for e in found]
        if not any(self.floods):
            raise ObservationError(
                f"loss.events: no gauge has a flood above the quantile {quantile:g} of its flow in the training period "
                "that the record does not cut, expected one. Lower loss.flood_quantile, choose another period, or "
                "leave loss.events out."
            )
