"""The share of a basin's border that lies on the raster's edge: against plain counting, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from drainage_cases import config, flow_of, gauge_at, terrain_flow
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

from bmi_cdlm.prepare.network.border import border_shares
from bmi_cdlm.prepare.network.network import drain


def counted(drainage):
    """The same, by walking round every basin."""
    catchment, downstream = drainage.catchments.reach, drainage.reaches.downstream
    n = downstream.size
    shares = np.zeros(n)
    for reach in range(n):
        basin = {reach}
        for i in range(reach - 1, -1, -1):
            if int(downstream[i]) in basin:
                basin.add(i)
        inside = np.pad(np.isin(catchment, list(basin)), 1)
        border = sum(np.count_nonzero(inside & ~np.roll(inside, k, axis)) for axis in (0, 1) for k in (-1, 1))
        core = inside[1:-1, 1:-1]
        edge = core[0].sum() + core[-1].sum() + core[:, 0].sum() + core[:, -1].sum()
        shares[reach] = edge / border if border else 0.0
    return shares


def test_by_hand():
    codes = np.full((3, 4), 1, np.uint8)  # three rows that drain east
    codes[:, -1] = 0
    drainage = drain(config(), flow_of(codes))
    place = {name: i for i, name in enumerate(drainage.reaches.id.tolist())}
    found = border_shares(drainage)
    assert found[place["0000_0003"]] == pytest.approx(6 / 10)  # 4 above, both ends; below the next row
    assert found[place["0001_0003"]] == pytest.approx(2 / 10)
    assert found[place["0001_0001"]] == pytest.approx(1 / 6)
    assert found[place["0001_0000"]] == pytest.approx(1 / 4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 500), st.sampled_from([{}, {"resolution": "2 arcmin"}]), st.booleans())
def test_as_counted_on_made_mountains(seed, keys, sea):
    flow = terrain_flow((12, 15), seed, size=1 / 60, sea=0.2 if sea else 0.0)
    drainage = drain(config(**keys), flow)
    np.testing.assert_allclose(border_shares(drainage), counted(drainage), rtol=1e-12)


def test_a_basin_within_the_raster_has_none():
    codes = np.full((5, 5), 247, np.uint8)
    codes[1:4, 1:4] = [[1, 4, 16], [1, 0, 16], [1, 64, 16]]
    assert not border_shares(drain(config(), flow_of(codes))).any()


def test_a_gauge_above_the_cut_has_none_and_one_below_has_some():
    codes = np.full((5, 6), 247, np.uint8)
    codes[2, :5] = [1, 1, 1, 1, 0]  # from the raster's edge
    codes[1, 2] = 4  # a tributary within
    flow = flow_of(codes)
    gauges = [gauge_at(flow, 1 * 6 + 2, "within"), gauge_at(flow, 2 * 6 + 4, "below")]
    drainage = drain(config(extent="gauges"), flow, gauges)
    place = {name: i for i, name in enumerate(drainage.reaches.id.tolist())}
    found = border_shares(drainage)
    assert found[place["0001_0002"]] == 0.0
    assert found[place["0002_0004"]] == pytest.approx(1 / 14)
