"""What a forcing file is to hold, and what has to be read for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.files.amounts import RAIN
from bmi_cdlm.model.pet import MEAN
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.weather.inputs import PET
from bmi_cdlm.prepare.weather.pet import reads
from bmi_cdlm.prepare.weather.quantities import check_given, keys_of
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig


class Weather(NamedTuple):
    """What the preparation is told about the weather; run : inputs of the run, with what its formula reads."""

    forcing: ForcingConfig
    pet: PetConfig
    run: tuple[str, ...] = (RAIN, PET)

    @property
    def method(self) -> str | None:
        """How demand is made; None where neither the run needs it nor the configuration gives or asks for it."""
        if self.pet.method == "given" and PET not in self.run and PET not in self.forcing.sources:
            return None
        return self.pet.method


class Steps(NamedTuple):
    """Steps of the file: starts : datetime64[s][time], UTC; step [s]."""

    starts: np.ndarray
    step: int


class Needs(NamedTuple):
    """Inputs to read: direct, at the steps of the file; pet, what evaporative demand is made of, at `days`."""

    direct: tuple[str, ...]
    pet: tuple[str, ...]
    days: Steps


def needs(weather: Weather, steps: Steps) -> Needs:
    """Return what has to be read; ForcingError where a formula lacks a source."""
    sources, method = weather.forcing.sources, weather.method
    if method == "given" and PET not in sources:
        raise ForcingError(
            f"forcing: there is no source of '{PET}' and pet.method is given. Expected one of both. Name a source, or "
            "set pet.method to a formula, such as oudin."
        )
    daily = method is not None and (method != "given" or sources[PET].interannual or sources[PET].step == DAY)
    days = Steps(steps.starts, DAY if daily else steps.step)
    if steps.step != DAY and daily:
        days = Steps(np.unique(steps.starts.astype("datetime64[D]")).astype("datetime64[s]"), DAY)
    wanted = dict.fromkeys(name for name in weather.run if name != PET)
    warm = keys_of(MEAN, sources, steps.step)
    if all(key in sources for key in warm):
        wanted[MEAN] = None
    if method not in (None, "given"):
        read = reads(method)
        check_given(read, sources, DAY, f"pet: method {method}")
    else:
        read = () if method is None else (PET,)
    direct = (RAIN, *(name for name in wanted if name != RAIN))
    check_given(direct[1:], sources, steps.step, "forcing: the run, for its processes or its formula of pet,")
    return Needs(direct, read, days)
