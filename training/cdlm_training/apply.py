"""The command `cdlm-train apply`: parameters of another domain by a network of windows."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console


@click.command("apply", cls=CleanErrors)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "output", type=click.Path(path_type=Path), required=True, help="Parameter file to write (.nc).")
def apply_command(checkpoint: Path, config: Path, output: Path) -> None:
    """Write the parameters of CONFIG's domain that CHECKPOINT gives, of a training with mapping: resnet.

    The run takes them as `parameters`; it needs no torch.
    """
    from cdlm_training.apply import apply

    apply(checkpoint, config, output)
    console.print(f"wrote {output}")


def apply(path: Path, config: Path, output: Path) -> None:
    """Evaluate a network of windows on the domain of a run, and write a parameter file.

    Raises
    ------
    CdlmError
        No such network, one of another run, a domain without its attributes or without a grid.
    """
    from bmi_cdlm.domain.domain import read_domain
    from bmi_cdlm.names.errors import ConfigError
    from bmi_cdlm.run.config import load_config
    from bmi_cdlm.version import __version__
    from cdlm_training.fields import parameters_of, write_fields
    from cdlm_training.window_file import as_checkpoint, load_windowed, make_windowed, window_inputs

    if output.suffix != ".nc":
        raise ConfigError(f"{output}: expected a name that ends in .nc.")
    found, run = load_windowed(path), load_config(config)
    as_checkpoint(found).check_run(
        time_step=run.time_step, routing_step=run.routing_step, snow=run.snow, runoff=run.runoff, routing=run.routing,
        components=run.components,
    )
    domain = read_domain(run.domain)
    generator = make_windowed(found.spec, found.shape, run.domain, domain)
    generator.load(found.tensors)
    values = parameters_of(generator, window_inputs(found.spec, run.domain, domain))
    write_fields(output, values, run, domain, "resnet", {**found.record, "code_version": __version__,
                                                        "applied": str(path)})
