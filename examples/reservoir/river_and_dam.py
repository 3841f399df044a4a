"""A dam in a river: bmi_cdlm and a level-pool reservoir, each a BMI component, exchange water at a reach.

    python examples/reservoir/river_and_dam.py                        a made-up basin and its storms
    python examples/reservoir/river_and_dam.py --config cfg/lez.yaml --reach ID
    python examples/reservoir/river_and_dam.py --server               the river in a process of its own, behind grpc4bmi

At every step the reservoir takes all that flows and stands in its reach, and gives what it lets go to the reach below,
one step later. Both are exchanged through `coupled_inputs: [reach_inflow]`. A picture shows the river above, the
storage, and the river below with the dam and without; the water of both components is closed, or an error says by how
much it is not.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import yaml
from level_pool import INFLOW, LEVEL, OUTFLOW, RELEASE, SPILL, STORAGE, LevelPool

from bmi_cdlm import BmiCdlm
from bmi_cdlm.names.variables import variable

HERE = Path(__file__).resolve().parent
FLOW, TAKEN, DISCHARGE, RAIN, DEMAND = (
    variable(n).name
    for n in ("reach_inflow", "reach_inflow_taken", "discharge", "precipitation", "potential_evapotranspiration")
)
TOTALS = tuple(variable(f"water_{n}").name for n in ("in", "out", "exchanged", "stored"))
DOWNSTREAM, REACH_IDS = "channel_reach_downstream__index", "channel_reach__id_text"
ALL_THERE_IS = -1e6
"""A withdrawal that no river has: it takes what flows and stands in the reach [m3 s-1]."""
CLOSED = 1e-9
"""Share of the water that went through, up to which the two components are closed."""
SERVE = "import sys; from grpc4bmi.run_server import main; sys.exit(main())"


class Record(NamedTuple):
    """What the coupling saw, float64[step]: flows [m3 s-1], storage [m3], level [m]; and the closure of the water.

    closure : what is missing, as a share of the water that went through.
    """

    inflow: np.ndarray
    release: np.ndarray
    spill: np.ndarray
    storage: np.ndarray
    level: np.ndarray
    below: np.ndarray
    closure: float


def at(model: Any, name: str, place: int, kind: type = np.float64) -> float:
    """One value; a component behind grpc has copies only."""
    return float(model.get_value_at_indices(name, np.empty(1, kind), np.array([place]))[0])


def totals(river: Any) -> np.ndarray:
    """Water in, out, exchanged and stored since the start [m3]."""
    return np.array([at(river, name, 0) for name in TOTALS])


def storms(n_steps: int, n_cells: int) -> tuple[np.ndarray, float]:
    """Rain of a made-up year, float64[step, cell], and a demand, both [mm d-1]."""
    rng = np.random.default_rng(4)
    wet = np.repeat(rng.random(n_steps // 5 + 1) < 0.35, 5)[:n_steps, None]
    return np.where(wet, rng.exponential(14.0, (n_steps, n_cells)), 0.0), 2.0


def couple(river: Any, dam: Any | None, place: int, n_steps: int, rain: np.ndarray | None, demand: float) -> Record:
    """Step both, in turn; without a dam the river is that of nature.

    river, dam : initialized components; place : index of the reach with the dam; rain : what is given to a river that
    asks for it, float64[step, cell] [mm d-1].
    """
    below = int(at(river, DOWNSTREAM, place, np.int64))
    if below < 0:
        raise click.ClickException(f"reach {place} is an outlet, expected one with a reach below it.")
    seconds, released, rows = river.get_time_step(), 0.0, []
    start, before = totals(river), 0.0 if dam is None else at(dam, STORAGE, 0)
    for step in range(n_steps):
        if rain is not None:
            river.set_value(RAIN, rain[step])
            river.set_value(DEMAND, np.full(rain.shape[1], demand))
        if dam is not None:
            river.set_value_at_indices(FLOW, np.array([place, below]), np.array([ALL_THERE_IS, released]))
        river.update()
        inflow, state = at(river, DISCHARGE, place), [0.0] * 4
        if dam is not None:
            inflow = -at(river, TAKEN, place)
            dam.set_value(INFLOW, np.array([inflow]))
            dam.update_until(river.get_current_time())
            released = at(dam, OUTFLOW, 0)
            state = [at(dam, name, 0) for name in (RELEASE, SPILL, STORAGE, LEVEL)]
        rows.append([inflow, *state, at(river, DISCHARGE, below)])
    came, left, exchanged, held = totals(river) - start
    on_its_way = released * seconds  # the dam let it go, the river has it from the next step on
    stored = 0.0 if dam is None else at(dam, STORAGE, 0) - before
    missing = came + exchanged - left - held - stored - on_its_way
    return Record(*np.array(rows).T, abs(missing) / (came + left))


def configure(config: Path | None, folder: Path, days: int) -> Path:
    """Write the river's configuration: that of a case with the dam's input, or of the made-up basin."""
    if config is None:
        domain = Path(sys.modules["bmi_cdlm"].__file__ or "").parent / "bmi" / "meta" / "domain.nc"
        end = np.datetime64("2001-01-01") + days
        content = {
            "domain": str(domain), "forcing": "caller", "start": "2001-01-01", "end": str(end),
            "initial_state": "equilibrium",
        }
        path = folder / "river.yaml"
    else:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        path = config.resolve().with_name(f"{config.stem}.stepped.yaml")
    content["coupled_inputs"] = ["reach_inflow"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@contextlib.contextmanager
def opened(config: Path, *, server: bool) -> Iterator[Any]:
    """The river, here or in a process of its own."""
    if not server:
        river = BmiCdlm()
        river.initialize(str(config))
        yield river
        river.finalize()
        return
    import grpc
    from grpc4bmi.bmi_grpc_client import BmiClient

    port = BmiClient.get_unique_port("localhost")
    process = subprocess.Popen([sys.executable, "-c", SERVE, "--name", "bmi_cdlm.BmiCdlm", "--port", str(port)])
    try:
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
            client = BmiClient(channel)
            client.initialize(str(config))
            yield client
            client.finalize()
    finally:
        process.terminate()
        process.wait()


def place_of(river: Any, name: str | None) -> int:
    """Index of a reach by its id; of the last that has a reach below it where there is none."""
    size = river.get_grid_size(1)
    if name is None:
        return int(np.flatnonzero(river.get_value(DOWNSTREAM, np.empty(size, np.int64)) >= 0)[-1])
    text = river.get_value(REACH_IDS, np.empty(river.get_var_nbytes(REACH_IDS), np.uint8)).reshape(size, -1)
    ids = [row.tobytes().rstrip(b"\0").decode() for row in text]
    if name not in ids:
        raise click.ClickException(f"there is no reach '{name}', expected one of {', '.join(ids[:8])}, ...")
    return ids.index(name)


def draw(path: Path, dammed: Record, natural: Record) -> None:
    """Draw the river above, the storage, and the river below."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    days = np.arange(dammed.inflow.size)
    figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True, constrained_layout=True)
    axes[0].plot(days, dammed.inflow, color="#1a1a1a", lw=1, label="into the reservoir")
    axes[0].plot(days, dammed.release + dammed.spill, color="#5b8db8", lw=1.2, label="out of it")
    axes[0].set_ylabel("upstream [m3 s-1]")
    axes[1].fill_between(days, dammed.storage / 1e6, color="#5b8db8", lw=0)
    axes[1].set_ylabel("storage [hm3]")
    spilling = dammed.spill > 0.0
    axes[1].plot(days[spilling], dammed.storage[spilling] / 1e6, ".", ms=3, color="#d1495b", label="spills")
    axes[2].plot(days, natural.below, color="#9a9a9a", lw=1, label="without the dam")
    axes[2].plot(days, dammed.below, color="#d1495b", lw=1.2, label="with it")
    axes[2].set_ylabel("downstream [m3 s-1]")
    axes[2].set_xlabel("step")
    for one in axes:
        one.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


