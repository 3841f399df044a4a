"""Signature maps: what gauges are learned from, who is left out, and maps that saw a gauge."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from cases import write_config, write_series
from click.testing import CliRunner
from make_domain import Field, domain_fields, write_domain

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.maps.basins import read_basins, signatures_of
from bmi_cdlm.maps.config import load_signatures
from bmi_cdlm.maps.files import check_unseen, fold_of, interval_of, read_maps
from bmi_cdlm.maps.learn import FOLD, NAIVE, SITE, make_splits, r2
from bmi_cdlm.maps.predict import aggregate
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.names.time_steps import DAY

pytest.importorskip("sklearn")
CHAINS, LONG = 6, 3
N = CHAINS * LONG
START = np.datetime64("2001-01-01", "s")
DAYS = 730


def wetness() -> np.ndarray:
    """An attribute of the cells, one per reach, three to a river."""
    return np.random.default_rng(3).uniform(1.0, 4.0, N)


def write_maps_case(folder: Path, **signatures: object) -> Path:
    """Rivers of three reaches, each with a cell of 10 km2 and a gauge, whose runoff is 200 mm yr-1 times wetness.

    Every tenth day flows ten times as much as the others: the baseflow index is 10 / 19 up to its ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = np.arange(N)
    downstream = np.where(place % LONG == LONG - 1, -1, place + 1)
    fields = domain_fields(downstream, place, place, np.full(N, 10.0), N, place, np.random.default_rng(1))
    fields["gauge_area"] = Field(("gauge",), "km2", np.full(N, np.nan))
    for name, values in (("wetness", wetness()), ("height", place * 10.0)):
        fields[f"cell_{name}"] = Field(("cell",), "1", values)
    write_domain(folder / "domain.nc", fields)
    depth = 200.0 * wetness() / 365.25
    flow = np.array([depth[k - k % LONG : k + 1].sum() * 10.0 / 86.4 for k in range(N)])
    pulse = np.where(np.arange(DAYS) % 10 == 5, 10.0, 1.0) / 1.9
    write_series(folder / "observations.nc", "gauge", fields["gauge_id"].values, {"discharge": (
        flow * pulse[:, None], "m3 s-1"
    )}, START, DAY)
    content = {
        "domain": "domain.nc", "forcing": "caller", "observations": "observations.nc", "start": "2001-01-01",
        "end": "2003-01-01",
        "signatures": {
            "output": "maps.nc", "predictors": ["wetness", "height"], "models": ["k_nearest"], "search": 2,
            "inner_folds": 2, "folds": 3, "regions": 2, **signatures,
        },
    }
    return write_config(folder / "case.yaml", content)


def test_signatures_of_a_record() -> None:
    starts = START + np.arange(365) * np.timedelta64(DAY, "s")
    flow = np.full(365, 2.0)
    found = signatures_of(flow, starts, 86.4)
    assert found["mean_runoff"] == pytest.approx(2.0 * 365.25, rel=1e-14)  # 2 m3 s-1 from 86.4 km2 are 2 mm d-1
    assert found["baseflow_index"] == 1.0
    flow[[100, 200]] = np.nan, 20.0
    found = signatures_of(flow, starts, 86.4)
    assert found["baseflow_index"] == pytest.approx(364 * 2.0 / (363 * 2.0 + 20.0), rel=1e-14)


def test_targets_and_means_of_basins(tmp_path: Path) -> None:
    basins = read_basins(load_signatures(write_maps_case(tmp_path)))
    wet = wetness()
    expected = [200.0 * wet[k - k % LONG : k + 1].mean() for k in range(N)]
    np.testing.assert_allclose(basins.targets["mean_runoff"], expected, rtol=1e-12)
    np.testing.assert_allclose(basins.targets["baseflow_index"], 1 / 1.9, rtol=1e-12)
    np.testing.assert_allclose(basins.means[:, 0] * 200.0, expected, rtol=1e-12)
    assert basins.usable.all()
    assert basins.window == 3


def test_nothing_nested_is_fitted_with_what_is_held_out(tmp_path: Path) -> None:
    signatures = load_signatures(write_maps_case(tmp_path))
    basins = read_basins(signatures)
    splits = make_splits(basins, signatures.config)
    middle = next(s for s in splits if s.design == SITE and s.name == "g1")
    assert np.flatnonzero(~middle.fitted).tolist() == [0, 1]  # itself and the one above; the one below has its water
    both = make_splits(basins, signatures.config.model_copy(update={"nested": "both"}))
    assert np.flatnonzero(~next(s for s in both if s.name == "g1").fitted).tolist() == [0, 1, 2]
    for split in (s for s in splits if s.design == FOLD):
        assert not basins.nested[np.ix_(split.held_out, split.fitted)].any()
        assert (split.fitted | split.held_out).all()
    assert any(basins.nested[np.ix_(s.held_out, s.fitted)].any() for s in splits if s.design == NAIVE)


