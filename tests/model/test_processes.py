"""Models of processes that others wrote: interpreted as compiled, saved with components, all water accounted for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_domain import part_of, random_domain, random_forcing
from numba import config
from process_cases import BESIDE, HBV, RESERVOIRS, VARYING, WINDY, installed

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.files.restart import Restart, read_restart, write_restart
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.declaration import CellProcess
from bmi_cdlm.names.parameters import parameter
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import known

TESTS = Path(__file__).resolve().parents[1]
CHAINS: dict[str, dict[str, Any]] = {
    "gr4j, reservoirs": {"routing": "reservoirs", "snow": "cemaneige", "components": {"gr4j": 3}},
    "three stages": {"runoff": "three_stages", "routing": "reservoirs"},
    "three stages, components": {"runoff": "three_stages", "components": {"three_stages": 2}},
    "beside a queue": {"runoff": "beside_a_queue", "snow": "cemaneige_hysteresis", "routing": "reservoirs"},
    "beside a queue, components": {
        "runoff": "beside_a_queue", "snow": "cemaneige_hysteresis",
        "components": {"beside_a_queue": 3, "cemaneige_hysteresis": 2},
    },
}
N_STEPS = 9
CHAINS |= {
    "hbv": {"runoff": "hbv_2_0", "routing": "muskingum_cunge"},
    "hbv, components": {
        "runoff": "hbv_2_0", "components": {"hbv_2_0": 4}, "routing": "muskingum_cunge_shaped",
    },
    "undercatch": {"precipitation": "undercatch", "snow": "cemaneige_hysteresis"},
    "undercatch, components": {"precipitation": "undercatch", "components": {"undercatch": 2, "gr4j": 3}},
    "undercatch, hbv": {"precipitation": "undercatch", "runoff": "hbv_2_0"},
    "a ledger of snow": {"precipitation": "undercatch", "snow": "windy_snow"},
    "a ledger of snow, components": {
        "snow": "windy_snow", "runoff": "beside_a_queue", "components": {"windy_snow": 2, "beside_a_queue": 3},
    },
}
every_chain = pytest.mark.parametrize("name", CHAINS)


@pytest.fixture(autouse=True)
def processes():
    with installed(HBV, BESIDE, WINDY, RESERVOIRS):
        known()
        yield


@pytest.fixture
def domain() -> Domain:
    return random_domain(5, 25, 12)


def make(domain: Domain, name: str, step: int = DAY, **options: Any) -> Model:
    """A model with every parameter at random, another set for each component, and what may vary varying."""
    runoff = CHAINS[name].get("runoff", "gr4j")
    options = {"step": step, "routing_step": step // 4, "varying": VARYING[runoff], "ledger": True, **options}
    model = Model(domain, **CHAINS[name], **options)
    rng, drawn = np.random.default_rng(2), {}
    for n, values in model.parameters.items():
        r = parameter(n).range_at(step)
        drawn[n] = rng.uniform(r.low, r.high, values.shape)
    if "regional_exchange_capacity" in drawn:  # else nothing is left to run off
        drawn["regional_exchange_capacity"][..., ::2] = 0.0
        drawn["regional_exchange_capacity"] *= 0.01
    model.close()
    return Model(domain, drawn, **CHAINS[name], **options)


def forcing_of(name: str, n_cells: int, step: int = DAY) -> Forcing:
    rng, series = np.random.default_rng(4), {}
    for n in VARYING[CHAINS[name].get("runoff", "gr4j")]:
        r = parameter(n).range_at(step)
        series[n] = rng.uniform(r.low, r.high, (N_STEPS, n_cells))
    return random_forcing(6, N_STEPS, n_cells)._replace(varying=series)


def everything(model: Model, forcing: Forcing) -> dict[str, np.ndarray]:
    """All series, and all that is there at the end."""
    fluxes = [n for p in model.chain.cells for n in p.fluxes] + ["discharge", "lateral_inflow"]
    found = {f"series {n}": a.copy() for n, a in model.advance(forcing, fluxes).items()}
    return found | {f"end {n}": a.copy() for n, a in (model.live | model.state.arrays()).items()}


def assert_same_bits(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for n, values in ours.items():
        assert (values.shape, values.tobytes()) == (theirs[n].shape, theirs[n].tobytes()), n


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> Path:
    """A folder with what a process with NUMBA_DISABLE_JIT=1 makes of every chain, daily and hourly."""
    folder = tmp_path_factory.mktemp("interpreted")
    script = f"""
import numpy as np
from make_domain import random_domain
from process_cases import BESIDE, HBV, RESERVOIRS, WINDY, installed
from bmi_cdlm.processes.catalogue import known
from test_processes import CHAINS, everything, forcing_of, make
with installed(HBV, BESIDE, WINDY, RESERVOIRS):
    known()
    domain = random_domain(5, 25, 12)
    for name in CHAINS:
        for step in ({DAY}, {HOUR}):
            np.savez(f"{{name}} {{step}}.npz", **everything(make(domain, name, step), forcing_of(name, 12, step)))
