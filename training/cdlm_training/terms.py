"""The terms of a loss and of a regularisation, as keys below `training`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bmi_cdlm.evaluate.events import QUANTILE
from bmi_cdlm.evaluate.signatures import OF_EVENTS, OF_PERIODS
from bmi_cdlm.maps.config import Target

LEARNABLE = {
    key: tuple(one.name for one in signatures if one.has_slope)
    for key, signatures in (("signatures", OF_PERIODS), ("events", OF_EVENTS))
}
"""Names of signatures with a slope almost everywhere, of periods and of floods."""
Weighed = dict[str, Annotated[float, Field(gt=0)]]
OF_GAUGES = (
    "nse", "kge", "rmse_log", "nse_root", "nse_inverse", "nse_log", "nse_box_cox", "kge_root", "kge_inverse",
    "signatures", "events", "gaussian",
)
OF_SAMPLES = ("nse_batch", "rmse_comb")
OF_DISCHARGE = (*OF_GAUGES, *OF_SAMPLES)
"""Terms of the loss that compare discharge: those of each gauge, and those over all samples of an update."""
OF_MAPS: tuple[Target, ...] = ("mean_runoff", "baseflow_index")
"""Terms of the loss that compare the runoff of cells with a map."""


class LossWeights(BaseModel):
    """How much each term of the loss counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    nse: float = Field(default=1.0, ge=0, description="Squared error over the variance of a gauge's observations.")
    kge: float = Field(default=0.0, ge=0, description="1 - KGE per gauge and window; windows of a year or more.")
    rmse_log: float = Field(default=0.0, ge=0, description="RMSE of depth and of its logarithm, 3 to 1, per gauge.")
    nse_root: float = Field(
        default=0.0, ge=0, description="As nse, of sqrt(q + e); here and below e is a hundredth of the mean observed "
        "flow of the gauge in the training period, and every transform is of the flow itself."
    )
    nse_inverse: float = Field(default=0.0, ge=0, description="As nse, of 1 / (q + e): low flow counts most.")
    nse_log: float = Field(default=0.0, ge=0, description="As nse, of ln(q + e).")
    nse_box_cox: float = Field(default=0.0, ge=0, description="As nse, of ((q + e)^0.25 - 1) / 0.25 (Box and Cox).")
    kge_root: float = Field(default=0.0, ge=0, description="As kge, of sqrt(q + e).")
    kge_inverse: float = Field(
        default=0.0, ge=0, description="As kge, of 1 / (q + e). There is none of logarithms, whose KGE depends on the "
        "unit of flow."
    )
    signatures: Weighed = Field(
        default={}, description="Weights of signatures of the period, by name (`cdlm evaluate --signatures`), such as "
        "`{Crc: 0.1, Cfp10: 0.1}`: (simulated / observed - 1)^2 per gauge and window, over what was observed without a "
        f"gap for 240 h or more. Any of {', '.join(LEARNABLE['signatures'])}."
    )
    events: Weighed = Field(
        default={}, description="Weights of signatures of floods, by name (`cdlm evaluate --events`): the same, its "
        f"mean over the floods that lie in the window. Any of {', '.join(LEARNABLE['events'])}."
    )
    flood_quantile: float = Field(
        default=QUANTILE, ge=0, lt=1, description="Of loss.events: a peak is a flood where it is not below this "
        "quantile of the observed flow of the training period [1]."
    )
    gaussian: float = Field(
        default=0.0, ge=0, description="Mean of -ln of the density of the observations, for normal errors with the "
        "variance u^2 + (s0 + s1 Q)^2 of simulated flow Q; s0 and s1 of every gauge are learned, and told in the "
        "result."
    )
    observation_error: float = Field(
        default=0.0, ge=0, lt=1, description="Of loss.gaussian: u, the error of the observations themselves, a share "
        "of the observed flow [1]."
    )
    nse_batch: float = Field(
        default=0.0, ge=0, description="As nse, but the mean over all samples of an update: NseBatchLoss of dHBV 1.1p."
    )
    rmse_comb: float = Field(
        default=0.0, ge=0, description="As rmse_log, but over all samples of an update: RmseCombLoss of dHBV 1.0 and "
        "2.0. Where an update has several parts, they are run once more, for the sums under the roots."
    )
    mean_runoff: float = Field(
        default=0.0, ge=0, description="Squared relative error of the mean runoff of each window against a map, "
        "mean over the area of all cells, also those that drain to no gauge of the training."
    )
    baseflow_index: float = Field(
        default=0.0, ge=0, description="The same of the squared error of the baseflow index against a map, by HYSEP's "
        "interval of that map; windows of a year or more."
    )
    prior: float = Field(
        default=0.0, ge=0, description="Squared distance of parameters, before bounds, from those of `start_from`."
    )
    pull: Weighed = Field(
        default={}, description="Weights of parameters by name, each of the squared distance, before bounds, from "
        "where it starts (`starts`, else its default): what is known of it before, such as "
        "`{rainfall_correction_factor: 0.1}` for a factor near 1."
    )
    pet_factor: float = Field(default=0.01, ge=0, description="Squared deviation of the mean PET factor from 1.")
    pet_roughness: float = Field(default=0.0, ge=0, description="Squared change of the PET factor from step to step.")

    @model_validator(mode="after")
    def _check(self) -> LossWeights:
        for key, known in LEARNABLE.items():
            for name in getattr(self, key):
                if name not in known:
                    raise ValueError(
                        f"loss.{key} has '{name}', expected signatures that have a slope: {', '.join(known)}"
                    )
        return self

    @property
    def of_gauges(self) -> list[str]:
        """Terms above 0 that every gauge has one of, so that gauges can be weighed and ranked."""
        return [name for name in OF_GAUGES if getattr(self, name)]

    @property
    def of_maps(self) -> list[Target]:
        """Terms above 0 of cells against maps."""
        return [name for name in OF_MAPS if getattr(self, name)]

    @property
    def of_samples(self) -> list[str]:
        """Terms above 0 over all samples of an update."""
        return [name for name in OF_SAMPLES if getattr(self, name)]


