"""Rain above gauges, weights of cells, JSON, classes and running medians: by hand on domains of a few cells."""

from __future__ import annotations

import json
import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import DAY, HOUR, START, change_config, write_config, write_series
from make_domain import Field, domain_fields, write_domain

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.as_json import scores_as_json
from bmi_cdlm.evaluate.evaluation import GaugeResult, basin_rain, cell_weights, evaluate, gauge_areas, rain_above
from bmi_cdlm.evaluate.metrics import (
    am3,
    fhv,
    fms,
    high_flow_error,
    kge,
    kge_parts,
    kge_prime,
    low_flow_mae,
    nse,
    pbias,
    pcc,
    ranked_probability,
)
from bmi_cdlm.evaluate.places import reach_places, together
from bmi_cdlm.evaluate.summary import (
    area_class,
    bootstrap,
    compare,
    make_groups,
    number,
    running,
    summarise,
    write_scores,
)
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.run.config import load_config

AREAS = [2.0, 6.0, 4.0]
"""Of the cells of a river of two reaches: c0 and half of c1 drain to the upper, c2 and the other half to the lower."""


@pytest.fixture
def fields() -> dict[str, Field]:
    made = domain_fields(
        np.array([1, -1]), np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), np.array([2.0, 3.0, 3.0, 4.0]), 3,
        np.array([0, 1]), np.random.default_rng(1),
    )
    return {**made, "gauge_area": Field(("gauge",), "km2", np.array([np.nan, 12.5]))}


@pytest.fixture
def case(tmp_path: Path, fields):
    """A configuration of that river with rain [mm d-1] over six steps."""

    def write(rain: np.ndarray, step: int = DAY, **keys: object) -> Path:
        write_domain(tmp_path / "domain.nc", fields)
        demand = np.ones(rain.shape)
        write_series(
            tmp_path / "forcing.nc", "cell", np.array(["c0", "c1", "c2"], object),
            {"precipitation": (rain, "mm d-1"), "potential_evapotranspiration": (demand, "mm d-1")}, START, step,
        )
        return write_config(tmp_path / "case.yaml", {
            "domain": "domain.nc", "forcing": "forcing.nc", "start": str(START),
            "end": str(START + np.timedelta64(rain.shape[0] * step, "s")),
            "time_step": "1 d" if step == DAY else "1 h", "output": "run.nc",
        }, **keys)

    return write


RAIN = np.array([[10.0, 0.0, 5.0], [0.0, 10.0, 5.0], [1.0, 1.0, 1.0], [0.0, 0.0, 20.0], [4.0, 0.0, 0.0], [0.0] * 3])
ABOVE = np.array([4.0, 6.0, 1.0, 0.0, 1.6, 0.0])
OUTLET = np.array([(2 * a + 6 * b + 4 * c) / 12 for a, b, c in RAIN])


def test_cells_weigh_by_what_of_them_drains_to_the_gauge(tmp_path: Path, fields) -> None:
    domain = read_domain(write_domain(tmp_path / "domain.nc", fields))
    upper, outlet = (domain.reaches.id.index(name) for name in ("r0", "r1"))
    np.testing.assert_allclose(cell_weights(domain, upper), [0.4, 0.6, 0.0])
    np.testing.assert_allclose(cell_weights(domain, outlet), [2 / 12, 6 / 12, 4 / 12])
    assert gauge_areas(domain) == {"g0": 5.0, "g1": 12.5}, "the official area where it is known"


def test_rain_above_gauges_is_the_mean_over_what_drains_there(case) -> None:
    config = load_config(case(RAIN))
    found = basin_rain(config, read_domain(config.domain))
    np.testing.assert_allclose(found["g0"], ABOVE, rtol=1e-14)
    np.testing.assert_allclose(found["g1"], OUTLET, rtol=1e-14)


def test_rain_of_hours_is_a_depth_per_step_of_the_output(case) -> None:
    config = load_config(case(RAIN, HOUR))
    np.testing.assert_allclose(basin_rain(config, read_domain(config.domain))["g0"], ABOVE / 24, rtol=1e-14)
    means = load_config(change_config(config.domain.with_name("case.yaml"), output_step="3 h"))
    found = basin_rain(means, read_domain(config.domain))["g0"]
    np.testing.assert_allclose(found, [11.0 / 24, 1.6 / 24], rtol=1e-14)


def result(starts: np.ndarray, gauge: str = "g0", **keys: object) -> GaugeResult:
    series = np.arange(float(starts.size))
    return GaugeResult(gauge, gauge, starts, series, series, {}, 5.0)._replace(**keys)