def test_the_command_writes_maps_once(tmp_path: Path) -> None:
    config = write_maps_case(tmp_path, leave="fold")
    first = CliRunner().invoke(main, ["signatures", str(config)])
    assert first.exit_code == 0, first.output
    domain = read_domain(tmp_path / "domain.nc")
    before = read_maps(tmp_path / "maps.nc", domain, 1)
    lines = (tmp_path / "maps.jsonl").read_text().splitlines()
    (tmp_path / "maps.jsonl").write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:40])  # a kill has cut the last line
    again = CliRunner().invoke(main, ["signatures", str(config), "--to-domain"])
    assert again.exit_code == 0, again.output
    assert f"{len([x for x in lines if x]) - 2} of {len([x for x in lines if x])} regressions were" in again.output
    after = read_maps(tmp_path / "maps.nc", domain, 1)
    np.testing.assert_array_equal(before.values["mean_runoff"], after.values["mean_runoff"])
    assert "| leave-fold-out |" in (tmp_path / "maps.md").read_text()
    with netCDF4.Dataset(tmp_path / "domain.nc") as data:
        np.testing.assert_array_equal(data["cell_mean_runoff_fold1"][:], after.values["mean_runoff"])
        assert json.loads(data["cell_mean_runoff_fold1"].learned_from) == list(after.seen)
        assert data["cell_mean_runoff"].units == "mm yr-1"
        assert "hysep_window" not in data["cell_mean_runoff"].ncattrs()
    run = load_signatures(config).run
    assert after.period == (date_text(run.start), date_text(run.end))
    assert interval_of(tmp_path / "domain.nc", "baseflow_index_fold1") == after.window


def test_maps_are_validated_at_gauges_that_they_never_saw(tmp_path: Path) -> None:
    config = write_maps_case(tmp_path, search=0, leave="fold", targets=["mean_runoff"])
    assert CliRunner().invoke(main, ["signatures", str(config)]).exit_code == 0
    path, domain = tmp_path / "maps.nc", read_domain(tmp_path / "domain.nc")
    with netCDF4.Dataset(path) as data:
        fold = data["gauge_fold"][:].tolist()
        np.testing.assert_array_equal(data["gauge_seen"][:], [[f != k for f in fold] for k in range(3)])
        np.testing.assert_allclose(data["mean_runoff_spread"][:], data["mean_runoff_fold"][:].std(axis=0), rtol=1e-5)
    own = [f"g{k}" for k in range(N) if fold[k] == 2]
    assert fold_of(path, own) == 2
    check_unseen(read_maps(path, domain, 2), "maps.nc", own)
    with pytest.raises(ConfigError, match="were learned from gauge"):
        check_unseen(read_maps(path, domain), "maps.nc", own)
    with pytest.raises(ConfigError, match="every map was learned from one of the gauges"):
        fold_of(path, [f"g{k}" for k in range(N)])
    with pytest.raises(ConfigError, match="folds 0 to 2"):
        read_maps(path, domain, 3)


def test_refusals(tmp_path: Path) -> None:
    config = write_maps_case(tmp_path)
    keys = yaml.safe_load(config.read_text())
    for change, text in (
        ({"folds": 7}, "7 asked for"), ({"folds": 40}, "18 of 18 gauges can be used, expected at least 40"),
        ({"predictors": ["wettness"]}, "there is no cell attribute 'wettness'"),
        ({"largest_area": 5.0}, "0 of 18 gauges can be used"), ({"treees": 3}, "unknown key 'treees'"),
    ):
        write_config(config, {**keys, "signatures": {**keys["signatures"], **change}})
        found = CliRunner().invoke(main, ["signatures", str(config)])
        assert found.exit_code == 1
        assert text in found.output
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as data:
        data["cell_wetness"][4] = np.nan
    write_config(config, keys)
    with pytest.raises(DomainError, match="'wetness' is missing at 1 of 18 places"):
        read_basins(load_signatures(config))
    assert not (tmp_path / "maps.nc").exists()


def test_scores_of_maps() -> None:
    observed = np.array([100.0, 200.0, 300.0, 400.0])
    assert r2(observed + 50.0, observed) == pytest.approx(1 - 4 * 2500 / 50000)
    found = aggregate(observed * np.array([1.1, 1.2, 1.24, 1.3]), observed, np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.close == 0.75
    assert found.trend == pytest.approx(1.0)
