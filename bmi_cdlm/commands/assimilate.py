"""`cdlm assimilate`: the state that a forecast starts from, fitted to the discharge of the last days."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from bmi_cdlm.assimilate.assimilation import Analysis, assimilate
from bmi_cdlm.assimilate.choice import FITTED, Choice, Errors
from bmi_cdlm.assimilate.report import findings, fit_table, moved_table
from bmi_cdlm.commands.common import CleanErrors, console, screen
from bmi_cdlm.names.calendars import date_text
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.time_steps import HOUR
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.values import parse_date, parse_duration

DEFAULT, ERRORS = Choice(0), Errors()
Value = TypeVar("Value")


def _share(name: str, what: str, default: float) -> Any:
    return click.option(
        name, type=click.FloatRange(0, 10, min_open=True), default=default, show_default=True,
        help=f"Standard deviation of {what} [1].",
    )


@click.command("assimilate", cls=CleanErrors)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--window", required=True, metavar="TIME", help="How far back observations go, such as `5 d` or `12 h`.")
@click.option("--at", metavar="DATE", help="End of the window, where the forecast starts; nothing after it is read.  "
              "[default: end of CONFIG]")
@click.option("--to", "path", type=click.Path(path_type=Path), help="Restart file to write.  [default: `restart` of "
              "CONFIG]")
@click.option("--from", "state", type=click.Path(path_type=Path), help="Restart file to go on from up to the window, "
              "in place of `initial_state` and `spin_up`.")
@click.option("--parameters", type=click.Path(path_type=Path), help="Checkpoint or parameter file to use.")
@click.option("--fit", default=",".join(DEFAULT.fit), show_default=True, metavar="WHAT",
              help=f"What is fitted, of {', '.join(FITTED)} (a factor on that of the window), with commas between.")
@click.option("--store", "stores", multiple=True, metavar="NAME", help="Fit this store alone; may be given again.")
@click.option("--gauge", "gauges", multiple=True, metavar="ID", help="Use this gauge alone; may be given again.")
@_share("--store-error", "a store, as a share of its capacity, or of what stands for one", ERRORS.store)
@click.option("--error-of", multiple=True, metavar="NAME=VALUE", help="Standard deviation of a store in its units, in "
              "place of that; may be given again.")
@_share("--river-error", "the logarithm of the water in a reach", ERRORS.river)
@_share("--rain-error", "the logarithm of the factor on rain", ERRORS.rain)
@_share("--flow-error", "an observation, as a share of it", ERRORS.flow)
@_share("--flow-floor", "what is added to that, as a share of the gauge's mean in the window", ERRORS.floor)
@click.option("--error-time", default=f"{ERRORS.time // HOUR} h", show_default=True, metavar="TIME",
              help="How long an error of observations lasts: those within count as one.")
@click.option("--correlation", type=click.FloatRange(0), default=ERRORS.distance, show_default=True, metavar="KM",
              help="L of the correlation exp(-d^2 / 2 L^2) of errors of the state d apart; 0: none.")
@click.option("--members", type=click.IntRange(2), help="Fit so many starts with perturbed background and "
              "observations, each with a restart file of its own (randomised maximum likelihood).")
@click.option("--seed", type=click.IntRange(0), default=DEFAULT.seed, show_default=True, help="Of the perturbations.")
@click.option("--iterations", type=click.IntRange(1), default=DEFAULT.iterations, show_default=True, help="At most.")
@click.option("--force", is_flag=True, help="Replace restart files that are there.")
@click.option("--quiet", is_flag=True, help="Say nothing of what is being done.")
def assimilate_command(
    config: Path, window: str, at: str | None, path: Path | None, state: Path | None, parameters: Path | None, fit: str,
    stores: tuple[str, ...], gauges: tuple[str, ...], store_error: float, error_of: tuple[str, ...], river_error: float,
    rain_error: float, flow_error: float, flow_floor: float, error_time: str, correlation: float, members: int | None,
    seed: int, iterations: int, force: bool, quiet: bool,
) -> None:
    """Fit the state of CONFIG to the gauges of the last days, and write a restart file that a forecast starts from.

    The state at the begin of the window moves so that J = 1/2 sum ((simulated - observed) / sd)^2 + 1/2 sum (moves in
    standard deviations)^2 is least; gradients come from the adjoint of the model. Stores stay within their capacities.
    """
    overrides: dict[str, object] = {} if parameters is None else {"parameters": parameters}
    overrides |= {} if state is None else {"initial_state": state, "spin_up": 0, "restart_mode": "resume"}
    settings = load_config(config, overrides)
    target = settings.restart if path is None else path
    if target is None:
        raise ConfigError("assimilate: no file to write. Give --to, or set 'restart' in the configuration.")
    errors = Errors(
        store_error, dict(map(_error_of, error_of)), river_error, rain_error, flow_error, flow_floor,
        _read("error-time", parse_duration, error_time), correlation,
    )
    choice = Choice(
        _read("window", parse_duration, window),
        None if at is None else _read("at", lambda text: parse_date(text, settings.calendar), at),
        _fit(fit), stores or None, gauges or None, errors, members or 0, seed, iterations,
    )
    with console.status("reading", spinner="dots") if not quiet else nullcontext() as status:
        found = assimilate(
            settings, choice, target, lambda text: None if status is None else status.update(text), force=force
        )
    _tell(found, f"{config.stem}, {window} to {date_text(settings.end if choice.at is None else choice.at)}")
    more = "" if parameters is None else f" --parameters {parameters}"
    console.print(
        f"go on with `initial_state: {target}` and `spin_up: 0`, or `cdlm run {config}{more} --from {target}`"
    )


def _tell(found: list[Analysis], title: str) -> None:
    screen.print(fit_table(found, title))
    screen.print(moved_table(found))
    for line in findings(found):
        console.print(line)
    for one in found:
        console.print(f"wrote {one.path}")


def _read(name: str, parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except ValueError as cause:
        raise ConfigError(f"--{name}: {cause}.") from cause


def _fit(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for word in words:
        if word not in FITTED:
            raise ConfigError(f"--fit: '{word}' cannot be fitted; expected some of {', '.join(FITTED)}.")
    return words


def _error_of(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (0.0 < number < float("inf")):
        raise ConfigError(f"--error-of: '{text}', expected a store and a number above 0, such as routing_store=15.")
    return name.strip(), number