def test_rain_beside_an_output_is_that_of_its_own_days(case) -> None:
    """Also where the configuration begins elsewhere by now; it is an error where the forcing has none for it."""
    path = case(RAIN)
    starts = START + np.arange(6) * np.timedelta64(DAY, "s")
    later = load_config(change_config(path, start=str(starts[2]), end=str(starts[5])))
    for own in (load_config(path), later):
        for first, last in ((0, 6), (1, 4), (4, 6)):
            found = rain_above(own, [result(starts[first:last])])
            np.testing.assert_allclose(found["g0"], ABOVE[first:last], rtol=1e-14)
    with pytest.raises(ForcingError, match=r"covers 2001-03-01.* to 2001-03-07"):
        rain_above(later, [result(starts - np.timedelta64(DAY, "s"))])
    assert rain_above(later, [result(starts[::2])]) is None, "means of months have no rain beside them"


def test_a_run_without_rain_has_none_beside_its_hydrographs(case) -> None:
    path = case(RAIN)
    with netCDF4.Dataset(path.parent / "forcing.nc", "a") as dataset:
        dataset.renameVariable("precipitation", "given_runoff")
    routing_alone = load_config(change_config(path, runoff="caller"))
    assert routing_alone.inputs == ["given_runoff"]
    assert basin_rain(routing_alone, read_domain(routing_alone.domain)) is None
    stepped = load_config(change_config(path, forcing="caller"))
    assert basin_rain(stepped, read_domain(stepped.domain)) is None


def test_gaps_of_rain_are_filled_as_in_the_run(case) -> None:
    rain = RAIN.copy()
    rain[2:4, 0] = np.nan
    path = case(rain, forcing_fill={"precipitation": "hold"}, forcing_fill_limit={"precipitation": "2 d"})
    config = load_config(path)
    expected = ABOVE.copy()
    expected[2:4] = [0.6, 0.0]
    np.testing.assert_allclose(basin_rain(config, read_domain(config.domain))["g0"], expected, rtol=1e-14)
    shorter = load_config(change_config(path, forcing_fill_limit={"precipitation": "1 d"}))
    with pytest.raises(ForcingError, match="in a gap of 2 steps or more"):
        basin_rain(shorter, read_domain(shorter.domain))


def test_what_evaluate_needs_is_named(case) -> None:
    for keys in ({}, {"observations": "o.nc", "output": None}, {"observations": "o.nc", "output_at": "reaches"}):
        config = load_config(case(RAIN, **keys))
        with pytest.raises(Exception, match=r"evaluate needs 'output', 'observations' and output_at: gauges; got"):
            evaluate(config)


def test_an_output_of_another_domain_is_told(case, caplog) -> None:
    path = case(RAIN, observations="observed.nc")
    rows = RAIN[:, 2:3]
    for name, variable in (("run.nc", "discharge"), ("observed.nc", "discharge")):
        write_series(
            path.parent / name, "gauge", np.array(["gone"], object), {variable: (rows, "m3 s-1")}, START, DAY
        )
    (found,) = evaluate(load_config(path))
    assert found.scores["nse"] == 1.0 and math.isnan(found.area)
    assert "gauge gone (of 1) is not in" in caplog.text


# ---- places -------------------------------------------------------------------------------------------------


def test_reaches_without_places_lie_in_the_middle_of_what_drains_to_them(tmp_path: Path, fields) -> None:
    where = {"cell_lon": [10.0, 11.0, 12.0], "cell_lat": [50.0, 51.0, 52.0]}
    made = {**fields, **{name: fields[name]._replace(values=np.array(own)) for name, own in where.items()}}
    told = read_domain(write_domain(tmp_path / "told.nc", made))
    assert np.array_equal(reach_places(told)[0], told.reaches.lon), "what the file says"
    bare = {name: field for name, field in made.items() if name not in ("reach_lon", "reach_lat")}
    domain = read_domain(write_domain(tmp_path / "bare.nc", bare))
    lon, lat = reach_places(domain)
    upper, outlet = (domain.reaches.id.index(name) for name in ("r0", "r1"))
    assert lon[upper] == pytest.approx((2 * 10 + 3 * 11) / 5) and lat[upper] == pytest.approx((2 * 50 + 3 * 51) / 5)
    assert lon[outlet] == pytest.approx((3 * 11 + 4 * 12) / 7)


