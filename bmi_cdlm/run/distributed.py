"""A run over the workers of a dask scheduler, partition by partition, with the results of one process, bit for bit.

The caller cuts domain and parameters into a folder beside the output, which all machines must see. A worker reads its
partition there and the forcing of its cells from the forcing file, takes the outflow of the partitions above it, and
leaves its output, its final state and its own outflow in the folder, complete or not at all: a partition whose worker
is lost runs again elsewhere, those that are complete do not.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.files.fingerprints import FINGERPRINTS
from bmi_cdlm.files.netcdf import LIBRARY
from bmi_cdlm.files.output import OutputFile
from bmi_cdlm.files.restart import Restart, write_restart
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.calendars import at_seconds
from bmi_cdlm.names.errors import CdlmError, ClusterError, ConfigError
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.fingerprints import fingerprints
from bmi_cdlm.run.output import check_outputs, output_attributes, output_places
from bmi_cdlm.run.parameters import check_pet_outputs, read_any_parameters, read_elevation, read_lstm
from bmi_cdlm.run.partition import Partition, make_part, partition, write_part
from bmi_cdlm.run.worker import INPUT, OUTPUT, STATE, STOP, code_version, run_partition
from bmi_cdlm.version import __version__

PER_THREAD = 4
"""Partitions per thread of the workers: enough to keep all busy, few enough that little is handed on."""
PATIENCE = 30.0
"""Seconds to wait for a scheduler, and for a worker where there is none."""
ASKED = 5
"""How often workers are asked for their version, of which one may be lost meanwhile."""
GRACE = 10.0
"""Seconds that workers get to leave a run that is given up; one that was lost has left its files behind."""
OURS = ("localhost", "127.", "[::1]", "::1")
Progress = Callable[[int], None]
logger = logging.getLogger(__name__)


class Tls(NamedTuple):
    """Files by which client, scheduler and workers know each other: authority, own certificate, its key (PEM)."""

    ca: Path
    cert: Path
    key: Path


def run_distributed(
    config: Config, address: str, count: int | None = None, progress: Progress = lambda steps: None,
    tls: Tls | None = None,
) -> Model:
    """Run to the end on the workers of a scheduler; output and restart file are written here, when all have finished.

    Parameters
    ----------
    config : Config
    address : str
        Of the scheduler, such as `tcp://host:8786`.
    count : int, optional
        About how many partitions to make; a few per thread of the workers unless given.
    progress : callable
        Called after each partition with a number of steps, which add up to those of the configuration.
    tls : Tls, optional
        Speak to nobody but who shows a certificate of this authority, and encrypted; `address` is `tls://...`.

    Returns
    -------
    Model
        At the end of the run, as one process leaves it.

    Raises
    ------
    ClusterError
        dask.distributed is not installed; the scheduler or its workers cannot be reached, or have another version; the
        worker of a partition was lost again and again.
    CdlmError
        Whatever a run in one process raises; where a worker found the fault, the message says in which partition.
    """
    if config.forcing == "caller":
        raise ConfigError("forcing is 'caller', expected a forcing file. Name one, or step through BMI.")
    if config.ledger_tolerance is not None:
        raise ConfigError(
            "ledger_tolerance is set, expected none: a partition does not see the balance of reaches at its boundary. "
            "Leave it out, or run in one process."
        )
    if config.restart_every is not None:
        logger.warning("restart_every: a run over a scheduler writes %s at its end only", config.restart)
    check_outputs(config)
    with _connected(address, tls) as client:
        config = _with_whole_paths(config)
        domain = read_domain(config.domain)
        parameters, pet = read_any_parameters(config, domain)
        lstm = read_lstm(config, domain)
        check_pet_outputs(config, parameters, pet)
        elevation = read_elevation(config, domain)
        output_places(config, domain)  # raises before the work starts
        share = PER_THREAD * sum(client.nthreads().values()) if count is None else count
        partitions = partition(domain.reaches.downstream, share)
        with _shared_folder(config) as folder:
            unlinked = np.setdiff1d(np.arange(domain.n_cells), domain.links.cell)
            for number, some in enumerate(np.array_split(unlinked, len(partitions))):
                part = make_part(domain, parameters, pet, elevation, partitions, number, some, lstm)
                write_part(folder / INPUT.format(number), part)
            _run_all(client, config, folder, partitions, progress)
            model = Model(
                domain, parameters, step=config.time_step, routing_step=config.routing_step, **config.processes,
                threads=config.threads, pet=pet,
                components={config.runoff: config.components}, lstm=lstm,
            )
            restart = _merge_states(folder, domain, partitions)
            model.restore(restart.cell, restart.reach)
            made_of = None if config.restart is None else fingerprints(config)
            if config.output is not None:
                _merge_outputs(config, folder, domain, partitions, made_of)
            if config.restart is not None and made_of is not None:
                words = {**restart.attributes, FINGERPRINTS: made_of}
                write_restart(config.restart, restart._replace(attributes=words))
    return model


@contextmanager
def _connected(address: str, tls: Tls | None) -> Iterator[Any]:
    """A client of a scheduler that has workers with our version."""
    try:
        from distributed import Client
    except ImportError as cause:
        raise ClusterError(
            "a run over a scheduler needs dask.distributed, which is not installed. pip install "
            "'bmi-cdlm[distributed]', or leave --scheduler out."
        ) from cause
    _warn_of_strangers(address)
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False, security=_security(tls))
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as cause:
        raise ClusterError(
            f"scheduler {address}: cannot be reached ({cause}). Expected the address of a running `dask scheduler`, "
            "such as tcp://host:8786."
        ) from cause
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as cause:
            raise _no_workers(address) from cause
        try:
            versions = _versions(client)
        except Exception as cause:
            raise ClusterError(
                f"scheduler {address}: its workers cannot run bmi_cdlm ({cause}). Install version {__version__} there."
            ) from cause
        for worker, version in versions.items():
            if version != __version__:
                raise ClusterError(
                    f"scheduler {address}: the worker {worker} has bmi_cdlm {version}, expected {__version__} as here. "
                    "Install the same version everywhere."
                )
        yield client


def _versions(client: Any) -> dict[str, str]:
    """Version of bmi_cdlm on every worker; asked again where one is lost while it is asked."""
    for _ in range(ASKED - 1):
        try:
            return dict(client.run(code_version))
        except OSError:
            time.sleep(1.0)
            client.wait_for_workers(1, timeout=PATIENCE)
    return dict(client.run(code_version))


def _warn_of_strangers(address: str) -> None:
    """Say that whoever reaches a plain port of another machine may run code there, and in our name here."""
    kind, _, host = address.rpartition("://")
    if kind in ("", "tcp", "ws") and not host.startswith(OURS):
        logger.warning(
            "%s: dask neither knows nor checks who speaks there; whoever reaches that port can run code on scheduler, "
            "workers and this machine. Use a network of your own, or tls:// with --tls-ca, --tls-cert and --tls-key "
            "(SECURITY.md).", address,
        )


def _security(tls: Tls | None) -> Any:
    """dask's own options; None where its configuration is to decide."""
    if tls is None:
        return None
    from distributed.security import Security

    for path in tls:
        if not path.is_file():
            raise ClusterError(f"{path}: there is no such file, expected a certificate or key (PEM). Correct --tls-*.")
    return Security(
        tls_ca_file=str(tls.ca), tls_client_cert=str(tls.cert), tls_client_key=str(tls.key), require_encryption=True
    )


