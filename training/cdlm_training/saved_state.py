"""The state of a training, saved after every epoch, from which `--resume` goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bmi_cdlm.names.container import seal, unseal
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.processes.catalogue import OF_CHAIN
from bmi_cdlm.run.config import Config
from cdlm_training.config import TrainConfig
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


class Identity(NamedTuple):
    """What a resumed training must have in common with the one before, wherever it is started from.

    content : keys of the training and of the run, digests of the files, gauges; set_apart : of the keys those alone
    that are not at their defaults.
    """

    content: dict[str, Any]
    set_apart: dict[str, Any]

    def text(self) -> str:
        """As it is saved."""
        return json.dumps(list(self.content.values()))

    def unlike(self, saved: str) -> list[str]:
        """Names of what was other in a training whose `text` was saved.

        A key that an earlier version did not have is as it was where it is at its default.
        """
        return _unlike(dict(zip(self.content, json.loads(saved), strict=True)), self.content, self.set_apart)


def _unlike(
    saved: Mapping[str, Any], now: Mapping[str, Any], set_apart: Mapping[str, Any], within: str = ""
) -> list[str]:
    found = []
    for key in dict.fromkeys((*now, *saved)):
        name = f"{within}.{key}" if within else key
        if key not in saved:
            found += [name] if key in set_apart else []
        elif key not in now:
            found.append(name)
        elif isinstance(saved[key], dict) and isinstance(now[key], dict):
            found += _unlike(saved[key], now[key], set_apart.get(key) or {}, name)
        elif saved[key] != now[key]:
            found.append(name)
    return found


def identity(run: Config, config: TrainConfig, fingerprints: Mapping[str, str], gauges: Sequence[str]) -> Identity:
    """The identity of a training."""
    def keys(*, exclude_defaults: bool) -> dict[str, Any]:
        of_run = run.model_dump(mode="json", include=set(RUN_KEYS), exclude_defaults=exclude_defaults)
        own = config.model_dump(mode="json", exclude=NO_EFFECT, exclude_defaults=exclude_defaults)
        return {"training": own, "run": of_run, "files": dict(fingerprints), "gauges": list(gauges)}

    # As JSON gives them back, to be compared with what was saved.
    whole, set_apart = (json.loads(json.dumps(keys(exclude_defaults=one))) for one in (False, True))
    return Identity(whole, set_apart)


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