@pytest.mark.parametrize("told", [True, False], ids=["reaches with places", "without"])
@pytest.mark.parametrize("east", [-179.9, 180.1], ids=["counted from -180", "counted on"])
def test_a_basin_across_180_degrees_is_one_on_a_map(tmp_path: Path, fields, told: bool, east: float) -> None:
    """Its cells lie within 0.2 degrees, and its reaches among them, not on the other side of the Earth."""
    made = {**fields, "cell_lon": fields["cell_lon"]._replace(values=np.array([179.9, 180.0, east]))}
    made["reach_lon"] = fields["reach_lon"]._replace(values=np.array([179.95, east]))
    if not told:
        made = {name: field for name, field in made.items() if name not in ("reach_lon", "reach_lat")}
    domain = read_domain(write_domain(tmp_path / "domain.nc", made))
    found = together(domain)
    assert np.ptp(found.cells.lon) == pytest.approx(0.2) and np.ptp(found.cells.corner_lon) < 0.3
    np.testing.assert_allclose((found.cells.lon - domain.cells.lon) % 360.0 % 360.0, 0.0, atol=1e-9)
    width = found.cells.corner_lon - found.cells.lon[:, None]
    np.testing.assert_allclose(width, domain.cells.corner_lon - domain.cells.lon[:, None], atol=1e-9)
    lon, _ = reach_places(domain)
    assert np.ptp(lon) < 0.2 and found.cells.lon.min() <= lon.min() and lon.max() <= found.cells.lon.max()
    assert together(found).cells.lon.tolist() == found.cells.lon.tolist()


def test_other_domains_stay_as_they_are(tmp_path: Path, fields) -> None:
    for places in ([5.0, 6.0, 7.0], [-179.0, 0.0, 179.0], [0.0, 120.0, 240.0]):
        made = {**fields, "cell_lon": fields["cell_lon"]._replace(values=np.array(places))}
        domain = read_domain(write_domain(tmp_path / "domain.nc", made))
        assert together(domain) is domain


# ---- scores by hand -----------------------------------------------------------------------------------------

FLOW, MODEL = np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 2.0, 4.0, 4.0])
"""Means 3 and 3; sums of squares about them 14 and 4; sum of products 6; squared errors 1, 0, 1, 4."""


@pytest.mark.parametrize(
    ("score", "value"),
    [(nse, 1 - 6 / 14), (pcc, 6 / math.sqrt(14 * 4)), (pbias, 0.0),
     (kge, 1 - math.sqrt((6 / math.sqrt(56) - 1) ** 2 + (math.sqrt(4 / 14) - 1) ** 2)),
     (kge_prime, 1 - math.sqrt((6 / math.sqrt(56) - 1) ** 2 + (math.sqrt(4 / 14) - 1) ** 2)),
     (fhv, 100 * (4 - 6) / 6), (low_flow_mae, 1.0)],
)
def test_scores_of_four_values(score, value: float) -> None:
    assert score(MODEL, FLOW) == pytest.approx(value, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_simulation_that_is_a_multiple(factor: float) -> None:
    """r is 1, alpha and beta are the factor, gamma is 1."""
    parts = kge_parts(factor * FLOW, FLOW)
    assert parts == pytest.approx((1.0, factor, factor), rel=1e-14) and parts.gamma == pytest.approx(1.0)
    assert kge(factor * FLOW, FLOW) == pytest.approx(1 - math.sqrt(2) * abs(factor - 1), rel=1e-12)
    assert kge_prime(factor * FLOW, FLOW) == pytest.approx(1 - abs(factor - 1), rel=1e-12)
    assert pbias(factor * FLOW, FLOW) == pytest.approx(100 * (factor - 1), rel=1e-12)
    assert fms(factor * FLOW, FLOW) == pytest.approx(0.0, abs=1e-9), "a factor moves a curve of logarithms as a whole"


def test_the_largest_flows_are_at_least_one() -> None:
    assert high_flow_error(MODEL, FLOW, 0.01) == pytest.approx(100 * (4 - 6) / 6)
    assert high_flow_error(MODEL, FLOW, 0.5) == pytest.approx(100 * (8 - 9) / 9)
    assert high_flow_error(MODEL, FLOW, 0.5, "obs_days") == pytest.approx(100 * (8 - 9) / 9)
    with pytest.raises(ValueError, match="ranking is 'days', expected 'own' or 'obs_days'"):
        high_flow_error(MODEL, FLOW, 0.5, "days")  # type: ignore[arg-type]


def test_a_year_with_a_leap_day_has_its_three_largest_days() -> None:
    starts = np.arange("2000-01-01", "2001-01-01", dtype="datetime64[D]").astype("datetime64[s]")
    o = np.ones(366)
    o[58:61] = 4.0, 7.0, 10.0  # 28 and 29 February, 1 March
    s = np.ones(366)
    s[200:203] = 3.0, 9.0, 3.0
    assert am3(s, o, starts) == pytest.approx(100 * (5.0 - 7.0) / 7.0, rel=1e-14)


def test_the_probability_score_of_one_member_is_its_error_and_a_spread_is_worth_something() -> None:
    observed = np.array([3.0, 3.0])
    assert ranked_probability(np.array([[5.0, 2.0]]), observed).tolist() == [2.0, 1.0]
    both = ranked_probability(np.array([[5.0, 3.0], [1.0, 3.0]]), observed)
    np.testing.assert_allclose(both, [2.0 - 4.0 / 4, 0.0])
    rng = np.random.default_rng(5)
    members, o = rng.gamma(2.0, 3.0, (7, 40)), rng.gamma(2.0, 3.0, 40)
    pairs = np.abs(members[:, None] - members[None]).mean(axis=(0, 1))
    np.testing.assert_allclose(ranked_probability(members, o), np.abs(members - o).mean(axis=0) - pairs / 2, rtol=1e-12)


# ---- many gauges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "told"),
    [(499.9, "< 500 km2"), (500.0, "500 to 1000 km2"), (1000.0, "1000 to 5000 km2"), (9999.0, "5000 to 10000 km2"),
     (10000.0, ">= 10000 km2"), (math.nan, "area unknown"), (0.0, "area unknown")],
)
def test_classes_of_area(area: float, told: str) -> None:
    assert area_class(area) == told


