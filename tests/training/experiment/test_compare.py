"""Two experiments side by side: which gauges and models are compared, and what of the two is unlike."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bmi_cdlm.evaluate.summary import bootstrap
from bmi_cdlm.names.errors import ConfigError
from cdlm_training.experiment.compare import HEADINGS, compare_experiments
from cdlm_training.experiment.manifest import FORMAT, read_manifest
from cdlm_training.experiment.record import Record
from cdlm_training.experiment.table import Scored, told, write_csv

TEST = ["2001-01-01T00:00:00", "2003-01-01T00:00:00"]
AREAS = dict.fromkeys("abcd", 1.0)
Values = dict[str, float]


def write_lab(folder: Path, rows: list[Scored], **changes: object) -> Record:
    """The folder of an experiment that was done, with nothing in it but what a comparison reads."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT, "name": folder.name, "notes": [], "variants": ["base", "other"], "seeds": [1, 2],
        "splits": [{"design": "folds", "name": "fold0", "fitted": ["a"], "held_out": ["b", "c"]}],
        "periods": {"train": ["1990-01-01T00:00:00", "2000-01-01T00:00:00"], "test": TEST},
        "files": {key: [f"{key}.nc", f"digest of {key}"] for key in ("domain", "forcing", "observations")},
        "code": {"version": "1"}, **changes,
    }
    (folder / "experiment.json").write_text(json.dumps(content))
    write_csv(folder / "scores.csv", rows, AREAS)
    return Record(folder)


def rows(model: str, of: str, nse: Values, design="folds", period="test", role="unseen") -> Scored:
    return Scored(design, period, role, model, of, {g: {"nse": v, "kge": v / 2} for g, v in nse.items()})


def lab(folder: Path, shift: float = 0.0, **changes: object) -> Record:
    """Two seeds, their ensemble, another variant and a baseline, at three gauges."""
    base = {"a": 0.5, "b": 0.2, "c": 0.8}
    moved = {g: v + shift for g, v in base.items()}
    return write_lab(folder, [
        rows("base", "seed 1", moved), rows("base", "seed 2", {g: v - 0.1 for g, v in moved.items()}),
        rows("base", "ensemble of 2", {g: v + 0.05 for g, v in moved.items()}),
        rows("other", "ensemble of 2", {g: v + 0.01 for g, v in moved.items()}),
        rows("climatology", "", {"a": 0.0, "b": 0.3, "c": 0.1}),
        rows("base", "ensemble of 2", moved, period="train"),
    ], **changes)


def test_the_first_model_is_taken_as_an_ensemble_where_there_is_one(tmp_path):
    found = compare_experiments(lab(tmp_path / "x"), lab(tmp_path / "y", 0.1))
    assert found.names == ("x: base, ensemble of 2", "y: base, ensemble of 2") and not found.notes
    assert [(p.period, p.role) for p in found.parts] == [("test", "unseen"), ("train", "unseen")], "the test first"
    np.testing.assert_allclose(found.parts[0].differences("nse"), -0.1)
    alone = write_lab(tmp_path / "z", [rows("base", "seed 1", {"a": 0.5})])
    assert compare_experiments(alone, alone).names[0] == "z: base"


def test_lines_are_of_gauges_that_both_have(tmp_path):
    """Medians of each at these, and of the paired difference, with the share of gauges at which A is better."""
    a = write_lab(tmp_path / "a", [rows("base", "", {"a": 0.5, "b": 0.2, "c": math.nan, "d": 0.9})])
    b = write_lab(tmp_path / "b", [rows("base", "", {"c": 0.3, "b": 0.6, "a": 0.1})])
    part, = compare_experiments(a, b).parts
    assert list(part.a) == ["a", "b", "c"] == list(part.b)
    line = part.rows()[0]
    assert len(line) == len(HEADINGS) and line[:2] == ["NSE", "2"], "c has no score in A"
    assert line[2] == told(bootstrap(np.array([0.5, 0.2])), ".3f")
    assert line[3] == told(bootstrap(np.array([0.1, 0.6])), ".3f"), "of B at the same gauges"
    assert line[4] == told(bootstrap(np.array([0.4, -0.4])), "+.3f") and line[5] == "50 %"
    assert part.title == "folds, test period, gauges that no training saw"


def test_models_of_one_experiment_are_compared_by_name(tmp_path):
    record = lab(tmp_path / "x")
    found = compare_experiments(record, record, ("climatology", "other, ensemble of 2"))
    assert len(found.parts) == 1, "in training neither has scores"
    np.testing.assert_allclose(found.parts[0].differences("nse"), [0.0 - 0.51, 0.3 - 0.21, 0.1 - 0.81])
    with pytest.raises(ConfigError, match=r"has no model 'climat'\. Did you mean 'climatology'\? It has: base, mean"):
        compare_experiments(record, record, ("climat", None))


def test_what_is_unlike_is_told(tmp_path):
    own = lab(tmp_path / "x")
    files = {**own.manifest.files, "forcing": ["forcing.nc", "of another year"]}
    other = lab(tmp_path / "y", files=files, periods={**own.manifest.periods, "train": ["1980", "1990"]}, splits=[
        {"design": "folds", "name": "fold0", "fitted": ["c"], "held_out": ["a", "b"]},
    ])
    notes = compare_experiments(own, other).notes
    assert notes == [
        "The files of forcing differ.", "They were trained on other years: 1990-01-01T00:00:00 to 2000-01-01T00:00:00, "
        "1980 to 1990.", "The splits of folds hold out other gauges.",
    ]


def test_what_has_nothing_in_common_is_refused(tmp_path):
    own = lab(tmp_path / "x")
    later = lab(tmp_path / "later", periods={**own.manifest.periods, "test": ["2003-01-01", "2004-01-01"]})
    with pytest.raises(ConfigError, match=r"was tested on 2003-01-01 to 2004-01-01, .* Expected the same period"):
        compare_experiments(own, later)
    others = write_lab(tmp_path / "others", [rows("base", "", {"d": 0.1})])
    with pytest.raises(ConfigError, match="have no design, period and gauge in common"):
        compare_experiments(own, others)
    regions = write_lab(tmp_path / "regions", [rows("base", "", {"a": 0.1}, design="regions")])
    with pytest.raises(ConfigError, match="have no design, period and gauge in common"):
        compare_experiments(own, regions)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "bmi_cdlm experiment 0"}',
                                    '{"format": "bmi_cdlm experiment 1", "splits": [{"design": "folds"}]}',
                                    '{"format": "bmi_cdlm experiment 1", "splits": [], "surprise": 1}'])
def test_a_folder_that_is_none_is_refused(tmp_path, damage):
    lab(tmp_path / "x")
    (tmp_path / "x" / "experiment.json").write_text(damage)
    with pytest.raises(ConfigError, match=r"experiment\.json: cannot be read .* Expected the folder of a finished"):
        read_manifest(tmp_path / "x")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_manifest(tmp_path / "nothing")
