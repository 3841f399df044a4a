"""A domain of few cells from a prepared one: a cell is the own area of a gauge, what drains to it through no other.

    python examples/own_areas.py cfg/gripe.yaml --to cfg/gripe_own

writes domain, forcing and configuration to a folder; the observations stay where they are. Attributes and forcing of a
cell are means over the own area. A gauge's reach is as long as the river from the largest gauge next upstream, without
one it has no length: what a river does within an own area is left to the runoff process. Nested gauges stay nested, so
that folds, maps and similarity are those of the whole domain, at a hundredth of its cost.
"""

from __future__ import annotations

from pathlib import Path

import click
import netCDF4
import numpy as np
import yaml
from prepare_lumped import put

from bmi_cdlm.domain.domain import Domain, read_domain
from bmi_cdlm.names.writing import replacing
from bmi_cdlm.run.config import load_config
from cdlm_training.labels.areas import Areas, means, own_areas

DAYS = 100
"""Steps of forcing that are held at once."""
NO_MEANS = ("cell_id", "cell_lon", "cell_lat", "cell_area")


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True)
def main(config: Path, folder: Path) -> None:
    """Write the files of the own areas of CONFIG's gauges."""
    run = load_config(config)
    domain = read_domain(run.domain)
    areas = own_areas(domain, range(len(domain.gauges.id)))
    if not areas.has_own.all():
        lacking = next(g for g, own in zip(domain.gauges.id, areas.has_own, strict=True) if not own)
        raise click.ClickException(f"gauge {lacking} has no area of its own. Leave it out of the domain.")
    folder.mkdir(parents=True, exist_ok=True)
    write_domain(folder / "domain.nc", run.domain, domain, areas)
    write_forcing(folder / "forcing.nc", Path(run.forcing), domain, areas)
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content = {k: v for k, v in content.items() if k != "prepare"} | {
        "domain": "domain.nc", "forcing": "forcing.nc", "observations": str(Path(str(run.observations)).resolve()),
        "output": "run.nc",
    }
    (folder / config.name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    click.echo(f"wrote {folder}: {len(domain.gauges.id)} own areas of {domain.n_cells} cells")


def lengths(domain: Domain, areas: Areas) -> np.ndarray:
    """River from the largest gauge next upstream to each gauge, float64[gauge] [m]; 0 without one."""
    reach, found = domain.gauges.reach, np.zeros(areas.area.size)
    for k, above in enumerate(areas.above):
        if above:
            at = int(reach[max(above, key=lambda one: domain.reaches.upstream_area[reach[one]])])
            while at != reach[k]:
                at = int(domain.reaches.downstream[at])
                found[k] += domain.reaches.length[at]
    return found


def write_domain(path: Path, source: Path, domain: Domain, areas: Areas) -> None:
    """Cells, reaches and gauges, all by the ids of the gauges."""
    ids, n = np.array(domain.gauges.id, object), areas.area.size
    below = np.full(n, -1)
    for k, above in enumerate(areas.above):
        below[above] = k
    slope = np.bincount(areas.reach[areas.reach >= 0], domain.reaches.slope[areas.reach >= 0], n) / np.bincount(
        areas.reach[areas.reach >= 0], minlength=n)
    with netCDF4.Dataset(source) as data, replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        for dimension in ("cell", "reach", "link", "gauge"):
            out.createDimension(dimension, n)
        for dimension in ("cell", "reach", "gauge"):
            put(out, f"{dimension}_id", dimension, ids, None)
        put(out, "cell_area", "cell", areas.area, "km2")
        for name, values in (("cell_lon", domain.cells.lon), ("cell_lat", domain.cells.lat)):
            put(out, name, "cell", means(domain, areas, values), data[name].units)
        for name, one in data.variables.items():
            if one.dimensions == ("cell",) and name not in NO_MEANS:
                put(out, name, "cell", means(domain, areas, np.ma.filled(one[:], np.nan).astype(float)), one.units)
        put(out, "downstream", "reach", below, None)
        put(out, "reach_length", "reach", lengths(domain, areas), "m")
        put(out, "reach_slope", "reach", slope, "1")
        put(out, "reach_area", "reach", areas.area, "km2")
        for name in ("link_cell", "link_reach"):
            put(out, name, "link", np.arange(n), None)
        put(out, "link_area", "link", areas.area, "km2")
        put(out, "gauge_reach", "gauge", np.arange(n), None)
        put(out, "gauge_area", "gauge", np.ma.filled(data["gauge_area"][:], np.nan), "km2")


def write_forcing(path: Path, source: Path, domain: Domain, areas: Areas) -> None:
    """Means of forcing over own areas; the file's cells are those of the domain, in its order."""
    with netCDF4.Dataset(source) as data, replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as out:
        if data["cell_id"][:].tolist() != list(domain.cells.id):
            raise click.ClickException(f"{source}: its cells are not those of the domain in their order. Prepare anew.")
        out.createDimension("cell", areas.area.size)
        put(out, "cell_id", "cell", np.array(domain.gauges.id, object), None)
        for name in (one for one in ("time", "time_bnds") if one in data.variables):
            for dimension in data[name].dimensions:
                if dimension not in out.dimensions:
                    out.createDimension(dimension, data.dimensions[dimension].size)
            out.createVariable(name, data[name].dtype, data[name].dimensions)[:] = data[name][:]
            out[name].setncatts(data[name].__dict__)
        for name, one in data.variables.items():
            if one.dimensions == ("time", "cell"):
                made = out.createVariable(name, "f4", one.dimensions)
                made.units = one.units
                for first in range(0, one.shape[0], DAYS):
                    block = np.ma.filled(one[first : first + DAYS], np.nan).astype(float)
                    made[first : first + DAYS] = means(domain, areas, block)


if __name__ == "__main__":
    main()
