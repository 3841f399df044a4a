"""No water is made or lost: reach by reach, at junctions, in floods, in droughts, with any parameters; at every step.

The identities are added up from published fluxes and stores alone, in the way of a public test bench.
"""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import yaml
from cases import START, change_config, opened, write_case, write_forcing, write_parameters
from click.testing import CliRunner
from generator_cases import specify, write_attribute_domain, write_drawn_checkpoint
from make_domain import domain_fields, write_domain

from bmi_cdlm.cli import main
from bmi_cdlm.evaluate.balance import balance
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.parameters import BY_NAME
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.processes.cemaneige import CEMANEIGE_HYSTERESIS
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.run.config import load_config

EXACT = 1e-12
TAIL = 90


def assert_closed(config, exact=EXACT):
    """Every balance of the report, per step and over the period."""
    rows = {row.what: row for row in balance(load_config(config))}
    assert {"cells", "reaches", "heads: cells to reaches", "domain"} <= rows.keys()
    for row in rows.values():
        assert row.per_step < exact and row.whole < exact and row.water > 0, row
    return rows


def y_network(folder, step, celerity):
    """Two headwaters with a cell each, which meet, and two reaches below without any; their inflows are prescribed.

    A cell whose stores are full at once and that neither evaporates nor exchanges hands on what it is given.
    """
    downstream = np.array([2, 2, 3, -1])
    fields = domain_fields(
        downstream, np.array([0, 1]), np.array([0, 1]), np.array([50.0, 80.0]), 2, np.array([3]),
        np.random.default_rng(2),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_domain(folder / "domain.nc", fields)
    n_wet, n_dry = 20, TAIL * DAY // step
    rain = np.zeros((n_wet + n_dry, 2))
    rain[:n_wet, 0], rain[:n_wet, 1] = 40.0 + 30.0 * np.sin(np.arange(n_wet)), 25.0
    write_forcing(folder / "forcing.nc", Forcing(rain, np.zeros_like(rain), np.full_like(rain, 15.0)), step,
                  fields["cell_id"].values)
    names = {p.name: p.range_at(step).default for process in (GR4J, MUSKINGUM) for p in process.parameters}
    names |= {"exchange_coefficient": 0.0, "celerity": celerity}
    size = {"cell": 2, "reach": 4}
    write_parameters(folder / "parameters.nc", {n: np.full(size[BY_NAME[n].grid], v) for n, v in names.items()})
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "parameters": "parameters.nc", "start": str(START),
        "end": str(START + np.timedelta64((n_wet + n_dry) * step, "s")), "time_step": "1 d" if step == DAY else "1 h",
        "routing_step": "1 h" if step == DAY else "15 min",
    }
    (folder / "case.yaml").write_text(yaml.safe_dump(content))
    return folder / "case.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("celerity", [0.05, 1.0, 8.0])
@pytest.mark.parametrize("step", [DAY, HOUR])
def test_a_junction_and_a_dry_tail_of_90_days(tmp_path, step, celerity):
    """What both branches hand on is what the reach below gets, at every step; nothing is negative."""
    config = y_network(tmp_path, step, celerity)
    rows = assert_closed(config)
    assert "junctions" in rows and any(what.startswith(f"dry: {TAIL * DAY // step} steps") for what in rows)
    names = {n: variable(n).name for n in ("discharge", "lateral_inflow", "reach_storage")}
    with opened(config) as component:
        domain = component._stepper.simulation.model.domain
        below = domain.reaches.downstream
        junction = int(np.flatnonzero(np.bincount(below[below >= 0], minlength=4) == 2)[0])
        branches = np.flatnonzero(below == junction)
        v = {n: component.get_value_ptr(name) for n, name in names.items()}
        came = gone = 0.0
        first = before = v["reach_storage"].copy()
        while component.get_current_time() < component.get_end_time():
            component.update()
            q, storage = v["discharge"], v["reach_storage"]
            assert (q >= 0).all() and (storage >= 0).all()
            into = q[branches].sum() + v["lateral_inflow"][junction]
            change = (storage[junction] - before[junction]) / step
            assert abs(into - q[junction] - change) <= EXACT * (into + q[junction] + storage[junction] / step)
            before = storage.copy()
            came += v["lateral_inflow"].sum() * step
            gone += q[below < 0].sum() * step
        left = storage.sum() - first.sum()
        assert abs(came - gone - left) <= EXACT * (came + gone + first.sum())


@pytest.mark.parametrize("snow", ["none", "cemaneige", "cemaneige_hysteresis"])
@pytest.mark.parametrize("rain", [200.0, 600.0, 1900.0])
def test_floods_beyond_a_hundred_years(tmp_path, rain, snow):
    """Days of rain from what a hundred years bring to the most ever measured, within otherwise plain weather."""
    config = write_case(tmp_path, n_steps=40, snow=snow)
    with netCDF4.Dataset(tmp_path / "forcing.nc", "r+") as dataset:
        dataset["precipitation"][12:15] = np.array([0.5, 1.0, 0.2])[:, None] * rain
    rows = assert_closed(config)
    event = next(row for what, row in rows.items() if what.startswith(f"event: {rain:.4g}"))
    assert event.per_step < EXACT and event.whole < EXACT


@pytest.mark.parametrize("factor", [1.0, 0.0, 3.0, -2.0, 100.0])
def test_attributes_inside_and_outside_the_range_of_training(tmp_path, factor):
    """A generator asked far from what it has seen gives odd parameters, but no water."""
    config = write_case(tmp_path, n_steps=30, parameters="drawn.safetensors", snow="cemaneige")
    write_attribute_domain(tmp_path / "domain.nc")
    write_drawn_checkpoint(tmp_path / "drawn.safetensors", specify(tmp_path / "domain.nc"))
    with netCDF4.Dataset(tmp_path / "domain.nc", "r+") as dataset:
        for name in ("cell_forest", "cell_elevation", "cell_slope"):
            dataset[name][:] = factor * dataset[name][:]
    assert_closed(config)


@pytest.mark.parametrize("end", ["low", "high"])
def test_parameters_at_both_ends(tmp_path, end):
    config = write_case(tmp_path, n_steps=30, snow="cemaneige_hysteresis")
    declared = [*CEMANEIGE_HYSTERESIS.parameters, *GR4J.parameters, *MUSKINGUM.parameters]
    values = {p.name: np.full({"cell": 25, "reach": 40}[p.grid], getattr(p.daily, end)) for p in declared}
    write_parameters(tmp_path / "parameters.nc", values)
    assert_closed(config)


def test_the_command_prints_it(tmp_path):
    config = write_case(tmp_path, observations=None)
    result = CliRunner().invoke(main, ["evaluate", str(config), "--balance"])
    assert result.exit_code == 0 and "closed" in result.output and "junctions" in result.output, result.output
    result = CliRunner().invoke(main, ["evaluate", str(change_config(config, forcing="caller")), "--balance"])
    assert result.exit_code == 1 and "a balance is that of a run" in result.output


def test_it_sees_a_leak(tmp_path, monkeypatch):
    from bmi_cdlm.run.simulation import Simulation

    config = write_case(tmp_path)
    advance = Simulation.advance

    def leak(self, *given):
        series = advance(self, *given)
        self.model.live["discharge"][7] *= 1 + 1e-6
        return series

    monkeypatch.setattr(Simulation, "advance", leak)
    rows = {row.what: row for row in balance(load_config(config))}
    assert not rows["reaches"].closed and rows["cells"].closed
    result = CliRunner().invoke(main, ["evaluate", str(config), "--balance"])
    assert result.exit_code == 1 and "is missing in a step" in result.output
