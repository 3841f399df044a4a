"""Every score once: name, unit, best value, meaning and source. Evaluation, training and reference read this table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.evaluate import metrics
from bmi_cdlm.evaluate.signatures import baseflow_index, means_over, step_of
from bmi_cdlm.names.errors import UnknownNameError, nearest
from bmi_cdlm.names.time_steps import DAY

YEAR = 365.25 * DAY
"""[s]"""


class Pair(NamedTuple):
    """Simulated and observed discharge of a gauge, float64[time]; starts : datetime64[time], begins of the steps, or
    None; area : of the gauge [km2], NaN where it is not known; members : those of an ensemble whose mean is simulated,
    float64[member, time], or None.
    """

    simulated: np.ndarray
    observed: np.ndarray
    starts: np.ndarray | None = None
    area: float = math.nan
    members: np.ndarray | None = None

    def daily(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Both series by day, NaN where one of them is; None without dates, or with steps longer than a day."""
        if self.starts is None or step_of(self.starts) > DAY:
            return None
        s, o, _ = means_over(self.simulated, self.observed, self.starts, "day")
        return s, o


class Metric(NamedTuple):
    """A score.

    heading, style : of its column; best : value of a perfect simulation, NaN for what is no score; of : from a pair of
    series, NaN where it is not defined; needs : beside the two series.
    """

    name: str
    heading: str
    units: str
    best: float
    meaning: str
    source: str
    of: Callable[[Pair], float]
    style: str = ".3f"
    needs: Literal["", "dates", "members"] = ""

    def error(self, value: float) -> float:
        """How far a value is from the best one."""
        return abs(value - self.best)


def _plain(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Pair], float]:
    """A score that takes two series and nothing else."""
    return lambda pair: function(pair.simulated, pair.observed)


def _part(name: str) -> Callable[[Pair], float]:
    """A part of the Kling-Gupta efficiency."""
    return lambda pair: float(getattr(metrics.kge_parts(pair.simulated, pair.observed), name))


def _high(share: float) -> Callable[[Pair], float]:
    return lambda pair: metrics.high_flow_error(pair.simulated, pair.observed, share)


def _am3(pair: Pair) -> float:
    if pair.starts is None or step_of(pair.starts) > DAY:
        return math.nan
    return metrics.am3(pair.simulated, pair.observed, pair.starts)


def _n(pair: Pair) -> float:
    return float(metrics.valid_pairs(pair.simulated, pair.observed)[0].size)


def _years(pair: Pair) -> float:
    if pair.starts is None or pair.starts.size < 2:
        return math.nan
    whole = (pair.starts[-1] - pair.starts[0]) / np.timedelta64(1, "s")  # months are not all as long as the first
    return _n(pair) * float(whole) / (pair.starts.size - 1) / YEAR


