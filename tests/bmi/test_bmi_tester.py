"""The conformance checks of CSDMS's bmi-tester, run as a user runs them: in a process of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cases import regular_case, write_case

pytest.importorskip("bmi_tester")
ROOT = Path(__file__).resolve().parents[2]
STAGES = 4
# bmi-tester's fixtures lie above its test folders, where pytest 8 and later look only when told to, and a
# virtual environment inside a project would have it read that project's options. pytest-benchmark would leave a
# folder in the staged one, which bmi-tester cannot copy.
EMPTY = Path(__file__).parent / "bmi_tester" / "pytest.ini"  # pytest 9.2 refuses os.devnull
OPTIONS = f"-c {shlex.quote(str(EMPTY))} --confcutdir=/ -p no:benchmark -p no:cacheprovider"


def bmi_test(folder: Path, config: str) -> str:
    """Run all stages in a folder that holds the configuration and its files, and no folders."""
    environment = {**os.environ, "PYTEST_ADDOPTS": OPTIONS, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'training'}"}
    command = "import sys; from bmi_tester.main import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", command, "bmi_cdlm:BmiCdlm", "--config-file", config, "--root-dir", "."],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )
    report = result.stdout + result.stderr
    assert result.returncode == 0, report
    return report


def assert_all_passed(report: str) -> None:
    summaries = re.findall(r"=+ (.*) in [0-9.]+s .*=+", report)
    assert len(summaries) == STAGES, report
    for line in summaries:
        assert re.search(r"\d+ passed", line), line
        assert not re.search(r"failed|error", line), line
    assert "All tests passed" in report


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [{}, {"snow": "cemaneige", "name_profile": "ngen", "step": 3600}], ids=["csdms", "ngen"]
)
def test_all_stages_pass(tmp_path, keys):
    write_case(tmp_path, **keys)
    report = bmi_test(tmp_path, "case.yaml")
    assert_all_passed(report)
    checked = sum(int(n) for n in re.findall(r"(\d+) passed", report))
    assert checked > 200  # every variable on every stage; with none staged, only two


@pytest.mark.slow
def test_all_stages_pass_with_cells_in_rows_and_columns(tmp_path):
    regular_case(tmp_path, time_units="s")
    assert_all_passed(bmi_test(tmp_path, "case.yaml"))


@pytest.mark.slow
@pytest.mark.smash
def test_all_stages_pass_on_the_lez(tmp_path, prepared):
    for name in ("domain.nc", "forcing.nc", "observations.nc"):
        shutil.copy(prepared("lez") / name, tmp_path)
    content = yaml.safe_load((ROOT / "cfg" / "lez.yaml").read_text())
    flat = {k: Path(v).name if str(v).endswith(".nc") else v for k, v in content.items()}
    (tmp_path / "lez.yaml").write_text(yaml.safe_dump(flat))
    assert_all_passed(bmi_test(tmp_path, "lez.yaml"))