def _no_workers(address: str) -> ClusterError:
    return ClusterError(
        f"scheduler {address}: has no workers, waited {PATIENCE:.0f} s. Start some: dask worker {address}."
    )


def _with_whole_paths(config: Config) -> Config:
    """The same configuration wherever a worker was started."""
    return config.model_copy(update={key: value.resolve() for key, value in config if isinstance(value, Path)})


@contextmanager
def _shared_folder(config: Config) -> Iterator[Path]:
    """A folder for this run, beside its output, that is gone in the end."""
    beside = config.output or config.restart or Path.cwd() / "cdlm"
    folder = Path(tempfile.mkdtemp(prefix=f".{beside.name}.", suffix=".parts", dir=beside.parent))
    try:
        yield folder
    except BaseException:
        (folder / STOP).touch()  # workers look for it after each block
        latest = time.monotonic() + GRACE
        while list(folder.glob("[0-9]*.*")) and time.monotonic() < latest:
            time.sleep(0.05)
        raise
    finally:
        gone = folder.with_suffix(".gone")  # at once, for whoever looks for its parts
        with suppress(OSError):
            folder.rename(gone)
        for left in (gone, folder):
            shutil.rmtree(left, ignore_errors=True)


def _run_all(
    client: Any, config: Config, folder: Path, partitions: Sequence[Partition], progress: Progress
) -> None:
    """Run all partitions; raises on the first that fails, and has the others given up."""
    from distributed import KilledWorker

    futures: list[Any] = []
    for number, own in enumerate(partitions):
        above = [futures[k] for k in own.after]
        futures.append(client.submit(
            run_partition, config, folder, number, len(partitions), above, key=f"{folder.name}-{number}", pure=False,
            priority=len(above),  # what waited for others is last: the main rivers
        ))
    address = client.scheduler.address
    whole, reaches, shown = sum(own.reaches.size for own in partitions), 0, 0
    try:
        for future in _finished(client, futures):
            reaches += partitions[future.result()].reaches.size
            now = config.n_steps * reaches // whole
            progress(now - shown)
            shown = now
    except CdlmError:
        raise
    except KilledWorker as cause:
        number = int(str(cause.task).rpartition("-")[2])
        raise ClusterError(
            f"partition {number + 1} of {len(partitions)} ({partitions[number].reaches.size} reaches): its worker was "
            "lost again and again, most often for want of memory. Give the workers more, or make more --partitions."
        ) from cause
    except (CancelledError, OSError) as cause:
        said = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ClusterError(
            f"scheduler {address}: was lost during the run ({said}). Start it, and the run, again."
        ) from cause
    finally:
        with contextlib.suppress(OSError):
            client.cancel(futures)


