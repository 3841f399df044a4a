"""Maps of signatures in an experiment: every split takes one that was not learned from the gauges it holds out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bmi_cdlm.files.netcdf import one_at_a_time, open_input
from bmi_cdlm.maps.files import LEARNED_FROM
from bmi_cdlm.names.errors import ConfigError, DomainError


@one_at_a_time
def unseen_map(domain: Path, name: str, held_out: Sequence[str], key: str) -> str:
    """The attribute of cells to take for a map: itself, or that of a fold, which never saw what is held out.

    A map that does not say from which gauges it was learned is taken as it is: it is from elsewhere.

    domain : domain file; name : of the attribute, without `cell_`; held_out : ids of gauges; key : of the
    configuration that names it.

    Raises
    ------
    ConfigError
        The map, and that of every fold, was learned from a gauge that is held out.
    """
    with open_input(domain, DomainError) as data:
        own = f"cell_{name.removeprefix('cell_')}"
        found = [v for v in data.variables if v == own or v.startswith(f"{own}_fold")]
        seen = {v: json.loads(getattr(data[v], LEARNED_FROM, "[]")) for v in found}
    leaks = {v: next((gauge for gauge in gauges if gauge in held_out), None) for v, gauges in seen.items()}
    if own not in leaks or leaks[own] is None:
        return name
    clean = [v for v, gauge in leaks.items() if gauge is None]
    if not clean:
        raise ConfigError(
            f"training.{key}: '{name}' was learned from gauge {leaks[own]}, which this split holds "
            f"out, and the maps of its {len(found) - 1} folds from it or another. A map that saw a gauge is no test "
            "there: lay maps with the folds of the experiment into the domain (`cdlm signatures --to-domain`), or "
            "leave the map out."
        )
    return clean[0].removeprefix("cell_")
