"""Small tables in CSV: as spreadsheets leave them, and the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bmi_cdlm.files.csv_table import read_csv, read_lines, rows_by
from bmi_cdlm.names.errors import ObservationError


@pytest.fixture
def write(tmp_path: Path):
    def write_bytes(text: str | bytes) -> Path:
        path = tmp_path / "gauges.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_bytes


@pytest.mark.parametrize(
    "text",
    ["id,years\ng1,3\ng2,\n", "\ufeffid,years\ng1,3\ng2,\n", "id,years\r\ng1,3\r\ng2,\r\n",
     " id , years\ng1 , 3\n g2,\n",
     '"id","years"\n"g1","3"\n\n"g2",""\n,\n', "id,years\ng1,3\ng2,"],
    ids=["plain", "byte order mark", "of Windows", "blanks", "quotes and empty lines", "no end of the last line"],
)
def test_the_same_table_however_it_was_saved(write, text: str) -> None:
    table = read_csv(write(text), ObservationError)
    assert table.headings == ["id", "years"]
    assert [row for _, row in table.lines] == [{"id": "g1", "years": "3"}, {"id": "g2", "years": ""}]


def test_lines_are_counted_as_an_editor_does(write) -> None:
    table = read_csv(write('id,name\n\na,"two\nlines"\nb,x\n'), ObservationError)
    assert [(number, row["id"]) for number, row in table.lines] == [(4, "a"), (5, "b")]
    assert table.lines[0][1]["name"] == "two\nlines"


@pytest.mark.parametrize(
    ("text", "told"),
    [("id,years\ng1,2,5\n", r"line 2 has 3 values, expected 2, one for each of id, years.*in quotes"),
     ("id,years\ng0,1\ng1\n", r"line 3 has 1 values, expected 2"),
     ("id,years,years\ng1,1,9\n", r"the column 'years' stands twice"),
     (b"id\ng\xe9\n", r"cannot be read \('utf-8' codec.*Expected a table of dams\."),
     ('id\n"' + "x" * 200_000 + '"\n', r"cannot be read \(field larger than field limit")],
    ids=["decimal comma", "cut", "twice", "latin-1", "no end of a quote"],
)
def test_what_is_refused(write, text: str | bytes, told: str) -> None:
    with pytest.raises(ObservationError, match=rf"gauges\.csv: {told}"):
        read_csv(write(text), ObservationError, "a table of dams")


def test_nothing_and_no_file(write, tmp_path: Path) -> None:
    assert read_csv(write(""), ObservationError) == ([], [])
    assert read_lines(write("\n , \n"), ObservationError) == []
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ObservationError, match="cannot be read"):
            read_lines(path, ObservationError)


def test_one_line_for_each(write) -> None:
    path = write("id,years\na,1\nb,2\n")
    assert rows_by(read_csv(path, ObservationError), "id", path, ObservationError)["b"] == {"id": "b", "years": "2"}
    path = write("id,years\na,1\nb,2\na,9\n")
    with pytest.raises(ObservationError, match=r"line 4: 'a' stands in an earlier line too, expected one for each"):
        rows_by(read_csv(path, ObservationError), "id", path, ObservationError)
    path = write("id,years\na,1\n,2\n")
    with pytest.raises(ObservationError, match=r"line 3: 'id' is empty"):
        rows_by(read_csv(path, ObservationError), "id", path, ObservationError)
