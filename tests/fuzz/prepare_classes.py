"""Classes of hostile inputs of a preparation: rasters, tables, its configuration."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from damage import VALUES, damaged, damaged_text
from harness import Outcome, call


def rasters(folder: Path, rng: random.Random) -> Outcome:
    path = rng.choice(sorted((folder / "source").rglob("*.tif")))
    if rng.random() < 0.6:
        path.write_bytes(damaged(path.read_bytes(), rng))
    else:
        import rasterio

        with rasterio.open(path, "r+") as file:
            odd = rng.choice([np.nan, np.inf, -1, 1e30, 255, 0])
            kind = rng.randrange(3)
            if kind == 0:
                values = file.read(1)
                values[rng.randrange(3), rng.randrange(3)] = odd
                file.write(values, 1)
            elif kind == 1:
                size = rng.choice([1e-9, 1e-3, 1e9, np.nan, np.inf, 1000.0])
                file.transform = rasterio.Affine(size, 0, rng.choice([8e5, 1e300, np.nan]), 0, -size, 6.5e6)
            else:
                file.crs = rng.choice(["EPSG:4326", "EPSG:3857", "EPSG:32761"])
    return _prepare(folder)


def tables(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "source" / rng.choice(["gauges.csv", "qobs/T1.csv"])
    text = path.read_text()
    kind = rng.random()
    if kind < 0.4:
        path.write_bytes(damaged(text.encode(), rng))
    elif kind < 0.9:
        words = text.replace("\n", ",\n,").split(",")
        words[rng.randrange(len(words))] = rng.choice(
            [*VALUES, "i" * 100_000, "\0", "1e400", "nan", "-inf", '"', "T1\nT1"]
        )
        path.write_text(",".join(words).replace(",\n,", "\n"), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_text(rng.choice(["", "\n" * 1000, "a", "," * 5000, text * 500, "#" + text]))
    return _prepare(folder)


def preparations(folder: Path, rng: random.Random) -> Outcome:
    path = folder / "toy.yaml"
    path.write_bytes(damaged_text(path.read_text(), rng))
    return _prepare(folder)


def _prepare(folder: Path) -> Outcome:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(["prepare", "toy.yaml", "--no-map", "--quiet"], folder, (".new", ".nc", ".csv", ".json"))
