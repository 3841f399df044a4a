"""Pre-training: distances of area means from labels, weights, folds, what is refused, and what becomes of it."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
from cases import change_config
from training_cases import ALONE, change_training, train, write_training_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import load_checkpoint
from bmi_cdlm.names.errors import ConfigError, DomainError
from cdlm_training.config import load_train_config
from cdlm_training.generator import Generator
from cdlm_training.labels.areas import own_areas
from cdlm_training.labels.store import Column, LabelError, LabelSet, Sites, save_labels
from cdlm_training.labels.teach import OWN_ERROR, make_lessons, site_weights
from cdlm_training.loop import Trainer
from cdlm_training.pretraining import Teacher
from cdlm_training.terms import Pretraining

PRETRAIN = {"labels": "labels.nc", "epochs": 60, "folds": 2, "split": "folds", "learning_rate": 0.05}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Labels at g0, g1, g3: capacities that follow the forest; g2 below the mask."""
    config = write_training_case(
        tmp_path_factory.mktemp("taught"), pet_factor=False, epochs=1, updates=1, reach_attributes=[], warm_up=5,
        learning_rate=0.001, cell_attributes=["forest"],
    )
    config = change_training(config, "case.yaml", pretrain=PRETRAIN)
    write_labels(config)
    return config


@lru_cache
def spec_of(config):
    return Trainer(change_training(config, "plain.yaml", pretrain=None), ALONE).spec


def columns(config):
    spec = spec_of(config)
    return tuple(Column(t.name, "1", t.low, t.high, t.scale, t.name) for t in (*spec.cell.targets, *spec.reach.targets))


def write_labels(config, name="labels.nc", *, per="gauge", kge=(0.5, 0.9, -0.2, 0.7), record=None, **changed):
    """X1 from 100 to 400 mm over sites, others at their defaults; `changed` values by parameter, None leaves it out."""
    own = [c for c in columns(config) if not (c.name in changed and changed[c.name] is None)]
    default = {"exchange_coefficient": 0.1, "routing_capacity": 60.0, "unit_hydrograph_base": 2.0, "celerity": 1.0}
    n = len(kge)
    default["production_capacity"] = np.geomspace(100.0, 400.0, n)
    values = np.stack([np.broadcast_to(changed.get(c.name, default[c.name]), n).astype(float) for c in own])
    ids = [f"g{k}" for k in range(4)] if per == "gauge" else [f"c{k}" for k in range(n)]
    at = np.arange(n, dtype=float)
    nothing = np.full(n, np.nan)
    made = LabelSet("gr4j", tuple(own), "production_capacity", values, np.full(values.shape, 0.5), {
        "kge": np.array(kge), "kge_fitted": nothing, "n_values": nothing}, "drawn")
    save_labels(config.parent / name, Sites(per, ids, 4 * at, 0 * at, 10 + at), [made], {
        "snow": "none", "time_step": "86400", **(record or {})})
    return name


def lessons_of(config, generator=None, **keys):
    run, _ = load_train_config(config)
    domain = read_domain(run.domain)
    spec = spec_of(config)
    given = Pretraining(**{**PRETRAIN, "labels": config.parent / "labels.nc", **keys})
    return make_lessons(given, run, spec, domain), spec, domain


def test_the_loss_is_that_of_area_means(case):
    """Against sums over links by hand: X1 by its logarithm, X2 as it is, of a generator with drawn weights."""
    lessons, spec, domain = lessons_of(case)
    generator = Generator(spec, 3, torch.float64)
    with torch.no_grad():
        for w in generator.parameters():
            w += 0.3 * torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    trainer = Trainer(case, ALONE)
    teacher = Teacher(lessons, trainer.chain.attributes)
    means = teacher.means(generator)
    p = {k: v.detach().numpy() for k, v in generator.cell_parameters(trainer.chain.attributes.cell).items()}
    areas = own_areas(domain, range(4))
    link = np.repeat(areas.reach, np.diff(domain.links.first))
    names = list(lessons.cell.names)
    for k in (0, 1, 3):
        cell, area = domain.links.cell[link == k], domain.links.area[link == k]
        x1 = np.average(np.log(p["production_capacity"])[cell], weights=area)
        x2 = np.average(p["exchange_coefficient"][cell], weights=area)
        for name, value, of in (("production_capacity", x1, math.log), ("exchange_coefficient", x2, float)):
            target = next(t for t in spec.cell.targets if t.name == name)
            share = (value - of(target.low)) / (of(target.high) - of(target.low))
            assert means[0][k, names.index(name)].item() == pytest.approx(math.log(share / (1 - share)), rel=1e-9)
    weight = lessons.cell.weight
    np.testing.assert_allclose(weight[:, 0], np.array([0.5, 0.9, 0, 0.7]) / (0.25 + OWN_ERROR**2))
    by_hand = sum(
        (lesson.weight * (mean - lesson.label) ** 2).sum() / lesson.weight.sum()
        for lesson, mean in zip((lessons.cell, lessons.reach), means, strict=True)
    )
    assert teacher.loss(means, lessons.fold >= 0).item() == pytest.approx(by_hand.item(), rel=1e-12)


def test_weights_are_the_skill_above_the_mask():
    kge = np.array([0.8, 0.1, -3.0, np.nan])
    keys = {"labels": "x.nc", "mask_below": 0.3}
    np.testing.assert_allclose(site_weights(kge, Pretraining(**keys)), [0.5, 0, 0, 0])
    np.testing.assert_allclose(site_weights(kge, Pretraining(**keys, weight_by="equal")), [1, 0, 0, 0])


