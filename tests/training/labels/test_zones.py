"""Stepwise calibration: which places go with the zone that is being fitted, and which keep what they were given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from make_domain import domain_fields, write_domain

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.generator.generator import make_spec
from bmi_cdlm.generator.specification import GeneratorSpec
from bmi_cdlm.names.time_steps import DAY, HOUR
from cdlm_training.labels.areas import own_areas
from cdlm_training.labels.zones import Zones


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """r0 <- r1 <- r2, and r3 into r0; a cell on every reach, that of r1 lies more above g2; gauges g0 to g2."""
    links = np.array([[0, 0, 1.0], [1, 1, 2.0], [1, 2, 6.0], [2, 2, 3.0], [3, 3, 4.0]])
    fields = domain_fields(
        np.array([-1, 0, 1, 0]), links[:, 0].astype(np.int64), links[:, 1].astype(np.int64), links[:, 2], 4,
        np.array([0, 1, 2]), np.random.default_rng(0),
    )
    return write_domain(tmp_path_factory.mktemp("river") / "domain.nc", fields)


@pytest.fixture(scope="module")
def domain(path: Path) -> Domain:
    return read_domain(path)


@pytest.fixture(scope="module")
def spec(path: Path) -> GeneratorSpec:
    """One parameter set, of cells and of reaches."""
    return make_spec(
        path, cell_attributes=[], reach_attributes=[], mapping="uniform", snow="none", step=DAY, routing_step=HOUR,
        pet=False,
    )


def zones_of(spec: GeneratorSpec, domain: Domain, *gauges: str) -> Zones:
    return Zones(spec, domain, own_areas(domain, [domain.gauges.id.index(g) for g in gauges]))


def everywhere(zones: Zones, domain: Domain) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """z of every cell and of every reach, by id."""
    found = []
    for part, ids in ((zones.cell, domain.cells.id), (zones.reach, domain.reaches.id)):
        with torch.no_grad():
            z = part.free(np.arange(len(ids), dtype=float)[:, None]).numpy()
        found.append(dict(zip(ids, z, strict=True)))
    return found[0], found[1]


def moved(zones: Zones, by: float) -> np.ndarray:
    """What is being fitted, moved by some units of z, as a fit would leave it."""
    with torch.no_grad():
        for part in zones.zones:
            part.each[-1].bias.add_(by)
    return zones.get()


def test_all_places_begin_alike_and_go_with_what_is_fitted(spec: GeneratorSpec, domain: Domain) -> None:
    zones = zones_of(spec, domain, "g0", "g1", "g2")
    start = zones.get()
    assert start.dtype == np.float64 and start.size == sum(len(n.rows) for n in (spec.cell, spec.reach))
    z = moved(zones, 0.5)
    np.testing.assert_array_equal(z, start + 0.5)
    cells, reaches = everywhere(zones, domain)
    n = next(iter(cells.values())).size
    assert all((one == z[:n]).all() for one in cells.values()) and all((one == z[n:]).all() for one in reaches.values())


def test_a_zone_that_was_fitted_keeps_its_parameters(spec: GeneratorSpec, domain: Domain) -> None:
    """Whatever comes later: of the others none has them, but for cells that lie more in this zone than in theirs."""
    zones = zones_of(spec, domain, "g0", "g1", "g2")
    start = zones.get()
    zones.begin(None)
    upper = moved(zones, 1.0)
    zones.hold(2, upper)
    zones.begin(None)
    np.testing.assert_array_equal(zones.get(), start)
    middle = moved(zones, -2.0)
    zones.hold(1, middle)
    zones.begin(None)
    cells, reaches = everywhere(zones, domain)
    n = next(iter(cells.values())).size
    assert (cells["c2"] == upper[:n]).all() and (reaches["r2"] == upper[n:]).all()
    assert (reaches["r1"] == middle[n:]).all() and (cells["c1"] == upper[:n]).all(), "c1 is more of g2"
    for name in ("c0", "c3"):
        assert (cells[name] == start[:n]).all()
    for name in ("r0", "r3"):
        assert (reaches[name] == start[n:]).all()


def test_places_of_no_zone_go_with_every_fit(spec: GeneratorSpec, domain: Domain) -> None:
    zones = zones_of(spec, domain, "g1")
    zones.hold(0, moved(zones, 1.0))
    held = zones.get()
    zones.begin(None)
    later = moved(zones, -3.0)
    cells, reaches = everywhere(zones, domain)
    n = next(iter(cells.values())).size
    assert (reaches["r1"] == held[n:]).all() and (reaches["r2"] == held[n:]).all() and (cells["c2"] == held[:n]).all()
    assert (reaches["r0"] == later[n:]).all() and (reaches["r3"] == later[n:]).all()
    assert (cells["c0"] == later[:n]).all() and (cells["c3"] == later[:n]).all()


def test_a_restart_is_drawn_by_its_seed_about_the_start(spec: GeneratorSpec, domain: Domain) -> None:
    zones = zones_of(spec, domain, "g0", "g2")
    start, drawn = zones.get(), []
    for seed in (1, 2, 1):
        moved(zones, 5.0)  # what an earlier restart has left
        zones.begin(seed)
        drawn.append(zones.get())
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert (drawn[0] != drawn[1]).any() and (np.abs(drawn[0] - start) < 4.5).all() and (drawn[0] != start).any()


def test_only_what_is_not_held_is_learned(spec: GeneratorSpec, domain: Domain) -> None:
    zones = zones_of(spec, domain, "g0", "g1", "g2")
    zones.hold(2, moved(zones, 1.0))
    zones.begin(None)
    zones.cell.free(np.arange(4.0)[:, None]).sum().backward()
    free = sum(int(k) != 2 for k in zones.owner)
    assert free == 2
    np.testing.assert_array_equal(zones.cell.each[-1].bias.grad.numpy(), float(free))
