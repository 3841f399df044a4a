"""Muskingum parameters of an older model: read, matched, converted, and taken by the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import write_case

from bmi_cdlm.domain.attributes import read_attribute
from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.generator.generator import make_spec
from bmi_cdlm.names.errors import ParameterError
from bmi_cdlm.prepare.config import LegacyConfig
from bmi_cdlm.prepare.gauges.legacy import Legacy, add_priors, priors, read_legacy, write_legacy
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

IDS, LENGTH = ["a", "b", "c"], np.array([1000.0, 0.0, 3000.0])
EXPECTED = ([3600.0, 0.0, 5400.0], [0.1, 0.2, 0.3])


def read(folder: Path, text: str, name: str = "legacy.csv", **keys: object) -> Legacy:
    (folder / name).write_text(text, encoding="utf-8")
    return read_legacy(LegacyConfig(table=name, **keys), folder, IDS, LENGTH)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("id,travel_time,weighting\nc,1.5,0.3\na,1,0.1\nb,0,0.2\n", {"travel_time_units": "h"}),
        ("reach;K;x\na;3600;0.1\nb;0;0.2\nc;5400;0.3\nd;1;0\n",
         {"travel_time_units": "s", "columns": {"id": "reach", "travel_time": "K", "weighting": "x"}}),
        ("# older model\na  0.0416666666666666667  0.1\nb 0 0.2\nc 0.0625 0.3\n",
         {"travel_time_units": "d", "columns": {"id": 1, "travel_time": 2, "weighting": 3}}),
        ("60 0.1\n0 0.2\n90 0.3\n", {"travel_time_units": "min", "columns": {"travel_time": 1, "weighting": 2}}),
    ],
)
def test_text_in_its_forms(tmp_path: Path, text: str, keys: dict) -> None:
    found = read(tmp_path, text, **keys)
    np.testing.assert_allclose(found.travel_time, EXPECTED[0], rtol=1e-12)
    assert found.weighting.tolist() == EXPECTED[1]


def test_netcdf_states_its_units(tmp_path: Path) -> None:
    with netCDF4.Dataset(tmp_path / "k.nc", "w") as dataset:
        dataset.createDimension("seg", 3)
        dataset.createVariable("seg_id", str, ("seg",))[:] = np.array(["c", "b", "a"], object)
        k = dataset.createVariable("K", "f8", ("seg",))
        k[:] = [1.5, 0, 1]
        dataset.createVariable("x", "f8", ("seg",))[:] = [0.3, 0.2, 0.1]
    config = LegacyConfig(table="k.nc", columns={"id": "seg_id", "travel_time": "K", "weighting": "x"})
    with pytest.raises(ParameterError, match=r"column 'K': has no units, expected some that convert to 's'"):
        read_legacy(config, tmp_path, IDS, LENGTH)
    with netCDF4.Dataset(tmp_path / "k.nc", "a") as dataset:
        dataset["K"].units = "hours"
    found = read_legacy(config, tmp_path, IDS, LENGTH)
    assert found.travel_time.tolist() == EXPECTED[0]
    with netCDF4.Dataset(tmp_path / "k.nc", "a") as dataset:
        dataset["K"].units = "m s-1"
    with pytest.raises(ParameterError, match=r"units 'm s-1' cannot be converted to 's'"):
        read_legacy(config, tmp_path, IDS, LENGTH)


def test_reaches_without_a_row_keep_the_default_where_that_is_allowed(tmp_path: Path) -> None:
    text = "id,travel_time\na,7\n"
    with pytest.raises(ParameterError, match=r"no row for reach b .2 of 3 reaches have none; its own ids are like 'a'"):
        read(tmp_path, text, travel_time_units="s")
    found = read(tmp_path, text, travel_time_units="s", unmatched="default")
    assert found.travel_time.tolist() == [7.0, 0.0, 3000.0]  # 1 m s-1
    assert found.weighting.tolist() == [0.2] * 3
    with pytest.raises(ParameterError, match="3 of 3 reaches have none"):
        read(tmp_path, "id,travel_time\nz,7\n", travel_time_units="s", unmatched="default")


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("id,travel_time\na,1\nb,1\nc,1\n", {}, r"units of K are not known. Set legacy.travel_time_units"),
        ("id,travel_time\na,1\na,1\nb,1\nc,1\n", {"travel_time_units": "h"}, "reach a has more than one row"),
        ("travel_time\n1\n2\n", {"travel_time_units": "h"}, "2 rows and no ids, expected 3"),
        ("id,travel_time\na,1\nb,-1\nc,1\n", {"travel_time_units": "h"}, r"'travel_time' is -3600.0 at index 1"),
        ("id,travel_time,weighting\na,1,0\nb,1,0.6\nc,1,0\n", {"travel_time_units": "h"}, "'weighting' is 0.6"),
        ("id,travel_time\na,1\nb,\nc,1\n", {"travel_time_units": "h"}, "'travel_time' is nan"),
        ("id,K\na,1\n", {"travel_time_units": "h"}, r"no column 'travel_time' for 'travel_time'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, keys: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        read(tmp_path, text, **keys)


def test_priors_are_celerities_within_the_range_of_training() -> None:
    found = priors(Legacy(np.array([2000.0, 0.0, 100.0, 0.0]), np.array([0.1, 0.2, 0.5, 0.0])),
                   np.array([1000.0, 0.0, 3000.0, 10.0]))
    assert found["prior_celerity"].tolist() == [0.5, 1.0, 5.0, 5.0]
    assert found["prior_weighting"].tolist() == [0.1, 0.2, 0.45, 0.0]


def write_table(domain: Domain, path: Path) -> np.ndarray:
    """K of every reach as hours in a shuffled table; the same in seconds, in the order of the domain."""
    rng = np.random.default_rng(3)
    hours = rng.uniform(0, 30, domain.n_reaches)
    rows = [f"{domain.reaches.id[i]},{float(hours[i])!r},0.25" for i in rng.permutation(domain.n_reaches)]
    path.write_text("\n".join(["id,travel_time,weighting", *rows]), encoding="utf-8")
    return hours * 3600.0


def test_the_model_runs_with_the_travel_times_of_the_table(tmp_path: Path) -> None:
    run = load_config(write_case(tmp_path))
    domain = read_domain(run.domain)
    expected = write_table(domain, tmp_path / "legacy.csv")
    ids, length = domain.reaches.id, domain.reaches.length
    found = read_legacy(LegacyConfig(table="legacy.csv", travel_time_units="h"), tmp_path, ids, length)
    write_legacy(tmp_path / "legacy.nc", found, ids, "legacy.csv")
    simulation = Simulation(run.model_copy(update={"parameters": tmp_path / "legacy.nc"}))
    np.testing.assert_allclose(simulation.model.travel_time, expected, rtol=1e-12)
    simulation.close()


def test_priors_become_attributes_of_the_domain(tmp_path: Path) -> None:
    run = load_config(write_case(tmp_path))
    domain = read_domain(run.domain)
    expected = write_table(domain, tmp_path / "legacy.csv")
    with netCDF4.Dataset(run.domain) as dataset:
        ids, length = dataset["reach_id"][:].tolist(), dataset["reach_length"][:].data
    found = read_legacy(LegacyConfig(table="legacy.csv", travel_time_units="h"), tmp_path, ids, length)
    shutil.copy(run.domain, tmp_path / "with_priors.nc")
    for _ in range(2):  # again: replaced, not added
        add_priors(tmp_path / "with_priors.nc", found)
    values = read_attribute(tmp_path / "with_priors.nc", domain, "prior_celerity", "reach", "m s-1")
    at = domain.reaches.length > 0
    np.testing.assert_allclose(values[at], np.clip(domain.reaches.length / expected, 0.1, 5)[at], rtol=1e-12)
    spec = make_spec(tmp_path / "with_priors.nc", cell_attributes=(), reach_attributes=["prior_celerity"])
    (attribute,) = spec.reach.attributes
    assert (attribute.transform, attribute.units) == ("log", "m s-1")  # what a training then starts from
