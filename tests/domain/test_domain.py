"""Reading a domain: what comes out in routing order, and every refusal with what, where and expected."""

from __future__ import annotations

import numpy as np
import pytest
from make_domain import Field, random_fields, write_domain

from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import DomainError

N_REACHES, N_CELLS = 40, 12


@pytest.fixture
def fields() -> dict[str, Field]:
    return random_fields(7, N_REACHES, N_CELLS)


@pytest.fixture
def read(tmp_path):
    def write_and_read(fields):
        return read_domain(write_domain(tmp_path / "lez.nc", fields))

    return write_and_read


def with_values(fields, name, change):
    """The fields with one variable's values changed in place by `change`."""
    values = fields[name].values.copy()
    change(values)
    return {**fields, name: fields[name]._replace(values=values)}


def set_at(index, value):
    def change(values):
        values[index] = value

    return change


@pytest.mark.parametrize("seed", range(3))
def test_everything_follows_the_reaches_into_routing_order(read, seed):
    fields = random_fields(seed, N_REACHES, N_CELLS)
    domain = read(fields)
    raw = {name: field.values for name, field in fields.items()}
    ids = raw["reach_id"].tolist()
    order = [ids.index(i) for i in domain.reaches.id]
    assert sorted(order) == list(range(N_REACHES)) and domain.file_order.tolist() == order
    for ours, name in (("length", "reach_length"), ("slope", "reach_slope"), ("area", "reach_area"),
                       ("lon", "reach_lon"), ("lat", "reach_lat")):
        assert np.array_equal(getattr(domain.reaches, ours), raw[name][order]), name
    for i, below in enumerate(domain.reaches.downstream):
        there = raw["downstream"][order[i]]
        assert (below == -1 and there == -1) or domain.reaches.id[below] == ids[there]
        assert below == -1 or below > i
    assert [domain.reaches.id[i] for i in domain.gauges.reach] == [ids[i] for i in raw["gauge_reach"]]
    assert domain.gauges.id == raw["gauge_id"].tolist() and domain.gauges.name == raw["gauge_name"].tolist()
    assert domain.cells.id == raw["cell_id"].tolist()
    assert np.array_equal(domain.cells.mean_annual_snowfall, raw["mean_annual_snowfall"])
    links = sorted(
        (domain.reaches.id[i], int(c), float(a))
        for i in range(N_REACHES)
        for c, a in zip(*(v[domain.links.first[i]:domain.links.first[i + 1]] for v in domain.links[1:]), strict=True)
    )
    assert links == sorted(
        (ids[r], int(c), float(a))
        for r, c, a in zip(raw["link_reach"], raw["link_cell"], raw["link_area"], strict=True)
    )
    np.testing.assert_allclose(
        domain.cells.drained_area, [raw["link_area"][raw["link_cell"] == c].sum() for c in range(N_CELLS)], rtol=1e-14
    )
    assert domain.reaches.upstream_area[domain.outlets].sum() == pytest.approx(raw["link_area"].sum(), rel=1e-13)
    assert (domain.n_cells, domain.n_reaches) == (N_CELLS, N_REACHES)


def test_the_order_of_the_file_changes_nothing(read, fields):
    rng = np.random.default_rng(0)
    shuffle = rng.permutation(N_REACHES)
    position = np.argsort(shuffle)
    other = dict(fields)
    for name, field in fields.items():
        if field.dims == ("reach",):
            other[name] = field._replace(values=field.values[shuffle])
    below = fields["downstream"].values[shuffle]
    other["downstream"] = fields["downstream"]._replace(values=np.where(below >= 0, position[below], -1))
    for name in ("link_reach", "gauge_reach"):
        other[name] = fields[name]._replace(values=position[fields[name].values])
    links = rng.permutation(fields["link_area"].values.size)
    for name in ("link_cell", "link_reach", "link_area"):
        other[name] = other[name]._replace(values=other[name].values[links])
    first, second = read(fields), read(other)
    for ours, theirs in zip((*first.reaches, *first.links, *first.cells, first.gauges.reach),
                            (*second.reaches, *second.links, *second.cells, second.gauges.reach), strict=True):
        if isinstance(ours, list):
            assert ours == theirs
        else:
            # Areas of reaches are sums of links in the order of the file.
            np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("spelling", ["km2", "km^2", "km**2", "1e6 m2"])
