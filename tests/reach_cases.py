"""Rivers of which every reach has an inflow of its own, for the tests of processes of reaches."""

from __future__ import annotations

import numpy as np
from make_domain import lumped_domain

from bmi_cdlm.domain.domain import Domain
from bmi_cdlm.domain.network import accumulate_downstream, order_reaches
from bmi_cdlm.kernels.groups import Links
from bmi_cdlm.kernels.workers import Workers
from bmi_cdlm.model.reach_operator import ReachOperator
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.processes.links import LINKS


class River:
    """Reaches with inflows of their own, routed by an operator; in the order of the file."""

    def __init__(self, process, downstream, parameters, length, slope, routing_step=HOUR, step=HOUR):
        n = len(downstream)
        self.order = order_reaches(np.asarray(downstream), [f"{i:04d}" for i in range(n)])
        place = np.empty(n, np.int64)
        place[self.order] = np.arange(n)
        below = np.asarray(downstream)[self.order]
        below, one = np.where(below >= 0, place[below], -1), lumped_domain(n)
        area = accumulate_downstream(below, np.ones(n))
        domain = Domain(one.cells, one.reaches._replace(
            downstream=below, length=np.broadcast_to(length, n)[self.order].astype(float),
            slope=np.broadcast_to(slope, n)[self.order].astype(float), upstream_area=area,
        ), Links(np.arange(n + 1), np.arange(n), np.ones(n)), one.gauges, self.order)
        self.operator = ReachOperator(process, LINKS, domain, step, routing_step, np.float64, Workers(1))
        self.p = self.operator.prepare(
            {name: np.broadcast_to(v, n)[self.order].astype(float) for name, v in parameters.items()})

    def route(self, inflow, volume):
        """Discharge [time, reach] and water at the end, from inflow [time, reach] and water [m3]."""
        n = self.order.size
        state = np.broadcast_to(volume, n)[self.order].astype(float)
        runoff = np.ascontiguousarray(inflow[:, self.order]) * 86.4
        discharge, _ = self.operator.run(runoff, self.p, state, np.arange(n))
        back = np.argsort(self.order)
        return discharge[:, back], state[back]

    def steady(self, flow):
        """Water through which a constant flow passes."""
        return self.operator.steady(self.p, np.broadcast_to(flow, self.order.size)[self.order])[np.argsort(self.order)]
