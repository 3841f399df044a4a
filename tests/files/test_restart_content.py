"""What is inside a sealed state: ids, arrays and a time, each of which may be wrong though the seal is whole."""

from __future__ import annotations

import re

import numpy as np
import pytest
from former_restart import write_former

from bmi_cdlm.files.restart import FORMAT, Restart, read_restart, restart_to_bytes, write_restart
from bmi_cdlm.names.calendars import parse
from bmi_cdlm.names.container import pack, seal
from bmi_cdlm.names.errors import OutputError, StateError

TIME = np.datetime64("2001-03-04T00:00:00", "s")
CELLS, REACHES = ["c0", "c1", "ü2"], ["r0", "r1"]


def state(**changes: object) -> Restart:
    """Two stores and a queue of two places on three cells, the water of two reaches."""
    cell = {"soil": np.arange(3.0), "snow": np.zeros(3), "queue": np.arange(6.0).reshape(2, 3)}
    kept = Restart(cell, {"reach_storage": np.array([5.0, 7.0])}, CELLS, REACHES, {"snow": "none"}, TIME)
    return kept._replace(**changes)


def content(words: dict | None = None, **arrays: object) -> bytes:
    """A state sealed by hand; None leaves an array out."""
    own = {"cell_id": np.array([b"c0", b"c1"]), "cell/soil": np.array([1.0, 2.0]), "reach_id": np.array([b"r0"]),
           "reach/reach_storage": np.array([3.0])}
    merged = {k: v for k, v in {**own, **{k.replace("__", "/"): v for k, v in arrays.items()}}.items() if v is not None}
    said = {"valid_at": "2001-03-04T00:00:00"} if words is None else words
    return b"".join(seal(FORMAT, pack(said, merged)))


def read(given: bytes) -> Restart:
    return read_restart(given, ["c0", "c1"], ["r0"])


def test_it_comes_back_in_the_order_that_is_asked_for(tmp_path):
    write_restart(tmp_path / "a.restart", state())
    found = read_restart(tmp_path / "a.restart", ["ü2", "c0"], ["r1", "r0"])
    assert found.cell["soil"].tolist() == [2.0, 0.0] and found.cell["queue"].tolist() == [[2.0, 0.0], [5.0, 3.0]]
    assert found.reach["reach_storage"].tolist() == [7.0, 5.0]
    assert (found.cell_id, found.reach_id, found.time) == (["ü2", "c0"], ["r1", "r0"], TIME)
    assert found.attributes["snow"] == "none" and found.attributes["source"].startswith("bmi_cdlm ")
    assert (tmp_path / "a.restart").read_bytes() == restart_to_bytes(state()), "the same state, the same bytes"


def test_a_state_of_another_calendar_says_so():
    time = parse("2001-02-30T06:00", "360_day")
    found = read_restart(restart_to_bytes(state(time=time)), CELLS, REACHES)
    assert found.time == time and found.attributes["calendar"] == "360_day"


def test_a_state_without_reaches_or_cells():
    empty = state(reach={"reach_storage": np.zeros(0)}, reach_id=[])
    found = read_restart(restart_to_bytes(empty), CELLS, [])
    assert found.reach["reach_storage"].shape == (0,) and found.reach_id == []


