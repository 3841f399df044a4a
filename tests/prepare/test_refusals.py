"""What a preparation refuses of its sources and grids: with the file or key, what it got, and the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
from make_drainage import make_drainage, write_grid
from pydantic import ValidationError

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import ConfigError, DomainError, ForcingError, ObservationError, ParameterError
from bmi_cdlm.names.time_steps import DAY
from bmi_cdlm.prepare.config import PrepareConfig
from bmi_cdlm.prepare.dhbv import _read_table
from bmi_cdlm.prepare.gauges.basins import polygon_pairs
from bmi_cdlm.prepare.network import layers
from bmi_cdlm.prepare.network.cells import block_factor, check_sizes
from bmi_cdlm.prepare.network.grid import Grid, check_grid, check_system
from bmi_cdlm.prepare.network.layers import read_raster
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.network.resample import choose, extent_of
from bmi_cdlm.prepare.nextgen import Options, read_table, write_catchments
from bmi_cdlm.prepare.text_tables import find_column, read_text, stamps_of
from bmi_cdlm.prepare.weather.forcing_writer import Steps, Weather, write_forcing
from bmi_cdlm.prepare.weather.inputs import Target
from bmi_cdlm.prepare.weather.raster_series import RasterFiles, stack_name
from bmi_cdlm.prepare.weather.table_series import TableFiles
from bmi_cdlm.prepare.weather.timeline import Stamps, interval_starts
from bmi_cdlm.prepare.weather.weather_config import ForcingConfig, ForcingSource, ObservationsConfig, PetConfig

for package in ("xarray", "pandas", "pyproj", "rasterio"):
    pytest.importorskip(package, reason=f"{package} is not installed")

START = np.datetime64("2020-01-01", "s")
DAYS = START + np.arange(3) * np.timedelta64(DAY, "s")
LON, LAT = np.arange(9.0, 11.01, 0.5), np.arange(50.8, 48.99, -0.5)
KILOMETRES = Grid(800_000.0, 6_500_000.0, 1000.0, 1000.0, 6, 8, "EPSG:2154")
ARC = Grid(3.0, 45.0, 0.01, 0.01, 6, 8, "EPSG:4326")


def source(name: str = "a.nc", **keys: object) -> ForcingSource:
    return ForcingSource(source=name, **keys)


def said(error: pytest.ExceptionInfo) -> str:
    return " ".join(str(error.value).split())


# ---- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "message"), [
    ({"gradient": -6.0}, "gradient without height; expected the heights of the source's grid"),
    ({"times": "area"}, "times without layout; expected layout: wide, long or single, for these are keys of tables"),
    ({"missing_values": [-9.0], "id_column": "id"}, "id_column, missing_values without layout"),
    ({"layout": "wide", "messages": {"shortName": "tp"}}, "messages with layout; expected none"),
    ({"layout": "wide", "interannual": True, "axes": {"x": "e"}}, "axes, interannual with layout; expected none"),
])
def test_keys_of_tables_and_of_grids(keys, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        source(**keys)


def test_flags_need_a_column():
    for keys in ({"accepted_flags": ["a"]}, {"rejected_flags": ["b"]}):
        with pytest.raises(ValidationError, match="without flag_column or flag_variable; expected one"):
            ObservationsConfig(source="q.csv", layout="wide", **keys)
    ObservationsConfig(source="q.csv", layout="long", accepted_flags=["a"], flag_column="flag")


@pytest.mark.parametrize(("keys", "message"), [
    ({"network": {"existing": True}, "gauges": {"table": "g.csv"}},
     "gauges beside network.existing; expected attributes, forcing, pet and observations"),
    ({"network": {"existing": True}, "gauges": {"table": "g.csv"}, "legacy": {"table": "k.csv", "output": "p.nc"}},
     "gauges, legacy beside network.existing"),
    ({"network": {"table": "t.csv", "directions": "d.tif"}},
     "network: directions beside `table`; expected rasters or a table, not both"),
    ({"network": {"table": "t.csv", "encoding": "esri", "resolution": "1 km"}}, "encoding, resolution beside `table`"),
    ({"network": {"table": "t.csv", "polygons": "p.shp"}}, "polygons without layout mizuroute"),
    ({}, "neither network nor legacy is given; expected one of them"),
])
def test_blocks_that_exclude_each_other(keys, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        PrepareConfig(**keys)


# ---- grids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "message"), [
    (ARC._replace(n_rows=0), "has 0 by 8 pixels of 0.01 by 0.01 at (3, 45), expected numbers and at least one pixel"),
    (ARC._replace(left=np.nan), "at (nan, 45), expected numbers"),
    (ARC._replace(top=95.0), "to (3.08, 95), expected degrees of longitude and latitude, as its reference system says"),
    (ARC._replace(left=800_000.0), "Correct the reference system of the raster."),
    (KILOMETRES._replace(dx=1e-4, dy=1e-4), "has pixels of 0.0001 by 0.0001 (0.0001 to 0.0001 m), expected"),
    (KILOMETRES._replace(dx=1e9), "Correct the transform of the raster, or its reference system."),
])
def test_numbers_that_are_no_grid(grid, message):
    with pytest.raises(DomainError) as error:
        check_grid(grid, "dem.tif", DomainError)
    assert said(error).startswith("dem.tif: ") and message in said(error)


def test_systems_that_the_model_cannot_use():
    assert check_system("EPSG:4326") == "EPSG:4326"
    gons = "+proj=longlat +a=6378249.2 +b=6356515 +pm=paris +no_defs"
    grads = 'GEOGCS["g",DATUM["d",SPHEROID["s",6378249.2,293.466]],PRIMEM["p",0],UNIT["grad",0.015707963267949]]'
    check_system(gons)
    with pytest.raises(DomainError, match="counts in grad, expected degrees"):
        check_system(grads)
    with pytest.raises(DomainError, match="is neither geographic nor projected"):
        check_system("EPSG:4978")
    with pytest.raises(DomainError, match=r"'nowhere' cannot be understood .* correct the key `crs`"):
        check_system("nowhere")


def test_a_corner_outside_the_projection():
    far = Grid(9e6, 9e7, 1e6, 1e6, 50, 50, "EPSG:3035")
    with pytest.raises(DomainError, match=r"its corner \(9e\+06, 9e\+07\) or another part lies where EPSG:3035"):
        far.pixel_areas()


@pytest.mark.parametrize(("grid", "size", "message"), [
    (KILOMETRES, "1500 m", "cell_size is '1500 m', 1.5 by 1.5 times a pixel of 1000 in EPSG:2154. Expected an integer"),
    (KILOMETRES, "0.2 km", "0.2 by 0.2 times a pixel of 1000"),
    (KILOMETRES._replace(dy=500.0), "2 km", "2 by 4 times a pixel of 1000 by 500 in EPSG:2154"),
    (ARC, "2 km", "but the grid is in degrees (EPSG:4326). Expected one of"),
    (KILOMETRES, "0.1 deg", "but the grid is in metres (EPSG:2154). Expected one of"),
])
def test_sizes_that_are_no_multiple(grid, size, message):
    with pytest.raises(ConfigError) as error:
        block_factor(size, grid, "cell_size", "a pixel")
    assert message in said(error)


def test_sizes_that_are():
    assert block_factor("3 km", KILOMETRES, "cell_size", "a pixel") == 3
    assert block_factor(None, ARC, "cell_size", "a pixel") == 1
    config = NetworkConfig(directions="d.tif", resolution="2 km", cell_size="4 km")
    assert check_sizes(config, KILOMETRES) == (2, 4)


def test_a_raster_that_memory_cannot_hold(tmp_path, write_raster, monkeypatch):
    path = write_raster(tmp_path / "d.tif", np.ones((20, 30), np.float32))
    assert read_raster(path.name, tmp_path, DomainError).grid.shape == (20, 30)
    monkeypatch.setattr(layers, "available_memory", lambda: 10)
    with pytest.raises(DomainError, match=r"d\.tif: has 20 by 30 pixels, whose network takes about .* Cut or coarsen"):
        read_raster(path.name, tmp_path, DomainError)


def test_what_is_resampled():
    with pytest.raises(DomainError, match="no pixel lies in a cell or catchment"):
        extent_of(np.zeros((4, 5), bool))
    inside = np.zeros((4, 5), bool)
    inside[1, 2:4] = True
    assert extent_of(inside) == (slice(1, 2), slice(2, 4))
    layer = SimpleNamespace(where="soil.tif", grid=KILOMETRES)
    with pytest.raises(DomainError, match=r"soil\.tif: resampling bilinear for classes, expected average or nearest"):
        choose(layer, KILOMETRES, "bilinear", classes=True)
    assert choose(layer, KILOMETRES, "bilinear", classes=False) == "bilinear"
    assert choose(layer, KILOMETRES, "nearest", classes=True) == "nearest"


# ---- series in time ----------------------------------------------------------------------------------------


def test_one_source_for_rasters_and_for_tables(tmp_path):
    with pytest.raises(ForcingError, match=r"a%Y\.tif, b\.tif: expected one path with fields of strftime"):
        RasterFiles(source(["a%Y.tif", "b.tif"]), tmp_path, DAY)
    with pytest.raises(ForcingError, match=r"a\.csv, b\.csv: expected one path of tables"):
        TableFiles(source(["a.csv", "b.csv"], layout="wide"), (), tmp_path, DAY)


def test_stamps_of_rasters(tmp_path):
    files = RasterFiles(source("%Y%m%d.tif", missing=["2020-01-01", "2020-01-02", "2020-01-03"]), tmp_path, DAY)
    with pytest.raises(ForcingError, match=r"%Y%m%d\.tif: all stamps are declared missing, expected some rasters"):
        files.want(DAYS)
    some = RasterFiles(source("%Y%m%d.tif", missing=["2020-01-01"]), tmp_path, DAY)
    with pytest.raises(ForcingError, match=r"20200102\.tif: there is no such raster \(2 of 3 are absent\)"):
        some.want(DAYS)


def test_names_of_maps_of_a_stack():
    assert [stack_name("rain", n) for n in (1, 999, 1000)] == ["rain0000.001", "rain0000.999", "rain0001.000"]
    assert stack_name("maps/rainfall", 7) == "maps/rainfall.007"
    for prefix, number in (("rainfalls", 1), ("rainfall", 1000)):
        with pytest.raises(ForcingError, match=f"{prefix}: no name of 8 and 3 places for map {number} of a stack"):
            stack_name(prefix, number)


@pytest.mark.parametrize("kept", [0, 1])
def test_intervals_of_bounds_of_another_length(kept):
    """Where a stamp is chosen, bounds do not count."""
    bounds = np.stack([DAYS, DAYS + np.timedelta64(DAY, "s")], axis=1)
    assert (interval_starts(Stamps(("time",), DAYS, bounds), None, DAY, 0.0, "a.nc", ForcingError) == DAYS).all()
    bounds[kept + 1 :, 1] += np.timedelta64(3600, "s")
    stamps = Stamps(("time",), DAYS, bounds)
    count, at = 2 - kept, str(DAYS[kept + 1])
    with pytest.raises(ForcingError, match=rf"a\.nc: bounds at {at} span 90000 s, expected 86400 s \({count} such"):
        interval_starts(stamps, None, DAY, 0.0, "a.nc", ForcingError)
    assert (interval_starts(stamps, "start", DAY, 0.0, "a.nc", ForcingError) == DAYS).all()


def make(folder: Path, forcing: dict, **drainage: object) -> None:
    """Write the forcing of nine cells about 10 degrees east."""
    made = make_drainage()._replace(**drainage)
    target = Target(made, ["a", "b"], np.arange(2), np.full(made.cells.area.size, 100.0))
    weather = Weather(ForcingConfig(precipitation=forcing), PetConfig(method="given"), ("precipitation",))
    write_forcing(folder / "made.nc", weather, target, Steps(DAYS, DAY), folder, {"title": "a test"})


def test_columns_that_run_to_the_west(tmp_path):
    values = np.ones((3, LAT.size, LON.size))
    write_grid(tmp_path / "p.nc", "precipitation", values, LON[::-1], LAT, units="mm d-1", times=np.arange(3) * 24.0)
    with pytest.raises(ForcingError, match=r"'longitude' falls from 11.0 to 9.0, expected it to rise"):
        make(tmp_path, {"source": "p.nc"})


STATIONS = "time,a,b\n2020-01-01,1,2\n2020-01-02,1,2\n2020-01-03,1,2\n"


@pytest.mark.parametrize(("keys", "message"), [
    ({"method": "nearest"}, "places without lon and lat, expected both for method nearest. Add them."),
    ({"method": "polygon"}, "method polygon without polygons. Set `polygons` to a file of them."),
    ({"method": "polygon", "polygons": "p.shp"}, "p.shp: cannot be read as polygons"),
    ({"method": "conservative"}, "method is conservative, expected basin, polygon or nearest. Set `method`."),
])
def test_stations_that_cannot_be_brought_to_cells(tmp_path, keys, message):
    pytest.importorskip("geopandas")
    (tmp_path / "p.csv").write_text(STATIONS)
    with pytest.raises(ForcingError) as error:
        make(tmp_path, {"source": "p.csv", "layout": "wide", "units": "mm d-1", **keys})
    assert message in said(error)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_polygons_of_files(tmp_path):
    geopandas, shapely = pytest.importorskip("geopandas"), pytest.importorskip("shapely")
    frame = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(9, 49, 11, 51)])
    frame.to_file(tmp_path / "p.gpkg")
    one = source("p.csv", layout="wide", polygons="p.gpkg", polygon_ids="nmae")
    with pytest.raises(ForcingError, match=r"has no column 'nmae' of ids\. Did you mean 'name'"):
        polygon_pairs(["a"], one, make_drainage(), tmp_path, "p.csv")
    named = one.model_copy(update={"polygon_ids": "name"})
    with pytest.raises(ForcingError, match=r"p\.gpkg: has no reference system, expected one"):
        polygon_pairs(["a"], named, make_drainage(), tmp_path, "p.csv")


def test_a_product_of_columns_is_of_tables_only(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as data:
        data.createDimension("time", 3)
        data.createVariable("precipitation", "f8", ("time",))[:] = 1.0
    one = source("{id}.nc", layout="single", times="area")
    with pytest.raises(ForcingError, match=r"a\.nc: `times` is a column of a table, and this is NetCDF"):
        TableFiles(one, ("precipitation",), tmp_path, DAY)


# ---- tables ------------------------------------------------------------------------------------------------


def test_columns_by_a_pattern(tmp_path):
    keys = ObservationsConfig(source="q.csv", layout="wide")
    (tmp_path / "q.csv").write_text("time,flow [m3/s],flow_2\n2020-01-01,1,2\n")
    table = read_text(tmp_path / "q.csv", keys, ObservationError)
    with pytest.raises(ObservationError, match=r"q\.csv: columns flow \[m3/s\], flow_2 all fit 'flow\*', expected one"):
        find_column(table, "flow*", tmp_path / "q.csv", ObservationError)
    assert find_column(table, ["stage", "flow_?", "flow [*"], tmp_path / "q.csv", ObservationError).tolist() == ["1"]
    assert find_column(table, 3, tmp_path / "q.csv", ObservationError).tolist() == ["2"]
    with pytest.raises(ObservationError, match=r"has no column '9'\. It has: time, flow \[m3/s\], flow_2"):
        find_column(table, 9, tmp_path / "q.csv", ObservationError)


@pytest.mark.parametrize("number", ["1.5", "", "nan"])
def test_steps_are_counted_in_whole_numbers(tmp_path, number):
    (tmp_path / "q.csv").write_text(f"time,a\n1,2\n{number},3\n")
    keys = ObservationsConfig(source="q.csv", layout="wide", first_step="2020-01-01", step="1 d")
    table = read_text(tmp_path / "q.csv", keys, ObservationError)
    with pytest.raises(ObservationError, match="column 'time' counts steps from first_step, expected whole numbers"):
        stamps_of(table, keys, tmp_path / "q.csv", ObservationError)


@pytest.mark.parametrize(("text", "message"), [
    ("cell_id\n", "expected a head and lines of as many values"),
    ("cell_id,BETA\na,1\nb\n", "expected a head and lines of as many values"),
    ("cell_id,BETA,BETA\na,1,2\n", "a column stands twice in cell_id, BETA, BETA, expected once"),
    ("cell_id,BETA\na,1\na,2\n", "a line of one 'cell_id' and component stands twice"),
    ("cell_id,component,BETA\na,1,1\na,2,2\n", "has 2 components, the run has components: 1"),
    ("cell_id,BETA\nc0,1\n", "has no line for cell 'c1', component 0. Did you mean 'c0'?"),
])
def test_tables_of_dhbv(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    domain = SimpleNamespace(cells=SimpleNamespace(id=["c0", "c1"]))
    with pytest.raises(ParameterError) as error:
        _read_table(tmp_path / "p.csv", domain, 1)
    assert said(error).startswith(f"{tmp_path / 'p.csv'}: ") and message in said(error)


@pytest.mark.parametrize(("lines", "message"), [
    ("", "holds 0 lines, expected a head and a line per catchment"),
    ("divide_id,areasqkm,lat,lon\n", "holds 1 lines, expected a head and a line per catchment"),
])
def test_a_table_without_catchments(tmp_path, lines, message):
    (tmp_path / "t.csv").write_text(lines)
    with pytest.raises(DomainError, match=message):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["..", "über"])
def test_catchments_that_give_no_name_to_a_file(tmp_path, name):
    (tmp_path / "t.csv").write_text(f"divide_id,areasqkm,lat,lon\ncat-1,1,45,5\n{name},1,45,5\n")
    with pytest.raises(ConfigError, match=f"catchment '{re.escape(name)}' gives its name to a file, expected letters"):
        write_catchments(tmp_path / "t.csv", tmp_path / "made", Options(START, START + np.timedelta64(1, "D")))
    assert not (tmp_path / "made").exists()


def test_nothing_lies_below_an_outlet(tmp_path):
    from cases import write_case

    from bmi_cdlm.prepare.subset import subset

    config = write_case(tmp_path)
    domain = read_domain(tmp_path / "domain.nc")
    outlet = domain.reaches.id[int(domain.outlets[0])]
    with pytest.raises(DomainError, match=f"reach {outlet} is an outlet, nothing lies below it. Choose a reach"):
        subset(config, f"reach:{outlet}", tmp_path / "below", below=True)
    assert not (tmp_path / "below").exists()
