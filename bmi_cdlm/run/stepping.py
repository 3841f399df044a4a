"""Stepping from outside: inputs held for the next step, calls shorter or longer than the model step."""

from __future__ import annotations

import math

from bmi_cdlm.names.errors import ClockError
from bmi_cdlm.run.call_sums import CallSums
from bmi_cdlm.run.simulation import Simulation

CLOCK_TOLERANCE, CLOCK_DRIFT = 1e-3, 2e-10
"""How far from a whole second a caller's time may lie [s], and by which share of it: the model's clock counts seconds,
while a caller that adds tenths of an hour is 1.3 ms off after five years and 0.48 s after a century."""


class Stepper:
    """Drives a simulation by the clock of its caller.

    A call shorter than the model step adds value x duration of each input to an accumulator; when the step is
    complete it runs on the means. A longer call is split at step boundaries. Outputs hold the last completed
    step.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.inputs, self.release = simulation.inputs, simulation.release
        self.step = simulation.config.time_step
        self.end = simulation.config.n_steps * self.step
        names = tuple(n for n in simulation.config.summed if n in simulation.model.live)
        self.sums = CallSums(simulation.model, names) if names else None
        self._whole_steps_only = simulation.config.sub_step_policy == "refuse"

    @property
    def now(self) -> int:
        """Seconds since the start, a running step included."""
        return self.simulation.now

    def advance_until(self, seconds: float) -> None:
        """Advance the clock to `seconds` since the start.

        Raises
        ------
        ClockError
            A time in the past, after the end, not on a whole second, or (policy `refuse`) within a step.
        ForcingError
            An input that the caller never set, or a value without meaning.
        """
        simulation, step = self.simulation, self.step
        now = called_at = simulation.now
        target = self._target(seconds)
        if target == now:
            return
        self.release.depth = 0.0
        if self.sums is not None:
            self.sums.begin()
        try:
            while now < target:
                if now == simulation.elapsed and target - now >= step:
                    count = (target - now) // step
                    self._whole_steps(1 if count > 1 and self._is_one_by_one else count)
                else:
                    self._part_of_step(min(target, simulation.elapsed + step) - now)
                simulation.check_ledger()
                now = simulation.now
        finally:
            if simulation.now > called_at:  # a caller may go on after an error on the way
                simulation.end_call()
            if self.sums is not None:
                self.sums.end()

    @property
    def _is_one_by_one(self) -> bool:
        """Whether something is to be seen of every step."""
        model = self.simulation.model
        return model.ledger is not None or self.sums is not None or bool(model.sub_steps)

    def _target(self, seconds: float) -> int:
        now = self.simulation.now
        target = round(seconds) if math.isfinite(seconds) else -1
        if not abs(seconds - target) <= max(CLOCK_TOLERANCE, CLOCK_DRIFT * target):
            raise ClockError(f"asked for {seconds} s, expected a whole second, to {CLOCK_TOLERANCE * 1e3:g} ms.")
        if target < now:
            raise ClockError(f"cannot go back: asked for {target} s, the model is at {now} s. Restore a state.")
        if target > self.end:
            raise ClockError(
                f"asked for {target} s, but the run ends at {self.end} s. Set a later 'end' in the configuration."
            )
        if self._whole_steps_only and target % self.step:
            raise ClockError(
                f"asked for {target} s, which is within a step of {self.step} s, and sub_step_policy is 'refuse'. "
                "Ask for a multiple of the step, or set sub_step_policy: accumulate."
            )
        return target

    def _whole_steps(self, count: int) -> None:
        """Run whole steps: the first on the inputs as they stand, the rest as a block where a file has them."""
        simulation, release = self.simulation, self.release
        if simulation.coupled.names:
            simulation.coupled.check()
        simulation.advance_inputs(self.inputs.whole_step())
        release.whole_step()
        if self.sums is not None:
            self.sums.add_step()
        rest = count - 1
        if rest and simulation.forcing is not None:
            total = simulation.model.live["runoff_total"]
            before = total.copy()
            try:
                while rest:
                    block = min(rest, simulation.block_length())
                    simulation.advance(simulation.read_forcing(simulation.n_done, block))
                    rest -= block
            finally:
                release.whole_steps(total - before)
        for _ in range(rest):
            simulation.advance_inputs(self.inputs.whole_step())
            release.whole_step()
        simulation.show_inputs()

    def _part_of_step(self, duration: int) -> None:
        simulation, inputs = self.simulation, self.inputs
        simulation.coupled.check()
        inputs.accumulate(duration)
        simulation.coupled.accumulate(duration)
        completed = inputs.pending_seconds == self.step
        if completed:
            simulation.advance_inputs(inputs.take_means())
            if self.sums is not None:
                self.sums.add_step()
            simulation.show_inputs()
        self.release.part_of_step(duration, completed=completed)
