"""Assimilate one gauge of the Lez with an ensemble Kalman filter, through BMI calls only.

    cdlm prepare lez
    python examples/enkf_lez.py cfg/lez.yaml

Every member is a component of its own, whose rain and evaporative demand are perturbed through `set_value`. After
every day the discharge at one gauge is compared with what was observed there, and the production stores, routing
stores and water in the reaches of all members are corrected by a square-root filter (Whitaker and Hamill 2002), within
bounds. What the filter adds or takes is booked by the model as added water, so that the balance of every cell and
reach still closes: `ledger_tolerance` has the model check that at every step.

The same ensemble without corrections is the open loop. Forecasts are those of a day before its observation
comes in; at the other gauges, nothing is ever assimilated. With default parameters the filter makes up for much of what
calibration would; with `--parameters examples/lez.safetensors`, trained on this very year, there is little left to
correct, and the filter costs more than it gains.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bmi_cdlm import BmiCdlm
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.metrics import kge, nse
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import load_config

RAIN = "atmosphere_water_precipitation__leq_volume_flux"
DEMAND = "land_surface_water_evapotranspiration__potential_volume_flux"
GAUGES = "drainage-basin_outlet_water_flowing_x-section__volume_rate"
CAPACITY = "production_capacity"
STATES = (
    "soil_production-store_water__volume-per-area_storage_density",
    "soil_routing-store_water__volume-per-area_storage_density",
    "stream_channel_reach_water__volume",
)
WATER = {
    "in": "drainage-basin_water~incoming__time_integral_of_volume_rate",
    "exchanged": "drainage-basin_subsurface_water_exchange__time_integral_of_volume_rate",
    "added": "drainage-basin_water_addition__time_integral_of_volume_rate",
    "out": "drainage-basin_water~outgoing__time_integral_of_volume_rate",
    "stored": "drainage-basin_water__volume",
}
RAIN_SPREAD, DEMAND_SPREAD, MEMORY = 0.4, 0.2, 0.5
"""Standard deviation of the logarithms of the perturbations, and their correlation from day to day."""
SHARE_OF_ERROR, LEAST_ERROR = 0.2, 0.1
"""Error of an observation: a share of it, and at least so much [m3 s-1]."""
console = Console(markup=False, highlight=False)


class Result(NamedTuple):
    """Ensemble mean and spread of the forecasts, float64[time, gauge], and the water balance of a member [m3]."""

    mean: np.ndarray
    spread: np.ndarray
    water: dict[str, float]


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file.")
@click.option("--gauge", help="Gauge to assimilate.  [default: the one with the largest area]")
@click.option("--members", default=32, show_default=True)
@click.option("--days", type=int, help="Days to run.  [default: the whole run]")
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw.  [default: beside the output]")
def main(
    config: Path, parameters: Path | None, gauge: str | None, members: int, days: int | None, picture: Path | None
) -> None:
    """Run CONFIG as an ensemble, without and with assimilation, and score both."""
    settings = load_config(config)
    assert settings.observations is not None
    gauges = read_domain(settings.domain).gauges
    where = int(np.nanargmax(gauges.area)) if gauge is None else gauges.id.index(gauge)
    starts, observed = read_observations(settings.observations, gauges.id, settings.start, settings.end, 86400)
    checked = write_checked(config, parameters)
    steps = min(settings.n_steps, days or settings.n_steps)
    starts, observed = starts[:steps], observed[:steps]
    try:
        open_loop = run(checked, members, observed, None)
        filtered = run(checked, members, observed, where)
    finally:
        checked.unlink()
    report(gauges.id, where, observed, open_loop, filtered)
    picture = picture or settings.domain.parent / "enkf.png"
    draw(picture, gauges.id, where, starts, observed, {"open loop": open_loop, "forecast": filtered})
    console.print(f"wrote {picture}")


def write_checked(config: Path, parameters: Path | None) -> Path:
    """Copy of the configuration whose ledger is checked at every step."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content |= {"ledger_tolerance": 1e-9, "threads": 1}
    if parameters is not None:
        content["parameters"] = str(parameters.resolve())
    path = config.with_name(f"{config.stem}.stepped.yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def run(config: Path, members: int, observed: np.ndarray, assimilated: int | None) -> Result:
    """Step the ensemble through the days of `observed`, float64[time, gauge]; NaN there is not assimilated."""
    random = np.random.default_rng(1)
    ensemble = [BmiCdlm() for _ in range(members)]
    for member in ensemble:
        member.initialize(str(config))
    at_start = value(ensemble[0], WATER["stored"])[0]
    noise = random.standard_normal((2, members))
    forecasts = np.empty((observed.shape[0], members, observed.shape[1]))
    what = "open loop" if assimilated is None else "assimilating"
    for day in track(range(observed.shape[0]), what, console=console, transient=True):
        noise = MEMORY * noise + np.sqrt(1 - MEMORY**2) * random.standard_normal(noise.shape)
        for i, member in enumerate(ensemble):
            for name, spread, z in ((RAIN, RAIN_SPREAD, noise[0, i]), (DEMAND, DEMAND_SPREAD, noise[1, i])):
                member.set_value(name, value(member, name) * np.exp(spread * z - spread**2 / 2))
            member.update()
            forecasts[day, i] = value(member, GAUGES)
        if assimilated is not None and np.isfinite(observed[day, assimilated]):
            correct(ensemble, forecasts[day, :, assimilated], float(observed[day, assimilated]))
    water = {short: float(value(ensemble[0], name)[0]) for short, name in WATER.items()}
    water["stored"] -= at_start
    for member in ensemble:
        member.finalize()
    return Result(forecasts.mean(axis=1), forecasts.std(axis=1), water)


def value(member: BmiCdlm, name: str) -> np.ndarray:
    """Copy of all values of a variable."""
    return member.get_value(name, np.empty(member.get_var_nbytes(name) // member.get_var_itemsize(name)))


def correct(ensemble: list[BmiCdlm], predicted: np.ndarray, observed: float) -> None:
    """Correct the states of all members by one observation: a square-root filter for a scalar."""
    error = max(LEAST_ERROR, SHARE_OF_ERROR * observed) ** 2
    deviation = predicted - predicted.mean()
    variance = deviation @ deviation / (len(ensemble) - 1)
    if variance <= 0.0:
        return
    shrink = 1.0 / (1.0 + np.sqrt(error / (variance + error)))
    for name in STATES:
        states = np.array([value(member, name) for member in ensemble])
        anomaly = states - states.mean(axis=0)
        gain = deviation @ anomaly / (len(ensemble) - 1) / (variance + error)
        states += gain * (observed - predicted.mean()) - shrink * np.outer(deviation, gain)
        np.maximum(states, 0.0, out=states)
        for member, corrected in zip(ensemble, states, strict=True):
            if name == STATES[0]:
                corrected = np.minimum(corrected, value(member, CAPACITY))
            member.set_value(name, corrected)


def report(ids: list[str], where: int, observed: np.ndarray, open_loop: Result, filtered: Result) -> None:
    """Scores at every gauge, and the water balance of a member."""
    table = Table("gauge", "", "NSE open loop", "NSE forecast", "KGE open loop", "KGE forecast")
    for g, name in enumerate(ids):
        scores = [f(result.mean[:, g], observed[:, g]) for f in (nse, kge) for result in (open_loop, filtered)]
        table.add_row(name, "assimilated" if g == where else "", *(f"{score:.3f}" for score in scores))
    console.print(table)
    for name, water in (("open loop", open_loop.water), ("assimilated", filtered.water)):
        left = water["in"] + water["exchanged"] + water["added"] - water["out"] - water["stored"]
        terms = ", ".join(f"{key} {amount:.4g}" for key, amount in water.items())
        console.print(f"water of a member, {name} [m3]: {terms}; residual {left:.1e}")
        assert abs(left) <= 1e-9 * water["in"]


def draw(
    path: Path, ids: list[str], where: int, starts: np.ndarray, observed: np.ndarray, results: dict[str, Result]
) -> None:
    """Hydrographs at every gauge, with and without assimilation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(ids), 1, figsize=(9, 2.6 * len(ids)), sharex=True, squeeze=False)
    for g, (name, axis) in enumerate(zip(ids, axes[:, 0], strict=True)):
        for (label, result), colour in zip(results.items(), ("tab:orange", "tab:blue"), strict=True):
            mean, spread = result.mean[:, g], result.spread[:, g]
            axis.fill_between(starts, np.maximum(mean - spread, 0), mean + spread, color=colour, alpha=0.25, lw=0)
            score = nse(mean, observed[:, g])
            axis.plot(starts, mean, color=colour, lw=1, label=f"{label}, NSE {score:.2f}")
        axis.plot(starts, observed[:, g], ".", color="black", ms=3, label="observed")
        axis.set_title(f"{name}{', assimilated' if g == where else ''}", loc="left", fontsize=9)
        axis.set_ylabel("discharge [m3 s-1]", fontsize=8)
        axis.legend(fontsize=7, frameon=False)
    figure.autofmt_xdate()
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


if __name__ == "__main__":
    main()
