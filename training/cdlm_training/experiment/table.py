"""Scores of everything that an experiment has come to: a row per gauge as CSV, medians as Markdown."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.evaluate.catalogue import METRICS, metric, scores
from bmi_cdlm.evaluate.summary import Interval, bootstrap, column
from bmi_cdlm.names.errors import ObservationError
from bmi_cdlm.names.writing import replacing
from cdlm_training.experiment.splits import Split

Role = Literal["fitted", "unseen"]
Key = tuple[str, str]
"""Design and name of a split."""
Series = Callable[[Key], np.ndarray | None]
"""Discharge by split [m3 s-1], read or made when it is asked for: all of a large sample would not fit in memory."""
SHOWN = ("nse", "kge", "log_nse", "pbias")
ROLES: dict[Role, str] = {"fitted": "gauges that were fitted", "unseen": "gauges that no training saw"}


class Result(NamedTuple):
    """What one model has come to, for the roles that it has: float64[time, gauge] by split, or of an ensemble
    float64[member, time, gauge]; of : which of several (a seed, the ensemble).
    """

    model: str
    of: str
    roles: tuple[Role, ...]
    discharge: Series
    is_ensemble: bool = False

    def mean(self, key: Key) -> np.ndarray | None:
        """Discharge of a split, float64[time, gauge]: of an ensemble its mean."""
        found = self.discharge(key)
        return found.mean(axis=0) if self.is_ensemble and found is not None else found


class Scored(NamedTuple):
    """Scores of a model by gauge, in one design, period and role."""

    design: str
    period: str
    role: Role
    model: str
    of: str
    gauges: dict[str, dict[str, float]]


class Scene(NamedTuple):
    """What is scored against: ids and areas [km2] of gauges, observations float64[time, gauge], begins of the steps,
    periods as steps by name, splits.
    """

    ids: Sequence[str]
    areas: Mapping[str, float]
    observed: np.ndarray
    starts: np.ndarray
    periods: Mapping[str, slice]
    splits: Sequence[Split]

    def gauges_of(self, split: Split, role: Role) -> Sequence[str]:
        """Gauges that have a role in a split; without any held out, all that are not fitted are unseen."""
        if role == "fitted":
            return split.fitted
        return split.held_out if split.held_out else [g for g in self.ids if g not in split.fitted]


def score_all(scene: Scene, results: Sequence[Result]) -> list[Scored]:
    """Score every result in every design, period and role that it has; of several splits the mean of a gauge."""
    found = []
    for design in dict.fromkeys(split.design for split in scene.splits):
        splits = [split for split in scene.splits if split.design == design]
        for period, rows in scene.periods.items():
            for role in ROLES:
                for result in (r for r in results if role in r.roles):
                    gauges = _score(scene, splits, rows, role, result)
                    if gauges:
                        found.append(Scored(design, period, role, result.model, result.of, gauges))
    return found


def _score(
    scene: Scene, splits: Sequence[Split], rows: slice, role: Role, result: Result
) -> dict[str, dict[str, float]]:
    each: dict[str, list[dict[str, float]]] = {}
    for split in splits:
        found = result.discharge((split.design, split.name))
        if found is None:
            continue
        members, mean = (found, found.mean(axis=0)) if result.is_ensemble else (None, found)
        for gauge in scene.gauges_of(split, role):
            g = scene.ids.index(gauge)
            s, o = mean[rows, g], scene.observed[rows, g]
            if np.isnan(s).all() or np.isnan(o).all():
                continue
            own = None if members is None else members[:, rows, g]
            each.setdefault(gauge, []).append(scores(s, o, scene.starts[rows], scene.areas[gauge], own))
    return {g: _mean(several) for g, several in each.items()}


def _mean(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one.get(name, np.nan) for one in found])) for name in found[0]}


def write_csv(path: Path, found: Sequence[Scored], areas: Mapping[str, float]) -> None:
    """Write a row per design, period, role, model and gauge, with every score."""
    names = [one.name for one in METRICS]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["design", "period", "role", "model", "of", "gauge", "area_km2", *names])
        for one in found:
            for gauge, own in one.gauges.items():
                values = [own.get(name, np.nan) for name in names]
                table.writerow([
                    one.design, one.period, one.role, one.model, one.of, gauge, f"{areas[gauge]:g}",
                    *("" if np.isnan(v) else f"{v:.9g}" for v in values),
                ])


def read_scores(path: Path) -> list[Scored]:
    """Read what `write_csv` has written; scores that are not there are left out.

    Raises
    ------
    ObservationError
        No such file, or another table.
    """
    found: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if not table.fieldnames:
                raise ValueError("it is empty")
            for row in table:
                key = tuple(row[name] for name in ("design", "period", "role", "model", "of"))
                own = {one.name: float(row[one.name]) for one in METRICS if row.get(one.name)}
                found.setdefault(key, {})[row["gauge"]] = own
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as cause:
        raise ObservationError(
            f"{path}: cannot be read as the scores of an experiment ({cause}). Expected the {path.name} that "
            "`cdlm-train experiment` has written; name its folder."
        ) from cause
    return [Scored._make((*key, gauges)) for key, gauges in found.items()]


class Part(NamedTuple):
    """Scores in one design, period and role, by the name of a line of the table and by gauge."""

    design: str
    period: str
    role: Role
    models: dict[str, dict[str, dict[str, float]]]

    @property
    def title(self) -> str:
        """What it is of."""
        return f"{self.design}, {self.period} period, {ROLES[self.role]}"

    def rows(self) -> list[list[str]]:
        """Lines of the table, cells as `headings` calls them; differences are with the first model."""
        first = next(iter(self.models.values()))
        return [_line(name, gauges, first) for name, gauges in self.models.items()]

    def spreads(self) -> list[str]:
        """What the spread of each ensemble is worth."""
        return [text for name, gauges in self.models.items() if (text := _spread(name, gauges))]


def make_parts(found: Sequence[Scored]) -> list[Part]:
    """Scores by design, period and role. Of a model with several seeds each gauge has the mean of its scores."""
    keys = dict.fromkeys((one.design, one.period, one.role) for one in found)
    return [
        Part(*key, _by_model([one for one in found if (one.design, one.period, one.role) == key])) for key in keys
    ]


def headings() -> list[str]:
    """Of the columns of a table."""
    return ["model", "gauges", *(f"median {metric(name).heading}" for name in SHOWN), "NSE < 0", "NSE less the first's"]


def markdown(found: Sequence[Scored], title: str, notes: Sequence[str]) -> str:
    """Medians over gauges by design, period and role, with bootstrap intervals, as Markdown.

    The ensemble is that of the mean discharge of several seeds. The difference is paired, gauge by gauge, with the
    first model of its table.
    """
    lines = [f"# {title}", "", *notes]
    for part in make_parts(found):
        lines += ["", f"## {part.title}", "", joined(headings()), "|---" * len(headings()) + "|"]
        lines += [joined(row) for row in part.rows()]
        lines += ["", *part.spreads()] if part.spreads() else []
    return "\n".join(lines) + "\n"


def joined(cells: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _by_model(rows: Sequence[Scored]) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by gauge under the name of each line: seeds of one model together."""
    found: dict[str, list[Scored]] = {}
    for one in rows:
        seed = one.of.startswith("seed")
        found.setdefault(f"{one.model}" if seed or not one.of else f"{one.model}, {one.of}", []).append(one)
    merged = {}
    for name, several in found.items():
        label = name if len(several) == 1 else f"{name}, mean of {len(several)} seeds"
        gauges = [g for g in several[0].gauges if all(g in one.gauges for one in several)]
        merged[label] = {g: _mean([one.gauges[g] for one in several]) for g in gauges}
    return merged


