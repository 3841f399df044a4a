"""Whole runs beside the equations written again in plain Python, cell by cell and reach by reach [SPEC 1 to 5]."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import DAY, HOUR, change_config, simulated, write_case, write_parameters

from bmi_cdlm.files.output import read_output

N = 20
GR4J = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")
CEMANEIGE = ("thermal_weighting", "melt_factor")
HBV = {
    "snow_threshold_temperature": (-2.5, 2.5), "degree_day_factor": (0.5, 10), "refreezing_factor": (0, 0.1),
    "snow_water_capacity": (0, 0.2), "field_capacity": (50, 1000), "recharge_shape": (1, 6),
    "evaporation_threshold": (0.2, 1), "evaporation_shape": (0.3, 5), "capillary_rate": (0, 1),
    "percolation_capacity": (0, 10), "quickflow_threshold": (0, 100), "quickflow_rate": (0.05, 0.9),
    "interflow_rate": (0.01, 0.5), "baseflow_rate": (0.001, 0.2),
}


# ---- cells --------------------------------------------------------------------------------------------------


def cemaneige(rain: np.ndarray, warmth: np.ndarray, snowfall: float, weighting: float, factor: float) -> np.ndarray:
    """Rain and melt [mm per step]."""
    snow = cold = 0.0
    full = 0.9 * snowfall
    found = np.empty(rain.size)
    for t, (p, temperature) in enumerate(zip(rain, warmth, strict=True)):
        solid = min(max(1 - (temperature + 1) / 4, 0), 1) * p
        snow += solid
        cold = min(weighting * cold + (1 - weighting) * temperature, 0.0)
        potential = min(factor * temperature, snow) if cold == 0 and temperature > 0 else 0.0
        cover = snow / full if snow < full else 1.0
        melt = (0.9 * cover + 0.1) * potential
        snow -= melt
        found[t] = p - solid + melt
    return found


def ordinates(base: float, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the unit hydrographs that leave in each step."""
    def first(k: int) -> float:
        return min(k / base, 1.0) ** power if k > 0 else 0.0

    def second(k: int) -> float:
        if k <= base:
            return 0.5 * (k / base) ** power if k > 0 else 0.0
        return 1 - 0.5 * max(2 - k / base, 0.0) ** power

    lengths = max(1, math.ceil(base)), max(1, math.ceil(2 * base))
    return tuple(np.diff([curve(k) for k in range(n + 1)]) for curve, n in zip((first, second), lengths, strict=True))


def gr4j(rain: np.ndarray, demand: np.ndarray, x1: float, x2: float, x3: float, x4: float, step: int) -> np.ndarray:
    """Runoff [mm per step], from the customary stores."""
    c, power = (9 / 4, 2.5) if step == DAY else (21 / 4, 1.25)
    shares = ordinates(max(x4, 1e-9), power)
    queues = [np.zeros(one.size + 1) for one in shares]
    s, r = 0.3 * x1, 0.5 * x3
    found = np.empty(rain.size)
    for t, (p, e) in enumerate(zip(rain, demand, strict=True)):
        excess = 0.0
        w = math.tanh(min(abs(p - e) / x1, 13))
        if p <= e:
            s -= s * (2 - s / x1) * w / (1 + (1 - s / x1) * w)
        else:
            filling = x1 * (1 - (s / x1) ** 2) * w / (1 + s / x1 * w)
            s += filling
            excess = p - e - filling
        s = max(s, 0.0)
        seeping = s * (1 - (1 + (s / (c * x1)) ** 4) ** -0.25)
        s -= seeping
        for queue, own, share in zip(queues, shares, (0.9, 0.1), strict=True):
            queue[:-1] = queue[1:]
            queue[: own.size] += own * share * (excess + seeping)
        exchange = x2 * (r / x3) ** 3.5
        r = max(r + queues[0][0] + exchange, 0.0)
        outflow = r * (1 - (1 + (r / x3) ** 4) ** -0.25)
        r -= outflow
        found[t] = outflow + max(queues[1][0] + exchange, 0.0)
    return found


