"""`cdlm-train`: a training end to end, and what a user sees of an error."""

from __future__ import annotations

import pytest
from cases import change_config, opened
from click.testing import CliRunner, Result
from training_cases import change_training, write_training_case

from bmi_cdlm.generator.checkpoint import load_checkpoint
from cdlm_training.cli import main


@pytest.fixture
def case(tmp_path):
    return write_training_case(tmp_path)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(w) for w in words])


def test_a_training_prints_scores_and_its_checkpoint_runs(case):
    result = call(case)
    assert result.exit_code == 0, result.output
    title = ("trained.safetensors, training period", "2001-03-01", "2001-04-20")
    for word in (*title, "gauge", "NSE", "KGE", "g0", "g1", "g2", "g3", "wrote"):
        assert word in result.output
    output = case.parent / "out" / "trained.safetensors"
    scores = load_checkpoint(output).record["scores"]
    for gauge in ("g0", "g3"):
        assert f"{scores[gauge]['nse']:.3f}" in result.output
    with opened(change_config(case, "run.yaml", parameters=str(output), training=None)) as component:
        component.update()
    again = call(case, "--resume")
    assert again.exit_code == 0 and f"{scores['g0']['nse']:.3f}" in again.output


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c.parent / "none.yaml", "none.yaml: cannot be read"),
    (lambda c: change_config(c, training=None), "key 'training' is missing"),
    (lambda c: change_training(c, epoch=3), "Did you mean 'epochs'?"),
    (lambda c: change_config(c, domain="no.nc"), "no.nc: there is no such file"),
    (lambda c: change_training(c, gauges=["g9"]), "no gauge 'g9'"),
])
def test_an_error_is_one_message(case, change, message):
    result = call(change(case))
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and message in result.output
    assert "Traceback" not in result.output and result.output.count("Error") == 1
    assert not (case.parent / "out").exists()


def test_resume_without_a_state_is_one_message(case):
    result = call(case, "--resume")
    assert result.exit_code == 1 and "there is no state to resume from" in result.output
    assert not (case.parent / "out").exists()


def test_help_and_version():
    assert "--resume" in call("train", "--help").output
    assert "cdlm-train CONFIG" in call("--help").output
    assert "cdlm-train, version" in call("--version").output
