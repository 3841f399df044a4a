"""A small share of the hostile cases with `make test-hostile`; `make fuzz` has 10,000."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import DEPTH, E, P, Q, write_case
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bmi_cdlm import BmiCdlm
from bmi_cdlm.bmi.serialization import SIZE, STATE
from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.names.host_variables import SERIALIZATION

HERE = Path(__file__).resolve().parent
BUDGET = 40.0
"""Seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.hostile]


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    """The module of `make fuzz`, and a folder with whole cases."""
    if not hasattr(os, "fork") or not Path("/proc/self/statm").exists():
        pytest.skip("forks and limits as Linux has them")
    sys.path.insert(0, str(HERE))
    try:
        spec = importlib.util.spec_from_file_location("fuzz_run", HERE / "run.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        folder = tmp_path_factory.mktemp("fuzz")
        module.prepare_cases(folder)
        yield module, folder
    finally:
        sys.path.remove(str(HERE))
        module.logging.disable(module.logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
def test_every_outcome_is_a_right_result_or_one_clear_error(fuzz, tmp_path, capsys):
    module, folder = fuzz
    table = module.run_all(folder, 240, 11, module.Keeper(tmp_path), BUDGET)
    said = capsys.readouterr().out
    # A machine that has other work to do, too, does so many.
    assert sum(counts.total() for counts in table.values()) >= 25, module.render(table)
    faults = sum(counts[kind] for counts in table.values() for kind in module.FAULTS)
    assert not faults, f"{said}\n{module.render(table)}"


class Calls(RuleBasedStateMachine):
    """BMI calls in any order: what is refused changes nothing, and a state taken is a state given back, to the bit."""

    config: str

    @initialize()
    def begin(self):
        self.model, self.saved = BmiCdlm(), None
        self.model.initialize(self.config)

    def everything(self):
        names = (*self.model.get_input_var_names(), *self.model.get_output_var_names())
        return {n: self.model.get_value_ptr(n).tobytes() for n in names}, self.model.get_current_time()

    def refuse_or_do(self, call):
        before = self.everything()
        try:
            call()
        except CdlmError:
            assert self.everything() == before

    @rule(name=st.sampled_from([P, E]), value=st.floats(allow_nan=True), count=st.sampled_from([0, 1, 25, 40]))
    def set_input(self, name, value, count):
        self.refuse_or_do(lambda: self.model.set_value(name, np.full(count, value)))

    @rule(value=st.floats(0, 30))
    def set_rain_and_demand(self, value):
        self.model.set_value(P, np.full(25, value))
        self.model.set_value(E, np.full(25, value / 10))

    @rule(name=st.sampled_from([Q, DEPTH, "", "x" * 999, STATE]), value=st.floats())
    def set_what_is_no_input(self, name, value):
        self.refuse_or_do(lambda: self.model.set_value(name, np.full(25, value)))

    @rule(places=st.lists(st.integers(-30, 30), max_size=4), value=st.floats(0, 1e3))
    def set_some(self, places, value):
        places = np.array(places, np.int64)
        self.refuse_or_do(lambda: self.model.set_value_at_indices(P, places, np.full(places.size, value)))

    @rule(hours=st.floats(-10, 300))
    def update_until(self, hours):
        self.refuse_or_do(lambda: self.model.update_until(hours * 3600))

    @rule()
    def update(self):
        self.refuse_or_do(self.model.update)

    @rule(path=st.sampled_from(["nowhere.yaml", "", "/", "x" * 300]))
    def initialize_again(self, path):
        self.refuse_or_do(lambda: self.model.initialize(path))

    @rule()
    def take(self):
        self.model.set_value(SERIALIZATION[0].name, np.ones(1, np.int32))
        self.saved = self.model.get_value_ptr(STATE).copy(), self.everything()

    @precondition(lambda self: self.saved is not None)
    @rule(at=st.integers(0), bit=st.integers(0, 7))
    def give_back_damaged(self, at, bit):
        damaged = self.saved[0].copy()
        damaged[at % damaged.size] ^= 1 << bit
        before = self.everything()
        with pytest.raises(CdlmError):
            self.model.set_value(STATE, damaged)
        assert self.everything() == before

    @precondition(lambda self: self.saved is not None)
    @rule()
    def give_back(self):
        self.model.set_value(SIZE, np.array([self.saved[0].size]))
        self.model.set_value(STATE, self.saved[0])
        assert self.everything() == self.saved[1]

    @invariant()
    def outputs_are_numbers(self):
        if hasattr(self, "model"):
            assert np.isfinite(self.model.get_value_ptr(Q)).all()

    def teardown(self):
        if hasattr(self, "model"):
            self.model.finalize()


def test_calls_in_any_order(tmp_path):
    Calls.config = str(write_case(tmp_path, forcing="caller"))
    few = settings(max_examples=20, stateful_step_count=30, deadline=None, database=None, derandomize=True)
    run_state_machine_as_test(Calls, settings=few)
