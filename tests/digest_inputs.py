"""Inputs of the digest test, the same bits on every machine: whole numbers mixed from seeds, then sums and products.

No logarithm, no root, no sum over an array whose order a library may choose. Nothing of bmi_cdlm is imported: files are
written as their formats say, so that any version of the package can read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import yaml
from safetensors.numpy import save_file

DAY, HOUR = 86400, 3600
START = np.datetime64("2001-01-20", "s")
LENGTHS = np.array([0.0, 500.0, 1000.0, 2000.0, 30000.0])
SNOWFALL = np.array([0.0, 40.0, 300.0])
PER_STEP = "mm per step"


def mixed(seed: int, *shape: int) -> np.ndarray:
    """Return numbers from 0 to 1 that look random, float64[shape]: 53 bits of splitmix64, exact."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed * 1_000_003)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53


def between(seed: int, low: float, high: float, *shape: int) -> np.ndarray:
    return low + (high - low) * mixed(seed, *shape)


def dyadic(seed: int, low: int, high: int, parts: int, *shape: int) -> np.ndarray:
    """Return multiples of 1 / parts from low to high; with parts a power of two, their sums are exact."""
    return low + np.floor(mixed(seed, *shape) * ((high - low) * parts)) / parts


class Size(NamedTuple):
    """Of a made domain; bushiness: small makes long rivers, large wide trees."""

    reaches: int
    cells: int
    outlets: int = 3
    bushiness: int = 60


COUNTRY, SMALL = Size(1500, 400), Size(40, 15, 2, 8)


