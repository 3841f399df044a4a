"""Climatology, distances, donors and their weights, and baselines beside trainings of every kind."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from cases import change_config
from click.testing import CliRunner
from make_domain import domain_fields, write_domain
from training_cases import at, write_training_case

from bmi_cdlm.domain.basins import basin_means, nested, upstream_gauges
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.calendars import at_seconds
from bmi_cdlm.names.time_steps import DAY
from cdlm_training import fits
from cdlm_training.cli import main
from cdlm_training.experiment.baselines import (
    HALF_WIDTH,
    choose_donors,
    climatology,
    distances,
    donor_weights,
    standardised,
)

CHAIN = 5
"""Reaches r0 <- r1 <- r2 <- r3, and r4 alone; a cell and a gauge on each."""


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    """A river with four gauges, and a basin beside it; cells along a meridian."""
    n = CHAIN
    every = np.arange(n)
    below = np.array([-1, 0, 1, 2, -1])
    fields = domain_fields(below, every, every, 1.0 + every, n, every, np.random.default_rng(1))
    fields["cell_lon"] = fields["cell_lon"]._replace(values=np.full(n, 0.5))
    fields["cell_lat"] = fields["cell_lat"]._replace(values=44.0 + 0.1 * every)
    for name, values in (("forest", 0.1 * every), ("clay", np.ones(n))):
        fields[f"cell_{name}"] = fields["cell_lon"]._replace(units="1", values=values)
    path = write_domain(tmp_path_factory.mktemp("chain") / "domain.nc", fields)
    return read_domain(path), path


def where(domain, name: str) -> int:
    return domain.gauges.id.index(name)


def test_gauges_above_and_nested_ones(domain):
    read, _ = domain
    above, close = upstream_gauges(read), nested(read)
    names = [f"g{k}" for k in range(CHAIN)]
    for a in names[:4]:
        for b in names[:4]:
            assert above[where(read, a), where(read, b)] == (a <= b), "b drains to a"
            assert close[where(read, a), where(read, b)]
        assert not close[where(read, a), where(read, "g4")]


def test_means_over_basins_are_by_area(domain):
    read, _ = domain
    forest = 0.1 * np.array([int(c[1:]) for c in read.cells.id])[:, None]
    found = basin_means(read, forest)[:, 0]
    assert found[where(read, "g3")] == pytest.approx(0.3)
    assert found[where(read, "g1")] == pytest.approx((2 * 0.1 + 3 * 0.2 + 4 * 0.3) / 9)
    assert found[where(read, "g4")] == pytest.approx(0.4)


def test_distances_in_place_and_in_attributes(domain):
    read, path = domain
    km = distances(read, path, None)
    middle = sum(44.0 + 0.1 * k for k in range(4) for _ in range(k + 1)) / 10  # of g0, by areas 1 to 4
    assert km[where(read, "g0"), where(read, "g4")] == pytest.approx(6371.0 * math.radians(44.4 - middle), rel=1e-6)
    np.testing.assert_allclose(km, km.T)
    assert not km.diagonal().any()
    apart = distances(read, path, ["forest", "clay"])
    means = basin_means(read, 0.1 * np.array([int(c[1:]) for c in read.cells.id])[:, None])[:, 0]
    expected = np.abs(means[:, None] - means) / means.std()
    np.testing.assert_allclose(apart, expected, rtol=1e-9), "what is the same everywhere tells nothing apart"


def test_cells_are_standardised_as_basins_are(domain):
    """By mean and spread over the basins that count, so that a cell which is as a basin lies at no distance from it."""
    read, _ = domain
    forest = 0.1 * np.array([int(c[1:]) for c in read.cells.id])[:, None]
    some = [where(read, "g0"), where(read, "g4")]
    basins, cells = standardised(read, forest, some)
    means = basin_means(read, forest)[some, 0]
    np.testing.assert_allclose(basins[:, 0], (means - means.mean()) / means.std())
    np.testing.assert_allclose(cells[:, 0], (forest[:, 0] - means.mean()) / means.std())
    assert cells[read.cells.id.index("c4"), 0] == pytest.approx(basins[1, 0])


def test_donors_are_never_nested_and_in_order(domain):
    read, path = domain
    km = distances(read, path, None)
    assert choose_donors(read, km, "g1", ["g0", "g1", "g2", "g3", "g4"], 10) == ["g4"]
    assert choose_donors(read, km, "g4", ["g0", "g1", "g2", "g3", "g4"], 3) == ["g3", "g2", "g1"]
    assert choose_donors(read, km, "g4", ["g0", "g4"], 3) == ["g0"]
    assert choose_donors(read, km, "g0", ["g1", "g2"], 3) == [], "all of them are nested with it"


def test_weights_of_donors_sum_to_one_and_a_twin_has_all():
    apart = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 1.0], [1e-200, 1.0, 1.0]])
    found = donor_weights(apart, "inverse_square")
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[0], np.array([16.0, 4.0, 1.0]) / 21)
    np.testing.assert_allclose(found[1], [0.5, 0.5, 0.0])
    assert np.isfinite(found).all() and found[2, 0] == pytest.approx(1.0)
    np.testing.assert_allclose(donor_weights(apart, "equal"), 1 / 3)


def test_climatology_by_hand_over_leap_years_and_the_turn_of_the_year():
    """The mean of all values within 15 days of the calendar day in the training years, whatever year they are of."""
    starts = np.arange(np.datetime64("2003-01-01"), np.datetime64("2006-01-01"))
    rng = np.random.default_rng(3)
    flow = rng.gamma(2.0, 3.0, (starts.size, 2))
    flow[rng.random(flow.shape) < 0.2] = np.nan
    last = 731  # two years, of which the second is a leap year
    found = climatology(flow, starts, 0, last)
    number = np.array([(t - t.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) for t in starts])
    for at_step in (0, 5, 59, 200, 364, 365 + 59, 730, 1090):
        apart = np.abs(number[:last] - number[at_step])
        near = np.minimum(apart, 366 - apart) <= HALF_WIDTH
        np.testing.assert_allclose(found[at_step], np.nanmean(flow[:last][near], axis=0), rtol=1e-12)
    np.testing.assert_array_equal(climatology(flow * np.r_[np.ones(last), np.full(365, 9.0)][:, None], starts, 0, last),
                                  found)


def test_climatology_of_a_calendar_of_thirty_days():
    """A year of 360 days has its own calendar days."""
    starts = at_seconds(DAY * np.arange(3 * 360), "360_day")
    flow = np.tile(np.arange(360.0), 3)[:, None]
    found = climatology(flow, starts, 0, 720)
    assert found[100] == found[460] == found[820] == pytest.approx(100.0)


def test_where_no_day_has_a_value_there_is_none():
    starts = np.arange(np.datetime64("2003-01-01"), np.datetime64("2004-01-01"))
    flow = np.full((365, 1), np.nan)
    flow[180] = 3.0
    found = climatology(flow, starts, 0, 365)[:, 0]
    assert np.isnan(found[180 - 16]) and np.isnan(found[180 + 16]) and (found[165:196] == 3.0).all()


# ---- beside trainings of every kind ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_training_case(tmp_path_factory.mktemp("beside"), train=[at(DAY, 0), at(DAY, 50)], epochs=1, updates=1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "keys"), [
    ("dropout", {"dropout": 0.5, "frozen": ["pet"], "pairs_per_update": 2, "updates": "cover"}),
    ("samples", {"loss": {"nse": 0, "rmse_comb": 1.0}, "gauge_weights": "equal"}),
    ("field", {"mapping": "distributed", "cell_attributes": [], "reach_attributes": [], "output": "local.nc",
               "regularisation": {"prior": 1.0, "weight": 1.0}, "optimizer": "lbfgs", "learning_rate": 1.0}),
])
def test_baselines_stand_beside_whatever_is_trained(case: Path, name: str, keys: dict, monkeypatch):
    """One parameter set for all, and donors of fits to single gauges, which the loss of the training guides."""
    monkeypatch.setattr(fits, "ITERATIONS", 2)
    monkeypatch.setattr("cdlm_training.experiment.run.write_report", lambda folder: folder)  # of its own tests
    old = yaml.safe_load(case.read_text())["training"]
    path = change_config(case, f"{name}.yaml", training={**old, **keys}, experiment={
        "output": name, "test": [at(DAY, 50), at(DAY, 70)], "designs": ["folds"], "folds": 2, "donors": 1,
        "baselines": ["lumped", "similar"], "similarity": ["forest"],
    })
    result = CliRunner().invoke(main, ["experiment", str(path)])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((case.parent / name / "scores.csv").read_text().splitlines()))
    models = {(row["model"], row["of"]) for row in rows if row["role"] == "unseen" and row["period"] == "test"}
    assert models == {("base", "seed 1"), ("lumped", "seed 1")} | {
        ("similar donors", of) for of in ("mean simulation", "mean parameters")
    }
    found = [np.load(file)["free"] for file in sorted((case.parent / name / "local").glob("*.npz"))]
    assert len(found) == 4 and all((a != b).any() for a, b in zip(found[1:], found[:-1], strict=True)), "each its own"
    kept = yaml.safe_load((case.parent / name / "local" / "config.yaml").read_text())["training"]
    assert kept["mapping"] == "uniform" and "pairs_per_update" not in kept
    assert kept["loss"] == ({"nse": 0.0, "rmse_log": 1.0} if name == "samples" else {"nse": 1.0})
