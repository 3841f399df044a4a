"""What of the keys of a training contradicts another: refused before a file is read, with what is expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmi_cdlm.generator.specification import LAYERED
from bmi_cdlm.names.calendars import date_text
from cdlm_training.terms import OF_DISCHARGE, OF_GAUGES, OF_MAPS, OF_SAMPLES

if TYPE_CHECKING:
    from cdlm_training.config import TrainConfig

NETWORK = ".safetensors"
"""Suffix of a checkpoint, and of the network of mapping: resnet beside its parameter file."""


def check(config: TrainConfig) -> None:
    """Refuse what contradicts itself; ValueError says what, and what is expected."""
    for name, period in (("train", config.train), ("validate_on", config.validate_on)):
        if period is not None and period[1] <= period[0]:
            raise ValueError(
                f"{name} ends at {date_text(period[1])}; expected a time after its start, {date_text(period[0])}"
            )
    suffix, what = (".nc", ", a parameter file") if config.gives_file else (NETWORK, "")
    if config.output.suffix != suffix:
        raise ValueError(
            f"output is {config.output.name}; expected a name that ends in {suffix}{what}, with mapping: "
            f"{config.mapping}"
        )
    _check_field(config)
    _check_file(config)
    low, high = config.pet_limits
    if not 0 < low < 1 < high:
        raise ValueError(f"pet_limits are {low} and {high}; expected 0 < low < 1 < high")
    if config.mapping not in ("uniform", "distributed") and not config.cell_attributes:
        raise ValueError(f"mapping is {config.mapping}, but cell_attributes is empty; name some, or use uniform")
    if config.gauges != "all" and len(set(config.gauges)) < max(1, len(config.gauges)):
        raise ValueError("gauges holds no id or one twice; expected different ids, or all")
    if config.held_out_fold is not None and config.held_out_fold >= config.folds:
        raise ValueError(f"held_out_fold is {config.held_out_fold}; expected 0 to {config.folds - 1}")
    of_flow = [*OF_DISCHARGE, *OF_MAPS]
    if not any(getattr(config.loss, name) for name in of_flow):
        raise ValueError(
            f"loss has no term of the flow; expected one of {', '.join(of_flow)} above 0"
        )
    _check_quartile(config)
    _check_draws(config)
    for key, prefix in (("varying", ""), ("cell_attributes", "cell_"), ("reach_attributes", "reach_")):
        names = [name.removeprefix(prefix) for name in getattr(config, key)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{key} names '{twice}' twice; expected different names")
    if config.mapping in LAYERED and not config.hidden:
        raise ValueError(f"mapping is {config.mapping} and hidden is empty; expected units, or mapping: linear")
    if config.loss.prior and config.start_from is None and config.pretrain is None:
        raise ValueError("loss.prior needs start_from or pretrain, towards which it pulls")
    origins = [name for name in ("start_from", "pretrain") if getattr(config, name) is not None]
    if len(origins) > 1 or (origins and config.n_starts > 1):
        others = origins[1] if len(origins) > 1 else f"restarts: {config.restarts}"
        raise ValueError(f"{origins[0]} and {others} exclude each other; expected one of them")
    if config.learn_start and config.warm_up:
        raise ValueError(
            f"learn_start is on and warm_up is {config.warm_up}; expected 0: there is nothing before the start"
        )
    _check_posterior(config)
    if config.learn_weighting and not config.learn_routing:
        raise ValueError("learn_weighting needs learn_routing; set both, or neither")
    for name in config.loss.of_maps:
        if getattr(config, f"{name}_attribute") is None:
            raise ValueError(f"loss.{name} needs {name}_attribute")


def _check_field(config: TrainConfig) -> None:
    """Refuse what a field of parameters cannot have, and what nothing else has."""
    if not config.is_field:
        if config.regularisation is not None:
            raise ValueError(
                f"regularisation is of mapping: distributed, and mapping is {config.mapping}: the weights of a "
                "generator have no neighbours; expected none (loss.prior pulls a generator towards start_from)"
            )
        return
    for name in ("cell_attributes", "reach_attributes", "varying"):
        if getattr(config, name):
            raise ValueError(
                f"{name} is {', '.join(getattr(config, name))}, and mapping is distributed: a field reads no "
                "attributes and no forcing; leave it out"
            )
    if config.pretrain is not None:
        raise ValueError("pretrain is of generators, and mapping is distributed; expected none")
    if config.loss.pull:
        raise ValueError("loss.pull is of generators, and mapping is distributed; expected regularisation.prior")
    if config.loss.prior:
        raise ValueError("loss.prior is of generators, and mapping is distributed; expected regularisation.prior")
    if config.n_starts > 1 and config.searches_weight:
        raise ValueError(
            f"restarts is {config.restarts}, and regularisation.weight needs several fits from one start; expected "
            "restarts: 1, or a number as the weight"
        )


def _check_posterior(config: TrainConfig) -> None:
    """Refuse a posterior of what has no likelihood or too many parameters."""
    if config.posterior == "none":
        return
    others = [name for name in (*OF_DISCHARGE, *OF_MAPS, "prior") if name != "gaussian" and
              getattr(config.loss, name)]
    if not config.loss.gaussian or others:
        raise ValueError(
            f"posterior is {config.posterior}, which needs a likelihood; expected gaussian in loss, and no other "
            f"term of the flow ({', '.join(others) or 'it is 0'}; nse is 1 unless set to 0)"
        )
    if config.mapping != "uniform" or config.pet_factor or config.precision != "float64":
        raise ValueError(
            f"posterior is {config.posterior}, mapping is {config.mapping}, pet_factor is {config.pet_factor} and "
            f"precision is {config.precision}; expected uniform, false and float64: it is made of few parameters, "
            "by differences"
        )


def _check_quartile(config: TrainConfig) -> None:
    """Refuse a quartile over gauges where an update has not one cost of every gauge."""
    if config.quartile is None:
        return
    for name in ("gauges_per_update", "pairs_per_update"):
        if getattr(config, name) is not None:
            raise ValueError(
                f"gauge_weights is {config.gauge_weights}, which compares all gauges at every update, and {name} "
                "draws some; leave one out"
            )
    if config.loss.of_samples or not config.loss.of_gauges:
        raise ValueError(
            f"gauge_weights is {config.gauge_weights}, which ranks gauges by their own costs; expected terms of each "
            f"gauge in loss ({', '.join(OF_GAUGES)}), and none over all samples ({', '.join(OF_SAMPLES)})"
        )


def _check_file(config: TrainConfig) -> None:
    """Refuse what a parameter file cannot hold."""
    if not config.gives_file:
        return
    if config.pet_factor:
        raise ValueError(
            f"pet_factor is on, and mapping is {config.mapping}: a parameter file holds no network; turn it off"
        )
    if config.varying:
        raise ValueError(
            f"varying is {', '.join(config.varying)}, and mapping is {config.mapping}: a parameter file holds no "
            "network; leave it out"
        )


def _check_draws(config: TrainConfig) -> None:
    """Refuse draws that contradict each other or the optimizer."""
    for name in ("gauges_per_update", "pairs_per_update"):
        if getattr(config, name) is not None and config.optimizer == "lbfgs":
            raise ValueError(f"{name} needs adamw: LBFGS takes the same gauges at every update; leave it out")
    if config.dropout and config.optimizer == "lbfgs":
        raise ValueError("dropout needs adamw or adadelta: LBFGS takes the same units at every update")
    if config.dropout and config.mapping not in LAYERED and not config.varying:
        raise ValueError(f"dropout is {config.dropout} and mapping is {config.mapping}; expected mlp, which has units")
    if config.pairs_per_update is None:
        if config.updates == "cover":
            raise ValueError("updates is cover, which counts pairs; expected pairs_per_update, or a number")
        return
    if config.gauges_per_update is not None or config.windows_per_update != 1:
        raise ValueError(
            "pairs_per_update draws gauges and windows together; expected no gauges_per_update and no "
            "windows_per_update beside it"
        )
