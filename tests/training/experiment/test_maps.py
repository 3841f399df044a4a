"""Which map of signatures a split takes, by the gauges that each was learned from; splits, their names and gauges."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from make_domain import domain_fields, write_domain

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.names.errors import ConfigError, DomainError, ObservationError
from cdlm_training.experiment.config import ExperimentConfig
from cdlm_training.experiment.maps import unseen_map
from cdlm_training.experiment.splits import make_splits

KEY = "baseflow_index_attribute"
TEST = (np.datetime64("2001-01-01"), np.datetime64("2002-01-01"))


def write_maps(path: Path, **seen: list[str] | None) -> Path:
    """A domain file with maps that say from which gauges they were learned, or do not (None)."""
    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("cell", 2)
        for name, gauges in seen.items():
            one = data.createVariable(f"cell_{name}", "f8", ("cell",))
            if gauges is not None:
                one.learned_from = json.dumps(gauges)
    return path


def test_a_split_takes_the_map_that_did_not_see_its_gauges(tmp_path: Path):
    path = write_maps(tmp_path / "d.nc", runoff=["a", "b", "c"], runoff_fold0=["b", "c"], runoff_fold1=["a"])
    assert unseen_map(path, "runoff", ["a"], KEY) == "runoff_fold0"
    assert unseen_map(path, "runoff", ["b", "c"], KEY) == "runoff_fold1"
    assert unseen_map(path, "runoff", [], KEY) == "runoff", "where none is held out the map of all gauges is best"
    assert unseen_map(path, "runoff", ["z"], KEY) == "runoff", "nobody has seen a gauge of elsewhere"
    assert unseen_map(path, "cell_runoff", ["a"], KEY) == "runoff_fold0", "however it is called"
    assert unseen_map(path, "runoff_fold1", ["b"], KEY) == "runoff_fold1", "named outright, and clean"


def test_a_split_that_every_map_saw_is_refused(tmp_path: Path):
    path = write_maps(tmp_path / "d.nc", runoff=["a", "b"], runoff_fold0=["b"], runoff_fold1=["a"])
    with pytest.raises(ConfigError, match=rf"training\.{KEY}: 'runoff' was learned from gauge a, .* its 2 folds"):
        unseen_map(path, "runoff", ["b", "a"], KEY)
    with pytest.raises(ConfigError, match="'runoff_fold1' was learned from gauge a"):
        unseen_map(path, "runoff_fold1", ["a"], KEY)


def test_maps_from_elsewhere_and_attributes_are_taken_as_they_are(tmp_path: Path):
    path = write_maps(tmp_path / "d.nc", runoff=None, forest=None, runoff_fold0=["a"])
    assert unseen_map(path, "runoff", ["a"], KEY) == "runoff"
    assert unseen_map(path, "grun", ["a"], KEY) == "grun", "that it is not there is said where it is read"
    with pytest.raises(DomainError, match="there is no such file"):
        unseen_map(tmp_path / "none.nc", "runoff", ["a"], KEY)


# ---- splits --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forest(tmp_path_factory) -> Domain:
    """Three rivers: g0 <- g1 <- g2, g3 <- g4 (and g5 on the same reach as g4), g6 alone."""
    below = np.array([-1, 0, 1, -1, 3, -1])
    n = below.size
    every = np.arange(n)
    gauges = np.array([0, 1, 2, 3, 4, 4, 5])
    fields = domain_fields(below, every, every, 1.0 + every, n, gauges, np.random.default_rng(1))
    return read_domain(write_domain(tmp_path_factory.mktemp("forest") / "domain.nc", fields))


def splits_of(domain: Domain, chosen=None, **keys):
    config = ExperimentConfig(output=Path("lab"), test=TEST, **keys)
    return make_splits(domain, config, domain.gauges.id if chosen is None else chosen)


def test_folds_keep_rivers_whole_and_hold_out_every_gauge_once(forest):
    found = splits_of(forest, designs=("folds",), folds=3)
    assert [split.name for split in found] == ["fold0", "fold1", "fold2"]
    held = [set(split.held_out) for split in found]
    assert sorted(map(sorted, held)) == [["g0", "g1", "g2"], ["g3", "g4", "g5"], ["g6"]]
    for split in found:
        assert set(split.fitted) == set(forest.gauges.id) - set(split.held_out)
    two = splits_of(forest, designs=("folds",), folds=2)
    assert sorted(g for split in two for g in split.held_out) == sorted(forest.gauges.id)
    with pytest.raises(ValueError, match="folds: 4 asked for, expected 1 to 3"):
        splits_of(forest, designs=("folds",), folds=4)


def test_upstream_and_downstream_by_the_river(forest):
    upstream, = splits_of(forest, designs=("upstream",))
    assert {"g0", "g3", "g6"} <= set(upstream.fitted) and {"g1", "g2"} <= set(upstream.held_out)
    downstream, = splits_of(forest, designs=("downstream",))
    assert {"g2", "g6"} <= set(downstream.fitted) and {"g0", "g1", "g3"} <= set(downstream.held_out)
    for split in (upstream, downstream):
        assert not set(split.fitted) & set(split.held_out)
        assert set(split.fitted) | set(split.held_out) == set(forest.gauges.id)


def test_gauges_without_records_are_held_out_and_never_fitted(forest):
    found = splits_of(forest, ["g0", "g3", "g6"], designs=("temporal", "folds"), folds=3)
    assert found[0].fitted == ("g0", "g3", "g6") and found[0].held_out == ()
    assert all(set(split.fitted) <= {"g0", "g3", "g6"} for split in found)
    assert sorted(g for split in found[1:] for g in split.held_out) == sorted(forest.gauges.id)
    with pytest.raises(ConfigError, match=r"folds leaves no gauge to fit \(fold\d\)"):
        splits_of(forest, ["g6"], designs=("folds",), folds=3)


def test_regions_have_folders_of_their_own(forest, tmp_path):
    table = tmp_path / "regions.csv"
    names = ["a/b", "a b", "../x", "A/B", "a/b", "a b", "ü"]
    table.write_text("region,gauge\n" + "".join(f"{name},g{k}\n" for k, name in enumerate(names)), encoding="utf-8")
    found = splits_of(forest, designs=("regions",), regions=table)
    assert len({split.name.lower() for split in found}) == len(set(names)), "also where case does not count"
    assert all(split.name and "/" not in split.name and not split.name.startswith(".") for split in found)
    by_gauge = {gauge: split.name for split in found for gauge in split.held_out}
    assert by_gauge["g0"] == by_gauge["g4"] and by_gauge["g1"] == by_gauge["g5"] and len(by_gauge) == 7
    table.write_text("gauge,region\ng0,a\n")
    with pytest.raises(ObservationError, match="has no region of gauge 'g1'"):
        splits_of(forest, designs=("regions",), regions=table)
    table.write_text("gauge,region\n" + "".join(f"g{k},all\n" for k in range(7)))
    with pytest.raises(ConfigError, match="regions leaves no gauge to fit"):
        splits_of(forest, designs=("regions",), regions=table)


def test_a_river_of_one_gauge_has_nothing_upstream(tmp_path):
    one = np.zeros(1, np.int64)
    fields = domain_fields(np.array([-1]), one, one, np.array([3.0]), 1, one, np.random.default_rng(1))
    domain = read_domain(write_domain(tmp_path / "domain.nc", fields))
    for design in ("upstream", "downstream"):
        with pytest.raises(ConfigError, match=f"{design} leaves no gauge to hold out"):
            splits_of(domain, designs=(design,))
    assert splits_of(domain, designs=("temporal",))[0].fitted == ("g0",)


@pytest.mark.parametrize(("keys", "said"), [
    ({"test": TEST[::-1]}, "expected an end after its start"), ({"designs": ()}, "designs"),
    ({"designs": ("folds", "folds")}, "designs names one twice"), ({"seeds": (1, 1)}, "seeds names one twice"),
    ({"designs": ("regions",)}, "expected a table of them in 'regions'"),
    ({"variants": {"lumped": {}}, "baselines": ("lumped",)}, "names two of variants, ensembles, baselines and against"),
    ({"variants": {"a/b": {}}}, "is to name a file or folder"), ({"variants": {}}, "variants"), ({"folds": 1}, "folds"),
    ({"variants": {"a": {"training": {"output": "x"}}}}, r"variants\.a has training\.output, which is the same"),
    ({"variants": {"a": {"prepare": {}}}}, r"variants\.a has prepare, which is the same"),
    ({"donors": 0}, "donors"), ({"processes": 0}, "processes"), ({"desgins": ()}, "desgins"),
])
def test_what_an_experiment_cannot_be(keys, said):
    with pytest.raises(ValueError, match=said):
        ExperimentConfig(**{"output": Path("lab"), "test": TEST, **keys})
