"""What a training learns: the generator that its configuration asks for, and what that reads."""

from __future__ import annotations

import torch

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.generator import Inputs, describe_forcing, make_spec, read_inputs
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.run.config import Config
from cdlm_training.config import TrainConfig
from cdlm_training.dataset import Dataset
from cdlm_training.errors import GaugeErrors
from cdlm_training.fields import make_fields, places
from cdlm_training.generator import Generator
from cdlm_training.window_file import make_windowed, window_inputs


def specify(run: Config, config: TrainConfig, data: Dataset) -> GeneratorSpec:
    """What the generator of a training is made of."""
    train = data.steps_of(config.train)
    features = describe_forcing({name: values[train] for name, values in data.forcing.items()})
    return make_spec(
        run.domain, cell_attributes=config.cell_attributes,
        reach_attributes=config.reach_attributes if config.learn_routing else (),
        mapping=config.in_specification, hidden=config.hidden,
        step=run.time_step, routing_step=run.routing_step, learn_weighting=config.learn_weighting,
        learn_component_weights=config.learn_component_weights, pet=config.pet_factor,
        pet_hidden=config.pet_hidden, pet_limits=config.pet_limits, pet_kind=config.pet_kind, features=features,
        starts=config.starts, ranges=config.ranges, learn_start=config.learn_start,
        **run.processes, components=run.components,
        varying=config.varying, lstm_hidden=config.lstm_hidden, adopts=config.start_from is not None,
    )


def make_generator(
    run: Config, config: TrainConfig, spec: GeneratorSpec, data: Dataset, seed: int, dropout: float = 0.0
) -> Generator:
    """A generator where a fit begins."""
    dtype = torch.float32 if config.precision == "float32" else torch.float64
    made: Generator
    if config.is_field:
        made = make_fields(run, config, spec, data.domain, dtype)
    elif config.mapping == "resnet":
        made = make_windowed(spec, config.resnet, run.domain, data.domain, seed, dtype)
    else:
        made = Generator(spec, seed, dtype, dropout)
    if config.loss.gaussian:
        made.errors = GaugeErrors(data.spread)
    return made


def read_generator_inputs(run: Config, config: TrainConfig, spec: GeneratorSpec, domain: Domain) -> Inputs:
    """What the generator takes for attributes."""
    if config.is_field:
        return places(domain)
    read = window_inputs if config.mapping == "resnet" else read_inputs
    return read(spec, run.domain, domain)
