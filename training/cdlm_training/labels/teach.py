"""Labels as a generator is taught by them: which places each is a mean of, what it weighs, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.netcdf import select_ids
from bmi_cdlm.generator.specification import GeneratorSpec, NetworkSpec, Target
from bmi_cdlm.names.errors import nearest
from bmi_cdlm.names.parameters import STARTS, WEIGHT
from bmi_cdlm.prepare.gauges.hierarchy import folds
from bmi_cdlm.processes.catalogue import GIVEN
from bmi_cdlm.run.config import Config
from cdlm_training.fields import unbounded
from cdlm_training.labels.areas import Areas, own_areas, shares
from cdlm_training.labels.store import FARTHEST, LabelError, ReadLabels, read_labels
from cdlm_training.terms import Pretraining

OWN_ERROR = 0.25
"""What a label may be off where its restarts agree, on the scale without bounds: no label weighs without limit."""
BLOCK = 3.0
"""Side of the blocks that are held out together [degrees]."""
STEEPEST = 1e-6
"""A mean place in a range is no nearer to a bound, where its logit is infinite."""
KEYS = ("precipitation", "snow", "time_step")


class Lesson(NamedTuple):
    """What labels say to one network.

    places : int64[place], cells or reaches that labels are means of; site, place : int64[part], and share : of each
    part of the means; names : of the parameters, and output : int64[parameter], theirs in z; label, weight :
    float64[site, parameter], 0 weight where there is no label.
    """

    places: np.ndarray
    site: Tensor
    place: Tensor
    share: Tensor
    names: tuple[str, ...]
    output: Tensor
    label: Tensor
    weight: Tensor

    def means(self, share: Tensor) -> Tensor:
        """Area means of parameters, on the scale without bounds, [site, parameter].

        share : where they lie in their ranges, [place, output], of `regularisation.share`. Its mean over an area is
        that of the parameter, or of its logarithm where it moves by it.
        """
        own = share[:, self.output]
        mean = torch.zeros((self.label.shape[0], len(self.names)), dtype=own.dtype, device=own.device)
        return torch.logit(mean.index_add(0, self.site, own[self.place] * self.share[:, None]), eps=STEEPEST)


class Lessons(NamedTuple):
    """What labels say to the networks of cells and of reaches (None: nothing), and the fold of every site, int64[site],
    -1 of those that are left out."""

    cell: Lesson
    reach: Lesson | None
    fold: np.ndarray
    labels: ReadLabels


def make_lessons(
    config: Pretraining, run: Config, spec: GeneratorSpec, domain: Domain, held_out: Sequence[str] = ()
) -> Lessons:
    """Read labels for a generator.

    held_out : ids of gauges that the training holds out, whose labels are left out too.

    Raises
    ------
    LabelError
        Labels of another structure, step, place or range; fewer sites or blocks than folds.
    """
    placed = _place(config, run, domain, held_out)
    labels = placed.labels
    _check_structure(labels, run, spec)
    reach = None if placed.areas is None else _reach_lesson(labels, spec.reach, domain, placed.areas, placed.weight)
    lesson = _lesson(labels, spec.cell, placed.parts, placed.weight)
    return Lessons(lesson, reach, _folds(labels, config, placed.tree, placed.weight > 0), labels)


def check_folds(config: Pretraining, run: Config, domain: Domain, held_out: Sequence[str]) -> None:
    """Refuse labels that are too few, or lie too close together, once those of some gauges are left out; LabelError."""
    placed = _place(config, run, domain, held_out)
    _folds(placed.labels, config, placed.tree, placed.weight > 0)


class _Placed(NamedTuple):
    """Labels where they are: what sites weigh, float64[site]; own areas of gauges, None of cells; site, cell and share
    of each part, [part]; the tree of nested gauges of each, int64[site]."""

    labels: ReadLabels
    weight: np.ndarray
    areas: Areas | None
    parts: tuple[np.ndarray, np.ndarray, np.ndarray]
    tree: np.ndarray


def _place(config: Pretraining, run: Config, domain: Domain, held_out: Sequence[str]) -> _Placed:
    """Read labels, and find their places; those that are left out weigh nothing."""
    labels = read_labels(config.labels, run.runoff)
    weight, areas = site_weights(labels.kge, config), None
    if labels.sites.per == "gauge":
        at = select_ids(domain.gauges.id, labels.sites.id, "gauge_id", str(run.domain), LabelError)
        _check_left_out(config, domain)
        unseen = {*config.leave_out, *held_out}
        weight[[gauge in unseen for gauge in labels.sites.id]] = 0.0
        areas = own_areas(domain, at.tolist())
        parts, tree = shares(domain, areas), areas.tree
    else:
        cell = select_ids(domain.cells.id, labels.sites.id, "cell_id", str(run.domain), LabelError)
        parts, tree = (np.arange(cell.size), cell, np.ones(cell.size)), np.arange(cell.size)
    there = np.bincount(parts[0], minlength=weight.size) > 0
    return _Placed(labels, np.where(there, weight, 0.0), areas, parts, tree)


def _check_left_out(config: Pretraining, domain: Domain) -> None:
    for gauge in config.leave_out:
        if gauge not in domain.gauges.id:
            raise LabelError(
                f"pretrain.leave_out: the domain has no gauge '{gauge}'.{nearest(gauge, domain.gauges.id)} Known: "
                f"{', '.join(domain.gauges.id)}."
            )


def site_weights(kge: np.ndarray, config: Pretraining) -> np.ndarray:
    """What sites weigh, float64[site]: 0 below the mask, or where nothing is known."""
    above = np.nan_to_num(kge, nan=-np.inf) - config.mask_below
    if config.weight_by == "equal":
        return (above >= 0).astype(np.float64)
    return np.where(above > 0, above, 0.0)


def _check_structure(labels: ReadLabels, run: Config, spec: GeneratorSpec) -> None:
    for key in KEYS:
        have, want = ({"precipitation": GIVEN} | dict(labels.record)).get(key), str(getattr(run, key))
        if have != want:
            raise LabelError(
                f"{labels.where}: labels were made with {key}: {have}, the run has {key}: {want}. Expected labels of "
                "the same structure. Make them with this configuration (cdlm-train labels)."
            )
    for target in spec.cell.targets:
        if target.components > 1:
            raise LabelError(
                f"pretrain: '{target.name}' has {target.components} components here, and a label is one set. Set "
                "components: 1, or leave pretrain out."
            )
        taught = target.name not in STARTS and target.name != WEIGHT
        if taught and target.name not in labels.columns:
            raise LabelError(
                f"{labels.where}: has no label of '{target.name}', which is learned here; it has "
                f"{', '.join(labels.columns)}. Expected labels of the same structure. Make them with this "
                "configuration."
            )


def _reach_lesson(
    labels: ReadLabels, network: NetworkSpec, domain: Domain, areas: Areas, weight: np.ndarray
) -> Lesson | None:
    """Labels of reaches are means over the lengths of a gauge's own; None where there are none."""
    if not any(t.name in labels.columns for t in network.targets):
        return None
    own = np.flatnonzero(areas.reach >= 0)
    site, length = areas.reach[own], domain.reaches.length[own]
    total = np.bincount(site, weights=length, minlength=weight.size)
    there = total > 0
    own, site, length = (v[there[site]] for v in (own, site, length))
    return _lesson(labels, network, (site, own, length / total[site]), np.where(there, weight, 0.0))


