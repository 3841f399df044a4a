"""Whether the routing step fits the flood waves, where travel time and diffusion depend on the flow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bmi_cdlm.model.model import Model

HIGH_RUNOFF = 10.0
"""What every cell sheds at the high flow that is looked at [mm d-1]."""
BEST = 2.5
"""Routing steps of two to three times that of a wave through a reach spread it least; of much more or less, by what
the limits of the weighting add."""
FITTING = 1.2, 6.0
MOST_OFF = 1.5
"""Times that the spread of the step may be off: of that of the channels, or where they spread nothing, of the least."""


class WaveFit(NamedTuple):
    """Flood waves at a high flow.

    steps : 10th, 50th and 90th percentile, over the reaches that have a length, of the routing step in times that a
    wave takes through a reach [1]; spread : standard deviation that the step adds to waves, in those that the channels
    add, over all reaches [1], or in travel times of the reaches, of which it is at least 1, where channels add none;
    advised : the routing step to take [s]; diffusive : whether channels add any.
    """

    steps: tuple[float, float, float]
    spread: float
    advised: int
    diffusive: bool = True

    def fits(self, routing_step: int) -> bool:
        """Whether the step needs no other: flat rivers spread waves by themselves."""
        near = self.diffusive and FITTING[0] <= self.steps[1] <= FITTING[1]
        return near or 1.0 / MOST_OFF <= self.spread <= MOST_OFF or self.advised == routing_step

    def told(self, routing_step: int) -> str:
        """What was found, in a sentence or two."""
        low, middle, high = self.steps
        text = (
            f"at a runoff of {HIGH_RUNOFF:g} mm d-1 the routing step of {routing_step} s is {middle:.2g} times that of "
            f"a flood wave through a reach (median; {low:.2g} to {high:.2g} for four fifths of the reaches), and "
            f"spreads waves {self._told_spread()}"
        )
        return text if self.fits(routing_step) else f"{text}. Take routing_step: {self.advised} s"

    def _told_spread(self) -> str:
        if self.diffusive:
            return f"{self.spread:.2g} times as far as the channels do"
        return (
            f"in a reach by {self.spread:.2g} times its travel time, where channels do not; a short step by 1, shorter "
            "reaches by less"
        )


def wave_fit(model: Model) -> WaveFit | None:
    """How the routing step of a model fits flood waves; None where that does not depend on the flow."""
    reaches = model.domain.reaches
    found = model.flood_waves(HIGH_RUNOFF * reaches.upstream_area / 86.4)
    moving = (reaches.length > 0) & (reaches.upstream_area > 0)
    if found is None or not moving.any():
        return None
    time, channel, step = (values[moving] for values in found)
    low, middle, high = np.percentile(model.routing_step / time, [10, 50, 90])
    n_steps = np.arange(1, model.step // 60 + 1)
    divisors = model.step // n_steps[model.step % n_steps == 0]
    diffusive = bool(channel.any())
    spread = float(np.sqrt(step.sum() / (channel if diffusive else time**2).sum()))
    wanted = (BEST if diffusive else 1.0) * float(np.median(time))
    advised = int(divisors[np.abs(np.log(divisors / wanted)).argmin()])
    return WaveFit((float(low), float(middle), float(high)), spread, advised, diffusive)
