"""CemaNeige snow, plain and with hysteresis: one cell, one step [Valery et al. 2014; Riboust et al. 2019].

G snow water equivalent [mm]; eTG thermal state of the pack [degC], <= 0; P precipitation [mm per step]; T air
temperature [degC]; CTG thermal weighting; Kf melt factor [mm per degC and step]; threshold: the pack [mm]
above which snow covers the whole cell.
"""

from __future__ import annotations

from bmi_cdlm.names.declaration import LIQUID_WATER, Adjoint, CellProcess, Flux, Input, Prepared, Stage, Store
from bmi_cdlm.names.parameters import INFINITE, Parameter, Range


def solid_fraction(T):
    """Share of precipitation that falls as snow: 1 below -1 degC, 0 above 3 degC (USACE)."""
    f = 1.0 - (T + 1.0) * 0.25
    f = f if f < 1.0 else 1.0
    return f if f > 0.0 else 0.0


def thermal_state_step(eTG, T, CTG):
    """Thermal state of the pack after a step."""
    state = CTG * eTG + (1.0 - CTG) * T
    return state if state < 0.0 else 0.0


def potential_melt(G, eTG, T, Kf):
    """Melt of a fully covered cell: degree-day, limited by the pack, none while the pack is cold."""
    melt = Kf * T
    melt = melt if melt < G else G
    return melt if eTG == 0.0 and T > 0.0 else 0.0


def snow_step(G, eTG, P, T, CTG, Kf, threshold):
    """Plain CemaNeige. Returns G, eTG, rain plus melt, snowfall and melt."""
    snowfall = solid_fraction(T) * P
    G = G + snowfall
    eTG = thermal_state_step(eTG, T, CTG)
    cover = G / (threshold if threshold > 0.0 else 1.0) if G < threshold else 1.0
    melt = (0.9 * cover + 0.1) * potential_melt(G, eTG, T, Kf)
    return G - melt, eTG, (P - snowfall) + melt, snowfall, melt


def snow_hysteresis_step(G, eTG, peak, cover, P, T, CTG, Kf, Ga, threshold):
    """CemaNeige with hysteresis between snow depth and cover.

    peak: the pack at which the present melt season started [mm]; cover: share of the cell under snow, both
    states; Ga: snowfall that restores full cover (Ga) [mm]. Returns G, eTG, peak, cover, rain plus
    melt, snowfall and melt.
    """
    snowfall = solid_fraction(T) * P
    eTG = thermal_state_step(eTG, T, CTG)
    potential = potential_melt(G + snowfall, eTG, T, Kf)
    G, peak, cover, melt = hysteresis_step(G, peak, cover, snowfall, potential, Ga, threshold)
    return G, eTG, peak, cover, (P - snowfall) + melt, snowfall, melt


def hysteresis_step(G, peak, cover, snowfall, potential, Ga, threshold):
    """Pack and cover under snowfall and the melt of a fully covered cell. Returns G, peak, cover and melt."""
    before = G
    G = G + snowfall
    melting = potential > 0.0
    peak = G if melting and cover == 1.0 and G < peak else peak
    cover = cover_on_depletion(G, peak) if melting else cover
    melt = (0.9 * cover + 0.1) * potential
    G = G - melt
    growing = G > before
    grown = cover + (snowfall - melt) / Ga
    grown = grown if grown < 1.0 else 1.0
    cover = grown if growing else cover_on_depletion(G, peak)
    peak = threshold if growing and cover == 1.0 else peak
    return G, peak, cover, melt


def cover_on_depletion(G, peak):
    """Snow cover of a pack that has shrunk from `peak`; full where there is no threshold."""
    return G / (peak if peak > 0.0 else 1.0) if G < peak else 1.0


def solid_fraction_adjoint(T, fraction_adj):
    """Adjoint of `solid_fraction` in T."""
    f = 1.0 - (T + 1.0) * 0.25
    return -0.25 * fraction_adj if 0.0 < f < 1.0 else 0.0


def thermal_state_step_adjoint(eTG, T, CTG, state_adj):
    """Adjoint of `thermal_state_step`. Returns the adjoints of eTG, T and CTG."""
    open_adj = state_adj if CTG * eTG + (1.0 - CTG) * T < 0.0 else 0.0
    return CTG * open_adj, (1.0 - CTG) * open_adj, (eTG - T) * open_adj


def potential_melt_adjoint(G, eTG, T, Kf, melt_adj):
    """Adjoint of `potential_melt`; a switch has no slope in eTG. Returns the adjoints of G, T and Kf."""
    melt_adj = melt_adj if eTG == 0.0 and T > 0.0 else 0.0
    limited = Kf * T >= G
    return melt_adj if limited else 0.0, 0.0 if limited else Kf * melt_adj, 0.0 if limited else T * melt_adj


