"""Complete runnable cases on a random river network: domain, parameters, forcing, observations, configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import netCDF4
import numpy as np
import yaml
from make_domain import domain_fields, random_domain, random_fields, random_forcing, random_parameters, write_domain

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

START = np.datetime64("2001-03-01", "s")
SEED, N_REACHES, N_CELLS, N_GAUGES = 7, 40, 25, 4
N_STEPS = {DAY: 9, HOUR: 31}
ROWS, COLUMNS, SPACING, WEST, SOUTH = 6, 5, 0.03, 3.1, 44.2
P, E, T = (variable(n).name for n in ("precipitation", "potential_evapotranspiration", "air_temperature"))
Q, GAUGE_Q, DEPTH = (variable(n).name for n in ("discharge", "gauge_discharge", "runoff_depth"))


def write_case(
    folder: Path, *, step: int = DAY, n_steps: int | None = None, lumped: bool = False, name: str = "case.yaml",
    **keys: object,
) -> Path:
    """Write all files of a case; `keys` replace configuration keys, None leaves one out. Returns the YAML's path."""
    folder.mkdir(parents=True, exist_ok=True)
    n_steps = N_STEPS[step] if n_steps is None else n_steps
    fields = lumped_fields() if lumped else random_fields(SEED, N_REACHES, N_CELLS)
    n_cells = fields["cell_area"].values.size
    write_domain(folder / "domain.nc", fields)
    write_random_parameters(folder / "parameters.nc", step, lumped=lumped)
    write_forcing(folder / "forcing.nc", case_forcing(n_steps, n_cells), step, fields["cell_id"].values)
    gauge_id = fields["gauge_id"].values
    discharge = np.random.default_rng(SEED).uniform(0, 5, (n_steps, gauge_id.size))
    write_series(folder / "observations.nc", "gauge", gauge_id, {"discharge": (discharge, "m3 s-1")}, START, step)
    content = {
        "domain": "domain.nc", "forcing": "forcing.nc", "parameters": "parameters.nc",
        "observations": "observations.nc",
        "start": str(START), "end": str(START + np.timedelta64(n_steps * step, "s")),
        "time_step": "1 d" if step == DAY else "1 h", "routing_step": "1 h" if step == DAY else "15 min",
    }
    return write_config(folder / name, content, **keys)


def regular_case(folder: Path, **keys: object) -> tuple[Path, np.ndarray]:
    """A case with its cells on a grid of 6 by 5, five places of it empty; the places, row by row from the south."""
    config = write_case(folder, **{"grid_profile": "rectilinear", "time_units": "since", **keys})
    last = ROWS * COLUMNS - 1
    places = np.random.default_rng(2).choice(np.arange(1, last), N_CELLS, replace=False)
    places[:2] = 0, last  # both corners are there, so that the grid is known
    row, column = np.divmod(places, COLUMNS)
    with netCDF4.Dataset(folder / "domain.nc", "a") as dataset:
        dataset["cell_lon"][:] = WEST + SPACING * column
        dataset["cell_lat"][:] = SOUTH + SPACING * row
    return config, places


def write_config(path: Path, content: Mapping[str, object], **keys: object) -> Path:
    """Write a configuration; `keys` replace those of `content`, None leaves one out."""
    merged = {k: v for k, v in {**content, **keys}.items() if v is not None}
    path.write_text(yaml.safe_dump(merged), encoding="utf-8")
    return path


def change_config(config: Path, name: str = "changed.yaml", **keys: object) -> Path:
    """Write a changed copy of a configuration beside it."""
    return write_config(config.parent / name, yaml.safe_load(config.read_text()), **keys)


def lumped_fields() -> dict:
    """One cell of 3 km2, one reach, one gauge."""
    one = np.zeros(1, np.int64)
    return domain_fields(np.array([-1]), one, one, np.array([3.0]), 1, one, np.random.default_rng(SEED))


def case_forcing(n_steps: int, n_cells: int) -> Forcing:
    """The forcing of a case, float64[time, cell]."""
    return random_forcing(SEED, n_steps, n_cells)


