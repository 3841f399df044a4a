"""What it costs a gauge to be held out: its scores there, beside those where a training of all gauges fitted it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bmi_cdlm.evaluate.catalogue import metric
from bmi_cdlm.evaluate.summary import bootstrap, column
from cdlm_training.experiment.splits import Split
from cdlm_training.experiment.table import Part, Scored, joined, make_parts, told

OF = ("nse", "kge")
ALL = "all"


class LeftOut(NamedTuple):
    """Scores of one model at gauges that are held out together: group : of a region its name, or `all` of the design;
    apart, beside : scores by gauge where no training saw them, and where `temporal` fitted them (of those that it did).
    """

    design: str
    period: str
    group: str
    model: str
    apart: dict[str, dict[str, float]]
    beside: dict[str, dict[str, float]]

    def row(self) -> list[str]:
        """A line of the table, cells as `left_out_headings` calls them: medians, and of the paired difference."""
        ids, both = list(self.apart), [g for g in self.beside if g in self.apart]  # an interval hangs on the order
        cells = [told(bootstrap(column(self.apart, name, ids)), metric(name).style) for name in OF]
        fitted = [told(bootstrap(column(self.beside, name, both)), metric(name).style) for name in OF]
        less = [
            told(bootstrap(column(self.apart, name, both) - column(self.beside, name, both)), "+.3f") for name in OF
        ]
        return [f"{self.design}, {self.group}", self.model, f"{len(ids)}", *cells, *fitted, *less]


def left_out_headings() -> list[str]:
    """Of the columns of the table."""
    names = [metric(name).heading for name in OF]
    return [
        "held out", "model", "gauges", *(f"median {one}" for one in names),
        *(f"where fitted: {one}" for one in names), *(f"{one} less the fitted's" for one in names),
    ]


def left_out(parts: Sequence[Part], splits: Sequence[Split]) -> Iterator[LeftOut]:
    """The lines of an experiment: of regions each and all of them, of another design all, if `temporal` is beside it.

    Parts without gauges that are held out have none, and a design alone has its line in the table of its part.
    """
    fitted = {part.period: part for part in parts if part.design == "temporal" and part.role == "fitted"}
    for part in parts:
        own = [split for split in splits if split.design == part.design and split.held_out]
        beside = fitted.get(part.period)
        if part.role != "unseen" or not own or (beside is None and part.design != "regions"):
            continue
        groups = {split.name: split.held_out for split in own} if part.design == "regions" else {}
        groups[ALL] = tuple(dict.fromkeys(gauge for split in own for gauge in split.held_out))
        for group, gauges in groups.items():
            for model, found in part.models.items():
                apart = {g: found[g] for g in gauges if g in found}
                others = {} if beside is None else beside.models.get(model, {})
                if any(np.isfinite(scores.get(OF[0], np.nan)) for scores in apart.values()):
                    yield LeftOut(part.design, part.period, group, model, apart, others)


def left_out_markdown(found: Sequence[Scored], splits: Sequence[Split]) -> str:
    """Tables of `left_out` by period as Markdown, nothing where there are no lines."""
    lines, heads = [], left_out_headings()
    every = list(left_out(make_parts(found), splits))
    for period in dict.fromkeys(one.period for one in every):
        lines += ["", f"## {title_of(period)}", "", joined(heads), "|---" * len(heads) + "|"]
        lines += [joined(one.row()) for one in every if one.period == period]
    return "".join(f"{line}\n" for line in lines)


def title_of(period: str) -> str:
    """What a table of it is of."""
    return f"held out and fitted, {period} period, gauge by gauge"