def cover_on_depletion_adjoint(G, peak, cover_adj):
    """Adjoint of `cover_on_depletion`. Returns the adjoints of G and peak."""
    safe = peak if peak > 0.0 else 1.0
    G_adj = cover_adj / safe if G < peak else 0.0
    return G_adj, -G / safe * G_adj


def snow_step_adjoint(G, eTG, P, T, CTG, Kf, threshold, G_adj, eTG_adj, water_adj):
    """Adjoint of `snow_step` in G, eTG and rain plus melt. Returns the adjoints of G, eTG, P, T, CTG and Kf."""
    fraction = solid_fraction(T)
    snowfall = fraction * P
    G1 = G + snowfall
    eTG1 = thermal_state_step(eTG, T, CTG)
    cover = cover_on_depletion(G1, threshold)
    potential = potential_melt(G1, eTG1, T, Kf)

    melt_adj = water_adj - G_adj
    covered_adj, _ = cover_on_depletion_adjoint(G1, threshold, 0.9 * potential * melt_adj)
    limit_adj, T_adj, Kf_adj = potential_melt_adjoint(G1, eTG1, T, Kf, (0.9 * cover + 0.1) * melt_adj)
    G1_adj = G_adj + covered_adj + limit_adj
    eTG0_adj, thermal_adj, CTG_adj = thermal_state_step_adjoint(eTG, T, CTG, eTG_adj)
    snowfall_adj = G1_adj - water_adj
    T_adj = T_adj + thermal_adj + solid_fraction_adjoint(T, P * snowfall_adj)
    return G1_adj, eTG0_adj, water_adj + fraction * snowfall_adj, T_adj, CTG_adj, Kf_adj


def snow_hysteresis_step_adjoint(
    G, eTG, peak, cover, P, T, CTG, Kf, Ga, threshold, G_adj, eTG_adj, peak_adj, cover_adj, water_adj
):
    """Adjoint of `snow_hysteresis_step` in G, eTG, peak, cover and rain plus melt.

    Returns the adjoints of G, eTG, peak, cover, P, T, CTG, Kf, Ga and threshold.
    """
    fraction = solid_fraction(T)
    snowfall = fraction * P
    G1 = G + snowfall
    eTG1 = thermal_state_step(eTG, T, CTG)
    potential = potential_melt(G1, eTG1, T, Kf)
    melting = potential > 0.0
    restart = melting and cover == 1.0 and G1 < peak
    peak1 = G1 if restart else peak
    cover1 = cover_on_depletion(G1, peak1) if melting else cover
    melt = (0.9 * cover1 + 0.1) * potential
    G2 = G1 - melt
    growing = G2 > G
    grown = cover1 + (snowfall - melt) / Ga
    partly = grown < 1.0

    threshold_adj = peak_adj if growing and not partly else 0.0
    peak1_adj = 0.0 if growing and not partly else peak_adj
    grown_adj = cover_adj if growing and partly else 0.0
    depleted_adj, depleted_peak_adj = cover_on_depletion_adjoint(G2, peak1, 0.0 if growing else cover_adj)
    peak1_adj = peak1_adj + depleted_peak_adj
    G2_adj = G_adj + depleted_adj
    Ga_adj = -(snowfall - melt) / (Ga * Ga) * grown_adj
    melt_adj = water_adj - G2_adj - grown_adj / Ga
    cover1_adj = grown_adj + 0.9 * potential * melt_adj
    limit_adj, T_adj, Kf_adj = potential_melt_adjoint(G1, eTG1, T, Kf, (0.9 * cover1 + 0.1) * melt_adj)
    covered_adj, covered_peak_adj = cover_on_depletion_adjoint(G1, peak1, cover1_adj if melting else 0.0)
    peak1_adj = peak1_adj + covered_peak_adj
    cover0_adj = 0.0 if melting else cover1_adj
    G1_adj = G2_adj + covered_adj + limit_adj + (peak1_adj if restart else 0.0)
    peak0_adj = 0.0 if restart else peak1_adj
    eTG0_adj, thermal_adj, CTG_adj = thermal_state_step_adjoint(eTG, T, CTG, eTG_adj)
    snowfall_adj = G1_adj - water_adj + grown_adj / Ga
    T_adj = T_adj + thermal_adj + solid_fraction_adjoint(T, P * snowfall_adj)
    P_adj = water_adj + fraction * snowfall_adj
    return (
        G1_adj, eTG0_adj, peak0_adj, cover0_adj, P_adj, T_adj, CTG_adj, Kf_adj, Ga_adj, threshold_adj,
    )