def write_random_parameters(path: Path, step: int, *, lumped: bool) -> None:
    domain = random_domain(SEED, N_REACHES, N_CELLS)
    values = random_parameters(SEED, domain, step)
    ids = {"cell": domain.cells.id, "reach": domain.reaches.id}
    if lumped:
        values = {n: v[:1] for n, v in values.items()}
        ids = {"cell": ["c0"], "reach": ["r0"]}
    write_parameters(path, values, ids)


def write_parameters(path: Path, values: Mapping[str, np.ndarray], ids: Mapping[str, list[str]] | None = None) -> Path:
    """Write parameters on cells and reaches, in the order of `ids` (or without ids)."""
    with netCDF4.Dataset(path, "w") as dataset:
        for name, value in values.items():
            grid = parameter(name).grid
            if grid not in dataset.dimensions:
                dataset.createDimension(grid, value.size)
            target = dataset.createVariable(name, "f8", (grid,))
            target.units = parameter(name).units
            target[:] = value
        for grid, names in (ids or {}).items():
            dataset.createVariable(f"{grid}_id", str, (grid,))[:] = np.array(names, object)
    return path


def add_cell_attribute(domain: Path, name: str, values: np.ndarray, units: str) -> None:
    """Give the cells of a domain file an attribute, float64[cell]."""
    with netCDF4.Dataset(domain, "a") as file:
        variable = file.createVariable(f"cell_{name}", "f8", ("cell",))
        variable.units = units
        variable[:] = values


def write_forcing(path: Path, forcing: Forcing, step: int, cell_id: np.ndarray, start: np.datetime64 = START) -> Path:
    """Write all three inputs."""
    units = {"precipitation": "mm d-1", "potential_evapotranspiration": "mm d-1", "air_temperature": "degC"}
    columns = {n: (getattr(forcing, n), u) for n, u in units.items()}
    return write_series(path, "cell", cell_id, columns, start, step)


def write_series(
    path: Path, dimension: str, ids: np.ndarray, columns: Mapping[str, tuple[np.ndarray, str]], start: np.datetime64,
    step: int,
) -> Path:
    """Write variables on (time, dimension); `time` is the start of a step."""
    n_steps = next(iter(columns.values()))[0].shape[0]
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.createDimension("time", n_steps)
        dataset.createDimension(dimension, len(ids))
        time = dataset.createVariable("time", "i8", ("time",))
        time.units = "seconds since 1970-01-01"
        time[:] = start.astype("datetime64[s]").astype(np.int64) + step * np.arange(n_steps)
        dataset.createVariable(f"{dimension}_id", str, (dimension,))[:] = np.array(list(ids), object)
        for name, (values, units) in columns.items():
            target = dataset.createVariable(name, "f8", ("time", dimension))
            target.units = units
            target[:] = values
    return path


@contextmanager
def opened(config: Path) -> Iterator[BmiCdlm]:
    """An initialized component, finalized at the end."""
    component = BmiCdlm()
    component.initialize(str(config))
    try:
        yield component
    finally:
        component.finalize()


@contextmanager
def simulated(config: Path) -> Iterator[Simulation]:
    """A simulation, closed at the end."""
    simulation = Simulation(load_config(config))
    try:
        yield simulation
    finally:
        simulation.close()


def outputs(component: BmiCdlm) -> dict[str, np.ndarray]:
    """A copy of every output."""
    return {n: component.get_value_ptr(n).copy() for n in component.get_output_var_names()}


def step_all(component: BmiCdlm, names: tuple[str, ...] = (Q,)) -> dict[str, np.ndarray]:
    """Update to the end, one step at a time; returns float64[time, n]."""
    rows: dict[str, list[np.ndarray]] = {n: [] for n in names}
    while component.get_current_time() < component.get_end_time():
        component.update()
        for n in names:
            rows[n].append(component.get_value_ptr(n).copy())
    return {n: np.array(v) for n, v in rows.items()}


def assert_same(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Every array equal, bit for bit."""
    assert list(got) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
