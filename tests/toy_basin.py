"""A basin of 8 pixels with one gauge, and two days of weather, one of them without rain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

CELLS = ["0000_0000", "0000_0001", "0000_0002", "0001_0000", "0001_0001", "0002_0000", "0002_0001", "0002_0002"]


def write_raster(
    path: Path, values: np.ndarray, *, left: float = 800_000.0, top: float = 6_500_000.0, size: float = 1000.0,
    crs: str | None = "EPSG:2154", nodata: float | None = -99.0,
) -> Path:
    """Write a GeoTIFF; pixels of 1 km in Lambert-93 unless told otherwise."""
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(size, 0.0, left, 0.0, -size, top)
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1,
        dtype=values.dtype, crs=crs, transform=transform, nodata=nodata,
    ) as raster:
        raster.write(values, 1)
    return path


def write_toy(folder: Path) -> Path:
    """Write its inputs into the folder `source`, and the configuration beside that; returns the configuration."""
    source = folder / "source"
    write_raster(source / "flow.tif", np.array([[5, 5, 7], [3, 5, -99], [3, 5, 7]], np.float32))
    (source / "gauges.csv").write_text("code,x,y,area,dor\nT1,801400,6497600,8.1,12\n")
    (source / "qobs").mkdir()
    (source / "qobs" / "T1.csv").write_text("20191231\n0.5\n-99\n0.05\n0.07\n")
    field = np.arange(9, dtype=np.float32).reshape(3, 3)
    write_raster(source / "rain" / "20200101.tif", field)
    write_raster(source / "pet" / "0101.tif", field + 1)
    write_raster(source / "pet" / "0102.tif", field + 2)
    write_raster(source / "clay.tif", field / 10)
    content = {
        "domain": "out/domain.nc", "forcing": "out/forcing.nc", "observations": "out/observations.nc",
        "output": "out/run.nc", "start": "2020-01-01", "end": "2020-01-03", "forcing_fill": "zero",
        "prepare": {
            "title": "Toy", "origin": "made up",
            "network": {"directions": "source/flow.tif", "encoding": "clockwise", "areas": "map"},
            "gauges": {
                "table": "source/gauges.csv", "columns": {"id": "code", "degree_of_regulation": "dor"},
                "units": {"degree_of_regulation": "%"}, "crs": "EPSG:2154", "radius": 1500,
            },
            "attributes": {"rasters": {"clay": {"source": "source/clay.tif", "units": "1"}}, "upstream": ["clay"]},
            "forcing": {
                "precipitation": {"source": "source/rain/%Y%m%d.tif", "units": "mm d-1", "missing": ["2020-01-02"]},
                "potential_evapotranspiration": {
                    "source": "source/pet/%m%d.tif", "units": "mm d-1", "interannual": True,
                },
            },
            "observations": {
                "source": "source/qobs/{id}.csv", "layout": "values", "step": "1 d", "units": "m3 s-1",
                "missing_values": [-99],
            },
        },
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def change(config: Path, block: str, **keys: object) -> Path:
    """Change keys of a block of `prepare`; None leaves one out."""
    content = yaml.safe_load(config.read_text())
    target = content["prepare"].setdefault(block, {}) if block else content["prepare"]
    for key, value in keys.items():
        target[key] = value
        if value is None:
            del target[key]
    config.write_text(yaml.safe_dump(content))
    return config
