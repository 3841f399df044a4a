"""A basin cut in two, and joined through BMI: the whole, bit for bit, where what lies between passes water on."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml
from cases import N_CELLS, assert_same, change_config, opened, outputs, simulated, step_all, write_case
from click.testing import CliRunner
from process_cases import OTHERS, installed

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import upstream_of
from bmi_cdlm.names.errors import ConfigError, DomainError, ForcingError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.prepare.subset import subset
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

INFLOW, SUB_STEPS, GAUGE_SUB_STEPS, DISCHARGE, GAUGE_Q = (
    variable(n).name
    for n in ("boundary_inflow", "discharge_sub_steps", "gauge_discharge_sub_steps", "discharge", "gauge_discharge")
)
ON_REACHES = ("discharge", "lateral_inflow", "reach_storage", "outflow_total")
ON_CELLS = ("runoff", "runoff_total", "cell_water_stored")


def middle(domain):
    """An inner reach with tributaries above it and a brother beside it."""
    spans = [upstream_of(domain.reaches.downstream, i) for i in range(domain.n_reaches)]
    sizes = np.array([hi - lo for lo, hi in spans])
    children = np.bincount(domain.reaches.downstream[domain.reaches.downstream >= 0], minlength=domain.n_reaches)
    inner = (domain.reaches.downstream >= 0) & (sizes > 3) & (children[domain.reaches.downstream] > 1)
    return int(np.flatnonzero(inner)[sizes[inner].argmax()])


def cut_in_two(folder, config):
    """Both parts beside a state of the whole at its start, and the id of the reach between."""
    domain = read_domain(folder / "domain.nc")
    target = domain.reaches.id[middle(domain)]
    with simulated(config) as simulation:
        simulation.save(folder / "start.nc")
    whole = change_config(config, "whole.yaml", initial_state="start.nc", spin_up=None)
    upper = subset(whole, f"reach:{target}", folder / "upper")[-1].parent / "whole.yaml"
    lower = subset(whole, f"reach:{target}", folder / "lower", below=True)[-1].parent / "whole.yaml"
    change_config(upper, "whole.yaml", sub_step_outputs=["discharge"])
    return whole, upper, lower, target


def places_of(part, whole):
    return [whole.index(one) for one in part]


@pytest.mark.parametrize("step", [DAY, HOUR])
@pytest.mark.parametrize("keys", [{"snow": "cemaneige"}, {"routing": "reservoirs"}, {"threads": 2}])
def test_the_parts_joined_have_the_bits_of_the_whole(tmp_path, step, keys):
    with installed(*OTHERS):
        keys = {"routing_step": f"{step // 3600} h"} if "threads" in keys else keys  # one sub-step a step
        whole, upper, lower, _ = cut_in_two(tmp_path, write_case(tmp_path, step=step, n_steps=30, **keys))
        lower = change_config(lower, "lower.yaml", ledger_tolerance=1e-12)
        with opened(whole) as one, opened(upper) as above, opened(lower) as below:
            domains = [c._stepper.simulation.model.domain for c in (one, above, below)]
            assert domains[1].n_reaches + domains[2].n_reaches == domains[0].n_reaches + 1
            assert below.get_grid_size(11) == 1 and below.get_var_grid(INFLOW) == 11
            assert below.get_value_ptr("channel_reach_boundary__index").tolist() == domains[2].boundary.tolist()
            flow = above.get_value_ptr(SUB_STEPS)
            for _ in range(30):
                one.update()
                above.update()
                below.set_value(INFLOW, flow.reshape(-1, domains[1].n_reaches)[:, -1])
                below.update()
                for part, domain in ((above, domains[1]), (below, domains[2])):
                    for names, ids in ((ON_REACHES, "reaches"), (ON_CELLS, "cells")):
                        own, every = getattr(domain, ids).id, getattr(domains[0], ids).id
                        at = np.array(places_of(own, every))
                        keep = np.arange(at.size)
                        if part is below and ids == "reaches":
                            keep = np.setdiff1d(keep, domain.boundary)
                        for name in names:
                            got, expected = (c.get_value_ptr(variable(name).name) for c in (part, one))
                            if name in ("lateral_inflow", "reach_storage"):
                                np.testing.assert_array_equal(got[keep], expected[at][keep], err_msg=name)
                            elif name != "cell_water_stored" or part is below:
                                np.testing.assert_array_equal(got, expected[at], err_msg=name)
            live = below._stepper.simulation.model.live
            assert abs(live["water_residual"][0]) <= 1e-12 * live["water_out"][0]
            assert live["water_added"][0] > 0 and not live["reach_storage"][domains[2].boundary].any()


def test_a_part_can_be_cut_again_and_saved_on_the_way(tmp_path):
    lower, target = cut_in_two(tmp_path, write_case(tmp_path, n_steps=12))[2:]
    domain = read_domain(lower.parent / "domain.nc")
    boundary = int(domain.boundary[0])
    assert domain.reaches.id[boundary] == target
    below = int(domain.reaches.downstream[boundary])
    if domain.reaches.downstream[below] >= 0:
        subset(lower, f"reach:{domain.reaches.id[below]}", tmp_path / "again", below=True)
        again = read_domain(tmp_path / "again" / "domain.nc")
        assert again.reaches.id[int(again.boundary[0])] == domain.reaches.id[below]
        with netCDF4.Dataset(tmp_path / "again" / "domain.nc") as file:
            every = read_domain(tmp_path / "domain.nc")
            size = np.diff(upstream_of(every.reaches.downstream, every.reaches.id.index(domain.reaches.id[below])))[0]
            assert file["reach_stands_for"][:].max() == size
    rng = np.random.default_rng(1)
    with opened(lower) as one, opened(lower) as other:
        n = one.get_value_ptr(INFLOW).size
        assert n == 24 and np.isnan(one.get_value_ptr(INFLOW)).all()
        for k in range(6):
            one.set_value(INFLOW, rng.uniform(0, 9, n))
            one.update_until(one.get_current_time() + (10 if k % 2 else 38) * HOUR)
            if k == 2:
                one._stepper.simulation.save(tmp_path / "way.nc")
                held = one.get_value_ptr(INFLOW).copy()
                state = rng.bit_generator.state
        expected = outputs(one)
        other._stepper.simulation.restore_from(tmp_path / "way.nc")
        np.testing.assert_array_equal(other.get_value_ptr(INFLOW), held)
        rng.bit_generator.state = state
        for k in range(3, 6):
            other.set_value(INFLOW, rng.uniform(0, 9, n))
            other.update_until(other.get_current_time() + (10 if k % 2 else 38) * HOUR)
        assert_same(outputs(other), expected)


def test_what_comes_in_is_refused_where_it_has_no_meaning(tmp_path):
    _, _, lower, target = cut_in_two(tmp_path, write_case(tmp_path))
    with opened(lower) as component:
        with pytest.raises(ForcingError, match=f"at reach {target} .*Call set_value"):
            component.update()
        for bad in (-0.5, np.nan):
            with pytest.raises(ForcingError, match=f"index 5, at reach {target}"):
                component.set_value_at_indices(INFLOW, np.array([5]), np.array([bad]))
        component.set_value(INFLOW, np.full(24, 2.0))
        component.update()
        assert component.get_value_ptr(DISCHARGE)[component.get_value_ptr("channel_reach_boundary__index")] == 2.0
    with pytest.raises(ConfigError, match="Step through BMI"), simulated(lower) as simulation:
        simulation.run()


@pytest.mark.parametrize(("keys", "message"), [
    ({"coupled_inputs": None}, r"Set coupled_inputs: \[boundary_inflow\]"),
    ({"spin_up": 1, "initial_state": None}, "Begin with a state of the whole"),
])
def test_a_part_without_its_rivers_is_refused(tmp_path, keys, message):
    _, _, lower, _ = cut_in_two(tmp_path, write_case(tmp_path))
    with pytest.raises(ConfigError, match=message):
        Simulation(load_config(change_config(lower, **keys)))


def test_an_inflow_without_a_boundary_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no reach of .* was cut off"):
        Simulation(load_config(write_case(tmp_path, coupled_inputs=["boundary_inflow"])))
    with opened(write_case(tmp_path)) as component, pytest.raises(UnknownNameError, match="no reach of this domain"):
        component.get_value_ptr("channel_reach_boundary__index")


def test_the_command_line(tmp_path):
    config = write_case(tmp_path, spin_up=1, training={"epochs": 1})
    domain = read_domain(tmp_path / "domain.nc")
    name = domain.reaches.id[middle(domain)]
    done = CliRunner().invoke(main, ["subset", str(config), f"reach:{name}", "--to", str(tmp_path / "b"), "--below"])
    assert done.exit_code == 0, done.output
    content = yaml.safe_load((tmp_path / "b" / "case.yaml").read_text())
    assert content["coupled_inputs"] == ["boundary_inflow"] and not {"training", "spin_up"} & set(content)
    outlet = domain.reaches.id[int(domain.outlets[0])]
    with pytest.raises(DomainError, match=f"reach {outlet} is an outlet"):
        subset(config, f"reach:{outlet}", tmp_path / "c", below=True)
    assert not (tmp_path / "c").exists() and domain.n_cells == N_CELLS


@pytest.mark.parametrize("stands_for", [-1, 3])
def test_a_boundary_that_cannot_be_is_refused(tmp_path, stands_for):
    write_case(tmp_path)
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        values = dataset.createVariable("reach_stands_for", "i4", ("reach",))
        values.units = "1"
        values[:] = 0
        inner = int(np.asarray(dataset["downstream"][:]).max())
        values[inner] = stands_for
    with pytest.raises(DomainError, match=r"reach_stands_for.*expected 0, or more at a reach into which none drains"):
        read_domain(tmp_path / "domain.nc")


# ---- discharge in every sub-step ---------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "n_sub"), [(DAY, 24), (HOUR, 4)])
def test_sub_steps_have_the_mean_of_the_step(tmp_path, step, n_sub):
    """Their mean is the discharge of the step, in the order in which kernels add; all else has the bits of before."""
    plain = write_case(tmp_path, step=step, snow="cemaneige")
    config = change_config(plain, sub_step_outputs=["discharge", "gauge_discharge"], ledger_tolerance=1e-12)
    with opened(plain) as without, opened(config) as component:
        domain = component._stepper.simulation.model.domain
        flow, at_gauges = component.get_value_ptr(SUB_STEPS), component.get_value_ptr(GAUGE_SUB_STEPS)
        assert flow.size == n_sub * domain.n_reaches and at_gauges.size == n_sub * domain.gauges.reach.size
        assert component.get_var_nbytes(SUB_STEPS) == 8 * flow.size and component.get_var_grid(GAUGE_SUB_STEPS) == 2
        np.testing.assert_array_equal(flow.reshape(n_sub, -1)[3], component.get_value_ptr(DISCHARGE))
        varied = False
        for _ in range(9):
            without.update()
            component.update()
            rows = flow.reshape(n_sub, -1)
            total = rows[0].copy()
            for row in rows[1:]:
                total += row
            np.testing.assert_array_equal(total / n_sub, component.get_value_ptr(DISCHARGE))
            np.testing.assert_array_equal(rows[:, domain.gauges.reach], at_gauges.reshape(n_sub, -1))
            varied |= bool((np.ptp(rows, axis=0) > 0.01).any())
            for name in (DISCHARGE, GAUGE_Q, variable("reach_storage").name):
                np.testing.assert_array_equal(component.get_value_ptr(name), without.get_value_ptr(name))
        assert varied and component.get_value_ptr(SUB_STEPS) is flow
    only = change_config(plain, sub_step_outputs=["gauge_discharge"])
    with opened(only) as component:
        assert SUB_STEPS not in component.get_output_var_names()
        for _ in range(5):
            component.update()
        component._stepper.simulation.save(tmp_path / "five.nc")
        for _ in range(4):
            component.update()
        np.testing.assert_array_equal(component.get_value_ptr(GAUGE_SUB_STEPS), at_gauges)
        component._stepper.simulation.restore_from(tmp_path / "five.nc")
        at_five = component.get_value_ptr(GAUGE_SUB_STEPS).reshape(n_sub, -1)
        np.testing.assert_allclose(at_five.mean(axis=0), component.get_value_ptr(GAUGE_Q), rtol=1e-12)
        assert at_five.any()
        component.update_until(9 * step)
        np.testing.assert_array_equal(component.get_value_ptr(GAUGE_SUB_STEPS), at_gauges)


def test_there_are_as_many_as_the_routing_step_makes(tmp_path):
    config = write_case(tmp_path, sub_step_outputs=["discharge"], n_steps=6)
    found = step_all_sub_steps(config)
    shorter = step_all_sub_steps(change_config(config, routing_step="12 h"))
    assert found.shape == (6, 24, 40) and shorter.shape == (6, 2, 40)
    assert (found >= 0).all() and np.ptp(found[3], axis=0).max() > 0


def step_all_sub_steps(config):
    rows = step_all_of(config, SUB_STEPS)
    return rows.reshape(rows.shape[0], -1, 40)


def step_all_of(config, name):
    with opened(config) as component:
        return step_all(component, (name,))[name]


def test_names_that_are_refused(tmp_path):
    for keys, message in (
        ({"sub_step_outputs": ["runoff"]}, "sub_step_outputs"), ({"sub_step_outputs": ["discharge"] * 2}, "twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(write_case(tmp_path, **keys))
