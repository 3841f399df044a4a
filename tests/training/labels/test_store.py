"""Label files: what is kept of labels, how restarts and models come together, and what else calls itself one."""

from __future__ import annotations

import math
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from make_domain import domain_fields, write_domain

from bmi_cdlm.domain.domain import Domain, Links, read_domain
from cdlm_training.fields import unbounded
from cdlm_training.labels.areas import main_owner, means, own_areas, shares
from cdlm_training.labels.store import (
    FARTHEST,
    JOINED,
    Column,
    LabelError,
    LabelSet,
    Sites,
    chosen,
    join_capacities,
    read_labels,
    save_labels,
)
from cdlm_training.labels.teach import site_weights
from cdlm_training.terms import Pretraining

COLUMNS = (
    Column("production_capacity", "mm", 1.0, 3000.0, "log", "capacity"),
    Column("exchange_coefficient", "mm d-1", -10.0, 5.0, "linear", "exchange"),
)
SITES = Sites("gauge", ["a", "b", "c"], np.array([1.0, 2.0, 3.0]), np.array([44.0, 45.0, 46.0]), np.array([5.0, 6, 7]))


def labels(model="gr4j", capacities=(100.0, 200.0, math.nan), kge=(0.5, 0.25, 0.9)) -> LabelSet:
    nothing = np.full(3, 30.0)
    values = np.stack([np.array(capacities), np.array([0.1, 0.2, 0.3])])
    return LabelSet(model, COLUMNS, "production_capacity", values, np.full((2, 3), 0.5), {
        "kge": np.array(kge), "kge_fitted": np.array(kge) + 0.05, "n_values": nothing}, "drawn")


def test_what_is_saved_is_read(tmp_path: Path):
    save_labels(tmp_path / "labels.nc", SITES, [labels(), labels("gr2m")], {
        "snow": "none", "time_step": "86400", "period": ["2001-01-01", "2003-01-01"], "fingerprints": {"domain": "x"},
    })
    found = read_labels(tmp_path / "labels.nc", "gr4j")
    assert list(found.sites.id) == ["a", "b", "c"] and found.sites.per == "gauge"
    np.testing.assert_array_equal(found.sites.area, SITES.area)
    assert found.columns == {c.name: c for c in COLUMNS} and found.period == ("2001-01-01", "2003-01-01")
    np.testing.assert_array_equal(found.values["production_capacity"], [100.0, 200.0, np.nan])
    np.testing.assert_array_equal(found.spread["exchange_coefficient"], 0.5)
    np.testing.assert_array_equal(found.kge, [0.5, 0.25, 0.9])
    assert found.record["snow"] == "none" and "cdlm" not in found.record["title"]
    with pytest.raises(LabelError, match=r"has labels of gr4j, gr2m, and the run has runoff: hbv"):
        read_labels(tmp_path / "labels.nc", "hbv")


@pytest.mark.parametrize("period", [None, "soon", "[1]", '["a", "b", "c"]'])
def test_labels_that_do_not_say_their_years_have_none(tmp_path: Path, period):
    record = {"snow": "none"} | ({} if period is None else {"period": period})
    save_labels(tmp_path / "labels.nc", SITES, [labels()], record)
    assert read_labels(tmp_path / "labels.nc", "gr4j").period is None


def test_files_that_are_no_labels_are_refused(tmp_path: Path):
    with pytest.raises(LabelError, match="there is no such file"):
        read_labels(tmp_path / "none.nc", "gr4j")
    (tmp_path / "text.nc").write_text("gauge,x1\n")
    with pytest.raises(LabelError):
        read_labels(tmp_path / "text.nc", "gr4j")
    with netCDF4.Dataset(tmp_path / "other.nc", "w") as data:
        data.createDimension("gauge", 2)
    with pytest.raises(LabelError, match="has labels of no model, and the run has runoff: gr4j"):
        read_labels(tmp_path / "other.nc", "gr4j")
    save_labels(tmp_path / "labels.nc", SITES, [labels()], {})
    with netCDF4.Dataset(tmp_path / "labels.nc", "a") as data:
        data.renameVariable("gr4j_production_capacity_spread", "lost")
    with pytest.raises(LabelError, match="gr4j_production_capacity_spread"):
        read_labels(tmp_path / "labels.nc", "gr4j")


def test_the_best_restart_and_the_spread_of_those_that_ended():
    """By hand: two of three restarts ended at the first site, all at the second, none at the third."""
    tries = np.array([
        [[10.0, 10.0, 10.0], [0.0, 0.0, 0.0]], [[100.0, 20.0, 10.0], [1.0, 1.0, 0.0]],
        [[50.0, 40.0, 10.0], [2.0, 2.0, 0.0]],
    ])
    cost = np.array([[0.5, 0.3, np.inf], [np.inf, 0.1, np.nan], [0.2, 0.4, np.inf]])
    values, spread = chosen(COLUMNS, tries, cost)
    np.testing.assert_array_equal(values, [[50.0, 20.0, np.nan], [2.0, 1.0, np.nan]])
    z = [unbounded(c, tries[:, k], FARTHEST) for k, c in enumerate(COLUMNS)]
    for k in range(2):
        np.testing.assert_allclose(spread[k, 0], np.std(z[k][[0, 2], 0]), rtol=1e-12)
        np.testing.assert_allclose(spread[k, 1], np.std(z[k][:, 1]), rtol=1e-12)
    assert np.isnan(spread[:, 2]).all()
    same = chosen(COLUMNS, np.repeat(tries[:1], 3, axis=0), np.ones((3, 3)))[1]
    np.testing.assert_allclose(same, 0.0, atol=1e-12)


