"""A real basin in this model and in hydro-smash, with the same made-up weather.

One cell is one reach in both. Discharge is kept at the outlet only, and nothing is read or written.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from kernel_cases import Weather
from timing import Case

from bmi_cdlm.domain.domain import Cells, Domain, Gauges, Links, Reaches
from bmi_cdlm.domain.network import accumulate_downstream, order_reaches
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.network.directions import decode, make_flow
from bmi_cdlm.prepare.network.grid import Grid
from bmi_cdlm.prepare.network.layers import Raster
from bmi_cdlm.prepare.network.network import drain
from bmi_cdlm.prepare.network.network_config import NetworkConfig

BLOCK_BYTES = 64 * 2**20


class Outlet(NamedTuple):
    """Where a basin ends: easting and northing in RGF93 / Lambert-93 [m], and its area [m2]."""

    x: float
    y: float
    area: float


CHARENTE = Outlet(382500.0, 6549500.0, 9936e6)


def make_mesh(outlet: Outlet) -> dict[str, Any]:
    """hydro-smash's mesh of the basin above an outlet, on the flow directions that it carries."""
    from smash.factory import generate_mesh, load_dataset

    return generate_mesh(load_dataset("flwdir"), **outlet._asdict())


def make_domain(mesh: Mapping[str, Any]) -> Domain:
    """The same basin as a domain of ours; the name of a cell is its place in the raster."""
    corner = float(mesh["xmin"]), float(mesh["ymax"]), float(mesh["xres"]), float(mesh["yres"])
    grid = Grid(*corner, *mesh["flwdir"].shape, "EPSG:2154")
    config = NetworkConfig(directions="mesh", encoding="clockwise", areas="map", extent="all")
    raster = Raster(grid, mesh["flwdir"], mesh["active_cell"] == 1, "mesh")
    reaches = drain(config, make_flow(grid, decode(raster, config.encoding), config)).reaches
    row, column = np.array([one.split("_") for one in reaches.id.tolist()], np.int64).T
    places = (row * grid.n_cols + column).tolist()
    return one_cell_per_reach(reaches.downstream, reaches.length, reaches.area, [str(i) for i in places])


def one_cell_per_reach(downstream: np.ndarray, length: np.ndarray, area: np.ndarray, ids: list[str]) -> Domain:
    """A domain with one gauge, at the outlet; reaches in any order come into routing order, and cells with them."""
    n = downstream.size
    order = order_reaches(downstream, ids)
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    below = downstream[order]
    below = np.where(below >= 0, position[below], -1)
    length, area, names, nowhere = length[order], area[order], [ids[i] for i in order], np.zeros(n)
    upstream_area = accumulate_downstream(below, area)
    return Domain(
        Cells(names, nowhere, nowhere, area, area, np.zeros((n, 4)), np.zeros((n, 4)), np.full(n, np.nan),
              np.full(n, np.nan), upstream_area),
        Reaches(names, below, length, nowhere, area, upstream_area, nowhere, nowhere),
        Links(np.arange(n + 1), np.arange(n), area),
        Gauges(["outlet"], ["outlet"], np.array([n - 1]), upstream_area[-1:]),
        order,
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


def smash_case(name: str, model: Any, threads: int) -> Case:
    """One forward run of hydro-smash; it keeps discharge at the gauge."""
    options = {"ncpu": threads, "verbose": False}
    work = int(model.mesh.nac) * int(model.setup.ntime_step)
    return Case(name, "float32", threads, work, lambda: model.forward_run(common_options=options))


class Run:
    """Runs of our model over the whole record, one after another, in blocks; keeps discharge at the gauge.

    Attributes
    ----------
    discharge : float64[time]
        Of the last run [m3 s-1].
    """

    def __init__(self, domain: Domain, forcing: Forcing, threads: int, routing_step: int) -> None:
        self.threads, self.forcing = threads, forcing
        self.model = Model(domain, step=DAY, routing_step=routing_step, threads=threads)
        self.block = self.model.block_length(BLOCK_BYTES, ["gauge_discharge"], more=16 * domain.n_cells)
        self.discharge = np.empty(forcing.precipitation.shape[0])

    def case(self, name: str) -> Case:
        """This run, to be timed."""
        return Case(name, "float64", self.threads, self.forcing.precipitation.size, self)

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


def check_runs(runs: Sequence[Run], cases: Sequence[Case], weather: Weather, peer: Any) -> list[str]:
    """Check that all runs did the same work and that ours is sound; say so in words.

    Raises
    ------
    AssertionError
        Other cells, steps or rain; a discharge that is negative or not finite; a water balance that does not close.
    """
    n_steps, n_cells = weather.precipitation.shape
    assert {case.work for case in cases} == {n_steps * n_cells}, [case.work for case in cases]
    errors = [run.balance_error() for run in runs]
    assert max(errors) < 1e-12, errors
    for run in runs:
        assert np.isfinite(run.discharge).all()
        assert run.discharge.min() >= 0.0
    said = f"Checked: {n_cells} cells x {n_steps} steps in every run"
    if peer is not None:
        rain = np.asarray(peer.atmos_data.prcp)[np.asarray(peer.mesh.active_cell) == 1]
        assert rain.size == weather.precipitation.size
        assert np.isclose(rain.sum(dtype=np.float64), weather.precipitation.sum(dtype=np.float64), rtol=1e-12)
        theirs = np.asarray(peer.response.q)[0]
        assert theirs.size == n_steps
        assert np.isfinite(theirs).all()
        assert theirs.min() >= 0.0
        said += f"; the same rain; mean discharge {runs[0].discharge.mean():.0f} m3/s here, {theirs.mean():.0f} there"
    return [said + f"; discharge finite and not negative; our water balance closes to {max(errors):.1e}."]
