"""Contents of files that instances share: read once, let go with the last, read anew when the file changes."""

from __future__ import annotations

import gc

import netCDF4
import numpy as np
from cases import opened, simulated, step_all, write_case

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.shared import share, version


def counted(monkeypatch):
    """Calls of the domain reader."""
    calls = []

    def reading(path):
        calls.append(path)
        return read_domain(path)

    monkeypatch.setattr("bmi_cdlm.run.simulation.read_domain", reading)
    return calls


def test_instances_of_one_domain_read_it_once(tmp_path, monkeypatch):
    config, calls = write_case(tmp_path, snow="cemaneige"), counted(monkeypatch)
    with opened(config) as one, opened(config) as other:
        assert len(calls) == 1
        models = [c._stepper.simulation.model for c in (one, other)]
        assert models[0].domain is models[1].domain
        ours, theirs = (m.state.arrays() for m in models)
        for name in ours:
            assert not np.shares_memory(ours[name], theirs[name])
        for name in models[0].parameters:
            assert not np.shares_memory(models[0].parameters[name], models[1].parameters[name])
        flows = [step_all(c) for c in (one, other)]
        for name in flows[0]:
            np.testing.assert_array_equal(flows[0][name], flows[1][name])


def test_nothing_is_kept_after_the_last_instance(tmp_path, monkeypatch):
    config, calls = write_case(tmp_path), counted(monkeypatch)
    for _ in range(2):
        with simulated(config):
            pass
        gc.collect()
    assert len(calls) == 2


def test_a_changed_file_is_read_anew(tmp_path, monkeypatch):
    config, calls = write_case(tmp_path), counted(monkeypatch)
    with opened(config) as before:
        with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
            dataset["cell_lat"][:] = 12.0
        with opened(config) as after:
            assert len(calls) == 2
            assert (after._stepper.simulation.model.domain.cells.lat == 12.0).all()
            assert (before._stepper.simulation.model.domain.cells.lat != 12.0).all()


def test_sharing(tmp_path):
    made = []
    first = share(("key", 1), lambda: made.append(1) or [1])
    assert share(("key", 1), lambda: made.append(2)) is first and first.value == [1] and made == [1]
    assert share(("key", 2), lambda: [2]).value == [2]
    assert version(tmp_path / "none") == (str(tmp_path / "none"), 0, 0)
