"""Arrays of one block of steps: where kernels write, and what a run of many steps keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.network import NetworkPlan
from bmi_cdlm.kernels.groups import PetFluxes, ReachSeries, RunoffFluxes, SnowFluxes

WHOLE = ("runoff", "corrected_evapotranspiration")
"""Fluxes of cells that the next process reads at every step of a block."""


class Buffers(NamedTuple):
    """Arrays of one block: a flux of cells that nobody keeps is one row, the live one."""

    liquid: np.ndarray
    pet: PetFluxes
    snow: SnowFluxes
    runoff: RunoffFluxes
    lateral_inflow: ReachSeries
    discharge: ReachSeries
    hydrographs: np.ndarray

    def series(self, name: str, gauge_reach: np.ndarray, reaches: np.ndarray | None) -> np.ndarray:
        """A flux that is kept, as float64[time, n]; `reaches`: which of them, all where None."""
        for group in (self.runoff, self.snow, self.pet):
            if name in group._fields:
                return getattr(group, name)
        flow = self.lateral_inflow if name == "lateral_inflow" else self.discharge
        places = gauge_reach if name == "gauge_discharge" else reaches
        if flow.values.shape[1] == 1:
            return flow.last[None] if places is None else flow.last[places][None]
        return flow.values.T if places is None else flow.values[flow.row[places]].T

    def copy_last(self, single: Buffers) -> None:
        """Copy the last step of cells into the buffers of one step, which are the live arrays."""
        for whole, last in zip(
            (*self.pet, *self.snow, *self.runoff), (*single.pet, *single.snow, *single.runoff), strict=True
        ):
            if whole.base is not last.base:
                last[0] = whole[-1]


class Kept(NamedTuple):
    """What is wanted of every step: names of fluxes, and of which reaches (int64[], all where None); the gauges' reach.

    The discharge of gauges is always at hand.
    """

    names: tuple[str, ...]
    reaches: np.ndarray | None
    gauge_reach: np.ndarray

    def rows(self, name: str) -> np.ndarray | None:
        """Reaches that need a row of their own for a flux; None for all."""
        own = self.gauge_reach if name == "discharge" else self.gauge_reach[:0]
        if name not in self.names:
            return np.unique(own)
        return None if self.reaches is None else np.unique(np.concatenate([own, self.reaches]))


def make_buffers(
    live: Mapping[str, np.ndarray], n_steps: int, n_sub: int, kept: Kept, plan: NetworkPlan
) -> Buffers:
    """Allocate the arrays of a block of n_steps model steps, n_sub routing steps each.

    Parameters
    ----------
    live : dict of float64[cell | reach]
        The last step's value of every flux that the model computes: kernels write there.
    kept : Kept
        Fluxes that are wanted at every step.
    plan : NetworkPlan
        Which reaches may share a row.
    """
    n_cells = live["runoff"].size

    def cells(name: str) -> np.ndarray:
        whole = n_steps > 1 and (name in kept.names or name in WHOLE)
        return np.empty((n_steps, n_cells)) if whole else live[name].reshape(1, -1)

    def reaches(name: str) -> ReachSeries:
        own = kept.rows(name) if n_steps > 1 else np.zeros(0, np.int64)
        if own is None:
            return whole_series(np.empty((live[name].size, n_steps)), live[name])
        row = plan.network.slot
        if own.size:
            row = row.copy()
            row[own] = plan.n_slots + np.arange(own.size)
        return ReachSeries(np.empty((plan.n_slots + own.size, n_steps)), row, live[name])

    has_snow, has_pet = (group._fields[0] in live for group in (SnowFluxes, PetFluxes))
    none = np.empty((1, 0))
    return Buffers(
        liquid=np.empty((n_steps, n_cells)) if has_snow else none,
        pet=PetFluxes(*(cells(name) if has_pet else none for name in PetFluxes._fields)),
        snow=SnowFluxes(*(cells(name) if has_snow else none for name in SnowFluxes._fields)),
        runoff=RunoffFluxes(*(cells(name) for name in RunoffFluxes._fields)),
        lateral_inflow=reaches("lateral_inflow"),
        discharge=reaches("discharge"),
        hydrographs=np.empty((plan.n_slots, n_steps * n_sub)),
    )


def step_bytes(live: Mapping[str, np.ndarray], n_sub: int, kept: Kept, plan: NetworkPlan) -> int:
    """Bytes that one more step of a block takes in the arrays of `make_buffers`."""
    n_cells, n_reaches = live["runoff"].size, live["discharge"].size
    on_cells = (SnowFluxes._fields[0] in live) + sum(
        name in live and (name in kept.names or name in WHOLE)
        for group in (PetFluxes, SnowFluxes, RunoffFluxes) for name in group._fields
    )
    rows = 0
    for name in ("lateral_inflow", "discharge"):
        own = kept.rows(name)
        rows += n_reaches if own is None else plan.n_slots + own.size
    return 8 * (n_cells * on_cells + rows + plan.n_slots * n_sub)


def whole_series(values: np.ndarray, last: np.ndarray | None = None) -> ReachSeries:
    """A flux that is kept for every reach, float[reach, time]."""
    n = values.shape[0]
    return ReachSeries(values, np.arange(n), np.empty(n, values.dtype) if last is None else last)
