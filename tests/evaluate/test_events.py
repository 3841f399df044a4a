"""Floods, baseflow by the recursive filter, signatures: worked by hand, another way, and beside reference values."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import START, change_config, write_case, write_series
from click.testing import CliRunner

from bmi_cdlm.cli import main
from bmi_cdlm.commands import common
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.events import Event, find_events, median_error, read_event, read_period
from bmi_cdlm.evaluate.signatures import OF_EVENTS, OF_PERIODS, Window, signatures, slow_flow
from bmi_cdlm.names.time_steps import DAY, HOUR

REFERENCES = Path(__file__).resolve().parents[3] / "shared" / "refs"
HOURS = 700
FIRST, LARGEST, PEAK = 300, 301, 305


def flood(rain: np.ndarray, flow: np.ndarray, late: int = 0, size: float = 1.0) -> None:
    """Add a storm of 22 mm in three hours, and its flood, which rises by 9 m3/s and halves every five hours."""
    rain[[FIRST + late, LARGEST + late, LARGEST + 1 + late]] += np.array([4, 12, 6]) * size
    flow[[PEAK - 2 + late, PEAK - 1 + late]] += np.array([1, 5]) * size
    flow[PEAK + late :] += 9 * size * 0.5 ** (np.arange(flow.size - PEAK - late) / 5)


def record(n: int = HOURS) -> tuple[np.ndarray, np.ndarray]:
    """Without rain; a river that falls slowly, so that nothing but a flood is a peak."""
    return np.zeros(n), 1 + np.linspace(0.1, 0, n)


def other_slow_flow(q: np.ndarray) -> np.ndarray:
    """The filter as it was published, of quick flow, with passes as the reference makes them."""

    def quick(of: np.ndarray, first: float) -> np.ndarray:
        f = np.zeros(of.size)
        f[0] = of[0] - first
        for t in range(1, of.size):
            f[t] = min(max(0.925 * f[t - 1] + 1.925 / 2 * (of[t] - of[t - 1]), 0), of[t])
        return of - f

    slow = quick(q, q[0] if q[0] < np.percentile(q, 25) else q.mean() / 1.5)
    mean = slow.mean()
    slow = quick(slow[::-1], q[-1] / 1.2 if q[-1] < mean else mean)[::-1]
    mean = slow.mean()
    return quick(slow, q[0] / 1.2 if q[0] < mean else mean)


def test_the_recursive_filter_by_hand_and_as_published():
    np.testing.assert_allclose(slow_flow(np.array([1.0, 3.0])), [1 / 1.2, 0.925 / 1.2 + 0.0375 * 2.0375], rtol=1e-15)
    rng = np.random.default_rng(4)
    for n in (1, 2, 9, 400):
        flow = rng.gamma(0.5, 3, n)
        slow = slow_flow(flow)
        np.testing.assert_allclose(slow, other_slow_flow(flow), rtol=1e-12)
        assert (slow <= flow).all() or n == 1
        assert (slow >= 0).all()


def test_a_flood_begins_with_its_rain_and_ends_where_its_quick_flow_is_least():
    rain, flow = record()
    flood(rain, flow)
    events, left_out = find_events(rain, flow, HOUR)
    assert not left_out
    whole = flow[PEAK - 1 : FIRST + 287]  # to the end of the 48 h from 240 h after the first step
    quick = whole - other_slow_flow(whole)
    least = min(range(whole.size - 47), key=lambda k: math.fsum(quick[k : k + 48]))
    assert events == [Event(FIRST, PEAK + least, LARGEST, PEAK)]
    assert 24 < least < 240


@pytest.mark.parametrize(("shower", "first"), [(2.79, FIRST), (2.81, 259)])  # the storm has 14 mm, a fifth is 2.8
def test_a_shower_begins_a_flood_if_it_has_a_fifth_of_the_energy(shower, first):
    rain, flow = record()
    flood(rain, flow)
    rain[260] = shower
    (event,), _ = find_events(rain, flow, HOUR)
    assert (event.first, event.rain, event.peak) == (first, LARGEST, PEAK)


def test_floods_that_overlap_are_joined_and_keep_the_larger_peaks():
    rain, flow = record()
    flood(rain, flow)
    flood(rain, flow, late=70, size=1.5)
    flood(rain, flow, late=-180, size=1.2)
    single, joined = find_events(rain, flow, HOUR, 0.99)[0]
    assert (single.peak, single.several) == (PEAK - 180, False)
    assert (joined.first, joined.rain, joined.peak, joined.several) == (FIRST, LARGEST + 70, PEAK + 70, True)
    assert joined.last > PEAK + 70


def test_of_days_hours_are_whole_steps():
    rain, flow = record(40)
    rain[20], flow[21:] = 30, flow[21:] + 9 * 0.5 ** np.arange(19)
    (event,), _ = find_events(rain, flow, DAY)
    assert (event.first, event.rain, event.peak) == (20, 20, 21)
    assert 21 < event.last <= 20 + 10


@pytest.mark.parametrize("case", ["begin", "end", "gap", "dry", "after"])
def test_a_flood_that_is_not_whole_is_left_out_and_why_is_told(case):
    rain, flow = record()
    flood(rain, flow)
    part, told = slice(None), {"begin": "the record begins", "end": "the record ends", "gap": "missing"}
    if case == "begin":
        part = slice(PEAK - 71, None)
    elif case == "end":
        part = slice(None, FIRST + 286)
    elif case == "gap":
        flow[FIRST + 286] = np.nan
    else:
        rain[:] = 0
        rain[PEAK - 72] = 5 * (case == "after")  # the rain has ceased when the search begins
    events, left_out = find_events(rain[part], flow[part], HOUR)
    assert not events
    ((peak, why),) = left_out.items()
    assert peak == PEAK - (part.start or 0)
    assert told.get(case, "no rain sets in") in why


def test_what_is_one_step_farther_off_does_no_harm():
    rain, flow = record()
    flood(rain, flow)
    part = slice(PEAK - 72, FIRST + 287)
    assert len(find_events(rain[part], flow[part], HOUR)[0]) == 1
    flow[FIRST + 287] = np.nan
    assert len(find_events(rain, flow, HOUR)[0]) == 1
    assert find_events(rain, np.full(HOURS, np.nan), HOUR) == ([], {})


def test_signatures_by_hand():
    flow = np.array([1.0, 3.0, 2.0])  # 36 km2: 1 m3/s is 0.1 mm in an hour
    window = Window(np.array([1.5, 0.5, 0.0]), flow, np.array([0.0, 1.0, 0.5]), HOUR, 36.0)
    assert signatures(OF_EVENTS, window) == pytest.approx({
        "Erc": 0.3, "Erchf": 0.075, "Erclf": 0.225, "Erch2r": 0.25, "Eff": 0.5, "Ebf": 1.5, "Epf": 3, "Elt": 1,
    }, rel=1e-14)
    whole = signatures(OF_PERIODS, window)
    assert [whole[name] for name in ("Crc", "Crchf", "Crclf", "Crch2r")] == pytest.approx([0.3, 0.075, 0.225, 0.25])
    assert [whole[f"Cfp{p}"] for p in (2, 10, 50, 90)] == pytest.approx([1.04, 1.2, 2, 2.8])
    dry = window._replace(rain=np.zeros(3), flow=np.zeros(3), quick=np.zeros(3))
    assert math.isnan(signatures(OF_PERIODS, dry)["Crc"])
    assert math.isnan(signatures(OF_PERIODS, dry)["Crch2r"])


def test_signatures_of_a_period_are_over_what_is_long_enough_without_a_gap():
    rain, flow = np.ones(600), np.random.default_rng(3).gamma(2, 1, 600)
    gaps = flow.copy()
    gaps[[240, 400]] = np.nan  # 240, 159 and 199 hours: the first is long enough
    read = read_period(rain, gaps, 2 * flow, HOUR, 36.0)
    assert read == read_period(rain[:240], flow[:240], 2 * flow[:240], HOUR, 36.0)
    assert read.simulated["Crc"] == pytest.approx(2 * read.observed["Crc"], rel=1e-14)
    assert median_error([read, read], "Crchf") == pytest.approx(100, rel=1e-12)
    gaps[0] = np.nan
    nothing = read_period(rain, gaps, flow, HOUR, 36.0)
    assert all(math.isnan(value) for value in nothing.observed.values())
    assert math.isnan(median_error([nothing], "Crc"))


@pytest.mark.slow
def test_the_command_finds_floods_tells_and_draws_them_and_refuses_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_case(tmp_path, step=HOUR, n_steps=HOURS, routing_step="1 h", output="run.nc")
    gauge_id = read_domain(tmp_path / "domain.nc").gauges.id
    flow = np.stack([record()[1] for _ in gauge_id], axis=1)
    flood(np.zeros(HOURS), flow[:, 0])
    flood(np.zeros(HOURS), flow[:, 1], late=-250)
    flow[:, 3] = np.nan
    series = {"discharge": (flow, "m3 s-1")}
    write_series(tmp_path / "observations.nc", "gauge", np.array(gauge_id), series, START, HOUR)

    for one in (common.console, common.screen):
        monkeypatch.setattr(one, "_width", 200)

    def call(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(word) for word in words])
        return result.exit_code, result.output

    assert call("run", config, "--quiet")[0] == 0
    code, told = call("evaluate", config, "--events", "--table", tmp_path / "floods.csv")
    assert code == 0, told
    with (tmp_path / "floods.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["gauge"] for row in rows] == [gauge_id[0]]
    assert rows[0]["flood_peak"] == str(START + np.timedelta64(PEAK, "h"))
    assert float(rows[0]["Epf_observed"]) == pytest.approx(flow[PEAK, 0], rel=1e-8)
    assert (tmp_path / f"run_{gauge_id[0]}_flood_20010313T170000.png").read_bytes().startswith(b"\x89PNG")
    assert f"gauge {gauge_id[1]}: the flood of 2001-03-03T07:00:00 is left out: the record begins" in told
    assert f"gauge {gauge_id[3]}: has no observations" in told

    code, told = call("evaluate", config, "--signatures", "--table", tmp_path / "whole.csv")
    assert code == 0, told
    assert "Crch2r" in told
    with (tmp_path / "whole.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[2]["Cfp50_observed"]) == pytest.approx(1.05, rel=1e-3)
    assert rows[3]["Crc_observed"] == "" == rows[3]["Crc_simulated"]

    code, told = call("evaluate", config, "--events", "--to", "2001-03-15T23:00:00")
    assert (code, "has 359 h" in told, "expected at least 360" in told) == (1, True, True)
    code, told = call("evaluate", change_config(config, forcing="caller"), "--events")
    assert (code, "expected a file with precipitation" in told) == (1, True)
    assert call("evaluate", config, "--events", "--by", "day")[0] == 2
    assert call("evaluate", config, "--events", "--balance")[0] == 2
    for words in ((), ("--signatures",)):
        code, told = call("evaluate", config, *words, "--flood-quantile", "0.9")
        assert (code, "--flood-quantile goes with --events" in told) == (2, True)


@pytest.fixture(scope="module")
def cance() -> tuple[list[dict[str, np.ndarray]], list[str], np.ndarray]:
    """Rain, flows and area of three gauges of the Cance; its missing hour of rain, negative there, as dry."""
    path = REFERENCES / "ref_smash_cance_events_series.nc"
    if not path.is_file():
        pytest.skip("the reference values are not there")
    with netCDF4.Dataset(path) as dataset:
        series = {name: np.asarray(dataset[name][:], np.float64) for name in ("precipitation", "observed", "simulated")}
        area = np.asarray(dataset["area"][:]) / 1e6
    return [{name: of[g] for name, of in series.items()} for g in range(3)], ["V3524010", "V3515010", "V3517010"], area


def rows_of(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((REFERENCES / f"ref_smash_cance_{name}.csv").read_text().splitlines()))


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "quantile", "n"), [("events", 0.995, 6), ("events_q98", 0.98, 9)])
def test_floods_of_the_cance_are_those_of_the_reference(cance, name, quantile, n):
    begin, found = np.datetime64("2014-09-15T00", "h"), []
    for gauge, code in zip(cance[0], cance[1], strict=True):
        rain = np.maximum(gauge["precipitation"], 0)
        for event in find_events(rain, gauge["observed"], HOUR, quantile)[0]:
            times = [str((begin + t).astype("datetime64[s]")).replace("T", " ") for t in event[:4]]
            found.append([code, *times, str(event.several)])
    columns = ("code", "start", "end", "maxrainfall", "flood", "multipeak")
    assert found == [[row[column] for column in columns] for row in rows_of(name)]
    assert len(found) == n


@pytest.mark.shared_data
def test_signatures_of_the_cance_are_those_of_the_reference(cance):
    """The reference takes the first quick flow of a series from another pass: 1.3e-3 at most."""
    events = {"observed": rows_of("signatures_obs_event"), "simulated": rows_of("signatures_sim_event")}
    whole = {"observed": rows_of("signatures_obs_continuous"), "simulated": rows_of("signatures_sim_continuous")}
    place = 0
    for g, gauge in enumerate(cance[0]):
        rain, flows = np.maximum(gauge["precipitation"], 0), (gauge["observed"], gauge["simulated"])
        of_period = read_period(rain, *flows, HOUR, cance[2][g])
        for flow in ("observed", "simulated"):
            for name, value in getattr(of_period, flow).items():
                assert value == pytest.approx(float(whole[flow][g][name]), rel=1.5e-3), (flow, g, name)
        for event in find_events(rain, gauge["observed"], HOUR)[0]:
            read = read_event(event, rain, *flows, HOUR, cance[2][g])
            for flow in ("observed", "simulated"):
                for name, value in getattr(read, flow).items():
                    assert value == pytest.approx(float(events[flow][place][name]), rel=1.5e-3), (flow, place, name)
            place += 1
    assert place == 6
