"""Parameters and the formula of potential evapotranspiration that the configuration of a run names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.attributes import find_attribute, read_attribute
from bmi_cdlm.domain.domain import Cells, Domain
from bmi_cdlm.files.shared import version
from bmi_cdlm.generator.checkpoint import STARTS_AT, Checkpoint, load_checkpoint
from bmi_cdlm.kernels.groups import PetNetwork
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.buffers import FACTOR
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.lstm import Lstm
from bmi_cdlm.model.pet import Demand, make_place, takes_elevation
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import CheckpointError, ConfigError
from bmi_cdlm.names.parameters import STARTS, TRAVEL_TIME, check, grid_of
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.parameter_file import read_attribute_of, read_parameters

logger = logging.getLogger(__name__)
RAIN, DEMAND, TEMPERATURE = "precipitation", "potential_evapotranspiration", "air_temperature"
UNKNOWN = "unknown"
"""What a checkpoint says of its potential evapotranspiration when nobody told it."""


def read_any_parameters(
    config: Config, domain: Domain, places: Mapping[str, np.ndarray] | None = None
) -> tuple[dict[str, np.ndarray], PetNetwork | None]:
    """Parameters by registry name and the PET network, from whatever the configuration names.

    places : int64[], by grid, `cell` and `reach`, at which they are wanted; everywhere where None.

    Raises
    ------
    CheckpointError, DomainError, ParameterError
        A file that is refused, or that does not fit the run or the domain.
    """
    def at_places(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return found if places is None else {name: v[..., places[grid_of(name)]] for name, v in found.items()}

    own = at_places(parameters_of_domain(config, domain))
    if config.parameters == "default":
        return own, None
    path = Path(config.parameters)
    if path.suffix != ".safetensors":
        found = own | at_places(read_parameters(path, domain, config.time_step))
        _tell_defaults(config, found)
        learned = read_attribute_of(path, STARTS_AT)
        return found if learned is None else _with_start(config, str(path), learned, found), None
    checkpoint = fitting_checkpoint(config)
    values, pet = checkpoint.evaluate(config.domain, domain, places)
    if checkpoint.spec.has_start:
        values = _with_start(config, checkpoint.where, checkpoint.record.get(STARTS_AT), values)
    return own | values, pet if config.takes_demand else None


def parameters_of_domain(config: Config, domain: Domain) -> dict[str, np.ndarray]:
    """Parameters of cells that the domain file has as attributes, by registry name, for where nothing else gives them.

    Raises
    ------
    DomainError
        Such an attribute in other units, or missing in some cell.
    ParameterError
        A value outside of the legal range of its parameter.
    """
    wanted = [p for process in config.chain.cells for p in process.parameters if p.of_domain]
    found = {p.name: find_attribute(config.domain, domain, p.name, p.grid, p.units) for p in wanted}
    own = {name: values for name, values in found.items() if values is not None}
    check(own, f"{config.domain}: cell attributes", "Correct the domain file.")
    return own


def fitting_checkpoint(config: Config) -> Checkpoint:
    """The checkpoint that a configuration names.

    Raises
    ------
    CheckpointError
        It is none, or was trained for another run.
    """
    checkpoint = load_checkpoint(Path(config.parameters), config.member)
    spec = checkpoint.spec
    run = {
        "time_step": config.time_step, "routing_step": config.routing_step, **config.processes,
        "components": config.components,
    }
    cells, reach = any(p.parameters for p in config.chain.cells), bool(config.chain.reach.parameters)
    if not cells:  # of half a model, the other half is nobody's here
        run |= {"precipitation": spec.precipitation, "snow": spec.snow, "runoff": spec.runoff}
        run |= {"components": spec.components}
    if not reach:
        run |= {"routing": spec.routing, "routing_step": spec.routing_step}
    checkpoint.check_run(**run)  # type: ignore[arg-type]
    if config.takes_demand:
        _check_pet_kind(config, checkpoint)
    return checkpoint


def _with_start(
    config: Config, where: str, learned: str | None, values: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Leave a learned start out where it is that of another time, or a restart file has the state, and say so."""
    stored = isinstance(config.initial_state, Path)
    if learned == date_text(config.start) and not stored:
        return values
    if not stored:
        logger.warning(
            "%s: learned how full stores are at %s; this run starts at %s, with initial_state: %s and spin_up: %d",
            where, learned, date_text(config.start), config.initial_state, config.spin_up,
        )
    return {name: value for name, value in values.items() if name not in STARTS}


