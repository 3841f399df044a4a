"""`cdlm plot` and `cdlm view`: what is shown is what the run has written, and what is not there is told of."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
from cases import DAY, HOUR, START, change_config, write_case
from click.testing import CliRunner
from page_cases import decode, read_page

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.evaluate.catalogue import scores
from bmi_cdlm.evaluate.places import reach_places
from bmi_cdlm.files.observations import read_observations
from bmi_cdlm.files.output import read_output
from bmi_cdlm.pictures import plots
from bmi_cdlm.pictures.fields import MapField, parameter_fields, score_field
from bmi_cdlm.pictures.map_data import largest_first
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.parameter_file import read_parameters

pytest.importorskip("matplotlib", reason="needs the extra `plot`")


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def reaches(tmp_path_factory):
    path = write_case(tmp_path_factory.mktemp("reaches"), output="run.nc", output_at="reaches")
    call("run", path)
    return path


@pytest.fixture(scope="module")
def cells(reaches):
    path = change_config(
        reaches, "cells.yaml", output="cells.nc", output_at="cells", snow="cemaneige", ledger_tolerance=1e-9,
        output_variables=["snowpack", "production_store", "cell_water_stored", "cell_water_residual"],
    )
    call("run", path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The fields that go into maps, which are not drawn: drawing takes its time."""
    found: dict[str, MapField] = {}
    monkeypatch.setattr(plots, "plot_field", lambda path, domain, field, title: found.update({field.name: field}))
    for name in ("plot_duration", "plot_series"):
        monkeypatch.setattr(plots, name, lambda *_: None)
    monkeypatch.setattr(plots, "draw", lambda *_, **__: [])
    return found


