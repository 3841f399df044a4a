"""What a training leaves beside its checkpoints: log, TensorBoard events, configuration, environment."""

from __future__ import annotations

import csv
import importlib.metadata
import logging
import platform
import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from bmi_cdlm.names.writing import replacing
from cdlm_training.scores import Epoch

LOG = "log.csv"
logger = logging.getLogger(__name__)
COLUMNS = ["epoch", "loss", "nse", "kge", "seconds"]


class Log:
    """The log of a training in its folder, as CSV and for TensorBoard.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    config : Path
        Copied into the folder.
    last_epoch : int or None
        Go on after this epoch, dropping what is logged of later ones; None: start anew.
    """

    def __init__(self, folder: Path, config: Path, last_epoch: int | None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config, folder / "config.yaml")
        packages = sorted(f"{d.name}=={d.version}" for d in importlib.metadata.distributions())
        text = f"python {platform.python_version()} on {platform.platform()}\n" + "\n".join(packages) + "\n"
        (folder / "environment.txt").write_text(text, encoding="utf-8")
        kept: list[list[str]] = []
        log = folder / LOG
        if last_epoch is None:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        elif log.exists():
            text = log.read_text(encoding="utf-8", errors="replace").replace("\0", "")
            rows = list(csv.reader(text.splitlines()))[1:]
            kept = [row for row in rows if _is_whole(row) and int(row[0]) <= last_epoch]
            if len(kept) != last_epoch:
                logger.warning("%s: holds %d of the %d epochs before; the others were lost", log, len(kept), last_epoch)
        with replacing(log) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])
        self.board = SummaryWriter(str(folder), purge_step=None if last_epoch is None else last_epoch + 1)

    def write(self, epoch: Epoch) -> None:
        """Add an epoch."""
        row = [epoch.loss, epoch.scores.nse, epoch.scores.kge, epoch.seconds]
        with (self.folder / LOG).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([epoch.number, *(f"{value:.6g}" for value in row)])
        for name, value in zip(("loss", "validation/nse", "validation/kge", "seconds"), row, strict=True):
            self.board.add_scalar(name, value, epoch.number)
        self.board.flush()

    def close(self) -> None:
        """Close the file of TensorBoard."""
        self.board.close()


def _is_whole(row: list[str]) -> bool:
    """Whether a row of the log is one: an epoch and its numbers."""
    try:
        return len(row) == len(COLUMNS) and int(row[0]) > 0 and all(float(value) is not None for value in row[1:])
    except ValueError:
        return False
