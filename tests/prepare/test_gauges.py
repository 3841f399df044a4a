"""Gauges find their river, and records their steps."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.errors import DomainError, ObservationError
from bmi_cdlm.prepare.gauges import Gauge, read_discharge, read_gauges, snap
from bmi_cdlm.prepare.network import downstream_pixels, invert
from bmi_cdlm.prepare.rasters import Grid

GRID = Grid(0.0, 3000.0, 1000.0, 3, 4, "EPSG:2154")
# A river along the middle row, draining 2, 5, 8 km2; its last pixel is off the land.
DIRECTIONS = np.array([[5, 5, 5, np.nan], [3, 3, 3, np.nan], [1, 1, 1, np.nan]], float)
LAND = np.isfinite(DIRECTIONS)
UPSTREAM = invert(downstream_pixels(DIRECTIONS))
DAYS = np.arange("2020-01-01", "2020-01-06", dtype="datetime64[D]").astype("datetime64[s]")


def place(x, y, area, radius=1):
    return divmod(snap(Gauge("A1", x, y, area), GRID, LAND, UPSTREAM, radius), GRID.n_cols)


def test_gauge_beside_the_river_moves_onto_it():
    assert place(1500.0, 2900.0, 6.0) == (1, 1)
    assert place(1500.0, 1500.0, 9.0) == (1, 2)


def test_equal_fit_takes_the_nearer_pixel():
    assert place(1900.0, 2500.0, 1.0) == (0, 1)
    assert place(2100.0, 2500.0, 1.0) == (0, 2)


def test_off_the_land_still_finds_the_mouth():
    assert place(3200.0, 1500.0, 9.0) == (1, 2)


def test_gauge_far_from_its_area_is_refused():
    with pytest.raises(DomainError, match=r"gauge A1: no pixel .*drains 30 km2 .nearest: 70 % off.*widen"):
        place(1500.0, 1500.0, 30.0)
    with pytest.raises(DomainError, match="no pixel within 0 rows"):
        place(1500.0, 2500.0, 6.0, radius=0)


def test_gauge_outside_the_raster_is_refused():
    with pytest.raises(DomainError, match=r"gauge A1: lies at .4500, 1500., outside.*EPSG:2154; convert"):
        place(4500.0, 1500.0, 6.0)


def test_table(tmp_path):
    table = tmp_path / "gauges.csv"
    table.write_text("code,x,y,area\nA1,1.5,2,30\nB2,3,4,5.5\n")
    assert read_gauges(table) == [Gauge("A1", 1.5, 2.0, 30.0), Gauge("B2", 3.0, 4.0, 5.5)]
    table.write_text("code,x,y\nA1,1.5,2\n")
    with pytest.raises(DomainError, match=r"columns code, x, y, expected code, x, y, area.*Rename"):
        read_gauges(table)
    table.write_text("code,x,y,area\nA1,east,2,3\n")
    with pytest.raises(DomainError, match="east"):
        read_gauges(table)
    with pytest.raises(DomainError, match="cannot be read"):
        read_gauges(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("stamp", "expected"), [("start", [np.nan, 1.0, 2.0, np.nan, 4.0]), ("end", [1.0, 2.0, np.nan, 4.0, 5.0])]
)
def test_stamp_of_a_record_marks_start_or_end(tmp_path, stamp, expected):
    record = tmp_path / "A1.csv"
    record.write_text("20200102\n1.0\n2.0\n-99.0\n4.0\n5.0\n6.0\n")
    np.testing.assert_array_equal(read_discharge(record, DAYS, 86400, stamp), expected)


def test_record_by_the_hour(tmp_path):
    record = tmp_path / "A1.csv"
    record.write_text("201912312300\n" + "\n".join(str(i) for i in range(30)))
    starts = DAYS[0] + np.arange(3) * np.timedelta64(3600, "s")
    assert read_discharge(record, starts, 3600, "end").tolist() == [2.0, 3.0, 4.0]
    assert read_discharge(record, starts, 3600, "start").tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20200101\n1\n-3\n", r"discharge -3 in line 3 .1 such lines.*Correct the record"),
        ("20200101\n1\nwet\n", "wet"),
        ("January\n1\n", "time stamp"),
        ("20210101\n1\n2\n", r"covers 2021-01-01.*Choose another period"),
        ("202001010600\n1\n2\n3\n", r"steps start at 2020-01-01T06:00:00.*Check the stamp"),
        ("", "cannot be read"),
    ],
)
def test_damaged_record_is_refused(tmp_path, text, message):
    record = tmp_path / "A1.csv"
    record.write_text(text)
    with pytest.raises(ObservationError, match=message):
        read_discharge(record, DAYS, 86400, "start")