def _finished(client: Any, futures: Sequence[Any]) -> Iterator[Any]:
    """Futures as they finish, as long as there are workers."""
    from distributed import wait

    pending = set(futures)
    while pending:
        try:
            with client.as_current():
                done, pending = wait(pending, timeout=PATIENCE, return_when="FIRST_COMPLETED")
        except TimeoutError:
            if not client.nthreads():
                raise _no_workers(client.scheduler.address) from None
            continue
        yield from done


def _merge_states(folder: Path, domain: Domain, partitions: Sequence[Partition]) -> Restart:
    """State of the whole domain; a queue is as long as that of the partition with the longest unit hydrograph."""
    whole: dict[str, dict[str, np.ndarray]] = {"cell": {}, "reach": {}}
    size = {"cell": domain.n_cells, "reach": domain.n_reaches}
    for number, own in enumerate(partitions):
        with np.load(folder / str(number) / STATE) as file:
            place = {"cell": file["cells"], "reach": own.reaches}
            attributes, time = dict(file["attributes"].tolist()), file["time"][()]
            for key in file.files:
                grid, _, name = key.partition(".")
                if name:
                    values, kept = file[key], whole[grid].get(name)
                    if kept is None:
                        kept = np.zeros((*values.shape[:-1], size[grid]))
                    if values.ndim > 1:
                        rows = max(values.shape[0], kept.shape[0])
                        values, kept = _with_rows(values, rows), _with_rows(kept, rows)
                    kept[..., place[grid]] = values
                    whole[grid][name] = kept
    return Restart(whole["cell"], whole["reach"], domain.cells.id, domain.reaches.id, attributes, time)


def _with_rows(values: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(values, ((0, rows - values.shape[0]), *((0, 0) for _ in values.shape[1:])))


def _merge_outputs(
    config: Config, folder: Path, domain: Domain, partitions: Sequence[Partition], made_of: str | None
) -> None:
    """Write the output of all partitions to one file."""
    assert config.output is not None
    dimension, ids, index = output_places(config, domain)
    sources = list(_columns(folder, domain, partitions, dimension == "cell", index))
    with OutputFile(
        config.output, dimension, ids, config.output_variables, config.time_step * config.steps_per_output,
        output_attributes(config, made_of), precision=config.output_precision, calendar=config.calendar,
    ) as output:
        first, n_steps = 0, 1
        while first < n_steps:
            values = {name: np.empty((output.block_steps, len(ids))) for name in config.output_variables}
            for path, columns in sources:
                with LIBRARY, netCDF4.Dataset(path) as dataset:
                    dataset.set_auto_maskandscale(False)
                    n_steps = dataset.dimensions["time"].size
                    rows = slice(first, min(first + output.block_steps, n_steps))
                    starts = at_seconds(dataset.variables["time"][rows], config.calendar)
                    for name, block in values.items():
                        block[: starts.size, columns] = dataset.variables[name][rows]
            output.append(starts, {name: block[: starts.size] for name, block in values.items()})
            first += starts.size


def _columns(
    folder: Path, domain: Domain, partitions: Sequence[Partition], on_cells: bool, index: np.ndarray | None
) -> Iterator[tuple[Path, np.ndarray]]:
    """Output of every partition that has some, and the places of its points in that of the whole."""
    owner = np.empty(domain.n_reaches, np.int64)
    for number, own in enumerate(partitions):
        owner[own.reaches] = number
    at = owner if index is None else owner[index]
    for number in range(len(partitions)):
        done = folder / str(number)
        if on_cells:
            with np.load(done / STATE) as file:
                yield done / OUTPUT, file["cells"]
        elif (at == number).any():
            yield done / OUTPUT, np.flatnonzero(at == number)