def hbv(rain: np.ndarray, demand: np.ndarray, warmth: np.ndarray, p: dict[str, float], days: float) -> np.ndarray:
    """Runoff [mm per step], from empty stores."""
    tt, cfmax, cfr, cwh, fc, beta, lp, betaet, rise, perc, uzl, k0, k1, k2 = (p[name] for name in HBV)
    ice = liquid = soil = upper = lower = 0.0
    found = np.empty(rain.size)
    for t, (water, e, temperature) in enumerate(zip(rain, demand, warmth, strict=True)):
        if temperature < tt:
            ice, water = ice + water, 0.0
        melt = min(max(cfmax * (temperature - tt) * days, 0.0), ice)
        ice, liquid = ice - melt, liquid + melt
        frozen = min(max(cfr * cfmax * (tt - temperature) * days, 0.0), liquid)
        ice, liquid = ice + frozen, liquid - frozen
        shed = max(liquid - cwh * ice, 0.0)
        liquid, water = liquid - shed, water + shed
        recharge = water * min(soil / fc, 1.0) ** beta
        soil += water - recharge
        over = max(soil - fc, 0.0)
        soil -= over
        soil -= min(soil, e * min(soil / (lp * fc), 1.0) ** betaet)
        risen = rise * days * lower * (1 - min(soil / fc, 1.0))
        soil, lower = soil + risen, lower - risen
        upper += recharge + over
        seeping = min(upper, perc * days)
        upper, lower = upper - seeping, lower + seeping
        quick = k0 * days * max(upper - uzl, 0.0)
        upper -= quick
        inter = k1 * days * upper
        upper -= inter
        base = k2 * days * lower
        lower -= base
        found[t] = quick + inter + base
    return found


# ---- reaches ------------------------------------------------------------------------------------------------

Reach = Callable[[float], float]


class Muskingum:
    """A reach by the three coefficients of inflow, inflow before and outflow before."""

    def __init__(self, travel_time: float, x: float, seconds: float, flow: float) -> None:
        k, d = travel_time, seconds
        if k * (1 - x) <= d / 2:
            self.c = 1 - k / d, k / d, 0.0
        elif 2 * k * x >= d:
            self.c = 0.0, d / k, 1 - d / k
        else:
            below = 2 * k * (1 - x) + d
            self.c = (d - 2 * k * x) / below, (d + 2 * k * x) / below, (2 * k * (1 - x) - d) / below
        self.inflow = self.outflow = flow

    def __call__(self, inflow: float) -> float:
        self.outflow = self.c[0] * inflow + self.c[1] * self.inflow + self.c[2] * self.outflow
        self.inflow = inflow
        return self.outflow


class Kinematic:
    """A reach that holds length alpha Q^beta, its outflow found by halving."""

    def __init__(self, length: float, alpha: float, beta: float, seconds: float, flow: float) -> None:
        self.s, self.beta, self.seconds = length * alpha, beta, seconds
        self.volume = self.s * flow**beta

    def __call__(self, inflow: float) -> float:
        held = self.volume + self.seconds * inflow
        low, high = 0.0, held / self.seconds
        for _ in range(60):
            q = (low + high) / 2
            low, high = (low, q) if self.seconds * q + self.s * q**self.beta > held else (q, high)
        self.volume = held - self.seconds * low
        return low


def route(
    down: np.ndarray, lateral: np.ndarray, make: Callable[[int, float], Reach], n_sub: int, steady: np.ndarray
) -> np.ndarray:
    """Mean discharge of each step, float64[time, reach], from a steady start; lateral : float64[time, reach]."""
    depth = np.zeros(down.size, int)
    for i in range(down.size):
        k = i
        while (k := down[k]) >= 0:
            depth[i] += 1
    order = np.argsort(-depth, kind="stable")
    flow = steady.copy()
    for i in order:
        if down[i] >= 0:
            flow[down[i]] += flow[i]
    reaches = [make(i, float(flow[i])) for i in range(down.size)]
    found = np.zeros(lateral.shape)
    for t in range(lateral.shape[0]):
        for _ in range(n_sub):
            inflow = lateral[t].copy()
            for i in order:
                out = reaches[i](inflow[i])
                found[t, i] += out / n_sub
                if down[i] >= 0:
                    inflow[down[i]] += out
    return found


# ---- beside a run -------------------------------------------------------------------------------------------


def content(path: Path) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_mask(False)
        return {name: variable[:] for name, variable in dataset.variables.items()}


def parameters_of(folder: Path) -> dict[str, np.ndarray]:
    """Parameters of the case, those of reaches in the order of the domain file."""
    found, ids = content(folder / "parameters.nc"), content(folder / "domain.nc")["reach_id"].tolist()
    place = [found["reach_id"].tolist().index(one) for one in ids]
    return {k: v[place] if v.size == len(ids) else v for k, v in found.items()}


