"""What being held out costs: regions one by one, beside the same gauges where they were fitted."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.evaluate.summary import bootstrap
from cdlm_training.experiment.left_out import left_out, left_out_headings, left_out_markdown, title_of
from cdlm_training.experiment.splits import Split
from cdlm_training.experiment.table import Scored, make_parts, told

WHOLE = Split("temporal", "all", ("a", "b", "c", "d"), ())
EAST, WEST = Split("regions", "east", ("c", "d"), ("a", "b")), Split("regions", "west", ("a", "b"), ("c", "d", "e"))
FOLDS = (Split("folds", "fold0", ("b", "c"), ("a",)), Split("folds", "fold1", ("a",), ("b", "c")))


def scored(design: str, role: str, values: dict[str, float], model: str = "m", period: str = "test") -> Scored:
    return Scored(design, period, role, model, "", {g: {"nse": v, "kge": v / 2} for g, v in values.items()})


FITTED = scored("temporal", "fitted", {"a": 0.8, "b": 0.6, "c": 0.9, "d": 0.5})
UNSEEN = scored("regions", "unseen", {"a": 0.5, "b": 0.4, "c": 0.1, "d": 0.7, "e": -1.0})


def test_every_region_stands_beside_the_same_gauges_where_they_were_fitted():
    lines = [one.row() for one in left_out(make_parts([FITTED, UNSEEN]), [WHOLE, EAST, WEST])]
    assert [line[:3] for line in lines] == [
        ["regions, east", "m", "2"], ["regions, west", "m", "3"], ["regions, all", "m", "5"]
    ]
    assert all(len(line) == len(left_out_headings()) for line in lines)
    east, west, _ = lines
    assert east[3] == told(bootstrap(np.array([0.5, 0.4])), ".3f") and east[3].startswith("0.450 [")
    assert east[5].startswith("0.700 [") and east[6].startswith("0.350 [")
    assert east[7] == told(bootstrap(np.array([0.5 - 0.8, 0.4 - 0.6])), "+.3f")
    assert west[3].startswith("0.100 ["), "of all three that are held out"
    assert west[5].startswith("0.700 [") and west[7].startswith("-0.300 ["), "e was never fitted: of the other two"


def test_a_region_without_a_training_of_all_has_its_scores_alone():
    lines = [one.row() for one in left_out(make_parts([UNSEEN]), [EAST, WEST])]
    assert [line[0] for line in lines] == ["regions, east", "regions, west", "regions, all"]
    assert all(line[5:] == ["-"] * 4 for line in lines)


def test_folds_are_one_line_and_only_beside_a_training_of_all():
    unseen = scored("folds", "unseen", {"a": 0.5, "b": 0.4, "c": 0.1})
    assert not list(left_out(make_parts([unseen]), FOLDS))
    line, = (one.row() for one in left_out(make_parts([FITTED, unseen]), [WHOLE, *FOLDS]))
    assert line[0] == "folds, all" and line[7] == told(bootstrap(np.array([-0.3, -0.2, -0.8])), "+.3f")


def test_each_model_and_period_by_itself():
    """A model that was not fitted, such as donors, has no difference; another period's scores are not taken."""
    rows = [
        FITTED, UNSEEN, scored("regions", "unseen", {"a": 0.2, "b": 0.2}, "donors"),
        scored("regions", "unseen", {"a": 0.9, "b": 0.9}, period="train"),
        scored("regions", "unseen", {"c": np.nan}, "nothing"),
    ]
    lines = list(left_out(make_parts(rows), [WHOLE, EAST, WEST]))
    assert {(one.period, one.group, one.model) for one in lines if one.model != "m"} == {
        ("test", "east", "donors"), ("test", "all", "donors")
    }
    assert all(one.row()[5:] == ["-"] * 4 for one in lines if one.model == "donors" or one.period == "train")
    text = left_out_markdown(rows, [WHOLE, EAST, WEST])
    assert text.startswith("\n## held out and fitted, test period") and f"## {title_of('train')}" in text
    assert text.count("\n|---") == 2 and text.endswith("|\n")


@pytest.mark.parametrize("splits", [[WHOLE], [Split("upstream", "all", ("a",), ("b",))]])
def test_nothing_is_said_where_nothing_was_held_out_or_is_not_scored(splits):
    assert left_out_markdown([FITTED], splits) == ""
