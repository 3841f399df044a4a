"""Sums over the domain: the same bits whether a cell stands alone or among others."""

from __future__ import annotations

import numpy as np
import pytest
from make_domain import lumped_domain, random_forcing

from bmi_cdlm.model.forcing import Forcing
from bmi_cdlm.model.model import Model
from bmi_cdlm.model.totals import add_rows


@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 9, 40, 961])
def test_rows_are_added_in_their_order(n_rows):
    values = np.random.default_rng(n_rows).uniform(0, 1e3, (n_rows, 5))
    together = add_rows(values)
    for i in range(5):
        alone = np.ascontiguousarray(values[:, i : i + 1])
        expected = 0.0
        for value in alone[:, 0].tolist():
            expected += value
        assert add_rows(alone)[0] == together[i] == expected


def test_a_cell_alone_starts_and_stores_as_among_others():
    """The steady state from the mean of many steps, and the water in long unit hydrographs."""
    forcing, base = random_forcing(3, 50, 6), {"unit_hydrograph_base": np.full(6, 30.0), "celerity": np.full(6, 0.3)}
    whole = Model(lumped_domain(6), base)
    whole.fill_rivers(forcing)
    start = whole.live["discharge"].copy()
    whole.advance(forcing)
    for i in range(6):
        one = Model(lumped_domain(1), {name: values[:1] for name, values in base.items()})
        own = Forcing(*(None if a is None else np.ascontiguousarray(a[:, i : i + 1]) for a in forcing))
        one.fill_rivers(own)
        assert one.live["discharge"][0] == start[i]
        one.advance(own)
        for name in ("queued_routed_flow", "queued_direct_flow", "cell_water_stored", "discharge"):
            assert one.live[name][0] == whole.live[name][i], name
        one.close()
    whole.close()
