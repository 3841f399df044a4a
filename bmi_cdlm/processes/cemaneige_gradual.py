"""CemaNeige with hysteresis whose switches have slopes, so that a generator can learn where they lie.

Rain turns to snow over a range of temperature that is a parameter [Kienzle 2008, doi:10.1002/hyp.7149] in place of -1
to 3 degC, and a pack melts the more, the less cold it is: where CemaNeige melts at a thermal state of 0 only, and so
gives the thermal weighting no slope, melt fades out over `ripening_range` below 0. With none of that, and a range of -1
to 3 degC, it is `cemaneige_hysteresis`. Symbols as there.
"""

from __future__ import annotations

from dataclasses import replace

from bmi_cdlm.names.declaration import Prepared, Stage
from bmi_cdlm.names.parameters import Parameter, Range
from bmi_cdlm.processes.cemaneige import CEMANEIGE_HYSTERESIS, hysteresis_step, thermal_state_step


def solid_share(T, middle, per_degree):
    """Share of precipitation that falls as snow: a half at the temperature `middle`, changing by `per_degree`."""
    return min(max(0.5 - (T - middle) * per_degree, 0.0), 1.0)


def ripeness(eTG, per_degree):
    """Share of its melt that a pack gives at its thermal state: all at 0 degC."""
    return max(1.0 + eTG * per_degree, 0.0)


def gradual_snow_step(G, eTG, peak, cover, P, T, CTG, Kf, Ga, threshold, middle, per_degree, ripe_per_degree):
    """One step of a pack, as `snow_hysteresis_step`. Returns G, eTG, peak, cover, rain plus melt, snowfall, melt."""
    snowfall = solid_share(T, middle, per_degree) * P
    eTG = thermal_state_step(eTG, T, CTG)
    potential = min(Kf * max(T, 0.0), G + snowfall) * ripeness(eTG, ripe_per_degree)
    G, peak, cover, melt = hysteresis_step(G, peak, cover, snowfall, potential, Ga, threshold)
    return G, eTG, peak, cover, (P - snowfall) + melt, snowfall, melt


def inverse_of_range(spread):
    """Change of the share of snow with temperature [degC-1]."""
    return 1.0 / spread


def inverse_of_ripening(ripening):
    """Change of the share of melt with the thermal state [degC-1]."""
    return 1.0 / ripening


SNOW_AND_RAIN = "Kienzle 2008, doi:10.1002/hyp.7149"
PARAMETERS = (
    Parameter(
        "rain_snow_temperature", "middle", "degC", (-50.0, 50.0), Range(-2, 4, 1), Range(-2, 4, 1), "linear",
        "Temperature at which half of precipitation is snow", SNOW_AND_RAIN,
    ),
    Parameter(
        "rain_snow_range", "spread", "degC", (1e-3, 100.0), Range(0.5, 12, 4), Range(0.5, 12, 4), "log",
        "Range of temperature from snow alone to rain alone", SNOW_AND_RAIN,
    ),
    Parameter(
        "ripening_range", "ripening", "degC", (1e-6, 100.0), Range(0.05, 5, 0.5), Range(0.05, 5, 0.5), "log",
        "How far below 0 the thermal state of a pack is from which nothing melts", "own",
    ),
)

CEMANEIGE_GRADUAL = replace(
    CEMANEIGE_HYSTERESIS, name="cemaneige_gradual",
    title="CemaNeige with hysteresis, rain and snow over a range of temperature, and a gradual beginning of melt",
    source=f"{CEMANEIGE_HYSTERESIS.source}; {SNOW_AND_RAIN}",
    stages=(Stage(gradual_snow_step, returns=CEMANEIGE_HYSTERESIS.stages[0].returns),),
    parameters=(*CEMANEIGE_HYSTERESIS.parameters, *PARAMETERS),
    prepared=(
        *CEMANEIGE_HYSTERESIS.prepared, Prepared(inverse_of_range, returns=("per_degree",)),
        Prepared(inverse_of_ripening, returns=("ripe_per_degree",)),
    ),
)
