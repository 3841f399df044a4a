"""The registry of parameters is consistent, and refuses what has no meaning."""

from __future__ import annotations

import re

import numpy as np
import pytest
from make_domain import lumped_domain

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.declaration import ReachProcess
from bmi_cdlm.names.errors import ParameterError, UnknownNameError
from bmi_cdlm.names.parameters import BY_NAME, TRAVEL_TIME, check, defaults, parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import OWN
from bmi_cdlm.processes.pet import PET_FACTOR

PARAMETERS = list(dict.fromkeys(p for process in OWN for p in process.parameters))
every = pytest.mark.parametrize("entry", PARAMETERS, ids=lambda p: p.name)


@every
@pytest.mark.parametrize("step", [DAY, HOUR])
def test_ranges_are_legal_and_hold_their_default(entry, step):
    low, high, default = entry.range_at(step)
    assert entry.legal[0] <= low < high <= entry.legal[1]
    assert low <= default <= high
    if entry.scale == "log":
        assert low > 0
    assert entry.range_at(step) is (entry.daily if step == DAY else entry.hourly)


@every
def test_entries_are_complete(entry):
    assert re.fullmatch(r"[a-z][a-z_]*", entry.name) and entry.symbol and entry.units and entry.source
    assert entry.meaning[0].isupper() and not entry.meaning.endswith(".")
    assert BY_NAME[entry.name] is entry
    for process in OWN:
        if entry in process.parameters:
            assert entry.grid == ("reach" if isinstance(process, ReachProcess) else "cell")
    assert entry.may_vary is (entry.name in ("pet_factor", "recharge_shape", "evaporation_shape", "quickflow_rate"))
    assert entry.optional is (entry is PET_FACTOR)


def test_names_and_symbols_are_unique():
    assert [p.name for p in PARAMETERS] == list(BY_NAME) and len(PARAMETERS) == 44
    assert len({p.name for p in PARAMETERS}) == len({p.symbol for p in PARAMETERS}) == len(PARAMETERS)
    assert TRAVEL_TIME not in BY_NAME


def test_rates_of_an_hour_are_below_those_of_a_day():
    """mm per step: an hour moves less than a day; the time base counts more steps."""
    for name in ("exchange_coefficient", "melt_factor"):
        assert parameter(name).hourly.high < parameter(name).daily.high
    assert parameter("unit_hydrograph_base").hourly.high > parameter("unit_hydrograph_base").daily.high


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_defaults_pass_their_own_check(step):
    values = defaults(step, 3, 5)
    check(values, "defaults")
    assert values.keys() == BY_NAME.keys()
    for p in PARAMETERS:
        assert values[p.name].dtype == np.float64 and values[p.name].shape == ((3,) if p.grid == "cell" else (5,))
        assert (values[p.name] == p.range_at(step).default).all()
    Model(lumped_domain(), step=step)


@every
def test_values_outside_the_legal_range_are_refused(entry):
    low, high = entry.legal
    for bad in {low - 1, high + 1, np.nan, np.inf, -np.inf}:
        if not np.isfinite(bad) or bad < low or bad > high:
            values = np.full(4, float(entry.daily.default))
            values[2] = bad
            with pytest.raises(ParameterError) as found:
                check({entry.name: values}, "p.nc")
            message = str(found.value)
            assert message.startswith(f"p.nc: '{entry.name}' is {bad} at index 2 (1 of 4 values are bad), ")
            assert f"expected a number from {low:g} to {high:g}. " in message
    check({entry.name: np.array([v for v in (low, high) if np.isfinite(v)])}, "p.nc")


def test_travel_time_is_not_negative():
    check({TRAVEL_TIME: np.array([0.0, 1e6])}, "p.nc")
    with pytest.raises(ParameterError, match=r"p\.nc: 'travel_time' is -5\.0 at index 1 .*from 0 to 1e\+12"):
        check({TRAVEL_TIME: np.array([0.0, -5.0])}, "p.nc")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as found:
        parameter("production_capcity")
    message = str(found.value)
    assert message.startswith("There is no parameter 'production_capcity'. Did you mean 'production_capacity'? Known: ")
    assert all(p.name in message for p in PARAMETERS)
