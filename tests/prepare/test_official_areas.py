"""Areas between gauges are scaled until each drains its official area."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")

from bmi_cdlm.domain.network import accumulate_downstream
from bmi_cdlm.names.errors import ConfigError, DomainError
from bmi_cdlm.prepare.config import GaugesConfig, PrepareConfig
from bmi_cdlm.prepare.gauges.gauge_table import GaugeSite
from bmi_cdlm.prepare.gauges.official_areas import check_is_new, told_of, with_official_areas
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.catchments import Catchments, Cells, Drainage, Links, Reaches
from bmi_cdlm.prepare.network.grid import Grid

GRID = Grid(0.0, 0.0, 1.0, 1.0, 1, 1, "EPSG:4326")
DOWNSTREAM = np.array([2, 2, 3, 5, 5, 6, -1, -1])
OWN = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
UNCOVERED = np.array([0, 0, 0.5, 0, 0, 0, 0, 0])
# Gauges at reaches 2 (drains 6.5), 3 (10.5), 4 (5) and 6 (28.5); reach 7 drains to none.
GAUGED = np.array([6, 2, 4, 3])


def made(official: list[float]) -> tuple[Drainage, SnappedGauges]:
    n, link = OWN.size, np.array([0, 0, 1, 2, 3, 4, 5, 6, 7])
    area = OWN[link].copy()
    area[:2] = 0.25, 0.75  # reach 0 has a share of two cells
    zero, upstream = np.zeros(n), accumulate_downstream(DOWNSTREAM, OWN + UNCOVERED)
    reaches = Reaches(
        np.array([f"r{k}" for k in range(n)]), DOWNSTREAM, zero, zero, OWN, upstream, zero, zero, zero, UNCOVERED
    )
    cells = Cells(np.array(["a", "b"]), *(np.zeros(2),) * 2, np.full(2, 40.0), *(np.zeros((2, 4)),) * 2, GRID,
                  *(np.zeros(2, int),) * 2)
    drainage = Drainage(
        Catchments(GRID, np.zeros((1, 1)), np.zeros((1, 1)), np.ones(1)), reaches, cells, Links(link % 2, link, area)
    )
    sites = [GaugeSite(f"g{r}", "", 0.0, 0.0, a, {}) for r, a in zip(GAUGED, official, strict=True)]
    found = upstream[GAUGED]
    error, nan = found / np.array(official) - 1, np.full(4, np.nan)
    return drainage, SnappedGauges(sites, GAUGED, found, error, nan, nan > 0, {}, nan, nan, nan)


def test_every_gauge_drains_its_official_area() -> None:
    before, found = made([40.0, 13.0, 2.5, 15.0])
    after, gauges = with_official_areas(before, found)
    np.testing.assert_allclose(after.reaches.upstream_area[GAUGED], [40.0, 13.0, 2.5, 15.0], rtol=1e-12)
    np.testing.assert_allclose(gauges.area, [40.0, 13.0, 2.5, 15.0], rtol=1e-12)
    np.testing.assert_allclose(gauges.area_error, 0.0, atol=1e-12)
    # Twice the area above reach 2, its gap without a cell too; half above reach 4; what lies between as is left.
    between = (40.0 - 15.0 - 2.5) / 13.0
    factor = np.array([2, 2, 2, 2 / 4, 0.5, between, between, 1])
    np.testing.assert_allclose(after.reaches.area, OWN * factor, rtol=1e-12)
    np.testing.assert_allclose(after.reaches.uncovered_area, UNCOVERED * factor, rtol=1e-12)
    np.testing.assert_allclose(np.bincount(after.links.reach, after.links.area), after.reaches.area, rtol=1e-12)
    assert after.links.area[:2].tolist() == [0.5, 1.5]
    np.testing.assert_array_equal(after.cells.area, before.cells.area)
    np.testing.assert_array_equal(before.reaches.area, OWN, err_msg="the input is left alone")


def test_a_gauge_without_an_official_area_keeps_its_own() -> None:
    before, found = made([np.nan, 13.0, np.nan, 15.0])
    after, gauges = with_official_areas(before, found)
    np.testing.assert_allclose(after.reaches.area[4:7], OWN[4:7], rtol=1e-12)
    np.testing.assert_allclose(after.reaches.upstream_area[GAUGED], [15 + 5 + 13, 13, 5, 15], rtol=1e-12)
    assert np.isnan(gauges.area_error[[0, 2]]).all()
    assert told_of(found) == (
        "gauges: areas are scaled to the official ones, at 2 of 2 gauges by more than 10%, most at g2, from 6.5 to 13 "
        "km2."
    )
    assert "none is scaled" in told_of(made([np.nan] * 4)[1])


def test_a_gauge_that_drains_no_more_than_those_above_is_refused() -> None:
    with pytest.raises(DomainError, match=r"gauge g3 officially drains 12 km2, and the gauges above it \(g2\) 13 km2"):
        with_official_areas(*made([40.0, 13.0, 2.5, 12.0]))


def test_two_gauges_on_a_reach_are_refused() -> None:
    before, found = made([40.0, 13.0, 2.5, 15.0])
    with pytest.raises(DomainError, match="gauges g6 and g2 stand on one reach"):
        with_official_areas(before, found._replace(reach=np.array([6, 6, 4, 3])))


def test_a_domain_that_is_there_is_not_scaled_again() -> None:
    gauges = GaugesConfig(table="t", official_areas=True)
    config = PrepareConfig.model_validate({"network": {"existing": True}})
    check_is_new(config)
    with pytest.raises(ConfigError, match=r"official_areas is true, and network\.existing takes a domain"):
        check_is_new(config.model_copy(update={"gauges": gauges}))
