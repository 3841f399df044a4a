"""Run the model in a process of its own, behind grpc4bmi, and compare it with a local run.

    pip install "bmi-cdlm[coupling]"
    python examples/grpc_client.py cfg/lez.yaml

The server may as well run in a container or on another machine: `run-bmi-server --name bmi_cdlm.BmiCdlm --port 55555`
there, `BmiClient(grpc.insecure_channel("host:55555"))` here. A client has copies, no live arrays, and `set_value`
sends one message, of 4 MB at most: half a million cells; larger domains are set in parts by `set_value_at_indices`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import grpc
import numpy as np
from grpc4bmi.bmi_grpc_client import BmiClient

from bmi_cdlm import BmiCdlm

DISCHARGE = "channel_exit_water_flowing_x-section__volume_rate"
SERVE = "import sys; from grpc4bmi.run_server import main; sys.exit(main())"


def run(model: BmiCdlm | BmiClient, config: Path, steps: int) -> np.ndarray:
    """Discharge of every reach after every step, float64[time, reach] [m3 s-1]."""
    model.initialize(str(config.resolve()))
    size = model.get_grid_size(model.get_var_grid(DISCHARGE))
    rows = []
    for _ in range(steps):
        model.update()
        rows.append(model.get_value(DISCHARGE, np.empty(size)).copy())
    model.finalize()
    return np.array(rows)


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--steps", default=5, show_default=True)
def main(config: Path, steps: int) -> None:
    """Step CONFIG through a server and locally."""
    port = BmiClient.get_unique_port("localhost")
    server = subprocess.Popen([sys.executable, "-c", SERVE, "--name", "bmi_cdlm.BmiCdlm", "--port", str(port)])
    try:
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
            remote = run(BmiClient(channel), config, steps)
    finally:
        server.terminate()
        server.wait()
    local = run(BmiCdlm(), config, steps)
    if not np.array_equal(remote, local):
        raise click.ClickException("the server gives other values than a local run")
    print(f"{steps} steps of {local.shape[1]} reaches through a server: equal to a local run, bit for bit")


if __name__ == "__main__":
    main()