def read_lstm(config: Config, domain: Domain) -> Lstm | None:
    """The network of the parameters that vary in time, of a checkpoint that `read_any_parameters` has taken.

    Raises
    ------
    CheckpointError
        It reads a demand that the run does not take.
    """
    path = Path(config.parameters)
    if path.suffix != ".safetensors" or not config.chain.cells[-1].parameters:
        return None
    checkpoint = load_checkpoint(path, config.member)
    spec = checkpoint.spec.lstm
    if spec is None:
        return None
    if not config.takes_demand:
        raise CheckpointError(
            f"{checkpoint.where}: varies {', '.join(target.name for target in spec.targets)} by the demand, and in "
            "this run evapotranspiration is given in its place. Take out given_evapotranspiration, or use a checkpoint "
            "without `varying`."
        )
    network = checkpoint.lstm(config.domain, domain)
    assert network is not None
    return Lstm(network, {target.name: target.components for target in spec.targets})


def _tell_defaults(config: Config, found: Mapping[str, np.ndarray]) -> None:
    """Say which parameters of the run a file leaves to their defaults."""
    given = {*found, *(["celerity"] if TRAVEL_TIME in found else [])}
    declared = {p.name: p for process in config.chain.processes for p in process.parameters}
    left = [p for p in declared.values() if p.name not in given and not p.optional]
    if left:
        defaults = ", ".join(f"{p.name} {p.range_at(config.time_step).default:g} {p.units}" for p in left)
        logger.warning("%s: gives not every parameter; defaults are taken for %s", config.parameters, defaults)


def parameters_key(config: Config) -> tuple:
    """Whatever the parameters depend on."""
    run = (config.time_step, config.routing_step, config.chain.names, config.components, config.pet, config.pet_kind)
    files = (*version(config.domain), *version(Path(config.parameters)))
    return "parameters", *files, run, config.forcing == "caller", str(config.start), config.initial_state, config.member


def read_elevation(config: Config, domain: Domain) -> np.ndarray:
    """Elevation of the cells [m] where the formula of potential evapotranspiration takes it, else 0."""
    formula = config.pet_formula
    if formula is not None and takes_elevation(formula, config.time_step):
        return read_attribute(config.domain, domain, "elevation", "cell", "m")
    return np.zeros(domain.n_cells)


def make_demand(config: Config, cells: Cells, elevation: np.ndarray) -> Demand | None:
    """The formula of potential evapotranspiration at the cells; None where it is given."""
    formula = config.pet_formula
    if formula is None or not config.takes_demand:
        return None
    return Demand(formula, config.time_step, make_place(cells.lat, cells.lon, elevation))


def make_forcing(
    config: Config, demand: Demand | None, values: Mapping[str, np.ndarray], start: int, workers: Workers,
    shape: tuple[int, int],
) -> Forcing:
    """What the model reads of a run's inputs, float64[time, cell] in registry units: demand given, or by the formula.

    start : begin of the first step [s since 1970 UTC]; shape : of the inputs.
    """
    taken = config.chain.inputs
    pet = None
    if demand is not None:
        pet = demand.evaluate(values, start, workers)
    elif DEMAND in taken:  # 0 where evapotranspiration itself is given in its place
        pet = values[DEMAND] if DEMAND in values else np.zeros(shape)
    warmth = values[TEMPERATURE] if TEMPERATURE in taken else None
    others = _others(taken)
    rain = values[RAIN] if RAIN in taken else np.zeros(shape)
    given = {name: values[name] if name in values else np.zeros(shape) for name in others}
    return Forcing(rain, pet, warmth, others=given or None)


@cache
def _others(taken: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in taken if name not in (RAIN, DEMAND, TEMPERATURE))


def same_kind(a: str, b: str) -> bool:
    """Whether two words mean the same potential evapotranspiration, however they are spelt."""
    return _plain(a) == _plain(b)


def _check_pet_kind(config: Config, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that was trained with another potential evapotranspiration, as far as both say which."""
    trained = checkpoint.spec.pet.kind if checkpoint.spec.pet is not None else UNKNOWN
    kind = config.pet_kind if config.pet == "given" else config.pet
    if trained == UNKNOWN or (kind is None and config.forcing != "caller"):
        return
    if kind is None or not same_kind(kind, trained):
        got = "says nothing of" if kind is None else f"has '{kind}' for"
        raise CheckpointError(
            f"{checkpoint.where}: corrects the potential evapotranspiration '{trained}', the run {got} it. Set "
            f"pet_kind: {trained} if that is what is given, or pet to that formula."
        )


def _plain(kind: str) -> str:
    return "".join(c for c in kind.lower() if c.isalnum())


def check_pet_outputs(config: Config, parameters: Mapping[str, np.ndarray], pet: PetNetwork | None) -> None:
    """Refuse outputs of a factor on potential evapotranspiration where there is none."""
    for name in config.output_variables:
        if variable(name).part == "pet" and pet is None and FACTOR not in parameters:
            raise ConfigError(
                f"output_variables: '{name}' needs a checkpoint with a PET network in 'parameters', or a parameter "
                f"file with '{FACTOR}', and there is none. Leave it out, or name such a file."
            )
