"""The keys of `prepare:` for attributes, forcing, potential evapotranspiration and observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from bmi_cdlm.names.errors import ConfigError, nearest
from bmi_cdlm.prepare.gauges.record_layouts import LAYOUTS
from bmi_cdlm.prepare.weather import forcing_layouts
from bmi_cdlm.prepare.weather.pet import METHODS, formula_of
from bmi_cdlm.prepare.weather.weights import Gaps
from bmi_cdlm.run.values import Date, Seconds, parse_places

Stamp = Literal["start", "middle", "end"]
Kind = Literal["mean", "total", "accumulated", "instantaneous"]
Fill = Literal["refuse", "nearest"] | float


def one_or_more(value: object) -> object:
    """Let a single path stand for a list of one."""
    return (value,) if isinstance(value, str) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(one_or_more)]


class Block(BaseModel):
    """A block of keys; unknown ones are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class RasterConfig(Block):
    """A raster that becomes attributes."""

    source: str = Field(
        description="GeoTIFF, or `file.nc:variable`; relative to the source folder, or `package:NAME/path` in an "
        "installed Python package."
    )
    units: str | None = Field(default=None, description="Units of the raster; none: those that the file states.")
    long_name: str = Field(default="", description="Meaning, for the domain file.")
    comment: str = Field(default="", description="Remark, for the domain file.")
    crs: str | None = Field(
        default=None, description="Reference system of a file that names none, such as EPSG:2154."
    )
    classes: dict[str, tuple[int, ...]] = Field(
        default={}, description="For a raster of classes: attribute name and the classes whose fraction [1] it is."
    )
    resampling: Literal["auto", "average", "bilinear", "nearest"] = Field(
        default="auto", description="To the pixels of the network. auto: average where the raster is finer, bilinear "
        "where it is coarser (classes: nearest), nearest where pixels coincide."
    )
    valid_range: tuple[float, float] | None = Field(
        default=None, description="Least and greatest valid value, in the raster's units; others are nodata."
    )
    fill: Fill = Field(
        default="refuse", description="Where no pixel of a cell or catchment has a value: refuse, nearest (the nearest "
        "that has one), or a number."
    )


class AttributeTable(Block):
    """A table with attributes of the cells or reaches of a domain that exists."""

    source: str = Field(description="Delimited text, NetCDF or a vector file, a row per cell or reach.")
    of: Literal["cell", "reach"] = Field(
        default="cell", description="What the rows are of: of cells reaches get the means over what drains to them."
    )
    id: str | int = Field(default="id", description="Column of the ids of the domain's cells or reaches.")
    columns: dict[str, str | int] = Field(description="Attribute name and its column.")
    units: dict[str, str] = Field(default={}, description="Units by attribute name; none: those that the file states.")
    layer: str | None = Field(default=None, description="Layer of a vector file.")
    delimiter: str | None = Field(default=None, description="Between the columns of a text; none: found.")


class AttributesConfig(Block):
    """Attributes of cells and of the catchments of reaches."""

    rasters: dict[str, RasterConfig] = Field(
        default={}, description="Attribute name and its raster; a raster of classes gives one attribute per class name."
    )
    elevation: RasterConfig | None = Field(
        default=None, description="Terrain model: gives `elevation` [m] and `terrain_slope` [1]."
    )
    table: AttributeTable | None = Field(
        default=None, description="Attributes of a domain that exists from a table by id (network.existing)."
    )
    polygons: str | None = Field(
        default=None, description="Vector file with a polygon per cell, for rasters over cells of a domain that exists "
        "and has no corners of them."
    )
    polygon_ids: str = Field(default="id", description="Column of the cells' ids in it.")
    polygons_layer: str | None = Field(default=None, description="Its layer.", examples=["divides"])
    upstream: tuple[str, ...] = Field(
        default=(), description="Attributes of reaches to average over all that drains through the reach, added as "
        "`upstream_NAME`."
    )
    climate: bool = Field(
        default=False, description="Climate attributes from the forcing [CAMELS: Addor et al. 2017], and with air "
        "temperature the mean annual snowfall."
    )
    interception_capacity: bool = Field(
        default=False, description="`interception_capacity` [mm] of cells, for gr4, gr5 and gr6 in steps shorter than "
        "a day: with it, what evaporates from leaves is nearest to what it would be by days [Colleoni et al. 2025]."
    )

    @property
    def of_forcing(self) -> tuple[str, ...]:
        """Keys of attributes that are made of the forcing."""
        return tuple(key for key in ("climate", "interception_capacity") if getattr(self, key))


