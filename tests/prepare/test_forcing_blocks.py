"""Forcing is made in blocks of time: the same whatever their length, taken up after a kill."""

from __future__ import annotations

import numpy as np
import pytest
from forcing_cases import killed_after, long_series, make, steps

from bmi_cdlm.names.errors import ForcingError

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj", "pyet"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def test_blocks_of_time_make_no_difference(tmp_path):
    forcing = long_series(tmp_path)
    whole = make(tmp_path, forcing, when=steps(40))
    cut = make(tmp_path, {**forcing, "memory": 1e-5}, when=steps(40), name="cut.nc")
    for name in ("precipitation", "potential_evapotranspiration", "air_temperature", "time"):
        np.testing.assert_array_equal(cut[name], whole[name])


def test_too_little_memory_is_said(tmp_path):
    with pytest.raises(ForcingError, match=r"forcing\.memory is 1e-09 GB, expected at least"):
        make(tmp_path, {**long_series(tmp_path), "memory": 1e-9}, when=steps(40))


def test_killed_preparation_goes_on_at_the_last_whole_block(tmp_path, monkeypatch):
    forcing = {**long_series(tmp_path), "memory": 1e-5}
    whole = make(tmp_path, forcing, when=steps(40), name="whole.nc")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        first = killed_after(patch, 3)
        make(tmp_path, forcing, when=steps(40))
    partial = tmp_path / "made" / "forcing.nc.partial"
    assert len(list(partial.glob("*.npy"))) == 3
    assert not (tmp_path / "made" / "forcing.nc").exists()
    rest = killed_after(monkeypatch, None)
    again = make(tmp_path, forcing, when=steps(40))
    assert rest[0] == first[-1] + first[1] - first[0]
    assert not set(rest) & set(first)
    np.testing.assert_array_equal(again["precipitation"], whole["precipitation"])
    assert not partial.exists()


def test_blocks_of_another_configuration_are_not_taken_up(tmp_path, monkeypatch):
    forcing = {**long_series(tmp_path), "memory": 1e-5}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed_after(patch, 1)
        make(tmp_path, forcing, when=steps(40))
    doubled = {**forcing, "precipitation": {"source": "long.nc", "scale": 2}}
    plain = make(tmp_path, forcing, when=steps(40), name="plain.nc")
    np.testing.assert_allclose(
        make(tmp_path, doubled, when=steps(40))["precipitation"], 2.0 * plain["precipitation"], rtol=1e-6
    )


def test_two_runs_write_the_same_bytes(tmp_path, daily):
    make(tmp_path, daily, name="a.nc")
    make(tmp_path, daily, name="b.nc")
    a, b = ((tmp_path / "made" / name).read_bytes() for name in ("a.nc", "b.nc"))
    assert a == b
    assert str(tmp_path).encode() not in a
