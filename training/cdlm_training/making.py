"""What a training learns: the generator that its configuration asks for, and what that reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.generator import Inputs, describe_forcing, make_spec, read_inputs
from bmi_cdlm.generator.specification import GeneratorSpec
from cdlm_training.errors import GaugeErrors
from cdlm_training.fields import make_fields, places
from cdlm_training.generator import Generator
from cdlm_training.window_file import make_windowed, window_inputs

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer


def specify(trainer: Trainer) -> GeneratorSpec:
    """What the generator of a training is made of."""
    config, run = trainer.config, trainer.run
    train = trainer.data.steps_of(config.train)
    features = describe_forcing({name: values[train] for name, values in trainer.data.forcing.items()})
    return make_spec(
        run.domain, cell_attributes=config.cell_attributes,
        reach_attributes=config.reach_attributes if config.learn_routing else (),
        mapping=config.in_specification, hidden=config.hidden,
        snow=run.snow, step=run.time_step,
        routing_step=run.routing_step, learn_weighting=config.learn_weighting,
        learn_component_weights=config.learn_component_weights, pet=config.pet_factor,
        pet_hidden=config.pet_hidden, pet_limits=config.pet_limits, pet_kind=config.pet_kind, features=features,
        starts=config.starts, ranges=config.ranges, learn_start=config.learn_start,
        runoff=run.runoff, routing=run.routing, components=run.components,
        varying=config.varying, lstm_hidden=config.lstm_hidden, adopts=config.start_from is not None,
    )


def make_generator(trainer: Trainer, seed: int, dropout: float = 0.0) -> Generator:
    """A generator where a fit begins."""
    dtype = torch.float32 if trainer.config.precision == "float32" else torch.float64
    made: Generator
    if trainer.config.is_field:
        made = make_fields(trainer.run, trainer.config, trainer.spec, trainer.data.domain, dtype)
    elif trainer.config.mapping == "resnet":
        made = make_windowed(trainer.spec, trainer.config.resnet, trainer.run.domain, trainer.data.domain, seed, dtype)
    else:
        made = Generator(trainer.spec, seed, dtype, dropout)
    if trainer.config.loss.gaussian:
        made.errors = GaugeErrors(trainer.data.spread)
    return made


def read_generator_inputs(trainer: Trainer, domain: Domain) -> Inputs:
    """What the generator takes for attributes."""
    if trainer.config.is_field:
        return places(domain)
    read = window_inputs if trainer.config.mapping == "resnet" else read_inputs
    return read(trainer.spec, trainer.run.domain, domain)
