"""The site's configuration for a basin of one's own, run on inputs of the kinds that it names."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml

from bmi_cdlm.doctor import examine
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn", "scipy", "pyet", "pandas"):
    pytest.importorskip(package, reason=f"{package} is not installed")

ROOT = Path(__file__).resolve().parents[2]
CRS, SIZE, N = "EPSG:32631", 500.0, 60
LEFT, TOP = 440_000.0, 4_930_000.0
GAUGES = {"upper": 20, "lower": 50}  # row of the pixel, on the river in column 30
HOURS = 366 * 24


@pytest.fixture
def basin(tmp_path: Path) -> Path:
    """A valley that falls to the south, and a year of ERA5-Land; returns that configuration."""
    page = (ROOT / "docs" / "start" / "own_basin.md").read_text(encoding="utf-8")
    text = page.split("# basin.yaml\n")[1].split("```")[0]
    content = yaml.safe_load(text)
    content["end"] = "2001-01-01"
    (tmp_path / "basin.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    write_rasters(tmp_path)
    write_era5_land(tmp_path / "era5_land")
    lon, lat = lonlat(np.array(list(GAUGES.values())), np.full(2, 30))
    rows = [
        f"{name},{x:.5f},{y:.5f},{(row + 1) * N * 0.25:.1f}"
        for (name, row), x, y in zip(GAUGES.items(), lon, lat, strict=True)
    ]
    (tmp_path / "gauges.csv").write_text("\n".join(["station,lon,lat,area_km2", *rows]), encoding="utf-8")
    days = np.arange("2000-01-01", "2001-01-01", dtype="datetime64[D]")
    lines = [f"{day},{1 + i % 3},{3 + i % 5}" for i, day in enumerate(days)]
    (tmp_path / "discharge.csv").write_text("\n".join(["time,upper,lower", *lines]), encoding="utf-8")
    return tmp_path / "basin.yaml"


def lonlat(row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    return to_degrees.transform(LEFT + (col + 0.5) * SIZE, TOP - (row + 0.5) * SIZE)


def write_rasters(folder: Path) -> None:
    import rasterio

    row, col = np.mgrid[:N, :N]
    flow = np.where(col < 30, 1, np.where(col > 30, 16, 4)).astype(np.uint8)
    dem = (600 - 5 * row + 8 * abs(col - 30)).astype(np.float32)
    transform = rasterio.Affine(SIZE, 0, LEFT, 0, -SIZE, TOP)
    for name, values in (("flow", flow), ("dem", dem)):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", height=N, width=N, count=1, dtype=values.dtype, crs=CRS,
            transform=transform,
        ) as raster:
            if name == "dem":
                raster.units = ("m",)
            raster.write(values, 1)


def write_era5_land(folder: Path) -> None:
    """Hourly temperature [K], and rain accumulated since 00 UTC [m]: 0.2 mm an hour."""
    folder.mkdir()
    lon, lat = lonlat(np.array([0, N, 0, N]), np.array([0, 0, N, N]))
    east, north = np.arange(lon.min() - 0.2, lon.max() + 0.2, 0.1), np.arange(lat.max() + 0.2, lat.min() - 0.2, -0.1)
    hour = np.arange(HOURS + 1)  # the last rain of a day is stamped 00:00 of the next
    since = np.where(hour % 24 == 0, 24, hour % 24)
    since[0] = 24
    shape = hour.size, north.size, east.size
    with netCDF4.Dataset(folder / "2000.nc", "w") as dataset:
        for name, values, units in (
            ("time", hour, "hours since 2000-01-01"), ("latitude", north, "degrees_north"),
            ("longitude", east, "degrees_east"),
        ):
            dataset.createDimension(name, values.size)
            variable = dataset.createVariable(name, "f8", (name,))
            variable.units = units
            variable[:] = values
        season = 278.15 - 12 * np.cos(2 * np.pi * hour / HOURS)
        for name, values, units in (("t2m", season, "K"), ("tp", 0.2e-3 * since, "m")):
            variable = dataset.createVariable(name, "f4", ("time", "latitude", "longitude"))
            variable.units = units
            variable[:] = np.broadcast_to(values[:, None, None], shape)


@pytest.mark.slow
def test_the_configuration_of_the_readme_makes_a_basin_that_runs(basin: Path, tmp_path: Path) -> None:
    assert [f for f in examine(basin) if f.level == "fail" and f.subject == "prepare"] == []
    made = prepare(basin)
    domain = read_domain(made.files["domain"])
    assert domain.gauges.id == list(GAUGES)
    for quality, row in zip(made.report, GAUGES.values(), strict=True):
        assert quality.area == pytest.approx(0.25 * N * (row + 1), rel=0.005)
    assert [q.below for q in made.report] == ["lower", ""]
    assert domain.cells.area.mean() == pytest.approx(9.0, rel=2e-3)
    assert (domain.cells.mean_annual_snowfall > 100).all()
    with netCDF4.Dataset(made.files["forcing"]) as dataset:
        np.testing.assert_allclose(dataset["precipitation"][:], 4.8, rtol=1e-5)
        warmest = dataset["air_temperature"][:].max()
    assert warmest == pytest.approx(17, abs=0.1)
    assert made.report[1].record.precipitation == pytest.approx(4.8, rel=1e-5)
    assert made.report[1].record.runoff_ratio == pytest.approx(5 * 86.4 / 765 / 4.8, rel=0.01)
    assert [f for f in examine(basin) if f.level == "fail"] == []
    simulation = Simulation(load_config(basin))
    simulation.run()
    simulation.close()
    assert (tmp_path / "basin" / "run.nc").is_file()