def _line(name: str, gauges: dict[str, dict[str, float]], first: dict[str, dict[str, float]]) -> list[str]:
    ids = list(gauges)
    cells = [told(bootstrap(column(gauges, one, ids)), metric(one).style) for one in SHOWN]
    nse = column(gauges, "nse", ids)
    known = nse[~np.isnan(nse)]
    below = f"{100 * (known < 0).mean():.0f} %" if known.size else "-"
    both = [g for g in ids if g in first]
    apart = "" if gauges is first or not both else told(
        bootstrap(column(gauges, "nse", both) - column(first, "nse", both)), "+.3f"
    )
    return [name, f"{len(ids)}", *cells, below, apart]


def _spread(name: str, gauges: dict[str, dict[str, float]]) -> str:
    """What the spread of an ensemble is worth, as medians over gauges; nothing for another model."""
    ids = [g for g in gauges if "crps" in gauges[g]]
    if not ids:
        return ""
    crps, mae, inside, expected = (column(gauges, n, ids) for n in ("crps", "mae", "coverage", "coverage_expected"))
    return (
        f"{name}: CRPS {np.nanmedian(crps / mae):.2f} of the MAE of its mean; {100 * np.nanmedian(inside):.0f} % of "
        f"observations within its members, expected {100 * np.nanmedian(expected):.0f} %."
    )


def told(one: Interval, style: str) -> str:
    """A median with its interval."""
    if not one.n:
        return "-"
    median, low, high = (format(v, style) for v in (one.median, one.low, one.high))
    return f"{median} [{low}, {high}]"
