"""`cdlm demo`: a real basin, prepared, trained where torch is there, run, scored and drawn."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import click

from bmi_cdlm.commands.common import CleanErrors, console, screen
from bmi_cdlm.commands.progress import Phases, Watch
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.evaluation import draw, evaluate, rain_above
from bmi_cdlm.evaluate.overview import plot_overview
from bmi_cdlm.evaluate.tables import score_table
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.prepare.examples import check_demo, find_example
from bmi_cdlm.prepare.run import prepare as make_files
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.simulation import Simulation

CASE, CHECKPOINT = "lez.yaml", "lez.safetensors"


@click.command(cls=CleanErrors)
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("cdlm-demo"), show_default=True,
              help="Folder to make and write to.")
@click.option("--train/--no-train", "train", default=None,
              help="Train (needs torch), or take a ready checkpoint.  [default: train where torch is installed]")
@click.option("--quiet", is_flag=True, help="Say nothing of how far it is.")
def demo(folder: Path, train: bool | None, quiet: bool) -> None:
    """Show a basin from rasters to scores: the Lez (France), three gauges, a year of days.

    Needs the extras `examples` and `plot`, and `train` to see it learn. Nothing is downloaded.
    """
    check_demo()
    learns = importlib.util.find_spec("torch") is not None if train is None else train
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CASE
    shutil.copyfile(find_example(CASE), config)
    with Phases("demo", quiet=quiet) as phases:
        made = make_files(config, say=phases.say)
    for file in made.files.values():
        console.print(f"wrote {file}")
    checkpoint = _learn(config, folder, quiet=quiet) if learns else _ready(folder)
    settings = load_config(config, {"parameters": checkpoint})
    with Watch("run", settings.n_steps, "steps", quiet=quiet) as watch:
        simulation = Simulation(settings)
        simulation.run(watch.advance)
        simulation.close()
    _show(settings, folder)


def _learn(config: Path, folder: Path, *, quiet: bool) -> Path:
    """Train in a process of its own, whose output goes on to ours."""
    console.print("training: a network gives every cell its parameters, fitted to discharge at three gauges")
    command = [sys.executable, "-m", "cdlm_training", str(config), *(["--quiet"] if quiet else [])]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise ConfigError(
            f"the training ended with code {done.returncode}, for the reason above. Without one: cdlm demo --no-train"
        )
    return folder / "lez" / CHECKPOINT


def _ready(folder: Path) -> Path:
    """The checkpoint that comes along, beside the case."""
    path = folder / CHECKPOINT
    shutil.copyfile(find_example(CHECKPOINT), path)
    console.print(f"wrote {path}: trained before, as `cdlm-train {folder / CASE}` would (extra `train`)")
    return path


def _show(settings: Config, folder: Path) -> None:
    """Scores, hydrographs, and one picture of it all."""
    results = evaluate(settings)
    screen.print(score_table(results, "the Lez, all days of the year it was trained on"))
    rain = rain_above(settings, results)
    outlet = max(results, key=lambda one: one.area)
    picture = folder / "demo.png"
    above = None if rain is None else rain[outlet.gauge_id]
    plot_overview(picture, read_domain(settings.domain), outlet, above, "The Lez")
    for path in (*draw(settings, results), picture):
        console.print(f"wrote {path}")
    config = folder / CASE
    console.print(f"next: cdlm doctor {config}, cdlm evaluate {config} --by month, and the tutorials of the site")
