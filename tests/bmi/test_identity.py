"""What places are, through BMI alone: the domain file again, in BMI's order."""

from __future__ import annotations

import numpy as np
import pytest
from cases import COLUMNS, N_CELLS, ROWS, Q, change_config, opened, regular_case, write_case

from bmi_cdlm.bmi.component import BmiValueError
from bmi_cdlm.bmi.identity import as_numbers, as_text
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.netcdf import same_units
from bmi_cdlm.names.errors import UnknownNameError
from bmi_cdlm.names.host_variables import IDENTITY
from bmi_cdlm.names.variables import variable

NAMES = {v.short: v.name for v in IDENTITY}


def got(component, short):
    name = NAMES[short]
    dest = np.empty(component.get_var_nbytes(name) // component.get_var_itemsize(name), component.get_var_type(name))
    assert component.get_value(name, dest) is dest
    np.testing.assert_array_equal(dest, component.get_value_ptr(name))
    return dest


def texts(component, short, grid):
    """Ids as a client reads them: rows of bytes."""
    rows = got(component, short).reshape(component.get_grid_size(grid), -1)
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


@pytest.mark.parametrize("profile", ["points", "unstructured"])
def test_the_domain_through_bmi(tmp_path, profile):
    config = write_case(tmp_path, grid_profile=profile)
    domain = read_domain(tmp_path / "domain.nc")
    cells, reaches, gauges, links = domain.cells, domain.reaches, domain.gauges, domain.links
    with opened(config) as component:
        for short, values in {
            "cell_lon": cells.lon, "cell_lat": cells.lat, "cell_area": cells.area,
            "cell_drained_area": cells.drained_area, "reach_lon": reaches.lon, "reach_lat": reaches.lat,
            "reach_length": reaches.length, "reach_slope": reaches.slope, "reach_area": reaches.area,
            "upstream_area": reaches.upstream_area, "downstream": reaches.downstream, "gauge_reach": gauges.reach,
            "gauge_area": gauges.area, "link_cell": links.cell, "link_area": links.area,
        }.items():
            np.testing.assert_array_equal(got(component, short), values, err_msg=short)
        share, cell, reach = (got(component, n) for n in ("link_share", "link_cell", "link_reach"))
        drained = np.bincount(cell, minlength=N_CELLS) > 0
        np.testing.assert_allclose(np.bincount(cell, share, N_CELLS)[drained], 1.0, rtol=1e-12)
        np.testing.assert_allclose(np.bincount(reach, got(component, "link_area"), 40), reaches.area, rtol=1e-5)
        assert texts(component, "reach_id_text", 1) == reaches.id
        assert texts(component, "gauge_id_text", 2) == gauges.id
        if profile == "points":
            assert texts(component, "cell_id_text", 0) == cells.id
        # Lateral inflow of every reach from the runoff of cells, with nothing but BMI.
        component.update()
        runoff = component.get_value_ptr(variable("runoff").name)
        lateral = np.bincount(reach, runoff[cell] * got(component, "link_area") / 86.4, 40)
        np.testing.assert_allclose(lateral, component.get_value_ptr(variable("lateral_inflow").name), rtol=1e-12)
        np.testing.assert_array_equal(
            component.get_value_ptr(variable("gauge_discharge").name),
            component.get_value_ptr(Q)[got(component, "gauge_reach")],
        )


def test_types_units_and_grids(tmp_path):
    with opened(write_case(tmp_path)) as component:
        names = component.get_identity_names()
        others = ("_id", "boundary_reach")  # their ids are no numbers, and nothing was cut off
        assert set(names) == {n for s, n in NAMES.items() if not s.endswith(others)}
        for name in names:
            v = next(v for v in IDENTITY if v.name == name)
            expected = "int64" if "int64" in v.meaning else "uint8" if "uint8" in v.meaning else "float64"
            assert component.get_var_type(name) == expected
            assert component.get_var_units(name) == v.units and same_units(v.units, v.units + " ")
            assert component.get_var_grid(name) == {"cell": 0, "reach": 1, "gauge": 2, "link": 10}[v.grid]
            assert component.get_var_location(name) in ("node", "face")
            assert component.get_value_ptr(name) is component.get_value_ptr(name)
            assert not component.get_value_ptr(name).flags.writeable
            assert name not in (*component.get_input_var_names(), *component.get_output_var_names())
            with pytest.raises(BmiValueError, match="derives"):
                component.set_value(name, component.get_value_ptr(name))
        assert component.get_grid_size(10) == got(component, "link_cell").size
        assert component.get_grid_x(10, np.zeros(component.get_grid_size(10))).min() >= 0
        with pytest.raises(UnknownNameError, match=r"no whole numbers. Take 'channel_reach__id_text'"):
            component.get_value_ptr(NAMES["reach_id"])


def test_ids_that_are_numbers():
    assert as_numbers(["7", "-3", "9007199254740993"]).tolist() == [7, -3, 9007199254740993]
    for ids in (["7", "a"], ["07"], ["1.5"], ["9" * 30], [" 1"]):
        assert as_numbers(ids) is None
    assert as_text(["Lez", "\u00e9", ""]).reshape(3, -1).tolist() == [[76, 101, 122], [195, 169, 0], [0, 0, 0]]


def test_in_rows_and_columns(tmp_path):
    config, places = regular_case(tmp_path)
    with opened(config) as grid, opened(change_config(config, grid_profile="points")) as points:
        assert grid.get_identity_names() == points.get_identity_names()
        for short, nothing in (("cell_area", np.nan), ("cell_lon", np.nan), ("cell_id_text", 0)):
            expected = got(points, short).reshape(N_CELLS, -1)
            full = np.full((ROWS * COLUMNS, expected.shape[1]), nothing, expected.dtype)
            full[places] = expected
            np.testing.assert_array_equal(got(grid, short), full.ravel())
