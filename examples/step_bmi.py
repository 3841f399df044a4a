"""Step a case through the Basic Model Interface, as a coupling framework would, and score what comes out.

    python examples/step_bmi.py cfg/lez.yaml --parameters cfg/lez/lez.safetensors

The discharge at the gauges is read after every update and written to the `output` of the configuration; then
scores and hydrographs are made from it. BMI takes a configuration file, so that other parameters than the configured
ones go into a copy of it.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import yaml

from bmi_cdlm import BmiCdlm
from bmi_cdlm.commands.common import console
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.evaluation import draw, evaluate
from bmi_cdlm.evaluate.tables import score_table
from bmi_cdlm.files.output import OutputFile
from bmi_cdlm.names.variables import variable
from bmi_cdlm.run.config import load_config


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file.")
def main(config: Path, parameters: Path | None) -> None:
    """Run CONFIG step by step through BMI."""
    if parameters is not None:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        content["parameters"] = str(parameters.resolve())
        config = config.with_name(f"{config.stem}.stepped.yaml")
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
    settings = load_config(config)
    assert settings.output is not None
    gauges = read_domain(settings.domain).gauges.id

    model = BmiCdlm()
    model.initialize(str(config))
    discharge = model.get_value_ptr(variable("gauge_discharge").name)
    with OutputFile(
        settings.output, "gauge", gauges, ["discharge"], settings.time_step, {}, calendar=settings.calendar
    ) as output:
        while (now := model.get_current_time()) < model.get_end_time():
            model.update()
            output.append(np.array([settings.start + np.timedelta64(int(now), "s")]), {"discharge": discharge[None]})
    model.finalize()

    results = evaluate(settings)
    console.print(score_table(results, f"{config.stem} through BMI, {results[0].starts[0]} to {settings.end}"))
    for path in draw(settings, results):
        console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