def test_what_is_held_out_together(case):
    lessons, _, domain = lessons_of(case)
    tree = own_areas(domain, range(4)).tree
    assert lessons.fold[2] == -1 and lessons.fold[0] == lessons.fold[1] != lessons.fold[3], "nested gauges, and g3"
    assert tree[0] == tree[1] != tree[3]
    write_labels(case, "cells.nc", per="cell", kge=[0.5] * 8)
    cells, *_ = lessons_of(case, labels=case.parent / "cells.nc", split="blocks")
    block = np.floor(4 * np.arange(8) / 3)
    assert cells.reach is None and set(cells.fold) == {0, 1}
    for b in np.unique(block):
        assert np.unique(cells.fold[block == b]).size == 1


def test_it_learns_the_labels_and_goes_on_from_there(case):
    trainer, scores, epochs = train(case)
    learned = trainer.learned
    assert learned.sites == 3 and 0 < learned.epochs <= 60
    kept = load_checkpoint(trainer.config.log_folder / "pretrained.safetensors")
    record = load_checkpoint(trainer.config.output).record["pretrained"]
    assert record["epochs"] == learned.epochs and record["r2"].keys() == learned.r2.keys()
    assert "labels" in trainer.fingerprints and "pre-trained on 3 labels" in trainer.findings[0]
    fresh = Trainer(case, ALONE)
    teacher = Teacher(fresh.lessons, fresh.chain.attributes)
    every = fresh.lessons.fold >= 0
    before = teacher.loss(teacher.means(fresh.generator), every).item()
    fresh.generator.load(kept.tensors)
    assert teacher.loss(teacher.means(fresh.generator), every).item() < 0.7 * before
    tuned = Trainer(change_training(case, "tuned.yaml", pretrain=None,
                                    start_from=str(trainer.config.log_folder / "pretrained.safetensors")), ALONE)
    for name, values in tuned.generator.tensors().items():
        np.testing.assert_array_equal(values, kept.tensors[name])
    assert scores.nse >= epochs[0].scores.nse, "what labels came to is the output where training makes it worse"


def test_a_resumed_training_is_the_unbroken_one_with_a_pull_towards_what_was_taught(case):
    keys = {"loss": {"nse": 1.0, "prior": 2.0}, "patience": 5}
    whole, _, _ = train(change_training(case, "whole.yaml", output="out/whole.safetensors", epochs=2, **keys))
    taught = load_checkpoint(whole.config.log_folder / "pretrained.safetensors")
    assert whole.prior is not None
    generator = Generator(whole.spec, 0, torch.float64)
    generator.load(taught.tensors)
    z = generator.cell.free(whole.chain.attributes.cell).detach()
    torch.testing.assert_close(whole.prior.cell, z)
    path = change_training(case, "half.yaml", output="out/half.safetensors", epochs=2, **keys)

    def stop(loss):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(loss)

    seen: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        train(path, progress=stop)
    half, _, _ = train(path, resume=True)
    for name, values in whole.generator.tensors().items():
        np.testing.assert_array_equal(half.generator.tensors()[name], values, err_msg=name)


@pytest.mark.parametrize(("labels", "keys", "error", "said"), [
    ({"record": {"snow": "cemaneige"}}, {}, LabelError, "made with snow: cemaneige, the run has snow: none"),
    ({"routing_capacity": None}, {}, LabelError, "has no label of 'routing_capacity', which is learned here"),
    ({"production_capacity": 9000.0}, {}, LabelError, "labels of 'production_capacity' go from 9000 to 9000"),
    ({"kge": [0.5, -1, -1, -1]}, {}, LabelError, "has 1 labels of a KGE above 0, expected 2 or more"),
    ({"kge": [0.5, 0.5, 0.5, -1]}, {}, LabelError, "lie in 1 groups of nested gauges, expected 2 or more"),
    ({"kge": [0.5, 0.5, 0.5, -1]}, {"split": "blocks"}, LabelError, "lie in 1 blocks of 3 by 3 degrees"),
    ({}, {"labels": Path("none.nc")}, LabelError, "there is no such file"),
])
def test_what_is_refused(case, labels, keys, error, said):
    write_labels(case, "bad.nc", **labels)
    with pytest.raises(error, match=said):
        lessons_of(case, **{"labels": case.parent / "bad.nc", **keys})


def test_what_excludes_it(case):
    for keys, said in (
        ({"pretrain": {**PRETRAIN, "epoch": 3}}, r"unknown key 'training\.pretrain\.epoch'\. Did you mean 'epochs'"),
        ({"start_from": "x.safetensors"}, "start_from and pretrain exclude each other"),
        ({"restarts": 3}, "pretrain and restarts: 3 exclude each other"),
        ({"mapping": "distributed", "output": "a.nc", "cell_attributes": None, "reach_attributes": None,
          "hidden": None, "pet_factor": None}, "pretrain is of generators"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_train_config(change_training(case, "bad.yaml", **keys))


def test_predictors_that_are_missing_are_refused(case):
    """NaN in an attribute, in the domain of the labels."""
    with netCDF4.Dataset(case.parent / "domain.nc") as old, netCDF4.Dataset(case.parent / "holes.nc", "w") as new:
        for name, size in old.dimensions.items():
            new.createDimension(name, len(size))
        for name, v in old.variables.items():
            out = new.createVariable(name, v.dtype, v.dimensions)
            out.setncatts({k: v.getncattr(k) for k in v.ncattrs() if k != "_FillValue"})
            out[:] = np.where(np.arange(v.shape[0]) == 2, np.nan, v[:]) if name == "cell_forest" else v[:]
    with pytest.raises(DomainError, match="the cell attribute 'forest' is missing at 1 of 8 places"):
        Trainer(change_config(case, "holes.yaml", domain="holes.nc"), ALONE)
