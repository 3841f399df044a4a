"""One page of a run: its map with layers, a slider over time, and the hydrograph of whatever is clicked on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.evaluate.catalogue import metric
from bmi_cdlm.evaluate.evaluation import GaugeResult
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.pictures.fields import MapField, parameter_fields, score_field
from bmi_cdlm.pictures.map_data import SPAN, flow_codes, frames_layer, largest_first, map_data
from bmi_cdlm.pictures.page import numbers, place, times, write_page
from bmi_cdlm.pictures.run_output import begin_of, gauge_results, places_of_output, read_blocks, require_output
from bmi_cdlm.run.config import Config

MOST_VALUES = 32_000_000
"""Of discharge at reaches that a page holds: 64 MB in the browser's memory."""
MOST_CELLS = 100_000
"""Cells that a page shows."""
ON_MAP = ("nse", "kge", "pbias")
TOLD = ("nse", "kge", "pbias")


class Viewed(NamedTuple):
    """What a page has come to: its size [bytes], and in words what it holds and what was left out."""

    size: int
    notes: list[str]


def view(
    config: Config, path: Path, title: str, first: np.datetime64 | None = None, last: np.datetime64 | None = None,
    most: int = MOST_VALUES,
) -> Viewed:
    """Write the page of a run.

    first, last : begin and end (exclusive) of what is shown, None for those of the output; most : values of discharge
    at reaches that go into the page.

    Raises
    ------
    ConfigError
        The run has no discharge at gauges or reaches, or none in that time.
    """
    config.check_target(path, "--to")
    domain = read_domain(config.domain)
    output = require_output(config, domain, "view", ("reaches", "gauges", "ids"), ("discharge",))
    inside, starts = _period(config, begin_of(output, "discharge"), first, last)
    period = " to ".join(date_text(t).removesuffix("T00:00:00") for t in (starts[0], last or config.end))
    notes = [f"{title}: {period}, {_sizes(domain)}."]
    results = [_cut(result, inside) for result in gauge_results(config, domain)] if domain.gauges.id else []
    order = largest_first(domain)
    fields, told = _fields(config, domain, results)
    notes += told
    cells = domain.n_cells <= MOST_CELLS
    if not cells:
        notes.append(f"Cells are left out: there are {domain.n_cells}, and a page shows up to {MOST_CELLS}.")
    data = map_data(domain, fields, order, cells=cells, ids=True)
    moving = _moving(config, domain, order, inside, starts.size, most, notes)
    data["layers"] = [*moving, *data["layers"]]
    page = {
        "title": title, "map": data, "times": times(starts), "notes": [*notes, *_how_to()], "first": _largest(domain),
        "gauges": _gauge_data(domain, results, starts.size),
    }
    size = write_page(path, title, place("view", "run", 600), {"run": page}, whole=True)
    return Viewed(size, notes)


def _sizes(domain: Domain) -> str:
    return f"{domain.n_reaches} reaches, {domain.n_cells} cells, {len(domain.gauges.id)} gauges"


def _how_to() -> list[str]:
    return [
        "Click on a gauge or reach for its hydrograph; drag over the hydrograph to zoom, click into it to choose the "
        "day, double-click to go back. Drag the map, use the wheel to zoom.",
        "A line goes from the end of a reach to the end of the next, and has the value of the upper one. Where many "
        "are seen at once all small ones are a pixel wide; zoom in to tell them apart.",
    ]


