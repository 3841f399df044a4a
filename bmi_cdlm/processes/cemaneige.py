"""CemaNeige snow, plain and with hysteresis: one cell, one step [Valery et al. 2014; Riboust et al. 2019].

G snow water equivalent [mm]; eTG thermal state of the pack [degC], <= 0; P precipitation [mm per step]; T air
temperature [degC]; ctg thermal weighting; kf melt factor [mm per degC and step]; threshold: the pack [mm]
above which snow covers the whole cell.
"""

from __future__ import annotations


def solid_fraction(T):
    """Share of precipitation that falls as snow: 1 below -1 degC, 0 above 3 degC (USACE)."""
    f = 1.0 - (T + 1.0) * 0.25
    f = f if f < 1.0 else 1.0
    return f if f > 0.0 else 0.0


def thermal_state_step(eTG, T, ctg):
    """Thermal state of the pack after a step."""
    state = ctg * eTG + (1.0 - ctg) * T
    return state if state < 0.0 else 0.0


def potential_melt(G, eTG, T, kf):
    """Melt of a fully covered cell: degree-day, limited by the pack, none while the pack is cold."""
    melt = kf * T
    melt = melt if melt < G else G
    return melt if eTG == 0.0 and T > 0.0 else 0.0


def snow_step(G, eTG, P, T, ctg, kf, threshold):
    """Plain CemaNeige. Returns G, eTG, rain plus melt, snowfall and melt."""
    snowfall = solid_fraction(T) * P
    G = G + snowfall
    eTG = thermal_state_step(eTG, T, ctg)
    cover = G / (threshold if threshold > 0.0 else 1.0) if G < threshold else 1.0
    melt = (0.9 * cover + 0.1) * potential_melt(G, eTG, T, kf)
    return G - melt, eTG, (P - snowfall) + melt, snowfall, melt


def snow_hysteresis_step(G, eTG, peak, cover, P, T, ctg, kf, accumulation, threshold):
    """CemaNeige with hysteresis between snow depth and cover.

    peak: the pack at which the present melt season started [mm]; cover: share of the cell under snow, both
    states; accumulation: snowfall that restores full cover (Ga) [mm]. Returns G, eTG, peak, cover, rain plus
    melt, snowfall and melt.
    """
    snowfall = solid_fraction(T) * P
    before = G
    G = G + snowfall
    eTG = thermal_state_step(eTG, T, ctg)
    potential = potential_melt(G, eTG, T, kf)
    melting = potential > 0.0
    peak = G if melting and cover == 1.0 and G < peak else peak
    cover = cover_on_depletion(G, peak) if melting else cover
    melt = (0.9 * cover + 0.1) * potential
    G = G - melt
    growing = G > before
    grown = cover + (snowfall - melt) / accumulation
    grown = grown if grown < 1.0 else 1.0
    cover = grown if growing else cover_on_depletion(G, peak)
    peak = threshold if growing and cover == 1.0 else peak
    return G, eTG, peak, cover, (P - snowfall) + melt, snowfall, melt


def cover_on_depletion(G, peak):
    """Snow cover of a pack that has shrunk from `peak`; full where there is no threshold."""
    return G / (peak if peak > 0.0 else 1.0) if G < peak else 1.0


def solid_fraction_adjoint(T, fraction_adj):
    """Adjoint of `solid_fraction` in T."""
    f = 1.0 - (T + 1.0) * 0.25
    return -0.25 * fraction_adj if 0.0 < f < 1.0 else 0.0


def thermal_state_step_adjoint(eTG, T, ctg, state_adj):
    """Adjoint of `thermal_state_step`. Returns the adjoints of eTG, T and ctg."""
    open_adj = state_adj if ctg * eTG + (1.0 - ctg) * T < 0.0 else 0.0
    return ctg * open_adj, (1.0 - ctg) * open_adj, (eTG - T) * open_adj


def potential_melt_adjoint(G, eTG, T, kf, melt_adj):
    """Adjoint of `potential_melt`; a switch has no slope in eTG. Returns the adjoints of G, T and kf."""
    melt_adj = melt_adj if eTG == 0.0 and T > 0.0 else 0.0
    limited = kf * T >= G
    return melt_adj if limited else 0.0, 0.0 if limited else kf * melt_adj, 0.0 if limited else T * melt_adj


