"""What the reference says of files is what their readers ask for."""

from __future__ import annotations

import netCDF4
import pytest

from bmi_cdlm.names.errors import CdlmError
from bmi_cdlm.schemas import SCHEMAS, render_files


@pytest.fixture(scope="module")
def tables():
    """Variables of every kind of file by title: whether they are needed."""
    found = {}
    for line in render_files():
        if line.startswith("### "):
            rows = found.setdefault(line[4:].strip(), {})
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[cells[0].strip("`")] = cells[4] == "yes"
    return found


def keep(path, names, to):
    """A copy with some variables only."""
    with netCDF4.Dataset(path) as source, netCDF4.Dataset(to, "w", format=source.data_model) as out:
        source.set_auto_mask(False)
        for name, dimension in source.dimensions.items():
            out.createDimension(name, None if dimension.isunlimited() else dimension.size)
        for name in names:
            copy = out.createVariable(name, source[name].dtype, source[name].dimensions)
            copy.setncatts({a: source[name].getncattr(a) for a in source[name].ncattrs() if a != "_FillValue"})
            copy[:] = source[name][:]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.title)
def test_a_file_with_what_is_needed_is_read_and_one_with_less_is_not(tmp_path, tables, schema):
    needed = [name for name, is_needed in tables[schema.title].items() if is_needed]
    schema.make(tmp_path / "whole.nc")
    keep(tmp_path / "whole.nc", needed, tmp_path / "least.nc")
    schema.read(tmp_path / "least.nc")
    keep(tmp_path / "whole.nc", needed[:-1], tmp_path / "less.nc")
    with pytest.raises(CdlmError):
        schema.read(tmp_path / "less.nc")


def test_rows_as_they_are_known_to_be(tables):
    domain = tables["Domain (`domain`)"]
    assert domain["link_area"] and domain["downstream"] and not domain["cell_corner_lat"] and not domain["reach_slope"]
    assert tables["Observations (`observations`)"] == {
        "gauge_id": True, "time": True, "time_bnds": False, "discharge": True, "discharge_flag": False}
    assert "celerity" in tables["Parameters (`parameters`)"]
