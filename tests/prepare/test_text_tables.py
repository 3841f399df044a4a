"""Tables as text: numbers and the words among them, dates in zones and by clocks, encodings and fields too many."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.prepare.text_tables import MISSING, check_once, find_column, numbers_of, read_text, rows_of, stamps_of
from bmi_cdlm.prepare.weather.weather_config import ObservationsConfig

pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture
def read(tmp_path):
    """Read a table under some keys; the table, its keys and its path."""

    def of(text: str | bytes, name: str = "q.csv", **keys: object):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        own = ObservationsConfig(source="q.csv", layout="wide", **keys)
        return read_text(path, own, ObservationError), own, path

    return of


def refused(message: str):
    return pytest.raises(ObservationError, match=re.escape(message))


def test_words_that_mean_missing(read):
    rows = "".join(f"{k},{word}\n" for k, word in enumerate((*MISSING, " NA ", "Eis", "-9")))
    table, keys, path = read(f"time,a\n{rows}", missing_text=["Eis"])
    found = numbers_of(table["a"], keys, path, ObservationError)
    assert np.isnan(found[:-1]).all() and found[-1] == -9.0, "numbers that mean missing are another key's"


def test_words_that_are_no_numbers(read):
    table, keys, path = read("time,a\n" + "".join(f"1,{w}\n" for w in ("1.5", "Ice", "Ice", "e", "f", "g", "h", "i")))
    with refused(
        "q.csv: column 'a': 'Ice' (2 times), 'e' (1 times), 'f' (1 times), 'g' (1 times), 'h' (1 times) ... are no "
        "numbers. Expected numbers. Correct the table, or name words that mean missing in missing_text."
    ):
        numbers_of(table["a"], keys, path, ObservationError)


def test_commas_in_numbers(read):
    table, keys, path = read("time;a\n1;1,5\n2;2,25\n", delimiter=";")
    with refused("'1,5' (1 times), '2,25' (1 times) are no numbers. Expected numbers. Set decimal: ',' for commas."):
        numbers_of(table["a"], keys, path, ObservationError)
    table, keys, path = read("time;a\n1;1,5\n2;2,25\n", delimiter=";", decimal=",")
    assert numbers_of(table["a"], keys, path, ObservationError).tolist() == [1.5, 2.25]


def test_lines_with_more_fields_than_headings(read):
    with refused("q.csv: lines of values have more fields than the headings, 'time,a'. Expected as many."):
        read("time,a\n1,1,5\n2,2,25\n")
    table, *_ = read("time,a\n1,5,\n2,6,\n")  # a delimiter at the end of every line is none of those
    assert table["a"].tolist() == ["5", "6"]
    for text in ("time,a\n", "", "# nothing\n"):
        with refused("q.csv: has no line of values, expected a table."):
            read(text)


def test_encodings(read):
    content = "time,höhe\n1,2\n".encode("latin-1")
    with refused("q.csv: cannot be read as utf-8 (invalid start byte 0xf6 at byte 6). Set `encoding`, such as latin-1"):
        read(content)
    assert list(read(content, encoding="latin-1")[0].columns) == ["time", "höhe"]
    with refused("q.csv: encoding 'klingon' is not known. Expected such as utf-8, latin-1, cp1252."):
        read(content, encoding="klingon")
    assert list(read(b"\xef\xbb\xbftime,a\n1,2\n")[0].columns) == ["time", "a"], "a byte order mark is no letter"


def test_a_heading_and_an_id_that_stand_twice(read):
    table, _, path = read("time,a,a\n1,2,3\n")
    with refused("q.csv: the heading 'a' stands twice, expected once. Rename one, or name it by its place."):
        check_once(table, "a", path, ObservationError)
    check_once(table, "time", path, ObservationError)
    assert find_column(table, 3, path, ObservationError).tolist() == ["3"]
    assert rows_of(["a", "b"], "q.csv", ObservationError) == {"a": 0, "b": 1}
    with refused("q.csv: the id 'b' stands twice, expected each once. Correct it, or name another column."):
        rows_of(["a", "b", "c", "b"], "q.csv", ObservationError)


def test_clocks_and_zones(read):
    table, keys, path = read("time,zone,a\n2020-01-01,CET,1\n2020-07-01,CEST,2\n2020-07-01,NDT,3\n", zone_column="zone")
    found = stamps_of(table, keys, path, ObservationError).astype(str).tolist()
    assert found == ["2019-12-31T23:00:00", "2020-06-30T22:00:00", "2020-07-01T02:30:00"]
    table, keys, path = read("time,zone,a\n2020-01-01,MARS,1\n", zone_column="zone")
    with refused("q.csv: the zone 'MARS' at 2020-01-01 00:00:00 is not known. Expected one of UTC, GMT, "):
        stamps_of(table, keys, path, ObservationError)
    hours = "\n".join(f"2020-10-25 {h},1" for h in ("01:00", "02:00", "02:00", "03:00"))
    table, keys, path = read(f"time,a\n{hours}\n", time_zone="Europe/Paris")
    found = stamps_of(table, keys, path, ObservationError)
    assert np.diff(found).astype(int).tolist() == [3600] * 3, "an hour that comes twice is two"
    table, keys, path = read("time,a\n2020-01-01,1\n", time_zone="Europe/Atlantis")
    with refused("q.csv: time_zone 'Europe/Atlantis' is not known. Expected a name such as Europe/Paris or Etc/GMT+5."):
        stamps_of(table, keys, path, ObservationError)


def test_time_series_tables(read):
    table, *_ = read("title\n3\ntimestep\na\nb\n1 1.5 1e31\n2 3 4\n", name="q.tss")
    assert table["b"].tolist() == ["", "4"] and list(table.columns) == ["time", "a", "b"]
    table, *_ = read("1 2 3\n2 4 5\n", name="q.tss")
    assert list(table.columns) == ["time", "1", "2"], "values alone"
    for text, got in (
        ("title\n2\ntime\na\n1 2 3\n", "'1 2 3' in line 1 of values, expected a time step and 1 values"),
        ("1 2\n2\n", "'2' in line 2 of values, expected a time step and 1 values"),
        ("title\n2\ntime\na\n", "no line of values"), ("1\n2\n", "no line of values"),
    ):
        with refused(f"q.tss: has {got}"):
            read(text, name="q.tss")
