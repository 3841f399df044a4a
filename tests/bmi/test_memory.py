"""An instance leaves nothing behind."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest
from cases import change_config, opened, write_case

STATUS = Path("/proc/self/status")


def resident_kib() -> int:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize("forcing", ["caller", "forcing.nc"])
def test_two_hundred_life_cycles_do_not_grow(tmp_path, forcing):
    config = write_case(tmp_path, lumped=True, n_steps=50)
    config = change_config(config, forcing=forcing, snow="cemaneige", threads=2)

    def cycle():
        with opened(config) as component:
            for name in component.get_input_var_names():
                component.set_value_at_indices(name, [0], [1.0])
            component.update()
            component.set_value("ngen::serialization_create", [1])
            component.set_value("ngen::serialization_state", component.get_value_ptr("ngen::serialization_state"))

    for _ in range(40):
        cycle()
    gc.collect()
    before, threads = resident_kib(), threading.active_count()
    for _ in range(200):
        cycle()
    gc.collect()
    assert threading.active_count() == threads
    assert resident_kib() - before < 4096  # 20 KiB per instance; an instance that stays has more
