"""The keys below `prepare: network:`: where the river network comes from and how fine it is."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bmi_cdlm.prepare.network.network_layouts import LAYOUTS
from bmi_cdlm.run.values import parse_places

DEGREES = {"deg": 1.0, "arcmin": 1.0 / 60.0, "arcsec": 1.0 / 3600.0}
METRES = {"m": 1.0, "km": 1000.0}
Ids = Annotated[tuple[str, ...], BeforeValidator(parse_places)]
NETWORKS = tuple(LAYOUTS)
Encoding = Literal["esri", "ldd", "nextxy", "clockwise", "taudem", "whitebox", "grass", "saga"]


def parse_size(value: object) -> str:
    """Return a size such as '30 arcsec' or '1 km' with one space between number and unit."""
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([a-z]+)\s*", str(value))
    if found and found[2] in (DEGREES | METRES):
        try:
            if float(found[1]) > 0.0:
                return f"{found[1]} {found[2]}"
        except ValueError:
            pass
    raise ValueError(f"'{value}' is not a size; expected a number and one of {', '.join(DEGREES | METRES)}: '1 km'")


Size = Annotated[str, BeforeValidator(parse_size)]


class NetworkConfig(BaseModel):
    """River network and cells. A raster is a GeoTIFF, `file.nc:variable`, or `package:NAME/path/in/it.tif`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str | None = Field(
        None, description="List of catchments in place of rasters, each of which becomes a cell and a reach: delimited "
        "text, NetCDF, or a vector file (GeoPackage, shapefile, GeoJSON, GeoParquet) of polygons or river lines."
    )
    existing: bool = Field(
        False, description="Take the domain that is there, as it is (hand-made, cut out, of another period), and make "
        "forcing and observations for it, or give it further attributes."
    )
    layout: Literal[NETWORKS] | None = Field(  # type: ignore[valid-type]
        None, description="Whose columns and units the table has."
    )
    columns: dict[str, str | int] = Field(
        {}, description="Headings of the table by our names: id, area (of the catchment itself) [km2], lon and lat "
        "[degrees], downstream (id of the catchment below), length [m] and slope [1] of the reach, name, gauge (id of "
        "the gauge at its end); any other name is an attribute; with layout "
        "mizuroute also hru and hru_reach (its segment); area, lon and lat are those of HRUs then. Areas and centres "
        "may come from polygons."
    )
    units: dict[str, str] = Field(
        {}, description="Units of columns that have others, and of attributes; each must be a column."
    )
    delimiter: str | None = Field(None, description="Between the columns of a text table; none: found.")
    layer: str | None = Field(None, description="Layer of the table's vector file.")
    reaches: str | None = Field(
        None, description="A second table or vector file with a reach for every catchment of the same id, for columns "
        "that the first lacks."
    )
    reaches_layer: str | None = Field(None, description="Layer of the reaches' vector file.")
    polygons: str | None = Field(
        None, description="With layout mizuroute: vector file with a polygon per HRU, for its place and for gridded "
        "weather."
    )
    polygon_ids: str = Field("hruId", description="Column of the HRUs' ids in it.")
    only: Ids | None = Field(None, description="Ids of the catchments of the table to take; none: all.")
    upstream_of: Ids | None = Field(None, description="Take what drains to these catchments of the table.")
    directions: str | None = Field(
        None, description="Raster of D8 flow directions. Without it they are derived from `elevation`, filled."
    )
    encoding: Encoding = Field(
        "esri",
        description="Codes of `directions`: `esri` (1 E, 2 SE, ... 128 NE; 0, 255 a pit; 247 no data), `ldd` (keypad, "
        "5 a pit), `nextxy` (bands column and row of the next pixel, from 1; -9, -10 an outlet), `clockwise` (1 N, "
        "2 NE, ... 8 NW; 0 a pit), `taudem` (1 E, 2 NE, ... 8 SE, against the clock), `whitebox` (1 NE, 2 E, 4 SE, ... "
        "128 N; 0 a pit), `grass` (1 NE, 2 N, ... 8 E, against the clock, negative at the edge; 0 a pit), `saga` (0 N, "
        "1 NE, ... 7 NW; -1 a pit).",
    )
    elevation: str | None = Field(
        None, description="Raster of elevation: for slopes of reaches (in any system, brought to the pixels of "
        "`directions`), or for directions."
    )
    elevation_units: str | None = Field(
        None, description="Units of `elevation`; none: those that the file states, else m.", examples=["ft"]
    )
    crs: str | None = Field(
        None, description="Reference system of rasters that do not name theirs, for example `EPSG:4326`."
    )
    dem_outlets: Literal["edge", "lowest"] = Field(
        "edge",
        description="Where water leaves a filled elevation raster: at every `edge` of the data, or at the `lowest` "
        "pixel of it. A lake or salt pan without data is an edge, so that its basin ends in it.",
    )
    resolution: Size | None = Field(
        None, description="Side of a reach's block of pixels, an integer multiple of a pixel. None: every pixel.",
        examples=["30 arcsec"],
    )
    upscaling: Literal["ihu", "max_accumulation"] = Field(
        "ihu",
        description="How blocks are joined: `ihu` (Eilander et al. 2021; catchments and paths of the fine raster), or "
        "`max_accumulation` (each block is a catchment and drains where its largest pixel does), for comparison.",
    )
    channel_area: float = Field(
        0.0, ge=0.0, description="Upstream area from which on there is a reach [km2]. 0: everywhere."
    )
    min_basin_area: float = Field(
        0.0, ge=0.0, description="Basins smaller than this, at coasts and in pits, are left out [km2]."
    )
    max_reach_length: float = Field(
        2000.0, gt=0.0, description="Longer reaches are cut into equal parts [m]."
    )
    cell_size: Size | None = Field(
        None, description="Side of a cell, an integer multiple of `resolution`. None: the same.", examples=["90 arcsec"]
    )
    cell_mask: str | None = Field(
        None,
        description="Raster of where there may be cells, in any system: not where it has 0 or no data at the centre of "
        "a cell. What is left out counts as uncovered area, at most 2 % above a gauge.",
    )
    areas: Literal["true", "map"] = Field(
        "true",
        description="Area of a projected pixel: `true` (corrected for the projection's areal scale) or as on the `map`."
        " Geographic pixels always have their area on the ellipsoid.",
    )
    extent: Literal["gauges", "all"] = Field(
        "gauges", description="Keep what drains to `gauges`, or `all` of the raster."
    )

    @model_validator(mode="after")
    def _needs_a_source(self) -> NetworkConfig:
        listed = ("layout", "columns", "units", "delimiter", "layer", "reaches", "reaches_layer", "polygons",
                  "polygon_ids", "only", "upstream_of")
        if self.existing:
            other = sorted(self.model_fields_set - {"existing"})
            if other:
                raise ValueError(f"network: {', '.join(other)} beside `existing`; expected one or the other")
            return self
        if self.table is not None:
            other = sorted(self.model_fields_set - {"table", "crs", *listed})
            if other:
                raise ValueError(f"network: {', '.join(other)} beside `table`; expected rasters or a table, not both")
            if (self.polygons is not None) and self.layout != "mizuroute":
                raise ValueError("network: polygons without layout mizuroute; expected polygons as the table itself")
            return self
        alone = sorted(self.model_fields_set & set(listed))
        if alone:
            raise ValueError(f"network: {', '.join(alone)} without `table`; expected the table that it is of")
        if self.directions is None and self.elevation is None:
            raise ValueError(
                "network: neither `directions` nor `elevation` is given, and no `table`; expected one of them"
            )
        if self.upscaling == "max_accumulation" and self.channel_area > 0.0:
            raise ValueError("network: `channel_area` is for upscaling: ihu; max_accumulation has a reach per block")
        return self
