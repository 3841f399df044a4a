"""Units of elevation: read or given, the same in the network and among the attributes; and heights that no land has."""

from __future__ import annotations

import numpy as np
import pytest
from make_drainage import write_grid

from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.network.attributes import cell_and_reach_attributes
from bmi_cdlm.prepare.network.network import build_drainage
from bmi_cdlm.prepare.network.network_config import NetworkConfig
from bmi_cdlm.prepare.weather.weather_config import AttributesConfig

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyflwdir", reason="pyflwdir is not installed")

N, SIZE = 5, 1000.0
METRES = (500.0 - 100.0 * np.arange(N))[None, :].repeat(3, axis=0).astype(np.float32)  # 0.1 eastward
FOOT = 0.3048
CRS = "EPSG:3035"


def write(path, values, *, units=None, crs=CRS, nodata=-9999.0):
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype, crs=crs,
        transform=rasterio.Affine(SIZE, 0, 4_000_000.0, 0, -SIZE, 3_000_000.0), nodata=nodata,
    ) as raster:
        raster.write(values, 1)
        if units is not None:
            raster.units = (units,)
    return path


def slopes(folder, **keys):
    """Slopes of reaches with a pixel below, and mean elevation of cells."""
    codes = np.full((3, N), 1, np.uint8)
    codes[:, -1] = 0
    write(folder / "flow.tif", codes, nodata=247)
    config = {"directions": "flow.tif", "elevation": "dem.tif", "extent": "all", **keys}
    drainage = build_drainage(NetworkConfig(**config), None, folder)
    terrain = {"source": config["elevation"], "units": keys.get("elevation_units"), "crs": keys.get("crs")}
    table = cell_and_reach_attributes(AttributesConfig(elevation=terrain), drainage, folder)
    return drainage.reaches.slope[drainage.reaches.downstream >= 0], table.cell["elevation"].values


def assert_right(found):
    slope, elevation = found
    np.testing.assert_allclose(slope, 0.1, rtol=1e-6)
    np.testing.assert_allclose(elevation.reshape(3, N), METRES, rtol=1e-6)


@pytest.mark.parametrize(("units", "factor"), [("ft", FOOT), ("m", 1.0), ("US_survey_foot", 1200 / 3937), ("dm", 0.1)])
@pytest.mark.parametrize("stated", [True, False], ids=["stated by the file", "given by key"])
def test_units_of_a_geotiff(tmp_path, units, factor, stated):
    write(tmp_path / "dem.tif", (METRES / factor).astype(np.float32), units=units if stated else None)
    assert_right(slopes(tmp_path, **({} if stated else {"elevation_units": units})))


def test_a_key_counts_more_than_the_file(tmp_path):
    write(tmp_path / "dem.tif", (METRES / FOOT).astype(np.float32), units="m")
    assert_right(slopes(tmp_path, elevation_units="ft"))


def test_without_units_it_is_metres_in_both_places(tmp_path):
    write(tmp_path / "dem.tif", METRES)
    assert_right(slopes(tmp_path))


def test_heights_of_a_compound_reference_system_are_in_its_units(tmp_path):
    write(tmp_path / "dem.tif", (METRES / (1200 / 3937)).astype(np.float32), crs="EPSG:3035+6360")  # heights in ftUS
    assert_right(slopes(tmp_path))


@pytest.mark.parametrize(("units", "factor"), [("ft", FOOT), ("feet", FOOT), (None, 1.0)])
def test_units_of_netcdf(tmp_path, units, factor):
    x, y = 4_000_000.0 + SIZE * (np.arange(N) + 0.5), 3_000_000.0 - SIZE * (np.arange(3) + 0.5)
    write_grid(tmp_path / "dem.nc", "z", METRES / factor, x, y, units=units, dims=("y", "x"))
    assert_right(slopes(tmp_path, elevation="dem.nc:z", crs=CRS))


def test_units_that_are_no_length(tmp_path):
    write(tmp_path / "dem.tif", METRES, units="degC")
    with pytest.raises(DomainError, match=r"dem\.tif, elevation: units 'degC' do not convert to 'm'"):
        slopes(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (METRES / 0.03048, r"elevation is 3280\.84 to 16404\.2 m, beyond -500 to 9000 m at 9 of 15 pixels"),
        (METRES / 0.03048, r"In feet that would be up to 5000 m: set network\.elevation_units: ft"),
        (np.where(METRES == 300, -32768, METRES), r"-32768 to 500 m, .* at 3 of 15 .* stands for no data"),
        (np.where(METRES == 300, 3.4e38, METRES), r"at 3 of 15 .* Correct the file, or its units"),
        (METRES * 100, r"10000 to 50000 m, .*Correct the file, or its units with network\.elevation_units"),
    ],
)
def test_heights_that_no_land_has(tmp_path, values, said):
    write(tmp_path / "dem.tif", values.astype(np.float32))
    with pytest.raises(DomainError, match=said):
        slopes(tmp_path)


def test_they_are_refused_as_an_attribute_and_as_a_source_of_directions_too(tmp_path):
    write(tmp_path / "dem.tif", METRES)
    write(tmp_path / "high.tif", (METRES / 0.03048).astype(np.float32))
    drainage = build_drainage(NetworkConfig(elevation="dem.tif", extent="all"), None, tmp_path)
    with pytest.raises(DomainError, match=r"set attributes\.elevation\.units: ft"):
        cell_and_reach_attributes(AttributesConfig(elevation={"source": "high.tif"}), drainage, tmp_path)
    with pytest.raises(DomainError, match="beyond -500 to 9000 m"):
        build_drainage(NetworkConfig(elevation="high.tif", extent="all"), None, tmp_path)


def test_a_sea_beside_the_network_may_be_deep(tmp_path):
    codes = np.full((3, N), 1, np.uint8)
    codes[:, -2], codes[:, -1] = 0, 247
    write(tmp_path / "flow.tif", codes, nodata=247)
    deep = METRES.copy()
    deep[:, -1] = -4000.0
    write(tmp_path / "dem.tif", deep)
    config = NetworkConfig(directions="flow.tif", elevation="dem.tif", extent="all")
    drainage = build_drainage(config, None, tmp_path)
    table = cell_and_reach_attributes(AttributesConfig(elevation={"source": "dem.tif"}), drainage, tmp_path)
    np.testing.assert_allclose(table.cell["elevation"].values.reshape(3, N - 1), METRES[:, :-1])


def test_directions_do_not_depend_on_the_units(tmp_path):
    bumpy = METRES + 40.0 * np.random.default_rng(1).random((3, N)).astype(np.float32)
    write(tmp_path / "dem.tif", bumpy)
    write(tmp_path / "feet.tif", (bumpy / FOOT).astype(np.float32), units="ft")
    found = [build_drainage(NetworkConfig(elevation=name, extent="all"), None, tmp_path).reaches
             for name in ("dem.tif", "feet.tif")]
    assert found[0].id.tolist() == found[1].id.tolist()
    np.testing.assert_allclose(found[0].slope, found[1].slope, atol=1e-6)
