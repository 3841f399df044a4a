"""`cdlm compile`: every kernel of a configuration, or of every process, before anybody waits."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from numba import config
from training_cases import write_training_case

from bmi_cdlm.cli import main
from bmi_cdlm.commands.compile import catchments, combinations
from bmi_cdlm.kernels import cache
from bmi_cdlm.processes.catalogue import OF_CHAIN, OWN, kind_of


@pytest.mark.skipif(config.DISABLE_JIT, reason="needs the compiler")
@pytest.mark.slow
def test_what_was_compiled_for_a_configuration_is_not_made_again(tmp_path):
    path = write_training_case(tmp_path)
    runs = [CliRunner().invoke(main, ["compile", str(path)]) for _ in range(2)]
    assert [one.exit_code for one in runs] == [0, 0], runs[0].output
    assert f"{path}: ready after" in runs[0].output
    assert f"0 kernels more in {cache.cache_folder()}" in runs[1].output.replace("\n", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        p.name for p in tmp_path.iterdir() if p.suffix in (".nc", ".yaml", ".safetensors")
    )


def test_every_process_is_among_the_combinations(monkeypatch):
    monkeypatch.setattr("bmi_cdlm.commands.compile.known", lambda: OWN)
    made = {name for _, names in combinations() for name in names}
    assert made - {"none", "given"} == {p.name for p in OWN if kind_of(p) in OF_CHAIN} - {"none"}


def test_a_domain_for_compilation_is_one_in_routing_order():
    domain = catchments(3)
    assert domain.n_cells == domain.n_reaches == 3 and (domain.reaches.downstream == -1).all()
    np.testing.assert_array_equal(domain.links.first, [0, 1, 2, 3])


def test_without_anything_to_compile_it_says_so():
    got = CliRunner().invoke(main, ["compile"])
    assert got.exit_code == 2 and "Name configurations, or give --all" in got.output
