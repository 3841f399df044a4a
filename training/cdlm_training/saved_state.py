"""The state of a training, saved after every epoch, from which `--resume` goes on."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bmi_cdlm.names.container import seal, unseal
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.processes.catalogue import OF_CHAIN
from bmi_cdlm.run.config import Config
from cdlm_training.config import TrainConfig
from cdlm_training.identity import Identity, identify, keys_of
from cdlm_training.objective import TrainingError

STATE = "state.pt"
STATE_FORMAT = "bmi_cdlm training 2"
STATE_REMEDY = "Train without --resume; what was trained until the best epoch is in the checkpoint."
RUN_KEYS = (
    "start", "end", "time_step", "routing_step", *OF_CHAIN, "components", "pet", "forcing_fill",
    "forcing_fill_limit", "spin_up", "initial_state", "calendar", "member",
)
"""Keys of the run on which the weights depend."""
NO_EFFECT: dict[str, Any] = {
    "output": True, "start_from": True, "threads": True, "licence": True, "pretrain": {"labels"},
}
"""Keys of the training on which they do not, or files, which count by their content."""


def identity(run: Config, config: TrainConfig, fingerprints: Mapping[str, str], gauges: Sequence[str]) -> Identity:
    """What a resumed training must have in common with the one before, wherever it is started from."""
    return identify(
        training=keys_of(config, exclude=NO_EFFECT), run=keys_of(run, include=set(RUN_KEYS)),
        files=dict(fingerprints), gauges=list(gauges),
    )


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state in a container with a digest, whole or not at all."""
    content = io.BytesIO()
    torch.save(state, content)
    with replacing(path) as temporary, temporary.open("r+b") as file:
        for piece in seal(STATE_FORMAT, [content.getbuffer()]):
            file.write(piece)


def read_state(path: Path, training: Identity, device: torch.device) -> dict[str, Any]:
    """Read the state of a training.

    Raises
    ------
    TrainingError
        There is none, it cannot be read, or it belongs to another training.
    """
    if not path.is_file():
        raise TrainingError(f"{path}: there is no state to resume from. Train without --resume.")
    try:
        whole = path.read_bytes()
    except OSError as cause:
        raise TrainingError(f"{path}: cannot be read ({cause}). {STATE_REMEDY}") from cause
    content = unseal(whole, STATE_FORMAT, str(path), TrainingError, STATE_REMEDY)
    state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    unlike = training.unlike(state["training"])
    if unlike:
        raise TrainingError(
            f"{path}: belongs to another training: {', '.join(unlike)} was other. Restore it, or train without "
            "--resume."
        )
    return state
