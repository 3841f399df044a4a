"""Forecast the floods of the Cance with and without assimilation of the discharge of the hours before.

    cdlm prepare cance && cdlm-train cfg/cance.yaml
    python examples/assimilate_cance.py cfg/cance.yaml --parameters cfg/cance/cance.safetensors --to FOLDER

For every flood of every gauge (`cdlm evaluate --events` finds the same) a forecast is made 6 and 12 h before the
observed peak: `assimilate` fits the stores, and a factor on the rain of the window, to the gauges before that time and
writes a restart file, from which a component is stepped through BMI, hour by hour. Further forecasts are made every few
hours around the floods, for the errors by lead time. It is a hindcast: rain after the time of the forecast is what was
observed, as if a weather forecast were perfect; no discharge after it is seen. Without assimilation means the run of
the configuration itself.
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
from bmi_cdlm.assimilate.assimilation import assimilate
from bmi_cdlm.assimilate.choice import FITTED, Choice, Errors
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.evaluation import basin_rain
from bmi_cdlm.evaluate.events import QUANTILE, find_events
from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.values import parse_date, parse_duration

GAUGES = "drainage-basin_outlet_water_flowing_x-section__volume_rate"
HOUR = np.timedelta64(1, "h")
PEAK_LEADS, LEADS, HORIZON = (6, 12), (1, 3, 6, 12, 24), 48
"""Hours: from a forecast to the peak; lead times that are scored; how far a forecast goes."""
console = Console(markup=False, highlight=False, soft_wrap=True)


class Case(NamedTuple):
    """A run with its observations: starts : datetime64[time]; observed, open_loop : float64[time, gauge]; rain :
    float64[time, gauge] [mm h-1].
    """

    path: Path
    config: Config
    gauges: list[str]
    starts: np.ndarray
    observed: np.ndarray
    open_loop: np.ndarray
    rain: np.ndarray


class Flood(NamedTuple):
    """A flood of a gauge: numbers of its first and last step and of its peak."""

    gauge: int
    first: int
    last: int
    peak: int


@click.command()
@click.argument("path", metavar="CONFIG", type=click.Path(path_type=Path, exists=True))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file.")
@click.option("--window", default="2 d", show_default=True, help="How far back observations go.")
@click.option("--fit", default="stores,rain", show_default=True, help=f"Of {', '.join(FITTED)}.")
@click.option("--flood-quantile", default=QUANTILE, show_default=True)
@click.option("--after", metavar="DATE", help="Only floods that peak after this, such as the end of a training.")
@click.option("--every", default=12, show_default=True, help="Hours between forecasts that are scored by lead time.")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder for what is written.")
def main(
    path: Path, parameters: Path | None, window: str, fit: str, flood_quantile: float, after: str | None, every: int,
    folder: Path,
) -> None:
    """Forecast the floods of CONFIG with and without assimilation."""
    folder.mkdir(parents=True, exist_ok=True)
    case = open_case(path, parameters, folder)
    choice = Choice(parse_duration(window), fit=tuple(fit.split(",")), errors=Errors())
    first = case.starts[0] if after is None else parse_date(after)
    floods = [flood for flood in find_floods(case, flood_quantile) if case.starts[flood.peak] >= first]
    forecasts: dict[int, np.ndarray] = {}

    def forecast(step: int) -> np.ndarray:
        if step not in forecasts:
            forecasts[step] = forecast_from(case, choice, step, folder)
        return forecasts[step]

    report_peaks(case, floods, forecast)
    times = sorted({t for f in floods for t in range(f.first, f.last, every)})
    for step in track(times, "forecasts", console=console, transient=True):
        forecast(step)
    report_leads(case, {step: forecasts[step] for step in times})
    for flood in floods:
        console.print(f"wrote {draw(case, flood, forecast, folder)}")


def open_case(path: Path, parameters: Path | None, folder: Path) -> Case:
    """Read the case, and run it as it is; all forecasts go on from its start, after any spin-up."""
    config = load_config(path, {} if parameters is None else {"parameters": parameters.resolve()})
    domain = read_domain(config.domain)
    assert config.observations is not None
    starts, observed = read_observations(
        config.observations, domain.gauges.id, config.start, config.end, config.time_step
    )
    rain, rows = basin_rain(config, domain), []
    assert rain is not None
    simulation = Simulation(config)
    simulation.save(folder / "start.restart")
    simulation.run_blocks(["gauge_discharge"], lambda starts, values: rows.append(values["gauge_discharge"].copy()))
    simulation.close()
    config = config.model_copy(update={"initial_state": folder / "start.restart", "spin_up": 0})
    return Case(
        path, config, domain.gauges.id, starts, observed, np.concatenate(rows),
        np.stack([rain[g] for g in domain.gauges.id], axis=1),
    )


def find_floods(case: Case, quantile: float) -> list[Flood]:
    """Floods of all gauges, in the order of their peaks."""
    found = []
    for g in range(len(case.gauges)):
        events, _ = find_events(case.rain[:, g], case.observed[:, g], case.config.time_step, quantile)
        found += [Flood(g, e.first, e.last, e.peak) for e in events]
    return sorted(found, key=lambda flood: flood.peak)


def forecast_from(case: Case, choice: Choice, step: int, folder: Path) -> np.ndarray:
    """Discharge of the hours from the begin of a step on, float64[time, gauge]: a restart file, and BMI from there."""
    at = case.starts[step]
    restart = folder / f"assimilated_{str(at).replace(':', '')}.restart"
    assimilate(case.config, choice._replace(at=at), restart, force=True)
    content = yaml.safe_load(case.path.read_text(encoding="utf-8"))
    content |= {"initial_state": str(restart.resolve()), "spin_up": 0, "parameters": str(case.config.parameters)}
    stepped = case.path.with_name(f"{case.path.stem}.forecast.yaml")
    stepped.write_text(yaml.safe_dump(content), encoding="utf-8")
    component = BmiCdlm()
    try:
        component.initialize(str(stepped))
        flow, rows = component.get_value_ptr(GAUGES), []
        for _ in range(min(HORIZON, case.starts.size - step)):
            component.update()
            rows.append(flow.copy())
    finally:
        component.finalize()
        stepped.unlink()
        restart.unlink()
    return np.array(rows)


def report_peaks(case: Case, floods: list[Flood], forecast) -> None:
    """Errors of the peak and of its time, with and without."""
    table = Table("gauge", "peak", "observed", "lead", "error without", "with", "hours late without", "with")
    errors: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for flood in floods:
        o = case.observed[flood.peak, flood.gauge]
        for lead in PEAK_LEADS:
            at = flood.peak + 1 - lead
            length = min(flood.last + 1 - at, HORIZON)
            rows = [case.open_loop[at : at + length, flood.gauge], forecast(at)[:length, flood.gauge]]
            both = [(100 * (s.max() / o - 1), int(s.argmax()) + 1 - lead) for s in rows]
            for which, one in enumerate(both):
                errors.setdefault((lead, which), []).append(one)
            table.add_row(
                case.gauges[flood.gauge], str(case.starts[flood.peak])[:16], f"{o:.0f}", f"{lead} h",
                *(f"{e:+.1f} %" for e, _ in both), *(f"{late:+d}" for _, late in both),
            )
    for lead in PEAK_LEADS:
        both = [errors[lead, which] for which in (0, 1)]
        table.add_row(
            "mean of absolute errors", "", "", f"{lead} h",
            *(f"{np.mean([abs(e) for e, _ in own]):.1f} %" for own in both),
            *(f"{np.mean([abs(late) for _, late in own]):.1f}" for own in both),
        )
    console.print(table)


def report_leads(case: Case, forecasts: dict[int, np.ndarray]) -> None:
    """RMSE and NSE of all forecasts by lead time, with and without."""
    table = Table("gauge", "lead", "forecasts", "RMSE without", "with", "NSE without", "with")
    for g, name in enumerate(case.gauges):
        for lead in LEADS:
            used = [
                t for t, q in forecasts.items() if q.shape[0] >= lead and np.isfinite(case.observed[t + lead - 1, g])
            ]
            o = np.array([case.observed[t + lead - 1, g] for t in used])
            both = [np.array([case.open_loop[t + lead - 1, g] for t in used]),
                    np.array([forecasts[t][lead - 1, g] for t in used])]
            table.add_row(
                name, f"{lead} h", f"{o.size}", *(f"{np.sqrt(((s - o) ** 2).mean()):.2f}" for s in both),
                *(f"{nse(s, o):.3f}" for s in both),
            )
    console.print(table)


def draw(case: Case, flood: Flood, forecast, folder: Path) -> Path:
    """The flood as observed, without assimilation, and as forecast before its peak."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    part = slice(max(flood.first - 24, 0), flood.last + 1)
    starts = case.starts[part]
    above.bar(starts, case.rain[part, flood.gauge], width=1 / 24, color="#5b8db8", align="edge")
    above.invert_yaxis()
    above.set_ylabel("rain [mm h-1]", fontsize=8)
    below.plot(starts, case.observed[part, flood.gauge], ".", color="black", ms=4, label="observed")
    below.plot(starts, case.open_loop[part, flood.gauge], color="tab:orange", lw=1.2, label="without assimilation")
    for lead, colour in zip(PEAK_LEADS, ("tab:blue", "tab:green"), strict=True):
        at = flood.peak + 1 - lead
        flow = forecast(at)[:, flood.gauge]
        label = f"forecast {lead} h before the peak"
        below.plot(case.starts[at : at + flow.size], flow, color=colour, lw=1.4, label=label)
        below.axvline(case.starts[at], color=colour, lw=0.7, ls=":")
    below.set_ylabel("discharge [m3 s-1]", fontsize=8)
    below.legend(fontsize=8, frameon=False)
    name, day = case.gauges[flood.gauge], str(case.starts[flood.peak])[:10]
    above.set_title(f"{name}, flood of {day}", loc="left", fontsize=10)
    figure.autofmt_xdate()
    path = folder / f"forecast_{name}_{day}.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


if __name__ == "__main__":
    main()