def text_or_place(value: object) -> object:
    """Let a list of columns be a tuple, and one stand for itself."""
    return tuple(value) if isinstance(value, list) else value


def fill_layout(given: Any, layouts: Mapping[str, Mapping[str, Any]], plain: tuple[str, ...]) -> Any:
    """Return a block's keys with those that its layout sets where they are not given."""
    if not isinstance(given, dict) or not isinstance(given.get("layout"), str):
        return given
    layout = given["layout"]
    if layout in layouts:
        return {**layouts[layout], **{key: value for key, value in given.items() if key != "layout"}}
    if layout not in plain:
        known = (*plain, *layouts)
        raise ValueError(f"layout is '{layout}'; expected {', '.join(known)}.{nearest(layout, known)}")
    return given


Column = str | int
ColumnOrMore = Annotated[Column | tuple[Column, ...], BeforeValidator(text_or_place)]
Words = Annotated[tuple[str, ...], BeforeValidator(one_or_more), BeforeValidator(parse_places)]


FORCING_LAYOUTS = tuple(forcing_layouts.LAYOUTS)


class TextKeys(Block):
    """How a table in a text file is written."""

    delimiter: str = Field(
        default=",", description="Between the columns of a table; `\\s+` for any blanks.", examples=["\\s+"]
    )
    encoding: str = Field(default="utf-8", description="Of a table; letters in comments do not matter.")
    comment_marks: Words = Field(default=("#",), description="What lines begin with that are left out.")
    skip_rows: int = Field(default=0, ge=0, description="Lines before the headings, comments and blanks not counted.")
    headings: bool = Field(
        default=True, description="Whether the table has headings. Without them columns are named by their places, "
        "from 1."
    )
    skip_below: int = Field(default=0, ge=0, description="Lines between the headings and the first values.")
    decimal: Literal[".", ","] = Field(default=".", description="Sign before the fraction of a number.")
    missing_text: Words = Field(
        default=(), description="Words that stand for missing, beside NA, NaN, null, - and nothing."
    )
    time_column: ColumnOrMore = Field(
        default="time", description="Column of the stamps, or a list of those of year, month, day and so on."
    )
    time_format: str | None = Field(
        default=None, description="strptime format of the stamps (of several columns, joined by blanks); none: ISO "
        "8601, or year month day hour minute."
    )
    time_zone: str | None = Field(
        default=None, description="Clock of the stamps with its daylight saving, such as America/Denver; none: UTC, or "
        "as utc_offset says.", examples=["America/Denver"]
    )
    first_step: Date | None = Field(
        default=None, description="Start of step 1 of a source that counts steps (of the length `step`), as PCRaster "
        "does: tables (.tss), and maps in a stack, whose source is then the path with their prefix, such as "
        "`maps/rain` for rain0000.001, rain0000.002 ... Of observations it is a real date, whatever the `calendar`."
    )
    zone_column: Column | None = Field(
        default=None, description="Column that names the clock of every stamp, such as EST and EDT."
    )


