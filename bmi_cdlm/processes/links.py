"""Links: runoff depths of cells become lateral inflow of reaches [SPEC 6]."""

from __future__ import annotations

from bmi_cdlm.names.declaration import LinkProcess


def link_flow(runoff, area):
    """Discharge [m3 s-1] of a runoff rate [mm d-1] over an area [km2]: 1 mm on 1 km2 is 1000 m3."""
    return runoff * (area * 0.011574074074074073)


def link_flow_adjoint(area, flow_adj):
    """Adjoint of `link_flow` in the runoff."""
    return flow_adj * (area * 0.011574074074074073)


LINKS = LinkProcess(
    name="links", title="Runoff of a cell over the area of the link enters at the head of the reach", flow=link_flow,
    adjoint=link_flow_adjoint,
)
