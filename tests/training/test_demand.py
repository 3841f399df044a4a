"""Training takes whatever the run's potential evapotranspiration is made by."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import change_config
from training_cases import change_training, train, write_training_case

from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation
from cdlm_training.config import load_train_config
from cdlm_training.scores import simulate_gauges

WEATHER = {
    "minimum_air_temperature": -3.0, "maximum_air_temperature": 6.0, "specific_humidity": 0.004,
    "air_pressure": 95_000.0, "shortwave_radiation": 160.0, "wind_x": 3.0, "wind_y": -1.0,
}
"""Beside the air temperature of the case: the range about it, and the rest as it is."""


def with_weather(folder: Path, step: int = DAY) -> Path:
    """A case whose files have what every formula reads."""
    case = write_training_case(folder, step=step)
    with netCDF4.Dataset(folder / "forcing.nc", "a") as dataset:
        rng, warmth = np.random.default_rng(3), dataset["air_temperature"][:]
        for name, value in WEATHER.items():
            out = dataset.createVariable(name, "f8", ("time", "cell"))
            out.units = variable(name).units
            out[:] = warmth + value if "temperature" in name else value * rng.uniform(0.8, 1.2, warmth.shape)
    return case


@pytest.mark.parametrize(("pet", "step"), [
    ("oudin", DAY), ("hargreaves", DAY), ("penman_monteith", DAY), ("oudin", HOUR), ("penman_monteith", HOUR),
])
@pytest.mark.slow
def test_every_pet_trains_and_its_checkpoint_runs(tmp_path, pet, step):
    case = change_config(with_weather(tmp_path, step), pet=pet)
    trainer, scores, _ = train(case)
    run, config = load_train_config(case)
    file = trainer.data.forcing
    assert set(file) == {"precipitation", "potential_evapotranspiration"}
    with closing(Simulation(run)) as simulation:
        expected = simulation.read_forcing(0, run.n_steps)
    np.testing.assert_array_equal(file["potential_evapotranspiration"], expected.potential_evapotranspiration)
    assert file["potential_evapotranspiration"].max() > 0.0
    checkpoint = load_checkpoint(config.output)
    assert checkpoint.spec.pet.kind == pet
    simulated = simulate_gauges(run, config.output)[1]  # the checkpoint runs, with the same demand
    dataset = trainer.data
    scored = nse(simulated[dataset.steps_of(config.train)][:, 0],
                 dataset.observed[dataset.steps_of(config.train)][:, 0])
    assert scored == pytest.approx(scores.gauges["g0"][0], abs=1e-9)
    other = "oudin" if pet != "oudin" else "penman_monteith"
    with pytest.raises(CheckpointError, match=rf"corrects .* '{pet}', the run has '{other}'"):
        simulate_gauges(load_config(change_config(case, "other.yaml", pet=other)), config.output)


def test_the_kind_of_demand_is_that_of_the_run(tmp_path):
    case = write_training_case(tmp_path)
    assert load_train_config(case)[1].pet_kind == "unknown"
    assert load_train_config(change_config(case, pet_kind="Oudin"))[1].pet_kind == "Oudin"
    assert load_train_config(change_config(change_training(case, pet_kind="OUDIN"), pet="oudin"))[1].pet_kind == "oudin"
    with pytest.raises(ConfigError, match=r"training\.pet_kind is 'Hamon', and the run has pet: oudin"):
        load_train_config(change_config(change_training(case, pet_kind="Hamon"), pet="oudin"))