def test_groups_are_by_size_and_by_name_and_only_where_there_are_several() -> None:
    areas = {"a": 20_000.0, "b": 10.0, "c": math.nan, "d": 20.0}
    assert list(make_groups(areas)) == ["all", "< 500 km2", ">= 10000 km2", "area unknown"]
    assert make_groups(areas)["< 500 km2"] == ["b", "d"]
    regions = dict.fromkeys("abcd", "one")
    assert list(make_groups({"b": 1.0, "d": 2.0}, regions)) == ["all"]
    assert list(make_groups({"b": 1.0, "d": 2.0}, {"b": "z", "d": "a"})) == ["all", "a", "z"]


def test_a_row_tells_shares_of_gauges() -> None:
    own = {name: {"nse": value} for name, value in zip("abcde", (-1.0, 0.2, 0.6, 0.8, math.nan), strict=True)}
    (row,) = summarise(own, ("nse", "kge"), {"all": list(own), "none": ["e"]})
    assert (row.below_zero, row.above_half, row.close) == (0.25, 0.5, 1.0)
    assert row.middle.n == 4 and row.middle.median == pytest.approx(0.4)
    assert row.quartiles == pytest.approx((-0.1, 0.65))
    assert row.middle.low <= row.middle.median <= row.middle.high
    assert bootstrap(np.array([math.nan])).n == 0 and bootstrap(np.array([3.0]))[:3] == (3.0, 3.0, 3.0)
    paired = compare(own, {name: {"nse": 0.5} for name in own}, ("nse",), list(own))["nse"]
    assert paired.n == 4 and paired.median == pytest.approx(-0.1)


def test_running_medians_go_over_half_overlapping_windows() -> None:
    along = np.array([5.0, 1.0, 3.0, 2.0, 4.0, 6.0, math.nan, 7.0])
    found = running(along, 10 * along, windows=2)
    assert [(one.at, one.median) for one in found] == [(2.5, 25.0), (5.5, 55.0)]
    assert found[0].low == 17.5 and found[0].high == 32.5
    assert running(np.array([math.nan]), np.array([1.0])) == []
    assert running(np.array([2.0]), np.array([9.0])) == [(2.0, 9.0, 9.0, 9.0)]


def test_scores_in_a_table_and_as_json(tmp_path: Path) -> None:
    own = [
        result(np.zeros(1, "M8[s]"), "a", scores={"nse": 0.25, "n": 12.0}, area=7.5),
        result(np.zeros(1, "M8[s]"), 'b "x"', scores={"nse": math.nan, "n": 0.0}, area=math.nan),
    ]
    found = json.loads(scores_as_json(own, {"all": ["a", 'b "x"']}))
    assert found["gauges"]["a"] == {"name": "a", "area_km2": 7.5, "nse": 0.25, "n": 12}
    assert found["gauges"]['b "x"']["nse"] is None and found["gauges"]['b "x"']["area_km2"] is None
    assert found["groups"]["all"]["nse"]["n"] == 1 and "against" not in found
    write_scores(tmp_path / "t.csv", {one.gauge_id: one.scores for one in own}, {"area": lambda gauge: len(gauge)})
    assert (tmp_path / "t.csv").read_text().splitlines() == ["gauge,area,nse,n", "a,1,0.25,12", '"b ""x""",5,,0']
    assert (number(math.nan), number(1 / 3), number(1e-12)) == ("", "0.333333333", "1e-12")
