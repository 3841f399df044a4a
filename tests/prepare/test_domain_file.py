"""A drainage network as a domain file, read back by the model."""

from __future__ import annotations

from typing import NamedTuple

import netCDF4
import numpy as np
import pytest

pytest.importorskip("pyproj", reason="pyproj is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from drainage_cases import config, gauge_at, terrain_flow

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges
from bmi_cdlm.prepare.network.domain_file import Labels, write_domain
from bmi_cdlm.prepare.network.links import keep_cells
from bmi_cdlm.prepare.network.network import drain

LABELS = Labels("Made-up river", "tests", notes={"comment": "nothing real"})


class Attribute(NamedTuple):
    values: np.ndarray
    units: str = "1"
    long_name: str = "something"
    comment: str = ""


@pytest.fixture(scope="module")
def case():
    """A basin above two gauges."""
    flow = terrain_flow()
    outer = int(np.argmax(flow.upstream_area))
    sizes = np.where(flow.upstream_area < 0.4 * flow.upstream_area[outer], flow.upstream_area, 0.0)
    pixels = [outer, int(np.argmax(sizes))]
    sites = [gauge_at(flow, pixel, f"G{i}") for i, pixel in enumerate(pixels)]
    keys = {"resolution": "30 arcsec", "cell_size": "90 arcsec", "max_reach_length": 800.0}
    drainage = drain(config(**keys, extent="gauges"), flow, sites, radius=1.0)
    reach = drainage.catchments.reach.ravel()[pixels].astype(np.int64)
    area = drainage.reaches.upstream_area[reach]
    none = np.zeros(2)
    return drainage, SnappedGauges(sites, reach, area, none, none, none.astype(bool), {}, none, none, none)


def test_the_model_reads_what_is_written(case, tmp_path):
    drainage, gauges = case
    reaches, cells, links = drainage.reaches, drainage.cells, drainage.links
    snow, clay = np.linspace(0, 9, cells.id.size), np.linspace(0, 1, reaches.id.size)
    write_domain(
        tmp_path / "domain.nc", drainage, gauges, {"mean_annual_snowfall": Attribute(snow, "mm yr-1")},
        {"clay": Attribute(clay, comment="as found")}, LABELS,
    )
    domain = read_domain(tmp_path / "domain.nc")
    assert domain.file_order.tolist() == list(range(reaches.id.size))  # it was in routing order already
    assert domain.reaches.id == reaches.id.tolist()
    assert domain.cells.id == cells.id.tolist()
    for name in ("downstream", "length", "slope", "area", "lon", "lat"):
        np.testing.assert_array_equal(getattr(domain.reaches, name), getattr(reaches, name))
    np.testing.assert_allclose(domain.reaches.upstream_area, reaches.upstream_area, rtol=1e-13)
    for name in ("lon", "lat", "area", "corner_lon", "corner_lat"):
        np.testing.assert_array_equal(getattr(domain.cells, name), getattr(cells, name))
    np.testing.assert_array_equal(domain.cells.mean_annual_snowfall, snow)
    np.testing.assert_array_equal(domain.links.cell, links.cell)
    np.testing.assert_array_equal(domain.links.area, links.area)
    assert domain.gauges.id == ["G0", "G1"]
    np.testing.assert_array_equal(domain.gauges.reach, gauges.reach)
    np.testing.assert_allclose(domain.gauges.area, domain.reaches.upstream_area[gauges.reach], rtol=1e-12)
    with netCDF4.Dataset(tmp_path / "domain.nc") as file:
        assert file["reach_clay"].comment == "as found"
        assert file["strahler_order"][:].max() == reaches.strahler.max() > 2
        assert file.comment == "nothing real" and "license" not in file.ncattrs()
        assert "reach_uncovered_area" not in file.variables


def test_domain_without_gauges_and_slopes(case, tmp_path):
    drainage, _ = case
    flat = drainage._replace(reaches=drainage.reaches._replace(slope=np.full(drainage.reaches.id.size, np.nan)))
    write_domain(tmp_path / "domain.nc", flat, None, {}, {}, LABELS)
    domain = read_domain(tmp_path / "domain.nc")
    assert domain.gauges.id == []
    assert (domain.reaches.slope == 0).all()


def test_uncovered_area_is_written_or_refused(case, tmp_path):
    drainage, gauges = case
    kept = np.ones(drainage.cells.id.size, bool)
    shares = [keep_cells(drainage, np.arange(kept.size) != i).reaches.uncovered_area.sum() for i in range(kept.size)]
    kept[int(np.argmin(shares))] = False
    less = keep_cells(drainage, kept)
    write_domain(tmp_path / "domain.nc", less, gauges._replace(sites=gauges.sites[:1], reach=gauges.reach[:1]), {}, {},
                 LABELS)
    with netCDF4.Dataset(tmp_path / "domain.nc") as file:
        assert float(file["reach_uncovered_area"][:].sum()) == pytest.approx(min(shares))
    assert read_domain(tmp_path / "domain.nc").n_cells == kept.size - 1
    bare = keep_cells(drainage, np.arange(kept.size) % 2 == 0)
    with pytest.raises(DomainError, match=r"no cell covers .* above gauge G"):
        write_domain(tmp_path / "other.nc", bare, gauges, {}, {}, LABELS)
    assert [p.name for p in tmp_path.iterdir()] == ["domain.nc"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), r"attribute 'clay' of cells has shape \(3,\), expected \("),
        (None, r"'clay' has no value at cell 1 "),
    ],
)
def test_attributes_that_do_not_fit(case, tmp_path, values, message):
    drainage, gauges = case
    if values is None:
        values = np.zeros(drainage.cells.id.size)
        values[1] = np.nan
    with pytest.raises(DomainError, match=message):
        write_domain(tmp_path / "domain.nc", drainage, gauges, {"clay": Attribute(values)}, {}, LABELS)
    assert list(tmp_path.iterdir()) == []
