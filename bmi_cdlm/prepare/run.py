"""`cdlm prepare`: from rasters and tables to the domain, forcing and observations that a configuration names."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_strings, read_values
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError, nearest
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.names.writing import check_writable, replacing
from bmi_cdlm.prepare.config import GaugesConfig, PrepareConfig, load_prepare_config
from bmi_cdlm.prepare.gauges.gauge_table import read_gauge_table
from bmi_cdlm.prepare.gauges.legacy import Legacy, add_priors, read_legacy, write_legacy
from bmi_cdlm.prepare.gauges.official_areas import check_is_new, told_of, with_official_areas
from bmi_cdlm.prepare.gauges.quality import REPORT, GaugeQuality, assess, write_report
from bmi_cdlm.prepare.gauges.records import write_observations
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges, snap_gauges
from bmi_cdlm.prepare.network.attributes import Attribute, Table, add_climate, cell_and_reach_attributes
from bmi_cdlm.prepare.network.border import border_notes
from bmi_cdlm.prepare.network.catchments import Drainage
from bmi_cdlm.prepare.network.domain_file import Labels, write_domain
from bmi_cdlm.prepare.network.existing import add_to_domain, attributes_of_existing, read_existing
from bmi_cdlm.prepare.network.links import check_covered
from bmi_cdlm.prepare.network.mizuroute import read_listed
from bmi_cdlm.prepare.network.network import build_drainage
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.packages import PACKAGE
from bmi_cdlm.prepare.weather.climate import SHORTEST_CLIMATE
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig
from bmi_cdlm.run.config import Config

SNOWFALL = "mean_annual_snowfall"
REMEDIES = {SNOWFALL: "{climate: true} (with air_temperature)", "elevation": "{elevation: {source: dem.tif}}"}
"""How a preparation makes the attributes of cells that processes take."""
logger = logging.getLogger(__name__)
Say = Callable[[str], None]


class Prepared(NamedTuple):
    """What was made: files by what they are; the report on the gauges; ids and reasons of gauges left out; what there
    is to say: basins at the raster's edge, distances of stations, values that come from a neighbour.
    """

    files: dict[str, Path]
    report: list[GaugeQuality]
    dropped: dict[str, str]
    notes: tuple[str, ...] = ()


class _Plan(NamedTuple):
    """A preparation: the run it is for, its keys, where inputs lie, the words for its files, whom to tell what is
    being done, what is to be said at the end, and the domain file that is there (network.existing).
    """

    run: Config
    config: PrepareConfig
    folder: Path
    labels: Labels
    say: Say
    notes: list[str]
    there: Path


def prepare(
    path: Path, source: Path | None = None, to: Path | None = None, say: Say = logger.info, *, force: bool = False
) -> Prepared:
    """Make the files of a configuration: network > gauges > attributes > observations > forcing > domain > report.

    Parameters
    ----------
    path : Path
        Configuration with a block `prepare`; the files go where its keys `domain`, `forcing`, `observations` say.
    source : Path, optional
        Folder that relative paths of inputs begin in; that of the configuration unless given.
    to : Path, optional
        Folder for the files, under their names.
    say : callable
        Told what is being done.
    force : bool
        Replace files of another domain too.

    Raises
    ------
    CdlmError
        Whatever is wrong with a key or an input. The files are replaced together at the end, so that an error leaves
        the old ones; forcing blocks made before a kill are taken up again.
    """
    run, config = load_prepare_config(path)
    there = run.domain
    if to is not None:
        names = {key: getattr(run, key) for key in ("domain", "forcing", "observations")}
        run = run.model_copy(update={k: to / p.name for k, p in names.items() if isinstance(p, Path)})
    plan = _Plan(run, config, path.parent if source is None else source, _labels(config, path), say, [], there)
    if config.network is None:
        return Prepared(_import_legacy(plan, run.domain.parent), [], {})
    files = _outputs(plan)
    for file in files.values():
        check_writable(file)
    _check_climate(plan)
    gauges = _make(plan, files, force)
    report: list[GaugeQuality] = []
    if gauges is not None and gauges.sites:
        say("report on the gauges")
        judged = run if "domain" in files else run.model_copy(update={"domain": there})
        report = assess(judged, gauges, config.gauges or GaugesConfig(table=str(config.network.table)))
        files["report"] = run.domain.with_name(REPORT)
        write_report(files["report"], report, gauges.dropped)
    return Prepared(files, report, {} if gauges is None else gauges.dropped, tuple(plan.notes))


def rehearse(run: Config, config: PrepareConfig, folder: Path) -> str:
    """Do what `prepare` does before it reads any weather, and write nothing: outputs, climate, network and gauges.

    Returns
    -------
    str
        Why the files that are there would not be replaced, or the empty string.

    Raises
    ------
    CdlmError
        Whatever would stop `prepare` there.
    """
    plan = _Plan(run, config, folder, Labels("", ""), logger.debug, [], run.domain)
    files = _outputs(plan)
    _check_climate(plan)
    if config.network is None:
        return ""
    drainage, _, _ = _network(plan)
    try:
        _check_same_domain(files, drainage)
    except ConfigError as error:
        return str(error)
    return ""


def _make(plan: _Plan, files: dict[str, Path], force: bool) -> SnappedGauges | None:
    run, config, folder, _, say, *_ = plan
    assert config.network is not None
    check_is_new(config)
    say("river network, cells and links")
    drainage, gauges, table = _network(plan)
    if not force:
        _check_same_domain(files, drainage)
    plan.notes.extend(border_notes(drainage, () if gauges is None else gauges.reach.tolist()))
    legacy = None
    if config.legacy is not None:
        legacy = read_legacy(config.legacy, folder, drainage.reaches.id.tolist(), drainage.reaches.length)
    if table is None:
        say(f"attributes of {drainage.cells.area.size} cells and {drainage.reaches.length.size} reaches")
        table = cell_and_reach_attributes(config.attributes, drainage, folder)
    if not config.network.existing:
        plan.notes.extend(unmet_needs(run, config, table.cell))
    added = Table({}, {})
    if config.network.existing and "domain" in files:
        say(f"attributes of {drainage.cells.area.size} cells and {drainage.reaches.length.size} reaches")
        added = attributes_of_existing(config.attributes, drainage, folder, plan.there)
        table = Table({**table.cell, **added.cell}, {**table.reach, **added.reach})
    with ExitStack() as stack:
        if "observations" in files and gauges is not None:
            say(f"observations at {len(gauges.sites)} gauges")
            _make_observations(plan, stack.enter_context(replacing(files["observations"])), gauges)
        forcing = None
        if "forcing" in files:
            say("forcing")
            forcing = stack.enter_context(_staged(files["forcing"]))
            _make_forcing(plan, forcing, _target(drainage, gauges, table))
        elif run.forcing != "caller" and Path(run.forcing).is_file():
            forcing = Path(run.forcing)
        if "domain" not in files:
            return gauges
        if config.network.existing:
            add_climate(added, config.attributes, drainage, forcing)
            domain = stack.enter_context(replacing(files["domain"]))
            shutil.copyfile(plan.there, domain)
            replaced = add_to_domain(domain, added, drainage)
            plan.notes.extend([f"attributes: replaced {', '.join(replaced)} of the domain."] if replaced else [])
            return gauges
        add_climate(table, config.attributes, drainage, forcing)
        say("domain")
        if gauges is not None and config.gauges is not None and config.gauges.official_areas:
            found = gauges
            drainage, gauges = with_official_areas(drainage, found)
            plan.notes.append(told_of(found))
        domain = stack.enter_context(replacing(files["domain"]))
        write_domain(domain, drainage, gauges, table.cell, table.reach, _titled(plan.labels, "domain"))
        if legacy is not None:
            files |= _keep_legacy(plan, domain, legacy, run.domain.parent)
    return gauges


def _network(plan: _Plan) -> tuple[Drainage, SnappedGauges | None, Table | None]:
    """Network, gauges on it, and the attributes where a list of catchments has brought them along."""
    network = plan.config.network
    assert network is not None
    if network.existing:
        made = read_existing(plan.there)
        return made.drainage, made.gauges, made.table
    if network.table is None:
        return *_drain(network, plan.config.gauges, plan.folder), None
    made = read_listed(network, plan.folder)
    plan.notes.extend(made.notes)
    return made.drainage, made.gauges, made.table


def _drain(
    network: NetworkConfig, config: GaugesConfig | None, folder: Path
) -> tuple[Drainage, SnappedGauges | None]:
    """River network and cells, with the gauges on them."""
    if config is None:
        return build_drainage(network, None, folder), None
    sites = read_gauge_table(config, folder)
    drainage = build_drainage(network, sites, folder, config.radius, config.without_area)
    gauges = snap_gauges(sites, drainage, config)
    if gauges.dropped and gauges.sites:  # they have had their say in where the network ends
        drainage = build_drainage(network, gauges.sites, folder, config.radius, config.without_area)
        gauges = snap_gauges(gauges.sites, drainage, config)._replace(dropped=gauges.dropped)
    check_covered(drainage, [site.id for site in gauges.sites], gauges.reach)
    return drainage, gauges


@one_at_a_time
def _check_same_domain(files: dict[str, Path], drainage: Drainage) -> None:
    """Refuse to replace a domain or forcing file that was made for other reaches or cells; ConfigError names it."""
    wanted = {"reach_id": set(drainage.reaches.id.tolist()), "cell_id": set(drainage.cells.id.tolist())}
    for key, names in (("domain", ("reach_id", "cell_id")), ("forcing", ("cell_id",))):
        path = files.get(key)
        if path is None or not path.is_file():
            continue
        for name in names:
            try:
                with open_input(path, DomainError) as dataset:
                    held = set(read_strings(dataset, name, str(path), DomainError))
            except CdlmError:
                continue  # no such file of ours: nothing that a run could miss
            if held != wanted[name]:
                kind = f"{name.removesuffix('_id')}{'es' if name == 'reach_id' else 's'}"
                raise ConfigError(
                    f"{path}: holds another domain, {len(held)} {kind} of which {len(held & wanted[name])} are among "
                    f"the {len(wanted[name])} that would be written. Expected the same, or no such file. Name another "
                    f"path with the key '{key}', or replace it with --force."
                )


def _outputs(plan: _Plan) -> dict[str, Path]:
    """Files that the configuration asks for, by key."""
    network = plan.config.network
    kept = network is not None and network.existing and plan.config.attributes == AttributesConfig()
    files = {} if kept else {"domain": plan.run.domain}
    for key, block in (("forcing", plan.config.forcing), ("observations", plan.config.observations)):
        if block is None:
            continue
        path = getattr(plan.run, key)
        if not isinstance(path, Path):
            raise ConfigError(
                f"prepare.{key} makes a file, but the key '{key}' of the run is {path or 'missing'}. Expected the path "
                f"to write, such as {key}: case/{key}.nc."
            )
        files[key] = path
    return files


def unmet_needs(run: Config, config: PrepareConfig, made: Container[str]) -> list[str]:
    """What the processes of the run take of cells and a new domain will not have; made : attributes that come along."""
    told = []
    for process in run.chain.cells:
        for name in process.attributes.values():
            if name in made or name not in REMEDIES or (config.attributes.climate and name == SNOWFALL):
                continue
            told.append(
                f"'{process.name}' of the run takes the attribute '{name}', which nothing here makes: the run will be "
                f"refused. Add prepare.attributes: {REMEDIES[name]}, or a raster called '{name}'."
            )
    return told


def _check_climate(plan: _Plan) -> None:
    """Refuse attributes of the forcing without one, climate without a year of it, before any is made."""
    run, config, *_ = plan
    wanted = config.attributes.of_forcing
    if "interception_capacity" in wanted and run.time_step >= DAY:
        raise ConfigError(
            "prepare.attributes.interception_capacity is true, but time_step is a day, expected less: in steps of "
            "a day nothing is left on the leaves to find it by. Set it to false."
        )
    if wanted and config.forcing is None:
        if run.forcing == "caller" or not Path(run.forcing).is_file():
            raise ConfigError(
                f"prepare.attributes.{wanted[0]} is true, but there is neither a block prepare.forcing nor the file "
                f"that 'forcing' names ({run.forcing}). Expected one of both. Add the block, or set it to false."
            )
        return
    if not config.attributes.climate:
        return
    assert config.forcing is not None
    steps = steps_of(run, config.forcing.start, config.forcing.end)
    days = steps.starts.size * steps.step // DAY
    if days < SHORTEST_CLIMATE:
        raise ConfigError(
            f"prepare.attributes.climate is true, but the forcing has {days} days, expected {SHORTEST_CLIMATE} or "
            "more. Set prepare.forcing.start and end to a longer period, or climate: false."
        )


def _make_observations(plan: _Plan, path: Path, gauges: SnappedGauges) -> None:
    config = plan.config.observations
    assert config is not None
    official = [site.area if np.isfinite(site.area) else drained for site, drained in
                zip(gauges.sites, gauges.area.tolist(), strict=True)]
    ids = [site.id for site in gauges.sites]
    steps = steps_of(plan.run, config.start, config.end)
    areas = dict(zip(ids, official, strict=True))
    notes = _words(_titled(plan.labels, "observed discharge"))
    write_observations(path, config, areas, steps.starts, steps.step, plan.folder, notes)


def _make_forcing(plan: _Plan, path: Path, target: Target) -> None:
    config = plan.config.forcing
    assert config is not None
    steps = steps_of(plan.run, config.start, config.end)
    notes = _words(_titled(plan.labels, "forcing"))
    made = write_forcing(path, weather_of(plan.run, plan.config), target, steps, plan.folder, notes, plan.say)
    plan.notes.extend(f"forcing: {note}" for note in made)


def weather_of(run: Config, config: PrepareConfig) -> Weather:
    """What the forcing file of a run is made of: climate attributes want demand too, by the run's own formula."""
    assert config.forcing is not None
    needed, pet = (*run.needed(),), config.pet
    weather = Weather(config.forcing, pet, needed)
    if run.pet != "given" and weather.method is None and config.attributes.of_forcing:
        weather = weather._replace(pet=pet.model_copy(update={"method": run.pet}))
    return weather


