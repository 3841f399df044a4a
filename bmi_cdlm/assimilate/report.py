"""What an assimilation has done, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from bmi_cdlm.assimilate.assimilation import Analysis
from bmi_cdlm.assimilate.cost import Scored
from bmi_cdlm.assimilate.parts import FAR

FEW = 6
"""Members that are shown one by one; of more, means."""
SLOW = 1e-3
"""Share of the gradient at the begin that is left where a minimisation did not come to an end."""


def fit_table(found: Sequence[Analysis], title: str) -> Table:
    """The terms of the cost before and after, gauge by gauge, and how far the discharge was and is from observations.

    With members, the mean over them.
    """
    o = found[0].observed
    title = title if len(found) == 1 else f"{title}, means of {len(found)} members"
    table = Table("term", "observations", "cost before", "after", "RMSE before, m³/s", "after", title=title)
    for g, name in enumerate(o.gauge_id):
        n = int(np.count_nonzero(~np.isnan(o.discharge[:, g])))
        costs = [np.mean([one.before.terms[g] for one in found]), np.mean([one.after.terms[g] for one in found])]
        errors = [
            np.mean([_rmse(one, one.before, g) for one in found]), np.mean([_rmse(one, one.after, g) for one in found]),
        ] if n else []
        table.add_row(
            name, str(n), *(f"{c:.4g}" for c in costs), *(f"{e:.4g}" for e in errors),
        )
    scored = [[one.before for one in found], [one.after for one in found]]
    table.add_row("background", "", *(f"{np.mean([s.background for s in each]):.4g}" for each in scored), "", "")
    table.add_row("all", "", *(f"{np.mean([s.cost for s in each]):.4g}" for each in scored), "", "")
    return table


def _rmse(one: Analysis, scored: Scored, gauge: int) -> float:
    error = (scored.discharge - one.observed.discharge)[:, gauge]
    return float(np.sqrt(np.nanmean(error**2)))


def moved_table(found: Sequence[Analysis]) -> Table:
    """Mean before and after, largest change and standard deviation; with members the mean and largest over them."""
    table = Table("fitted", "units", "mean", "after", "largest", "sd", "new at a bound")
    for place, one in enumerate(found[0].moved):
        each = [other.moved[place] for other in found]
        table.add_row(
            one.name, one.units, f"{np.mean([m.before for m in each]):.4g}", f"{np.mean([m.after for m in each]):.4g}",
            f"{max((m.largest for m in each), key=abs):+.4g}", f"{np.mean([m.deviation for m in each]):.3g}",
            f"{max(m.at_bound for m in each)} of {one.total}",
        )
    return table


def findings(found: Sequence[Analysis]) -> list[str]:
    """What a user should know: gaps in observations, what lies at a bound or has moved far, a fit without an end."""
    o, told = found[0].observed, []
    for g, name in enumerate(o.gauge_id):
        n = int(np.count_nonzero(~np.isnan(o.discharge[:, g])))
        if n < o.starts.size:
            told.append(
                f"gauge {name}: has {n} of {o.starts.size} observations in the window"
                + ("" if n else ", and takes no part")
            )
    for place, one in enumerate(found[0].moved):
        hit = max(other.moved[place].at_bound for other in found)
        far = max(other.moved[place].far for other in found)
        if hit:
            told.append(f"{one.name}: {hit} of {one.total} came to lie at a bound, where the fit would go beyond it")
        if far:
            told.append(
                f"{one.name}: {far} of {one.total} moved by more than {FAR:g} standard deviations: what the discharge "
                "asks for is not what was thought possible. Look at the rain, the rating curve and the parameters."
            )
    for other in found:
        if other.fit.slope > SLOW:
            told.append(
                f"{other.path.name}: {100 * other.fit.slope:.2g} % of the gradient is left after "
                f"{other.fit.iterations} iterations. Give it more (--iterations)."
            )
    return told
