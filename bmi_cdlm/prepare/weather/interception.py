"""How much leaves hold, from the balance of interception by steps and by days [Colleoni et al. 2025].

Of a day's rain as much evaporates from leaves as there is demand for, in a model of days; in one of hours, what has not
evaporated when the leaves are full falls through. The capacity is the one with which both evaporate alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings, read_time, select_ids
from bmi_cdlm.names.calendars import seconds_of
from bmi_cdlm.names.errors import ForcingError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.processes.gr_structures import interception_step

CAPACITIES = np.arange(1, 30) / 10
"""That are tried [mm]."""
CAPACITY_COMMENT = (
    "of 0.1 to 2.9 mm the one with which evaporation from interception over the record is nearest to the sum over days "
    "of the smaller of precipitation and potential evapotranspiration"
)
BLOCK_BYTES = 256 * 2**20


@one_at_a_time
def interception_capacity_of_cells(path: Path, cell_id: Sequence[str]) -> np.ndarray:
    """Interception capacity of every cell [mm], float64[cell], over all whole days of a forcing file, read in blocks.

    The leaves are dry when it begins; steps at which rain or demand is missing count on neither side.

    Parameters
    ----------
    path : Path
        Forcing as `cdlm prepare` writes it, in steps shorter than a day.
    cell_id : sequence of str
        Cells asked for, in this order.

    Raises
    ------
    ForcingError
        No whole day in the file, or steps of a day.
    """
    with open_input(path, ForcingError) as dataset:
        starts, step = read_time(dataset, str(path), ForcingError)
        ids = read_strings(dataset, "cell_id", str(path), ForcingError)
        columns = select_ids(ids, cell_id, "cell_id", str(path), ForcingError)
        begins = np.flatnonzero(seconds_of(starts) % DAY == 0)
        first, per_day = int(begins[0]) if begins.size else starts.size, DAY // step
        n_days = (starts.size - first) // per_day
        if per_day < 2 or not n_days:
            raise ForcingError(
                f"{path}: holds {n_days} whole days in steps of {step} s, expected one or more in steps shorter than a "
                "day for the interception capacity. Set attributes.interception_capacity: false, or prepare a longer "
                "period."
            )
        leaves, drawn = np.zeros((2, columns.size, CAPACITIES.size))
        by_days = np.zeros(columns.size)
        length = max(1, BLOCK_BYTES // (16 * columns.size * per_day))
        for day in range(0, n_days, length):
            rows = slice(first + day * per_day, first + min(day + length, n_days) * per_day)
            rain, demand = (
                filled(dataset.variables[name], rows)[:, columns] * (step / DAY)
                for name in ("precipitation", "potential_evapotranspiration")
            )
            missing = np.isnan(rain) | np.isnan(demand)
            rain[missing] = demand[missing] = 0.0
            daily = [one.reshape(-1, per_day, columns.size).sum(axis=1) for one in (rain, demand)]
            by_days += np.minimum(*daily).sum(axis=0)
            _sweep()(rain, demand, CAPACITIES, leaves, drawn)
    return CAPACITIES[np.abs(drawn - by_days[:, None]).argmin(axis=1)]


@lru_cache(maxsize=1)
def _sweep() -> Callable[..., None]:
    """The interception of the model over all cells, capacities and steps; adds to what is on the leaves, and drawn."""
    import numba

    step = numba.njit(interception_step)

    @numba.njit
    def sweep(rain, demand, capacities, leaves, drawn):  # type: ignore[no-untyped-def]
        for t in range(rain.shape[0]):
            for i in range(rain.shape[1]):
                for k in range(capacities.size):
                    leaves[i, k], evaporated, _, _ = step(leaves[i, k], rain[t, i], demand[t, i], capacities[k])
                    drawn[i, k] += evaporated

    return sweep