def _target(drainage: Drainage, gauges: SnappedGauges | None, table: Table) -> Target:
    elevation: Attribute | None = table.cell.get("elevation")
    return Target(
        drainage, [] if gauges is None else [site.id for site in gauges.sites],
        np.zeros(0, np.int64) if gauges is None else gauges.reach, None if elevation is None else elevation.values,
    )


def steps_of(run: Config, start: np.datetime64 | None, end: np.datetime64 | None) -> Steps:
    """Steps of a file that is made for a run, over a period of its own or that of the run."""
    first, last = run.start if start is None else start, run.end if end is None else end
    return Steps(np.arange(first, last, np.timedelta64(run.time_step, "s")), run.time_step)


# ---- older parameters ----------------------------------------------------------------------------------------


def _keep_legacy(plan: _Plan, domain: Path, legacy: Legacy, folder: Path) -> dict[str, Path]:
    """Write legacy parameters, or add them as priors to a domain file that is being made."""
    config = plan.config.legacy
    assert config is not None
    if config.use == "priors":
        add_priors(domain, legacy)
        return {}
    ids, _ = _reaches_of(domain)
    path = folder / config.output
    write_legacy(path, legacy, ids, config.table)
    return {"parameters": path}


def _import_legacy(plan: _Plan, folder: Path) -> dict[str, Path]:
    """Take legacy parameters over for a domain that is there."""
    config, domain = plan.config.legacy, plan.run.domain
    assert config is not None
    ids, length = _reaches_of(domain)
    legacy = read_legacy(config, plan.folder, ids, length)
    if config.use == "parameters":
        return _keep_legacy(plan, domain, legacy, folder)
    with replacing(domain) as temporary:
        shutil.copyfile(domain, temporary)
        add_priors(temporary, legacy)
    return {"domain": domain}


