"""Precipitation that its product measured wrong: factors on rain and on snow, which cells learn.

Gauges catch too little of falling snow, and products of weather differ by tenths in their mean. Rain counts RFCF times
and snow SFCF times what the input says, the two correction factors of HBV [Bergstrom 1992; Seibert 1997]; what that
adds or takes is a flux of its own and enters the ledger as precipitation does. From attributes of cells a generator
learns them as it learns any parameter: with elevation among them they change with height, with a number of the
product among them from product to product. `undercatch` corrects before any snow and runoff process, where snow is
what is solid by CemaNeige's range of -1 to 3 degC; `hbv_undercatch` corrects within HBV, by its own threshold. Depths
in mm, fluxes in mm per step.
"""

from __future__ import annotations

from dataclasses import replace

from bmi_cdlm.names.declaration import PRECIPITATION, CellProcess, Flux, Stage
from bmi_cdlm.names.parameters import INFINITE, Range, per_day
from bmi_cdlm.processes.cemaneige import INPUTS, solid_fraction
from bmi_cdlm.processes.hbv import HBV, snow_step


def correction_step(P, T, RFCF, SFCF):
    """Rain and snow times their factors. Returns precipitation, and what was added to what the input says."""
    corrected = (RFCF + solid_fraction(T) * (SFCF - RFCF)) * P
    return corrected, corrected - P


def corrected_step(P, T, TT, RFCF, SFCF):
    """Precipitation times the factor of its phase. Returns it, and what was added to what the input says."""
    corrected = (SFCF if T < TT else RFCF) * P
    return corrected, corrected - P


def snow_below_step(SP, MW, corrected, T, TT, CFMAX, CFR, CWH, days):
    """HBV's snow under corrected precipitation. Returns as `snow_step`."""
    SP, MW, water, snowfall, melt, frozen, shed = snow_step(SP, MW, corrected, T, TT, CFMAX, CFR, CWH, days)
    return SP, MW, water, snowfall, melt, frozen, shed


SOURCE = "Bergstrom 1992; Seibert 1997, doi:10.2166/nh.1998.15"
FACTORS = (
    per_day("rainfall_correction_factor", "RFCF", "1", (0.0, INFINITE), Range(0.7, 1.4, 1), "log",
            "What rain counts times what the input says", SOURCE),
    per_day("snowfall_correction_factor", "SFCF", "1", (0.0, INFINITE), Range(0.7, 2, 1), "log",
            "What snow counts times what the input says", SOURCE),
)
ADDED = {"precipitation_correction": Flux(
    "gained", "atmosphere_water_precipitation_correction__leq_volume_flux",
    "What correction factors add to the precipitation of the input, negative where they take; part of "
    "precipitation_total", ledger="in",
)}

UNDERCATCH = CellProcess(
    name="undercatch",
    title="correction factors on rain and on snow, before any snow and runoff",
    source=SOURCE,
    inputs=INPUTS,
    stages=(Stage(correction_step, returns=("corrected", "gained")),),
    stores={},
    parameters=FACTORS,
    fluxes=ADDED,
    gives=(PRECIPITATION, "corrected"),
)
HBV_UNDERCATCH = replace(
    HBV, name="hbv_undercatch", title="hbv with correction factors on rain and on snow",
    source=f"{HBV.source}; {SOURCE}",
    stages=(
        Stage(corrected_step, returns=("corrected", "gained")),
        Stage(snow_below_step, returns=HBV.stages[0].returns), *HBV.stages[1:],
    ),
    parameters=(*HBV.parameters[:-1], *FACTORS, HBV.parameters[-1]), fluxes={**HBV.fluxes, **ADDED},
)