def test_other_spellings_of_a_unit_are_understood(read, fields, spelling):
    read({**fields, "reach_area": fields["reach_area"]._replace(units=spelling)})


def test_corners_are_those_of_a_square_of_the_area(read, fields):
    cells = read(fields).cells
    radius = 6371.0072
    height = np.radians(cells.corner_lat[:, 2] - cells.corner_lat[:, 1]) * radius
    width = np.radians(cells.corner_lon[:, 1] - cells.corner_lon[:, 0]) * radius * np.cos(np.radians(cells.lat))
    np.testing.assert_allclose(height, np.sqrt(cells.area), rtol=1e-9)
    np.testing.assert_allclose(width * height, cells.area, rtol=1e-9)
    for corner, centre in ((cells.corner_lon, cells.lon), (cells.corner_lat, cells.lat)):
        np.testing.assert_allclose(corner.mean(axis=1), centre, rtol=1e-12)


def test_corners_of_the_file_are_kept(read, fields):
    rng = np.random.default_rng(2)
    corners = {
        f"cell_corner_{axis}": Field(("cell", "corner"), f"degrees_{side}", rng.uniform(0, 1, (N_CELLS, 4)))
        for axis, side in (("lon", "east"), ("lat", "north"))
    }
    cells = read(fields | corners).cells
    assert np.array_equal(cells.corner_lon, corners["cell_corner_lon"].values)
    assert np.array_equal(cells.corner_lat, corners["cell_corner_lat"].values)


def test_what_is_optional_may_be_missing(read, fields):
    optional = {"mean_annual_snowfall", "reach_slope", "reach_lon", "reach_lat", "gauge_name"}
    domain = read({name: f for name, f in fields.items() if name not in optional})
    assert np.isnan(domain.cells.mean_annual_snowfall).all()
    assert domain.gauges.name == domain.gauges.id
    without = read({name: f for name, f in fields.items() if not name.startswith("gauge")})
    assert without.gauges.id == [] and without.gauges.reach.size == 0


NEEDED = ["cell_id", "cell_lon", "cell_lat", "cell_area", "reach_id", "downstream", "reach_length", "reach_area",
          "link_cell", "link_reach", "link_area", "gauge_id", "gauge_reach", "gauge_area"]


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_variable(read, fields, name):
    del fields[name]
    with pytest.raises(DomainError, match=rf"lez\.nc: variable '{name}' is missing.*The file has: "):
        read(fields)


@pytest.mark.parametrize(("name", "units", "expected"), [
    ("reach_area", "m2", "km2"), ("reach_length", "km", "m"), ("cell_area", "ha", "km2"), ("link_area", "1", "km2"),
    ("cell_lon", "m", "degrees_east"), ("cell_lat", "degC", "degrees_north"), ("reach_slope", "m", "1"),
    ("gauge_area", "m2", "km2"), ("mean_annual_snowfall", "mm d-1", "mm yr-1"), ("reach_area", "furlong", "km2"),
    ("reach_area", None, "km2"),
])
def test_wrong_units(read, fields, name, units, expected):
    fields[name] = fields[name]._replace(units=units)
    got = f"units '{units}'" if units else "no units"
    with pytest.raises(DomainError, match=rf"lez\.nc: '{name}' has {got}, expected '{expected}'\. Convert it"):
        read(fields)


@pytest.mark.parametrize(("name", "dims"), [
    ("cell_area", ("reach",)), ("reach_length", ("cell",)), ("link_area", ("cell", "link")),
    ("gauge_reach", ("reach",)),
])
def test_wrong_dimensions(read, fields, name, dims):
    sizes = {"cell": N_CELLS, "reach": N_REACHES, "link": fields["link_area"].values.size}
    fields[name] = Field(dims, fields[name].units, np.ones([sizes[d] for d in dims], fields[name].values.dtype))
    expected = name.split("_")[0]
    message = rf"lez\.nc: '{name}' has dimensions \({', '.join(dims)}\), expected \({expected}\)"
    with pytest.raises(DomainError, match=message):
        read(fields)


def test_a_missing_dimension(read, fields):
    with pytest.raises(DomainError, match=r"lez\.nc: dimension 'link' is missing or empty\. Make the file with `cdlm"):
        read({name: f for name, f in fields.items() if not name.startswith("link")})


