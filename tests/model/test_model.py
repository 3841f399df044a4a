"""The whole chain over a random network: the same bits however it is run, and no water lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from make_domain import (
    domain_fields,
    lumped_domain,
    part_of,
    random_domain,
    random_forcing,
    random_parameters,
    write_domain,
)
from numba import config, types

import bmi_cdlm.model.model as model_module
from bmi_cdlm.domain.domain import Cells, Domain, read_domain
from bmi_cdlm.domain.network import plan_network
from bmi_cdlm.files.restart import Restart, read_restart, write_restart
from bmi_cdlm.kernels import workers
from bmi_cdlm.kernels.launch import callee, compiled, new_root
from bmi_cdlm.kernels.loops import queues
from bmi_cdlm.kernels.loops.routing import steady_flow
from bmi_cdlm.model import blocks, cell_operator, reach_operator
from bmi_cdlm.model.checks import check_steps
from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.names.declaration import RUNOFF
from bmi_cdlm.names.errors import ConfigError, DomainError, ParameterError, UnknownNameError
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.catalogue import choose

SNOWS = ("none", "cemaneige", "cemaneige_hysteresis")
REACHES = ("discharge", "lateral_inflow", "gauge_discharge")
SIZE = {"n_reaches": 40, "n_cells": 20} if config.DISABLE_JIT else {"n_reaches": 300, "n_cells": 300}
N_STEPS = 6 if config.DISABLE_JIT else 23
TESTS = Path(__file__).resolve().parents[1]

both_steps = pytest.mark.parametrize("step", [DAY, HOUR], ids=["daily", "hourly"])
every_snow = pytest.mark.parametrize("snow", SNOWS)


@pytest.fixture(scope="module")
def domain() -> Domain:
    return random_domain(1, **SIZE)


@pytest.fixture(scope="module")
def forcing(domain) -> Forcing:
    return random_forcing(2, N_STEPS, domain.n_cells)


def make(domain, step, snow, threads=1, routing_step=HOUR) -> Model:
    return Model(
        domain, random_parameters(3, domain, step), step=step, routing_step=min(step, routing_step), snow=snow,
        threads=threads,
    )


def kept(model) -> tuple[str, ...]:
    """Every flux that a block can keep."""
    return (*REACHES, *(name for process in model.chain.cells for name in process.fluxes if name in model.live))


def everything(model: Model) -> dict[str, np.ndarray]:
    """Copies of the state and of all live values."""
    return {k: v.copy() for k, v in (model.state.arrays() | model.live).items()}


def assert_same_bits(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        assert values.shape == theirs[name].shape, name
        assert values.tobytes() == theirs[name].tobytes(), name


def in_one_batch(model, forcing):
    out = model.advance(forcing, keep=kept(model))
    return {k: v.copy() for k, v in out.items()}, everything(model)


def in_chunks(model, forcing, lengths):
    parts, first = [], 0
    for length in lengths:
        out = model.advance(part_of(forcing, first, first + length), keep=kept(model))
        parts.append({k: v.copy() for k, v in out.items()})
        first += length
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, everything(model)


@both_steps
@every_snow
def test_a_batch_single_steps_and_random_chunks_give_the_same_bits(domain, forcing, step, snow):
    series, end = in_one_batch(make(domain, step, snow), forcing)
    assert all(np.isfinite(v).all() for v in (series | end).values())
    assert series["discharge"].std(axis=0).max() > 0
    rng = np.random.default_rng(4)
    for lengths in ([1] * N_STEPS, np.diff(np.r_[0, np.sort(rng.choice(np.arange(1, N_STEPS), 3, False)), N_STEPS])):
        chunked, chunked_end = in_chunks(make(domain, step, snow), forcing, lengths)
        assert_same_bits(series, chunked)
        assert_same_bits(end, chunked_end)


@both_steps
@every_snow
def test_threads_and_cuts_give_the_same_bits(domain, forcing, step, snow, monkeypatch):
    expected = in_one_batch(make(domain, step, snow), forcing)
    monkeypatch.setattr(model_module, "plan_network", partial(plan_network, smallest_piece=2))
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    for threads in (2, 3):
        model = make(domain, step, snow, threads)
        assert len(model.operators.reach.network.trunk) > 2 and len(model.workers.tasks(domain.n_cells)) > 3
        for ours, theirs in zip(in_one_batch(model, forcing), expected, strict=True):
            assert_same_bits(ours, theirs)
        assert model.workers._pool is not None, "no thread was used"
        model.close()


def long_river(tributary: int) -> Domain:
    """A main stem of 60 reaches, each with a tributary of so many reaches one after another."""
    rng = np.random.default_rng(8)
    stem = np.r_[np.arange(1, 60), -1]
    chains = np.arange(60, 60 + 60 * tributary).reshape(60, tributary)
    below = np.r_[stem, np.column_stack([chains[:, 1:], np.arange(60)]).ravel()]
    n = below.size
    fields = domain_fields(
        below, rng.integers(0, SIZE["n_cells"], n), np.arange(n), rng.uniform(0.5, 1.5, n), SIZE["n_cells"],
        np.array([3, 40]), rng,
    )
    with tempfile.TemporaryDirectory() as folder:
        return read_domain(write_domain(Path(folder) / "domain.nc", fields))


@pytest.mark.parametrize("length", [1, 3, N_STEPS])
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("tributary", [1, 8])
def test_a_long_river_on_threads_gives_the_same_bits(forcing, monkeypatch, threads, length, tributary):
    """Its trunk is most of it, and its parts follow each other in time; or its tributaries go beside."""
    river = long_river(tributary)
    monkeypatch.setattr(model_module, "plan_network", partial(plan_network, smallest_piece=8))
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    lengths = [min(length, N_STEPS - first) for first in range(0, N_STEPS, length)]
    one, many = make(river, DAY, "none"), make(river, DAY, "none", threads)
    plan = many.operators.reach.network
    assert len(plan.trunk) > threads and plan.n_cuts == (threads if tributary == 1 else 1)
    for ours, theirs in zip(in_chunks(many, forcing, lengths), in_one_batch(one, forcing), strict=True):
        assert_same_bits(ours, theirs)
    many.close()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("tributary", [1, 8])
def test_a_long_river_on_threads_has_the_same_gradients(forcing, monkeypatch, threads, tributary):
    river = long_river(tributary)
    monkeypatch.setattr(reach_operator, "plan_network", partial(plan_network, smallest_piece=8))
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    gradients = []
    for model in (make(river, DAY, "none"), make(river, DAY, "none", threads)):
        discharge = model.record(forcing)
        gradients.append(model.adjoint(np.random.default_rng(0).uniform(0, 1, discharge.shape)))
        model.close()
    for one, many in zip(gradients[0].parameters.values(), gradients[1].parameters.values(), strict=True):
        assert one.any() and (one == many).all()


@every_snow
@pytest.mark.parametrize("names", [(), ("discharge",), ("lateral_inflow", "runoff", "percolation")], ids=str)
@pytest.mark.parametrize("places", [None, np.array([3, 1, 4, 1])], ids=["all", "some"])
def test_a_block_takes_the_memory_that_is_stated(domain, snow, names, places):
    model = make(domain, DAY, snow)

    def size(n_steps: int) -> int:
        b = model._workspace.fresh(n_steps, names, places)
        flat = (*b._on_cells(), b.lateral_inflow.values, b.discharge.values, b.hydrographs)
        return sum(a.nbytes for a in flat)

    per_step = size(3) - size(2)
    assert per_step == size(9) - size(8)
    for n_steps in (2, 5, 9):
        assert model.block_length(n_steps * per_step, names, places) == n_steps
        assert model.block_length(n_steps * (per_step + 80) - 1, names, places, more=80) == n_steps - 1


@pytest.mark.parametrize("snow", ["none"])
def test_series_of_chosen_reaches_are_those_of_all(domain, forcing, snow):
    names = ("discharge", "lateral_inflow", "gauge_discharge", "runoff")
    places = np.array([7, 2, 2, domain.n_reaches - 1])
    for length in (1, 4, N_STEPS):
        some, every = make(domain, DAY, snow), make(domain, DAY, snow)
        for first in range(0, N_STEPS, length):
            part = part_of(forcing, first, min(first + length, N_STEPS))
            chosen, whole = some.advance(part, names, places), every.advance(part, names)
            for name, values in chosen.items():
                expected = whole[name] if name in ("gauge_discharge", "runoff") else whole[name][:, places]
                np.testing.assert_array_equal(values, expected, err_msg=name)


@every_snow
@pytest.mark.parametrize("width", [1, 7, 64, 256])
def test_tiles_of_any_width_give_the_same_bits(domain, forcing, snow, width):
    expected = in_one_batch(make(domain, DAY, snow), forcing)
    model = make(domain, DAY, snow)
    n = domain.n_cells
    for operator in model.operators.cells:
        operator._tasks = [(lo, min(lo + width, n), 0) for lo in range(0, n, width)]
    for ours, theirs in zip(in_one_batch(model, forcing), expected, strict=True):
        assert_same_bits(ours, theirs)


@both_steps
@every_snow
def test_loops_of_small_and_of_large_domains_give_the_same_bits(domain, forcing, step, snow, monkeypatch):
    found = []
    for least in (0, 10**6):
        monkeypatch.setattr(blocks, "NARROW", least)
        for run in (in_one_batch, partial(in_chunks, lengths=[1] * N_STEPS), quietly):
            found.append(run(make(domain, step, snow, routing_step=step), forcing))
            found.append(run(make(domain, step, snow), forcing))
    assert blocks.NARROW != 0
    for large, small in zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True):
        for ours, theirs in zip(large, small, strict=True):
            assert_same_bits(ours, theirs)


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_what_a_queue_calls_is_compiled_for_numbers_alone(domain, forcing, kernel_cache, monkeypatch):
    """Where numba takes the head of a queue for a literal at first, it compiles all of it twice."""
    monkeypatch.setattr(cell_operator, "compiled", new_root)
    for kept in (True, False):
        (in_one_batch if kept else quietly)(make(domain, DAY, "none"), forcing)
    kinds = [kind for f in (queues.advance_queue, queues.unroll_queue) for key in callee(f).overloads for kind in key]
    assert kinds and not [kind for kind in kinds if isinstance(kind, types.Literal)]


def quietly(model, forcing):
    """Of a block of which no flux is kept: only the last step's are told."""
    model.advance(forcing)
    return {}, everything(model)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> Path:
    """A folder with the small runs of a process with NUMBA_DISABLE_JIT=1."""
    folder = tmp_path_factory.mktemp("interpreted")
    script = f"""
import numpy as np
from test_model import SNOWS, small_run
for step in ({DAY}, {HOUR}):
    for snow in SNOWS:
        np.savez(f"{{snow}} {{step}}.npz", **small_run(step, snow))
"""
    path = os.pathsep.join([str(Path(__file__).parent), str(TESTS), str(TESTS.parent)])
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, cwd=folder, timeout=240,
        env=os.environ | {"PYTHONPATH": path, "NUMBA_DISABLE_JIT": "1"},
    )
    return folder


