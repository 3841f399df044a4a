"""Small synthetic domains, networks, parameters and forcing; no pytest here, so that scripts can use it too."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Links, Reaches, read_domain
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.time_steps import DAY


class Field(NamedTuple):
    """One variable of a domain file; units None where it has none."""

    dims: tuple[str, ...]
    units: str | None
    values: np.ndarray


def lumped_domain(n: int = 1, snowfall: float = 200.0) -> Domain:
    """n basins of one cell of 1 km2 and one reach of length 0 each, so that discharge is runoff [m3 s-1]."""
    zero, one = np.zeros(n), np.ones(n)
    names = [str(i) for i in range(n)]
    return Domain(
        Cells(names, zero, zero, one, one, np.zeros((n, 4)), np.zeros((n, 4)), np.full(n, snowfall),
              np.full(n, 500.0), one),
        Reaches(names, np.full(n, -1), zero, zero, one, one, zero, zero),
        Links(np.arange(n + 1), np.arange(n), one),
        Gauges([], [], np.zeros(0, np.int64), np.zeros(0)),
        np.arange(n),
    )


def random_downstream(rng: np.random.Generator, n: int, outlets: int = 2, bushiness: int = 12) -> np.ndarray:
    """A river forest in shuffled order; a small bushiness makes long rivers, a large one wide trees."""
    below = np.array([-1 if i < outlets else rng.integers(max(0, i - bushiness), i) for i in range(n)])
    place = rng.permutation(n)
    shuffled = np.empty(n, np.int64)
    shuffled[place] = np.where(below >= 0, place[below], -1)
    return shuffled


def domain_fields(
    downstream: np.ndarray, link_cell: np.ndarray, link_reach: np.ndarray, link_area: np.ndarray, n_cells: int,
    gauge_reach: np.ndarray, rng: np.random.Generator,
) -> dict[str, Field]:
    """All variables of a valid domain file: areas follow from the links, the rest is drawn."""
    n = downstream.size
    area = np.bincount(link_reach, weights=link_area, minlength=n)
    drained = np.bincount(link_cell, weights=link_area, minlength=n_cells)
    length = rng.choice([0.0, 500.0, 1000.0, 2000.0, 30000.0], n) * rng.uniform(0.5, 1.5, n)

    def cell(units, values):
        return Field(("cell",), units, values)

    def reach(units, values):
        return Field(("reach",), units, values)

    return {
        "cell_id": Field(("cell",), None, np.array([f"c{i}" for i in range(n_cells)], object)),
        "cell_lon": cell("degrees_east", rng.uniform(0, 2, n_cells)),
        "cell_lat": cell("degrees_north", rng.uniform(44, 46, n_cells)),
        "cell_area": cell("km2", np.maximum(drained, 0.1)),
        "mean_annual_snowfall": cell("mm yr-1", rng.choice([0.0, 40.0, 300.0], n_cells)),
        "reach_id": Field(("reach",), None, np.array([f"r{i}" for i in range(n)], object)),
        "downstream": reach(None, downstream),
        "reach_length": reach("m", length),
        "reach_slope": reach("1", rng.uniform(0, 0.1, n)),
        "reach_area": reach("km2", area),
        "reach_lon": reach("degrees_east", rng.uniform(0, 2, n)),
        "reach_lat": reach("degrees_north", rng.uniform(44, 46, n)),
        "link_cell": Field(("link",), None, link_cell),
        "link_reach": Field(("link",), None, link_reach),
        "link_area": Field(("link",), "km2", link_area),
        "gauge_id": Field(("gauge",), None, np.array([f"g{i}" for i in range(gauge_reach.size)], object)),
        "gauge_name": Field(("gauge",), None, np.array([f"at reach {i}" for i in gauge_reach], object)),
        "gauge_reach": Field(("gauge",), None, gauge_reach),
        "gauge_area": Field(("gauge",), "km2", np.full(gauge_reach.size, np.nan)),
    }


def random_fields(seed: int, n_reaches: int, n_cells: int, n_links: int | None = None) -> dict[str, Field]:
    """A valid domain file of a random forest: some reaches without a link, some cells without one."""
    rng = np.random.default_rng(seed)
    n_links = 2 * n_reaches if n_links is None else n_links
    link_cell, link_reach = np.divmod(rng.choice(n_cells * n_reaches, n_links, replace=False), n_reaches)
    return domain_fields(
        random_downstream(rng, n_reaches), link_cell, link_reach, rng.uniform(0.01, 3.0, n_links), n_cells,
        rng.permutation(n_reaches)[:4], rng,
    )


def write_domain(path: Path, fields: Mapping[str, Field]) -> Path:
    """Write a domain file, valid or not: text as strings, whole numbers as int64, the rest as float64."""
    sizes: dict[str, int] = {}
    for field in fields.values():
        sizes.update(zip(field.dims, field.values.shape, strict=True))
    with netCDF4.Dataset(path, "w") as dataset:
        for name, size in sizes.items():
            dataset.createDimension(name, size)
        for name, (dims, units, values) in fields.items():
            kind = str if values.dtype == object else "i8" if values.dtype.kind == "i" else "f8"
            target = dataset.createVariable(name, kind, dims)
            if units is not None:
                target.units = units
            target[...] = values
    return path


def read_fields(fields: Mapping[str, Field]) -> Domain:
    """The domain of a file of these variables."""
    with tempfile.TemporaryDirectory() as folder:
        return read_domain(write_domain(Path(folder) / "domain.nc", fields))


def random_domain(seed: int, n_reaches: int, n_cells: int, n_links: int | None = None) -> Domain:
    """A random domain, through a file and the reader; its cells lie up to 2500 m high."""
    found = read_fields(random_fields(seed, n_reaches, n_cells, n_links))
    return found._replace(cells=found.cells._replace(elevation=np.linspace(0.0, 2500.0, n_cells)))


def random_parameters(seed: int, domain: Domain, step: int = DAY) -> dict[str, np.ndarray]:
    """Every parameter at random, within and somewhat beyond its learning range."""
    rng = np.random.default_rng(seed)
    n, m = domain.n_cells, domain.n_reaches
    hours = 1 if step == DAY else 24
    return {
        "production_capacity": np.exp(rng.uniform(np.log(1), np.log(3000), n)),
        "exchange_coefficient": rng.uniform(-10, 5, n) / hours,
        "routing_capacity": np.exp(rng.uniform(np.log(1), np.log(1000), n)),
        "unit_hydrograph_base": rng.uniform(0, 5, n) * hours,
        "thermal_weighting": rng.uniform(0, 1, n) if step == DAY else rng.uniform(0.9, 1, n),
        "melt_factor": rng.uniform(0.5, 15, n) / hours,
        "accumulation_threshold": rng.uniform(1, 100, n),
        "cover_ratio_threshold": rng.uniform(0.05, 1, n),
        "celerity": np.exp(rng.uniform(np.log(0.1), np.log(5), m)),
        "weighting": rng.uniform(0, 0.5, m),
    }


def random_forcing(seed: int, n_steps: int, n_cells: int) -> Forcing:
    """Wet and dry, warm and cold steps, ties P = E = 0 among them."""
    rng = np.random.default_rng(seed)
    shape = (n_steps, n_cells)
    wet = rng.random(shape) < 0.5
    season = np.sin(np.linspace(0, 6, n_steps))[:, None]
    return Forcing(
        np.where(wet, rng.exponential(12.0, shape), 0.0),
        np.where(rng.random(shape) < 0.1, 0.0, rng.uniform(0, 6, shape)),
        4.0 + 10.0 * season + rng.normal(0, 4, shape),
    )


def part_of(forcing: Forcing, first: int, last: int) -> Forcing:
    """The steps first to last of a forcing."""
    parts = forcing.part(slice(first, last))
    return Forcing(*(
        {n: np.ascontiguousarray(v) for n, v in a.items()} if isinstance(a, Mapping)
        else None if a is None else np.ascontiguousarray(a) for a in parts
    ))