"""
    path = os.pathsep.join([str(Path(__file__).parent), str(TESTS), str(TESTS.parent)])
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, cwd=folder, timeout=240,
        env=os.environ | {"PYTHONPATH": path, "NUMBA_DISABLE_JIT": "1"},
    )
    return folder


@pytest.mark.skipif(config.DISABLE_JIT, reason="compares with the compiled model")
@pytest.mark.parametrize("step", [DAY, HOUR], ids=["daily", "hourly"])
@every_chain
def test_compiled_and_interpreted_give_the_same_bits(interpreted, domain, name, step):
    with np.load(interpreted / f"{name} {step}.npz") as found:
        assert_same_bits(everything(make(domain, name, step), forcing_of(name, 12, step)), dict(found))


@every_chain
def test_a_file_in_the_middle_changes_no_bit(tmp_path, domain, name):
    """The state of every component, and of reaches whose state is a volume."""
    forcing = forcing_of(name, 12)
    whole = everything(make(domain, name), forcing)
    for at in (1, 4, 8):
        first, second = make(domain, name), make(domain, name)
        first.advance(part_of(forcing, 0, at))
        reach = {**first.state.on_reaches(), "reach_storage": first.reach_volume}
        write_restart(tmp_path / "r.nc", Restart(
            first.state.on_cells(), reach, domain.cells.id, domain.reaches.id, {}, np.datetime64("2001-01-01T00:00:00")
        ))
        restart = read_restart(tmp_path / "r.nc", domain.cells.id, domain.reaches.id)
        second.restore(restart.cell, restart.reach)
        for n, values in first.state.arrays().items():
            assert second.state.arrays()[n].tobytes() == values.tobytes(), n
        late = everything(second, part_of(forcing, at, N_STEPS))
        rest = {n: np.ascontiguousarray(a[at:]) if n.startswith("series") else a for n, a in whole.items()}
        assert_same_bits(rest, late)


@every_chain
@pytest.mark.parametrize("step", [DAY, HOUR], ids=["daily", "hourly"])
def test_all_water_is_accounted_for(domain, name, step):
    model, forcing = make(domain, name, step), forcing_of(name, 12, step)
    model.fill_rivers(part_of(forcing, 0, 3))
    for first, last in ((0, 1), (1, 2), (2, N_STEPS)):
        model.advance(part_of(forcing, first, last))
        model.ledger.check(1e-12, model.state, model.live, f"step {last}")
    for n in ("evapotranspiration_total", "runoff_total", "precipitation_total"):
        assert (model.live[n] > 0.0).any(), n
    stored = model.live["water_stored"][0]
    assert stored > 0.0 and model.live["water_out"][0] > 0.0
    for process in model.chain.cells:
        for n, store in process.stores.items():
            low, high = store.bounds
            assert (model.live[n] >= low).all() and (model.live[n] <= high).all(), n


@every_chain
def test_a_ledger_sees_water_that_is_put_into_any_store_behind_its_back(domain, name):
    """One store after the other, of every component: otherwise it would be in no balance."""
    forcing = forcing_of(name, 12)
    for process in make(domain, name).chain.cells:
        assert isinstance(process, CellProcess)
        for n in [*(n for n, s in process.stores.items() if s.holds_water), *process.queues]:
            model = make(domain, name)
            model.advance(part_of(forcing, 0, 2))
            group = next(g for g in model.state.cells if n in g._fields)
            getattr(group, n)[..., 3] += 0.5
            model.refresh()
            residual = model.live["cell_water_residual"]
            assert abs(residual[3]) > 0.1 and (np.abs(np.delete(residual, 3)) < 1e-9).all(), n
            model.close()


@every_chain
def test_threads_give_the_same_bits(domain, name, monkeypatch):
    monkeypatch.setattr("bmi_cdlm.kernels.workers.WORTH_A_THREAD", 0)
    forcing = forcing_of(name, 12)
    one = everything(make(domain, name), forcing)
    for threads in (2, 3):
        model = make(domain, name, threads=threads)
        assert_same_bits(everything(model, forcing), one)
        model.close()


def test_steady_reservoirs_stay_as_they_are(domain):
    """Filled for a runoff of 2 mm d-1, they discharge the sum upstream while it lasts."""
    model = make(domain, "three stages")
    flow = domain.reaches.upstream_area * 2 / 86.4
    model.state.reach[:] = model.operators.reach.steady(model._given.reach, flow)
    held = model.reach_volume.copy()
    b = model._workspace.fresh(5, ("discharge",))
    model._routing.route(np.full((5, domain.n_cells), 2.0), model.reach_parameters, model.state, b)
    np.testing.assert_allclose(b.discharge.values, np.repeat(flow[:, None], 5, axis=1), rtol=1e-11)
    np.testing.assert_allclose(model.reach_volume, held, rtol=1e-11)
    assert held.max() > 1e3
