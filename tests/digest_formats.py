"""Digests of states in an older format, as they are where nothing but the format is another."""

from __future__ import annotations

import re

import numpy as np
import yaml
from digest_bits import Digests, digest
from digest_cases import BASINS, CASES, ROOT
from digest_gradients import GRADIENTS, Arrays
from digest_inputs import COUNTRY

HYSTERESIS = ("snow_peak", "snow_cover")
GONE = {"none": ("snowpack", "thermal_state", *HYSTERESIS), "cemaneige": HYSTERESIS, "cemaneige_hysteresis": ()}
"""Arrays of processes that are not chosen, by snow: states of format 2 hold zeros of them, those of format 3 none."""
STATE = re.compile(r"((?:.*: )?(?:state|restart)): array (\w+)")
RAW = re.compile(r"(.*: )?(state: raw|restart: raw|restart on two threads)")
STEPPED = ("stepped: state", "in parts: state")
"""States of runs by `stepped`, which holds their volumes of water in reaches against the variable."""
OTHER_CALLS = re.compile(
    r".*: runoff_depth_total|at once: end: runoff_depth|in parts: series: (runoff_depth|mass_out|mass_stored)"
    r"|in parts: state: array (unreleased|waiting_runoff)"
)
"""The depth of a call over several steps is the water of the call, not the last step's rate over its length; what waits
for the caller leaves in shares, to other last digits. `runoff_depth_total` is new."""
BASIN_CELLS = {"lez": 172, "cance": 383, "grand": 1000}


def as_format_3(case: str, kept: Digests) -> Digests:
    """Digests of a case in format 2, as they are where nothing but the format of states is another.

    Arrays of processes that are not chosen are gone, and held zeros; `reach_storage` stands in place of
    `reach_storage_time`, with the bits of the variable (`stepped` sees to that itself); attributes are as they were
    but for `NEW_ATTRIBUTES`, which
    `digest_restart` takes out; raw bytes are others, see `same_bytes`.
    """
    found: Digests = {}
    snow, cells = snow_and_cells(case)
    for name, value in kept.items():
        place = STATE.fullmatch(name)
        if place and place[2] in GONE[snow]:
            assert value == digest(np.zeros(cells)), f"{case}, {name}: it was no array of zeros, and has to be kept"
        elif place and place[2] == "reach_storage_time":
            if place[1] not in STEPPED:
                found[f"{place[1]}: array reach_storage"] = kept["at once: end: reach_storage"]
        elif not RAW.fullmatch(name) and not OTHER_CALLS.fullmatch(name):
            found[name] = value
    return found


def gradients_of_format_3(name: str, kept: Arrays, found: Arrays) -> Arrays:
    """Gradients that are kept but for those of states that there are no more: of these nothing depended on them."""
    keys = (f"{name}: state {state}" for state in GONE[GRADIENTS[name].snow])
    gone = [key for key in keys if key in kept and key not in found]
    assert not any(kept[key].any() for key in gone), f"one of {', '.join(gone)} was no array of zeros"
    return {key: values for key, values in kept.items() if key not in gone}


def snow_and_cells(case: str) -> tuple[str, int]:
    """The snow and the number of cells of a case, by its name in digests.json."""
    if case.startswith("country, "):
        return CASES[case.removeprefix("country, ")].snow, COUNTRY.cells
    if case not in BASINS:
        return "none", 0
    basin, keys, _ = BASINS[case]
    content = yaml.safe_load((ROOT / "cfg" / f"{basin}.yaml").read_text(encoding="utf-8"))
    return {**content, **keys}.get("snow", "none"), BASIN_CELLS[basin]


def same_bytes(found: Digests) -> set[frozenset[str]]:
    """Which restarts of a case hold the same bytes, threads and ways to step among them."""
    raw: dict[str, set[str]] = {}
    for name, value in found.items():
        if RAW.fullmatch(name):
            raw.setdefault(value, set()).add(name)
    return set(map(frozenset, raw.values()))
