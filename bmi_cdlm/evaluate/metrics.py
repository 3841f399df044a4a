"""Scores of simulated against observed discharge.

Every function takes two series of one gauge, float[time], and uses the steps at which neither is NaN. With
fewer than two such steps, or where the equation is undefined, the score is NaN. s is simulated, o observed.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from bmi_cdlm.evaluate.signatures import duration_slope
from bmi_cdlm.names.calendars import calendar_of, days_of_months, months_since

Ranking = Literal["own", "obs_days"]
LOW_FLOW_FLOOR = 1e-6


class KlingGupta(NamedTuple):
    """Parts of the Kling-Gupta efficiency: r correlation, alpha ratio of spreads, beta ratio of means."""

    r: float
    alpha: float
    beta: float

    @property
    def gamma(self) -> float:
        """Ratio of the coefficients of variation, in place of alpha in the form of 2012."""
        return _ratio(self.alpha, self.beta)


def valid_pairs(simulated: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both series, float64, at the steps where neither is NaN."""
    s, o = np.asarray(simulated, np.float64), np.asarray(observed, np.float64)
    if s.shape != o.shape or s.ndim != 1:
        raise ValueError(f"simulated is of shape {s.shape}, observed {o.shape}, expected two equal series.")
    both = ~(np.isnan(s) | np.isnan(o))
    return s[both], o[both]


