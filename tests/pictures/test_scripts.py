"""Scripts of a page, run by node: where the words beside the mouse go, ticks, numbers, colours, lines and areas."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from page_cases import needs_node, run_scripts

pytestmark = needs_node


def ask(names: tuple[str, ...], *expressions: str) -> list:
    """What expressions of a script come to."""
    return run_scripts(names, f"console.log(JSON.stringify([{', '.join(expressions)}]));")


def test_words_beside_the_mouse_stay_on_the_canvas():
    """A box of 80 by 30 on a canvas of 300 by 100: right of the mouse, near the right edge left of it."""
    places = [(50, 20), (206, 20), (207, 20), (299, 95), (10, 95)]
    found = ask(("tips.js",), *(f"tipPlace({x}, {y}, 80, 30, 300, 100)" for x, y in places))
    assert found == [[64, 30], [220, 30], [117, 30], [209, 70], [24, 70]]
    assert ask(("tips.js",), "tipPlace(60, 5, 200, 150, 180, 100)") == [[0, 0]], "a box that is too large begins within"


def test_charts_and_maps_show_words_by_the_same_function():
    """The tip goes where `tipPlace` says, and what it says is text."""
    found = run_scripts(("tips.js",), """
      const tip = {style: {}, offsetWidth: 80, offsetHeight: 30}, canvas = {clientWidth: 300, clientHeight: 100};
      showTip(tip, canvas, {offsetX: 250, offsetY: 95}, "<b>r1</b>\\n3");
      console.log(JSON.stringify(tip));""")
    assert found["style"] == {"display": "block", "left": "160px", "top": "70px"}
    assert found["textContent"] == "<b>r1</b>\n3"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12345.678, "12350"), (0.00123456, "0.001235"), (-2.5, "−2.5"), (1e6, "1.00e+6"),
     (4.2e-7, "4.20e−7"), (-4.2e-7, "−4.20e−7"), (math.nan, "–"), (math.inf, "–")],
)
def test_numbers_in_words(value: float, text: str):
    script = "NaN" if math.isnan(value) else "Infinity" if math.isinf(value) else repr(value)
    assert ask(("dates.js",), f"shown({script})") == [text]


@pytest.mark.parametrize(
    ("low", "high", "most", "whole", "expected"),
    [(0.0, 10.0, 5, "false", [0, 2, 4, 6, 8, 10]), (0.0, 1.0, 4, "false", [0, 0.5, 1]),
     (-0.3, 0.3, 6, "false", [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]), (1.2, 3.9, 10, "true", [2, 3]),
     (5.0, 5.0, 4, "false", []), (0.93, 1.07, 3, "false", [0.95, 1.0, 1.05]),
     (0.61, 0.97, 2, "false", [0.7, 0.8, 0.9]), (1.0, 9.0, 2, "false", [2, 4, 6, 8]),
     (-0.4, 1.7, 2, "false", [0, 0.5, 1, 1.5])],
)
def test_ticks_of_numbers(low: float, high: float, most: int, whole: str, expected: list[float]):
    found = ask(("dates.js",), f"numberTicks({low}, {high}, {most}, {whole}).map(t => t[0])")[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_ticks_of_powers_are_few_and_within():
    few, many, none = ask(
        ("dates.js",), "powerTicks(0.02, 300)", "powerTicks(1e-9, 1e6)", "powerTicks(2, 5)"
    )
    assert [label for _, label in few] == ["0.1", "1", "10", "100"]
    steps = np.diff(np.log10([at for at, _ in many]))
    assert len(many) <= 8 and np.ptp(steps) < 1e-9 and steps[0] == pytest.approx(3)
    assert none == [[2, "2"], [5, "5"]], "without a power between them the limits are told"


@pytest.mark.parametrize(
    ("low", "high", "most", "labels"),
    [("Date.UTC(2001, 0, 31, 20)", "Date.UTC(2001, 1, 1, 4)", 4, ["21:00", "1 Feb", "03:00"]),
     ("Date.UTC(2000, 1, 27)", "Date.UTC(2000, 2, 2)", 5, ["27 Feb", "28 Feb", "29 Feb", "1 Mar", "2 Mar"]),
     ("Date.UTC(1999, 11, 30)", "Date.UTC(2000, 0, 3)", 5, ["30 Dec", "31 Dec", "1 Jan 2000", "2 Jan", "3 Jan"]),
     ("Date.UTC(1999, 9, 1)", "Date.UTC(2000, 4, 1)", 10, ["Oct", "Nov", "Dec", "2000", "Feb", "Mar", "Apr", "May"]),
     ("Date.UTC(1990, 5, 1)", "Date.UTC(2020, 5, 1)", 7, ["1995", "2000", "2005", "2010", "2015", "2020"])],
    ids=["hours", "leap day", "turn of the year", "months", "years"],
)
def test_ticks_of_time(low: str, high: str, most: int, labels: list[str]):
    assert ask(("dates.js",), f"timeTicks({low} / 1000, {high} / 1000, {most}).map(t => t[1])") == [labels]


def test_a_year_without_a_leap_day_and_one_of_twelve_equal_months():
    for calendar, last, days in (("noleap", "2000-02-28", 365), ("360_day", "2000-02-30", 360)):
        first = f'secondsOf(2000, 2, 1, "{calendar}")'
        before, year, back = ask(
            ("dates.js",), f'dateText({first} - DAY, "{calendar}", DAY)',
            f'(secondsOf(2001, 0, 1, "{calendar}") - secondsOf(2000, 0, 1, "{calendar}")) / DAY',
            f'dateOf(secondsOf(1969, 14, 1, "{calendar}"), "{calendar}")',
        )
        assert (before, year) == (last, days)
        assert (back["y"], back["m"], back["d"]) == (1970, 2, 1), "a month beyond December is one of the next year"


def test_colours_run_from_the_first_to_the_last_stop():
    found = run_scripts(("colours.js",), """
      console.log(JSON.stringify(Object.fromEntries(Object.keys(COLOURS).map(
        name => [name, [RAMPS[name].length, RAMPS[name][0], RAMPS[name][BINS - 1], COLOURS[name]]]))));""")
    for name, (bins, first, last, stops) in found.items():
        ends = [[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in (stops[0], stops[-1])]
        expected = [f"rgb({r},{g},{b})" for r, g, b in ends]
        assert (bins, [first, last]) == (64, expected), name


PIXELS = """
  globalThis.image = null;
  const pen = {canvas: {width: 8, height: 6}, createImageData: (w, h) => ({data: new Uint8ClampedArray(4 * w * h)}),
    putImageData() {}};
  const pixels = new Pixels(pen, 8, 6);
  const lit = () => {
    const found = [];
    pixels.words.forEach((w, i) => { if (w >>> 24) found.push([i % 8, Math.floor(i / 8), w >>> 24]); }); return found;
  };
