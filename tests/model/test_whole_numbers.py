"""Parameters that are whole numbers: as numbers of the precision, so that no kernel is made for their type."""

from __future__ import annotations

import numpy as np
import pytest
from make_domain import lumped_domain, random_domain

from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.memory import HostMemory
from bmi_cdlm.model.operators import CellOperator, ReachOperator
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.processes.gr4j import GR4J
from bmi_cdlm.processes.links import LINKS
from bmi_cdlm.processes.muskingum import MUSKINGUM

WHOLE = {"production_capacity": 350, "exchange_coefficient": -1, "routing_capacity": 90, "unit_hydrograph_base": 2}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_whole_is_copied_and_the_rest_is_itself(dtype):
    memory, whole = HostMemory(dtype), np.array([350, -2, 0])
    for kind in (np.int64, np.int32, np.uint8):
        found = memory.real(np.abs(whole).astype(kind))
        assert found.dtype == dtype and found.tolist() == [350 % 2 ** (8 if kind is np.uint8 else 31), 2, 0]
    for values in (whole.astype(np.float64), whole.astype(np.float32), whole.astype(object)):
        assert memory.real(values) is values


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cells_are_prepared_to_the_same_bits(dtype):
    operator = CellOperator(GR4J, lumped_domain(3), DAY, dtype, Workers(1))
    whole = operator.prepare({name: np.full(3, value) for name, value in WHOLE.items()})
    real = operator.prepare({name: np.full(3, value, dtype) for name, value in WHOLE.items()})
    for name, values in whole.group._asdict().items():
        assert values.dtype == dtype, name
        assert values.tobytes() == getattr(real.group, name).tobytes(), name


def test_reaches_are_too():
    operator = ReachOperator(MUSKINGUM, LINKS, random_domain(3, 9, 5), DAY, HOUR, np.float64, Workers(1))
    for own in ({"celerity": 1}, {"travel_time": 7200}):  # one of them is given in place of what is prepared
        given = {**own, "weighting": 0}
        whole, real = (operator.prepare({n: np.full(9, v, kind) for n, v in given.items()}) for kind in (int, float))
        for name, values in whole.group._asdict().items():
            assert values.dtype == np.float64 and values.tobytes() == getattr(real.group, name).tobytes(), name
