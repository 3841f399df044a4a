"""Make the files of this folder by an old commit: states of format 2, a checkpoint of format 1, a run of them.

    git worktree add ../old 0a10580
    cd ../old && PYTHONPATH=.:tests python <this file> <this folder>

The tests read them with every later version.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from cases import GAUGE_Q, Q, change_config, opened, step_all, write_case
from generator_cases import attribute_fields, specify, write_drawn_checkpoint
from make_domain import write_domain

from bmi_cdlm.parameters import DAY

SNOWS = ("none", "cemaneige", "cemaneige_hysteresis")


def main(target: Path) -> None:
    found = {}
    for snow in SNOWS:
        with tempfile.TemporaryDirectory() as name, opened(write_case(Path(name), snow=snow)) as component:
            component.update_until(5 * DAY)
            component._stepper.simulation.save(target / f"format_2_{snow}.nc")
            found[snow] = step_all(component, (Q, GAUGE_Q))[Q]
    with tempfile.TemporaryDirectory() as name:
        config = write_case(Path(name), snow="cemaneige", parameters="drawn.safetensors")
        write_domain(config.parent / "domain.nc", attribute_fields(7, 40, 25))
        spec = specify(config.parent / "domain.nc", snow="cemaneige", hidden=(4,), pet_hidden=(4, 3))
        write_drawn_checkpoint(target / "format_1.safetensors", spec)
        with opened(change_config(config, parameters=str(target / "format_1.safetensors"))) as component:
            found["checkpoint"] = step_all(component)[Q]
    np.savez_compressed(target / "discharge.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
