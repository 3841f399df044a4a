"""Routing and its adjoint against Muskingum's recurrence, written anew in torch and differentiated there."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from make_domain import domain_fields, read_fields
from numba import config

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import order_reaches, plan_network, renumbered
from bmi_cdlm.kernels import workers
from bmi_cdlm.model import blocks, reach_operator, route_adjoint
from bmi_cdlm.model.operators import Operators
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.catalogue import choose

torch = pytest.importorskip("torch", reason="torch is not installed")

N_STEPS, N_CELLS = 5, 6
MM_KM2 = 1000.0 / DAY  # 1 mm d-1 on 1 km2 in m3 s-1


def forest(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    below = np.array([i + 1 + int(rng.integers(min(5, n - 1 - i))) if i < n - 2 else -1 for i in range(n)])
    return renumbered(below, order_reaches(below, [f"{i:03d}" for i in range(n)]))


NETWORKS = {
    "a reach": np.array([-1]),
    "two": np.array([1, -1]),
    "star of 20": np.r_[np.full(20, 20), -1],
    "chain of 40": np.r_[np.arange(1, 40), -1],
    "21 basins of a reach": np.full(21, -1),
    "forest of 7": forest(7),
    "forest of 60": forest(60),
}


def made_domain(downstream: np.ndarray) -> Domain:
    """A domain over a network: no, one or two cells to a reach, and a cell that drains to several."""
    rng, n = np.random.default_rng(downstream.size), downstream.size
    link_reach = np.repeat(np.arange(n), rng.integers(0, 3, n) if n > 2 else 1)
    link_cell = np.concatenate([
        rng.choice(N_CELLS, count, replace=False) for count in np.bincount(link_reach, minlength=n)
    ]).astype(np.int64)
    return read_fields(domain_fields(
        downstream, link_cell, link_reach, rng.uniform(0.5, 3.0, link_cell.size), N_CELLS, np.array([n - 1]), rng
    ))


def recurrence(domain: Domain, runoff, travel_time, weighting, state, n_sub: int):
    """Mean discharge of every step, [time, reach], and the state at the end: O = C0 I + C1 I' + C2 O' [Cunge 1969]."""
    seconds = DAY / n_sub
    x = torch.minimum(weighting, torch.minimum(seconds / (2 * travel_time), 1 - seconds / (2 * travel_time)))
    D = 2 * travel_time * (1 - x) + seconds
    C0, C1 = (seconds - 2 * travel_time * x) / D, (seconds + 2 * travel_time * x) / D
    C2 = (2 * travel_time * (1 - x) - seconds) / D
    links, below = domain.links, domain.reaches.downstream
    ready, discharge = list(state), []  # ready: what is determined of the next outflow, C1 I' + C2 O'
    for t in range(runoff.shape[0]):
        total = [torch.zeros((), dtype=runoff.dtype)] * below.size
        for _ in range(n_sub):
            flow = [torch.zeros((), dtype=runoff.dtype)] * below.size
            for i in range(below.size):
                for link in range(links.first[i], links.first[i + 1]):
                    flow[i] = flow[i] + runoff[t, links.cell[link]] * links.area[link] * MM_KM2
                out = C0[i] * flow[i] + ready[i]
                ready[i] = C1[i] * flow[i] + C2[i] * out
                total[i] = total[i] + out / n_sub
                if below[i] >= 0:
                    flow[below[i]] = flow[below[i]] + out
        discharge.append(torch.stack(total))
    return torch.stack(discharge), torch.stack(ready)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("n_sub", [1, 2, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_are_those_of_the_recurrence(monkeypatch, name, n_sub, narrow):
    """For chunks of some reaches and blocks of two steps; every input, the state at the start included."""
    monkeypatch.setattr(workers, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(reach_operator, "plan_network", partial(plan_network, smallest_piece=5))
    monkeypatch.setattr(blocks, "NARROW", 1024 if narrow else 0)
    monkeypatch.setattr(route_adjoint, "block_steps", lambda *_: 2)
    monkeypatch.setattr(route_adjoint, "CHUNK", 9)
    monkeypatch.setattr(route_adjoint, "SMALLEST_CHUNK", 1)
    domain, rng = made_domain(NETWORKS[name]), np.random.default_rng(3)
    below = domain.reaches.downstream
    n = below.size
    assert ((below < 0) | (below > np.arange(n))).all(), "reaches come in the order of the water"
    inputs = {
        "runoff": rng.uniform(0.5, 9.0, (N_STEPS, N_CELLS)),
        # Shorter than half a sub-step, about one, and much longer: each branch of the limited weighting.
        "travel_time": rng.choice([0.3, 0.9, 6.0], n) * rng.uniform(0.9, 1.1, n) * DAY / n_sub,
        "weighting": rng.uniform(0.05, 0.45, n), "state": rng.uniform(0.0, 3.0, n),
    }
    slope, state_slope = rng.normal(size=(N_STEPS, n)), rng.normal(size=n)

    leaves = {key: torch.tensor(values, requires_grad=True) for key, values in inputs.items()}
    discharge, ready = recurrence(domain, *leaves.values(), n_sub)
    ((discharge * torch.tensor(slope)).sum() + (ready * torch.tensor(state_slope)).sum()).backward()

    ops = Operators(choose(), domain, DAY, DAY // n_sub, np.float64, threads=1 if config.DISABLE_JIT else 2)
    p = ops.reach.prepare({key: inputs[key] for key in ("travel_time", "weighting")})
    state, state_adj = inputs["state"].copy(), state_slope.copy()
    found, record = ops.reach.run(inputs["runoff"], p, state, np.arange(n))
    runoff_adj, p_adj = ops.reach.reverse(record, slope, state_adj)
    gradients = {"runoff": runoff_adj, "state": state_adj, **ops.reach.prepare_adjoint(p, p_adj)}
    ops.close()
    np.testing.assert_allclose(found, discharge.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state, ready.detach().numpy(), rtol=1e-12, atol=1e-12)
    for key, leaf in leaves.items():
        expected = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        np.testing.assert_allclose(
            gradients[key], expected, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(expected).max()), err_msg=key
        )


def test_reaches_are_asked_for_in_any_order_and_twice():
    """Their columns are those of the whole; slopes of one that is asked for twice add up."""
    domain, rng = made_domain(NETWORKS["forest of 60"]), np.random.default_rng(4)
    n, asked = 60, np.array([41, 7, 59, 7])
    runoff = rng.uniform(0.5, 9.0, (N_STEPS, N_CELLS))
    ops = Operators(choose(), domain, DAY, DAY // 2, np.float64)
    p = ops.reach.prepare({"travel_time": rng.uniform(1e3, 1e5, n), "weighting": np.full(n, 0.2)})
    every, whole = ops.reach.run(runoff, p, np.zeros(n), np.arange(n))
    some, record = ops.reach.run(runoff, p, np.zeros(n), asked)
    assert some.tobytes() == every[:, asked].tobytes()
    slope, all_slopes = rng.normal(size=some.shape), np.zeros(every.shape)
    np.add.at(all_slopes.T, asked, slope.T)
    (runoff_adj, p_adj), (expected, p_expected) = (
        ops.reach.reverse(one, slopes, np.zeros(n)) for one, slopes in ((record, slope), (whole, all_slopes))
    )
    ops.close()
    assert runoff_adj.tobytes() == expected.tobytes() and np.count_nonzero(runoff_adj) > runoff_adj.size / 2
    assert all(a.tobytes() == b.tobytes() for a, b in zip(p_adj, p_expected, strict=True))
