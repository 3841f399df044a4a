"""Sources that lack values at times: the plain average of what is there, as declared, or a refusal."""

from __future__ import annotations

import tempfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from forcing_cases import killed_after
from hypothesis import given, settings
from hypothesis import strategies as st
from make_drainage import make_drainage, write_grid

from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.prepare.weather.forcing_blocks import ForcingBlocks
from bmi_cdlm.prepare.weather.forcing_needs import Steps, Weather
from bmi_cdlm.prepare.weather.forcing_writer import write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, PetConfig

for package in ("rasterio", "scipy", "sklearn", "shapely", "pyproj"):
    pytest.importorskip(package, reason=f"{package} is not installed")

DAY = 86400
START = np.datetime64("2020-01-01", "s")
CELLS = make_drainage().cells  # 4 by 4 cells of 0.03 degrees from 10 E, 50 N
LON, LAT = 9.9683 + 0.05 * np.arange(5), 50.0171 - 0.05 * np.arange(5)  # centres: two or four pixels to a cell
N_DAYS, PARTS = 3, 2
RAIN_ONLY = ("precipitation",)


def write_stations(path, lon, lat, values, hours):
    with netCDF4.Dataset(path, "w") as dataset:
        dataset.createDimension("time", values.shape[0])
        dataset.createDimension("station", values.shape[1])
        time = dataset.createVariable("time", "f8", ("time",))
        time.units = "hours since 2020-01-01"
        time[:] = np.arange(values.shape[0]) * hours
        dataset.createVariable("station_id", str, ("station",))[:] = np.array(
            [f"s{i}" for i in range(values.shape[1])], object)
        for name, axis in (("lon", lon), ("lat", lat)):
            dataset.createVariable(name, "f8", ("station",))[:] = axis
        out = dataset.createVariable("precipitation", "f8", ("time", "station"), fill_value=-9999.0)
        out.units = "mm d-1"
        out[:] = np.ma.masked_invalid(values)


def make(folder, **options):
    """Daily rain on the cells, and what the preparation says."""
    drainage = make_drainage()
    forcing = ForcingConfig(precipitation={"source": "rain.nc", **options})
    steps = Steps(START + np.arange(N_DAYS) * np.timedelta64(DAY, "s"), DAY)
    weather = Weather(forcing, PetConfig(), RAIN_ONLY)
    target = Target(drainage, [], np.zeros(0, np.int64))
    notes = write_forcing(folder / "forcing.nc", weather, target, steps, folder, {})
    with netCDF4.Dataset(folder / "forcing.nc") as dataset:
        dataset.set_auto_mask(False)
        return dataset["precipitation"][:], notes, dataset.filling


def overlaps():
    """Share of every cell in every pixel, float64[cell, pixel], from their edges."""
    own, out = CELLS.grid, np.zeros((CELLS.row.size, LAT.size * LON.size))

    def part(a, b, c, d):
        return max(0.0, min(b, d) - max(a, c))

    for k, (row, col) in enumerate(zip(CELLS.row, CELLS.col, strict=True)):
        left, top = own.left + col * own.dx, own.top - row * own.dy
        for j, y in enumerate(LAT):
            for i, x in enumerate(LON):
                across = part(left, left + own.dx, x - 0.025, x + 0.025)
                down = part(*np.sin(np.radians([top - own.dy, top])), *np.sin(np.radians([y - 0.025, y + 0.025])))
                out[k, j * LON.size + i] = across * down
    return out / out.sum(axis=1, keepdims=True)


def distances(lon, lat):
    """From every cell to every place [km], float64[cell, place]."""
    a, b = np.radians(CELLS.lat)[:, None], np.radians(lat)
    half = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(np.radians(lon - CELLS.lon[:, None]) / 2) ** 2
    return 2 * 6371.0072 * np.arcsin(np.sqrt(half))


def expected(values, shares, away, gaps, limit):
    """Independent average, float64[interval, cell]; None where it is to be refused."""
    never = np.isnan(values).all(axis=0)
    out = np.empty((values.shape[0], shares.shape[0]))
    for c, share in enumerate(shares):
        own = share > 1e-6
        at_times = np.isnan(values[:, own & ~never]).any()
        for t, row in enumerate(values):
            there = own & ~np.isnan(row)
            if gaps == "refuse" and at_times:
                return None
            if there.any():
                out[t, c] = (share[there] * row[there]).sum() / share[there].sum()
                continue
            if gaps == "nearest":
                candidates = np.flatnonzero(~np.isnan(row))
            elif (own & ~never).any():
                return None
            else:
                candidates = np.flatnonzero(~never)
            if not candidates.size:
                return None
            found = candidates[np.argmin(away[c, candidates])]
            if away[c, found] > limit or np.isnan(row[found]):
                return None
            out[t, c] = row[found]
    return out


SHARES = overlaps()


