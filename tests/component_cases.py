"""Several parameter sets per cell: drawn, made into models, and the same bits however a run is cut."""

from __future__ import annotations

import numpy as np
from make_domain import part_of, random_forcing, random_parameters

from bmi_cdlm.model.model import Model
from bmi_cdlm.names.variables import variable

SEED, N_STEPS, N = 7, 40, 3
KEEP = ("runoff", "discharge", "evapotranspiration", "groundwater_exchange")
OWN = ("production_capacity", "exchange_coefficient", "routing_capacity", "unit_hydrograph_base")


def drawn(domain, seeds):
    """Parameters of GR4J as [component, cell], others as of the first; and the sets by themselves."""
    sets = [random_parameters(seed, domain) for seed in seeds]
    return {n: np.stack([s[n] for s in sets]) if n in OWN else sets[0][n] for n in sets[0]}, sets


def make(domain, values, components=N, **options):
    return Model(domain, values, snow="cemaneige", components={"gr4j": components}, ledger=True, **options)


def check_bits(domain, values, components):
    """In a block, step by step with a restored state, and on three threads."""
    forcing = random_forcing(SEED, N_STEPS, domain.n_cells)
    whole, steps, several = (make(domain, values, components, threads=n) for n in (1, 1, 3))
    block = {n: v.copy() for n, v in whole.advance(forcing, KEEP).items()}
    threaded = {n: v.copy() for n, v in several.advance(forcing, KEEP).items()}
    for t in range(N_STEPS):
        if t == N_STEPS // 2:
            saved = steps.state.copy()
            steps.close()
            steps = make(domain, values, components)
            steps.restore(saved.on_cells(), saved.on_reaches())
        row = steps.advance(part_of(forcing, t, t + 1), KEEP)
        for name in KEEP:
            np.testing.assert_array_equal(row[name][0], block[name][t], err_msg=name)
    for name in KEEP:
        np.testing.assert_array_equal(threaded[name], block[name])
    for model in (steps, several):
        for name, value in whole.live.items():
            if variable(name).part != "ledger" or model is several:
                np.testing.assert_array_equal(model.live[name], value, err_msg=name)
    several.close()
