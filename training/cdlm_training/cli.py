"""The command `cdlm-train`: train a generator of parameters end to end on discharge at gauges."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from bmi_cdlm.commands.common import LazyGroup, start_log
from bmi_cdlm.version import __version__

# A line each: loaded when it is asked for.
COMMANDS = {
    "apply": "cdlm_training.commands.apply:apply_command",
    "compare": "cdlm_training.commands.report:compare_command",
    "ensemble": "cdlm_training.commands.ensemble:ensemble_command",
    "experiment": "cdlm_training.commands.experiment:experiment_command",
    "fit-maps": "cdlm_training.commands.fit_maps:fit_maps",
    "labels": "cdlm_training.commands.labels:labels_command",
    "multiset": "cdlm_training.commands.multiset:multiset_command",
    "report": "cdlm_training.commands.report:report_command",
    "similarity": "cdlm_training.commands.similarity:similarity",
    "train": "cdlm_training.commands.train:train_command",
    "validate": "cdlm_training.commands.validate:validate",
}


class TrainByDefault(LazyGroup):
    """A group of commands that trains where no other of them is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words."""
        if args and args[0] not in self.where and args[0] not in ("--help", "--version"):
            args = ["train", *args]
        return super().parse_args(ctx, args)


@click.group(cls=TrainByDefault, where=COMMANDS)
@click.version_option(__version__, prog_name="cdlm-train")
def main() -> None:
    """Train generators of parameters on discharge: `cdlm-train CONFIG`, which is `cdlm-train train CONFIG`."""
    start_log()


def end_process(code: int) -> NoReturn:
    """End this process at once, as one of several has to.

    torch's threads may still let go of a shared number while the interpreter goes down; C++ aborts the process in that
    case, and torchrun then ends the others as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