def test_capacities_of_models_are_joined_in_logarithms_by_skill():
    both = [labels(), labels("gr2m", (400.0, 800.0, 10.0), (0.25, -1.0, 0.1))]
    joined = join_capacities(both)
    assert joined is not None
    expected = [math.exp((0.5 * math.log(100) + 0.25 * math.log(400)) / 0.75), 200.0, 10.0]
    np.testing.assert_allclose(joined, expected, rtol=1e-12)
    nothing = join_capacities([labels(kge=(-0.1, math.nan, 0.5))])
    assert nothing is not None and np.isnan(nothing).all(), "no skill, no skill, no label"
    assert join_capacities([labels()._replace(capacity=None)]) is None


def test_joined_capacities_stand_in_the_file(tmp_path: Path):
    save_labels(tmp_path / "labels.nc", SITES, [labels(), labels("gr2m", (400.0, 800.0, 10.0))], {})
    with netCDF4.Dataset(tmp_path / "labels.nc") as data:
        np.testing.assert_allclose(data[JOINED][:2], [200.0, 400.0])
        assert data[JOINED].units == "mm" and data["gr4j_kge"].units == "1"


@pytest.mark.parametrize(("keys", "expected"), [
    ({}, [0.5, 0.0, 0.0, 0.0]), ({"mask_below": 0.2}, [0.3, 0.0, 0.0, 0.0]),
    ({"mask_below": -1.0}, [1.5, 1.0, 0.7, 0.0]), ({"weight_by": "equal"}, [1.0, 1.0, 0.0, 0.0]),
    ({"weight_by": "equal", "mask_below": -0.3}, [1.0, 1.0, 1.0, 0.0]),
])
def test_what_sites_weigh(keys, expected):
    config = Pretraining(labels=Path("labels.nc"), **keys)
    np.testing.assert_allclose(site_weights(np.array([0.5, 0.0, -0.3, np.nan]), config), expected, atol=1e-12)


# ---- areas ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def river(tmp_path_factory) -> Domain:
    """r0 <- r1 <- r2, and r3 into r0; cells that lie in two areas; a gauge on every reach but r3."""
    links = np.array([[0, 0, 1.0], [1, 1, 2.0], [1, 2, 6.0], [2, 2, 3.0], [3, 3, 4.0]])
    fields = domain_fields(
        np.array([-1, 0, 1, 0]), links[:, 0].astype(np.int64), links[:, 1].astype(np.int64), links[:, 2], 4,
        np.array([0, 1, 2]), np.random.default_rng(0),
    )
    return read_domain(write_domain(tmp_path_factory.mktemp("river") / "domain.nc", fields))


def test_own_areas_shares_and_owners_by_hand(river: Domain):
    at = {g: k for k, g in enumerate(river.gauges.id)}
    areas = own_areas(river, [at["g0"], at["g1"], at["g2"]])
    np.testing.assert_allclose(areas.area, [1 + 4, 2, 9])
    assert areas.above == [[1], [2], []] and areas.order == [2, 1, 0] and np.unique(areas.tree).size == 1
    gauge, cell, share = shares(river, areas)
    own = {(int(g), river.cells.id[c]): s for g, c, s in zip(gauge, cell, share, strict=True)}
    assert own == {
        (0, "c0"): pytest.approx(1 / 5), (0, "c3"): pytest.approx(4 / 5), (1, "c1"): pytest.approx(1.0),
        (2, "c1"): pytest.approx(6 / 9), (2, "c2"): pytest.approx(3 / 9),
    }
    values = np.array([[10.0 * int(c[1:]) for c in river.cells.id], np.ones(4)])
    np.testing.assert_allclose(means(river, areas, values), [[0.8 * 30, 10.0, (6 * 10 + 3 * 20) / 9], np.ones(3)])
    owner = {c: int(k) for c, k in zip(river.cells.id, main_owner(river, areas), strict=True)}
    assert owner == {"c0": 0, "c1": 2, "c2": 2, "c3": 0}, "the larger part of c1 is above g2"


def test_areas_are_those_of_the_gauges_that_are_asked_for(river: Domain):
    at = {g: k for k, g in enumerate(river.gauges.id)}
    alone = own_areas(river, [at["g1"]])
    np.testing.assert_allclose(alone.area, [11.0])
    assert alone.above == [[]] and (alone.reach >= 0).sum() == 2
    nothing = own_areas(river._replace(links=Links(
        river.links.first, river.links.cell, np.where(river.links.area > 0, river.links.area, 0.0)
    )), [at["g2"], at["g2"]])
    assert nothing.has_own.tolist().count(True) == 1, "of two gauges on one reach one has the area"
    assert np.isnan(means(river, nothing, np.ones((1, 4)))).sum() == 1