def run(config: Path, name: str, places: str) -> tuple[list[str], np.ndarray]:
    """A variable of the run at all places, with their ids."""
    path = change_config(
        config, f"{name}.yaml", output=f"{name}.nc", output_at=places, output_variables=[name], initial_state="steady",
    )
    with simulated(path) as simulation:
        simulation.run()
        live, state = simulation.model.live, simulation.model.state
        at_start = 1e3 * state.cell_storage_at_start @ simulation.model.domain.cells.drained_area
        at_start += state.reach_storage_at_start.sum()
        came = live["water_in"][0] + live["water_exchanged"][0] + at_start
        assert live["water_out"][0] + live["water_stored"][0] == pytest.approx(came, rel=1e-12), "[m3]"
    _, ids, values = read_output(config.parent / f"{name}.nc", name)
    return ids, values


def compare(config: Path, step: int, runoff: np.ndarray, make: Callable[[int, float], Reach]) -> None:
    """Runoff [mm per step] and discharge of a run beside others'; make : a reach of the domain file, from a flow."""
    domain = content(config.parent / "domain.nc")
    ids, found = run(config, "runoff", "cells")
    assert ids == domain["cell_id"].tolist()
    np.testing.assert_allclose(found, runoff * DAY / step, rtol=1e-9, atol=1e-11)
    lateral = np.zeros((runoff.shape[0], domain["downstream"].size))
    for cell, reach, area in zip(domain["link_cell"], domain["link_reach"], domain["link_area"], strict=True):
        lateral[:, reach] += runoff[:, cell] * area * 1000 / step
    n_sub = 24 if step == DAY else 4
    steady = lateral[: 10 * DAY // step].mean(axis=0)
    expected = route(domain["downstream"], lateral, make, n_sub, steady)
    ids, found = run(config, "discharge", "reaches")
    place = [domain["reach_id"].tolist().index(one) for one in ids]
    np.testing.assert_allclose(found, expected[:, place], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_gr4j_with_snow_and_muskingum(tmp_path, step: int) -> None:
    config = write_case(tmp_path, step=step, n_steps=N, snow="cemaneige", spin_up=0)
    weather, domain, p = content(tmp_path / "forcing.nc"), content(tmp_path / "domain.nc"), parameters_of(tmp_path)
    rain, demand = (weather[k] * step / DAY for k in ("precipitation", "potential_evapotranspiration"))
    runoff = np.stack([
        gr4j(cemaneige(rain[:, c], weather["air_temperature"][:, c], domain["mean_annual_snowfall"][c],
                       *(p[k][c] for k in CEMANEIGE)), demand[:, c], *(p[k][c] for k in GR4J), step)
        for c in range(rain.shape[1])
    ], axis=1)
    seconds = HOUR if step == DAY else 900
    compare(config, step, runoff, lambda i, flow: Muskingum(
        domain["reach_length"][i] / p["celerity"][i], p["weighting"][i], seconds, flow
    ))


@pytest.mark.parametrize("step", [DAY, HOUR])
def test_hbv_and_a_kinematic_wave(tmp_path, step: int) -> None:
    config = write_case(tmp_path, step=step, n_steps=N, runoff="hbv", routing="kinematic", spin_up=0)
    domain, weather, rng = content(tmp_path / "domain.nc"), content(tmp_path / "forcing.nc"), np.random.default_rng(5)
    cells, reaches = domain["cell_id"].size, domain["reach_id"].size
    p = {name: rng.uniform(low, high, cells) for name, (low, high) in HBV.items()}
    p["kinematic_coefficient"] = np.exp(rng.uniform(np.log(0.1), np.log(50), reaches))
    p["kinematic_exponent"] = rng.uniform(0.3, 1.0, reaches)
    ids = {"cell": domain["cell_id"].tolist(), "reach": domain["reach_id"].tolist()}
    write_parameters(tmp_path / "parameters.nc", p, ids)
    rain, demand = (weather[k] * step / DAY for k in ("precipitation", "potential_evapotranspiration"))
    runoff = np.stack([
        hbv(rain[:, c], demand[:, c], weather["air_temperature"][:, c], {k: p[k][c] for k in HBV}, step / DAY)
        for c in range(cells)
    ], axis=1)
    seconds = HOUR if step == DAY else 900
    compare(config, step, runoff, lambda i, flow: Kinematic(
        domain["reach_length"][i], p["kinematic_coefficient"][i], p["kinematic_exponent"][i], seconds, flow
    ))
