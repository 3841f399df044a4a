"""A generator for stepwise calibration: one parameter set per own area of a gauge, of which one is being fitted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.generator.specification import GeneratorSpec, NetworkSpec
from cdlm_training.generator import Generator, StaticNetwork
from cdlm_training.labels.areas import Areas, main_owner


class Zone(StaticNetwork):
    """z of zones that were fitted is held; all other places have that of the zone that is being fitted, and learned.

    A cell that lies in two zones is of the larger part; before that one is fitted, it goes with the smaller. Raw
    attributes are the places, [n, 1]; zone : int64[place], -1 of none.
    """

    def __init__(self, spec: NetworkSpec, zone: np.ndarray, n_zones: int) -> None:
        super().__init__(spec, torch.Generator())
        self.zone, self.start = torch.from_numpy(zone), self.each[-1].bias.detach().clone()
        self.held = self.start.repeat(n_zones + 1, 1)  # the last row, index -1, is that of no zone
        self.done = torch.zeros(n_zones + 1, dtype=torch.bool)

    def free(self, attributes: Tensor | np.ndarray) -> Tensor:
        """Return z [n, output] of some places."""
        zone = self.zone[torch.as_tensor(attributes)[:, 0].long()]
        return torch.where(self.done[zone][:, None], self.held[zone], self.each[-1].bias.double())


class Zones(Generator):
    """Parameter sets of own areas, fitted one after the other."""

    def __init__(self, spec: GeneratorSpec, domain: Domain, areas: Areas) -> None:
        super().__init__(spec, dtype=torch.float64)
        n = len(areas.above)
        self.owner = main_owner(domain, areas)
        self.zones = Zone(spec.cell, self.owner, n), Zone(spec.reach, areas.reach, n)
        self.cell, self.reach = self.zones

    def begin(self, seed: int | None) -> None:
        """Begin the fit of a zone from the start, or with a seed from places drawn about it."""
        with torch.no_grad():
            for part in self.zones:
                part.each[-1].bias.copy_(part.start)
        if seed is not None:
            self.scatter(seed)

    def get(self) -> np.ndarray:
        """The z of the zone that is being fitted, float64[parameter], cells' before reaches'."""
        return torch.cat([part.each[-1].bias.detach() for part in self.zones]).double().numpy().copy()

    def hold(self, zone: int, free: np.ndarray) -> None:
        """Give a zone its parameters, as `get` returns them, for good."""
        n_cell = self.zones[0].start.numel()
        values = torch.from_numpy(free)
        with torch.no_grad():
            for part, own in zip(self.zones, (values[:n_cell], values[n_cell:]), strict=True):
                part.held[zone], part.done[zone] = own, True
                part.each[-1].bias.copy_(own)