def test_an_empty_dimension(read, fields):
    for name in ("link_cell", "link_reach", "link_area"):
        fields[name] = fields[name]._replace(values=fields[name].values[:0])
    with pytest.raises(DomainError, match="dimension 'link' is missing or empty"):
        read(fields)


def test_a_cycle(read, fields):
    below = fields["downstream"].values
    i = int(np.flatnonzero(below >= 0)[0])
    broken = with_values(fields, "downstream", set_at(int(below[i]), i))
    with pytest.raises(DomainError, match=rf"lez\.nc: 'downstream' has a cycle of 2 reaches: .*r{i}\b.*Break"):
        read(broken)


def test_a_reach_that_drains_into_itself(read, fields):
    with pytest.raises(DomainError, match=r"lez\.nc: reach r5 drains into itself \(1 such reaches\)\. Expected -1"):
        read(with_values(fields, "downstream", set_at(5, 5)))


@pytest.mark.parametrize("index", [-2, N_REACHES])
def test_downstream_off_the_network(read, fields, index):
    with pytest.raises(DomainError, match=rf"'downstream' of reach r3 is {index}, expected an index from 0 to 39"):
        read(with_values(fields, "downstream", set_at(3, index)))


def test_downstream_with_fractions(read, fields):
    fields["downstream"] = fields["downstream"]._replace(values=fields["downstream"].values + 0.5)
    with pytest.raises(DomainError, match=r"'downstream' holds fractions\. Expected whole numbers"):
        read(fields)


@pytest.mark.parametrize(("name", "index", "high"), [
    ("link_cell", N_CELLS, N_CELLS - 1), ("link_reach", -1, N_REACHES - 1), ("link_reach", N_REACHES, N_REACHES - 1),
])
def test_a_link_off_the_grid(read, fields, name, index, high):
    with pytest.raises(DomainError, match=rf"'{name}' is {index} at link 4, expected 0 to {high}\."):
        read(with_values(fields, name, set_at(4, index)))


def test_a_gauge_off_the_network(read, fields):
    with pytest.raises(DomainError, match=r"'gauge_reach' of gauge g1 is 99, expected 0 to 39"):
        read(with_values(fields, "gauge_reach", set_at(1, 99)))


@pytest.mark.parametrize(("name", "what"), [("reach_id", "r2"), ("cell_id", "c2"), ("gauge_id", "g2")])
def test_double_ids(read, fields, name, what):
    with pytest.raises(DomainError, match=rf"lez\.nc: '{name}' {what} occurs more than once\. Expected unique ids"):
        read(with_values(fields, name, set_at(0, what)))


def test_ids_on_another_dimension(read, fields):
    fields["reach_id"] = fields["reach_id"]._replace(dims=("cell",), values=fields["cell_id"].values)
    with pytest.raises(DomainError, match=r"'reach_id' has 12 values, the dimension 'reach' has 40\. Expected"):
        read(fields)


@pytest.mark.parametrize(("name", "value", "least"), [
    ("link_area", 0.0, "> 0"), ("link_area", -1.0, "> 0"), ("cell_area", 0.0, "> 0"), ("reach_length", -1.0, ">= 0"),
    ("reach_area", -1.0, ">= 0"), ("reach_slope", -0.1, ">= 0"),
])
def test_negative_sizes(read, fields, name, value, least):
    with pytest.raises(DomainError, match=rf"'{name}' is {value} at index \d+ \(1 such values\), expected {least}\."):
        read(with_values(fields, name, set_at(2, value)))


@pytest.mark.parametrize("name", ["reach_length", "cell_area", "downstream", "cell_lon"])
def test_missing_values(read, fields, name):
    fields[name] = fields[name]._replace(values=fields[name].values.astype(float))
    with pytest.raises(DomainError, match=rf"'{name}' has 1 missing values, the first at .*\[2\]"):
        read(with_values(fields, name, set_at(2, np.nan)))