def write_domain(path: Path, size: Size, seed: int = 1) -> Path:
    """Write a river forest in shuffled order: some reaches without a link, most with one or two."""
    n, cells = size.reaches, size.cells
    draw = mixed(seed, n)
    lowest = np.maximum(0, np.arange(n) - size.bushiness)
    below = np.where(np.arange(n) < size.outlets, -1, lowest + (draw * (np.arange(n) - lowest)).astype(np.int64))
    place = np.argsort(mixed(seed + 1, n), kind="stable")
    downstream = np.empty(n, np.int64)
    downstream[place] = np.where(below >= 0, place[np.maximum(below, 0)], -1)
    reach = np.arange(n)
    near = reach[reach % 17 != 5]
    second = reach[(reach % 3 == 1) & (reach % 17 != 5)]
    link_reach = np.concatenate([near, second])
    link_cell = np.concatenate([near * cells // n, (second * cells // n + 1) % cells])
    link_area = dyadic(seed + 2, 0, 3, 64, link_reach.size) + 1 / 64
    forest = np.floor(mixed(seed + 3, cells) * 3)
    lengths = LENGTHS[(mixed(seed + 9, n) * 5).astype(np.int64)] * dyadic(seed + 10, 0, 1, 32, n)
    steep = np.floor(mixed(seed + 4, n) * 3)
    fields: dict[str, tuple[str, str | None, np.ndarray]] = {
        "cell_id": ("cell", None, names("c", cells)),
        "cell_lon": ("cell", "degrees_east", dyadic(seed + 5, -2, 9, 64, cells)),
        "cell_lat": ("cell", "degrees_north", dyadic(seed + 6, 40, 55, 64, cells)),
        "cell_area": ("cell", "km2", np.maximum(np.bincount(link_cell, link_area, cells), 0.5)),
        "mean_annual_snowfall": ("cell", "mm yr-1", SNOWFALL[(mixed(seed + 7, cells) * 3).astype(np.int64)]),
        "cell_elevation": ("cell", "m", dyadic(seed + 8, 10, 1900, 4, cells)),
        "cell_forest": ("cell", "1", forest),
        "reach_id": ("reach", None, names("r", n)),
        "downstream": ("reach", None, downstream),
        "reach_length": ("reach", "m", lengths),
        "reach_slope": ("reach", "1", dyadic(seed + 11, 0, 1, 1024, n) / 8),
        "reach_steepness": ("reach", "1", steep),
        "reach_area": ("reach", "km2", np.bincount(link_reach, link_area, n)),
        "reach_lon": ("reach", "degrees_east", dyadic(seed + 12, -2, 9, 64, n)),
        "reach_lat": ("reach", "degrees_north", dyadic(seed + 13, 40, 55, 64, n)),
        "link_cell": ("link", None, link_cell),
        "link_reach": ("link", None, link_reach),
        "link_area": ("link", "km2", link_area),
        "gauge_id": ("gauge", None, names("g", 6)),
        "gauge_name": ("gauge", None, names("gauge ", 6)),
        "gauge_reach": ("gauge", None, place[np.array([0, 1, 2, n // 5, n // 2, n - 1])]),
        "gauge_area": ("gauge", "km2", np.full(6, np.nan)),
    }
    with netCDF4.Dataset(path, "w") as dataset:
        for name, (dimension, units, values) in fields.items():
            put(dataset, name, (dimension,), values, units)
    return path


def names(prefix: str, count: int) -> np.ndarray:
    return np.array([f"{prefix}{i}" for i in range(count)], object)


def put(dataset: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: np.ndarray, units: str | None) -> None:
    """Write a variable, and its dimensions where they are new: text, whole numbers or float64."""
    for dimension, length in zip(dims, values.shape, strict=True):
        if dimension not in dataset.dimensions:
            dataset.createDimension(dimension, length)
    target = dataset.createVariable(name, str if values.dtype == object else values.dtype.str[1:], dims)
    if units is not None:
        target.units = units
    target[...] = values


def write_parameters(path: Path, size: Size, step: int, longest: float, seed: int = 50) -> Path:
    """Write every parameter at random, within and beyond its learning range. longest: X4 [steps].

    A longest X4 of 1 gives 0.5 and 1 only, whose unit hydrographs need no power.
    """
    n, m, scale = size.cells, size.reaches, 1.0 if step == DAY else 1 / 32
    small, kind = mixed(seed, n) < 0.4, mixed(seed + 1, n)
    base = np.where(kind < 0.1, 0.0, between(seed + 2, 0.25, longest, n))
    base[0] = longest
    if longest == 1.0:
        base = np.where(kind < 0.5, 0.5, 1.0)
    values = {
        "production_capacity": ("mm", np.where(small, between(seed + 3, 1, 90, n), between(seed + 4, 90, 2500, n))),
        "exchange_coefficient": (PER_STEP, between(seed + 5, -6, 3, n) * scale),
        "routing_capacity": ("mm", np.where(small, between(seed + 6, 1, 40, n), between(seed + 7, 40, 900, n))),
        "unit_hydrograph_base": ("steps", base),
        "thermal_weighting": ("1", mixed(seed + 8, n) if step == DAY else between(seed + 8, 0.9, 1.0, n)),
        "melt_factor": ("mm degC-1 per step", between(seed + 9, 0.5, 12, n) * scale),
        "accumulation_threshold": ("mm", between(seed + 10, 1, 90, n)),
        "cover_ratio_threshold": ("1", between(seed + 11, 0.05, 1, n)),
        "celerity": ("m s-1", between(seed + 12, 0.1, 4, m)),
        "weighting": ("1", between(seed + 13, 0, 0.5, m)),
    }
    with netCDF4.Dataset(path, "w") as dataset:
        for name, (units, array) in values.items():
            put(dataset, name, ("cell" if array.size == n else "reach",), array, units)
        put(dataset, "cell_id", ("cell",), names("c", n), None)
        put(dataset, "reach_id", ("reach",), names("r", m), None)
    return path


def write_forcing(path: Path, size: Size, step: int, n_steps: int, seed: int = 80) -> Path:
    """Write all inputs: wet and dry, warm and cold, ties P = E = 0; hours with nights."""
    shape, time = (n_steps, size.cells), np.arange(n_steps)
    phase = (time % 40) / 20.0
    season = np.where(phase < 1, phase, 2 - phase)[:, None]  # a triangle from 0 to 1: frost, thaw and frost again
    warmth = -9.0 + 20.0 * season + 8.0 * (mixed(seed, *shape) - 0.5)
    wet, amount = mixed(seed + 1, *shape) < 0.5, mixed(seed + 2, *shape)
    light = np.maximum(0.0, 1.0 - np.abs(time % 24 - 12) / 6.0)[:, None] if step == HOUR else 1.0
    columns = {
        "precipitation": ("mm d-1", np.where(wet, 60.0 * amount * amount * amount, 0.0)),
        "potential_evapotranspiration": (
            "mm d-1", np.where(mixed(seed + 3, *shape) < 0.1, 0.0, between(seed + 4, 0, 6, *shape))
        ),
        "air_temperature": ("degC", warmth),
        "minimum_air_temperature": ("degC", warmth - between(seed + 5, 0, 7, *shape)),
        "maximum_air_temperature": ("degC", warmth + between(seed + 6, 0, 7, *shape)),
        "specific_humidity": ("1", between(seed + 7, 0.0005, 0.006, *shape)),
        "air_pressure": ("Pa", between(seed + 8, 80_000, 101_000, *shape)),
        "shortwave_radiation": ("W m-2", between(seed + 9, 20, 320, *shape) * light),
        "wind_x": ("m s-1", between(seed + 10, -5, 5, *shape)),
        "wind_y": ("m s-1", between(seed + 11, -5, 5, *shape)),
    }
    with netCDF4.Dataset(path, "w") as dataset:
        put_time(dataset, step, n_steps)
        put(dataset, "cell_id", ("cell",), names("c", size.cells), None)
        for name, (units, values) in columns.items():
            put(dataset, name, ("time", "cell"), values, units)
    return path


def put_time(dataset: netCDF4.Dataset, step: int, n_steps: int) -> None:
    first = START.astype("datetime64[s]").astype(np.int64)
    put(dataset, "time", ("time",), first + step * np.arange(n_steps, dtype=np.int64), "seconds since 1970-01-01")


def write_observations(path: Path, step: int, n_steps: int, seed: int = 120) -> Path:
    """Write discharge at the six gauges, a tenth of it missing."""
    values = np.where(mixed(seed, n_steps, 6) < 0.1, np.nan, between(seed + 1, 0.5, 40, n_steps, 6))
    with netCDF4.Dataset(path, "w") as dataset:
        put_time(dataset, step, n_steps)
        put(dataset, "gauge_id", ("gauge",), names("g", 6), None)
        put(dataset, "discharge", ("time", "gauge"), values, "m3 s-1")
    return path


def attribute(name: str, units: str, mean: float, std: float) -> dict[str, Any]:
    return {
        "name": name, "units": units, "transform": "none", "floor": 1.0, "mean": mean, "std": std, "low": 0.0,
        "high": 2000.0,
    }


def network(grid: str, attribute_name: str, targets: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """A linear mapping whose sigmoid gives exactly the least value, the middle or the greatest."""
    return {
        "mapping": "linear", "attributes": [attribute(f"{grid}_{attribute_name}", "1", 1.0, 1.0)], "hidden": [],
        "activation": "tanh", "targets": [
            {"name": name, "low": low, "high": high, "default": 0.5 * (low + high), "scale": "linear"}
            for name, (low, high) in targets.items()
        ],
    }


def write_checkpoint(path: Path, step: int, routing_step: int, snow: str, hidden: tuple[int, ...], seed: int) -> Path:
    """Write a trained generator as its format says; its static parameters need no function of a library."""
    scale = 1.0 if step == DAY else 1 / 32
    targets = {
        "production_capacity": (80.0, 900.0), "exchange_coefficient": (-2.0 * scale, 1.0 * scale),
        "routing_capacity": (20.0, 300.0), "unit_hydrograph_base": (0.75, 4.5 if step == DAY else 40.0),
    }
    if snow != "none":
        targets |= {"thermal_weighting": (0.25, 0.75), "melt_factor": (1.0 * scale, 8.0 * scale)}
    if snow == "cemaneige_hysteresis":
        targets |= {"accumulation_threshold": (5.0, 80.0), "cover_ratio_threshold": (0.25, 0.75)}
    features = [("precipitation", "mm d-1", 6.0, 0.5, 0.25), ("potential_evapotranspiration", "mm d-1", 0.0, 3.0, 2.0)]
    if snow != "none":
        features.append(("air_temperature", "degC", 0.0, 1.0, 8.0))
    sizes = (len(features) + 2 + 1, *hidden, 1)
    specification = {
        "cell": network("cell", "forest", targets), "reach": network("reach", "steepness", {"celerity": (0.25, 3.0)}),
        "pet": {
            "features": [dict(zip(("name", "units", "half", "mean", "std"), f, strict=True)) for f in features],
            "attributes": [attribute("cell_elevation", "m", 512.0, 256.0)], "hidden": list(hidden), "low": 0.25,
            "high": 2.0, "kind": "unknown",
        },
        "step": step, "routing_step": routing_step, "snow": snow,
    }
    sign = np.where(np.arange(len(targets)) % 2, -128.0, 128.0)
    tensors = {
        "cell.0.weight": sign[:, None].copy(), "cell.0.bias": np.zeros(len(targets)),
        "reach.0.weight": np.array([[128.0]]), "reach.0.bias": np.zeros(1),
    }
    for k, (n_in, n_out) in enumerate(pairwise(sizes)):
        tensors[f"pet.{k}.weight"] = dyadic(seed + 2 * k, -1, 1, 64, n_out, n_in)
        tensors[f"pet.{k}.bias"] = dyadic(seed + 2 * k + 1, -1, 1, 64, n_out)
    record = {
        "code_version": "0", "gauges": ["g0"], "periods": {"train": ["2001-03-01", "2001-03-10"]},
        "scores": {"g0": {"nse": 0.5}}, "fingerprints": {"domain": "0" * 64}, "licence": "MIT", "command": "none",
    }
    header: dict[str, Any] = {"format": "bmi_cdlm checkpoint 1", "specification": specification, "record": record}
    digest = hashlib.sha256()
    parts = [json.dumps(header, sort_keys=True).encode()]
    for name in sorted(tensors):
        value = tensors[name]
        parts += [name.encode(), f"{value.dtype}{list(value.shape)}".encode(), value.tobytes()]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    header["digest"] = digest.hexdigest()
    save_file(tensors, path, {"bmi_cdlm": json.dumps(header, sort_keys=True)})
    return path


def write_config(path: Path, content: Mapping[str, object], **keys: object) -> Path:
    """Write a configuration; `keys` replace those of `content`, None leaves one out."""
    merged = {k: v for k, v in {**content, **keys}.items() if v is not None}
    path.write_text(yaml.safe_dump(merged), encoding="utf-8")
    return path