def _of_members(pair: Pair, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Mean over the steps with all values of what members, float64[member, time], and observations give at each."""
    if pair.members is None:
        return math.nan
    valid = ~(np.isnan(pair.members).any(axis=0) | np.isnan(pair.observed))
    return float(of(pair.members[:, valid], pair.observed[valid]).mean()) if valid.any() else math.nan


def _index(which: int) -> Callable[[Pair], float]:
    def of(pair: Pair) -> float:
        days = pair.daily()
        if days is None or not pair.area > 0:
            return math.nan
        return baseflow_index(days[which], pair.area)
    return of


def _index_error(pair: Pair) -> float:
    return _index(0)(pair) - _index(1)(pair)


METRICS: tuple[Metric, ...] = (
    Metric("n", "n", "1", math.nan, "Steps with both values", "", _n, ".0f"),
    Metric("years", "years", "a", math.nan, "Length of the record: those steps in years", "", _years, ".1f", "dates"),
    Metric("nse", "NSE", "1", 1, "1 - sum (s - o)^2 / sum (o - mean o)^2", "Nash and Sutcliffe 1970",
           _plain(metrics.nse)),
    Metric("log_nse", "log NSE", "1", 1, "NSE of ln(q + mean o / 100)", "Pushpalatha et al. 2012",
           _plain(metrics.log_nse)),
    Metric("sqrt_nse", "root NSE", "1", 1, "NSE of the square roots of flow", "Pushpalatha et al. 2012",
           _plain(metrics.sqrt_nse)),
    Metric("kge", "KGE", "1", 1, "1 - sqrt((r - 1)^2 + (alpha - 1)^2 + (beta - 1)^2)", "Gupta et al. 2009",
           _plain(metrics.kge)),
    Metric("kge_prime", "KGE'", "1", 1, "KGE with gamma in place of alpha", "Kling et al. 2012",
           _plain(metrics.kge_prime)),
    Metric("kge_r", "r", "1", 1, "Correlation", "Gupta et al. 2009", _part("r")),
    Metric("kge_alpha", "alpha", "1", 1, "Ratio of the spreads, s over o", "Gupta et al. 2009", _part("alpha")),
    Metric("kge_beta", "beta", "1", 1, "Ratio of the means, s over o", "Gupta et al. 2009", _part("beta")),
    Metric("kge_gamma", "gamma", "1", 1, "Ratio of the coefficients of variation, s over o", "Kling et al. 2012",
           _part("gamma")),
    Metric("pcc", "Pearson", "1", 1, "Correlation; none for a constant series", "Pearson 1895", _plain(metrics.pcc)),
    Metric("pbias", "PBIAS %", "%", 0, "100 sum (s - o) / sum o; positive is too much", "Dong 2026; the opposite sign "
           "in Moriasi et al. 2007", _plain(metrics.pbias), "+.1f"),
    Metric("r1", "R1 %", "%", 0, "Relative error of the mean of the largest 1 % of flows, each series its own",
           "Dong 2026", _high(0.01), "+.1f"),
    Metric("r10", "R10 %", "%", 0, "The same of the largest 10 %", "Dong 2026", _high(0.1), "+.1f"),
    Metric("am3", "AM3 %", "%", 0, "Median over years of the relative error of the largest 3-day mean", "Dong 2026",
           _am3, "+.1f", "dates"),
    Metric("fhv", "FHV %", "%", 0, "Bias of the top 2 % of the flow duration curve", "Yilmaz et al. 2008",
           _plain(metrics.fhv), "+.1f"),
    Metric("flv", "FLV %", "%", 0, "Bias of the low 30 % of the flow duration curve, in logs", "Yilmaz et al. 2008",
           _plain(metrics.flv), "+.1f"),
    Metric("fms", "FMS %", "%", 0, "Bias of the slope of the flow duration curve, 20 to 70 % exceedance, in logs",
           "Yilmaz et al. 2008", _plain(metrics.fms), "+.1f"),
    Metric("low_flow_mae", "low MAE", "m3 s-1", 0, "Mean absolute error of the low 30 % of the flow duration curve",
           "", _plain(metrics.low_flow_mae), ".3g"),
    Metric("bfi_simulated", "BFI s", "1", math.nan, "Baseflow index of s: HYSEP, sliding interval, on days with both",
           "Sloto and Crouse 1996", _index(0), ".3f", "dates"),
    Metric("bfi_observed", "BFI o", "1", math.nan, "Baseflow index of o", "Sloto and Crouse 1996", _index(1), ".3f",
           "dates"),
    Metric("bfi_error", "BFI s-o", "1", 0, "Difference of the two", "Sloto and Crouse 1996", _index_error, "+.3f",
           "dates"),
    Metric("mae", "MAE", "m3 s-1", 0, "Mean absolute error of the mean of the members", "",
           lambda pair: _of_members(pair, lambda x, o: np.abs(x.mean(axis=0) - o)), ".3g", "members"),
    Metric("crps", "CRPS", "m3 s-1", 0, "Continuous ranked probability score: mean |x - o| - mean |x - x'| / 2 over "
           "members x, x'; the MAE of one member", "Gneiting and Raftery 2007",
           lambda pair: _of_members(pair, metrics.ranked_probability), ".3g", "members"),
    Metric("coverage", "coverage", "1", math.nan, "Share of observations within the range of the members", "",
           lambda pair: _of_members(pair, lambda x, o: (x.min(axis=0) <= o) & (o <= x.max(axis=0))), ".3f", "members"),
    Metric("coverage_expected", "expected", "1", math.nan, "What it would be if observations were one more member: "
           "(m - 1) / (m + 1) of m members", "Hamill 2001",
           lambda pair: _of_members(pair, lambda x, o: np.full(o.size, (x.shape[0] - 1) / (x.shape[0] + 1))), ".3f",
           "members"),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def metric(name: str) -> Metric:
    """The score of that name; UnknownNameError names the nearest."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise UnknownNameError(
            f"there is no score '{name}'.{nearest(name, BY_NAME)} Known: {', '.join(BY_NAME)}."
        ) from None


def scores(
    simulated: np.ndarray, observed: np.ndarray, starts: np.ndarray | None = None, area: float = math.nan,
    members: np.ndarray | None = None,
) -> dict[str, float]:
    """All scores of a gauge by name, NaN where not defined; those that need dates or members only with them.

    area : of the gauge [km2], for the baseflow index; members : of the ensemble whose mean is simulated,
    float64[member, time].
    """
    pair = Pair(np.asarray(simulated, np.float64), np.asarray(observed, np.float64), starts, area, members)
    lacking = {"dates"} if starts is None else set()
    lacking |= {"members"} if members is None else set()
    return {one.name: one.of(pair) for one in METRICS if one.needs not in lacking}


IN_WORDS = (("nse", "NSE {:.2f}"), ("kge", "KGE {:.2f}"), ("pbias", "bias {:+.1f} %"))


def score_words(found: Mapping[str, float]) -> str:
    """The scores that stand beside a hydrograph, in a few words; those that are not known are left out."""
    known = (text.format(found[name]) for name, text in IN_WORDS if math.isfinite(found.get(name, math.nan)))
    return "   ".join(known).replace("-", "\N{MINUS SIGN}")
