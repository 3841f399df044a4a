"""The configuration of a preparation: the keys below `prepare` in the configuration of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bmi_cdlm.names.calendars import STANDARD
from bmi_cdlm.names.errors import ConfigError, nearest, shown
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig, ForcingConfig, ObservationsConfig, PetConfig
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.problems import LONGEST_REASON, MOST_PROBLEMS
from bmi_cdlm.run.screening import REGULATED, SHORT, WITHDRAWN
from bmi_cdlm.run.values import parse_places

Ids = Annotated[tuple[str, ...], BeforeValidator(parse_places)]
Columns = dict[str, str | int]


class Block(BaseModel):
    """A block of keys: unknown ones are errors, values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GaugesConfig(Block):
    """Where the gauges are listed, and how they find their river."""

    table: str = Field(description="Table of gauges: delimited text, NetCDF, or a vector file of points (GeoPackage, "
        "shapefile, GeoJSON).")
    columns: Columns = Field(
        default={}, description="Headings of the table (or places from 1, where it has none) by our names: id, name, "
        "lon and lat [degrees] or x and y, area (official) and delineated_area (by which the river is found, where it "
        "is known from an earlier delineation) [km2], degree_of_regulation and withdrawal [1, shares of the mean "
        "annual flow]; others are carried into the report.",
    )
    units: dict[str, str] = Field(
        default={}, description="Units of columns that have others, such as `degree_of_regulation: '%'`."
    )
    crs: str = Field(default="EPSG:4326", description="Reference system of x and y.", examples=["EPSG:2154"])
    only: Ids | None = Field(default=None, description="Ids of the gauges to take; none: all.")
    radius: float = Field(default=2000.0, gt=0, description="How far from the gauge its river is looked for [m].")
    without_area: Literal["own", "largest"] = Field(
        default="own", description="Which river a gauge without any area goes to: `own`, of the pixel that holds it "
        "(where that has less than network.channel_area, the first river that it drains to), or the `largest` within "
        "the radius. The report tells of both."
    )
    area_limit: float = Field(
        default=0.1, gt=0, description="Largest error of the drainage area against the official one [1]."
    )
    rejected: Literal["refuse", "drop", "keep"] = Field(
        default="refuse", description="What to do with gauges beyond the limit: refuse to go on, drop them, or keep "
        "them (marked in the report)."
    )
    official_areas: bool = Field(
        default=False, description="Scale areas, alike between two gauges, until every gauge drains its official area: "
        "where flow directions give it another basin, its runoff would be wrong by as much. Attributes and forcing "
        "stay those of the basin that was found."
    )
    folds: int = Field(
        default=5, ge=1, description="Folds for cross-validation in the report, at most one per independent tree of "
        "nested gauges [1]."
    )
    shortest_record: float = Field(default=SHORT, ge=0, description="Years of record below which it is called short "
        "[yr].")
    largest_gap: float = Field(
        default=0.1, ge=0, le=1, description="Missing share of a record, first to last value, above which it is called "
        "gappy [1]."
    )
    regulation_limit: float = Field(
        default=REGULATED, gt=0, description="Degree of regulation (storage upstream over mean annual flow) above "
        "which a gauge is called regulated [1]."
    )
    withdrawal_limit: float = Field(
        default=WITHDRAWN, gt=0, description="Withdrawals over mean annual flow above which a gauge is called "
        "regulated [1]."
    )


class LegacyConfig(Block):
    """Muskingum parameters of an older model, reach by reach."""

    table: str = Field(description="Table of reaches: delimited text or NetCDF.")
    columns: Columns = Field(
        default={}, description="Headings of the table (or places from 1, where it has none) by our names: id, "
        "travel_time (K), weighting (x). Without an id, a row per reach in the order of the domain file."
    )
    travel_time_units: Literal["s", "min", "h", "d"] | None = Field(
        default=None, description="Units of K; required unless NetCDF states them."
    )
    use: Literal["parameters", "priors"] = Field(
        default="parameters", description="`parameters`: written to `output` for the key `parameters` of a run. "
        "`priors`: added to the domain as the reach attributes prior_celerity [m s-1] and prior_weighting [1], for "
        "training."
    )
    output: str = Field(default="legacy_parameters.nc", description="Parameter file to write (NetCDF).")
    unmatched: Literal["refuse", "default"] = Field(
        default="refuse", description="Reaches of the domain without a row: refuse, or give them the default celerity "
        "and weighting."
    )


