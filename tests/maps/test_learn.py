"""What is held out of which regression, settings that are kept, files of maps: on made basins, without a record."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest

from bmi_cdlm.maps.basins import UNITS, signatures_of
from bmi_cdlm.maps.config import SignaturesConfig
from bmi_cdlm.maps.files import Maps, check_unseen, fold_of, read_maps
from bmi_cdlm.maps.learn import ALL, FOLD, NAIVE, REGION, SITE, Task, _held, learn, make_splits, r2, task_of
from bmi_cdlm.maps.models import MODELS, TRANSFORMS, make_model, search
from bmi_cdlm.names.errors import ConfigError, ParameterError

pytest.importorskip("sklearn")
N = 12


def config(tmp_path: Path, **keys: object) -> SignaturesConfig:
    return SignaturesConfig.model_validate({
        "output": tmp_path / "maps.nc", "predictors": ["wetness", "height"], "models": ["k_nearest"], "search": 0,
        "folds": 3, "regions": 2, "inner_folds": 2, **keys,
    })


def basins(**keys: object) -> SimpleNamespace:
    """Six rivers of two gauges each, the second below the first; gauge 11 is not usable."""
    rng = np.random.default_rng(4)
    upper = np.arange(N) % 2 == 0
    above = np.zeros((N, N), bool)
    above[np.flatnonzero(~upper), np.flatnonzero(upper)] = True
    place = np.stack([np.where(np.arange(N) < 6, 0.0, 1.0), rng.normal(0, 0.01, N), rng.normal(0, 0.01, N)], axis=1)
    usable = np.ones(N, bool)
    usable[11] = False
    means = rng.uniform(0, 1, (N, 2))
    return SimpleNamespace(**{
        "ids": [f"g{k}" for k in range(N)], "usable": usable, "above": above, "nested": above | above.T,
        "fold": np.arange(N) // 2 % 3, "place": place, "tree": np.arange(N) // 2, "means": means,
        "targets": {"mean_runoff": 100 + 500 * means[:, 0], "baseflow_index": np.full(N, 0.5)},
    } | keys)


def by_design(splits) -> dict:
    found: dict = {}
    for split in splits:
        found.setdefault(split.design, []).append(split)
    return found


def test_a_gauge_and_what_is_above_it_are_left_out_together(tmp_path: Path) -> None:
    found = by_design(make_splits(basins(), config(tmp_path)))
    assert {name: len(own) for name, own in found.items()} == {ALL: 1, SITE: 11, FOLD: 3, NAIVE: 3, REGION: 2}
    lower = next(one for one in found[SITE] if one.name == "g3")
    assert np.flatnonzero(lower.held_out).tolist() == [3]
    assert np.flatnonzero(~lower.fitted).tolist() == [2, 3, 11], "itself, the one above, and what cannot be used"
    upper = next(one for one in found[SITE] if one.name == "g2")
    assert np.flatnonzero(~upper.fitted).tolist() == [2, 11]
    both = by_design(make_splits(basins(), config(tmp_path, nested="both")))[SITE]
    assert np.flatnonzero(~next(one for one in both if one.name == "g2").fitted).tolist() == [2, 3, 11]


@pytest.mark.parametrize("design", [FOLD, REGION])
def test_nothing_nested_is_fitted_beside_what_is_held_out(tmp_path: Path, design: str) -> None:
    made = basins()
    splits = by_design(make_splits(made, config(tmp_path)))[design]
    for split in splits:
        assert not (split.fitted & split.held_out).any()
        assert not made.nested[np.ix_(split.fitted, split.held_out)].any()
        assert not (split.fitted | split.held_out)[~made.usable].any()
    assert sum(split.held_out for split in splits)[made.usable].tolist() == [1] * 11, "each is held out once"


def test_a_random_split_holds_each_out_once_and_is_the_same_again(tmp_path: Path) -> None:
    first, again = (by_design(make_splits(basins(), config(tmp_path)))[NAIVE] for _ in range(2))
    assert sum(one.held_out.astype(int) for one in first)[:11].tolist() == [1] * 11
    assert all((a.held_out == b.held_out).all() for a, b in zip(first, again, strict=True))
    other = by_design(make_splits(basins(), config(tmp_path, seed=9)))[NAIVE]
    assert any((a.held_out != b.held_out).any() for a, b in zip(first, other, strict=True))
    assert SITE not in by_design(make_splits(basins(), config(tmp_path, leave="fold", regions=0)))
    assert REGION not in by_design(make_splits(basins(), config(tmp_path, regions=0)))


def test_a_split_that_leaves_too_few_is_refused(tmp_path: Path) -> None:
    one_fold = basins(fold=np.zeros(N, np.int64))
    with pytest.raises(ConfigError, match=r"signatures: leave-fold-out 0 leaves 0 gauges to fit\. Ask for fewer folds"):
        make_splits(one_fold, config(tmp_path))


def test_the_key_of_a_task_is_all_that_its_result_depends_on(tmp_path: Path) -> None:
    made, keys = basins(), config(tmp_path)
    split = make_splits(made, keys)[1]
    task = task_of(made, keys, split, "mean_runoff", "k_nearest")
    assert task.x.shape == (int(split.fitted.sum()), 2) and task.asked.shape == (1, 2)
    assert task_of(made, keys, split, "mean_runoff", "k_nearest").key == task.key
    changed = [
        task._replace(x=task.x + 1e-12), task._replace(y=task.y[::-1]), task._replace(groups=task.groups * 2),
        task._replace(asked=task.asked[:0]), task._replace(seed=2), task._replace(n_search=3),
        task._replace(inner_folds=5), task._replace(model="random_forest"), task._replace(target="baseflow_index"),
    ]
    assert len({task.key, *(one.key for one in changed)}) == 10
    assert task.settings() == {}, "typical settings without a search"


def test_what_was_learned_is_kept_and_what_a_kill_has_cut_is_learned_again(tmp_path: Path) -> None:
    made, keys = basins(), config(tmp_path, targets=["mean_runoff"])
    splits = make_splits(made, keys)
    said: list[str] = []
    found = learn(made, keys, splits, said.append)
    assert len(found) == len(splits) and said == [f"{len(splits)} of {len(splits)} regressions"]
    predicted = found["mean_runoff", "k_nearest", SITE, "g3"].predicted
    assert list(predicted) == ["g3"] and 100 <= predicted["g3"] <= 600
    file = keys.output.with_suffix(".jsonl")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[-1][:20]]))
    said.clear()
    assert learn(made, keys, splits, said.append) == found
    assert said == [f"{len(splits) - 1} of {len(splits)} regressions were learned before", "1 of 1 regressions"]


@pytest.mark.parametrize("line", [b'["abc', b"7", b"[]", b'["k", 1, 2]', b"\0\0\0", b"\xff\xfe", b'["k", {}, ["x"]]'])
def test_a_line_that_is_none_of_ours_is_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_bytes(b'["a", {"n": 3}, [1, 2.5]]\n' + line + b'\n["b", {}, []]\n')
    assert _held(path) == {"a": ({"n": 3}, [1.0, 2.5]), "b": ({}, [])}
    assert _held(tmp_path / "none.jsonl") == {}


# ---- regressions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("target", list(UNITS))
def test_a_regression_stays_where_its_target_can_be(name, target) -> None:
    """Runoff is no less than 0, an index from 0 to 1, also far from what was seen; the same seed gives the same."""
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, (25, 2))
    y = 800 * x[:, 0] ** 2 if target == "mean_runoff" else x[:, 0]
    few = {"n_estimators": 10} if name in ("random_forest", "gradient_boosting") else {}
    own, again = (make_model(name, target, few, 3).fit(x, y) for _ in range(2))
    asked = np.array([[-50.0, 0.0], [50.0, 1.0], [0.5, 0.5]])
    got = own.predict(asked)
    np.testing.assert_array_equal(got, again.predict(asked))
    assert (got >= 0).all() and (target == "mean_runoff" or (got <= 1).all())
    assert r2(own.predict(x), y) > 0.5


def test_transforms_and_their_inverses() -> None:
    depth, index = np.array([0.0, 4.0, 900.0]), np.array([0.0, 0.3, 1.0])
    for target, values in (("mean_runoff", depth), ("baseflow_index", index)):
        forward, back = TRANSFORMS[target]
        np.testing.assert_allclose(back(forward(values)), values, rtol=1e-15)
    assert TRANSFORMS["mean_runoff"][1](np.array([-3.0])) == [0.0]
    assert TRANSFORMS["baseflow_index"][1](np.array([-0.2, 1.3])).tolist() == [0.0, 1.0]


def test_a_search_gives_settings_that_json_holds() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, (12, 2))
    found = search("k_nearest", "baseflow_index", x, x[:, 0], np.arange(12) // 2, 4, 3, 1)
    assert set(found) == {"n_neighbors", "weights"} and json.loads(json.dumps(found)) == found
    assert 2 <= found["n_neighbors"] < 5, "no more neighbours than half of what a fold is fitted to"
    assert found == search("k_nearest", "baseflow_index", x, x[:, 0], np.arange(12) // 2, 4, 3, 1)
    task = Task("k_nearest", "baseflow_index", x, x[:, 0], np.arange(12) // 2, x[:0], 4, 3, 1)
    assert task.settings() == found


# ---- signatures ---------------------------------------------------------------------------------------------


def test_mean_runoff_of_a_record_with_gaps() -> None:
    """1 m3 s-1 from 86.4 km2 is 1 mm d-1."""
    starts = np.arange("2001-01-01", "2001-03-02", dtype="datetime64[D]").astype("datetime64[s]")
    flow = np.where(np.arange(starts.size) % 2 == 0, 2.0, 4.0)
    flow[10:14] = np.nan
    found = signatures_of(flow, starts, 86.4)
    assert found["mean_runoff"] == pytest.approx(3.0 * 365.2425, rel=1e-3)
    assert 0.5 < found["baseflow_index"] < 1.0
    constant = signatures_of(np.full(starts.size, 5.0), starts, 86.4)
    assert constant["baseflow_index"] == pytest.approx(1.0)
    nothing = signatures_of(np.full(starts.size, np.nan), starts, 86.4)
    assert np.isnan(list(nothing.values())).all()


def test_r2_of_the_mean_is_0_and_of_the_truth_1() -> None:
    y = np.array([1.0, 2.0, 6.0])
    assert r2(y, y) == 1.0 and r2(np.full(3, 3.0), y) == 0.0 and r2(np.array([1.0, 2.0, 3.0]), y) == 1 - 9 / 14


# ---- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def maps_file(tmp_path: Path) -> Path:
    """Maps of three cells and four gauges; the map of fold 0 never saw g0 and g1, that of fold 1 never g2 and g3."""
    path = tmp_path / "maps.nc"
    with netCDF4.Dataset(path, "w") as out:
        for name, size in (("cell", 3), ("gauge", 4), ("fold", 2)):
            out.createDimension(name, size)
        out.createVariable("cell_id", str, ("cell",))[:] = np.array(["c2", "c0", "c1"], object)
        out.createVariable("gauge_id", str, ("gauge",))[:] = np.array(["g0", "g1", "g2", "g3"], object)
        out.createVariable("gauge_seen", "i1", ("fold", "gauge"))[:] = [[0, 0, 1, 1], [1, 1, 0, 0]]
        out.createVariable("gauge_used", "i1", ("gauge",))[:] = [1, 1, 1, 0]
        out.createVariable("hysep_window", "i4", ())[...] = 5
        out.createVariable("mean_runoff", "f8", ("cell",))[:] = [2.0, 0.0, 1.0]
        out.createVariable("mean_runoff_fold", "f8", ("fold", "cell"))[:] = [[12.0, 10.0, 11.0], [22.0, 20.0, 21.0]]
    return path


DOMAIN = SimpleNamespace(cells=SimpleNamespace(id=["c0", "c1", "c2"]))


def test_maps_are_read_in_the_order_of_the_domain(maps_file: Path) -> None:
    whole = read_maps(maps_file, DOMAIN)
    assert whole.values["mean_runoff"].tolist() == [0.0, 1.0, 2.0] and list(whole.values) == ["mean_runoff"]
    assert (whole.window, whole.seen, whole.fold) == (5, ("g0", "g1", "g2"), None)
    fold = read_maps(maps_file, DOMAIN, 1)
    assert fold.values["mean_runoff"].tolist() == [20.0, 21.0, 22.0] and (fold.seen, fold.fold) == (("g0", "g1"), 1)
    for asked in (2, -1):
        with pytest.raises(ConfigError, match=rf"has maps of folds 0 to 1, and {asked} is asked for"):
            read_maps(maps_file, DOMAIN, asked)
    other = SimpleNamespace(cells=SimpleNamespace(id=["c0", "c9"]))
    with pytest.raises(ParameterError, match="'cell_id' has no c9"):
        read_maps(maps_file, other)
    with netCDF4.Dataset(maps_file, "a") as out:
        out.renameVariable("gauge_seen", "x")
    with pytest.raises(ParameterError, match=r"holds no maps of mean_runoff or baseflow_index"):
        read_maps(maps_file, DOMAIN)


def test_the_fold_that_saw_none_of_some_gauges(maps_file: Path) -> None:
    assert fold_of(maps_file, ["g1"]) == 0 and fold_of(maps_file, ["g2", "g3"]) == 1
    assert fold_of(maps_file, []) is None and fold_of(maps_file, ["elsewhere"]) is None
    with pytest.raises(ConfigError, match=r"every map was learned from one of the gauges g1, g2"):
        fold_of(maps_file, ["g1", "g2"])


def test_a_map_is_not_validated_at_a_gauge_that_it_saw() -> None:
    maps = Maps({}, 5, ("g0", "g2"), None)
    check_unseen(maps, "maps.nc", ["g1", "g3"])
    with pytest.raises(ConfigError, match=r"the maps of all gauges were learned from gauge g2 \(1 of 2 that are"):
        check_unseen(maps, "maps.nc", ["g1", "g2"])
    with pytest.raises(ConfigError, match="the maps of fold 1 were learned from gauge g0"):
        check_unseen(maps._replace(fold=1), "maps.nc", ["g0"])
