"""A few kills with `make test-hostile`; `make kill` has 200."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.hostile
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_few_kills_lose_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "kill.py"), "--kills", "12", "--seed", "5", "--kinds",
         "run,run; Zarr,run; spin-up,run; output steps"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )
    assert done.returncode == 0 and "12 kills, 0 losses" in done.stdout, done.stdout + done.stderr