@st.composite
def holed(draw, n_sources):
    """Values, float64[interval, source], with gaps: none, first, middle, last, all, or such that come and go."""
    parts = draw(st.sampled_from([1, PARTS]))
    n, rng = N_DAYS * parts, np.random.default_rng(draw(st.integers(0, 10_000)))
    values = rng.uniform(0.0, 30.0, (n, n_sources))
    when = draw(st.sampled_from(["none", "first", "middle", "last", "all", "come and go"]))
    which = {
        "one": lambda: np.array([int(rng.integers(n_sources))]), "half": lambda: np.arange(n_sources // 2),
        "some": lambda: np.flatnonzero(rng.random(n_sources) < 0.3), "every": lambda: np.arange(n_sources),
    }[draw(st.sampled_from(["one", "half", "some", "every"]))]()
    rows = {"none": [], "first": [0], "middle": [n // 2], "last": [n - 1], "all": list(range(n))}
    if when == "come and go":
        values[np.ix_(range(n), which)] = np.where(rng.random((n, which.size)) < 0.4, np.nan, values[:, which])
    else:
        values[np.ix_(rows[when], which)] = np.nan
    return values, parts


def assert_average_or_refused(folder, values, parts, shares, away, gaps, limit, **options):
    means = expected(values, shares, away, gaps, limit)
    options |= {"gaps": gaps, "fill_distance": limit}
    if means is None:
        with pytest.raises(ForcingError):
            make(folder, **options)
        return
    found, notes, filling = make(folder, **options)
    np.testing.assert_allclose(found, means.reshape(N_DAYS, parts, -1).mean(axis=1), rtol=1e-5, atol=1e-5)
    own = (shares > 1e-6)[None] & ~np.isnan(values)[:, None]
    neighbours = np.count_nonzero(~own.any(axis=2))
    said = [note for note in notes if "come from a neighbour" in note]
    assert len(said) == (neighbours > 0)
    if neighbours:
        assert f"{neighbours} of {values.shape[0] * 16} values of cells" in said[0]
        assert said[0] in filling


@settings(max_examples=120, deadline=None)
@given(holed(LAT.size * LON.size), st.sampled_from(["refuse", "share", "nearest"]), st.sampled_from([4.0, 50.0]))
def test_grids(case, gaps, limit):
    values, parts = case
    lon, lat = (axis.ravel() for axis in np.meshgrid(LON, LAT))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_grid(folder / "rain.nc", "precipitation", values.reshape(-1, LAT.size, LON.size), LON, LAT,
                   units="mm d-1", times=np.arange(values.shape[0]) * 24.0 / parts)
        with netCDF4.Dataset(folder / "rain.nc") as dataset:  # in the precision of the file
            values = dataset["precipitation"][:].filled(np.nan).reshape(values.shape).astype(float)
        assert_average_or_refused(folder, values, parts, SHARES, distances(lon, lat), gaps, limit)


@settings(max_examples=80, deadline=None)
@given(holed(6), st.sampled_from(["share", "nearest"]), st.sampled_from([4.0, 50.0]), st.integers(0, 1000))
def test_stations(case, gaps, limit, seed):
    values, parts = case
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(9.98, 10.14, 6), rng.uniform(49.86, 50.02, 6)
    away = distances(lon, lat)
    shares = np.zeros(away.shape)
    shares[np.arange(16), away.argmin(axis=1)] = away.min(axis=1) <= limit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stations(folder / "rain.nc", lon, lat, values, 24.0 / parts)
        if (away.min(axis=1) > limit).any():
            with pytest.raises(ForcingError, match=r"does not reach .* expected at most 4 km"):
                make(folder, method="nearest", gaps=gaps, fill_distance=limit)
            return
        assert_average_or_refused(folder, values, parts, shares, away, gaps, limit, method="nearest")


def test_a_station_that_begins_later_is_the_ordinary_case(tmp_path):
    lon, lat = np.array([10.02, 10.1]), np.array([49.94, 49.94])
    write_stations(tmp_path / "rain.nc", lon, lat, np.array([[1.0, np.nan], [1.0, 2.0], [1.0, 2.0]]), 24)
    found, notes, _ = make(tmp_path, method="nearest")
    east = CELLS.lon > 10.06
    assert found[0].tolist() == [1.0] * 16
    np.testing.assert_array_equal(found[1:], np.where(east, 2.0, 1.0)[None].repeat(2, axis=0))
    assert "cells lie" in notes[0] and "km from their station" in notes[0]
    assert f"{east.sum()} of 48 values of cells" in notes[1]


def test_stations_too_far_away_are_refused_by_default(tmp_path):
    write_stations(tmp_path / "rain.nc", np.array([12.0]), np.array([50.0]), np.ones((3, 1)), 24)
    with pytest.raises(ForcingError, match=r"does not reach 16 of 16 cells; .* expected at most 50 km"):
        make(tmp_path, method="nearest")
    found, notes, _ = make(tmp_path, method="nearest", fill_distance=200)
    assert (found == 1.0).all()
    away = distances(np.array([12.0]), np.array([50.0]))[:, 0]
    assert f"{np.median(away):.3g} km (median) and up to {away.max():.3g} km" in notes[0]


@pytest.mark.parametrize("day", [0, 1, 2])
def test_half_the_pixels_missing_on_one_day_are_refused_whichever_day_it_is(tmp_path, day):
    """Reproduces a silent neighbour: on the first day they were left out for the whole period."""
    values = np.broadcast_to(LON, (3, LAT.size, LON.size)).copy()
    values[day][:, LON > 10.05] = np.nan
    write_grid(tmp_path / "rain.nc", "precipitation", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    with pytest.raises(ForcingError, match="first interval and one at 2020-01-02" if day == 0 else "is missing at"):
        make(tmp_path)


def test_what_is_filled_is_counted_over_a_kill(tmp_path, monkeypatch):
    """Blocks that were kept bring their counts along."""
    values = np.broadcast_to(LON, (3, LAT.size, LON.size)).copy()
    values[:, :, LON > 10.05] = np.nan
    write_grid(tmp_path / "rain.nc", "precipitation", values, LON, LAT, units="mm d-1", times=[0, 24, 48])
    whole = make(tmp_path)[1]
    monkeypatch.setattr(ForcingBlocks, "_length", lambda self: 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed_after(patch, 2)
        make(tmp_path)
    assert make(tmp_path)[1] == whole and "values of cells" in whole[0]
