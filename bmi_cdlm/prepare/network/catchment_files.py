"""Files of catchments as frames: tables of text, layers of vector files, variables of NetCDF, a NextGen hydrofabric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bmi_cdlm.files.netcdf import filled, one_at_a_time, open_input, read_strings
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.packages import load
from bmi_cdlm.prepare.text_tables import find_column, read_text
from bmi_cdlm.prepare.weather.weather_config import TextKeys

VECTORS = (".gpkg", ".shp", ".geojson", ".json", ".parquet", ".geoparquet", ".fgb", ".gdb", ".zip")
NETCDF = (".nc", ".nc4", ".cdf")
SHOWN = 5


def open_table(
    path: Path, layer: str | None, delimiter: str | None, crs: str | None = None
) -> tuple[Any, dict[str, str], Any]:
    """A table as a frame, units that it states by heading, and its shapes in degrees, or None."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise DomainError(f"{path}: there is no such file. Check the path.")
    if suffix in VECTORS:
        return open_vector(path, layer, crs)
    if suffix in NETCDF:
        return open_netcdf(path)
    if suffix in (".csv", ".txt", ".tsv", ".tab"):
        return read_text(path, TextKeys(delimiter=delimiter or _delimiter(path)), DomainError), {}, None
    raise DomainError(
        f"{path}: is no table that is known, expected {', '.join(('.csv', '.txt', *NETCDF, *VECTORS))}. Convert it."
    )


def _delimiter(path: Path) -> str:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return next((sign for sign in ("\t", ";", ",") if sign in first), r"\s+")


def open_vector(path: Path, layer: str | None, crs: str | None) -> tuple[Any, dict[str, str], Any]:
    """A table of a vector file as a frame, no units, and its shapes in degrees."""
    geopandas = load("geopandas")
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            frame = geopandas.read_parquet(path)
        else:
            frame = geopandas.read_file(path, **({} if layer is None else {"layer": layer}))
    except Exception as cause:  # the engines raise whatever they like
        layers = _layers(path)
        what = f"the layer '{layer}'" if layer is not None and layers else "a vector file"
        has = f"; it has {', '.join(layers[:SHOWN])}. Name the layer, or another file" if layers else "; check the file"
        raise DomainError(f"{path}: cannot be read by geopandas ({cause}). Expected {what}{has}.") from cause
    if frame.crs is None:
        if crs is None:
            raise DomainError(f"{path}: has no reference system, expected one. Set network.crs, such as EPSG:4326.")
        frame = frame.set_crs(crs)
    shapes = np.asarray(frame.geometry.to_crs("EPSG:4326").values)
    return load("pandas").DataFrame(frame.drop(columns=frame.geometry.name)), {}, shapes


def _layers(path: Path) -> list[str]:
    """Names of the layers of a vector file, none where it cannot be opened."""
    try:
        geopandas = load("geopandas")
        if not hasattr(geopandas, "list_layers"):  # before geopandas 1, which reads by fiona
            return list(load("fiona").listlayers(path))
        return [str(one) for one in geopandas.list_layers(path)["name"]]
    except Exception:  # the engines raise whatever they like
        return []


def open_hydrofabric(path: Path, crs: str | None) -> tuple[Any, dict[str, str], Any]:
    """Divides of a NextGen hydrofabric with their flowpaths, and the divide below: over the nexus, as its tables go."""
    divides, _, shapes = open_vector(path, "divides", crs)
    flowpaths, nexus = (open_vector(path, layer, crs)[0] for layer in ("flowpaths", "nexus"))
    for layer, table, names in (
        ("divides", divides, ("divide_id", "id")), ("flowpaths", flowpaths, ("id", "toid")),
        ("nexus", nexus, ("id", "toid")),
    ):
        for name in names:
            find_column(table, name, Path(f"{path}:{layer}"), DomainError)
    after = dict(zip(nexus["id"], nexus["toid"], strict=True))
    divide_of = dict(zip(divides["id"], divides["divide_id"], strict=True))
    links = zip(flowpaths["id"], flowpaths["toid"], strict=True)
    below = {one: divide_of.get(after.get(to, to), "") for one, to in links}
    frame = divides.merge(
        flowpaths[[c for c in flowpaths.columns if c == "id" or c not in divides.columns]], on="id", how="left"
    )
    return frame.assign(downstream_divide=[below.get(one, "") for one in divides["id"]]), {}, shapes


@one_at_a_time
def open_netcdf(path: Path) -> tuple[Any, dict[str, str], Any]:
    """Variables on the dimension of most of them; text and numbers."""
    with open_input(path, DomainError) as dataset:
        single = [v for v in dataset.variables.values() if len(v.dimensions) == 1 or v.dtype == "S1"]
        dims = [v.dimensions[0] for v in single]
        if not dims:
            raise DomainError(f"{path}: has no variable on one dimension, expected a row per catchment.")
        dim = max(set(dims), key=dims.count)
        columns, units = {}, {}
        for variable in single:
            if variable.dimensions[0] != dim:
                continue
            is_number = getattr(variable.dtype, "kind", "O") in "fiu"
            columns[variable.name] = filled(variable, slice(None)) if is_number else read_strings(
                dataset, variable.name, str(path), DomainError
            )
            if hasattr(variable, "units"):
                units[variable.name] = str(variable.units)
    return load("pandas").DataFrame(columns), units, None
