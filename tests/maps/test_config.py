"""The keys below `signatures`: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from cases import write_config

from bmi_cdlm.maps.config import load_signatures
from bmi_cdlm.names.errors import CdlmError, ConfigError

KEYS = {"output": "maps/erie.nc", "predictors": ["wetness", "height"]}
CONTENT = {
    "domain": "domain.nc", "forcing": "caller", "observations": "observations.nc", "start": "2001-01-01",
    "end": "2003-01-01",
}


def written(folder: Path, *, run: dict | None = None, **signatures: object) -> Path:
    """A configuration; None leaves a key out."""
    keys = {k: v for k, v in {**KEYS, **signatures}.items() if v is not None}
    return write_config(folder / "case.yaml", {**CONTENT, "signatures": keys}, **(run or {}))


def test_paths_are_beside_the_configuration_and_defaults_are_those_that_are_told(tmp_path: Path) -> None:
    read = load_signatures(written(tmp_path))
    assert read.config.output == tmp_path / "maps" / "erie.nc" and read.run.observations == tmp_path / "observations.nc"
    assert read.config.period is None and (read.config.leave, read.config.nested) == ("site", "upstream")
    assert read.config.targets == ("mean_runoff", "baseflow_index") and len(read.config.models) == 4
    assert not (tmp_path / "maps").exists(), "nothing is made when it is read"


def test_a_period_is_a_part_of_the_run(tmp_path: Path) -> None:
    for period in (["2001-01-01", "2003-01-01"], ["2001-06-01", "2002-06-01"]):
        read = load_signatures(written(tmp_path, period=period))
        assert read.config.period == tuple(np.datetime64(day, "s") for day in period)
    for period in (["2000-12-31", "2002-01-01"], ["2002-01-01", "2003-01-02"]):
        with pytest.raises(ConfigError, match="period lies outside of the run"):
            load_signatures(written(tmp_path, period=period))
    for period in (["2002-01-01", "2001-06-01"], ["2002-01-01", "2002-01-01"]):
        with pytest.raises(ConfigError, match="period ends before it starts"):
            load_signatures(written(tmp_path, period=period))


@pytest.mark.parametrize(("keys", "text"), [
    ({"output": None}, "output"), ({"output": "maps.csv"}, r"output is maps\.csv; expected a name that ends in \.nc"),
    ({"predictors": None}, "predictors"), ({"predictors": []}, "predictors"),
    ({"predictors": ["wetness", "height", "wetness"]}, "predictors names one twice"),
    ({"targets": ["mean_runoff", "mean_runoff"]}, "targets names one twice"), ({"targets": ["runoff"]}, "targets"),
    ({"models": ["k_nearest", "k_nearest"]}, "models names one twice"), ({"models": ["forest"]}, "models"),
    ({"folds": 1}, "folds"), ({"inner_folds": 1}, "inner_folds"), ({"search": -1}, "search"),
    ({"largest_area": 0.0}, "largest_area"), ({"processes": 0}, "processes"), ({"regions": -1}, "regions"),
    ({"leave": "gauge"}, "leave"), ({"nested": "downstream"}, "nested"), ({"period": ["2001-01-01"]}, "period"),
], ids=str)
def test_what_is_refused_names_the_key(tmp_path: Path, keys: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"case\.yaml: signatures: .*{text}"):
        load_signatures(written(tmp_path, **keys))


def test_a_run_without_the_block_or_without_records_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, run={"signatures": None})
    with pytest.raises(ConfigError, match=r"case\.yaml: key 'signatures' is missing"):
        load_signatures(path)
    with pytest.raises(ConfigError, match="key 'observations' is missing; expected the records"):
        load_signatures(written(tmp_path, run={"observations": None}))


@pytest.mark.parametrize("name", ["domain.nc", "observations.nc"])
def test_maps_are_not_written_onto_what_they_are_made_of(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, output=name)
    assert yaml.safe_load(path.read_text())["signatures"]["output"] == name
    with pytest.raises(CdlmError, match=r"signatures\.output"):
        load_signatures(path)
