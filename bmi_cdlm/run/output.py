"""Where a run writes what: checked before it starts, the same for one process and for many."""

from __future__ import annotations

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.output import Dimension
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import check_writable
from bmi_cdlm.run.config import Config


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


def output_attributes(config: Config) -> dict[str, str]:
    """Global attributes of an output file."""
    keys = ("start", "end", "time_step", "routing_step", "snow", "spin_up")
    return {f"configuration_{key}": str(getattr(config, key)) for key in keys}
