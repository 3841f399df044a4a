"""The water balance of a run, added up again from what it publishes: cells, reaches, junctions, events, dry tails.

Nothing of the model's own ledger is used. A residual is water that came in and neither left nor is stored, as a share
of the water that was there or went through.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import numpy as np

from bmi_cdlm.domain.domain import M3_PER_MM_KM2
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.run.config import Config
from bmi_cdlm.run.simulation import Simulation

CLOSED = 1e-9
"""Share of the water from which on a balance is open."""
EVENT_DAYS = 5
DRY = 0.1
"""Mean rain and snow of the domain below which a step is dry [mm d-1]."""
TINY = 1e-300
FLUXES = ("runoff", "lateral_inflow", "discharge")
STORED = ("cell_water_stored", "reach_storage")


class Row(NamedTuple):
    """One balance: of what, water through [m3], the largest share missing in a step and where, that over the period."""

    what: str
    water: float
    per_step: float
    where: str
    whole: float

    @property
    def closed(self) -> bool:
        """Whether nothing is missing but what rounding takes."""
        return max(self.per_step, self.whole) <= CLOSED


class Step(NamedTuple):
    """Residuals [m3] of a step: per cell, reach and link head, with the water that was there or moved."""

    cell: np.ndarray
    cell_water: np.ndarray
    reach: np.ndarray
    reach_water: np.ndarray
    head: np.ndarray
    head_water: np.ndarray
    domain: float
    domain_water: float
    rain: float


def balance(config: Config, progress: Callable[[int], None] = lambda steps: None) -> list[Row]:
    """Run a configuration step by step, and add up its water.

    Raises
    ------
    ConfigError
        Inputs come from a caller: there is nothing to run.
    """
    if config.forcing == "caller":
        raise ConfigError("forcing is 'caller', expected a forcing file. Name one: a balance is that of a run.")
    plain = config.model_copy(update={"output": None, "restart": None, "restart_every": None})
    with closing(Simulation(plain)) as simulation:
        steps, starts = [], []
        while simulation.n_done < config.n_steps:
            starts.append(simulation.time)
            steps.append(_step(simulation))
            progress(1)
        return _rows(simulation, Step._make(np.array(column) for column in zip(*steps, strict=True)), np.array(starts))


def _step(simulation: Simulation) -> Step:
    """Advance by one step."""
    model, domain, dt = simulation.model, simulation.model.domain, float(simulation.config.time_step)
    forcing = simulation.read_forcing(simulation.n_done, 1)
    before = {name: model.live[name].copy() for name in STORED}
    simulation.advance(forcing)
    q = {name: model.live[name] for name in FLUXES}
    area = domain.cells.drained_area * M3_PER_MM_KM2
    days = dt / DAY
    rain = forcing.precipitation[0]
    came, gone = (rate * days for rate in _cell_rates(model, rain))
    stored = model.live["cell_water_stored"]
    cell = (came - gone - (stored - before["cell_water_stored"])) * area
    links, downstream, n = domain.links, domain.reaches.downstream, domain.n_reaches
    reach_of = np.repeat(np.arange(n), np.diff(links.first))
    own = np.bincount(reach_of, q["runoff"][links.cell] * links.area * M3_PER_MM_KM2 * days, n)
    above = np.flatnonzero(downstream >= 0)
    inflow = np.bincount(downstream[above], q["discharge"][above] * dt, n) + q["lateral_inflow"] * dt
    outflow = q["discharge"] * dt
    held = model.live["reach_storage"]
    reach = inflow - outflow - (held - before["reach_storage"])
    outlets = domain.outlets
    total = (came * area).sum() - (
        (gone - q["runoff"] * days) * area
    ).sum() - outflow[outlets].sum() - ((stored - before["cell_water_stored"]) * area).sum() - (
        held - before["reach_storage"]).sum()
    water = (came + gone + np.abs(stored)) * area  # stores may be in deficit
    return Step(
        cell, water, reach, inflow + outflow + held, own - q["lateral_inflow"] * dt,
        own + q["lateral_inflow"] * dt, float(total), float(water.sum() + held.sum()),
        float((rain * area).sum() / max(area.sum(), TINY)),
    )


def _cell_rates(model: Model, rain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What comes into cells and what leaves them, by what their processes declare, float64[cell] [mm d-1]."""
    came, gone = rain.copy(), model.live["runoff"].copy()
    for process in model.chain.cells:
        for name, flux in process.fluxes.items():
            if flux.ledger == "in":
                came += model.live[name]
            elif flux.ledger == "out":
                gone += model.live[name]
            elif flux.ledger == "exchange":
                came += np.maximum(model.live[name], 0.0)
                gone -= np.minimum(model.live[name], 0.0)
    return came, gone


def _rows(simulation: Simulation, s: Step, starts: np.ndarray) -> list[Row]:
    domain = simulation.model.domain
    above = np.bincount(domain.reaches.downstream[domain.reaches.downstream >= 0], minlength=domain.n_reaches)
    junction = above >= 2
    cells, reaches = domain.cells.id, domain.reaches.id
    rows = [
        _row("cells", s.cell, s.cell_water, cells, starts), _row("reaches", s.reach, s.reach_water, reaches, starts),
        _row("heads: cells to reaches", s.head, s.head_water, reaches, starts),
    ]
    if junction.any():
        ids = [reaches[i] for i in np.flatnonzero(junction)]
        rows.append(_row("junctions", s.reach[:, junction], s.reach_water[:, junction], ids, starts))
    whole = np.asarray(s.domain)[:, None], np.asarray(s.domain_water)[:, None]
    rows.append(_row("domain", *whole, ["the domain"], starts))
    wet = int(np.asarray(s.rain).argmax())
    event = slice(wet, wet + max(1, EVENT_DAYS * DAY // simulation.config.time_step))
    rows.append(_row(
        f"event: {np.asarray(s.rain)[wet]:.4g} mm d-1 from "
        f"{date_text(starts[wet])}", s.reach[event], s.reach_water[event],
        reaches, starts[event],
    ))
    first, stop = _longest(np.asarray(s.rain) < DRY)
    if stop > first:
        tail = slice(first, stop)
        rows.append(_row(
            f"dry: {stop - first} steps from "
            f"{date_text(starts[first])}", s.reach[tail], s.reach_water[tail], reaches, starts[tail]
        ))
    return rows


def _row(what: str, residual: np.ndarray, water: np.ndarray, ids: list[str], starts: np.ndarray) -> Row:
    """Largest share per step and place, and that of the sum of a place over all steps."""
    share = np.abs(residual) / np.maximum(water, TINY)
    share[residual == 0.0] = 0.0
    t, i = (int(k) for k in np.unravel_index(share.argmax(), share.shape))
    whole = np.abs(residual.sum(axis=0)) / np.maximum(water.sum(axis=0), TINY)
    return Row(what, float(water.sum()), float(share[t, i]), f"{ids[i]}, {date_text(starts[t])}", float(whole.max()))


def _longest(dry: np.ndarray) -> tuple[int, int]:
    """First and last (exclusive) step of the longest time without rain."""
    edges = np.flatnonzero(np.diff(np.r_[0, dry.astype(np.int8), 0]))
    if not edges.size:
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    k = int((ends - begins).argmax())
    return int(begins[k]), int(ends[k])
