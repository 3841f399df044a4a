"""An environment that has every installed package but torch: the model runs a checkpoint there, training says why not.

A virtual environment of links to what is installed here: nothing is fetched, and nothing hides a torch that is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import change_config
from training_cases import train, write_training_case

import bmi_cdlm
import cdlm_training
from bmi_cdlm.names.variables import variable

N_STEPS, CYCLES = 35, 4
SCRIPT = """
import importlib.metadata, importlib.util, sys
assert importlib.util.find_spec("torch") is None
assert not [d.name for d in importlib.metadata.distributions() if d.name == "torch"]
import numpy as np
from bmi_cdlm import BmiCdlm
model = BmiCdlm()
model.initialize(sys.argv[1])
flow = model.get_value_ptr(sys.argv[3])
rows = []
while model.get_current_time() < model.get_end_time():
    model.update()
    rows.append(flow.copy())
model.finalize()
np.save(sys.argv[2], rows)
assert "cdlm_training" not in sys.modules
print(sys.prefix)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment with links to every installed package but torch."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    own = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    found = distribution("torch")
    hidden = {Path(str(file)).parts[0] for file in found.files or () if ".." not in Path(str(file)).parts}
    packages = {p.name: p for p in (Path(module.__file__).parent for module in (bmi_cdlm, cdlm_training))}
    for site in filter(Path.is_dir, map(Path, sys.path)):
        if site.name not in ("site-packages", "dist-packages"):
            continue
        for path in site.iterdir():
            if path.name not in hidden and path.suffix != ".pth" and path.name != "__pycache__":
                packages.setdefault(path.name, path)
    assert "torch" in hidden and "torch" not in packages and "numpy" in packages
    for name, path in packages.items():
        (own / name).symlink_to(path)
    return folder / "bin" / "python"


def run(python: Path, *words: object, fails: bool = False) -> str:
    # -I: neither PYTHONPATH nor the folder of the script leads to a torch.
    found = subprocess.run(
        [python, "-I", "-W", "error", *map(str, words)], capture_output=True, text=True, timeout=300,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )
    assert (found.returncode != 0) == fails, found.stdout + found.stderr
    return found.stdout + found.stderr


@pytest.mark.slow
def test_a_trained_checkpoint_steps_to_the_discharge_of_the_training(python, tmp_path):
    config = write_training_case(
        tmp_path, n_steps=N_STEPS, snow="cemaneige", spin_up=CYCLES, warm_up=CYCLES * N_STEPS, window=20, epochs=1
    )
    trainer, *_ = train(config)
    case = change_config(config, "run.yaml", parameters="out/trained.safetensors", training=None)
    output = run(python, "-c", SCRIPT, case, tmp_path / "flow.npy", variable("gauge_discharge").name)
    assert Path(output.strip()) == python.parent.parent
    flow = np.load(tmp_path / "flow.npy")
    assert flow.shape == (N_STEPS, 4) and flow.std(axis=0).min() > 0
    window = trainer.data.window(0, N_STEPS)
    for part in trainer.parts:
        with torch.no_grad():
            expected = trainer.chain(part, window).discharge.numpy()
        np.testing.assert_allclose(flow[:, trainer.data.gauges[part.gauges]], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_training_without_torch_is_one_message(python, tmp_path):
    config = write_training_case(tmp_path)
    output = run(python, "-m", "cdlm_training", config, fails=True)
    assert output.startswith("Error: training needs the Python package 'torch'")
    assert 'pip install "bmi-cdlm[train]"' in " ".join(output.split()) and "Traceback" not in output
    assert not (tmp_path / "out").exists()
