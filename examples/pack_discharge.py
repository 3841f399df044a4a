"""Make a small file of the discharge of a run, or of the mean of several: single precision, compressed, with a note.

    cdlm run cfg/erie.yaml --parameters examples/erie.safetensors
    python examples/pack_discharge.py cfg/erie/run.nc --note "..." --to examples/erie_discharge.nc

The runs wrote the same steps, and the gauges of the first one, which are those of the file; it can stand for `against`
of an experiment, too.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np

DIGITS = 4
"""Significant digits that are kept: an error far below that of any gauge, and a smaller file."""


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--note", default="", help="What the run was, for the file.")
@click.option("--to", "output", type=click.Path(path_type=Path), required=True)
def main(runs: tuple[Path, ...], note: str, output: Path) -> None:
    """Read the discharge of RUNS and write it, of several their mean."""
    run = runs[0]
    mean = np.mean([read(one, run) for one in runs], axis=0)
    with netCDF4.Dataset(run) as source, netCDF4.Dataset(output, "w") as target:
        flow = source["discharge"]
        target.setncatts({"Conventions": "CF-1.10", "title": f"discharge of {run.stem}", "comment": note})
        for name, size in (("time", None), ("bnds", 2), ("gauge", source.dimensions["gauge"].size)):
            target.createDimension(name, size)
        for name in ("time", "time_bnds", "gauge_id"):
            variable = source[name]
            kind = str if variable.dtype is str else variable.dtype
            packed = {} if kind is str else {"zlib": True, "chunksizes": variable.shape}
            made = target.createVariable(name, kind, variable.dimensions, **packed)
            made.setncatts({key: variable.getncattr(key) for key in variable.ncattrs() if key != "_FillValue"})
            made[:] = variable[:]
        made = target.createVariable(
            "discharge", "f4", flow.dimensions, zlib=True, complevel=9, shuffle=True, chunksizes=flow.shape,
            significant_digits=DIGITS, quantize_mode="GranularBitRound", fill_value=np.nan,
        )
        made.setncatts({key: flow.getncattr(key) for key in flow.ncattrs() if key != "_FillValue"})
        made[:] = mean
    click.echo(f"wrote {output}, {output.stat().st_size / 1000:.0f} kB")


def read(path: Path, first: Path) -> np.ndarray:
    """Discharge of a run, float64[time, gauge], at the gauges of the first one, of the same steps."""
    with netCDF4.Dataset(path) as source, netCDF4.Dataset(first) as expected:
        flow = source["discharge"]
        if "gauge" not in flow.dimensions:
            places = ", ".join(flow.dimensions)
            raise click.ClickException(f"{path}: discharge is on {places}, expected gauges. Set output_at: gauges.")
        if not np.array_equal(source["time"][:], expected["time"][:]):
            raise click.ClickException(f"{path}: time differs from that of {first}, expected the same.")
        own, wanted = ([str(one) for one in file["gauge_id"][:]] for file in (source, expected))
        absent = [one for one in wanted if one not in own]
        if absent:
            raise click.ClickException(f"{path}: has no gauge {absent[0]}, expected those of {first}.")
        return np.ma.filled(flow[:].astype(np.float64), np.nan)[:, [own.index(one) for one in wanted]]


if __name__ == "__main__":
    main()
