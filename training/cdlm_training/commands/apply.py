"""`cdlm-train apply`: parameters of another domain by a network of windows."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from cdlm_training.commands.common import require_torch


@click.command("apply", cls=CleanErrors)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "output", type=click.Path(path_type=Path), required=True, help="Parameter file to write (.nc).")
def apply_command(checkpoint: Path, config: Path, output: Path) -> None:
    """Write the parameters of CONFIG's domain that CHECKPOINT gives, of a training with mapping: resnet.

    The run takes them as `parameters`; it needs no torch.
    """
    require_torch()
    from cdlm_training.apply import apply

    apply(checkpoint, config, output)
    console.print(f"wrote {output}")