def test_pictures_are_written(reaches, cells, tmp_path):
    call("plot", reaches, "hydrographs", "duration", "celerity", "nse", "--gauge", "g0", "--to", tmp_path, "--format",
         "svg")
    names = {"run_g0.svg", "run_duration_g0.svg", "run_celerity.svg", "run_nse.svg"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all((tmp_path / name).read_text().startswith("<?xml") for name in names)
    call("plot", cells, "snow", "--to", tmp_path)
    for name in ("snow", "snow_snowpack"):
        assert (tmp_path / f"cells_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_discharge_scores_and_parameters(reaches, tmp_path, drawn):
    config = load_config(reaches)
    domain = read_domain(config.domain)
    said = call("plot", reaches, "--to", tmp_path)
    assert "left out: ledger: needs an output with reach_water_residual" in said and "ledger_tolerance: 1e-9" in said
    assert "left out: snow: no process of this run has a store of snow" in said
    flow = read_output(config.output, "discharge")[2]
    np.testing.assert_allclose(drawn["Discharge"].values, flow.mean(axis=0), rtol=1e-12)
    observed = read_observations(config.observations, domain.gauges.id, config.start, config.end, DAY)[1]
    for k, gauge in enumerate(domain.gauges.reach):
        expected = scores(flow[:, gauge], observed[:, k])["nse"]
        assert drawn["NSE"].values[k] == pytest.approx(expected, rel=1e-12)
    written = read_parameters(config.parameters, domain)
    np.testing.assert_array_equal(drawn["production_capacity"].values, written["production_capacity"])
    assert drawn["celerity"].on == "reach" and drawn["celerity"].units == "m s-1"
    when = START + np.timedelta64(4 * DAY + 3 * HOUR, "s")
    call("plot", reaches, "discharge", "r1", "--at", when, "--to", tmp_path)
    np.testing.assert_array_equal(drawn["Discharge"].values, flow[4])
    assert drawn["R1 %"].colours == "diverging"


def test_pictures_of_snow_stores_and_the_ledger(cells, tmp_path, drawn):
    call("plot", cells, "snow", "storage", "ledger", "--to", tmp_path)
    config = load_config(cells)
    area = read_domain(config.domain).cells.drained_area
    snow = read_output(config.output, "snowpack")[2]
    np.testing.assert_array_equal(drawn["snowpack"].values, snow[(snow @ area).argmax()])
    assert {"cell_water_stored", "production_store"} <= set(drawn)
    residual = read_output(config.output, "cell_water_residual")[2]
    np.testing.assert_array_equal(drawn["Residual of the ledger"].values, residual[-1])


@pytest.mark.parametrize(("words", "message"), [
    (("nse", "discharg"), "there is no picture 'discharg'. Did you mean 'discharge'? Known: hydrographs, duration"),
    (("snowpack",), "there is no picture 'snowpack'."),
    (("melt_factor",), "melt_factor: is no parameter of this run. It has: production_capacity"),
    (("snow",), "Set snow, or a runoff process with snow"),
    (("ledger",), "Set output_at: reaches and output_variables: [reach_water_residual] and ledger_tolerance: 1e-9"),
    (("discharge", "--at", "2030-01-01"), "has no step at 2030-01-01T00:00:00. Expected a time from 2001-03-01"),
    (("nse", "--gauge", "g9"), "--gauge: there is no gauge 'g9'"),
    (("nse", "--at", "soon"), "--at: 'soon' is not a date"),
])
def test_what_is_not_there_is_told_of(reaches, tmp_path, words, message):
    assert message in call("plot", reaches, *words, "--to", tmp_path, code=1)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_not_done(reaches, tmp_path):
    other = change_config(reaches, "other.yaml", output=str(tmp_path / "none.nc"))
    assert "none.nc does not exist, expected the output of a run" in call("plot", other, "hydrographs", code=1)
    assert not list(tmp_path.iterdir())
    cells_only = change_config(reaches, "c.yaml", output="c.nc", output_at="cells", output_variables=["runoff"])
    said = call("view", cells_only, "--to", tmp_path / "v.html", code=1)
    assert "view: needs an output with discharge" in said and "Set output_at: reaches" in said


def test_the_page_of_a_run_holds_its_numbers(reaches, tmp_path):
    said = call("view", reaches, "--to", tmp_path / "v.html")
    config = load_config(reaches)
    domain, flow = read_domain(config.domain), read_output(config.output, "discharge")[2]
    _, data = read_page(tmp_path / "v.html")
    view = data["run"]
    n = flow.shape[0]
    assert f"wrote {tmp_path / 'v.html'}" in said and view["times"]["n"] == n and view["times"]["step"] == DAY
    own = decode(view["gauges"]["simulated"]).reshape(-1, n)
    np.testing.assert_array_equal(own, flow[:, domain.gauges.reach].T.astype(np.float32))
    order, moving = largest_first(domain), view["map"]["layers"][0]
    codes = decode(moving["frames"]).astype(float)
    back = moving["least"] * np.exp((codes - 1) / (moving["codes"] - 1) * np.log(moving["most"] / moving["least"]))
    np.testing.assert_allclose(np.where(codes == 0, 0, back), flow[:, order], rtol=1.3e-3, atol=moving["most"] / 1e9)
    below = decode(view["map"]["reaches"]["below"])
    assert (below < np.arange(below.size)).all(), "a reach comes after the one that it drains into"
    ids = view["map"]["reaches"]["ids"]
    inner = below >= 0
    assert [ids[b] for b in below[inner]] == [domain.reaches.id[i] for i in domain.reaches.downstream[order[inner]]]
    layers = {layer["name"]: layer for layer in view["map"]["layers"][1:]}
    written = read_parameters(config.parameters, domain)
    np.testing.assert_array_equal(decode(layers["celerity"]["values"]), written["celerity"][order].astype(np.float32))
    assert layers["celerity"]["units"] == "m s-1" and "NSE over the whole run" in layers


def test_what_a_page_has_no_room_for_is_said(reaches, tmp_path):
    begin, end = START + np.timedelta64(2 * DAY, "s"), START + np.timedelta64(6 * DAY, "s")
    said = call("view", reaches, "--to", tmp_path / "v.html", "--from", begin, "--until", end, "--most", 42)
    _, data = read_page(tmp_path / "v.html")
    moving = data["run"]["map"]["layers"][0]
    assert moving["kept"] == 10 and decode(moving["frames"]).shape == (4, 10), "42 values: ten reaches for four days"
    told = "Discharge of the 10 largest of 40 reaches is here"
    assert told in said and any(note.startswith(told) for note in data["run"]["notes"])
    assert "expected a period within it" in call(
        "view", reaches, "--to", tmp_path / "w.html", "--until", "2031-01-01", code=1
    )
    assert not (tmp_path / "w.html").exists()


def test_hourly_lumped_basin_in_a_calendar_without_rivers(tmp_path):
    path = write_case(
        tmp_path, step=HOUR, lumped=True, output="run.nc", output_at="gauges", observations=None, calendar="360_day",
        start="2001-02-30", end="2001-03-01",
    )
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["time"].setncatts({"units": "hours since 2001-02-30", "calendar": "360_day"})
        dataset["time"][:] = np.arange(dataset["time"].size)
    call("run", path)
    assert "scores: there are no observations" in call("plot", path, "nse", code=1)
    call("plot", path, "hydrographs", "production_capacity", "--to", tmp_path / "p")
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"run_g0.png", "run_production_capacity.png"}
    call("view", path, "--to", tmp_path / "v.html")
    view = read_page(tmp_path / "v.html")[1]["run"]
    assert view["times"]["calendar"] == "360_day" and view["times"]["step"] == HOUR
    assert view["gauges"]["observed"] is None and any("at gauges only" in note for note in view["notes"])


def test_components_have_a_field_each_and_scales_say_what_they_leave_out(reaches):
    with netCDF4.Dataset(reaches.parent / "components.nc", "w") as dataset:
        for name, size in (("component", 2), ("cell", 25)):
            dataset.createDimension(name, size)
        values = dataset.createVariable("production_capacity", "f8", ("component", "cell"))
        values.units = "mm"
        values[:] = np.stack([np.full(25, 100.0), np.arange(25) + 200.0])
    path = change_config(reaches, "two.yaml", parameters="components.nc", components=2)
    config = load_config(path)
    fields, varying = parameter_fields(config, read_domain(config.domain))
    own = {field.name: field for field in fields}
    assert not varying and own["production_capacity, component 2"].values[3] == 203.0
    assert own["routing_capacity"].values.shape == (25,), "what the file leaves out is the same in both"
    low, high, lower, higher = own["production_capacity, component 2"].scale()
    assert lower and higher and 200 < low < high < 224
    assert own["production_capacity, component 1"].scale()[:2] == pytest.approx((100 / 1.1, 110))
    assert score_field("pbias", [np.nan, -5.0, 3.0]).scale()[:2] == pytest.approx((-4.84, 4.84))
    assert MapField("a", "cell", "1", np.full(3, np.nan)).scale() == (0.0, 1.0, False, False)


def test_reaches_without_a_place_are_where_their_cells_are(reaches):
    domain = read_domain(load_config(reaches).domain)
    zero = np.zeros(domain.n_reaches)
    assert reach_places(domain)[0] is domain.reaches.lon
    lon, lat = reach_places(domain._replace(reaches=domain.reaches._replace(lon=zero, lat=zero)))
    own = slice(domain.links.first[5], domain.links.first[6])
    expected = np.average(domain.cells.lon[domain.links.cell[own]], weights=domain.links.area[own])
    assert lon[5] == pytest.approx(expected) and lat.min() >= domain.cells.lat.min()
