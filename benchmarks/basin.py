"""A real basin, the Charente on 9,936 cells of 1 km2, in this model and in hydro-smash, with the same made-up weather.

The flow directions are those that the package hydro-smash carries. One cell is one reach in both.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from kernel_cases import Weather
from timing import Case

from bmi_cdlm.domain import Cells, Domain, Gauges, Links, Reaches
from bmi_cdlm.model import Forcing, Model
from bmi_cdlm.network import accumulate_downstream, order_reaches
from bmi_cdlm.parameters import DAY
from bmi_cdlm.prepare.network import delineate, downstream_pixels, flow_lengths, invert

OUTLET = {"x": 382500.0, "y": 6549500.0, "area": 9936e6}
SMALL_OUTLET = {"x": 464500.0, "y": 6914500.0, "area": 2980e6}
BLOCK_BYTES = 64 * 2**20


def make_mesh(outlet: Mapping[str, float]) -> dict[str, Any]:
    """hydro-smash's mesh of the basin above an outlet."""
    from smash.factory import generate_mesh, load_dataset

    return generate_mesh(load_dataset("flwdir"), **outlet)


def make_domain(mesh: Mapping[str, Any]) -> Domain:
    """The same basin as a domain of ours: one reach per cell, cells in routing order too."""
    directions = np.where(mesh["active_cell"] == 1, mesh["flwdir"], np.nan).astype(np.float64)
    below = downstream_pixels(directions)
    row, column = mesh["gauge_pos"][0]
    network = delineate(below, invert(below), np.array([row * directions.shape[1] + column]))
    n = network.pixel.size
    order = order_reaches(network.downstream, [f"{i:08d}" for i in range(n)])
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    downstream = network.downstream[order]
    downstream = np.where(downstream >= 0, position[downstream], -1)
    pixel = network.pixel[order]
    ids = [str(i) for i in pixel]
    length = flow_lengths(directions, float(mesh["xres"])).ravel()[pixel]
    nowhere, area = np.zeros(n), (np.asarray(mesh["dx"] * mesh["dy"], np.float64) * 1e-6).ravel()[pixel]
    upstream_area = accumulate_downstream(downstream, area)
    return Domain(
        Cells(ids, nowhere, nowhere, area, area, np.zeros((n, 4)), np.zeros((n, 4)), np.full(n, np.nan)),
        Reaches(ids, downstream, length, nowhere, area, upstream_area, nowhere, nowhere),
        Links(np.arange(n + 1), np.arange(n), area),
        Gauges(["outlet"], ["outlet"], np.array([n - 1]), upstream_area[-1:]),
        np.arange(n),
    )


def make_smash_model(mesh: Mapping[str, Any], domain: Domain, weather: Weather) -> Any:
    """hydro-smash's gr4 with linear-reservoir routing, filled with the weather."""
    import smash

    start = np.datetime64("2000-01-01")
    setup = {
        "hydrological_module": "gr4", "routing_module": "lr", "dt": DAY, "start_time": str(start),
        "end_time": str(start + weather.precipitation.shape[0]), "read_qobs": False, "read_prcp": False,
        "read_pet": False, "read_descriptor": False,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        model = smash.Model(setup, mesh)
    row, column = np.divmod(np.array(domain.cells.id, np.int64), int(mesh["ncol"]))
    model.atmos_data.prcp[row, column] = weather.precipitation.T
    model.atmos_data.pet[row, column] = weather.potential_evapotranspiration.T
    return model


def smash_case(model: Any, threads: int) -> Case:
    """One forward run of hydro-smash; it keeps discharge at the gauge."""
    options = {"ncpu": threads, "verbose": False}
    work = int(model.mesh.nac) * int(model.setup.ntime_step)
    return Case("hydro-smash, gr4-lr", "float32", threads, work, lambda: model.forward_run(common_options=options))


class Run:
    """Runs of our model over the whole record, one after another, in blocks; keeps discharge at the gauge.

    Attributes
    ----------
    discharge : float64[time]
        Of the last run [m3 s-1].
    """

    def __init__(self, domain: Domain, weather: Weather, threads: int, routing_step: int) -> None:
        self.model = Model(domain, step=DAY, routing_step=routing_step, threads=threads)
        self.forcing = Forcing(*(a.astype(np.float64) for a in weather))
        self.block = int(np.clip(BLOCK_BYTES // (8 * 8 * domain.n_cells), 1, 512))
        self.discharge = np.empty(weather.precipitation.shape[0])

    def case(self, name: str) -> Case:
        """This run, to be timed."""
        return Case(name, "float64", self.model._workers.threads, self.forcing.precipitation.size, self)

    def __call__(self) -> None:
        """Advance over the record, from the state of the run before."""
        for first in range(0, self.discharge.size, self.block):
            part = slice(first, first + self.block)
            rain, demand = self.forcing.precipitation[part], self.forcing.potential_evapotranspiration[part]
            kept = self.model.advance(Forcing(rain, demand), ["gauge_discharge"])
            self.discharge[part] = kept["gauge_discharge"][:, 0]

    def balance_error(self) -> float:
        """What one more run leaves unexplained of the rain, as a share of it and of the water stored at its start."""
        self.model.begin(self.model.live["discharge"].copy())
        live = self.model.live
        before = live["water_stored"][0]
        self()
        gained = live["water_in"][0] + live["water_exchanged"][0] - live["water_out"][0]
        return float(abs(gained - (live["water_stored"][0] - before)) / (live["water_in"][0] + before))
