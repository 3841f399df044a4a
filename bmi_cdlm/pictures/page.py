"""A page of its own: text, tables and data in one HTML file, with the scripts that draw them; nothing is loaded.

Data lie in the page as JSON; arrays in it are deflated and written in base64 (`pack`). The scripts are those of this
folder: `dates.js` (dates of any calendar, ticks), `data.js` (arrays), `tips.js` (words beside the mouse), `chart.js`
(curves that one can zoom), `colours.js`, `pixels.js` and `map.js` (cells, reaches and gauges), `page.js` (what goes
where).
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.evaluate.signatures import step_of
from bmi_cdlm.names.calendars import calendar_of, seconds_of
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.version import __version__

NUMBER = re.compile(r"[+−-]?\d[\d.,]*(e[+−-]?\d+)?( %)?( \[[^\]]*\])?")
"""A cell that is a number, with a share or an interval; ids, dates and lists of them are words."""
SCRIPTS = ("dates.js", "data.js", "tips.js", "chart.js", "colours.js", "pixels.js", "map.js", "page.js")
TYPES = {"float32": "f4", "float64": "f8", "uint8": "u1", "uint16": "u2", "int32": "i4"}
"""Types of arrays in a page, and what the scripts call them; all little-endian."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""What the browser is told: nothing is loaded, from nowhere."""
LEVEL = 6
"""Of the compression."""
SERIES_COLOURS = ("#1a1a1a", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195")
"""Of curves: black and those that Okabe and Ito chose for all kinds of colour vision (2008), and one more."""


def pack(values: np.ndarray, *, changes: bool = False) -> dict[str, Any]:
    """An array as JSON holds it: its type, shape, and its bytes deflated, in base64.

    changes : integers are written as their change along the first axis (the unsigned ones around their limit), which
    deflates better where neighbours are alike.

    Raises
    ------
    TypeError
        Of a type that no script reads: see `TYPES`.
    """
    if values.dtype.name not in TYPES:
        raise TypeError(f"an array of {values.dtype} does not go into a page; expected one of {', '.join(TYPES)}")
    shape = list(values.shape)
    if changes:
        values = np.diff(values, axis=0, prepend=np.zeros((1, *values.shape[1:]), values.dtype))
    raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(zlib.compress(raw, LEVEL)).decode()
    found = {"array": TYPES[values.dtype.name], "shape": shape, "bytes": text}
    return {**found, "changes": True} if changes else found


def numbers(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Numbers as an array of 32 bits, NaN where there is none."""
    return pack(np.asarray(values, np.float32))


def times(starts: np.ndarray) -> dict[str, Any]:
    """Begins of steps, datetime64[time], as the scripts count them: in seconds since 1970 of their calendar."""
    first = int(seconds_of(starts[:1])[0]) if starts.size else 0
    return {"first": first, "step": step_of(starts), "n": int(starts.size), "calendar": calendar_of(starts)}


class Curve(NamedTuple):
    """A curve of a chart: its name, its values, float[n], its colour (one by its place where there is none)."""

    name: str
    values: np.ndarray
    colour: str = ""
    dashed: bool = False


def chart(
    curves: Sequence[Curve], *, x: np.ndarray | None = None, starts: np.ndarray | None = None, xlabel: str = "",
    ylabel: str = "", limits: tuple[float | None, float | None] = (None, None), log: bool = False, steps: bool = False,
    whole: bool = False, band: tuple[np.ndarray, np.ndarray] | None = None, title: str = "", told: str = "",
) -> dict[str, Any]:
    """What `chart.js` draws: curves over numbers `x` or over steps from `starts`.

    limits : of the axis upwards, None where the values say; log : whether that axis is in powers of ten; steps : draw a
    value over the whole of its step; whole : x are whole numbers; band : what is shaded between, float[n] each; told :
    what stands behind the title.

    Raises
    ------
    ValueError
        Both x and starts, or neither of them.
    """
    if (x is None) == (starts is None):
        raise ValueError("a chart is over numbers x, or over steps from starts")
    found: dict[str, Any] = {
        "title": title, "told": told, "xlabel": xlabel, "ylabel": ylabel, "limits": list(limits), "log": log,
        "steps": steps, "whole": whole,
        "curves": [
            {"name": c.name, "y": numbers(c.values), "colour": c.colour or SERIES_COLOURS[k % len(SERIES_COLOURS)],
             "dashed": c.dashed} for k, c in enumerate(curves)
        ],
    }
    if starts is not None:
        found["times"] = times(starts)
    if x is not None:
        found["x"] = pack(np.asarray(x, np.float64))
    if band is not None:
        found["band"] = [numbers(edge) for edge in band]
    return found


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """A table as HTML; what stands in it is text."""
    cells = [[str(cell) for cell in row] for row in rows]
    kinds = [' class="word"' if any(_is_word(row[k]) for row in cells) else "" for k in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(one)}</th>" for one, kind in zip(headings, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(one)}</td>" for one, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in cells
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_word(text: str) -> bool:
    return bool(text) and text != "-" and not NUMBER.fullmatch(text)


def _cell(text: str) -> str:
    """The text of a cell; an interval stands below its median."""
    middle, opened, interval = text.partition(" [")
    if opened and interval.endswith("]") and not _is_word(middle):
        return f"{escape(middle)}<br><small>[{escape(interval)}</small>"
    return escape(text)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def place(kind: str, key: str, height: int) -> str:
    """Where a script draws: kind : `chart`, `map` or `view`; key : of its data; height : [px]."""
    return f'<div class="{kind}" data-key="{escape(key)}" style="height:{height}px"></div>'


def section(heading: str, *parts: str) -> str:
    """A part of a page under its heading, which the list of contents names."""
    return f"<section><h2>{escape(heading)}</h2>{''.join(parts)}</section>"


def render(title: str, body: str, data: Mapping[str, Any], *, whole: bool = False) -> str:
    """The page as text; whole : the body fills the window, without a list of contents."""
    held = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    held = held.replace("<", "\\u003c")  # no text in it ends the script that it stands in
    scripts = "\n".join(_text(name) for name in SCRIPTS)
    inside = body if whole else f"<nav></nav><main><h1>{escape(title)}</h1>{body}</main>"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="bmi_cdlm {__version__}"><title>{escape(title)}</title>'
        f"<style>\n{_text('page.css')}</style></head><body class=\"{'whole' if whole else 'text'}\">{inside}"
        f"<noscript><p>Curves and maps are drawn by the scripts of this page, which are off.</p></noscript>"
        f'<script type="application/json" id="data">{held}</script><script>\n{scripts}</script></body></html>\n'
    )


def write_page(path: Path, title: str, body: str, data: Mapping[str, Any], *, whole: bool = False) -> int:
    """Write a page; returns its size [bytes]. OutputError where it cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(render(title, body, data, whole=whole), encoding="utf-8")
        return temporary.stat().st_size


def _text(name: str) -> str:
    return files("bmi_cdlm.pictures").joinpath(name).read_text(encoding="utf-8")
