"""Splits of gauges: which are fitted, and which no training of the split sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.evaluate.summary import read_regions
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.file_names import file_names
from bmi_cdlm.prepare.gauges.hierarchy import fold_gauges, nest
from cdlm_training.experiment.config import Design, ExperimentConfig


class Split(NamedTuple):
    """A split: its design, its name (of a folder), the gauges to fit and those held out, by id."""

    design: Design
    name: str
    fitted: tuple[str, ...]
    held_out: tuple[str, ...]


def make_splits(domain: Domain, config: ExperimentConfig, chosen: Sequence[str]) -> list[Split]:
    """All splits of the designs of an experiment.

    chosen : ids of the gauges that have records to fit; the others are never fitted, and held out with their fold or
    region.

    Raises
    ------
    ConfigError
        Fewer independent basins than folds; a split without a gauge to fit or to hold out.
    """
    ids = domain.gauges.id
    splits = []
    for design in config.designs:
        for name, out in _held_out(domain, config, design).items():
            fitted = tuple(g for g in ids if g in chosen and g not in out)
            if not fitted or not (out or design == "temporal"):
                what = "to fit" if not fitted else "to hold out"
                raise ConfigError(
                    f"experiment.designs: {design} leaves no gauge {what} ({name}). Leave it out, or choose others."
                )
            splits.append(Split(design, name, fitted, tuple(g for g in ids if g in out)))
    return splits


def _held_out(domain: Domain, config: ExperimentConfig, design: Design) -> dict[str, set[str]]:
    """Gauges that are held out, by the name of the split."""
    ids = np.array(domain.gauges.id, object)
    if design == "temporal":
        return {"all": set()}
    if design == "folds":
        fold = fold_gauges(domain, config.folds)
        return {f"fold{k}": set(ids[fold == k]) for k in range(config.folds)}
    if design == "regions":
        assert config.regions is not None
        region = read_regions(config.regions, domain.gauges.id)
        names = file_names(sorted(set(region.values())))
        return {name: {g for g in ids if region[g] == r} for r, name in names.items()}
    tree = nest(domain.reaches.downstream, domain.reaches.upstream_area, domain.gauges.reach)
    return {"all": set(ids[tree.below >= 0] if design == "upstream" else ids[tree.n_above > 0])}
