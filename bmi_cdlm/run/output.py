"""Where a run writes what: checked before it starts, the same for one process and for many."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.fingerprints import FINGERPRINTS, check_fingerprints
from bmi_cdlm.files.netcdf import LIBRARY, open_input
from bmi_cdlm.files.output import Dimension
from bmi_cdlm.names.errors import ConfigError, OutputError
from bmi_cdlm.names.paths import same_file, taken_by
from bmi_cdlm.names.writing import LONGEST_NAME, check_writable
from bmi_cdlm.processes.catalogue import OF_CHAIN
from bmi_cdlm.run.config import Config

PREVIOUS = ".previous"
logger = logging.getLogger(__name__)


def check_outputs(config: Config) -> None:
    """Refuse output and restart paths that cannot be written."""
    for path in (config.output, config.restart):
        if path is not None:
            check_writable(path)


def output_places(config: Config, domain: Domain) -> tuple[Dimension, list[str], np.ndarray | None]:
    """Dimension of the output file, its ids, and their places among reaches; None for all reaches or cells."""
    at = config.output_at
    if at == "cells":
        return "cell", domain.cells.id, None
    if at == "reaches":
        return "reach", domain.reaches.id, None
    if at == "gauges":
        if config.output is not None and not domain.gauges.id:
            raise ConfigError("output_at: gauges, but the domain has none. Use reaches, cells, or reach ids.")
        return "gauge", domain.gauges.id, domain.gauges.reach
    wanted = set(at)
    place = {reach_id: i for i, reach_id in enumerate(domain.reaches.id) if reach_id in wanted}
    unknown = [i for i in at if i not in place]
    if unknown:
        raise ConfigError(f"output_at: the domain has no reach '{unknown[0]}'. Use ids of 'reach_id'.")
    return "reach", list(at), np.array([place[i] for i in at], np.int64)


def output_attributes(config: Config, made_of: str | None = None) -> dict[str, str]:
    """Global attributes of an output file; `made_of` are the fingerprints of a run that can be gone on with."""
    keys = ("start", "end", "time_step", "routing_step", *OF_CHAIN, "spin_up")
    words = {f"configuration_{key}": str(getattr(config, key)) for key in keys}
    return words if made_of is None else {**words, FINGERPRINTS: made_of}


def set_aside(config: Config) -> None:
    """Move the restart file of an earlier run out of the way of one that begins: nobody goes on from it by mistake."""
    path, begun = config.restart, config.initial_state
    if path is None or not path.exists() or (isinstance(begun, Path) and same_file(path, begun)):
        return
    aside = path.with_name(f"{path.name[:LONGEST_NAME - len(PREVIOUS)]}{PREVIOUS}")
    taken = taken_by(aside, config.files)
    if taken is not None:
        raise OutputError(
            f"{path}: was left by an earlier run and would be moved to {aside.name}, which is the file of {taken}. "
            "Move one of them."
        )
    try:
        path.replace(aside)
    except OSError as cause:
        raise OutputError(
            f"{path}: was left by an earlier run and cannot be moved to {aside.name} ({cause.strerror}). Move it."
        ) from cause
    logger.warning("%s: left by an earlier run, is now %s", path, aside.name)


def check_finished(config: Config, made_of: str | None) -> None:
    """Say that there is nothing left to do, if that is so.

    Raises
    ------
    OutputError
        The output is gone, or that of another run.
    """
    output = config.output
    if output is not None:
        if not output.exists():
            raise OutputError(
                f"{output}: there is no such file, though {config.restart} is that of the finished run. Run from the "
                "start, without --resume."
            )
        with LIBRARY, open_input(output, OutputError) as dataset:
            found = str(dataset.getncattr(FINGERPRINTS)) if FINGERPRINTS in dataset.ncattrs() else None
        check_fingerprints(found, made_of or "null", str(output), OutputError)
    logger.warning("%s: the run is finished, there is nothing left to do", config.restart)

