"""What is known of gauged basins: signatures of their records, means of attributes, and which gauges depend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.attributes import read_attributes
from bmi_cdlm.domain.basins import basin_means, nested, upstream_gauges
from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.evaluation import gauge_areas
from bmi_cdlm.evaluate.signatures import hysep_window
from bmi_cdlm.maps.config import Signatures, Target
from bmi_cdlm.names.calendars import MEAN_YEAR
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.gauges.hierarchy import fold_gauges, nest
from bmi_cdlm.run.screening import read_records, screened_out

UNITS: dict[Target, str] = {"mean_runoff": "mm yr-1", "baseflow_index": "1"}


class Basins(NamedTuple):
    """Gauged basins, and the cells of their domain.

    ids : of all gauges of the domain; usable : bool[gauge], those to learn from; why_not : reason by id of the others;
    area : float64[gauge] [km2]; targets : float64[gauge] by name, NaN where not usable; means : float64[gauge,
    predictor]; cells : float64[cell, predictor]; names, units : of predictors; above : bool[gauge, gauge], whether the
    second drains to the first; nested : bool[gauge, gauge], either to the other; tree, fold : int64[gauge]; place :
    float64[gauge, 3], centres of basins on the unit sphere.
    """

    domain: Domain
    ids: list[str]
    usable: np.ndarray
    why_not: dict[str, str]
    area: np.ndarray
    targets: dict[Target, np.ndarray]
    means: np.ndarray
    cells: np.ndarray
    names: tuple[str, ...]
    units: tuple[str, ...]
    above: np.ndarray
    nested: np.ndarray
    tree: np.ndarray
    fold: np.ndarray
    place: np.ndarray

    @property
    def window(self) -> int:
        """Width of HYSEP's interval of the median basin [d]."""
        return hysep_window(float(np.median(self.area[self.usable])))


def read_basins(signatures: Signatures) -> Basins:
    """Read gauges, records and attributes.

    Raises
    ------
    DomainError, ObservationError
        A predictor that is not there or missing somewhere; records that cannot be read.
    ConfigError
        Fewer gauges, or independent basins, than folds.
    """
    run, config = signatures.run, signatures.config
    domain = read_domain(run.domain)
    table = read_attributes(run.domain, domain, "cell", config.predictors)
    area = np.array(list(gauge_areas(domain).values()))
    targets, why_not = _targets(signatures, domain, area)
    usable = np.array([gauge not in why_not for gauge in domain.gauges.id], bool)
    needed = max(config.folds, config.inner_folds + 1 if config.search else 2)
    if usable.sum() < needed:
        reasons = "; ".join(f"{gauge}: {why}" for gauge, why in list(why_not.items())[:3])
        raise ConfigError(
            f"signatures: {usable.sum()} of {usable.size} gauges can be used, expected at least {needed} for "
            f"folds: {config.folds} and inner_folds: {config.inner_folds}.{f' Left out: {reasons}.' if reasons else ''}"
            " Ask for fewer folds, or give longer records."
        )
    lon, lat = np.radians(domain.cells.lon), np.radians(domain.cells.lat)
    sphere = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    tree = nest(domain.reaches.downstream, domain.reaches.upstream_area, domain.gauges.reach).tree
    return Basins(
        domain, domain.gauges.id, usable, why_not, area, targets, basin_means(domain, table.values), table.values,
        table.names, table.units, upstream_gauges(domain), nested(domain), tree, fold_gauges(domain, config.folds),
        basin_means(domain, sphere),
    )


def _targets(
    signatures: Signatures, domain: Domain, area: np.ndarray
) -> tuple[dict[Target, np.ndarray], dict[str, str]]:
    """Signatures of every usable gauge by name, float64[gauge], and why others are not usable."""
    run, config = signatures.run, signatures.config
    first, last = config.period or (run.start, run.end)
    starts, observed = read_records(run, domain.gauges.id, first, last)
    why_not = screened_out(run.screening, domain.gauges.id)
    found: dict[Target, np.ndarray] = {name: np.full(len(domain.gauges.id), np.nan) for name in config.targets}
    for k, gauge in enumerate(domain.gauges.id):
        if gauge in why_not:
            continue
        own = signatures_of(observed[:, k], starts, float(area[k]))
        if not np.isfinite(observed[:, k]).any():
            why_not[gauge] = "no record in the period"
        elif area[k] > config.largest_area:
            why_not[gauge] = f"{area[k]:.0f} km2, above largest_area"
        elif not all(np.isfinite(own[name]) for name in config.targets):
            why_not[gauge] = "its record gives no " + next(n for n in config.targets if not np.isfinite(own[n]))
        else:
            for name in config.targets:
                found[name][k] = own[name]
    return found, why_not


def signatures_of(flow: np.ndarray, starts: np.ndarray, area: float) -> dict[Target, float]:
    """Mean runoff [mm yr-1] and baseflow index [1] of a record.

    flow : float64[time], NaN where missing [m3 s-1]; starts : datetime64[time]; area [km2].
    """
    known = flow[np.isfinite(flow)]
    depth = float(known.mean()) * DAY / (area * 1e3) * MEAN_YEAR if known.size else np.nan
    return {"mean_runoff": depth, "baseflow_index": scores(flow, flow, starts, area)["bfi_observed"]}
