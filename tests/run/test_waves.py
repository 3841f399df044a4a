"""HBV and Muskingum-Cunge from a configuration: run, step, restart; whether the routing step fits flood waves."""

from __future__ import annotations

import logging
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import change_config, simulated, write_case
from click.testing import CliRunner
from make_domain import lumped_domain

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.cli import main
from bmi_cdlm.doctor import examine
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.waves import HIGH_RUNOFF, wave_fit

N_STEPS = 40


@pytest.fixture
def case(tmp_path) -> Path:
    return write_case(
        tmp_path, n_steps=N_STEPS, parameters="default", runoff="hbv", routing="muskingum_cunge", components=4,
        output="run.nc", output_at="reaches", ledger_tolerance=1e-9,
    )


def test_a_run_is_written_stepped_and_restarted_with_the_same_bits(case, tmp_path):
    done = CliRunner().invoke(main, ["run", str(case)])
    assert done.exit_code == 0 and "flood waves: at a runoff of 10 mm d-1" in done.output, done.output
    with netCDF4.Dataset(case.parent / "run.nc") as dataset:
        written = np.asarray(dataset["discharge"][:])
    component = BmiCdlm()
    component.initialize(str(case))
    names = component.get_output_var_names()
    assert "soil_moisture-store_water__volume-per-area_storage_density" in names
    assert not [name for name in names if "production-store" in name]
    model, saved = component._stepper.simulation.model, tmp_path / "state.nc"
    for step in range(N_STEPS):
        component.update()
        np.testing.assert_array_equal(model.live["discharge"].astype(written.dtype), written[step])
        if step == 17:
            component._stepper.simulation.save(saved)
    live = model.live
    assert abs(live["water_residual"][0]) < 1e-12 * (live["water_in"][0] + live["water_stored"][0])
    assert written.min() >= 0.0 and written[-1].max() > 0.0 and model.reach_volume.max() > 0.0
    again = BmiCdlm()
    again.initialize(str(case))
    again._stepper.simulation.restore_from(saved)
    for step in range(18, N_STEPS):
        again.update()
        discharge = again._stepper.simulation.model.live["discharge"]
        np.testing.assert_array_equal(discharge.astype(written.dtype), written[step])
    for one in (component, again):
        one.finalize()


def test_a_domain_without_slopes_is_refused(case):
    with netCDF4.Dataset(case.parent / "domain.nc", "a") as dataset:
        dataset["reach_slope"][:] = 0.0
    with pytest.raises(DomainError, match=r"routing is 'muskingum_cunge' but 'reach_slope' \[1\] is missing"), \
            simulated(case):
        pass


def river(
    n: int, length: float, slope: float, routing_step: int, step: int = DAY, routing: str = "muskingum_cunge",
    **parameters,
) -> Model:
    """A river of n reaches that one cell each of 100 km2 drains to."""
    one, area = lumped_domain(n), 100.0 * np.arange(1, n + 1)
    reaches = one.reaches._replace(
        downstream=np.r_[np.arange(1, n), -1], length=np.full(n, length), slope=np.full(n, slope), upstream_area=area,
    )
    given = {name: np.full(n, value) for name, value in parameters.items()}
    return Model(one._replace(reaches=reaches), given, step=step, routing_step=routing_step, routing=routing)


def test_a_step_that_fits_and_one_that_does_not():
    """The way of a flood wave is that of 5/3 ... 4/3 of the speed of water, by Manning's equation in the channel."""
    model = river(10, 3000.0, 2e-3, HOUR)
    time, channel, step = model.flood_waves(HIGH_RUNOFF * model.domain.reaches.upstream_area / 86.4)
    flow = HIGH_RUNOFF * 100.0 / 86.4
    depth = np.linspace(0.01, 20.0, 2_000_000)
    mean_depth = depth * 0.75
    carried = 15.0 * depth ** (4 / 3) * 0.75 / 0.035 * mean_depth ** (2 / 3) * np.sqrt(2e-3)
    area = 15.0 * depth ** (4 / 3) * 0.75
    at = np.searchsorted(carried, flow)
    celerity = (carried[at + 50] - carried[at - 50]) / (area[at + 50] - area[at - 50])
    assert time[0] == pytest.approx(3000.0 / celerity, rel=1e-4)
    assert (np.diff(time) < 0).all() and (channel > 0).all() and (step > 0).all()

    fit = wave_fit(model)
    assert fit.steps == tuple(np.percentile(HOUR / time, [10, 50, 90]))
    assert fit.spread == pytest.approx(np.sqrt(step.sum() / channel.sum()))
    assert fit.advised == pytest.approx(2.5 * np.median(time), rel=0.2) and DAY % fit.advised == 0
    assert wave_fit(river(10, 3000.0, 2e-3, fit.advised)).fits(fit.advised)
    far = wave_fit(river(10, 3000.0, 2e-3, 6 * HOUR))
    assert not far.fits(6 * HOUR) and f"Take routing_step: {far.advised} s" in far.told(6 * HOUR)
    assert "Take" not in fit.told(fit.advised)


def test_what_does_not_depend_on_the_flow_is_not_told():
    model = Model(lumped_domain(2))
    assert model.flood_waves(np.ones(2)) is None and wave_fit(model) is None
    assert wave_fit(Model(lumped_domain(2), routing="muskingum_cunge")) is None  # of no length


def test_flat_rivers_spread_waves_by_themselves():
    """Where the channel spreads a wave by more than the step could, the step adds what the channel does."""
    fit = wave_fit(river(10, 3000.0, 1e-5, HOUR, manning_roughness=0.05))
    assert fit.spread == pytest.approx(1.0, abs=0.05) and fit.fits(HOUR)


def test_channels_that_spread_nothing_are_told_of_without_a_division_by_it():
    """A kinematic wave: a reach spreads a wave by sqrt(K^2 + K step), the channel by nothing."""
    model = river(5, 3000.0, 1e-3, HOUR, routing="kinematic")
    time, channel, _ = model.flood_waves(HIGH_RUNOFF * model.domain.reaches.upstream_area / 86.4)
    fit = wave_fit(model)
    assert not channel.any() and fit.spread == pytest.approx(np.sqrt((time**2 + time * HOUR).sum() / (time**2).sum()))
    assert not fit.fits(HOUR) and "inf" not in fit.told(HOUR)
    assert f"{fit.spread:.2g} times its travel time" in fit.told(HOUR) and "Take routing_step" in fit.told(HOUR)
    assert wave_fit(river(5, 3000.0, 1e-3, fit.advised, routing="kinematic")).fits(fit.advised)
    assert wave_fit(river(5, 3000.0, 1e-3, 60, routing="kinematic")).fits(60)


def test_the_step_to_take_is_warned_of_and_found_by_the_doctor(case, caplog):
    with netCDF4.Dataset(case.parent / "domain.nc", "a") as dataset:
        dataset["reach_length"][:] = 2000.0
        dataset["reach_slope"][:] = 5e-3
    coarse = change_config(case, "coarse.yaml", routing_step="1 d")
    with caplog.at_level(logging.WARNING), simulated(coarse):
        pass
    assert "Take routing_step: " in caplog.text
    notes = [f for f in examine(coarse) if f.subject == "routing"]
    assert [f.level for f in notes] == ["note"] and "Take routing_step: " in notes[0].text
    advised = notes[0].text.rpartition("routing_step: ")[2].split()[0]
    fine = change_config(case, "fine.yaml", routing_step=f"{advised} s")
    assert [f.level for f in examine(fine) if f.subject == "routing"] == ["ok"]
