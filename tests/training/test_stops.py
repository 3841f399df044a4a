"""A training stops where it must: at values that are none, and at a folder that cannot be written."""

from __future__ import annotations

import pytest
import torch
from training_cases import ALONE, here, train, write_training_case

from bmi_cdlm.names.errors import CheckpointError, OutputError
from cdlm_training.loop import Trainer
from cdlm_training.objective import TrainingError


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("case"))


@pytest.mark.parametrize("name", ["cell.0.weight", "reach.1.bias"])
def test_a_loss_without_a_value_names_window_gauge_and_weight(case, tmp_path, name):
    config = here(case, tmp_path)
    trainer = Trainer(config, ALONE)

    def spoil(loss: float) -> None:
        with torch.no_grad():
            dict(trainer.generator.named_parameters())[name].view(-1)[0] = torch.nan

    message = (
        r"the loss at gauge g\d is nan in the window that starts at 2001-\d\d-\d\dT00:00:00; the weight "
        rf"'{name}' is not finite\. Lower learning_rate"
    )
    with pytest.raises(TrainingError, match=message):
        trainer.train(resume=False, report=lambda epoch: None, progress=spoil)
    assert not trainer.config.output.exists()


def test_a_gradient_without_a_value_names_window_and_weight(case):
    trainer = Trainer(case, ALONE)
    windows = [trainer.data.window(0, 20), trainer.data.window(5, 20)]
    trainer.generator.reach.each[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    where = "is not finite in the windows that start at 2001-03-01T00:00:00, 2001-03-06T00:00:00"
    finite = "all weights and parameters are finite"
    with pytest.raises(TrainingError, match=rf"the gradient of 'reach\.0\.weight' {where}; {finite}"):
        trainer.gradient(windows)
    with torch.no_grad():  # GR4J's branches swallow a demand without a value, its gradient does not
        trainer.generator.pet.each[0].weight[0] = torch.nan
    with pytest.raises(TrainingError, match=rf"{where}; the weight 'pet\.0\.weight' is not finite"):
        trainer.gradient(windows)


@pytest.mark.parametrize(("network", "name"), [("cell", "production_capacity"), ("reach", "celerity")])
def test_a_parameter_without_a_value_is_named_where_all_weights_have_one(case, network, name):
    trainer = Trainer(case, ALONE)

    def overflow(module, inputs, made):
        return made | {name: made[name] * torch.inf * 0.0}

    getattr(trainer.generator, network).register_forward_hook(overflow)
    # GR4J's branches swallow a store without a value, its gradient does not.
    what = {"cell": r"gradient of 'cell\.0\.weight' is not finite", "reach": r"loss at gauge g\d is nan"}[network]
    message = rf"the {what} in the windows? that starts? at 2001-03-01.*; the parameter '{name}' is not finite"
    with pytest.raises(TrainingError, match=message):
        trainer.gradient([trainer.data.window(0, 20)])


def test_weights_that_go_astray_in_the_last_update_are_not_written(case, tmp_path):
    trainer = Trainer(here(case, tmp_path, updates=1), ALONE)

    def spoil(loss: float) -> None:
        with torch.no_grad():
            trainer.generator.cell.each[0].bias[0] = torch.nan

    with pytest.raises(CheckpointError, match=r"weights 'cell\.0\.bias' are NaN or infinite"):
        trainer.train(resume=False, report=lambda epoch: None, progress=spoil)
    assert not trainer.config.output.exists() and not trainer._last.exists()


def test_a_folder_that_cannot_be_written(case, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        train(here(case, tmp_path))
