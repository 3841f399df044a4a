"""Parameters of another domain by a network of windows."""

from __future__ import annotations

from pathlib import Path


def apply(path: Path, config: Path, output: Path) -> None:
    """Evaluate a network of windows on the domain of a run, and write a parameter file.

    Raises
    ------
    CdlmError
        No such network, one of another run, a domain without its attributes or without a grid.
    """
    from bmi_cdlm.domain.domain import read_domain
    from bmi_cdlm.names.errors import ConfigError
    from bmi_cdlm.names.writing import check_writable
    from bmi_cdlm.run.config import load_config
    from bmi_cdlm.version import __version__
    from cdlm_training.fields import parameters_of, write_fields
    from cdlm_training.window_file import as_checkpoint, load_windowed, make_windowed, window_inputs

    if output.suffix != ".nc":
        raise ConfigError(f"{output}: expected a name that ends in .nc.")
    found, run = load_windowed(path), load_config(config)
    as_checkpoint(found).check_run(
        time_step=run.time_step, routing_step=run.routing_step, **run.processes, components=run.components,
    )
    run.check_target(output, "--to", replaces=("parameters",))
    check_writable(output)
    domain = read_domain(run.domain)
    generator = make_windowed(found.spec, found.shape, run.domain, domain)
    generator.load(found.tensors)
    values = parameters_of(generator, window_inputs(found.spec, run.domain, domain))
    write_fields(output, values, run, domain, "resnet", {**found.record, "code_version": __version__,
                                                        "applied": str(path)})
