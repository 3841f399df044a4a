"""What an assimilation weighs, by hand: errors of observations, parts and their adjoints, what moved, what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bmi_cdlm.assimilate.assimilation import Analysis
from bmi_cdlm.assimilate.choice import Choice, Errors
from bmi_cdlm.assimilate.correlation import Correlated, Independent, make_fields
from bmi_cdlm.assimilate.cost import LEAST_RUNOFF, Fit, Observed, Scored, deviations, scaled
from bmi_cdlm.assimilate.parts import Moved, Parts, RainPart, Setting, StorePart, scale_of
from bmi_cdlm.assimilate.report import findings, fit_table, moved_table
from bmi_cdlm.assimilate.transform import Within
from bmi_cdlm.commands.assimilate import _error_of, _fit
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.sensitivity import Gradients
from bmi_cdlm.names.declaration import Store
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY, HOUR

INFINITE = float("inf")


# ---- errors of observations --------------------------------------------------------------------------------


def test_the_error_of_an_observation_is_a_share_of_it_and_one_of_the_mean() -> None:
    flow = np.array([[2.0, np.nan], [6.0, 1.0]])
    found = deviations(flow, np.array([10.0, 10.0]), Errors(flow=0.1, floor=0.5, time=HOUR), DAY)
    np.testing.assert_allclose(found, [[0.2 + 2.0, np.nan], [0.6 + 2.0, 0.1 + 0.5]], rtol=1e-14)


def test_a_river_that_is_nearly_dry_counts_as_a_tenth_of_a_millimetre() -> None:
    area = 864.0  # km2, of which 0.1 mm d-1 are 1 m3 s-1
    found = deviations(np.array([[0.0], [0.002]]), np.array([area]), Errors(flow=0.1, floor=0.5, time=HOUR), DAY)
    assert LEAST_RUNOFF == 0.1
    np.testing.assert_allclose(found.ravel(), [0.5, 0.5002], rtol=1e-12)


@pytest.mark.parametrize(("time", "step", "factor"), [(6 * HOUR, HOUR, 6), (HOUR, DAY, 1), (4 * DAY, DAY, 4)])
def test_observations_within_the_time_of_an_error_count_as_one(time: int, step: int, factor: int) -> None:
    """So many equal errors, each as much wider, weigh as one."""
    flow, area = np.full((factor, 1), 3.0), np.ones(1)
    alone = deviations(flow[:1], area, Errors(time=1), step)
    several = deviations(flow, area, Errors(time=time), step)
    assert (1 / several**2).sum() == pytest.approx((1 / alone**2).sum(), rel=1e-14)


def test_a_factor_on_rain_is_on_rain_alone() -> None:
    forcing = Forcing(np.array([[1.0, 2.0]]), np.array([[3.0, 3.0]]), None)
    assert scaled(forcing, None) is forcing
    found = scaled(forcing, np.array([2.0, 0.5]))
    assert found.precipitation.tolist() == [[2.0, 1.0]] and found.potential_evapotranspiration.tolist() == [[3.0, 3.0]]
    assert forcing.precipitation.tolist() == [[1.0, 2.0]], "what was given stays"


# ---- fields -------------------------------------------------------------------------------------------------


def test_without_a_length_each_place_is_by_itself() -> None:
    fields = make_fields(np.arange(3.0), np.zeros(3), 0.0)
    assert isinstance(fields, Independent) and fields.size == 3
    w = np.array([1.0, -2.0, 0.5])
    assert fields.field(w).tolist() == fields.adjoint(w).tolist() == w.tolist()


def test_places_at_one_spot_have_one_value_and_far_ones_have_nothing_in_common() -> None:
    fields = Correlated(np.array([10.0, 10.0, 11.0]), np.array([50.0, 50.0, 50.0]), 5.0)
    rows = np.stack([fields.field(np.eye(1, fields.size, k).ravel()) for k in range(fields.size)], axis=1)
    covariance = rows @ rows.T
    np.testing.assert_allclose(np.diag(covariance), 1.0, rtol=1e-12)
    assert covariance[0, 1] == pytest.approx(1.0, rel=1e-12)
    assert covariance[0, 2] == 0.0, "1 degree is 71 km here, 14 lengths"


def test_a_basin_across_the_date_line_is_one() -> None:
    lat = np.array([-17.0, -17.0])
    across = Correlated(np.array([179.95, -179.95]), lat, 20.0)
    beside = Correlated(np.array([10.0, 10.1]), lat, 20.0)
    for w in np.random.default_rng(3).standard_normal((4, across.size)):
        np.testing.assert_allclose(across.field(w), beside.field(w), rtol=1e-9)


def test_a_length_far_below_the_distance_of_places_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"correlation: 0\.01 km is far below the distance of places \(2 of them\)"):
        make_fields(np.array([0.0, 5.0]), np.array([0.0, 5.0]), 0.01)


# ---- stores within bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [0.0, 3.0, 60.0, 97.0, 100.0])
def test_a_store_goes_up_with_its_number_and_never_beyond_its_bounds(background: float) -> None:
    within = Within(np.array([background]), np.array([20.0]), np.zeros(1), np.array([100.0]))
    d = np.linspace(-300, 300, 601)
    x = np.array([within.values(np.array([one]))[0] for one in d])
    assert within.values(np.zeros(1))[0] == background
    assert x.min() >= 0.0 and x.max() <= 100.0 and (np.diff(x) >= 0).all()
    slope = np.array([within.slope(np.array([one]))[0] for one in d])
    inside = (x > 1e-9) & (x < 100 - 1e-9)
    step = 1e-5
    differences = [(within.values(np.array([one + step])) - within.values(np.array([one - step])))[0] / (2 * step)
                   for one in d[inside]]
    np.testing.assert_allclose(slope[inside], differences, atol=1e-6)


def test_far_from_its_bounds_a_store_moves_by_what_it_is_told() -> None:
    within = Within(np.array([50.0]), np.array([5.0]), np.zeros(1), np.array([100.0]))
    for d in (-12.0, -1.0, 3.0, 20.0):
        assert within.values(np.array([d]))[0] == pytest.approx(50.0 + d, abs=1e-9)
        assert within.slope(np.array([d]))[0] == pytest.approx(1.0, abs=1e-9)


def test_without_deviation_or_room_nothing_moves() -> None:
    within = Within(np.array([5.0, 7.0]), np.array([0.0, 3.0]), np.array([0.0, 7.0]), np.array([10.0, 7.0]))
    assert within.values(np.array([4.0, 4.0])).tolist() == [5.0, 7.0]
    assert within.slope(np.array([4.0, 4.0])).tolist() == [0.0, 0.0]
    assert not within.at_bound(np.array([0.0, 7.0])).any()


@pytest.mark.parametrize(
    ("store", "high", "held", "expected"),
    [(Store("S", "mm", "", "", True), [100.0, 200.0], [10.0, 20.0], [100.0, 200.0]),
     (Store("S", "mm", "", "", True), [INFINITE] * 2, [10.0, 30.0], [50.0, 50.0]),
     (Store("S", "mm", "", "", True), [INFINITE] * 2, [100.0, 300.0], [200.0, 200.0]),
     (Store("R", "mm", "", "", True, start_of="X3"), [INFINITE] * 2, [10.0, 30.0], [90.0, 70.0])],
    ids=["capacity", "50 mm at least", "mean of what is held", "the parameter of its start"],
)
def test_what_the_error_of_a_store_is_a_share_of(store, high, held, expected) -> None:
    found = scale_of(store, np.array(held), np.array(high), {"X3": np.array([90.0, 70.0])})
    assert found.tolist() == expected


# ---- parts --------------------------------------------------------------------------------------------------


def store_part(background: np.ndarray, deviation: np.ndarray) -> StorePart:
    bounds = np.zeros(background.shape), np.full(background.shape, 100.0)
    return StorePart("soil", "mm", background, deviation, bounds, Independent(background.shape[-1]))


def test_components_of_a_cell_move_alike_and_their_adjoints_add_up() -> None:
    part = store_part(np.array([[40.0, 50.0], [60.0, 50.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    moved = part.values(np.array([1.0, -1.0])) - [[40.0, 50.0], [60.0, 50.0]]
    np.testing.assert_allclose(moved, [[1.0, -2.0], [3.0, -4.0]], atol=1e-9)
    gradients = Gradients({}, {}, {"soil": np.array([[1.0, 10.0], [100.0, 1000.0]])})
    pull = part.pull(gradients, np.zeros((1, 2)), np.zeros(2))
    np.testing.assert_allclose(pull, [1.0 + 300.0, 20.0 + 4000.0], rtol=1e-9)


def test_rain_is_moved_by_factors_that_are_never_negative() -> None:
    part = RainPart(0.3, Independent(2))
    np.testing.assert_allclose(part.values(np.array([0.0, -5.0])), [1.0, np.exp(-1.5)], rtol=1e-14)
    gradients = Gradients({"precipitation": np.array([[1.0, 2.0], [3.0, 4.0]])}, {}, {})
    rain = np.array([[5.0, 0.0], [1.0, 2.0]])
    pull = part.pull(gradients, rain, np.array([0.0, 1.0]))
    np.testing.assert_allclose(pull, [0.3 * (5.0 + 3.0), 0.3 * np.exp(0.3) * 8.0], rtol=1e-13)
    told = part.moved(np.array([3.5, -1.0]))
    assert (told.name, told.units, told.before, told.far, told.total) == ("factor on rain", "1", 1.0, 1, 2)
    assert told.largest == pytest.approx(np.exp(0.3 * 3.5) - 1)


def test_a_vector_is_cut_into_its_parts() -> None:
    parts = Parts([store_part(np.array([40.0, 50.0]), np.array([1.0, 2.0])), RainPart(0.5, Independent(3))])
    assert parts.size == 5
    setting = parts.setting(np.array([1.0, 0.0, 0.0, 2.0, 0.0]))
    np.testing.assert_allclose(setting.stores["soil"], [41.0, 50.0], atol=1e-9)
    np.testing.assert_allclose(setting.rain, [1.0, np.e, 1.0])
    assert setting.reach is None
    gradients = Gradients({"precipitation": np.ones((1, 3))}, {}, {"soil": np.array([1.0, 1.0])})
    pull = parts.pull(np.zeros(5), gradients, np.array([[1.0, 2.0, 0.0]]))
    np.testing.assert_allclose(pull, [1.0, 2.0, 0.5, 1.0, 0.0], rtol=1e-9)


def test_what_came_to_lie_at_a_bound_is_counted_and_what_lay_there_is_not() -> None:
    part = store_part(np.array([0.0, 5.0, 50.0]), np.full(3, 10.0))
    told = part.moved(np.array([-4.0, -4.0, 0.5]))
    assert (told.at_bound, told.far, told.total) == (1, 0, 3)
    assert told.before == pytest.approx(55 / 3) and told.largest == pytest.approx(5.0, abs=0.2)
    assert part.moved(np.array([0.0, 0.0, 3.1])).far == 1


# ---- what is told -------------------------------------------------------------------------------------------


def analysis(path: str = "a.nc", *, slope: float = 0.0, at_bound: int = 0, far: int = 0) -> Analysis:
    flow = np.array([[1.0, np.nan], [3.0, np.nan]])
    observed = Observed(np.zeros(2, "M8[s]"), ["g0", "g1"], np.arange(2), flow, np.ones((2, 2)))
    before = Scored(np.array([2.5, 0.0]), 0.0, np.array([[0.0, 9.0], [1.0, 9.0]]))
    after = Scored(np.array([0.5, 0.0]), 0.25, np.array([[1.0, 9.0], [2.0, 9.0]]))
    moved = [Moved("soil", "mm", 50.0, 55.0, -12.0, 5.0, at_bound, far, 40)]
    return Analysis(Path(path), observed, before, after, moved, Setting({}, None, None),
                    Fit(np.zeros(1), 7, 9, "done", slope))


def cells(table) -> list[list[str]]:
    return [list(row) for row in zip(*(column._cells for column in table.columns), strict=True)]


def test_the_cost_is_its_terms_and_the_background() -> None:
    assert analysis().after.cost == 0.75 and analysis().before.cost == 2.5
    rows = cells(fit_table([analysis()], "a fit"))
    assert rows[0] == ["g0", "2", "2.5", "0.5", f"{np.sqrt(2.5):.4g}", f"{np.sqrt(0.5):.4g}"]
    assert rows[1][:4] == ["g1", "0", "0", "0"], "a gauge without observations has no error"
    assert rows[2][:4] == ["background", "", "0", "0.25"] and rows[3][:4] == ["all", "", "2.5", "0.75"]
    members = fit_table([analysis(), analysis()], "a fit")
    assert members.title == "a fit, means of 2 members" and cells(members)[3][2:4] == ["2.5", "0.75"]


def test_how_far_a_store_was_moved() -> None:
    assert cells(moved_table([analysis(at_bound=3)])) == [["soil", "mm", "50", "55", "-12", "5", "3 of 40"]]


def test_what_a_user_should_know_is_said() -> None:
    assert findings([analysis()]) == ["gauge g1: has 0 of 2 observations in the window, and takes no part"]
    told = findings([analysis("a.nc", slope=0.02, far=2), analysis("b.nc", at_bound=5)])[1:]
    assert told[0] == "soil: 5 of 40 came to lie at a bound, where the fit would go beyond it"
    assert told[1].startswith("soil: 2 of 40 moved by more than 3 standard deviations")
    assert told[2] == "a.nc: 2 % of the gradient is left after 7 iterations. Give it more (--iterations)."
    assert len(told) == 3


# ---- words of the command -----------------------------------------------------------------------------------


def test_what_is_fitted_is_read_with_commas() -> None:
    assert _fit("stores") == ("stores",) and _fit(" rain, rivers ,rain") == ("rain", "rivers")
    for text in ("", "stores,", "store", "stores rivers"):
        with pytest.raises(ConfigError, match="cannot be fitted; expected some of stores, rivers, rain"):
            _fit(text)


def test_errors_of_stores_are_names_and_numbers_above_0() -> None:
    assert _error_of("routing_store=15") == ("routing_store", 15.0) and _error_of(" soil =1e-3") == ("soil", 1e-3)
    for text in ("soil", "soil=", "soil=0", "soil=-1", "soil=nan", "soil=inf", "soil=many", ""):
        with pytest.raises(ConfigError, match="expected a store and a number above 0"):
            _error_of(text)


def test_a_choice_has_customary_errors() -> None:
    """As the options of the command show them."""
    errors = Errors(0.05, {}, 0.3, 0.3, 0.1, 0.5, 6 * HOUR, 20.0)
    assert Choice(DAY) == Choice(DAY, None, ("stores",), None, None, errors)