def plain_full_cover(mean_annual_snowfall):
    """The pack that covers a cell fully: 0.9 of the mean annual snowfall."""
    return 0.9 * mean_annual_snowfall


def full_cover(Rv, mean_annual_snowfall):
    """The pack that covers a cell fully, a share of the mean annual snowfall."""
    return Rv * mean_annual_snowfall


INPUTS = {"precipitation": Input("P"), "air_temperature": Input("T", "level")}
STORES = {
    "snowpack": Store("G", "mm", "snowpack__leq_depth", "Snow water equivalent", holds_water=True),
    "thermal_state": Store(
        "eTG", "degC", "snowpack__thermal_state_temperature", "Thermal state of the snowpack; it melts at 0 (eTG)",
        holds_water=False, bounds=(-INFINITE, 0.0),
    ),
}
PARAMETERS = (
    Parameter(
        "thermal_weighting", "CTG", "1", (0.0, 1.0), Range(0, 1, 0.25), Range(0.9, 1, 0.94), "linear",
        "Weight of the snowpack's past thermal state", "Valery et al. 2014",
    ),
    Parameter(
        "melt_factor", "Kf", "mm degC-1 per step", (0.0, INFINITE), Range(0.5, 15, 4), Range(0.02, 0.6, 0.17), "log",
        "Degree-day melt factor", "Valery et al. 2014",
    ),
)
FLUXES = {
    "snowfall": Flux("snowfall", "atmosphere_snowfall_water__leq_volume_flux", "Solid part of precipitation"),
    "snowmelt": Flux("melt", "snowpack_meltwater__volume_flux", "Melt leaving the snowpack"),
}
ATTRIBUTES = {"mean_annual_snowfall": "mean_annual_snowfall"}

CEMANEIGE = CellProcess(
    name="cemaneige",
    title="CemaNeige: degree-day snow whose cover follows the pack",
    source="Valery et al. 2014, doi:10.1016/j.jhydrol.2014.04.058",
    inputs=INPUTS,
    stages=(
        Stage(
            snow_step, returns=("G", "eTG", "water", "snowfall", "melt"),
            adjoint=Adjoint(snow_step_adjoint, returns=("G", "eTG", "P", "T", "CTG", "Kf")),
        ),
    ),
    stores=STORES,
    parameters=PARAMETERS,
    prepared=(Prepared(plain_full_cover, returns=("threshold",)),),
    attributes=ATTRIBUTES,
    fluxes=FLUXES,
    gives=(LIQUID_WATER, "water"),
)

CEMANEIGE_HYSTERESIS = CellProcess(
    name="cemaneige_hysteresis",
    title="CemaNeige with hysteresis between snow depth and cover",
    source="Riboust et al. 2019, doi:10.2478/johh-2018-0004",
    inputs=INPUTS,
    stages=(
        Stage(
            snow_hysteresis_step, returns=("G", "eTG", "peak", "cover", "water", "snowfall", "melt"),
            adjoint=Adjoint(
                snow_hysteresis_step_adjoint,
                returns=("G", "eTG", "peak", "cover", "P", "T", "CTG", "Kf", "Ga", "threshold"),
            ),
        ),
    ),
    stores=STORES | {
        "snow_peak": Store(
            "peak", "mm", "snowpack_at-peak__leq_depth",
            "Snow water equivalent at the last peak, below which cover shrinks (Gl)", holds_water=False, start=1.0,
            start_of="threshold",
        ),
        "snow_cover": Store(
            "cover", "1", "snowpack__area_fraction", "Share of the cell under snow", holds_water=False,
            bounds=(0.0, 1.0),
        ),
    },
    parameters=(
        *PARAMETERS,
        Parameter(
            "accumulation_threshold", "Ga", "mm", (1e-6, INFINITE), Range(1, 100, 30), Range(1, 100, 30), "log",
            "Snowfall that restores full snow cover", "Riboust et al. 2019",
        ),
        Parameter(
            "cover_ratio_threshold", "Rv", "1", (1e-6, 1.0), Range(0.05, 1, 0.5), Range(0.05, 1, 0.5), "linear",
            "Share of the mean annual snowfall that is full snow cover", "Riboust et al. 2019",
        ),
    ),
    prepared=(Prepared(full_cover, returns=("threshold",)),),
    attributes=ATTRIBUTES,
    fluxes=FLUXES,
    gives=(LIQUID_WATER, "water"),
)