def _period(
    config: Config, of_output: np.datetime64, first: np.datetime64 | None, last: np.datetime64 | None
) -> tuple[slice, np.ndarray]:
    """Steps of the output, which begins at `of_output`, that are shown, and their begins."""
    step = np.timedelta64(config.time_step * config.steps_per_output, "s")
    begin, end = first or of_output, last or config.end
    if not of_output <= begin < end <= config.end:
        raise ConfigError(
            f"view: the run has {date_text(of_output)} to {date_text(config.end)}, expected a period within it, got "
            f"{date_text(begin)} to {date_text(end)}. Choose another with --from and --until."
        )
    rows = slice(int((begin - of_output) // step), int(-((of_output - end) // step)))
    return rows, of_output + np.arange(rows.start, rows.stop) * step


def _cut(result: GaugeResult, inside: slice) -> GaugeResult:
    return result._replace(simulated=result.simulated[inside], observed=result.observed[inside])


def _fields(config: Config, domain: Domain, results: Sequence[GaugeResult]) -> tuple[list[MapField], list[str]]:
    """Layers that stand still: scores over the whole run, parameters, areas; and what has none."""
    fields = []
    found = {result.gauge_id: result.scores for result in results}
    if any(found.values()):
        for name in ON_MAP:
            values = [found.get(gauge, {}).get(name, np.nan) for gauge in domain.gauges.id]
            fields.append(score_field(name, values)._replace(name=f"{metric(name).heading} over the whole run"))
    own, varying = parameter_fields(config, domain)
    fields += [field._replace(colours="cividis") for field in own]
    upstream = MapField("upstream_area", "reach", "km2", domain.reaches.upstream_area, log=True)
    told = [f"{', '.join(varying)} vary in time and have no layer."] if varying else []
    return [*fields, upstream], told


def _moving(
    config: Config, domain: Domain, order: np.ndarray, inside: slice, n_steps: int, most: int, notes: list[str]
) -> list[dict[str, Any]]:
    """The layer of discharge at reaches, of the largest that there is room for."""
    if config.output_at == "gauges":
        notes.append(
            "The output has discharge at gauges only. With output_at: reaches, reaches have colours and hydrographs."
        )
        return []
    assert config.output is not None
    columns = places_of_output(config, domain)
    column = np.full(domain.n_reaches, -1, np.int64)
    column[columns] = np.arange(columns.size)
    kept = min(order.size, max(1, most // n_steps))
    wanted = column[order[:kept]]
    parts, row = [], 0
    for starts, values in read_blocks(config.output, "discharge", columns.size):
        own = slice(max(inside.start - row, 0), max(inside.stop - row, 0))
        row += starts.size
        block = np.full((values[own].shape[0], kept), np.nan, np.float32)
        block[:, wanted >= 0] = values[own][:, wanted[wanted >= 0]]
        parts.append(block)
    flow = np.concatenate(parts)
    if flow.shape[0] < n_steps:
        raise ConfigError(
            f"view: {config.output} holds {row} steps, expected those up to {inside.stop}. Run the model to its end, "
            "or choose a shorter period with --until."
        )
    if kept < order.size:
        area = domain.reaches.upstream_area[order[kept - 1]]
        notes.append(
            f"Discharge of the {kept} largest of {order.size} reaches is here, those with at least {area:.3g} km2 "
            f"above ({kept * n_steps} values; {most} are the most). The others have parameters, but no colours of "
            "discharge and no hydrograph. A shorter period (--from, --until) or --most leaves room for more."
        )
    codes, least, greatest = flow_codes(flow)
    notes.append(
        f"Discharge at reaches is rounded to 0.2 %; below {greatest / SPAN:.1g} m3 s-1 it is shown as none. That of "
        "gauges has 7 digits."
    )
    return [frames_layer("Discharge", codes, least, greatest)]


def _gauge_data(domain: Domain, results: Sequence[GaugeResult], n_steps: int) -> dict[str, Any]:
    """Series of gauges in the order of the domain, NaN where the output has none."""
    by_id = {result.gauge_id: result for result in results}
    nothing = np.full(n_steps, np.nan)
    own = [by_id.get(gauge) for gauge in domain.gauges.id]
    observed = np.array([nothing if one is None else one.observed for one in own]).reshape(-1)
    return {
        "simulated": numbers(np.array([nothing if one is None else one.simulated for one in own]).reshape(-1)),
        "observed": None if np.isnan(observed).all() else numbers(observed),
        "told": ["" if one is None else _told(one) for one in own],
    }


def _told(result: GaugeResult) -> str:
    parts = [f"{result.area:.0f} km²"] if np.isfinite(result.area) else []
    for name in TOLD:
        if np.isfinite(result.scores.get(name, np.nan)):
            parts.append(f"{metric(name).heading} {format(result.scores[name], metric(name).style)}")
    return " · ".join(parts).replace("-", "−")


def _largest(domain: Domain) -> int:
    """The gauge that is opened first: that with the largest basin."""
    return int(np.argmax(domain.reaches.upstream_area[domain.gauges.reach])) if domain.gauges.id else 0
