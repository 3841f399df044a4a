"""What a training makes small: the weighted loss of a window on a part of the domain, and why it has no value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.maps.basins import UNITS
from bmi_cdlm.maps.files import interval_of
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.time_steps import DAY
from cdlm_training.dataset import Window
from cdlm_training.errors import gaussian_term
from cdlm_training.floods import SignatureTerms
from cdlm_training.loss import (
    TRANSFORMS,
    BatchSums,
    baseflow_index_term,
    depth_squares,
    kge_term,
    mean_runoff_term,
    nse_batch_term,
    nse_term,
    pet_factor_term,
    pet_roughness_term,
    rmse_comb_term,
    rmse_log_term,
    transformed,
)
from cdlm_training.simulate import Chain, Part, Simulated


class TrainingError(CdlmError, RuntimeError):
    """A training cannot go on: a loss or a gradient without a value."""


class Objective:
    """The loss as the configuration weights its terms.

    Parameters
    ----------
    chain : Chain
        From weights to discharge.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain, self.dataset, self.generator = chain, chain.dataset, chain.generator
        loss, run = self.dataset.config.loss, self.dataset.run
        self.maps = self._read_maps()
        self._per_day = DAY // run.time_step
        self.hysep_window = 0
        if "baseflow_index" in self.maps:
            self.hysep_window = interval_of(run.domain, str(self.dataset.config.baseflow_index_attribute))
        self.signatures = SignatureTerms(self.dataset) if loss.signatures or loss.events else None
        self.spreads = {name: self._spread(name) for name in TRANSFORMS if any(self._weights_of(name))}

    def __call__(
        self, window: Window, part: Part, share: float, sums: BatchSums | None = None,
        weights: np.ndarray | None = None,
    ) -> Tensor:
        """Loss of one window and part, which holds a share of the cells of this update; TrainingError without value.

        Its gradient is to be had once.
        sums : those of the whole update, where the loss has terms over all of its samples; weights : of the training
        gauges, where they differ from update to update: see `quantile_weights`.
        """
        simulated = self.chain(part, window, spends=not self.maps)
        loss = share * (self._map_terms(simulated.runoff, part) + self._factor_terms(simulated))
        if not part.gauges.size:
            return torch.as_tensor(loss, dtype=torch.float64, device=self.chain.device)
        terms = self._gauge_terms(simulated.discharge, window, part)
        self._check_terms(terms, window, part)
        counted = (self.dataset.weights if weights is None else weights)[part.gauges]
        if sums is not None:
            loss = loss + sums.windows * self._batch_terms(simulated.discharge, window, part, sums)
        return (self._place(counted).double() * part.stands_for * terms).sum() + loss

    def costs(self, window: Window, part: Part) -> np.ndarray:
        """Cost of every gauge of a part in a window, float64[gauge], without a gradient; NaN where none is observed."""
        with torch.no_grad():
            terms = self._gauge_terms(self.chain(part, window).discharge, window, part)
        self._check_terms(terms, window, part)
        missing = np.isnan(window.observed(self.dataset.observed, part.gauges)).all(axis=0)
        return np.where(missing, np.nan, terms.cpu().numpy())

    def _weights_of(self, transform: str) -> tuple[float, float]:
        """What NSE and KGE of a transform count."""
        loss = self.dataset.config.loss
        return getattr(loss, f"nse_{transform}"), getattr(loss, f"kge_{transform}", 0.0)

    def _spread(self, transform: str) -> np.ndarray:
        """Standard deviation of the transformed observations in the training period, float64[gauge]."""
        data = self.dataset
        observed = torch.from_numpy(data.observed[data.steps_of(data.config.train)])
        return np.nanstd(transformed(observed, transform, torch.from_numpy(data.offset)).numpy(), axis=0)

    @property
    def is_over_batch(self) -> bool:
        """Whether the loss has terms over all samples of an update."""
        return bool(self.dataset.config.loss.of_samples)

    def batch_count(self, items: Sequence[tuple[Window, Part]]) -> int:
        """Samples of an update: observations in its windows."""
        found = (window.observed(self.dataset.observed, part.gauges) for window, part in items)
        return sum(int(np.count_nonzero(~np.isnan(values))) for values in found)

    def batch_squares(self, window: Window, part: Part) -> np.ndarray:
        """Squares that a part adds to the sums of an update, float64[2]: of depth and of its logarithm."""
        with torch.no_grad():
            found = depth_squares(self.chain(part, window).discharge, *self._depths(window, part))
            return torch.stack([x.sum() for x in found]).cpu().numpy()

    def _depths(self, window: Window, part: Part) -> tuple[Tensor, Tensor]:
        observed = self._place(window.observed(self.dataset.observed, part.gauges))
        return observed, self._place(self.dataset.to_depth[part.gauges])

    def _batch_terms(self, discharge: Tensor, window: Window, part: Part, sums: BatchSums) -> Tensor | float:
        dataset, weigh = self.dataset, self.dataset.config.loss
        observed, to_depth = self._depths(window, part)
        terms: Tensor | float = 0.0
        if weigh.nse_batch:
            spread = self._place(dataset.spread[part.gauges])
            terms = terms + weigh.nse_batch * nse_batch_term(discharge, observed, spread, sums.samples)
        if weigh.rmse_comb:
            terms = terms + weigh.rmse_comb * rmse_comb_term(discharge, observed, to_depth, sums)
        return terms

    def _gauge_terms(self, discharge: Tensor, window: Window, part: Part) -> Tensor:
        """Weighted sum of the terms of each gauge, [gauge]."""
        dataset, weigh = self.dataset, self.dataset.config.loss
        observed = self._place(window.observed(dataset.observed, part.gauges))
        terms = torch.zeros(part.gauges.size, dtype=torch.float64, device=self.chain.device)
        if weigh.nse:
            terms = terms + weigh.nse * nse_term(discharge, observed, self._place(dataset.spread[part.gauges]))
        if weigh.kge:
            terms = terms + weigh.kge * kge_term(discharge, observed)
        if weigh.rmse_log:
            to_depth = self._place(dataset.to_depth[part.gauges])
            terms = terms + weigh.rmse_log * rmse_log_term(discharge, observed, to_depth)
        if weigh.gaussian:
            errors = self.generator.errors
            assert errors is not None
            deviation = errors.deviation(discharge, part.gauges)
            terms = terms + weigh.gaussian * gaussian_term(discharge, observed, deviation, weigh.observation_error)
        for transform, spread in self.spreads.items():
            offset = self._place(dataset.offset[part.gauges])
            s, o = (transformed(flow, transform, offset) for flow in (discharge, observed))
            of_nse, of_kge = self._weights_of(transform)
            if of_nse:
                terms = terms + of_nse * nse_term(s, o, self._place(spread[part.gauges]))
            if of_kge:
                terms = terms + of_kge * kge_term(s, o)
        if self.signatures is not None:
            terms = terms + self.signatures(discharge, window, part.gauges)
        return terms

    def _map_terms(self, runoff: Tensor, part: Part) -> Tensor | float:
        """Of the cells of a part against maps."""
        weigh = self.dataset.config.loss
        terms: Tensor | float = 0.0
        area = self._place(part.domain.cells.drained_area)
        own = {name: self._place(values[part.cells]) for name, values in self.maps.items()}
        if "mean_runoff" in own:
            terms = terms + weigh.mean_runoff * mean_runoff_term(runoff, own["mean_runoff"], area)
        if "baseflow_index" in own:
            days = runoff[: runoff.shape[0] // self._per_day * self._per_day]
            days = days.reshape(-1, self._per_day, days.shape[1]).mean(dim=1) if self._per_day > 1 else days
            terms = terms + weigh.baseflow_index * baseflow_index_term(
                days, own["baseflow_index"], area, self.hysep_window
            )
        return terms

    def _factor_terms(self, simulated: Simulated) -> Tensor | float:
        factor, weigh = simulated.pet_factor, self.dataset.config.loss
        terms: Tensor | float = 0.0
        if weigh.pet_factor and factor is not None:
            terms = terms + weigh.pet_factor * pet_factor_term(factor)
        if weigh.pet_roughness and factor is not None:
            terms = terms + weigh.pet_roughness * pet_roughness_term(factor)
        return terms

    def _place(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.chain.device)

    def _read_maps(self) -> dict[str, np.ndarray]:
        """Maps that the loss weighs, float64[cell] by signature."""
        config, run = self.dataset.config, self.dataset.run
        names = {one: getattr(config, f"{one}_attribute") for one in config.loss.of_maps}
        units = [UNITS[one] for one in names]
        table = read_attributes(run.domain, self.dataset.domain, "cell", list(names.values()), units)
        return dict(zip(names, table.values.T, strict=True))

    # ---- what has no value -------------------------------------------------------------------------------

    def check_gradients(self, windows: list[Window]) -> None:
        """Refuse a gradient without a value."""
        for name, weight in self.generator.named_parameters():
            if weight.grad is not None and not bool(torch.isfinite(weight.grad).all()):
                dates = ", ".join(dict.fromkeys(str(self._date(w)) for w in windows))
                raise TrainingError(
                    f"the gradient of '{name}' is not finite in the windows that start at {dates}; "
                    f"{self._culprit()}. Lower learning_rate, and resume."
                )

    def _check_terms(self, terms: Tensor, window: Window, part: Part) -> None:
        bad = np.flatnonzero(~torch.isfinite(terms).cpu().numpy())
        if bad.size:
            gauge = self.dataset.domain.gauges.id[self.dataset.gauges[part.gauges[bad[0]]]]
            raise TrainingError(
                f"the loss at gauge {gauge} is {float(terms[bad[0]].detach())} in the window that starts at "
                f"{date_text(self._date(window))}; {self._culprit()}. Lower learning_rate or clip, and resume."
            )

    def _culprit(self) -> str:
        """The first weight, or parameter of the model made from weights, that has no value."""
        generator, attributes = self.generator, self.chain.attributes
        with torch.no_grad():
            made = generator.cell_parameters(attributes.cell) | generator.reach_parameters(attributes.reach)
        for kind, values in (("weight", dict(generator.named_parameters())), ("parameter", made)):
            for name, value in values.items():
                if not bool(torch.isfinite(value).all()):
                    return f"the {kind} '{name}' is not finite"
        return "all weights and parameters are finite"

    def _date(self, window: Window) -> np.datetime64:
        run = self.dataset.run
        return run.start + int(window.target.flat[0]) * np.timedelta64(run.time_step, "s")