def nse(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Nash-Sutcliffe efficiency 1 - sum (s - o)^2 / sum (o - mean o)^2 [Nash and Sutcliffe 1970]."""
    return _efficiency(*valid_pairs(simulated, observed))


def log_nse(simulated: np.ndarray, observed: np.ndarray) -> float:
    """NSE of ln(q + e), e a hundredth of mean o, which admits zeros [Pushpalatha et al. 2012]."""
    s, o = valid_pairs(simulated, observed)
    floor = _mean(o) / 100
    if not (floor > 0 and s.min() + floor > 0 and o.min() + floor > 0):
        return math.nan
    return _efficiency(np.log(s + floor), np.log(o + floor))


def sqrt_nse(simulated: np.ndarray, observed: np.ndarray) -> float:
    """NSE of the square roots of flow [Pushpalatha et al. 2012]."""
    s, o = valid_pairs(simulated, observed)
    if not s.size or s.min() < 0 or o.min() < 0:
        return math.nan
    return _efficiency(np.sqrt(s), np.sqrt(o))


def pcc(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Pearson's correlation r = cov(s, o) / (sigma_s sigma_o)."""
    return _correlation(*valid_pairs(simulated, observed))


def kge_parts(simulated: np.ndarray, observed: np.ndarray) -> KlingGupta:
    """Parts r, alpha = sigma_s / sigma_o and beta = mean s / mean o of the KGE [Gupta et al. 2009].

    Where s is constant and o is not, r is taken as its limit 0, so that the mean flow as a simulation scores
    1 - sqrt 2 [Knoben et al. 2019].
    """
    s, o = valid_pairs(simulated, observed)
    if s.size >= 2 and _constant(s) and not _constant(o):
        return KlingGupta(0.0, 0.0, _ratio(_mean(s), _mean(o)))
    alpha = _ratio(_spread(s), _spread(o))
    return KlingGupta(_correlation(s, o), alpha, _ratio(_mean(s), _mean(o)))


def kge(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Kling-Gupta efficiency 1 - sqrt((r - 1)^2 + (alpha - 1)^2 + (beta - 1)^2) [Gupta et al. 2009]."""
    return _from_ideal(*kge_parts(simulated, observed))


def kge_prime(simulated: np.ndarray, observed: np.ndarray) -> float:
    """KGE with the ratio of coefficients of variation, alpha / beta, for alpha [Kling et al. 2012]."""
    parts = kge_parts(simulated, observed)
    return _from_ideal(parts.r, parts.gamma, parts.beta)


def pbias(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Bias of the volume 100 sum (s - o) / sum o [%]; positive is too much, unlike in Moriasi et al. 2007."""
    return _relative_error(*valid_pairs(simulated, observed))


def high_flow_error(
    simulated: np.ndarray, observed: np.ndarray, share: float, ranking: Ranking = "own"
) -> float:
    """Relative error of the mean of the largest flows [%], R1 and R10 with shares 0.01 and 0.1 [Dong 2026].

    With the ranking `own` each series gives its own k = max(1, round(share n)) largest, with `obs_days` both
    are taken on the days of the largest observed.
    """
    if ranking not in ("own", "obs_days"):
        raise ValueError(f"ranking is '{ranking}', expected 'own' or 'obs_days'.")
    s, o = valid_pairs(simulated, observed)
    k = max(1, round(share * o.size))
    if ranking == "obs_days":
        days = np.argsort(-o, kind="stable")[:k]
        return _relative_error(s[days], o[days], of=o.size)
    return _relative_error(np.sort(s)[::-1][:k], np.sort(o)[::-1][:k], of=o.size)


def fhv(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Bias of the top 2 % of the flow duration curve 100 sum (s - o) / sum o [%] [Yilmaz et al. 2008]."""
    return high_flow_error(simulated, observed, 0.02)


def flv(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Bias of the low 30 % of the flow duration curve, in logs [%] [Yilmaz et al. 2008].

    -100 [sum (ln s - min ln s) - sum (ln o - min ln o)] / (sum (ln o - min ln o) + 1e-6), each series ranked
    on its own, flows below 1e-6 set to it. Unstable for rivers that fall dry: read it with `low_flow_mae`.
    """
    s, o = _low_flows(simulated, observed)
    if not s.size:
        return math.nan
    s, o = (np.log(np.maximum(q, LOW_FLOW_FLOOR)) for q in (s, o))
    above_s, above_o = float((s - s.min()).sum()), float((o - o.min()).sum())
    return -100 * (above_s - above_o) / (above_o + LOW_FLOW_FLOOR)


def low_flow_mae(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Mean absolute error of the low 30 % of the flow duration curve [m3 s-1], each ranked on its own."""
    s, o = _low_flows(simulated, observed)
    return float(np.abs(s - o).mean()) if s.size else math.nan


def am3(
    simulated: np.ndarray, observed: np.ndarray, starts: np.ndarray, *, first_month: int = 1,
    coverage: float = 0.9,
) -> float:
    """Median over years of the relative error of the largest 3-day mean of the year [%] [Dong 2026].

    Parameters
    ----------
    simulated, observed : float[time]
    starts : datetime64[time]
        Begins of the steps, without gaps.
    first_month : int
        Month that begins the (hydrological) year.
    coverage : float
        Years with valid pairs at a smaller share of their steps are left out.
    """
    s, o = np.array(simulated, np.float64), np.array(observed, np.float64)
    gone = np.isnan(s) | np.isnan(o)
    if s.size < 2 or np.count_nonzero(~gone) < 2:
        return math.nan
    s[gone] = o[gone] = np.nan
    step = (starts[1] - starts[0]) / np.timedelta64(1, "D")
    years = (months_since(starts) - (first_month - 1)) // 12
    window = max(1, round(3 / step))
    mean_s, mean_o = _moving_mean(s, window), _moving_mean(o, window)
    errors = []
    for year in np.unique(years):
        inside = years == year
        begin = 12 * int(year) + first_month - 1
        days = days_of_months(begin, begin + 12, calendar_of(starts))
        if np.count_nonzero(inside & ~gone) < coverage * days / step or np.isnan(mean_o[inside]).all():
            continue
        largest_s, largest_o = np.nanmax(mean_s[inside]), np.nanmax(mean_o[inside])
        errors.append(100 * _ratio(largest_s - largest_o, largest_o))
    return float(np.median(errors)) if errors else math.nan


def fms(simulated: np.ndarray, observed: np.ndarray) -> float:
    """Bias of the slope of the middle of the flow duration curve, from 20 to 70 % exceedance, in logs [%].

    100 (slope of s - slope of o) / slope of o, each series ranked on its own [Yilmaz et al. 2008].
    """
    s, o = (duration_slope(q) for q in valid_pairs(simulated, observed))
    return 100 * _ratio(s - o, o)


def ranked_probability(members: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of an ensemble at every step, float64[time] [m3 s-1].

    Mean |x - o| over members x, less half the mean |x - x'| over all pairs of members [Gneiting and Raftery 2007].

    members : float64[member, time]; observed : float64[time].
    """
    n = members.shape[0]
    # Over sorted members the sum over pairs is one over members, weighted by how many lie below and above.
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    spread = (weights[:, None] * np.sort(members, axis=0)).sum(axis=0) / n**2
    return np.abs(members - observed).mean(axis=0) - spread


def _efficiency(s: np.ndarray, o: np.ndarray) -> float:
    if _constant(o):  # also where rounding of the mean would leave a spread that is not there
        return math.nan
    return 1 - _ratio(float(((s - o) ** 2).sum()), float(((o - o.mean()) ** 2).sum()))


def _correlation(s: np.ndarray, o: np.ndarray) -> float:
    if _constant(s) or _constant(o):
        return math.nan
    s, o = s - s.mean(), o - o.mean()
    return _ratio(float((s * o).sum()), math.sqrt(float((s * s).sum())) * math.sqrt(float((o * o).sum())))


def _relative_error(s: np.ndarray, o: np.ndarray, *, of: int | None = None) -> float:
    """100 sum (s - o) / sum o; NaN if the flows are chosen out of fewer than two."""
    if (o.size if of is None else of) < 2:
        return math.nan
    return 100 * _ratio(float((s - o).sum()), float(o.sum()))


def _low_flows(simulated: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, o = valid_pairs(simulated, observed)
    if o.size < 2:
        return s[:0], o[:0]
    k = max(1, round(0.3 * o.size))
    return np.sort(s)[:k], np.sort(o)[:k]


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` steps, NaN where one of them is NaN or outside."""
    out = np.full(values.size, np.nan)
    if values.size >= window:
        first = (window - 1) // 2
        means = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
        out[first : first + means.size] = means
    return out


def _constant(values: np.ndarray) -> bool:
    """Whether there is no spread; so it is with fewer than two values."""
    return values.size < 2 or bool(values.min() == values.max())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size >= 2 else math.nan


def _spread(values: np.ndarray) -> float:
    return 0.0 if _constant(values) else float(values.std(ddof=1))


def _from_ideal(r: float, spread: float, beta: float) -> float:
    return 1 - math.sqrt((r - 1) ** 2 + (spread - 1) ** 2 + (beta - 1) ** 2)


def _ratio(above: float, below: float) -> float:
    """above / below; NaN where that is undefined."""
    return above / below if below and math.isfinite(above) and math.isfinite(below) else math.nan