@click.command()
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="A case with forcing from a file.")
@click.option("--reach", help="Id of the reach with the dam.  [default: the last with a reach below it]")
@click.option("--dam", "settings", type=click.Path(path_type=Path, exists=True), help="YAML of the reservoir.")
@click.option("--days", default=365, show_default=True, help="Steps to run.")
@click.option("--picture", type=click.Path(path_type=Path), default=HERE / "reservoir.png", help="Where to draw.")
@click.option("--server", is_flag=True, help="The river behind grpc4bmi.")
def main(
    config: Path | None, reach: str | None, settings: Path | None, days: int, picture: Path, server: bool
) -> None:
    """Run the river without the dam and with it, and draw both."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = configure(config, Path(folder), days)
        try:
            for there in (False, True):
                with opened(path, server=server) as river:
                    n_steps = min(days, round(river.get_end_time() / river.get_time_step()))
                    n_cells = river.get_var_nbytes(RAIN) // river.get_var_itemsize(RAIN)
                    rain, demand = storms(n_steps, n_cells) if config is None else (None, 0.0)
                    dam = LevelPool()
                    dam.initialize("" if settings is None else str(settings))
                    place = place_of(river, reach)
                    found.append(couple(river, dam if there else None, place, n_steps, rain, demand))
        finally:
            if config is not None:
                path.unlink(missing_ok=True)
    natural, dammed = found
    draw(picture, dammed, natural)
    print(
        f"{dammed.inflow.size} steps: largest flow below {natural.below.max():.2f} m3 s-1 without the dam, "
        f"{dammed.below.max():.2f} with it; it spilled in {int((dammed.spill > 0).sum())} steps"
    )
    print(f"water of both components is closed to {dammed.closure:.1e} of what went through; wrote {picture}")
    if dammed.closure > CLOSED:
        raise click.ClickException(f"{dammed.closure:.1e} of the water is missing, expected at most {CLOSED:g}")


if __name__ == "__main__":
    main()
