"""`cdlm-train multiset`: one parameter set out of many drawn ones."""

from __future__ import annotations

from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.writing import check_writable
from cdlm_training.commands.common import require_torch


@click.command("multiset", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--sets", default=500, show_default=True, type=click.IntRange(10), help="Parameter sets that are drawn.")
def multiset_command(config: Path, sets: int) -> None:
    """Estimate one parameter set from many drawn ones, weighted by how each fits; writes the `output` of CONFIG.

    Of `mapping: uniform`; it follows no slope, and tells how far parameters may lie from the estimate.
    """
    require_torch()
    from cdlm_training.distributed import Team
    from cdlm_training.evaluate import write_checkpoint
    from cdlm_training.loop import Trainer
    from cdlm_training.multiset import estimate, set_places, told
    from cdlm_training.scores import score, simulate_gauges

    trainer = Trainer(config, Team(0, 1))
    keys = trainer.config
    if keys.mapping != "uniform" or keys.pet_factor or keys.learn_component_weights or keys.loss.of_samples or \
            keys.quartile is not None or keys.loss.gaussian:
        raise ConfigError(
            f"{config}: multiset draws the parameters of one set; expected mapping: uniform, pet_factor: false, no "
            "learn_component_weights, weights of gauges, and terms of each gauge in loss (no gaussian, nse_batch, "
            "rmse_comb)."
        )
    check_writable(keys.output)
    found = estimate(trainer, sets, keys.seed)
    set_places(trainer, found.places)
    write_checkpoint(keys.output, trainer, None)
    scores = score(trainer.run, trainer.data.ids, *simulate_gauges(trainer.run, keys.output), keys.validation)
    write_checkpoint(keys.output, trainer, scores)
    for note in told(trainer, found):
        console.print(note)
    console.print(f"NSE {', '.join(f'{g} {nse:.3f}' for g, (nse, _) in scores.gauges.items())}")
    console.print(f"wrote {keys.output}")
