"""The Containerfile: it takes the wheel as it is built, with an extra that exists, and its entry point serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cases import N_CELLS, P, opened, write_case

from bmi_cdlm import __version__

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Containerfile").read_text()


def instruction(word):
    lines = TEXT.replace("\\\n", " ").splitlines()
    return [line.removeprefix(word).strip() for line in lines if line.startswith(f"{word} ")]


def test_it_names_what_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (run,) = instruction("RUN")
    extra = run[run.index("[") + 1 : run.index("]")]
    assert any("grpc4bmi" in one for one in project["project"]["optional-dependencies"][extra])
    sources = instruction("COPY")[0].split()[:-1]
    assert sources[0] == "constraints.txt" and (ROOT / sources[0]).is_file()
    assert project["project"]["name"].replace("-", "_") == Path(sources[1]).name.split("-")[0]
    assert json.loads(instruction("ENTRYPOINT")[0]) == ["run-bmi-server", "--name", "bmi_cdlm.BmiCdlm"]
    assert f"BMI_PORT={instruction('EXPOSE')[0]}" in instruction("ENV")[0]
    assert "Containerfile" in (ROOT / "docs" / "tutorials" / "bmi.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_wheel_serves(tmp_path):
    """As in the container: the wheel alone on the path, the entry point, the port by its variable."""
    client_module = pytest.importorskip("grpc4bmi.bmi_grpc_client", reason="grpc4bmi is not installed")
    import grpc

    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=False, capture_output=True, text=True, timeout=240,
    )
    if built.returncode:
        pytest.skip(f"the wheel cannot be built here: {built.stderr[-200:]}")
    (wheel,) = tmp_path.glob("bmi_cdlm-*.whl")
    assert __version__ in wheel.name
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "site")
    port = client_module.BmiClient.get_unique_port("localhost")
    command = f"import sys; sys.argv = {json.loads(instruction('ENTRYPOINT')[0])!r}; "
    server = subprocess.Popen(
        [sys.executable, "-c", command + "from grpc4bmi.run_server import main; main()"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "BMI_PORT": str(port)}, stderr=subprocess.PIPE,
    )
    try:
        channel = grpc.insecure_channel(f"localhost:{port}")
        grpc.channel_ready_future(channel).result(timeout=120)
        client = client_module.BmiClient(channel)
        config = write_case(tmp_path / "case")
        client.initialize(str(config))
        client.update()
        with opened(config) as local:
            local.update()
            np.testing.assert_array_equal(client.get_value(P, np.zeros(N_CELLS)), local.get_value_ptr(P))
        client.finalize()
        channel.close()
    finally:
        server.terminate()
        server.communicate(timeout=30)
