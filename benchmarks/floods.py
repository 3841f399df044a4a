"""Floods through a channel: Muskingum-Cunge and Muskingum with a constant celerity beside a diffusion wave.

`python benchmarks/floods.py REFERENCE.nc --to floods.png`; seconds, but for the compiler. REFERENCE has, by the name of
a flood, NAME_inflow and NAME_truth, float64[hour] [m3 s-1], hourly means at the head and discharge at the end of a
channel whose form the attributes of the first tell: length L [m], slope S0, Manning's n, width p depth^q, base and peak
flow Qb and Qp [m3 s-1]. No such file comes with the project.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import netCDF4
import numpy as np
from domains import random_country
from rich.console import Console
from rich.table import Table

from bmi_cdlm.domain.domain import Domain, Links
from bmi_cdlm.evaluate.metrics import nse
from bmi_cdlm.evaluate.plot import MUTED, OBSERVED, SIMULATED, new_figure
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.parameter_set import flood_waves
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.names.declaration import ReachProcess
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM
from bmi_cdlm.processes.muskingum_cunge import MUSKINGUM_CUNGE_SHAPED

LENGTHS = (1000.0, 7000.0)
CONSTANT = "#5b8db8"
console = Console(highlight=False, width=110)


class Flood(NamedTuple):
    """A flood: its name, inflow and outflow float64[hour] [m3 s-1], and the channel's form."""

    name: str
    inflow: np.ndarray
    truth: np.ndarray
    form: dict[str, float]


def read_floods(path: Path) -> list[Flood]:
    """All floods of a reference file."""
    with netCDF4.Dataset(path) as dataset:
        names = [name.removesuffix("_truth") for name in dataset.variables if name.endswith("_truth")]
        return [
            Flood(n, np.asarray(dataset[f"{n}_inflow"][:]), np.asarray(dataset[f"{n}_truth"][:]), {
                k: float(dataset[f"{n}_inflow"].getncattr(k)) for k in ("L", "S0", "n", "p", "q", "Qb", "Qp")
            }) for n in names
        ]


def channel_of(flood: Flood, length: float) -> Domain:
    """Reaches of equal length, one below the other, with a cell each."""
    n = max(1, round(flood.form["L"] / length))
    base, one = random_country(1, n, 4, 1), np.ones(n)
    reaches = base.reaches._replace(
        id=[str(k) for k in range(n)], downstream=np.r_[np.arange(1, n), -1], length=one * flood.form["L"] / n,
        slope=one * flood.form["S0"], area=one, upstream_area=np.arange(1.0, n + 1), lon=0 * one, lat=0 * one,
    )
    cells = base.cells._replace(**{
        name: [str(k) for k in range(n)] if name == "id" else np.ones((n, *np.shape(values)[1:]))
        for name, values in base.cells._asdict().items()
    })
    links = Links(np.arange(n + 1), np.arange(n), one)
    return Domain(cells, reaches, links, base.gauges._replace(reach=np.zeros(1, np.int64)), np.arange(n))


def route(process: ReachProcess, domain: Domain, parameters: dict[str, float], flood: Flood) -> np.ndarray:
    """Discharge at the end, float64[hour], from a steady start."""
    n = domain.n_reaches
    operator = ReachOperator(process, LINKS, domain, HOUR, HOUR, np.float64, Workers(1))
    p = operator.prepare({name: np.full(n, value) for name, value in parameters.items()})
    inflow = np.zeros((flood.inflow.size, n))
    inflow[:, 0] = flood.inflow * 86.4  # mm d-1 over 1 km2
    return operator.run(inflow, p, operator.steady(p, np.full(n, flood.form["Qb"])), np.array([n - 1]))[0][:, 0]


def routed(flood: Flood, length: float) -> tuple[np.ndarray, np.ndarray]:
    """By Muskingum-Cunge, and by Muskingum with the celerity of the mean of base and peak flow."""
    domain, form = channel_of(flood, length), flood.form
    shape = {"manning_roughness": form["n"], "channel_width": form["p"], "channel_shape": form["q"]}
    operator = ReachOperator(MUSKINGUM_CUNGE_SHAPED, LINKS, domain, HOUR, HOUR, np.float64, Workers(1))
    p = operator.prepare({name: np.full(domain.n_reaches, value) for name, value in shape.items()})
    waves = flood_waves(operator, p, np.full(domain.n_reaches, (form["Qb"] + form["Qp"]) / 2))
    assert waves is not None
    celerity = domain.reaches.length[0] / waves[0][0]
    return (
        route(MUSKINGUM_CUNGE_SHAPED, domain, shape, flood),
        route(MUSKINGUM, domain, {"celerity": celerity, "weighting": 0.25}, flood),
    )


@click.command()
@click.argument("reference", type=click.Path(path_type=Path, exists=True))
@click.option("--to", "path", default="floods.png", type=click.Path(path_type=Path))
def main(reference: Path, path: Path) -> None:
    """Route every flood, print what came of it, and draw reaches of a kilometre."""
    floods = read_floods(reference)
    table = Table("flood", "reaches", "NSE", "peak [%]", "constant celerity: NSE", "peak [%]", title="routed each hour")
    figure = new_figure(path, (11, 7))
    for flood, panel in zip(floods, figure.subplots(2, 2).flat, strict=False):
        for length in LENGTHS:
            ours, constant = routed(flood, length)
            peaks = [100 * (x.max() / flood.truth.max() - 1) for x in (ours, constant)]
            table.add_row(
                flood.name, f"{length / 1000:g} km", f"{nse(ours, flood.truth):.4f}", f"{peaks[0]:+.1f}",
                f"{nse(constant, flood.truth):.3f}", f"{peaks[1]:+.1f}",
            )
            if length == LENGTHS[0]:
                for series, label, color, width in (
                    (flood.inflow, "inflow", MUTED, 0.8), (flood.truth, "diffusion wave", OBSERVED, 2.4),
                    (ours, "Muskingum-Cunge", SIMULATED, 1.4), (constant, "constant celerity", CONSTANT, 1.4),
                ):
                    panel.plot(series, label=label, color=color, linewidth=width)
        panel.set_title(f"{flood.name}: {flood.form['L'] / 1000:g} km, slope {flood.form['S0']:g}", fontsize=10)
        panel.set_xlabel("hour")
        panel.set_ylabel("discharge [m³ s⁻¹]")
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=90)
    console.print(table)
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
