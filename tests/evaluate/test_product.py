"""Runoff on a grid beside a run: averaged over basins, months, and what is refused."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from make_domain import domain_fields, write_domain

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.evaluate.product import read_product
from bmi_cdlm.evaluate.summary import running, summarise
from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.names.time_steps import DAY

STARTS = np.datetime64("2001-01-01", "s") + np.arange(59) * np.timedelta64(DAY, "s")


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    """Two cells, of 400 and 600 km2, that drain to the gauge g1 of 1000 km2; g0 has the first alone."""
    fields = domain_fields(
        np.array([1, -1]), np.array([0, 1]), np.array([0, 1]), np.array([400.0, 600.0]), 2, np.array([0, 1]),
        np.random.default_rng(0),
    )
    fields["cell_lon"].values[:] = 10.3, 10.8
    fields["cell_lat"].values[:] = 45.1, 45.6
    return read_domain(write_domain(tmp_path / "domain.nc", fields))


def write_grid(path: Path, time: np.ndarray, values: np.ndarray, units: str = "mm d-1") -> Path:
    """Runoff on two rows, north first, and three columns from 370 degrees on; values float64[time]."""
    with netCDF4.Dataset(path, "w") as out:
        for name, axis in (("lat", [45.75, 45.25]), ("lon", [10.25, 10.75, 11.25]), ("time", time)):
            out.createDimension(name, len(axis))
            out.createVariable(name, "f8", (name,))[:] = axis
        out["time"].units = "days since 2001-01-01"
        runoff = out.createVariable("runoff", "f8", ("time", "lat", "lon"))
        runoff.units = units
        runoff[:] = values[:, None, None] * np.array([[9.0, 2.0, 9.0], [1.0, 9.0, 9.0]])
    return path


def test_runoff_is_averaged_over_basins(tmp_path: Path, domain: Domain) -> None:
    path = write_grid(tmp_path / "grid.nc", np.arange(50), np.linspace(1, 2, 50))
    found = read_product(path, domain, ["g1", "g0"], [1000.0, 400.0], STARTS, DAY, monthly=False)
    depth = np.linspace(1, 2, 50) * (400 * 1.0 + 600 * 2.0) / 1000
    np.testing.assert_allclose(found[:50, 0], depth * 1000.0 / 86.4, rtol=1e-12)
    assert np.isnan(found[50:, 0]).all(), "the product ends before the run"
    assert np.isnan(found[:, 1]).all(), "smaller than what a grid tells of"


def test_months_are_compared_with_means_of_months(tmp_path: Path, domain: Domain) -> None:
    path = write_grid(tmp_path / "months.nc", np.array([0, 31, 59]), np.array([1.0, 3.0, 5.0]))
    found = read_product(path, domain, ["g1"], [1000.0], STARTS, DAY, monthly=True)
    np.testing.assert_allclose(found[:31, 0], 1.6 * 1000 / 86.4, rtol=1e-12)
    np.testing.assert_allclose(found[31:, 0], 4.8 * 1000 / 86.4, rtol=1e-12)
    with pytest.raises(ObservationError, match="Use --by month"):
        read_product(path, domain, ["g1"], [1000.0], STARTS, DAY, monthly=False)


def test_what_is_refused(tmp_path: Path, domain: Domain) -> None:
    path = write_grid(tmp_path / "grid.nc", np.arange(59), np.ones(59), units="kg")
    with pytest.raises(ObservationError, match="'kg'"):
        read_product(path, domain, ["g1"], [1000.0], STARTS, DAY, monthly=False)
    domain.cells.lat[1] = 47.0
    path = write_grid(tmp_path / "grid.nc", np.arange(59), np.ones(59))
    with pytest.raises(ObservationError, match=r"'lat' goes from .* and 1 cells of the domain lie beyond"):
        read_product(path, domain, ["g1"], [1000.0], STARTS, DAY, monthly=False)


def test_running_medians_and_shares() -> None:
    along = np.array([5.0, 1, 4, 2, 3, 6, np.nan])
    found = running(along, np.array([50.0, 10, 40, 20, 30, 60, 70]), windows=2)
    assert [(r.at, r.median) for r in found] == [(2.5, 25.0), (4.5, 45.0)]  # four gauges each
    assert (found[0].low, found[0].high) == (17.5, 32.5)
    assert running(np.full(3, np.nan), np.ones(3)) == []
    scores = {g: {"pbias": v} for g, v in (("a", -25.0), ("b", 30.0), ("c", 1.0), ("d", np.nan))}
    assert summarise(scores, ["pbias"], {"all": list(scores)})[0].close == pytest.approx(2 / 3)