class Pretraining(BaseModel):
    """What a generator learns from labels before it is trained on discharge."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: Path = Field(
        description="Label file of `cdlm-train labels`, at gauges or cells of this domain, of the runoff process of "
        "the run."
    )
    weight_by: Literal["kge", "equal"] = Field(
        default="kge", description="What a site weighs: by how much its KGE in the part that its fit has not seen "
        "exceeds `mask_below`, or all alike. A label that differs between restarts weighs less."
    )
    mask_below: float = Field(default=0.0, lt=1, description="Sites with a smaller KGE are left out [1].")
    leave_out: tuple[str, ...] = Field(
        default=(), description="Gauges whose labels are not learned from. Those of the fold that the training leaves "
        "out, and in an experiment those that a split holds out, with all gauges below them, whose labels saw their "
        "records, are left out without it [ids]."
    )
    epochs: int = Field(
        default=300, ge=1, description="Updates over all labels, at most: as many are taken as serve labels of folds "
        "that are held out [1]."
    )
    learning_rate: float = Field(default=0.01, gt=0, description="Of AdamW [1].")
    split: Literal["blocks", "folds"] = Field(
        default="blocks", description="What is held out together: blocks of 3 by 3 degrees, or nested gauges; never "
        "sites at random, whose neighbours would give them away."
    )
    folds: int = Field(default=5, ge=2, description="Folds of these [1].")


class WindowShape(BaseModel):
    """The network of mapping: resnet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    window: int = Field(default=9, ge=1, le=31, description="Cells along each side of a window, an odd number [1].")
    blocks: int = Field(default=2, ge=1, le=3, description="Residual blocks of two convolutions, 3 by 3 [1].")
    width: int = Field(default=32, ge=8, le=64, multiple_of=8, description="Channels [1].")

    @model_validator(mode="after")
    def _check(self) -> WindowShape:
        if self.window % 2 == 0:
            raise ValueError(f"window is {self.window}; expected an odd number, with the cell in the middle")
        return self


class Regularisation(BaseModel):
    """How much holds a field of parameters (`mapping: distributed`) to its start and to its neighbours."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prior: float = Field(
        default=0.0, ge=0, description="Squared distance of parameters, before bounds, from where the fit began: mean "
        "over places, sum over parameters."
    )
    smoothing: float = Field(
        default=0.0, ge=0, description="The same of the squared Laplacian of what the fit changed, each parameter as "
        "its place in its range, over cells that share an edge and along the river."
    )
    hard_smoothing: float = Field(
        default=0.0, ge=0, description="As smoothing, of the parameters themselves: patterns of the start are smoothed "
        "too."
    )
    weight: Annotated[float, Field(gt=0)] | Literal["fast", "lcurve"] = Field(
        default="fast", description="What their sum counts beside the loss. `fast`: a first fit goes without it, and "
        "what that gains in loss over what it costs in the sum is the weight of a second. `lcurve`: five fits around "
        "that weight, of which the corner of the L-curve is taken, and a plot of it."
    )

    @model_validator(mode="after")
    def _check(self) -> Regularisation:
        if not (self.prior or self.smoothing or self.hard_smoothing):
            raise ValueError("regularisation has no term; expected prior, smoothing or hard_smoothing above 0")
        return self
