"""Small rasters made on the spot, and the two real cases, prepared once per session."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from toy_basin import write_raster, write_toy

ROOT = Path(__file__).resolve().parents[2]
CFG, SHARED = ROOT / "cfg", ROOT.parent / "shared" / "data"


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


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Path]]:
    """Prepare a real case, once for all tests."""
    for package in ("smash", "rasterio", "pyproj", "pyflwdir"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package '{package}' is not installed")
    from bmi_cdlm.prepare.run import prepare as make_files

    made: dict[str, dict[str, Path]] = {}

    def prepare(name: str) -> dict[str, Path]:
        if name not in made:
            made[name] = make_files(CFG / f"{name}.yaml", to=tmp_path_factory.mktemp(name)).files
        return made[name]

    return prepare


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
