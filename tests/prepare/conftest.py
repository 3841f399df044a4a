"""Small rasters made on the spot, and reference files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from toy_basin import write_raster, write_toy

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(name="write_raster")
def raster_writer() -> Callable[..., Path]:
    """Write a GeoTIFF; see `toy_basin.write_raster`."""
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    return write_raster


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The configuration of a small basin, with its inputs in the folder `source` below it."""
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    return write_toy(tmp_path)


@pytest.fixture
def daily(tmp_path: Path) -> dict[str, dict]:
    """Sources of rain, demand and warmth of three days; see `forcing_cases`."""
    from forcing_cases import daily_weather

    return daily_weather(tmp_path)


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
