"""Sums and means of fluxes over the last call, where a configuration asks for them."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Q, assert_same, change_config, opened, outputs, write_case

from bmi_cdlm.names.entry import SUMMED, over_call
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import VARIABLES, variable
from bmi_cdlm.run.config import load_config

NAMES = ("discharge", "gauge_discharge", "runoff", "evapotranspiration", "snowmelt", "outlet_discharge")


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("keys", [{}, {"ledger_tolerance": 1e-9}])
def test_sums_and_means_are_those_of_the_steps(tmp_path, step, keys):
    config = write_case(tmp_path, step=step, snow="cemaneige", call_sums=list(NAMES), **keys)
    with opened(config) as long, opened(change_config(config, call_sums=None)) as steps:
        at = 0
        for count in (1, 3, 2):
            rows = {name: [] for name in NAMES}
            for _ in range(count):
                steps.update()
                for name in NAMES:
                    rows[name].append(steps.get_value_ptr(variable(name).name).copy())
            at += count * step
            long.update_until(at)
            for name in NAMES:
                total, mean = over_call(variable(name))
                assert total.name in long.get_output_var_names() and mean.name in long.get_output_var_names()
                assert (long.get_var_units(total.name), long.get_var_units(mean.name)) == (total.units, mean.units)
                unit = DAY if total.units == "mm" else 1
                expected = np.sum(rows[name], axis=0)
                np.testing.assert_allclose(long.get_value_ptr(total.name), expected * (step / unit), rtol=1e-12)
                np.testing.assert_allclose(long.get_value_ptr(mean.name), expected / count, rtol=1e-12)
        theirs = {n: v for n, v in outputs(steps).items() if not n.startswith("drainage-basin_water_runoff")}
        ours = outputs(long)
        assert_same({n: ours[n] for n in theirs}, theirs)


def test_calls_of_any_length_add_up_to_the_total(tmp_path):
    config = write_case(tmp_path, call_sums="all")
    total, mean = over_call(variable("runoff"))
    with opened(config) as component:
        added, last = 0.0, None
        live = component.get_value_ptr(total.name)
        for hours in (5, 19, 12, 60, 1, 24, 72, 23):
            component.update_until(component.get_current_time() + hours * 3600)
            added = added + live
            if not live.any():
                assert last is None or (component.get_value_ptr(mean.name) == last).all()
            last = component.get_value_ptr(mean.name).copy()
        np.testing.assert_allclose(added, component.get_value_ptr(variable("runoff_total").name), rtol=1e-12)
        assert component.get_value_ptr(total.name) is live
        assert len(component.get_output_var_names()) > 60


def test_names_are_their_own_and_have_an_interval():
    fluxes = [v for v in VARIABLES if v.role == "flux" and v.units in SUMMED]
    names = [v.name for flux in fluxes for v in over_call(flux)]
    assert len({*names, *(v.name for v in VARIABLES)}) == len(names) + len(VARIABLES)
    assert all("last-call" in name for name in names) and len(fluxes) > 15


def test_nothing_where_nobody_asks(tmp_path):
    config = write_case(tmp_path)
    assert load_config(config).call_sums == ()
    with opened(config) as component:
        assert component._stepper.sums is None
        assert not any("time_mean" in n for n in component.get_output_var_names())
        assert Q in component.get_output_var_names()


@pytest.mark.parametrize("name", ["dischage", "production_store", "runoff_depth", "precipitation"])
def test_what_has_no_sum_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=f"call_sums: '{name}' is no flux that has a sum"):
        load_config(write_case(tmp_path, call_sums=[name]))
