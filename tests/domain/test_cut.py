"""A basin cut out of a domain: its parts fit together, and it gives the bits of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from make_domain import random_domain, random_forcing, random_parameters

from bmi_cdlm.domain.domain import cut
from bmi_cdlm.domain.network import accumulate_downstream, plan_network, upstream_of
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.parameters import BY_NAME


@pytest.fixture(scope="module")
def domain():
    return random_domain(17, 60, 20)


def places() -> list[int]:
    """Headwaters, inner reaches and outlets."""
    return [0, 7, 19, 33, 48, 57, 58, 59]


@pytest.mark.parametrize("reach", places())
def test_a_cut_domain_is_consistent(domain, reach):
    part, cells, reaches = cut(domain, reach)
    lo, hi = upstream_of(domain.reaches.downstream, reach)
    np.testing.assert_array_equal(reaches, np.arange(lo, hi))
    assert part.reaches.id == domain.reaches.id[lo:hi] and part.reaches.id[-1] == domain.reaches.id[reach]
    np.testing.assert_array_equal(part.outlets, [part.n_reaches - 1])
    below = part.reaches.downstream[:-1]
    np.testing.assert_array_equal(below + lo, domain.reaches.downstream[lo : hi - 1])
    np.testing.assert_array_equal(part.file_order, domain.file_order[lo:hi])
    for name in ("length", "slope", "area", "upstream_area", "lon", "lat"):
        np.testing.assert_array_equal(getattr(part.reaches, name), getattr(domain.reaches, name)[lo:hi], name)
    np.testing.assert_allclose(
        accumulate_downstream(part.reaches.downstream, part.reaches.area), part.reaches.upstream_area, rtol=1e-14
    )

    assert part.cells.id == [domain.cells.id[i] for i in cells]
    assert np.unique(cells).size == cells.size and (np.diff(cells) > 0).all()
    for name in ("lon", "lat", "area", "corner_lon", "mean_annual_snowfall"):
        np.testing.assert_array_equal(getattr(part.cells, name), getattr(domain.cells, name)[cells], name)
    assert (part.cells.drained_area <= domain.cells.drained_area[cells] * (1 + 1e-14)).all()
    assert part.cells.drained_area.sum() == pytest.approx(domain.reaches.upstream_area[reach], rel=1e-12)

    links = part.links
    assert links.first[0] == 0 and links.first[-1] == links.cell.size == links.area.size
    for i in range(part.n_reaches):
        own = slice(links.first[i], links.first[i + 1])
        whole = slice(domain.links.first[lo + i], domain.links.first[lo + i + 1])
        np.testing.assert_array_equal(cells[links.cell[own]], domain.links.cell[whole])
        np.testing.assert_array_equal(links.area[own], domain.links.area[whole])
    assert {a.dtype for a in (links.first, links.cell, part.gauges.reach, part.reaches.downstream)} == {
        np.dtype(np.int64)
    }

    inside = [i for i, r in enumerate(domain.gauges.reach) if lo <= r < hi]
    assert part.gauges.id == [domain.gauges.id[i] for i in inside]
    np.testing.assert_array_equal(part.gauges.reach + lo, domain.gauges.reach[inside])
    plan_network(part.reaches.downstream, 2, smallest_piece=3)


def test_every_gauge_of_the_domain_is_reached(domain):
    assert set(places()) & set(domain.outlets.tolist())
    sizes = [cut(domain, reach)[0].n_reaches for reach in places()]
    assert min(sizes) == 1 and max(sizes) > 20
    assert any(cut(domain, reach)[0].gauges.id for reach in places())


def test_cutting_leaves_the_domain_alone(domain):
    kept = [a.copy() for group in domain[:4] for a in group if isinstance(a, np.ndarray)]
    part, *_ = cut(domain, 59)
    part.reaches.downstream[:] = 7
    part.links.area[:0] = 1.0
    now = [a for group in domain[:4] for a in group if isinstance(a, np.ndarray)]
    for a, b in zip(kept, now, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("snow", ["none", "cemaneige_hysteresis"])
@pytest.mark.parametrize("reach", places())
def test_discharge_in_a_cut_domain_has_the_bits_of_the_whole(domain, reach, snow):
    parameters, forcing = random_parameters(3, domain), random_forcing(3, 12, domain.n_cells)
    whole = Model(domain, parameters, snow=snow).advance(forcing, keep=("discharge",))["discharge"]
    part, cells, reaches = cut(domain, reach)
    taken = {"cell": cells, "reach": reaches}
    own = {name: value[taken[BY_NAME[name].grid]] for name, value in parameters.items()}
    there = Forcing(*(None if a is None else np.ascontiguousarray(a[:, cells]) for a in forcing))
    got = Model(part, own, snow=snow).advance(there, keep=("discharge",))["discharge"]
    np.testing.assert_array_equal(got, whole[:, reaches])
    if part.n_cells:
        assert whole[:, reaches].any()
