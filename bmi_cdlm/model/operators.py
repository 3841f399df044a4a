"""Processes over a whole period, forward and adjoint, on the kernels that the model steps.

Forward keeps the states at the starts of blocks; adjoint goes back block by block, recomputing inside each. What is
kept above the arrays handed in and out, per cell-day in float32 for GR4J with X4 <= 4 and blocks of 64 days:
(2 + 4 + 8) x 4 / 64 = 0.9 bytes, 0.25 for snow, and the runoff itself, which routing holds on to; per
reach-day 4 / 64 for the state, with 24 sub-steps a day, and of more reaches than a chunk has 4 x 24 bytes of the few
whose hydrographs go from one chunk to another (`route_adjoint`). Everything else has the size of one block. The adjoint
of runoff may take the place of the runoff, for whoever has no other use of that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import NetworkPlan
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.blocks import is_narrow
from bmi_cdlm.model.cell_operator import CellOperator
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.processes.catalogue import Chain


class Operators:
    """The processes of a chain over a domain at one precision, forward and adjoint.

    Parameters
    ----------
    chain : Chain
    domain : Domain
    step, routing_step : int
        Model step and routing sub-step [s].
    dtype : float64 or float32
        Of every array handed in and out.
    threads : int or Workers
        Threads of its own, or those of somebody who closes them.
    varying, components : see `CellOperator`
    plan : see `ReachOperator`
    part_of : Domain, optional
        That this one is a piece of: the loops are those for its size, so that all its pieces share them.
    """

    on_device = False

    def __init__(
        self, chain: Chain, domain: Domain, step: int, routing_step: int, dtype: type[np.floating] = np.float64,
        threads: int | Workers = 1, *, varying: Collection[str] = (), components: Mapping[str, int] | None = None,
        plan: NetworkPlan | None = None, part_of: Domain | None = None,
    ) -> None:
        whole = domain if part_of is None else part_of
        narrow_cells, narrow_reaches = is_narrow(whole.n_cells), is_narrow(whole.n_reaches)
        self.chain, self.domain, self.step, self.routing_step, self.dtype = chain, domain, step, routing_step, dtype
        self.n_sub = step // routing_step
        self.workers = threads if isinstance(threads, Workers) else Workers(threads)
        self.cells = [
            CellOperator(p, domain, step, dtype, self.workers, varying, (components or {}).get(p.name, 1), narrow_cells)
            for p in chain.cells
        ]
        self.reach = ReachOperator(
            chain.reach, chain.links, domain, step, routing_step, dtype, self.workers, plan, narrow_reaches
        )

    def cell(self, name: str) -> CellOperator:
        """Return the operator of a process by name."""
        return next(o for o in self.cells if o.process.name == name)

    def close(self) -> None:
        """End the threads."""
        self.workers.close()