class ForcingSource(TextKeys):
    """Where a variable comes from and what its numbers mean."""

    source: Paths = Field(
        description="Files with grids in time (NetCDF, Zarr, GRIB; `*` allowed), one table-like NetCDF of stations or "
        "basins, rasters named by their stamp (a path of GeoTIFF or the like with strftime fields) or number (see "
        "first_step), or with a `layout` tables of basins or stations."
    )
    layout: Literal["wide", "long", "single"] | None = Field(
        default=None, description="Of tables (delimited text): wide (a column per basin or station), long (a row per "
        "basin and time) or single (a file for each, `{id}` in its path; also NetCDF)."
    )
    variable: ColumnOrMore | None = Field(
        default=None, description="Name in the files, or column of a table (or several of which the first that is "
        "there is taken); none: found by its usual names (ERA5-Land, CF)."
    )
    add: Words = Field(
        default=(), description="Further variables in the same files and units that are added, such as snow to rain."
    )
    times: ColumnOrMore | None = Field(
        default=None, description="Column of a table that multiplies the values, such as the length of the day."
    )
    id_column: Column = Field(default="id", description="Column of the basin or station (long).")
    missing_values: tuple[float, ...] = Field(default=(), description="Numbers in tables that stand for missing.")
    stations: str | None = Field(
        default=None, description="Table of the stations' id, lon and lat, for method nearest of tables."
    )
    station_columns: dict[str, str | int] = Field(
        default={}, description="Headings of that table by our names: id, lon, lat."
    )
    select: dict[str, int | float | str] = Field(
        default={}, description="Which value of a further dimension, such as `expver: 1`; `first` takes, place by "
        "place, the first of them that is not missing (`expver: first`: ERA5, completed by ERA5T)."
    )
    messages: dict[str, int | float | str] = Field(
        default={}, description="Which messages of a GRIB file, by the keys of its library, such as `typeOfLevel: "
        "surface`. GRIB needs the extra `grib`; accumulated and mean values are of the time before their stamp."
    )
    axes: dict[Literal["x", "y"], str] = Field(
        default={}, description="Dimensions of the grid, where they are not found by their names or attributes."
    )
    units: str | None = Field(default=None, description="Units; none: those that the files state.")
    scale: float = Field(default=1.0, description="Factor on the values before units are converted, such as -1 [1].")
    kind: Kind | None = Field(
        default=None, description="mean (over the interval, or a rate), total (an amount per interval), accumulated "
        "(an amount since the last reset) or instantaneous; none: from units and cell_methods."
    )
    reset: Seconds = Field(
        default=86400, description="When accumulated values begin anew, counted from 00:00 UTC.", examples=["1 d"]
    )
    stamp: Stamp | None = Field(
        default=None, description="Which part of an interval its stamp marks; none: bounds in the file decide, else "
        "start (accumulated, also by GRIB: end)."
    )
    step: Seconds | None = Field(
        default=None, description="Length of an interval; none: the distance of stamps (rasters: the model step)."
    )
    utc_offset: float = Field(default=0.0, ge=-24, le=24, description="Clock of the stamps, ahead of UTC by [h].")
    missing: tuple[Date, ...] = Field(
        default=(), description="Stamps that the source is known to lack; left missing in the forcing file."
    )
    interannual: bool = Field(
        default=False, description="Rasters hold one field per day of an average year, or per month where the path "
        "names months only, `pet_%m.tif` (PET only)."
    )
    statistic: Literal["mean", "min", "max"] | None = Field(
        default=None, description="From finer steps to the model step; none: mean, min for minimum_temperature, max "
        "for maximum_temperature."
    )
    method: Literal["conservative", "bilinear", "nearest", "basin", "polygon"] | None = Field(
        default=None, description="To the cells. Grids: conservative (overlap areas; the default), bilinear or "
        "nearest; stations and basins: basin (the smallest gauged basin; the default), polygon or nearest."
    )
    gaps: Gaps | None = Field(
        default=None, description="Where pixels or stations lack values that they have at other times: refuse (the "
        "default), share (weights of those that have) or nearest (and where none of a cell's has, the nearest that "
        "has; the default of stations with method nearest). A sea that never has values is filled in any case."
    )
    fill_distance: float = Field(
        default=50.0, ge=0, description="How far a cell may lie from the value that it takes where it has none of its "
        "own, and from its station (method nearest) [km]."
    )
    height: str | None = Field(
        default=None, description="Heights of the source's grid, `file.nc:variable` on the same pixels [m, or m2 s-2 "
        "of geopotential]: from there temperature and precipitation are brought to the elevation of the cells."
    )
    gradient: float | None = Field(
        default=None, description="With `height`: change of temperature with height [degC km-1], -6.5 unless given; of "
        "precipitation, as a share of it [1 km-1]."
    )
    crs: str | None = Field(default=None, description="Reference system of files that name none.")
    ids: str | None = Field(default=None, description="Variable with the ids of stations or basins; none: found.")
    polygons: str | None = Field(default=None, description="Polygons of method polygon (any file of geopandas).")
    polygon_ids: str = Field(default="id", description="Column of the polygons that holds the ids.")

    @model_validator(mode="after")
    def _check(self) -> ForcingSource:
        """Keys that would be passed over."""
        of_tables = {*TextKeys.model_fields, "times", "id_column", "missing_values", "stations", "station_columns"}
        of_tables.discard("first_step")
        of_grids = {"select", "axes", "interannual", "messages"}
        idle = sorted(self.model_fields_set & (of_tables if self.layout is None else of_grids))
        if self.gradient is not None and self.height is None:
            raise ValueError("gradient without height; expected the heights of the source's grid")
        if idle:
            raise ValueError(
                f"{', '.join(idle)} {'without' if self.layout is None else 'with'} layout; expected "
                f"{'layout: wide, long or single, for these are keys of tables' if self.layout is None else 'none'}"
            )
        return self


