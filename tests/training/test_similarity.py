"""Parameters carried from fits to single gauges to places that are similar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from cases import change_config
from click.testing import CliRunner
from training_cases import at, write_training_case

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.basins import basin_means
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.generator.checkpoint import STARTS_AT
from bmi_cdlm.names.parameters import STARTS
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.parameter_file import read_attribute_of, read_parameters
from cdlm_training import fits
from cdlm_training.cli import main
from cdlm_training.experiment.baselines import LocalFits, donor_weights
from cdlm_training.seen import what_it_saw


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training case with an experiment, whose donors are compared by two attributes."""
    folder = tmp_path_factory.mktemp("similar")
    path = write_training_case(folder, warm_up=10)
    training = yaml.safe_load(path.read_text())["training"]
    return change_config(path, "similar.yaml", training=training, experiment={
        "output": "lab", "test": [at(DAY, 50), at(DAY, 70)], "donors": 1, "similarity": ["forest", "elevation"],
    })


def test_weights_of_donors() -> None:
    np.testing.assert_allclose(donor_weights(np.array([1.0, 2.0]), "inverse_square"), [0.8, 0.2])
    found = donor_weights(np.array([[0.0, 2.0], [3.0, 3.0]]), "inverse_square")
    np.testing.assert_allclose(found, [[1, 0], [0.5, 0.5]])
    np.testing.assert_allclose(donor_weights(np.array([1.0, 2.0, 9.0]), "equal"), 1 / 3)


@pytest.mark.slow
def test_parameters_are_those_of_the_most_similar_gauge(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "ITERATIONS", 2)
    made = CliRunner().invoke(main, ["similarity", str(case), "--to", str(case.parent / "similar.nc")])
    assert made.exit_code == 0, made.output
    run = load_config(case)
    domain = read_domain(run.domain)
    found = read_parameters(case.parent / "similar.nc", domain, run.time_step)
    values = read_attributes(run.domain, domain, "cell", ["forest", "elevation"]).values
    means = basin_means(domain, values)
    far = (((values[:, None] - means) / means.std(axis=0)) ** 2).sum(axis=2)
    nearest = far.argmin(axis=1)
    sets = []
    for k in range(len(domain.gauges.id)):
        with np.load(case.parent / "lab" / "local" / f"{k}.npz") as held:
            sets.append(held["free"])
    order = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
    for k, name in enumerate(order):
        one = found[name]
        for donor in np.unique(nearest):
            assert np.unique(one[nearest == donor]).size == 1
        assert np.unique(one).size == np.unique([sets[d][k] for d in nearest]).size
    x2 = np.array([sets[d][1] for d in nearest])
    low, high = -10.0, 5.0
    np.testing.assert_allclose(found["exchange_coefficient"], low + (high - low) / (1 + np.exp(-x2)), rtol=1e-6)
    assert {"celerity", "weighting"} <= set(found)
    seen = what_it_saw(case.parent / "similar.nc")
    assert seen.gauges == {"g0", "g1", "g2", "g3"} and seen.periods == ((at(DAY, 0), at(DAY, 50)),)
    series = case.parent / "simulated.nc"
    made = CliRunner().invoke(main, ["similarity", str(case), "--to", str(series), "--mean", "simulations"])
    assert made.exit_code == 0, made.output
    discharge = read_observations(series, domain.gauges.id, run.start, run.end, run.time_step)[1]
    assert np.isfinite(discharge).all()


@pytest.mark.parametrize("learned", [False, True])
def test_a_start_that_donors_have_is_that_of_its_time(case: Path, monkeypatch: pytest.MonkeyPatch, learned) -> None:
    """A run that begins at another time does not take the stores of this one."""
    monkeypatch.setattr(LocalFits, "_fit", lambda self, part: self._start + 0.1 * part.gauges[0])
    content = yaml.safe_load(case.read_text())
    training = {**content["training"], "learn_start": learned, "warm_up": 0}
    path = change_config(case, f"start_{learned}.yaml", training=training, experiment={
        **content["experiment"], "output": f"start_{learned}",
    })
    output = case.parent / f"start_{learned}.nc"
    assert "fitted to gauge g3" in CliRunner().invoke(main, ["similarity", str(path), "--to", str(output)]).output
    assert read_attribute_of(output, STARTS_AT) == ("2001-03-01T00:00:00" if learned else None)
    run = load_config(path)
    found = read_parameters(output, read_domain(run.domain), run.time_step)
    assert bool(STARTS.keys() & found.keys()) is learned
    assert np.unique(found["production_capacity"]).size > 1, "cells have donors of their own"


def test_refusals(case: Path) -> None:
    def said(*words: str, **keys: object) -> str:
        content = yaml.safe_load(case.read_text())
        path = change_config(case, "refused.yaml", experiment={**content["experiment"], **keys})
        result = CliRunner().invoke(main, ["similarity", str(path), "--to", *words])
        assert result.exit_code == 1
        return result.output.replace("\n", " ")

    assert "ends in .nc" in said("found.txt")
    domain = case.parent / "domain.nc"
    before = domain.read_bytes()
    assert "--to: " in (found := said(str(domain))) and "is the file of domain, which would be lost" in found
    assert domain.read_bytes() == before
    assert "no cell attribute 'clay'" in said("found.nc", similarity=["clay"])