def _lesson(
    labels: ReadLabels, network: NetworkSpec, parts: tuple[np.ndarray, np.ndarray, np.ndarray], weight: np.ndarray
) -> Lesson:
    both = zip(network.targets, network.rows, strict=True)
    targets = [(target, rows.start) for target, rows in both if target.name in labels.columns]
    label = np.zeros((weight.size, len(targets)))
    weights = np.zeros_like(label)
    for k, (target, _) in enumerate(targets):
        values, spread = labels.values[target.name], labels.spread[target.name]
        known = (weight > 0) & np.isfinite(values)
        _check_range(labels, target, values[known])
        label[known, k] = unbounded(target, values[known], FARTHEST)
        weights[known, k] = weight[known] / (spread[known] ** 2 + OWN_ERROR**2)
    site, place, share = parts
    places, at = np.unique(place, return_inverse=True)
    names, output = tuple(target.name for target, _ in targets), np.array([row for _, row in targets], np.int64)
    of = torch.from_numpy
    return Lesson(places, of(site), of(at), of(share), names, of(output), of(label), of(weights))


def _check_range(labels: ReadLabels, target: Target, values: np.ndarray) -> None:
    slack = 1e-9 * (target.high - target.low)
    if values.size and not (target.low - slack <= values.min() and values.max() <= target.high + slack):
        raise LabelError(
            f"{labels.where}: labels of '{target.name}' go from {values.min():g} to {values.max():g}, expected within "
            f"{target.low:g} to {target.high:g}, where it is learned. Widen it with training.ranges, or make labels "
            "with these."
        )


def _folds(labels: ReadLabels, config: Pretraining, tree: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Fold of every site, -1 of those without weight. A tree of nested gauges lies in the block of its first."""
    if np.count_nonzero(used) < config.folds:
        raise LabelError(
            f"{labels.where}: has {np.count_nonzero(used)} labels of a KGE above {config.mask_below:g}, expected "
            f"{config.folds} or more, one for each fold. Lower pretrain.folds or mask_below, or label more gauges."
        )
    group = tree
    if config.split == "blocks":
        first = np.unique(tree, return_index=True)[1][np.unique(tree, return_inverse=True)[1]]
        sites = labels.sites
        lon, lat = (np.floor(np.nan_to_num(v[first]) / BLOCK).astype(np.int64) for v in (sites.lon, sites.lat))
        group = np.unique(np.stack([lon, lat], 1), axis=0, return_inverse=True)[1].ravel()
    n = np.unique(group[used]).size
    if n < config.folds:
        what = "blocks of 3 by 3 degrees" if config.split == "blocks" else "groups of nested gauges"
        raise LabelError(
            f"{labels.where}: its labels lie in {n} {what}, expected {config.folds} or more, one for each fold. Lower "
            "pretrain.folds, or set pretrain.split: folds, by nested gauges."
        )
    fold = np.full(used.size, -1, np.int64)
    fold[used] = folds(group[used], labels.sites.area[used], config.folds)
    return fold