@pytest.mark.parametrize(("given", "message"), [
    (content(cell_id=None), "the given bytes: lacks 'cell_id', expected one id per cell. Take the state again"),
    (content(reach_id=np.array([1.0])), "lacks 'reach_id', expected one id per reach"),
    (content(cell_id=np.array([[b"c0", b"c1"]])), "lacks 'cell_id', expected one id per cell"),
    (content(cell_id=np.array([b"c0", b"\xff1"])), "'cell_id' is no text ("),
    (content(cell_id=np.array([b"c0", b"c0"])), "'cell_id' has no c1 (1 of 2 are missing)"),
    (content(cell_id=np.array([b"c0", b"c1", b"c1"]), cell__soil=np.zeros(3)), "'cell_id' holds c1 more than once"),
    (content(cell__soil=np.zeros(3)), "'cell/soil' has shape (3,), which does not fit"),
    (content(cell__soil=np.zeros((2, 3))), "'cell/soil' has shape (2, 3), which does not fit"),
    (content(cell__soil=np.float64(2.0).reshape(())), "'cell/soil' has shape (), which does not fit"),
    (content(river__soil=np.zeros(2)), "'river/soil' has shape (2,), which does not fit"),
    (content(words={}), "says not when it is valid ('None')"),
    (content(words={"valid_at": "soon"}), "says not when it is valid ('soon')"),
    (content(words={"valid_at": "2001-02-30T00:00:00"}), "says not when it is valid ('2001-02-30T00:00:00')"),
    (content(words={"valid_at": "2001-03-04T00:00:00", "calendar": "maya"}), "says not when it is valid"),
])
def test_what_does_not_fit_though_it_is_whole(given, message):
    with pytest.raises(StateError, match=re.escape(message)):
        read(given)


def test_a_calendar_that_has_the_date():
    found = read(content(words={"valid_at": "2001-02-30T00:00:00", "calendar": "360_day"}))
    assert found.time == parse("2001-02-30", "360_day") and found.cell["soil"].tolist() == [1.0, 2.0]


def test_whole_numbers_and_single_precision_become_double():
    """What another program sealed: a model steps double precision."""
    found = read(content(cell__soil=np.array([1, 2], np.float32), reach__reach_storage=np.array([3], np.int64)))
    assert found.cell["soil"].dtype == found.reach["reach_storage"].dtype == np.float64
    assert found.reach["reach_storage"].tolist() == [3.0]


def test_an_array_of_another_size_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"'soil' has shape \(2,\), expected 3 values, one per cell"):
        write_restart(tmp_path / "a.restart", state(cell={"soil": np.zeros(2)}))
    with pytest.raises(ValueError, match=r"'reach_storage' has shape \(\), expected 2 values, one per reach"):
        restart_to_bytes(state(reach={"reach_storage": np.float64(1.0)}))
    assert not list(tmp_path.iterdir())


def test_where_it_cannot_be_written_or_read(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"file/a\.restart: cannot be written"):
        write_restart(tmp_path / "file" / "a.restart", state())
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StateError, match=r"there is no such file\. Check the path in the configuration"):
            read_restart(path, CELLS, REACHES)


# ---- the format before -----------------------------------------------------------------------------------------


def test_a_state_of_the_format_before(tmp_path):
    old = state(reach={"reach_flow": np.array([2.0, 3.0]), "reach_storage_time": np.array([10.0, 100.0])})
    found = read_restart(write_former(tmp_path / "old.nc", old), CELLS, REACHES)
    assert found.reach["reach_storage"].tolist() == [20.0, 300.0] and "reach_storage_time" not in found.reach
    assert [found.attributes[k] for k in ("runoff", "routing", "components")] == ["gr4j", "muskingum", "1"]
    assert "digest" not in found.attributes and "title" not in found.attributes


def test_what_is_wrong_with_one_of_the_format_before(tmp_path):
    whole = write_former(tmp_path / "old.nc", state()).read_bytes()
    for given, message in (
        (whole[:-9], f"the given bytes ({len(whole) - 9} of them): was cut off or changed ('"),
        (whole[:40], "the given bytes (40 of them): was cut off or changed (the header ends behind the file)"),
        (whole.replace(b"bmi_cdlm restart 2", b"bmi_cdlm restart 1"), "format is 'bmi_cdlm restart 1', expected"),
        (whole[:-8] + b"\1" + whole[-7:], "does not match its sha256, it was cut off or changed"),
        (b"CDF\x02" + whole[4:], "holds no state of bmi_cdlm"), (b"", "(0 of them): holds no state of bmi_cdlm"),
    ):
        with pytest.raises(StateError, match=re.escape(message)):
            read_restart(given, CELLS, REACHES)
