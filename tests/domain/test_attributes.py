"""Attributes: which variable of the domain file each is, its units, its gaps, its order."""

from __future__ import annotations

import numpy as np
import pytest
from generator_cases import attribute_fields
from make_domain import Field, write_domain

from bmi_cdlm.domain.attributes import read_attribute, read_attributes
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import DomainError


@pytest.fixture
def fields():
    return attribute_fields(7, 12, 6)


def opened(tmp_path, fields):
    path = write_domain(tmp_path / "domain.nc", fields)
    return path, read_domain(path)


def test_every_variable_of_the_grid_is_an_attribute_in_the_order_of_the_domain(tmp_path, fields):
    path, domain = opened(tmp_path, fields)
    table = read_attributes(path, domain, "cell", ["forest", "cell_elevation", "lat", "area", "mean_annual_snowfall"])
    assert table.units == ("1", "m", "degrees_north", "km2", "mm yr-1")
    np.testing.assert_array_equal(table.values[:, 1], fields["cell_elevation"].values)
    np.testing.assert_array_equal(table.values[:, 3], domain.cells.area)
    table = read_attributes(path, domain, "reach", ["length", "reach_slope", "upstream_area", "area"])
    np.testing.assert_array_equal(table.values[:, 0], domain.reaches.length)
    np.testing.assert_array_equal(table.values[:, 0], fields["reach_length"].values[domain.file_order])
    np.testing.assert_array_equal(table.values[:, 1], domain.reaches.slope)
    np.testing.assert_array_equal(table.values[:, 2], domain.reaches.upstream_area)
    drained = read_attribute(path, domain, "drained_area", "cell", "km2")
    np.testing.assert_array_equal(drained, domain.cells.drained_area)
    assert read_attributes(path, domain, "cell", []).values.shape == (6, 0)


def test_units_are_compared_by_meaning(tmp_path, fields):
    path, domain = opened(tmp_path, fields)
    read_attributes(path, domain, "cell", ["elevation"], ["meter"])
    with pytest.raises(DomainError, match=r"'elevation' has units 'm', expected 'km'. Convert"):
        read_attributes(path, domain, "cell", ["elevation"], ["km"])
    path, domain = opened(tmp_path, fields | {"cell_elevation": fields["cell_elevation"]._replace(units=None)})
    with pytest.raises(DomainError, match=r"'cell_elevation' has no units. Set"):
        read_attributes(path, domain, "cell", ["elevation"])


def test_a_missing_attribute_is_answered_with_the_nearest(tmp_path, fields):
    path, domain = opened(tmp_path, fields)
    with pytest.raises(DomainError, match=r"no cell attribute 'forrest' .*Did you mean 'forest'\?"):
        read_attributes(path, domain, "cell", ["forrest"])
    with pytest.raises(DomainError, match="no reach attribute 'id'"):
        read_attributes(path, domain, "reach", ["id"])


def test_gaps_are_refused_with_their_place(tmp_path, fields):
    forest = fields["cell_forest"].values.copy()
    forest[[2, 4]] = np.nan
    path, domain = opened(tmp_path, fields | {"cell_forest": Field(("cell",), "1", forest)})
    with pytest.raises(DomainError, match="'forest' is missing at 2 of 6 places, the first at cell c2"):
        read_attributes(path, domain, "cell", ["forest"])


def test_the_file_of_another_domain_is_refused(tmp_path, fields):
    path, _ = opened(tmp_path, fields)
    other = read_domain(write_domain(tmp_path / "other.nc", attribute_fields(7, 12, 5)))
    with pytest.raises(DomainError, match="has 6 values, the domain has 5"):
        read_attributes(path, other, "cell", ["forest"])


@pytest.mark.parametrize(("asked", "held"), [
    ("mean_precipitation", "p_mean"), ("p_mean", "mean_precipitation"), ("t_mean", "mean_temperature"),
    ("frac_snow", "snow_fraction"),
])
def test_names_of_camels_and_plain_ones_are_the_same(tmp_path, fields, asked, held):
    """The hint used to be: did you mean elevation?"""
    fields[f"cell_{held}"] = Field(("cell",), "mm d-1", np.arange(6.0))
    path, domain = opened(tmp_path, fields)
    table = read_attributes(path, domain, "cell", [asked])
    assert table.names == (asked,)
    np.testing.assert_array_equal(table.values[:, 0], np.arange(6.0))
    fields[f"cell_{asked}"] = Field(("cell",), "mm d-1", np.arange(6.0) + 1)
    path, domain = opened(tmp_path, fields)
    np.testing.assert_array_equal(read_attribute(path, domain, asked, "cell", "mm d-1"), np.arange(6.0) + 1)
