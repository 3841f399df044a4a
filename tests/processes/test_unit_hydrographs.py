"""Unit hydrographs: four steps at once give the bits of one by one, for any number of places, steps and cuts."""

from __future__ import annotations

import numpy as np
import pytest

from bmi_cdlm.kernels.fused import fma
from bmi_cdlm.kernels.launch import compiled
from bmi_cdlm.kernels.loops.cells import cell_loops
from bmi_cdlm.kernels.loops.plan import CellPlan
from bmi_cdlm.kernels.loops.queues import advance_queue
from bmi_cdlm.model.preparation import step_numbers
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.gr4j import GR4J

PLAN = CellPlan(GR4J)
ADVANCE = cell_loops(PLAN).advance

PLACES = [(1, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (7, 8), (8, 9), (20, 40)]
DTYPES = [np.float64, np.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("places", [1, 3, 4, 5, 8, 9])
def test_outflow_is_the_sum_over_past_inflows_the_oldest_first(places, dtype):
    rng = np.random.default_rng(places)
    n, share = 3, dtype(0.9)
    ordinates = np.zeros((-places % 4 + places, n), dtype)
    ordinates[:places] = rng.random((places, n))
    ring = np.zeros((ordinates.shape[0] + 4, n), dtype)
    ring[: places - 1] = rng.random((places - 1, n))
    Pr = rng.random((18, n)).astype(dtype)
    expected = np.concatenate([ring[: places - 1], np.zeros((18, n), dtype)])
    for t in range(18):
        for i in range(n):
            for s in range(max(0, t + 1 - places), t + 1):
                expected[t, i] = fma(ordinates[t - s, i], dtype(share * Pr[s, i]), expected[t, i])
    head = 0
    for t in range(0, 18, 4):
        count = min(4, 18 - t)
        compiled(advance_queue, dtype)(ring, head, ordinates, places, Pr[t : t + count], count, share)
        assert ring[head : head + count].tobytes() == expected[t : t + count].tobytes()
        head = (head + count) % ring.shape[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("places", PLACES, ids=str)
def test_blocks_of_any_length_give_the_bits_of_single_steps(places, dtype):
    n_steps, n = 19, 5
    rng = np.random.default_rng(1)
    rain, demand = rng.exponential(6.0, (n_steps, n)).astype(dtype), rng.uniform(0, 4, (n_steps, n)).astype(dtype)
    x1, x2, x3 = (rng.uniform(*bounds, n).astype(dtype) for bounds in ((100, 900), (-2, 1), (20, 300)))
    one, two = (rng.random((k, n)).astype(dtype) / dtype(k) for k in places)
    p = PLAN.parameter_group(X1=x1, X2=x2, inverse_1=dtype(1) / x1, inverse_3=dtype(1) / x3,
                             unit_hydrograph_1=one, unit_hydrograph_2=two)
    step = PLAN.constant_group(*step_numbers(GR4J, DAY, dtype))
    queues = [rng.random((k, n)).astype(dtype) for k in places]

    def run(lengths):
        state = PLAN.state_group(dtype(0.3) * x1, dtype(0.5) * x3, *(q.copy() for q in queues))
        totals = PLAN.total_group(*(np.zeros(n, dtype) for _ in PLAN.total_group._fields))
        series, first = [], 0
        for length in lengths:
            fluxes = PLAN.flux_group(*(np.empty((length, n), dtype) for _ in PLAN.flux_group._fields))
            runoff = np.empty((length, n), dtype)
            part = slice(first, first + length)
            inputs = PLAN.input_group(P=rain[part], E=demand[part], rain=rain[part])
            compiled(ADVANCE, dtype)(inputs, p, state, totals, fluxes, runoff, step, 0, n, 0)
            series.append(np.array([*fluxes, runoff]))
            first += length
        assert first == n_steps
        return [a.tobytes() for a in (*state, *totals, np.concatenate(series, axis=1))]

    single = run([1] * n_steps)
    for lengths in ([19], [4] * 4 + [3], [2] * 9 + [1], [3] * 6 + [1], [5, 14], [6, 13], [7, 12], [8, 11]):
        assert run(lengths) == single, lengths
