"""Pages: arrays come back as they were, text stays text, nothing is loaded; scripts know dates as Python does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page_cases import decode, needs_node, read_page, run_scripts

from bmi_cdlm.names.calendars import CALENDARS, date_text, parse, seconds_of
from bmi_cdlm.pictures import page
from bmi_cdlm.pictures.map_data import CODES, MISSING, SPAN, flow_codes, frames_layer
from bmi_cdlm.pictures.page import Curve, chart, pack, render, table, times, write_page


@pytest.mark.parametrize("kind", sorted(page.TYPES))
def test_arrays_come_back_as_they_were(kind):
    values = np.array([[1, 250, 3], [7, 2, 255], [0, 0, 9]], kind)
    np.testing.assert_array_equal(decode(pack(values)), values)
    assert decode(pack(values)).dtype == values.dtype
    if kind == "uint16":
        np.testing.assert_array_equal(decode(pack(values, changes=True)), values)
    with pytest.raises(TypeError, match="an array of int64 does not go into a page; expected one of float32"):
        pack(values.astype(np.int64))


def test_what_is_written_stays_text(tmp_path):
    evil = "</script><script>alert(1)</script>&<b>"
    data = {"a": chart([Curve(evil, np.array([1.0, np.nan]))], x=np.arange(2.0), title=evil)}
    body = page.section(evil, page.paragraph(evil), table(["gauge", "NSE"], [[evil, "0.5 [0.1, 0.9]"], ["b", "-"]]))
    size = write_page(tmp_path / "p.html", evil, body + page.place("chart", "a", 100), data)
    text = (tmp_path / "p.html").read_text()
    assert size == len(text.encode()) and "<script>alert" not in text and "<b>" not in text
    tags, found = read_page(tmp_path / "p.html")
    assert tags.headings == [evil, evil] and found["a"]["curves"][0]["name"] == evil
    assert np.isnan(decode(found["a"]["curves"][0]["y"])[1])
    assert '<td>0.5<br><small>[0.1, 0.9]</small></td>' in text and '<th class="word">gauge</th>' in text


@pytest.mark.parametrize(("cells", "kind"), [
    (["0.5 [0.1, 0.9]", "-0.024 [-0.1, +0.1]", "12 %", "−1.2e-7", "-", ""], "<td>"),
    (["04159900, 04161820", "-"], '<td class="word">'), (["2011-01-01"], '<td class="word">'),
    (["9204b6e1", "12"], '<td class="word">'), (["3 of 5"], '<td class="word">'),
])
def test_a_column_of_numbers_alone_stands_to_the_right(cells, kind):
    """A list of ids is no number: it is to begin at the left, and may take several lines."""
    text = table(["x"], [[cell] for cell in cells])
    assert text.count(kind) == len(cells) and text.count("<th" + kind[3:]) == 1


def test_a_chart_is_over_numbers_or_over_time():
    with pytest.raises(ValueError, match="over numbers x, or over steps"):
        chart([])
    with pytest.raises(ValueError, match=r"Out of range|not JSON compliant"):
        render("t", "", {"a": float("nan")})


def test_codes_of_flow_are_near_the_flow():
    flow = np.array([[0.0, 3e-3, 1.0], [np.nan, 5e3, 1e-7]], np.float64)
    codes, least, most = flow_codes(flow)
    assert (codes[0, 0], codes[1, 0], codes[1, 2]) == (0, MISSING, 0), "less than the greatest over SPAN is none"
    assert least == 3e-3 and most == 5e3 and SPAN == 1e9
    back = least * np.exp((codes.astype(float) - 1) / (CODES - 1) * np.log(most / least))
    for at in ((0, 1), (0, 2), (1, 1)):
        assert abs(back[at] / flow[at] - 1) < 0.5 * np.log(most / least) / (CODES - 1) + 1e-9 < 0.0013
    dry, *_ = flow_codes(np.array([[0.0, np.nan]]))
    assert dry.tolist() == [[0, MISSING]]


@needs_node
def test_the_scripts_read_what_was_packed():
    flow = np.array([[0.5, 0.0, 7.0], [np.nan, 20.0, 0.02]])
    codes, least, most = flow_codes(flow)
    layer = frames_layer("Discharge", codes, least, most)
    data = {"flow": pack(flow.astype(np.float32)), "layers": [layer], "above": pack(np.arange(-2, 3, dtype=np.int32))}
    found = run_scripts(("data.js", "colours.js"), f"""
      unpackAll({json.dumps(data)}).then(held => console.log(JSON.stringify({{
        flow: [...held.flow], above: [...held.above], codes: [...held.layers[0].frames], kept: held.layers[0].kept,
        back: [...held.layers[0].frames].map(code => flowOf(held.layers[0], code)),
      }})));""")
    assert found["above"] == [-2, -1, 0, 1, 2] and found["kept"] == 3 and found["codes"] == codes.ravel().tolist()
    for got in (found["flow"], found["back"]):
        values = np.array([np.nan if one is None else one for one in got])
        np.testing.assert_allclose(values, flow.ravel(), rtol=5e-4)


@needs_node
def test_dates_of_the_scripts_are_those_of_the_calendars():
    texts = ("2011-12-30", "2012-02-28T06:00", "1969-03-01", "2000-06-15T23:30")
    days = {c: [parse(text, c) for text in texts] for c in CALENDARS}
    asked = {c: [int(seconds_of(np.asarray(t))) for t in days[c]] for c in CALENDARS}
    told = times(np.array(days["360_day"][:2]))
    assert told["first"] == asked["360_day"][0] and told["calendar"] == "360_day"
    found = run_scripts(("dates.js",), f"""
      const asked = {json.dumps(asked)}, found = {{}};
      for (const c in asked) found[c] = asked[c].map(s => dateText(s, c, 1800));
      const t = dateOf(asked.noleap[1], "noleap");
      found.back = secondsOf(t.y, t.m, t.d, "noleap") + t.rest;
      const [low, high] = [2001, 2003].map(y => secondsOf(y, 0, 1, "360_day"));
      found.ticks = timeTicks(low, high, 8, "360_day").map(v => v[1]);
      console.log(JSON.stringify(found));""")
    for c in CALENDARS:
        expected = [date_text(t).replace("T", " ")[:16].removesuffix(" 00:00") for t in days[c]]
        assert [one.removesuffix(" 00:00") for one in found[c]] == expected
    assert found["back"] == asked["noleap"][1]
    assert found["ticks"] == ["2001", "Apr", "Jul", "Oct", "2002", "Apr", "Jul", "Oct", "2003"]