class PrepareConfig(Block):
    """How domain, forcing and observations of a run are made. Paths are relative to the configuration file."""

    title: str = Field(default="", description="Title of the made files; none: the name of the configuration file.")
    origin: str = Field(default="", description="Where the data come from, written into the made files as `source`.")
    license: str = Field(default="", description="Licence of the data, written into the made files.")
    network: NetworkConfig | None = Field(
        default=None, description="River network and cells; without it, an existing domain is taken (legacy only)."
    )
    gauges: GaugesConfig | None = Field(default=None, description="Gauges; see below.")
    attributes: AttributesConfig = Field(
        default=AttributesConfig(), description="Attributes of cells and reaches; see below."
    )
    forcing: ForcingConfig | None = Field(default=None, description="Weather; see below.")
    pet: PetConfig = Field(default=PetConfig(), description="Potential evapotranspiration; see below.")
    observations: ObservationsConfig | None = Field(default=None, description="Records of discharge; see below.")
    legacy: LegacyConfig | None = Field(default=None, description="Muskingum parameters of an older model; see below.")

    @model_validator(mode="after")
    def _check(self) -> PrepareConfig:
        if self.network is None:
            needing = [
                name for name in ("gauges", "forcing", "observations") if getattr(self, name) is not None
            ] + (["attributes"] if self.attributes != AttributesConfig() else [])
            if needing:
                raise ValueError(f"{', '.join(needing)} without network; add it: the files are made for its cells")
            if self.legacy is None:
                raise ValueError("neither network nor legacy is given; expected one of them")
        if self.network is not None and self.network.existing:
            idle = [key for key in ("gauges", "legacy") if getattr(self, key) is not None]
            if idle:
                raise ValueError(
                    f"{', '.join(idle)} beside network.existing; expected attributes, forcing, pet and observations"
                )
            return self
        if self.attributes.table is not None or self.attributes.polygons is not None:
            raise ValueError(
                "attributes.table or polygons without network.existing; expected rasters, or columns of network.table"
            )
        listed = self.network is not None and self.network.table is not None
        if listed and (self.gauges is not None or self.attributes.rasters or self.attributes.elevation is not None):
            raise ValueError(
                "gauges or rasters of attributes beside network.table; expected both as columns of the table: map them "
                "with network.columns: {gauge: HEADING, NAME: HEADING}"
            )
        if self.observations is not None and self.gauges is None and not listed:
            raise ValueError("observations without gauges; add the table of gauges")
        return self


def load_prepare_config(path: Path) -> tuple[Config, PrepareConfig]:
    """Read the run and the preparation of a configuration file, whose key `prepare` holds the latter.

    Raises
    ------
    ConfigError
        Missing or unreadable file, no `prepare`, unknown keys (with the nearest valid ones), bad values.
    """
    run = load_config(path)
    if run.prepare is None:
        raise ConfigError(f"{path}: key 'prepare' is missing. Add it; cfg/README.md lists its keys.")
    return run, parse_prepare(run.prepare, path, run.calendar)


def parse_prepare(content: dict, path: Path, calendar: str = STANDARD) -> PrepareConfig:
    """Check the block `prepare`, whose dates are of the calendar of the run; every problem is in the message."""
    try:
        return PrepareConfig.model_validate(content, context={"calendar": calendar})
    except ValidationError as cause:
        raise ConfigError(f"{path}: prepare: {explain_block(cause, PrepareConfig)} See cfg/README.md.") from cause


def explain_block(cause: ValidationError, model: type[BaseModel]) -> str:
    """One sentence per problem: the key's whole path, got, expected; the nearest key for an unknown one."""
    sentences = []
    for problem in cause.errors():
        loc = [part for part in problem["loc"] if not str(part).startswith(("function-", "tuple[", "literal["))]
        key, message = shown(".".join(map(str, loc))), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            sentences.append(f"key '{key}' is missing.")
        elif problem["type"] == "extra_forbidden":
            known = _keys_of(model, loc[:-1])
            sentences.append(f"unknown key '{key}'.{nearest(str(loc[-1]), known)} Known: {', '.join(known)}.")
        elif problem["type"] == "value_error":
            message = shown(message, LONGEST_REASON)
            sentences.append(f"{key}: {message}." if key else f"{message}.")
        else:
            sentences.append(f"{key} is {shown(repr(problem['input']))}: {shown(message, LONGEST_REASON)}.")
    different = list(dict.fromkeys(sentences))
    more = len(different) - MOST_PROBLEMS
    return " ".join(different[:MOST_PROBLEMS]) + (f" And {more} more." if more > 0 else "")


def _keys_of(model: type[BaseModel], loc: list[int | str]) -> list[str]:
    """Keys of the block at a path."""
    found = model
    for part in loc:
        field = found.model_fields.get(str(part))
        blocks = [] if field is None else [a for a in (field.annotation, *get_args(field.annotation)) if _is_block(a)]
        if not blocks:
            break
        found = blocks[0]
    return list(found.model_fields)


def _is_block(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
