"""`cdlm prepare`: from rasters and tables to the domain, forcing and observations that a configuration names."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmi_cdlm.files.netcdf import one_at_a_time, open_input, read_strings
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError
from bmi_cdlm.names.writing import check_writable, replacing
from bmi_cdlm.prepare.config import GaugesConfig, PrepareConfig, load_prepare_config
from bmi_cdlm.prepare.gauges.gauge_table import read_gauge_table
from bmi_cdlm.prepare.gauges.legacy import import_legacy, keep_legacy, read_legacy
from bmi_cdlm.prepare.gauges.official_areas import check_is_new, told_of, with_official_areas
from bmi_cdlm.prepare.gauges.quality import REPORT, GaugeQuality, assess, write_report
from bmi_cdlm.prepare.gauges.records import write_observations
from bmi_cdlm.prepare.gauges.snapping import SnappedGauges, snap_gauges
from bmi_cdlm.prepare.labels import labels_of, titled, words_of
from bmi_cdlm.prepare.needs import check_climate, steps_of, unmet_needs, weather_of
from bmi_cdlm.prepare.network.attributes import Attribute, Table, add_climate, cell_and_reach_attributes
from bmi_cdlm.prepare.network.border import border_notes
from bmi_cdlm.prepare.network.catchments import Drainage
from bmi_cdlm.prepare.network.domain_file import Labels, write_domain
from bmi_cdlm.prepare.network.existing import add_to_domain, attributes_of_existing, read_existing
from bmi_cdlm.prepare.network.links import check_covered
from bmi_cdlm.prepare.network.mizuroute import read_listed
from bmi_cdlm.prepare.network.network import build_drainage
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig
from bmi_cdlm.run.config import Config

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
    plan = _Plan(run, config, path.parent if source is None else source, labels_of(config, path), say, [], there)
    if config.network is None:
        assert config.legacy is not None
        return Prepared(import_legacy(config.legacy, run.domain, plan.folder), [], {})
    files = _outputs(plan)
    for file in files.values():
        check_writable(file)
    check_climate(run, config)
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
    check_climate(run, config)
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
        write_domain(domain, drainage, gauges, table.cell, table.reach, titled(plan.labels, "domain"))
        if legacy is not None and config.legacy is not None:
            files |= keep_legacy(config.legacy, domain, legacy, run.domain.parent)
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


def _make_observations(plan: _Plan, path: Path, gauges: SnappedGauges) -> None:
    config = plan.config.observations
    assert config is not None
    official = [site.area if np.isfinite(site.area) else drained for site, drained in
                zip(gauges.sites, gauges.area.tolist(), strict=True)]
    ids = [site.id for site in gauges.sites]
    steps = steps_of(plan.run, config.start, config.end)
    areas = dict(zip(ids, official, strict=True))
    notes = words_of(titled(plan.labels, "observed discharge"))
    write_observations(path, config, areas, steps.starts, steps.step, plan.folder, notes)


def _make_forcing(plan: _Plan, path: Path, target: Target) -> None:
    config = plan.config.forcing
    assert config is not None
    steps = steps_of(plan.run, config.start, config.end)
    notes = words_of(titled(plan.labels, "forcing"))
    made = write_forcing(path, weather_of(plan.run, plan.config), target, steps, plan.folder, notes, plan.say)
    plan.notes.extend(f"forcing: {note}" for note in made)


def _target(drainage: Drainage, gauges: SnappedGauges | None, table: Table) -> Target:
    elevation: Attribute | None = table.cell.get("elevation")
    return Target(
        drainage, [] if gauges is None else [site.id for site in gauges.sites],
        np.zeros(0, np.int64) if gauges is None else gauges.reach, None if elevation is None else elevation.values,
    )


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
