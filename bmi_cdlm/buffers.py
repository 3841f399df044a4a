"""Arrays of one block of steps: where kernels write, and what a run of many steps keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bmi_cdlm.kernels.groups import PetFluxes, RunoffFluxes, SnowFluxes

WHOLE = ("runoff", "corrected_evapotranspiration")
"""Fluxes of cells that the next process reads at every step of a block."""


class Buffers(NamedTuple):
    """Arrays of one block: a flux that nobody keeps is one row, the live one."""

    liquid: np.ndarray
    pet: PetFluxes
    snow: SnowFluxes
    runoff: RunoffFluxes
    lateral_inflow: np.ndarray
    discharge: np.ndarray
    hydrographs: np.ndarray

    def series(self, name: str, gauge_reach: np.ndarray) -> np.ndarray:
        """A flux as float64[time, n]."""
        for group in (self.runoff, self.snow, self.pet):
            if name in group._fields:
                return getattr(group, name)
        if name == "gauge_discharge":
            return self.discharge[gauge_reach].T
        return getattr(self, name).T

    def copy_last(self, single: Buffers) -> None:
        """Copy the last step into the buffers of one step, which are the live arrays."""
        for whole, last in zip(
            (*self.pet, *self.snow, *self.runoff), (*single.pet, *single.snow, *single.runoff), strict=True
        ):
            if whole.base is not last.base:
                last[0] = whole[-1]
        single.lateral_inflow[:, 0] = self.lateral_inflow[:, -1]
        single.discharge[:, 0] = self.discharge[:, -1]


def make_buffers(
    live: Mapping[str, np.ndarray], n_steps: int, keep: Sequence[str], hydrographs: tuple[int, int]
) -> Buffers:
    """Allocate the arrays of a block.

    Parameters
    ----------
    live : dict of float64[cell | reach]
        The last step's value of every flux that the model computes; of a block of one step, the buffers themselves.
    keep : sequence of str
        Fluxes that are wanted at every step.
    hydrographs : (slot, sub-step)
        Shape of the hydrographs that routing holds at once.
    """
    n_cells, n_reaches = live["runoff"].size, live["discharge"].size

    def cells(name: str) -> np.ndarray:
        whole = n_steps > 1 and (name in keep or name in WHOLE)
        return np.empty((n_steps, n_cells)) if whole else live[name].reshape(1, -1)

    def reaches(name: str) -> np.ndarray:
        return live[name].reshape(-1, 1) if n_steps == 1 else np.empty((n_reaches, n_steps))

    has_snow, has_pet = (group._fields[0] in live for group in (SnowFluxes, PetFluxes))
    none = np.empty((1, 0))
    return Buffers(
        liquid=np.empty((n_steps, n_cells)) if has_snow else none,
        pet=PetFluxes(*(cells(name) if has_pet else none for name in PetFluxes._fields)),
        snow=SnowFluxes(*(cells(name) if has_snow else none for name in SnowFluxes._fields)),
        runoff=RunoffFluxes(*(cells(name) for name in RunoffFluxes._fields)),
        lateral_inflow=reaches("lateral_inflow"),
        discharge=reaches("discharge"),
        hydrographs=np.empty(hydrographs),
    )
