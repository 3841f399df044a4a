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