def small_run(step: int, snow: str) -> dict[str, np.ndarray]:
    """All series of five steps, and all that is there at the end."""
    series, end = in_one_batch(make(random_domain(5, 25, 12), step, snow), random_forcing(6, 5, 12))
    return {"series " + k: v for k, v in series.items()} | {"end " + k: v for k, v in end.items()}


@pytest.mark.skipif(config.DISABLE_JIT, reason="compares with the compiled model")
@both_steps
@every_snow
def test_compiled_and_interpreted_give_the_same_bits(interpreted, step, snow):
    """The same small run in this process and in one that compiles nothing."""
    with np.load(interpreted / f"{snow} {step}.npz") as found:
        assert_same_bits(small_run(step, snow), dict(found))


def save(model: Model, path: Path) -> Path:
    reach = {**model.state.on_reaches(), "reach_storage": model.reach_volume}
    ids = model.domain.cells.id, model.domain.reaches.id
    write_restart(path, Restart(model.state.on_cells(), reach, *ids, {}, np.datetime64("2012-08-01T00:00:00")))
    return path


def restore(model: Model, path: Path) -> None:
    restart = read_restart(path, model.domain.cells.id, model.domain.reaches.id)
    model.restore(restart.cell, restart.reach)


@both_steps
@every_snow
def test_a_restart_at_any_step_goes_on_with_the_same_bits(domain, forcing, step, snow, tmp_path):
    series, end = in_one_batch(make(domain, step, snow), forcing)
    for at in sorted({1, N_STEPS // 3, N_STEPS // 2, N_STEPS - 1}):
        first = make(domain, step, snow)
        first.advance(part_of(forcing, 0, at))
        second = make(domain, step, snow)
        restore(second, save(first, tmp_path / "restart.nc"))
        out = second.advance(part_of(forcing, at, N_STEPS), keep=kept(second))
        assert_same_bits({k: v[at:].copy() for k, v in series.items()}, {k: v.copy() for k, v in out.items()})
        assert_same_bits(end, everything(second))


def test_a_restart_with_other_routing_keeps_the_water(domain, forcing, tmp_path):
    """V = y * storage_time is kept when K, x or the sub-step change [SPEC 4.1]."""
    first = make(domain, DAY, "none")
    first.advance(forcing)
    path = save(first, tmp_path / "restart.nc")
    changed = random_parameters(3, domain) | {"celerity": np.full(domain.n_reaches, 0.7), "weighting": np.array(0.1)}
    second = Model(domain, changed, routing_step=DAY)
    restore(second, path)
    np.testing.assert_allclose(second.live["reach_storage"], first.live["reach_storage"], rtol=1e-15)
    assert second.live["water_stored"][0] == pytest.approx(first.live["water_stored"][0], rel=1e-14)


@both_steps
@every_snow
@pytest.mark.parametrize("routing_step", [900, HOUR, DAY])
def test_no_water_is_lost_or_made(domain, forcing, step, snow, routing_step):
    """in - out + exchanged = change of storage, of the whole network, from its live totals [m3]."""
    model = make(domain, step, snow, routing_step=routing_step)
    model.fill_rivers(part_of(forcing, 0, 2))
    before = model.live["water_stored"][0]
    for first, last in ((0, 1), (1, 2), (2, N_STEPS // 2), (N_STEPS // 2, N_STEPS)):
        model.advance(part_of(forcing, first, last))
        total = {k: model.live[k][0] for k in ("water_in", "water_out", "water_exchanged", "water_stored")}
        residual = total["water_in"] - total["water_out"] + total["water_exchanged"] - (total["water_stored"] - before)
        assert abs(residual) <= 1e-12 * (total["water_in"] + before)
    area = model.domain.cells.drained_area
    rain = (forcing.precipitation.sum(axis=0) * step / DAY * area).sum() * 1000
    assert total["water_in"] == pytest.approx(rain, rel=1e-12)


@every_snow
def test_live_arrays_are_allocated_once(domain, forcing, snow):
    model = make(domain, DAY, snow)
    addresses = {name: values.ctypes.data for name, values in model.live.items()}
    assert set(addresses) == {v.short for v in model.outputs}
    assert all(model.live[v.short].shape == (model.size_of(v.grid),) for v in model.outputs)
    model.fill_rivers(part_of(forcing, 0, 2))
    model.advance(forcing)
    model.advance(part_of(forcing, 0, 1))
    before = {name: values.copy() for name, values in model.live.items()}
    model.advance(part_of(forcing, 1, 2))
    assert addresses == {name: values.ctypes.data for name, values in model.live.items()}
    of_snow = {name for process in model.chain.cells[:-1] for name in (*process.stores, *process.fluxes)}
    for v in model.outputs:  # on a warm day snow stays as it is
        if v.short not in of_snow and "added" not in v.short:
            assert (before[v.short] != model.live[v.short]).any(), v.short


def test_steady_rivers_stay_as_they_are(domain):
    """Rivers filled for a runoff of 2 mm d-1: Q is the sum upstream, and stays while the runoff lasts."""
    model = make(domain, DAY, "none")
    area = domain.cells.drained_area
    lateral = np.bincount(
        np.repeat(np.arange(domain.n_reaches), np.diff(domain.links.first)), weights=domain.links.area * 2 / 86.4,
        minlength=domain.n_reaches,
    )
    flow = np.empty(domain.n_reaches)
    compiled(steady_flow)(model.operators.reach.network.network, lateral, flow)
    np.testing.assert_allclose(flow, domain.reaches.upstream_area * 2 / 86.4, rtol=1e-12)
    assert flow[domain.outlets].sum() == pytest.approx(area.sum() * 2 / 86.4, rel=1e-12)
    model.state.reach[:] = model.operators.reach.steady(model._given.reach, flow)
    b = model._workspace.fresh(5, ("discharge",))
    model._routing.route(np.full((5, domain.n_cells), 2.0), model.reach_parameters, model.state, b)
    np.testing.assert_allclose(b.discharge.values, np.repeat(flow[:, None], 5, axis=1), rtol=1e-13)


def test_filling_the_rivers_leaves_the_cells_and_starts_the_ledger(domain, forcing):
    model = make(domain, DAY, "cemaneige")
    model.advance(part_of(forcing, 0, 2))
    before = model.state.copy()
    flow = make(domain, DAY, "cemaneige")
    flow.state.assign(before.arrays())
    runoff = flow.advance(forcing, keep=("runoff",))["runoff"].mean(axis=0)
    model.fill_rivers(forcing)
    for group, was in zip(model.state.cells, before.cells, strict=True):
        for now, then in zip(group, was, strict=True):
            assert np.array_equal(now, then)
    assert not any(t.any() for t in (*model.state.totals, model.state.outflow_total))
    outlets = domain.outlets
    expected = (runoff * domain.cells.drained_area).sum() / 86.4
    assert model.live["discharge"][outlets].sum() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(model.live["gauge_discharge"], model.live["discharge"][domain.gauges.reach])
    assert not model.live["runoff"].any() and model.live["water_in"][0] == 0


def test_discharge_of_a_lumped_basin_is_its_runoff():
    """One cell of 1 km2, a reach of no length: 1 mm d-1 is 1 / 86.4 m3 s-1; runoff_depth is in m per step."""
    forcing = random_forcing(0, 30, 1)
    model = Model(lumped_domain())
    out = model.advance(forcing, keep=("runoff", "discharge"))
    np.testing.assert_allclose(out["discharge"], out["runoff"] / 86.4, rtol=1e-14)
    assert model.live["runoff_depth"][0] == pytest.approx(out["runoff"][-1, 0] / 1000, rel=1e-14)
    hourly = Model(lumped_domain(), step=HOUR)
    hourly.advance(forcing)
    assert hourly.live["runoff_depth"][0] == pytest.approx(hourly.live["runoff"][0] / 24000, rel=1e-14)


def test_runoff_goes_where_the_links_say(domain):
    rng = np.random.default_rng(0)
    model = make(domain, DAY, "none")
    b = model._workspace.fresh(3, ("runoff", "lateral_inflow"))
    runoff = b.given[RUNOFF]
    runoff[:] = rng.exponential(2.0, runoff.shape)
    model._routing.route(runoff, model.reach_parameters, model.state, b)
    for i in range(domain.n_reaches):
        links = slice(domain.links.first[i], domain.links.first[i + 1])
        cells, area = domain.links.cell[links], domain.links.area[links]
        expected = (runoff[:, cells] * area).sum(axis=1) * 1000 / 86400
        np.testing.assert_allclose(b.lateral_inflow.values[i], expected, rtol=1e-13, atol=0)


def test_travel_time_takes_the_place_of_length_over_celerity(domain):
    celerity = np.full(domain.n_reaches, 0.8)
    by_celerity = Model(domain, {"celerity": celerity})
    np.testing.assert_array_equal(by_celerity.travel_time, domain.reaches.length / 0.8)
    K = np.linspace(0, 1e5, domain.n_reaches)
    given = Model(domain, {"celerity": celerity, "travel_time": K})
    np.testing.assert_array_equal(given.travel_time, K)
    storage_times = [model._given.reach.symbols["storage_time"] for model in (given, by_celerity)]
    assert (storage_times[0] != storage_times[1]).any()


def test_spread_of_the_travel_time_is_the_area_weighted_mean_over_paths(domain):
    """Brute force: the path from every reach above, itself included, to the end of each reach."""
    model = make(domain, DAY, "none")
    K, below = model.travel_time, domain.reaches.downstream
    weight, moment = np.zeros(domain.n_reaches), np.zeros(domain.n_reaches)
    for start in range(domain.n_reaches):
        i, total = start, 0.0
        while i >= 0:
            total += K[i]
            weight[i] += domain.reaches.area[start]
            moment[i] += domain.reaches.area[start] * total
            i = below[i]
    mean, spread = model.travel_time_spread()
    drained = weight > 0
    np.testing.assert_allclose(mean[drained], moment[drained] / weight[drained], rtol=1e-10)
    assert (spread >= 0).all()


@pytest.mark.parametrize(("step", "routing_step", "message"), [
    (10800, 3600, r"time_step is 10800 s, expected 86400 s \(1 d\) or 3600 s \(1 h\)"),
    (DAY, 7000, r"routing_step is 7000 s, expected a divisor of the time step of 86400 s"),
    (HOUR, DAY, r"routing_step is 86400 s, expected a divisor of the time step of 3600 s"),
    (DAY, 0, r"routing_step is 0 s"), (DAY, -3600, r"routing_step is -3600 s"),
])
def test_steps_that_are_not_offered(step, routing_step, message):
    with pytest.raises(ConfigError, match=message):
        check_steps(choose("none"), step, routing_step)
    with pytest.raises(ConfigError, match=message):
        Model(lumped_domain(), step=step, routing_step=routing_step)


@pytest.mark.parametrize(("components", "message"), [
    ({"gr5j": 2}, r"no process 'gr5j' of cells here\. Did you mean 'gr4j'\? There are: gr4j"),
    ({"gr4j": 0}, r"'gr4j' has 0, expected a whole number of parameter sets, 1 or more"),
    ({"gr4j": 1.5}, r"'gr4j' has 1\.5, expected a whole number"),
])
def test_components_that_cannot_be(components, message):
    with pytest.raises(ConfigError, match=message):
        Model(lumped_domain(), components=components)


def test_parameters_that_cannot_be(domain):
    with pytest.raises(UnknownNameError, match=r"no parameter 'celerty'\. Did you mean 'celerity'\?"):
        Model(domain, {"celerty": np.ones(domain.n_reaches)})
    with pytest.raises(ParameterError, match=r"'celerity' has shape \(3,\), expected .*reach"):
        Model(domain, {"celerity": np.ones(3)})
    with pytest.raises(ParameterError, match=r"'weighting' is 0\.6 at index 0 .*expected a number from 0 to 0\.5"):
        Model(domain, {"weighting": np.array(0.6)})
    with pytest.raises(ParameterError, match=r"'unit_hydrograph_base' is nan at index 1 \(1 of 2 values are bad\)"):
        Model(lumped_domain(2), {"unit_hydrograph_base": np.array([1.0, np.nan])})
    with pytest.raises(ParameterError, match=r"'travel_time' is -1\.0 at index 0"):
        Model(lumped_domain(), {"travel_time": np.array([-1.0])})


@pytest.mark.parametrize("snow", SNOWS[1:])
def test_snow_needs_the_mean_annual_snowfall(snow):
    domain = lumped_domain()
    cells = Cells(**{**domain.cells._asdict(), "mean_annual_snowfall": np.array([np.nan])})
    Model(domain._replace(cells=cells))
    with pytest.raises(DomainError, match=r"'mean_annual_snowfall' \[mm yr-1\] is missing in the domain"):
        Model(domain._replace(cells=cells), snow=snow)
