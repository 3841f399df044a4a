"""Validation by the scenarios of the literature: which splits of an experiment each is, and one table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from cdlm_training.experiment.config import Design
from cdlm_training.experiment.table import ROLES, Role, Scored, headings, joined, make_parts

Scenario = Literal["temporal", "spatial", "spatio-temporal", "downstream-only", "upstream-only"]


class Asked(NamedTuple):
    """What a scenario looks at: design of the splits, period, role of the gauges."""

    design: Design
    period: str
    role: Role


SCENARIOS: dict[Scenario, Asked] = {
    "temporal": Asked("temporal", "test", "fitted"),
    "spatial": Asked("folds", "train", "unseen"),
    "spatio-temporal": Asked("folds", "test", "unseen"),
    "downstream-only": Asked("upstream", "test", "unseen"),
    "upstream-only": Asked("downstream", "test", "unseen"),
}
"""Fitted downstream only means that those upstream are held out, and the other way round."""


def designs_of(scenarios: Sequence[Scenario]) -> tuple[Design, ...]:
    """The designs of an experiment that scenarios need, each once."""
    return tuple(dict.fromkeys(SCENARIOS[one].design for one in scenarios))


def validation_table(
    found: Sequence[Scored], scenarios: Sequence[Scenario], title: str, notes: Sequence[str]
) -> str:
    """One table in Markdown: medians over gauges by scenario and model, with bootstrap intervals.

    The difference is paired with the first model of the same scenario.
    """
    heads = ["scenario", *headings()]
    lines = [f"# {title}", "", *notes, "", joined(heads), "|---" * len(heads) + "|"]
    for scenario in scenarios:
        asked = SCENARIOS[scenario]
        own = [one for one in found if (one.design, one.period, one.role) == asked]
        told = f"{scenario} ({asked.period} period, {ROLES[asked.role]})"
        lines += [joined([told, *row]) for part in make_parts(own) for row in part.rows()]
    return "\n".join(lines) + "\n"
