"""What the run for which files are made asks of them: steps, weather, attributes."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.config import PrepareConfig
from bmi_cdlm.prepare.weather.climate import SHORTEST_CLIMATE
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.run.config import Config

SNOWFALL = "mean_annual_snowfall"
REMEDIES = {SNOWFALL: "{climate: true} (with air_temperature)", "elevation": "{elevation: {source: dem.tif}}"}
"""How a preparation makes the attributes of cells that processes take."""


def steps_of(run: Config, start: np.datetime64 | None, end: np.datetime64 | None) -> Steps:
    """Steps of a file that is made for a run, over a period of its own or that of the run."""
    first, last = run.start if start is None else start, run.end if end is None else end
    return Steps(np.arange(first, last, np.timedelta64(run.time_step, "s")), run.time_step)


def weather_of(run: Config, config: PrepareConfig) -> Weather:
    """What the forcing file of a run is made of: climate attributes want demand too, by the run's own formula."""
    assert config.forcing is not None
    needed, pet = (*run.needed(),), config.pet
    weather = Weather(config.forcing, pet, needed)
    if run.pet != "given" and weather.method is None and config.attributes.of_forcing:
        weather = weather._replace(pet=pet.model_copy(update={"method": run.pet}))
    return weather


def unmet_needs(run: Config, config: PrepareConfig, made: Container[str]) -> list[str]:
    """What the processes of the run take of cells and a new domain will not have; made : attributes that come along."""
    told = []
    for process in run.chain.cells:
        for name in process.attributes.values():
            if name in made or name not in REMEDIES or (config.attributes.climate and name == SNOWFALL):
                continue
            told.append(
                f"'{process.name}' of the run takes the attribute '{name}', which nothing here makes: the run will be "
                f"refused. Add prepare.attributes: {REMEDIES[name]}, or a raster called '{name}'."
            )
    return told


def check_climate(run: Config, config: PrepareConfig) -> None:
    """Refuse attributes of the forcing without one, climate without a year of it, before any is made."""
    wanted = config.attributes.of_forcing
    if "interception_capacity" in wanted and run.time_step >= DAY:
        raise ConfigError(
            "prepare.attributes.interception_capacity is true, but time_step is a day, expected less: in steps of "
            "a day nothing is left on the leaves to find it by. Set it to false."
        )
    if wanted and config.forcing is None:
        if run.forcing == "caller" or not Path(run.forcing).is_file():
            raise ConfigError(
                f"prepare.attributes.{wanted[0]} is true, but there is neither a block prepare.forcing nor the file "
                f"that 'forcing' names ({run.forcing}). Expected one of both. Add the block, or set it to false."
            )
        return
    if not config.attributes.climate:
        return
    assert config.forcing is not None
    steps = steps_of(run, config.forcing.start, config.forcing.end)
    days = steps.starts.size * steps.step // DAY
    if days < SHORTEST_CLIMATE:
        raise ConfigError(
            f"prepare.attributes.climate is true, but the forcing has {days} days, expected {SHORTEST_CLIMATE} or "
            "more. Set prepare.forcing.start and end to a longer period, or climate: false."
        )
