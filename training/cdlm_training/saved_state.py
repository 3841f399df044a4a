"""The state of a training, saved after every epoch, from which `--resume` goes on."""

from __future__ import annotations

import ast
import io
import json
from typing import TYPE_CHECKING, Any

import torch

from bmi_cdlm.names.container import seal, unseal
from bmi_cdlm.names.writing import replacing
from cdlm_training.fits import Fit
from cdlm_training.objective import TrainingError

if TYPE_CHECKING:
    from cdlm_training.loop import Trainer

STATE = "state.pt"
STATE_FORMAT = "bmi_cdlm training 2"
STATE_REMEDY = "Train without --resume; what was trained until the best epoch is in the checkpoint."
RUN_KEYS = (
    "start", "end", "time_step", "routing_step", "snow", "runoff", "routing", "components", "pet", "forcing_fill",
    "forcing_fill_limit", "spin_up", "initial_state", "calendar", "member",
)
"""Keys of the run on which the weights depend."""
NO_EFFECT: dict[str, Any] = {
    "output": True, "start_from": True, "threads": True, "licence": True, "pretrain": {"labels"},
}
"""Keys of the training on which they do not, or files, which count by their content."""


def identity(trainer: Trainer) -> str:
    """What a resumed training must have in common with the one before, wherever it is started from."""
    run = trainer.run.model_dump(mode="json", include=set(RUN_KEYS))
    own = trainer.config.model_dump(mode="json", exclude=NO_EFFECT)
    return json.dumps([own, run, trainer.fingerprints, trainer.data.ids])


def save_state(trainer: Trainer) -> None:
    """Write what a resumed training needs: weights, optimizer, fits, the state of the random numbers."""
    state = {
        "generator": trainer.generator.state_dict(), "optimizer": trainer.optimizer.state_dict(),
        "schedule": None if trainer.schedule is None else trainer.schedule.state_dict(), "epoch": trainer.epoch,
        "best": trainer.best, "fits": [fit._asdict() for fit in trainer.fits],
        "random": repr(trainer.random.bit_generator.state), "training": identity(trainer),
    }
    content = io.BytesIO()
    torch.save(state, content)
    with replacing(trainer.config.log_folder / STATE) as temporary, temporary.open("r+b") as file:
        for piece in seal(STATE_FORMAT, [content.getbuffer()]):
            file.write(piece)


def load_state(trainer: Trainer) -> None:
    """Take over the state of the training before.

    Raises
    ------
    TrainingError
        There is none, it cannot be read, or belongs to another training.
    """
    path = trainer.config.log_folder / STATE
    if not path.is_file():
        raise TrainingError(f"{path}: there is no state to resume from. Train without --resume.")
    try:
        whole = path.read_bytes()
    except OSError as cause:
        raise TrainingError(f"{path}: cannot be read ({cause}). {STATE_REMEDY}") from cause
    content = unseal(whole, STATE_FORMAT, str(path), TrainingError, STATE_REMEDY)
    state = torch.load(io.BytesIO(content), map_location=trainer.device, weights_only=True)
    if state["training"] != identity(trainer):
        raise TrainingError(
            f"{path}: belongs to another training: its configuration or its files were others. Restore those, or "
            "train without --resume."
        )
    trainer.generator.load_state_dict(state["generator"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.schedule is not None:
        trainer.schedule.load_state_dict(state["schedule"])
    trainer.epoch, trainer.best = state["epoch"], state["best"]
    trainer.fits = [Fit(**fit) for fit in state["fits"]]
    trainer.random.bit_generator.state = ast.literal_eval(state["random"])