@one_at_a_time
def _reaches_of(path: Path) -> tuple[list[str], np.ndarray]:
    """Ids and lengths [m] of the reaches of a domain file, in its order."""
    with open_input(path, DomainError) as dataset:
        where = str(path)
        ids = read_strings(dataset, "reach_id", where, DomainError)
        return ids, read_values(dataset, "reach_length", ("reach",), "m", where, DomainError)


# ---- words and files -----------------------------------------------------------------------------------------


def _labels(config: PrepareConfig, path: Path) -> Labels:
    used = sorted({text.removeprefix(PACKAGE).partition("/")[0] for text in _texts(config.model_dump()) if
                   text.startswith(PACKAGE)})
    packages = importlib.metadata.packages_distributions() if used else {}
    versions = [
        f"{name} "
        f"{importlib.metadata.version(name)}" for module in used for name in sorted(set(packages.get(module, [])))
    ]
    return Labels(config.title or path.stem, "; ".join(t for t in (config.origin, *versions) if t), config.license)


def _texts(value: object) -> Iterator[str]:
    """Every text anywhere in nested keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _texts(inner)


def _titled(labels: Labels, what: str) -> Labels:
    return labels._replace(title=f"{labels.title}: {what}")


def _words(labels: Labels) -> dict[str, str]:
    """Global attributes, those that say nothing left out."""
    words = {"title": labels.title, "source": labels.source, "license": labels.license, **labels.notes}
    return {key: value for key, value in words.items() if value}


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """Give a path beside `path` that stays the same after a kill, so that its blocks are found again."""
    staged = path.with_name(f".{path.name}.new")
    try:
        yield staged
    except CdlmError:
        staged.unlink(missing_ok=True)
        raise
    staged.replace(path)


def find_config(case: str) -> Path:
    """Return the configuration that a word on the command line means: a file, or `NAME` for cfg/NAME.yaml.

    Raises
    ------
    ConfigError
        Neither is there.
    """
    path = Path(case)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    short = Path("cfg") / f"{case}.yaml"
    if short.is_file():
        return short
    known = sorted(p.stem for p in Path("cfg").glob("*.yaml"))
    raise ConfigError(
        f"prepare: there is neither a file '{case}' nor '{short}'.{nearest(case, known)} Expected a configuration; "
        "name its path, or call from the folder that holds cfg/."
    )