"""


def drawn(script: str) -> list[list[int]]:
    """Column, row and opacity of the pixels that a script has drawn on a canvas of 8 by 6."""
    return run_scripts(("pixels.js",), f"{PIXELS}{script}; console.log(JSON.stringify(lit()));")


def test_a_colour_is_the_word_that_a_canvas_holds():
    found = run_scripts(("pixels.js",), 'console.log(JSON.stringify(["#010203", "rgb(1,2,3)"].map(Pixels.word)))')
    assert found == [0xFF030201, 0xFF030201]


def test_a_level_line_lights_its_pixels_and_one_between_two_rows_shares_itself():
    assert drawn('pixels.line(1, 2, 5, 2, Pixels.word("#000000"))') == [[x, 2, 255] for x in range(1, 6)]
    shared = drawn('pixels.line(1, 2.25, 5, 2.25, Pixels.word("#000000"))')
    assert {(y, a) for _, y, a in shared} == {(2, 191), (3, 64)}
    assert drawn('pixels.line(3, 0, 3, 4, Pixels.word("#000000"))') == [[3, y, 255] for y in range(5)]


def test_what_is_outside_of_the_canvas_is_not_drawn():
    assert drawn('pixels.line(-50, -3, -20, -3, Pixels.word("#ffffff"))') == []
    inside = drawn('pixels.line(-5, 1, 50, 1, Pixels.word("#ffffff"))')
    assert [x for x, _, _ in inside] == list(range(8))


def test_a_quadrilateral_has_its_area():
    square = drawn('pixels.fill([1, 4, 4, 1], [1, 1, 5, 5], Pixels.word("#ffffff"))')
    assert {(x, y) for x, y, _ in square} == {(x, y) for x in (1, 2, 3) for y in (1, 2, 3, 4)}
    triangle = drawn('pixels.fill([0, 8, 0, 0], [0, 0, 6, 6], Pixels.word("#ffffff"))')
    rows = np.bincount([y for _, y, _ in triangle], minlength=6)
    assert (np.diff(rows) < 0).all() and abs(rows.sum() - 24) <= 6, "it grows narrower downwards; half of 8 by 6"
    assert drawn('pixels.fill([20, 30, 30, 20], [1, 1, 5, 5], Pixels.word("#ffffff"))') == []


def test_cells_that_all_but_meet_have_no_seam_and_small_ones_are_seen():
    """The gap lies about the middle of a row of pixels; a cell of a tenth of a pixel is one."""
    above = 'pixels.fill([1, 4, 4, 1], [1, 1, 2.49, 2.49], Pixels.word("#ffffff"))'
    below = 'pixels.fill([1, 4, 4, 1], [2.51, 2.51, 4, 4], Pixels.word("#ffffff"))'
    assert {(x, y) for x, y, _ in drawn(f"{above};{below}")} == {(x, y) for x in (1, 2, 3) for y in (1, 2, 3)}
    assert drawn('pixels.fill([2.1, 2.2, 2.2, 2.1], [3.7, 3.7, 3.8, 3.8], Pixels.word("#ffffff"))') == [[2, 3, 255]]


def test_a_value_without_neighbours_is_a_mark_and_others_are_a_line():
    found = run_scripts(("chart.js",), """
      const calls = [], pen = new Proxy({}, {get: (_, name) => (...words) => calls.push(name), set: () => true});
      const chart = Object.create(Chart.prototype);
      Object.assign(chart, {box: {left: 0, right: 100}, spec: {}, xAt: i => i, n: 3});
      const marks = y => { calls.length = 0; chart.curve(pen, x => x, v => v, {y, colour: "#000"}, 0, 3);
        return calls.filter(c => c === "rect" || c === "lineTo"); };
      console.log(JSON.stringify([marks([1, NaN, NaN]), marks([1, 2, NaN]), marks([NaN, 4, NaN]), marks([1, NaN, 2])]));
    """)
    assert found == [["rect"], ["lineTo"], ["rect"], ["rect", "rect"]]


@pytest.mark.parametrize(("extent", "below"), [([0.0, 0.0, 20.0, 8.0], 76.0), ([0.0, 0.0, 1.0, 8.0], 20.0)])
def test_the_legend_lies_beside_the_map_or_below_it(extent: list[float], below: float):
    """A legend of 300 by 60 on 800 by 500: a wide domain ends above it, a narrow one beside it."""
    top, bottom = run_scripts(("map.js",), f"""
      const plan = Object.create(Plan.prototype);
      Object.assign(plan, {{spec: {{extent: {extent}}}, squeeze: 1, canvas: {{clientWidth: 800, clientHeight: 500}},
        legend: {{offsetWidth: 300, offsetHeight: 60}}, draw() {{}}}});
      plan.fit();
      plan.half = [400, 250];
      console.log(JSON.stringify([plan.Y({extent[3]}), 500 - plan.Y({extent[1]})]));""")
    assert top >= 50 - 1e-9 and bottom >= below - 1e-9
    assert (top - 50) == pytest.approx(bottom - below), "in the middle of what is left"


def test_codes_of_flow_stand_for_flows():
    layer = json.dumps({"least": 0.01, "most": 100.0, "codes": 8192})
    none, least, most, middle = ask(
        ("colours.js",), *(f"flowOf({layer}, {code})" for code in (0, 1, 8192, 4096.5))
    )
    assert (none, least) == (0, 0.01) and most == pytest.approx(100.0) and middle == pytest.approx(1.0)
    assert ask(("colours.js",), f"Number.isNaN(flowOf({layer}, 65535))") == [True]
