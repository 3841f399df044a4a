"""`cdlm run`: run a configuration, in this process or on the workers of dask."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console
from bmi_cdlm.commands.progress import Watch
from bmi_cdlm.model.model import Model
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.distributed import Tls, run_distributed
from bmi_cdlm.run.ensemble import count_members, member_path, run_ensemble
from bmi_cdlm.run.simulation import Simulation
from bmi_cdlm.run.waves import wave_fit

MOST_SHOWN = 20


@click.command(cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file to use.")
@click.option("--from", "state", type=click.Path(path_type=Path), help="Restart file to go on from, with its clock, in "
              "place of `initial_state` and `spin_up`.")
@click.option("--resume", is_flag=True, help="Go on from the last restart file of a run that was killed.")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on the workers of this dask scheduler, tcp://host:port.")
@click.option("--partitions", type=click.IntRange(1), help="With --scheduler: about how many pieces to make.")
@click.option("--tls-ca", type=click.Path(path_type=Path), help="With --scheduler tls://...: authority that all trust.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Own certificate (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Key of the own certificate (PEM).")
def run(
    config: Path, parameters: Path | None, state: Path | None, resume: bool, quiet: bool, scheduler: str | None,
    partitions: int | None, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
) -> None:
    """Run the model as a CONFIG file says; output streams to its file."""
    if partitions is not None and scheduler is None:
        raise click.UsageError("--partitions goes with --scheduler: one process runs the domain as a whole.")
    tls = None if tls_ca is None or tls_cert is None or tls_key is None else Tls(tls_ca, tls_cert, tls_key)
    if tls is None and (tls_ca or tls_cert or tls_key):
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key go together.")
    if tls is not None and (scheduler is None or not scheduler.startswith("tls://")):
        raise click.UsageError("--tls-ca, --tls-cert and --tls-key go with --scheduler tls://host:port.")
    if resume and scheduler is not None:
        raise click.UsageError("--resume goes without --scheduler, which keeps no restart files on the way.")
    overrides: dict[str, object] = {} if parameters is None else {"parameters": parameters}
    if state is not None:
        overrides |= {"initial_state": state, "spin_up": 0, "restart_mode": "resume"}
    settings = load_config(config, overrides)
    model: Model | None
    n_members = count_members(settings) if scheduler is None else 1
    with Watch(config.stem, settings.n_steps * n_members, "steps", quiet=quiet) as watch:
        if n_members > 1:
            run_ensemble(settings, watch.advance, resume=resume)
            model = None
        elif scheduler is not None:
            model = run_distributed(settings, scheduler, partitions, watch.advance, tls)
        else:
            simulation = Simulation(settings, resume=resume)
            model = simulation.model
            watch.begin_at(simulation.n_done)
            simulation.run(watch.advance)
            simulation.close()
    if model is not None:
        _print_run(settings, model)
    elif settings.output is not None:
        last = member_path(settings.output, n_members)
        console.print(f"wrote {settings.output}, the mean of {n_members} members, and each beside it, to {last.name}")


def _print_run(config: Config, model: Model) -> None:
    """Water balance, and what the routing step does to the flood wave at the gauges."""
    live = {name: float(model.live[name][0]) for name in ("water_in", "water_out", "water_exchanged", "water_stored")}
    console.print(
        f"water [m3]: in {live['water_in']:.6g}, out {live['water_out']:.6g}, exchanged {live['water_exchanged']:.6g}, "
        f"stored now {live['water_stored']:.6g}"
    )
    if model.chain.reach.travel_time is not None:  # of other processes it depends on the flow
        _print_travel_times(config, model)
    fit = wave_fit(model)
    if fit is not None:
        console.print(f"flood waves: {fit.told(config.routing_step)}")
    if config.output is not None:
        console.print(f"wrote {config.output}")


def _print_travel_times(config: Config, model: Model) -> None:
    """What the routing step does to the flood wave at the gauges."""
    gauges = model.domain.gauges
    mean, spread = model.travel_time_spread()
    for name, reach in islice(zip(gauges.id, gauges.reach, strict=True), MOST_SHOWN):
        console.print(
            f"routing to {name}: mean travel time {mean[reach] / 3600:.1f} h, spread of a pulse "
            f"{spread[reach] / 3600:.1f} h at a sub-step of {config.routing_step} s"
        )
    if len(gauges.id) > MOST_SHOWN:
        console.print(f"... and {len(gauges.id) - MOST_SHOWN} more gauges")
