"""Runs in the calendars of climate models: no day made up, none left out, and dates that say so."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cases import (
    N_CELLS,
    assert_same,
    case_forcing,
    opened,
    outputs,
    simulated,
    step_all,
    write_case,
    write_forcing,
    write_series,
)
from click.testing import CliRunner

from bmi_cdlm.cli import main
from bmi_cdlm.evaluate.signatures import means_over
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import OutputFile, read_output
from bmi_cdlm.model.pet import Demand, make_place
from bmi_cdlm.names.calendars import at_seconds, date_text, days_of_months, in_calendar, months_since, parse
from bmi_cdlm.names.errors import ConfigError, ForcingError, LedgerError, OutputError, StateError
from bmi_cdlm.names.season import day_of_year
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.catalogue import find_formula
from bmi_cdlm.run.config import load_config

BEGIN = np.datetime64("2000-02-26", "s")
DATES = {
    "noleap": ("2000-02-26", "2000-03-02", ["02-26", "02-27", "02-28", "03-01"]),
    "360_day": ("2000-02-28", "2000-03-02", ["02-28", "02-29", "02-30", "03-01"]),
}


def calendar_case(folder, calendar, /, **keys):
    """Four days across the end of February."""
    first, end, dates = DATES[calendar]
    config = write_case(folder, n_steps=len(dates), **{
        "calendar": calendar, "start": first, "end": end, "output": "run.nc", "output_at": "reaches", **keys})
    with netCDF4.Dataset(folder / "forcing.nc", "a") as dataset:
        dataset["time"].setncatts({"units": f"days since {first}", "calendar": calendar})
        dataset["time"][:] = np.arange(len(dates))
    return config


def texts(path):
    with netCDF4.Dataset(path) as dataset:
        time = dataset["time"]
        return [d.isoformat()[5:10] for d in netCDF4.num2date(time[:], time.units, time.calendar)], time.calendar


@pytest.mark.parametrize("calendar", DATES)
def test_a_run_has_every_day_once(tmp_path, calendar):
    config = calendar_case(tmp_path / "a", calendar)
    with simulated(config) as simulation:
        assert simulation.config.n_steps == 4
        simulation.run()
    with netCDF4.Dataset(tmp_path / "a" / "forcing.nc", "a") as dataset:
        dataset["time"].calendar = calendar.upper()  # names of calendars have no case
    with simulated(config) as simulation:
        simulation.run()
    assert texts(tmp_path / "a" / "run.nc") == (DATES[calendar][2], calendar)
    plain = write_case(tmp_path / "b", n_steps=4, output="run.nc", output_at="reaches")
    with simulated(plain) as simulation:
        simulation.run()
    starts, _, found = read_output(tmp_path / "a" / "run.nc", "discharge")
    assert [date_text(t)[5:10] for t in starts] == DATES[calendar][2]
    np.testing.assert_array_equal(found, read_output(tmp_path / "b" / "run.nc", "discharge")[2])


@pytest.mark.parametrize("calendar", DATES)
def test_a_restart_goes_on_with_the_next_day(tmp_path, calendar):
    third = f"2000-{DATES[calendar][2][2]}"
    keys = {"output": None, "initial_state": "equilibrium"}
    first = calendar_case(tmp_path / "a", calendar, end=third, restart="state", **keys)
    with simulated(first) as simulation:
        simulation.run()
    whole = calendar_case(tmp_path / "b", calendar, **keys)
    rest = calendar_case(tmp_path / "c", calendar, output=None, initial_state=str(tmp_path / "a" / "state"))
    with opened(whole) as component, opened(rest) as other:
        assert other.get_current_time() == 2 * DAY and other.get_end_time() == 4 * DAY
        step_all(component)
        step_all(other)
        assert_same(outputs(other), outputs(component))
    elsewhere = write_case(tmp_path / "d", n_steps=4, initial_state=str(tmp_path / "a" / "state"))
    with pytest.raises(StateError, match=f"its date is in the calendar {calendar}, expected standard"):
        opened(elsewhere).__enter__()


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"not a date.*noleap has no such day"):
        load_config(calendar_case(tmp_path, "noleap", start="2000-02-29"))
    with pytest.raises(ConfigError, match="BMI has no word for the calendar 360_day"):
        load_config(calendar_case(tmp_path, "360_day", time_units="since"))
    with pytest.raises(ConfigError, match="NextGen, whose names name_profile asks for, has real dates"):
        load_config(calendar_case(tmp_path, "noleap", name_profile="ngen"))
    with pytest.raises(ConfigError, match="calendar is 'julian'"):
        load_config(calendar_case(tmp_path, "360_day", calendar="julian"))
    config = calendar_case(tmp_path, "noleap")
    assert load_config(calendar_case(tmp_path, "noleap", calendar="365_day")).calendar == "noleap"
    write_forcing(tmp_path / "forcing.nc", case_forcing(4, N_CELLS), DAY, [f"c{i}" for i in range(N_CELLS)], BEGIN)
    with pytest.raises(ForcingError, match="is in the calendar standard, expected noleap"):
        simulated(config).__enter__()


def test_observations_of_real_dates_are_met_by_date(tmp_path, caplog):
    """1, 2, ... on 26 February 2000 and the days after it: the 29th is the fourth."""
    path = tmp_path / "obs.nc"
    write_series(path, "gauge", ["g"], {"discharge": (np.arange(1.0, 37.0)[:, None], "m3 s-1")}, BEGIN, DAY)
    period = (parse("2000-02-26", "noleap"), parse("2000-03-03", "noleap"))
    starts, found = read_observations(path, ["g"], *period, DAY)
    assert [date_text(t)[5:10] for t in starts] == ["02-26", "02-27", "02-28", "03-01", "03-02"]
    assert found[:, 0].tolist() == [1, 2, 3, 5, 6]
    assert "1 steps of the file have no such date in noleap and are left out; 0 of 5 steps" in caplog.text
    caplog.clear()
    period = (parse("2000-02-29", "360_day"), parse("2000-04-02", "360_day"))
    _, found = read_observations(path, ["g"], *period, DAY)
    assert found[:4, 0].tolist()[::2] == [4, 5] and np.isnan(found[1, 0]) and found[3, 0] == 6  # 30 February: none
    assert found[-2:, 0].tolist() == [34, 36] and found.shape == (33, 1)  # 30 March and 1 April, no 31st between
    assert "1 steps of the file have no such date in 360_day and are left out; 1 of 33 steps" in caplog.text


def test_the_sun_goes_round_in_a_year():
    first, last = (np.array([parse(t, "360_day")]) for t in ("2001-01-01", "2001-12-30"))
    assert day_of_year(first)[0] == 1.0 and day_of_year(last)[0] == pytest.approx(1 + 359 * 365 / 360)
    noleap = np.array([parse("2000-03-01", "noleap")])
    assert day_of_year(noleap)[0] == 60.0 and day_of_year(noleap.astype("datetime64[s]") + 0)[0] == 60.0
    formula = find_formula("oudin")
    demand = Demand(formula, DAY, make_place(*np.array([[45.0], [5.0], [0.0]])))
    got = demand.sky(int(last[0].astype(np.int64)), 1)[0]
    declination, distance, _ = formula.sun(1 + 359 * 365 / 360)
    np.testing.assert_allclose(got[[0, 3]], [np.sin(declination), distance], rtol=1e-14)


def test_months_years_and_dates():
    times = np.array([parse(t, "360_day") for t in ("1969-12-30", "1970-01-01", "2000-02-30T06:00")])
    assert months_since(times).tolist() == [-1, 0, 361]
    assert [date_text(t) for t in times] == ["1969-12-30T00:00:00", "1970-01-01T00:00:00", "2000-02-30T06:00:00"]
    assert [days_of_months(361, 373, c) for c in ("standard", "noleap", "360_day")] == [366, 365, 360]
    back, there = in_calendar(times, "standard")
    assert there.tolist() == [True, True, False] and str(back[0]) == "1969-12-30T00:00:00"
    assert date_text(at_seconds(59 * DAY, "noleap")) == "1970-03-01T00:00:00"
    assert days_of_months(-12, 0, "noleap") == 365


def test_scores_of_a_period_are_of_its_dates(tmp_path):
    config = calendar_case(tmp_path, "360_day", observations="obs.nc", output_at="gauges")
    with simulated(config) as simulation:
        simulation.run()
        gauges = simulation.model.domain.gauges.id
    path = write_series(tmp_path / "obs.nc", "gauge", gauges, {"discharge": (np.ones((4, len(gauges))), "m3 s-1")},
                        BEGIN, DAY)
    with netCDF4.Dataset(path, "a") as dataset:
        dataset["time"].setncatts({"units": "days since 2000-02-28", "calendar": "360_day"})
        dataset["time"][:] = np.arange(4)

    def said(*words):
        command = ["evaluate", str(config), *words, "--no-plots", "--table", str(tmp_path / "t.csv")]
        return CliRunner().invoke(main, command).output

    assert "2000-02-29 to 2000-03-01" in said("--from", "2000-02-29", "--to", "2000-03-01")
    assert [row.split(",")[2] for row in (tmp_path / "t.csv").read_text().splitlines()[1:]] == ["2"] * len(gauges)
    text = said("--from", "2000-02-27").replace("\n", " ")
    assert "2000-02-28T00:00:00 to 2000-03-02T00:00:00, expected a period within it, got 2000-02-27T00:00:00" in text
    assert "360_day has no such day" in said("--from", "2000-02-31")


def test_means_of_months_of_thirty_days():
    starts = parse("1999-12-01", "360_day") + np.arange(90) * np.timedelta64(DAY, "s")
    o = np.r_[np.arange(60.0), np.full(4, np.nan), np.ones(26)]  # 26 of 30 days of the third
    s, _, months = means_over(np.arange(90.0), o, starts, "month")
    np.testing.assert_array_equal(s, [14.5, 44.5, np.nan])
    assert [date_text(m)[:10] for m in months] == ["1999-12-01", "2000-01-01", "2000-02-01"]
    days = means_over(np.arange(90.0), np.ones(90), starts, "day")[2]
    assert (days == starts).all()


def test_an_output_takes_no_dates_of_another_calendar(tmp_path):
    with (
        OutputFile(tmp_path / "o.nc", "gauge", ["g"], ["discharge"], DAY, {}) as file,
        pytest.raises(OutputError, match=r"steps from 2000-02-30T00:00:00 are in the calendar 360_day, expected stand"),
    ):
        file.append(np.array([parse("2000-02-30", "360_day")]), {"discharge": np.ones((1, 1))})


def test_a_ledger_that_is_open_says_when(tmp_path):
    with opened(calendar_case(tmp_path, "360_day", ledger_tolerance=1e-9)) as component:
        component.update()
        component.get_value_ptr("soil_production-store_water__volume-per-area_storage_density")[:] += 1.0
        with pytest.raises(LedgerError, match="at 2000-02-30T00:00:00, expected at most"):
            component.update()