class ForcingConfig(Block):
    """The forcing of the cells."""

    layout: Literal[FORCING_LAYOUTS] | None = Field(  # type: ignore[valid-type]
        default=None, description="Basin means as a data set hands them out; the sources below then need not be given."
    )
    source: str | None = Field(
        default=None, description="Folder of that data set's files, or their path with `{id}` for the basin.",
        examples=["basin_mean_forcing/daymet"],
    )
    precipitation: ForcingSource = Field(description="Rain and snow.")
    air_temperature: ForcingSource | None = Field(
        default=None, description="Mean air temperature at 2 m; none: half the sum of the extremes of days, where "
        "these are given."
    )
    potential_evapotranspiration: ForcingSource | None = Field(
        default=None, description="Evaporative demand; none: computed as the block `pet` says."
    )
    minimum_temperature: ForcingSource | None = Field(default=None, description="Lowest temperature of the day.")
    maximum_temperature: ForcingSource | None = Field(default=None, description="Highest temperature of the day.")
    dewpoint_temperature: ForcingSource | None = Field(default=None, description="Dew point at 2 m.")
    vapour_pressure: ForcingSource | None = Field(default=None, description="Actual vapour pressure.")
    specific_humidity: ForcingSource | None = Field(default=None, description="Specific humidity at 2 m.")
    relative_humidity: ForcingSource | None = Field(default=None, description="Mean relative humidity.")
    shortwave_radiation: ForcingSource | None = Field(default=None, description="Incoming solar radiation.")
    wind_speed: ForcingSource | None = Field(default=None, description="Wind speed.")
    eastward_wind: ForcingSource | None = Field(default=None, description="Wind towards the east.")
    northward_wind: ForcingSource | None = Field(default=None, description="Wind towards the north.")
    surface_pressure: ForcingSource | None = Field(default=None, description="Air pressure at the ground.")
    start: Date | None = Field(default=None, description="Start of the forcing file; none: that of the run.")
    end: Date | None = Field(default=None, description="End of the forcing file, exclusive; none: that of the run.")
    day_boundary: str = Field(
        default="00:00 UTC", description="When a day starts in the made file; a note, which sources must follow."
    )
    comment: str = Field(default="", description="Remark, for the forcing file.")
    negative_tolerance: float = Field(
        default=0.001, ge=0, description="Negative rates down to this count as rounding and become 0 [mm d-1]."
    )
    memory: float = Field(default=2.0, gt=0, description="Memory for the arrays of a block of time [GB].")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """A data set's layout makes the sources that are not given."""
        return forcing_layouts.fill(given)

    @property
    def sources(self) -> dict[str, ForcingSource]:
        """Given sources by the name of the variable."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: source for name, source in named.items() if isinstance(source, ForcingSource)}


class PetConfig(Block):
    """Potential evapotranspiration where it is not given."""

    method: str = Field(
        default="given",
        description=f"given (by the forcing's source), {', '.join(METHODS)}, or the formula of another package.",
    )
    wind_height: float = Field(default=10.0, gt=0.1, description="Height of the wind above ground [m].")
    elevation: float | None = Field(
        default=None, description="Elevation of all cells [m]; none: the attribute `elevation`."
    )
    noon: int | None = Field(
        default=None, ge=0, le=23, description="Hour of UTC about which the hourly shares of a day are centred [h]; "
        "none: solar noon of every cell, as in a run."
    )

    @field_validator("method")
    @classmethod
    def _check_method(cls, method: str) -> str:
        """Refuse a method that is not there."""
        try:
            formula_of(method)
        except ConfigError as cause:
            raise ValueError(str(cause).removeprefix("pet: ").removesuffix(".")) from cause
        return method


class ObservationsConfig(TextKeys):
    """Records of discharge."""

    source: str = Field(
        description="A table or NetCDF with all gauges, or a path with `{id}`: a file per gauge; `*` stands for what "
        "is not known of its name."
    )
    layout: Literal["wide", "long", "single", "values", "netcdf"] = Field(
        description="wide (a column per gauge), long (a row per gauge and time), single (a file per gauge), values (a "
        "file per gauge: the first stamp, then a value per line) or netcdf (time, gauge; or a file per gauge). Or, as "
        f"downloaded, one of {', '.join(LAYOUTS)}: such a layout sets the keys below that it needs, where they are not "
        "given."
    )
    units: str | None = Field(
        default=None, description="Units, such as m3 s-1, ft3 s-1, or mm d-1 over the official area; none: the file's."
    )
    stamp: Stamp = Field(default="start", description="Which part of an interval its stamp marks.")
    step: Seconds | None = Field(
        default=None, description="Interval of the records; none: the model step.", examples=["1 d"]
    )
    utc_offset: float = Field(default=0.0, ge=-24, le=24, description="Clock of the stamps, ahead of UTC by [h].")
    day_boundary: str = Field(default="00:00 UTC", description="When a day starts; a note for the made file.")
    comment: str = Field(default="", description="Remark, for the observations file.")
    missing_values: tuple[float, ...] = Field(default=(), description="Numbers that stand for missing.")
    value_column: ColumnOrMore = Field(
        default="discharge", description="Column of discharge (long, single), or several of which the first that is "
        "there is taken; `*` stands for any letters."
    )
    id_column: Column = Field(default="gauge_id", description="Column of the gauge (long).")
    flag_column: Column | None = Field(default=None, description="Column of a quality flag (long, single).")
    variable: str = Field(default="discharge", description="Variable of discharge (netcdf).")
    id_variable: str = Field(default="gauge_id", description="Variable of the gauges' ids (netcdf).")
    flag_variable: str | None = Field(default=None, description="Variable of a quality flag (netcdf).")
    accepted_flags: Words | None = Field(default=None, description="Flags to keep; none: all others.")
    rejected_flags: Words = Field(default=(), description="Flags whose values become missing.")
    min_coverage: float = Field(
        default=1.0, gt=0, le=1, description="Share of a model step that finer records must cover [1]."
    )
    allow_absent: bool = Field(
        default=False, description="Let a gauge without a record, or without one in the period, be missing throughout."
    )
    start: Date | None = Field(default=None, description="Start of the file; none: that of the run.")
    end: Date | None = Field(default=None, description="End of the file, exclusive; none: that of the run.")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """A layout as downloaded sets keys that are not given."""
        return fill_layout(given, LAYOUTS, ("wide", "long", "single", "values", "netcdf"))

    @model_validator(mode="after")
    def _check(self) -> ObservationsConfig:
        per_gauge = self.layout in ("single", "values")
        if self.layout != "netcdf" and per_gauge != ("{id}" in self.source):
            raise ValueError(
                f"source is '{self.source}' with layout {self.layout}; expected a path "
                f"{'with' if per_gauge else 'without'} {{id}}"
            )
        if (self.accepted_flags is not None or self.rejected_flags) and not (self.flag_column or self.flag_variable):
            raise ValueError("accepted_flags or rejected_flags without flag_column or flag_variable; expected one")
        return self
