"""Domains with attributes, generators with drawn weights, and checkpoints of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from make_domain import Field, random_fields, write_domain

from bmi_cdlm.generator.checkpoint import save_checkpoint
from bmi_cdlm.generator.generator import describe_forcing, make_spec
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.names.time_steps import DAY, HOUR

RECORD = {
    "gauges": ["g0"], "periods": {"train": ["2001-03-01", "2001-03-10"]}, "scores": {"g0": {"nse": 0.5}},
    "fingerprints": {"domain": "0" * 64}, "licence": "MIT", "command": "cdlm-train case.yaml",
}
CELL_ATTRIBUTES, REACH_ATTRIBUTES = ("forest", "elevation", "slope"), ("length", "slope", "upstream_area")


def attribute_fields(seed: int, n_reaches: int, n_cells: int) -> dict[str, Field]:
    """A valid domain file with attributes on cells; reaches have those that every domain has."""
    rng = np.random.default_rng(seed + 1)
    fields = random_fields(seed, n_reaches, n_cells)
    fields["cell_forest"] = Field(("cell",), "1", rng.uniform(0, 1, n_cells))
    fields["cell_elevation"] = Field(("cell",), "m", rng.uniform(100, 900, n_cells))
    fields["cell_slope"] = Field(("cell",), "1", np.maximum(rng.normal(0.05, 0.05, n_cells), 0.0))
    return fields


def write_attribute_domain(path: Path, seed: int = 7, n_reaches: int = 40, n_cells: int = 25) -> Path:
    return write_domain(path, attribute_fields(seed, n_reaches, n_cells))


def forcing_values(seed: int, n_steps: int, n_cells: int, *, warm: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = n_steps, n_cells
    values = {
        "precipitation": np.where(rng.random(shape) < 0.5, rng.exponential(9.0, shape), 0.0),
        "potential_evapotranspiration": rng.uniform(0, 6, shape),
    }
    return values | ({"air_temperature": rng.normal(4, 8, shape)} if warm else {})


def specify(domain: Path, *, snow: str = "cemaneige", step: int = DAY, **options) -> GeneratorSpec:
    """A generator for a domain of `write_attribute_domain`; `options` go to `make_spec`."""
    features = describe_forcing(forcing_values(3, 50, 25, warm=snow != "none"))
    return make_spec(domain, **{
        "cell_attributes": CELL_ATTRIBUTES, "reach_attributes": REACH_ATTRIBUTES, "snow": snow, "step": step,
        "routing_step": HOUR if step == DAY else 900, "hidden": (6, 5), "pet": True, "features": features,
        "pet_hidden": (7, 5), "pet_kind": "Oudin", **options,
    })


def drawn_tensors(spec: GeneratorSpec, seed: int = 0, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Weights far from the start."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.7, shape).astype(dtype) for name, shape in spec.shapes().items()}


def write_drawn_checkpoint(path: Path, spec: GeneratorSpec, seed: int = 0) -> Path:
    save_checkpoint(path, spec, drawn_tensors(spec, seed), RECORD)
    return path
