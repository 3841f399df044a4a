"""Variables that hosts ask for by name, and that are in no list of names: masses, the state, what places are."""

from __future__ import annotations

from bmi_cdlm.names.entry import Variable

MASSES: tuple[Variable, ...] = (
    Variable("mass_in", "ngen::mass_in", "m", "domain", "total", "Precipitation"),
    Variable("mass_out", "ngen::mass_out", "m", "domain", "total", "Evapotranspiration and discharge handed out"),
    Variable(
        "mass_stored", "ngen::mass_stored", "m", "domain", "total",
        "Change of all stores and reaches, input not yet used and discharge not yet handed out",
    ),
    Variable("mass_leaked", "ngen::mass_leaked", "m", "domain", "total", "Groundwater exchange out of the domain"),
)
"""What NextGen's mass balance asks for by name, depths over the drained area since the start: in = out + stored +
leaked. They are in no list of names."""
SERIALIZATION: tuple[Variable, ...] = (
    Variable("create", "ngen::serialization_create", "ngen::trigger", "domain", "total", "Take the state"),
    Variable("free", "ngen::serialization_free", "ngen::trigger", "domain", "total", "Forget the state that was taken"),
    Variable("size", "ngen::serialization_size", "bytes", "domain", "total", "Length of the state"),
    Variable("state", "ngen::serialization_state", "ngen::opaque", "domain", "total", "The state: read, or given back"),
    Variable("taken", "serialization_create", "bytes", "domain", "total", "Reading it takes the state; its length"),
    Variable("free", "serialization_free", "1", "domain", "total", "Forget the state that was taken"),
    Variable("state", "serialization_state", "1", "domain", "total", "The state: read, or given back"),
)
"""By which NextGen saves and restores, in two protocols: that of ngen, and that of its branch `ngwpc`, whose names
have no prefix. In no list of names either."""
IDENTITY: tuple[Variable, ...] = tuple(
    Variable(short, name, units, grid, "identity", meaning)  # type: ignore[arg-type]
    for short, name, units, grid, meaning in (
        ("cell_id", "model_grid_cell__id", "1", "cell", "Ids, where all are whole numbers (int64)"),
        ("cell_id_text", "model_grid_cell__id_text", "1", "cell", "Ids as text (uint8, UTF-8, a row of bytes each)"),
        ("cell_lon", "model_grid_cell__longitude", "degrees_east", "cell", "Longitude of the centre"),
        ("cell_lat", "model_grid_cell__latitude", "degrees_north", "cell", "Latitude of the centre"),
        ("cell_area", "model_grid_cell__area", "km2", "cell", "Geometric area"),
        ("cell_drained_area", "model_grid_cell__drained_area", "km2", "cell", "Area that drains to reaches"),
        ("reach_id", "channel_reach__id", "1", "reach", "Ids, where all are whole numbers (int64)"),
        ("reach_id_text", "channel_reach__id_text", "1", "reach", "Ids as text (uint8, UTF-8, a row of bytes each)"),
        ("reach_lon", "channel_reach__longitude", "degrees_east", "reach", "Longitude"),
        ("reach_lat", "channel_reach__latitude", "degrees_north", "reach", "Latitude"),
        ("reach_length", "channel_reach__length", "m", "reach", "Length"),
        ("reach_slope", "channel_reach__slope", "1", "reach", "Slope"),
        ("reach_area", "channel_reach_catchment__area", "km2", "reach", "Area of its own catchment"),
        ("upstream_area", "channel_reach_basin__area", "km2", "reach", "Area of all that drains through it"),
        ("downstream", "channel_reach_downstream__index", "1", "reach", "Index of the reach below (int64), -1: outlet"),
        ("gauge_id", "gauge__id", "1", "gauge", "Ids, where all are whole numbers (int64)"),
        ("gauge_id_text", "gauge__id_text", "1", "gauge", "Ids as text (uint8, UTF-8, a row of bytes each)"),
        ("gauge_reach", "gauge_channel_reach__index", "1", "gauge", "Index of the reach at whose end it is (int64)"),
        ("gauge_area", "gauge_basin__area", "km2", "gauge", "Official area, NaN where unknown"),
        ("boundary_reach", "channel_reach_boundary__index", "1", "boundary", "Reach whose discharge is given (int64)"),
        ("link_cell", "cell_reach_link_cell__index", "1", "link", "Index of the cell (int64)"),
        ("link_reach", "cell_reach_link_reach__index", "1", "link", "Index of the reach into which it drains (int64)"),
        ("link_area", "cell_reach_link__area", "km2", "link", "Area of the cell in the reach's catchment"),
        ("link_share", "cell_reach_link_cell__area_fraction", "1", "link", "Share of the cell's drained area"),
    )
)
"""What the places of the grids are, for clients without the domain file; in no list of names, as parameters. Indices
count from 0 in the order of the grids. `_text` holds count x width bytes, padded with zeros."""
