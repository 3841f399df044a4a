"""Partitions of a network: every reach in one, upstream first; the flow across a cut in the bits of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from generator_cases import drawn_tensors, specify, write_attribute_domain
from make_domain import part_of, random_domain, random_downstream, random_forcing, random_parameters

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.domain.network import order_reaches
from bmi_cdlm.generator.generator import pet_network, read_inputs
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.errors import StateError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.run.partition import FileExchange, make_part, partition, read_part, write_part

NOTHING = np.empty(0, np.int64)


def forest(seed, n, outlets, bushiness=12):
    downstream = random_downstream(np.random.default_rng(seed), n, outlets, bushiness)
    order = order_reaches(downstream, [f"{i:06d}" for i in range(n)])
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    below = downstream[order]
    return np.where(below >= 0, position[below], -1)


@pytest.mark.parametrize("count", [1, 2, 5, 30, 1000])
@pytest.mark.parametrize(
    ("n", "outlets", "bushiness"), [(1, 1, 3), (60, 60, 3), (300, 1, 2), (400, 3, 200), (500, 90, 9)]
)
def test_every_reach_is_in_one_partition_and_comes_after_what_drains_into_it(n, outlets, bushiness, count):
    downstream = forest(1, n, outlets, bushiness)
    made = partition(downstream, count)
    owner = np.full(n, -1)
    for k, own in enumerate(made):
        assert own.reaches.size and (np.diff(own.reaches) > 0).all()
        assert (owner[own.reaches] == -1).all()
        owner[own.reaches] = k
    assert (owner >= 0).all()
    for k, own in enumerate(made):
        into = np.flatnonzero((downstream >= 0) & (owner[downstream] == k) & (owner != k))
        out = [i for i in own.reaches if downstream[i] >= 0 and owner[downstream[i]] != k]
        assert own.boundary.tolist() == into.tolist() and own.outlets.tolist() == out
        assert own.after == tuple(sorted(set(owner[into].tolist())))
        assert all(above < k for above in own.after)
    assert count > 1 or len(made) == 1


def test_partitions_are_of_about_equal_size_in_a_large_basin_and_small_ones():
    """One basin with most reaches: neither what is cut off nor what is left is more than a share, and little waits."""
    for bushiness, most_levels in ((5000, 3), (60, 8)):
        downstream = forest(2, 20_000, 40, bushiness)
        made = partition(downstream, 16)
        sizes = [own.reaches.size for own in made]
        assert 16 <= len(made) <= 32
        assert max(sizes) <= 20_000 / 16
        assert sum(own.boundary.size for own in made) < 1000
        level: list[int] = []
        for own in made:
            level.append(1 + max((level[k] for k in own.after), default=0))
        assert 1 < max(level) <= most_levels


@pytest.mark.parametrize("with_pet", [False, True])
def test_a_part_is_read_as_it_was_written(tmp_path, with_pet):
    path = write_attribute_domain(tmp_path / "domain.nc")
    domain, spec = read_domain(path), specify(path)
    pet = pet_network(spec, drawn_tensors(spec), read_inputs(spec, path, domain)) if with_pet else None
    made = partition(domain.reaches.downstream, 6)
    parameters, elevation = random_parameters(3, domain), np.arange(domain.n_cells) * 1.0
    part = make_part(domain, parameters, pet, elevation, made, len(made) - 1, NOTHING)
    assert part.sources
    write_part(tmp_path / "part.npz", part)
    assert_equal(read_part(tmp_path / "part.npz"), part)


def assert_equal(got, expected):
    assert type(got) is type(expected) or np.isscalar(got)
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        got, expected = list(got.values()), list(expected.values())
    if isinstance(expected, (tuple, list)):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert_equal(a, b)
    elif isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    else:
        assert got == expected


@pytest.mark.parametrize(("step", "routing_step", "threads"), [(DAY, HOUR, 1), (DAY, DAY, 1), (HOUR, 900, 2)])
@pytest.mark.parametrize("count", [2, 9])
def test_discharge_across_a_cut_has_the_bits_of_the_whole(tmp_path, monkeypatch, step, routing_step, threads, count):
    """Blocks of other lengths in every partition, from a steady state, on one thread and on two."""
    monkeypatch.setattr("bmi_cdlm.domain.network.SMALLEST_PIECE", 3)
    domain = random_domain(5, 120, 40)
    parameters, forcing = random_parameters(3, domain, step), random_forcing(3, 12, domain.n_cells)
    options = {"step": step, "routing_step": routing_step, "threads": threads}
    whole = Model(domain, parameters, **options)
    whole.fill_rivers(part_of(forcing, 0, 4))
    expected = whole.advance(forcing, keep=("discharge",))["discharge"]
    made = partition(domain.reaches.downstream, count)
    assert any(own.after for own in made)
    got = np.full(expected.shape, np.nan)
    for k, own in enumerate(made):
        (tmp_path / str(k)).mkdir()
        part = make_part(domain, parameters, None, np.zeros(domain.n_cells), made, k, NOTHING)
        there = Forcing(*(np.ascontiguousarray(a[:, part.cells]) for a in forcing[:3]))
        done = [tmp_path / str(s.number) for s in part.sources]
        with FileExchange(part, done, tmp_path / str(k)) as exchange:
            model = Model(part.domain, part.parameters, **options, exchange=exchange)
            model.fill_rivers(part_of(there, 0, 4))
            for first in range(0, 12, 1 + k % 5):
                last = min(first + 1 + k % 5, 12)
                flow = model.advance(part_of(there, first, last), keep=("discharge",))["discharge"]
                mine = np.isin(part.reaches, own.reaches)
                got[first:last, part.reaches[mine]] = flow[:, mine]
            model.close()
    whole.close()
    np.testing.assert_array_equal(got, expected)


def test_outflow_that_ends_early_is_refused(tmp_path):
    domain = random_domain(7, 40, 25)
    made = partition(domain.reaches.downstream, 6)
    part = make_part(domain, {}, None, np.zeros(domain.n_cells), made, len(made) - 1, NOTHING)
    done = []
    for source in part.sources:
        done.append(tmp_path / str(source.number))
        done[-1].mkdir()
        np.zeros((24, source.width)).tofile(done[-1] / "outflow.f64")
    with FileExchange(part, done, tmp_path) as exchange:
        assert exchange.draw(24).shape == (part.boundary.size, 24)
        with pytest.raises(StateError, match="ends after 24 sub-steps, expected 48"):
            exchange.draw(24)
