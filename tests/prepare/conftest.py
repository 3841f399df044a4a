"""Small rasters made on the spot, and reference files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def write_raster() -> Callable[..., Path]:
    """Write a GeoTIFF; pixels of 1 km in Lambert-93 unless told otherwise."""
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

    def write(
        path: Path, values: np.ndarray, *, left: float = 800_000.0, top: float = 6_500_000.0,
        size: float = 1000.0, crs: str | None = "EPSG:2154", nodata: float | None = -99.0,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        transform = rasterio.Affine(size, 0.0, left, 0.0, -size, top)
        with rasterio.open(
            path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1,
            dtype=values.dtype, crs=crs, transform=transform, nodata=nodata,
        ) as raster:
            raster.write(values, 1)
        return path

    return write


@pytest.fixture
def shared() -> Callable[[str], dict[str, np.ndarray]]:
    """Read all variables of a reference file."""

    def read(name: str) -> dict[str, np.ndarray]:
        if not (SHARED / name).is_file():
            pytest.skip(f"reference file {name} is not there")
        with netCDF4.Dataset(SHARED / name) as dataset:
            dataset.set_auto_mask(False)
            return {key: variable[:] for key, variable in dataset.variables.items()}

    return read