def cover_on_depletion_adjoint(G, peak, cover_adj):
    """Adjoint of `cover_on_depletion`. Returns the adjoints of G and peak."""
    safe = peak if peak > 0.0 else 1.0
    G_adj = cover_adj / safe if G < peak else 0.0
    return G_adj, -G / safe * G_adj


def snow_step_adjoint(G, eTG, P, T, ctg, kf, threshold, G_adj, eTG_adj, liquid_adj):
    """Adjoint of `snow_step` in G, eTG and rain plus melt. Returns the adjoints of G, eTG, P, T, ctg and kf."""
    fraction = solid_fraction(T)
    snowfall = fraction * P
    G1 = G + snowfall
    eTG1 = thermal_state_step(eTG, T, ctg)
    cover = cover_on_depletion(G1, threshold)
    potential = potential_melt(G1, eTG1, T, kf)

    melt_adj = liquid_adj - G_adj
    covered_adj, _ = cover_on_depletion_adjoint(G1, threshold, 0.9 * potential * melt_adj)
    limit_adj, T_adj, kf_adj = potential_melt_adjoint(G1, eTG1, T, kf, (0.9 * cover + 0.1) * melt_adj)
    G1_adj = G_adj + covered_adj + limit_adj
    eTG0_adj, thermal_adj, ctg_adj = thermal_state_step_adjoint(eTG, T, ctg, eTG_adj)
    snowfall_adj = G1_adj - liquid_adj
    T_adj = T_adj + thermal_adj + solid_fraction_adjoint(T, P * snowfall_adj)
    return G1_adj, eTG0_adj, liquid_adj + fraction * snowfall_adj, T_adj, ctg_adj, kf_adj


def snow_hysteresis_step_adjoint(
    G, eTG, peak, cover, P, T, ctg, kf, accumulation, threshold, G_adj, eTG_adj, peak_adj, cover_adj, liquid_adj
):
    """Adjoint of `snow_hysteresis_step` in G, eTG, peak, cover and rain plus melt.

    Returns the adjoints of G, eTG, peak, cover, P, T, ctg, kf, accumulation and threshold.
    """
    fraction = solid_fraction(T)
    snowfall = fraction * P
    G1 = G + snowfall
    eTG1 = thermal_state_step(eTG, T, ctg)
    potential = potential_melt(G1, eTG1, T, kf)
    melting = potential > 0.0
    restart = melting and cover == 1.0 and G1 < peak
    peak1 = G1 if restart else peak
    cover1 = cover_on_depletion(G1, peak1) if melting else cover
    melt = (0.9 * cover1 + 0.1) * potential
    G2 = G1 - melt
    growing = G2 > G
    grown = cover1 + (snowfall - melt) / accumulation
    partly = grown < 1.0

    threshold_adj = peak_adj if growing and not partly else 0.0
    peak1_adj = 0.0 if growing and not partly else peak_adj
    grown_adj = cover_adj if growing and partly else 0.0
    depleted_adj, depleted_peak_adj = cover_on_depletion_adjoint(G2, peak1, 0.0 if growing else cover_adj)
    peak1_adj = peak1_adj + depleted_peak_adj
    G2_adj = G_adj + depleted_adj
    accumulation_adj = -(snowfall - melt) / (accumulation * accumulation) * grown_adj
    melt_adj = liquid_adj - G2_adj - grown_adj / accumulation
    cover1_adj = grown_adj + 0.9 * potential * melt_adj
    limit_adj, T_adj, kf_adj = potential_melt_adjoint(G1, eTG1, T, kf, (0.9 * cover1 + 0.1) * melt_adj)
    covered_adj, covered_peak_adj = cover_on_depletion_adjoint(G1, peak1, cover1_adj if melting else 0.0)
    peak1_adj = peak1_adj + covered_peak_adj
    cover0_adj = 0.0 if melting else cover1_adj
    G1_adj = G2_adj + covered_adj + limit_adj + (peak1_adj if restart else 0.0)
    peak0_adj = 0.0 if restart else peak1_adj
    eTG0_adj, thermal_adj, ctg_adj = thermal_state_step_adjoint(eTG, T, ctg, eTG_adj)
    snowfall_adj = G1_adj - liquid_adj + grown_adj / accumulation
    T_adj = T_adj + thermal_adj + solid_fraction_adjoint(T, P * snowfall_adj)
    P_adj = liquid_adj + fraction * snowfall_adj
    return (
        G1_adj, eTG0_adj, peak0_adj, cover0_adj, P_adj, T_adj, ctg_adj, kf_adj, accumulation_adj, threshold_adj,
    )