def test_links_that_do_not_add_up(read, fields):
    i = int(fields["link_reach"].values[0])
    area = fields["reach_area"].values[i]
    with pytest.raises(DomainError) as found:
        read(with_values(fields, "reach_area", set_at(i, area * 1.0001)))
    message = str(found.value)
    assert f"the links of reach r{i} add up to {area:.9g} km2, its 'reach_area' is {area * 1.0001:.9g} km2" in message
    assert "(1 such reaches). Expected equality within 1e-05" in message and "'reach_uncovered_area'" in message
    read(with_values(fields, "reach_area", set_at(i, area * 1.000009)))


def test_a_reach_with_area_but_no_link(read, fields):
    i = int(np.setdiff1d(np.arange(N_REACHES), fields["link_reach"].values)[0])
    with pytest.raises(DomainError, match=rf"the links of reach r{i} add up to 0 km2, its 'reach_area' is 1 km2"):
        read(with_values(fields, "reach_area", set_at(i, 1.0)))


@pytest.mark.parametrize(("share", "refused"), [(0.019, False), (0.021, True)])
def test_area_without_a_cell_is_limited(read, fields, share, refused):
    """At the first outlet: uncovered / (covered + uncovered) of what drains through it."""
    domain = read(fields)
    i = int(domain.outlets[0])
    uncovered = np.zeros(N_REACHES)
    uncovered[domain.file_order[i]] = domain.reaches.upstream_area[i] * share / (1 - share)
    fields["reach_uncovered_area"] = Field(("reach",), "km2", uncovered)
    if refused:
        with pytest.raises(DomainError, match=r"no cell covers 2\.10% of the area above .*expected at most 2%\."):
            read(fields)
    else:
        read(fields)


def test_a_gauge_above_the_outlet_is_watched_too(read, fields):
    domain = read(fields)
    g = int(np.argmin(domain.reaches.upstream_area[domain.gauges.reach]))
    i = int(domain.gauges.reach[g])
    uncovered = np.zeros(N_REACHES)
    uncovered[domain.file_order[i]] = max(1e-6, domain.reaches.upstream_area[i] * 0.03)
    fields["reach_uncovered_area"] = Field(("reach",), "km2", uncovered)
    with pytest.raises(DomainError, match=rf"no cell covers .* of the area above gauge g{g} "):
        read(fields)


def test_no_file_and_no_netcdf(tmp_path):
    with pytest.raises(DomainError, match=r"nowhere\.nc: there is no such file\. Check the path"):
        read_domain(tmp_path / "nowhere.nc")
    (tmp_path / "text.nc").write_text("not NetCDF")
    with pytest.raises(DomainError, match=r"text\.nc: cannot be read as NetCDF .*Expected a NetCDF"):
        read_domain(tmp_path / "text.nc")


@pytest.mark.parametrize(
    ("name", "index", "value", "told"),
    [("cell_lat", 3, 90.5, r"'cell_lat' is 90\.5 at index 3 \(1 such values\), expected -90 to 90 degrees"),
     ("cell_lon", 0, 700123.0, r"'cell_lon' is 700123\.0 at index 0 \(1 such values\), expected -720 to 720 degrees"),
     ("reach_lat", 5, -91.0, r"'reach_lat' is -91\.0 at index 5"), ("reach_lon", 2, -721.0, r"'reach_lon' is -721\.0"),
     ("gauge_area", 1, -5.0, r"'gauge_area' of gauge g1 is -5\.0, expected an official area > 0, or a missing value"),
     ("gauge_area", 0, 0.0, r"'gauge_area' of gauge g0 is 0\.0"), ("gauge_area", 0, np.inf, r"gauge g0 is inf"),
     ("gauge_id", 2, "", r"'gauge_id' is empty at index 2"), ("cell_id", 0, "  ", r"'cell_id' is empty at index 0"),
     ("reach_id", 4, "", r"'reach_id' is empty at index 4")],
)
def test_places_areas_and_ids_that_can_be_none(read, fields, name, index, value, told):
    with pytest.raises(DomainError, match=told):
        read(with_values(fields, name, set_at(index, value)))


def test_longitudes_from_0_and_from_180_west_are_both_read(read, fields):
    for value in (-180.0, 359.99, 360.0):
        assert read(with_values(fields, "cell_lon", set_at(0, value))).cells.lon[0] == value
    area = read(with_values(fields, "gauge_area", set_at(0, 12.5))).gauges.area
    assert area[0] == 12.5 and np.isnan(area[1:]).all()
