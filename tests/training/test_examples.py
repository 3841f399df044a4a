"""The examples that compare and recover, on a small case."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from training_cases import drawn_trainer, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint
from cdlm_training.evaluate import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def invoke(module: ModuleType, *words: object) -> Result:
    return CliRunner().invoke(module.main, [str(word) for word in words])


@pytest.fixture
def trained(tmp_path):
    """A case whose spin-up outlasts the memory of its rivers, and a checkpoint far from the start."""
    config, checkpoint = write_training_case(tmp_path, snow="cemaneige", spin_up=4), tmp_path / "drawn.safetensors"
    write_checkpoint(checkpoint, drawn_trainer(config), None)
    return config, checkpoint


def test_the_model_that_couples_is_the_one_that_was_trained(trained):
    config, checkpoint = trained
    result = invoke(example("compare_bmi"), config, "--parameters", checkpoint)
    assert result.exit_code == 0, result.output
    assert not list(config.parent.glob("*compared*"))


def test_another_model_is_told_apart(trained, monkeypatch):
    config, checkpoint = trained
    module = example("compare_bmi")
    stepped = module.step(config, checkpoint)
    monkeypatch.setattr(module, "step", lambda *words: stepped * (1 + 3e-9))
    assert invoke(module, config, "--parameters", checkpoint).exit_code == 1


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["linear", "mlp"])
def test_a_twin_is_made_trained_and_judged(tmp_path, mapping):
    config = write_training_case(tmp_path, snow="cemaneige")
    result = invoke(example("twin_experiment"), config, "--to", tmp_path / "twin", "--epochs", 1, "--steps", 1,
                    "--mapping", mapping)
    assert result.exit_code == 0, result.output
    assert f"{mapping} student, truth 7: NSE median" in result.output and "kept: 1 - NSE" in result.output
    truth, student = (load_checkpoint(tmp_path / "twin" / f"{n}.safetensors") for n in ("truth", "student"))
    level = [t.name for t in truth.spec.cell.targets].index("thermal_weighting")
    assert not truth.tensors["cell.0.weight"][level].any() and truth.tensors["cell.0.weight"].any()
    assert student.spec.cell.mapping == mapping
