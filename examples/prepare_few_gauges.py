"""Two regions of gauged basins as the files of runs, one to make labels in, one where few gauges measure.

    python examples/prepare_few_gauges.py basins_mopex_a.nc basins_mopex_b.nc --place basins_gripe.nc --to few
    cdlm-train labels few/mopex.yaml --model gr4j --restarts 2 --to few/labels.nc
    cdlm-train few/mopex.yaml                        # pre-trains on the labels; its own training is one update
    python examples/few_gauges.py few/gripe.yaml --from few/mopex_training/pretrained.safetensors --to few/trained

The source files are not part of the project. Every basin is one cell, one reach of no length and one gauge. Labels come
from every second basin of MOPEX in the climate of Lake Erie (east of 100 degrees west, north of 36 degrees north), but
from none in its region, and from none that both files have.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np
import yaml
from prepare_lumped import Columns, read, write_domain, write_series

NORTH_OF, EAST_OF = 36.0, -100.0
REGION = ((40.0, 44.7), (-86.0, -78.0))
"""Latitudes and longitudes of the basins around Lake Erie, none of which is to give a label."""
ATTRIBUTES = {
    "p_mean": "mm d-1", "pet_mean": "mm d-1", "t_mean": "degC", "aridity": "1", "frac_snow": "1",
    "high_prec_freq": "d yr-1", "frac_forest": "1",
}
YEAR = 365.25
FORCING = {"precipitation": ("precipitation", "mm d-1"), "temperature": ("air_temperature", "degC"),
           "pet": ("potential_evapotranspiration", "mm d-1")}
RUN = {"parameters": "default", "time_step": "1 d", "routing_step": "1 d", "snow": "cemaneige", "threads": 1}
TRAINING = {"cell_attributes": list(ATTRIBUTES), "mapping": "mlp", "hidden": [16, 16], "learn_routing": False,
            "pet_factor": False, "pet_kind": "oudin", "window": 365, "warm_up": 365}
ELSEWHERE = {"train": ["1979-10-01", "1984-10-01"], "pretrain": {"labels": "labels.nc", "mask_below": 0.3},
             "epochs": 1, "updates": 1}
HERE = {"train": ["2011-01-01", "2013-01-01"], "updates": 20, "epochs": 5}


@click.command()
@click.argument("sources", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--place", type=click.Path(path_type=Path, exists=True), required=True, help="Basins around Lake Erie.")
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("few"), show_default=True)
def main(sources: tuple[Path, ...], place: Path, folder: Path) -> None:
    """Write the files and configurations of both regions from the files SOURCES and that of the place."""
    values, _, time = read(sources)
    here = read_place(place)
    chosen = labelled(values, here["basin_id"].astype(str).tolist())
    elsewhere = {name: column[..., chosen] for name, column in values.items()}
    write(folder, "mopex", elsewhere, time, ELSEWHERE)
    with netCDF4.Dataset(place) as data:
        days = np.array(netCDF4.num2date(data["time"][:], data["time"].units, only_use_cftime_datetimes=False), "M8[s]")
    write(folder, "gripe", here, days, HERE)


def read_place(path: Path) -> Columns:
    """Basins around Lake Erie, in the units of MOPEX."""
    names = ["basin_id", "lat", "lon", "area", *FORCING, "runoff_obs", *(f"attr_{name}" for name in ATTRIBUTES)]
    with netCDF4.Dataset(path) as data:
        found = {name: np.ma.filled(data[name][:], np.nan) if data[name].dtype != str else data[name][:]
                 for name in names}
    return found | {"attr_high_prec_freq": found["attr_high_prec_freq"] * YEAR}


def labelled(values: Columns, here: list[str]) -> np.ndarray:
    """Places of the basins that give labels."""
    lat, lon = values["lat"], values["lon"]
    (south, north), (west, east) = REGION
    inside = (lat > south) & (lat < north) & (lon > west) & (lon < east)
    ids = values["basin_id"].astype(str)
    return np.flatnonzero((lon > EAST_OF) & (lat > NORTH_OF) & ~inside & ~np.isin(ids, here))[::2]


def write(folder: Path, name: str, values: Columns, time: np.ndarray, training: dict) -> None:
    """Domain, forcing, observations and configuration of a region."""
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    write_domain(own / "domain.nc", values, {f"attr_{one}": unit for one, unit in ATTRIBUTES.items()})
    write_series(own / "forcing.nc", "cell", values, time, {
        to: (values[one], unit) for one, (to, unit) in FORCING.items()})
    flow = values["runoff_obs"] * values["area"] / 86.4
    write_series(own / "observations.nc", "gauge", values, time, {"discharge": (flow, "m3 s-1")})
    first, last = int(np.searchsorted(time, np.datetime64(training["train"][0]))), time[-1] + np.timedelta64(1, "D")
    train = flow[first : first + int((np.datetime64(training["train"][1]) - time[first]) / np.timedelta64(1, "D"))]
    gauges = values["basin_id"].astype(str)[np.isfinite(train).mean(axis=0) > 0.5].tolist()
    content = {
        **{key: f"{name}/{key}.nc" for key in ("domain", "forcing", "observations")}, **RUN,
        "start": str(time[0])[:10], "end": str(last)[:10], "output": f"{name}/run.nc",
        "training": {"output": f"{name}.safetensors", "gauges": gauges, **TRAINING, **training},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    click.echo(f"wrote {folder / name}: {len(values['area'])} basins, {len(gauges)} with discharge")


if __name__ == "__main__":
    main()
