"""Catchments and reaches as data sets hand them out: columns and units of `network.table` by our names."""

from __future__ import annotations

from typing import Any

LAYOUTS: dict[str, dict[str, dict[str, Any]]] = {
    # camels_topo.txt
    "camels_us": {
        "columns": {"id": "gauge_id", "lat": "gauge_lat", "lon": "gauge_lon", "area": "area_gages2",
                    "elevation": "elev_mean", "mean_slope": "slope_mean"},
        "units": {"elevation": "m", "mean_slope": "m km-1"},
    },
    # attributes_other_SOURCE.csv
    "caravan": {
        "columns": {"id": "gauge_id", "lat": "gauge_lat", "lon": "gauge_lon", "area": "area", "name": "gauge_name"},
        "units": {},
    },
    "hydrorivers": {
        "columns": {"id": "HYRIV_ID", "downstream": "NEXT_DOWN", "length": "LENGTH_KM", "area": "CATCH_SKM"},
        "units": {"length": "km"},
    },
    "hydrobasins": {
        "columns": {"id": "HYBAS_ID", "downstream": "NEXT_DOWN", "area": "SUB_AREA"}, "units": {},
    },
    # finalcat_info.shp
    "basinmaker": {
        "columns": {"id": "SubId", "downstream": "DowSubId", "length": "RivLength", "slope": "RivSlope",
                    "area": "BasArea", "elevation": "MeanElev"},
        "units": {"area": "m2", "length": "m", "elevation": "m"},
    },
    # cat_pfaf_N_MERIT.shp as the table, riv_pfaf_N_MERIT.shp as its reaches
    "merit_basins": {
        "columns": {"id": "COMID", "downstream": "NextDownID", "length": "lengthkm", "slope": "slope",
                    "area": "unitarea"},
        "units": {"length": "km"},
    },
    # TDX_streamreach_basins as the table (streamID), TDX_streamnet as its reaches
    "tdx_hydro": {
        "columns": {"id": ("streamID", "LINKNO"), "downstream": "DSLINKNO", "length": "Length", "slope": "Slope"},
        "units": {"length": "m"},
    },
    # catchments and flowlines of NHDPlus with the attributes of its value-added tables
    "nhdplus": {
        "columns": {"id": ("COMID", "comid", "FEATUREID"), "downstream": ("tocomid", "ToComID"),
                    "length": ("LENGTHKM", "lengthkm"), "slope": ("SLOPE", "slope"),
                    "area": ("AreaSqKM", "areasqkm")},
        "units": {"length": "km"},
    },
    # layers divides, flowpaths and nexus of a hydrofabric GeoPackage; downstream is found over the nexus
    "nextgen": {
        "columns": {"id": "divide_id", "downstream": "downstream_divide", "length": "lengthkm", "area": "areasqkm"},
        "units": {"length": "km"},
    },
    # network topology: segments are reaches, HRUs cells (mizuroute.py)
    "mizuroute": {
        "columns": {"id": ("segId", "seg_id"), "downstream": ("downSegId", "tosegment", "down_seg_id"),
                    "length": ("length", "Length"), "slope": ("slope", "Slope"), "hru": ("hruId", "hru_id"),
                    "hru_reach": ("hruToSegId", "hru_seg_id"), "area": ("area", "Basin_Area", "hru_area"),
                    "lon": ("lon", "longitude", "hru_lon"), "lat": ("lat", "latitude", "hru_lat")},
        "units": {},
    },
}
"""Name of the layout: headings by our names (or several, of which the first that is there is taken), and units."""
