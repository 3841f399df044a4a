"""What pictures are made of: outputs of this run and no other, fields, scales, and places on a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import DAY, HOUR, START, change_config, write_case
from click.testing import CliRunner
from page_cases import decode, read_page

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.files.output import OutputFile, partial_path
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.pictures.fields import MapField, score_field
from bmi_cdlm.pictures.map_data import (
    CODES,
    MISSING,
    flow_codes,
    frames_layer,
    largest_first,
    layer_data,
    map_data,
)
from bmi_cdlm.pictures.plots import find, make_canvas, plot
from bmi_cdlm.pictures.run_output import gauge_results, places_of_output, read_at, read_blocks, require_output
from bmi_cdlm.pictures.view import view
from bmi_cdlm.run.config import Config, load_config
from bmi_cdlm.run.output import output_places

N = 9


def write_output(config: Config, first: np.datetime64 = START, n: int = N) -> np.ndarray:
    """An output as a run would leave it, float64[time, place]: number of the step, and of the place in hundreds."""
    dimension, ids, _ = output_places(config, read_domain(config.domain))
    step = config.time_step * config.steps_per_output
    flow = np.arange(float(n))[:, None] + 100.0 * np.arange(1, len(ids) + 1)
    with OutputFile(config.output, dimension, ids, ("discharge",), step, {}) as file:
        file.append(first + np.arange(n) * np.timedelta64(step, "s"), {"discharge": flow})
    return flow


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """A case whose output at three reaches is there."""
    path = write_case(tmp_path_factory.mktemp("ready"), output="run.nc", output_at=["r1", "r2", "r3"])
    write_output(load_config(path))
    return path


def domain_of(config: Config):
    return read_domain(config.domain)


# ---- outputs of another run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [({"output_at": ["r3", "r2", "r1"]}, r"its column 1 of 3 is r1, expected r3 \(3 in all\)"),
     ({"output_at": ["r1", "r2"]}, r"its column 3 of 3 is r3, expected nothing \(2 in all\)"),
     ({"output_at": ["r1", "r2", "r3", "r4"]}, r"its column 4 of 3 is nothing, expected r4 \(4 in all\)"),
     ({"output_at": "reaches"}, r"its column 1 of 3 is r1, expected r\d+ \(40 in all\)"),
     ({"start": "2001-03-02"}, r"from 2001-03-01T00:00:00 in steps of 1 d, expected a begin from 2001-03-02T00:00:00 "
      r"on, in steps of 1 d"),
     ({"start": "2000-03-01", "end": "2001-03-01"}, r"from 2001-03-01T00:00:00 in steps of 1 d, expected a begin"),
     ({"start": "2001-02-28T12:00", "end": "2001-03-10T12:00"}, r"from 2001-03-01T00:00:00 in steps of 1 d, expected"),
     ({"output_step": "3 d"}, r"from 2001-03-01T00:00:00 in steps of 1 d, expected a begin from 2001-03-01T00:00:00 "
      r"on, in steps of 3 d")],
    ids=["order", "fewer", "more", "all", "later", "earlier", "at noon", "step"],
)
def test_an_output_of_another_run_is_not_drawn_as_this_one(ready, tmp_path, keys, told) -> None:
    """Its columns and rows would pass for other places and times."""
    config = load_config(change_config(ready, **keys))
    domain = domain_of(config)
    with pytest.raises(ConfigError, match=rf"view: .*run\.nc is of another run, {told}"):
        require_output(config, domain, "view", ("reaches", "ids"), ("discharge",))
    for draw in (lambda: gauge_results(config, domain), lambda: view(config, tmp_path / "page.html", "x"),
                 lambda: plot(make_canvas(config, ready, tmp_path, ".png", None, ()), ["discharge"])):
        with pytest.raises(ConfigError, match="is of another run"):
            draw()
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_farther_by_now_is_drawn_as_far_as_it_went(ready) -> None:
    """As is what an unfinished one has left."""
    config = load_config(change_config(ready, end=str(START + np.timedelta64(20 * DAY, "s"))))
    assert require_output(config, domain_of(config), "view", ("ids",), ("discharge",)) == config.output
    assert gauge_results(config, domain_of(config))[0].starts.size == N
    config.output.rename(partial_path(config.output))
    try:
        assert require_output(config, domain_of(config), "view", ("ids",), ("discharge",)) == config.output
    finally:
        partial_path(config.output).rename(config.output)


def test_a_run_that_went_on_from_a_restart_file_is_shown_on_its_own_days(tmp_path) -> None:
    """`start` is that of the run before, the output begins where the state is of."""
    path = write_case(tmp_path, output="run.nc", output_at="reaches")
    config = load_config(path)
    domain = read_domain(config.domain)
    later = START + np.timedelta64(4 * DAY, "s")
    flow = write_output(config, later, 5)
    results = gauge_results(config, domain)
    assert results[0].starts[0] == later and results[0].scores["n"] == 5
    assert read_at(config, config.output, "discharge", later + np.timedelta64(DAY, "s")).tolist() == flow[1].tolist()
    with pytest.raises(ConfigError, match=r"has no step at 2001-03-04.* Expected a time from 2001-03-05"):
        read_at(config, config.output, "discharge", later - np.timedelta64(DAY, "s"))
    view(config, tmp_path / "page.html", "x")
    page = read_page(tmp_path / "page.html")[1]["run"]
    assert page["times"]["first"] == int(later.astype(np.int64)) and page["times"]["n"] == 5
    shown = decode(page["map"]["layers"][0]["frames"])
    assert shown.shape == (5, domain.n_reaches)
    simulated = decode(page["gauges"]["simulated"]).reshape(4, 5)
    np.testing.assert_allclose(simulated[0], flow[:, domain.gauges.reach[0]], rtol=1e-6)
    with pytest.raises(ConfigError, match=r"view: the run has 2001-03-05T00:00:00 to 2001-03-10"):
        view(config, tmp_path / "page.html", "x", first=START)
    view(config, tmp_path / "part.html", "x", first=later + np.timedelta64(2 * DAY, "s"))
    part = read_page(tmp_path / "part.html")[1]["run"]
    np.testing.assert_allclose(decode(part["gauges"]["simulated"]).reshape(4, 3), simulated[:, 2:], rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "told"),
    [({"output": None}, r"view: needs an output with discharge; got output: None"),
     ({"output": "none.nc"}, r"none\.nc does not exist, expected the output of a run"),
     ({"output_at": "cells", "output_variables": ["runoff"]}, r"Set output_at: reaches and output_variables: \[disch")],
)
def test_an_output_that_there_is_not(ready, keys, told) -> None:
    config = load_config(change_config(ready, **keys))
    with pytest.raises(ConfigError, match=told):
        require_output(config, domain_of(config), "view", ("reaches", "ids"), ("discharge",))


def test_columns_belong_to_the_reaches_that_are_named(ready) -> None:
    config = load_config(ready)
    domain = domain_of(config)
    assert [domain.reaches.id[i] for i in places_of_output(config, domain)] == ["r1", "r2", "r3"]
    blocks = list(read_blocks(config.output, "discharge", 3))
    assert len(blocks) == 1 and blocks[0][1][4].tolist() == [104.0, 204.0, 304.0]
    noon = START + np.timedelta64(5 * DAY + 43200, "s")
    assert read_at(config, config.output, "discharge", noon).tolist() == [105.0, 205.0, 305.0], "of the day it lies in"
    for when in (START - np.timedelta64(1, "s"), config.end):
        with pytest.raises(ConfigError, match="has no step at"):
            read_at(config, config.output, "discharge", when)


def test_blocks_of_a_long_output_are_its_rows(ready, monkeypatch) -> None:
    monkeypatch.setattr("bmi_cdlm.pictures.run_output.BLOCK_BYTES", 8 * 3 * 4)
    config = load_config(ready)
    blocks = list(read_blocks(config.output, "discharge", 3))
    assert [starts.size for starts, _ in blocks] == [4, 4, 1]
    assert np.concatenate([values for _, values in blocks])[:, 0].tolist() == list(range(100, 100 + N))


def test_gauges_of_a_domain_take_the_columns_of_their_reaches(tmp_path) -> None:
    config = load_config(write_case(tmp_path, output="run.nc", output_at="reaches"))
    flow, domain = write_output(config), read_domain(config.domain)
    for result, reach in zip(gauge_results(config, domain), domain.gauges.reach, strict=True):
        assert result.simulated.tolist() == flow[:, reach].tolist()
        assert result.scores["n"] == N and result.observed.size == N


def test_a_gauge_that_is_screened_out_is_drawn_but_not_scored(tmp_path) -> None:
    """As nowhere: `cdlm evaluate` leaves it out."""
    path = write_case(tmp_path, output="run.nc", screening={"table": "gauges.csv"})
    (tmp_path / "gauges.csv").write_text("id,years\ng0,20\ng1,1\ng2,20\ng3,20\n")
    config = load_config(path)
    write_output(config)
    found = {one.gauge_id: one for one in gauge_results(config, domain_of(config))}
    assert found["g1"].scores == {} and np.isfinite(found["g1"].observed).all()
    assert all(found[gauge].scores["n"] == N for gauge in ("g0", "g2", "g3"))


@pytest.mark.parametrize("words", [["view", "--to"], ["evaluate", "--no-plots", "--table"]], ids=" ".join)
def test_a_page_or_table_is_not_written_over_a_file_of_the_run(tmp_path, words) -> None:
    key = words[-1]
    path = write_case(tmp_path, output="run.nc")
    write_output(load_config(path))
    for name, of in (("domain.nc", "domain"), ("x/../observations.nc", "observations"), ("run.nc", "output")):
        before = (tmp_path / name.split("/")[-1]).read_bytes()
        done = CliRunner().invoke(main, [words[0], str(path), *words[1:], str(tmp_path / name)])
        assert done.exit_code == 1 and f"is the file of {of}, which would be lost" in done.output
        assert key in done.output and (tmp_path / name.split("/")[-1]).read_bytes() == before
    regions = tmp_path / "regions.csv"
    regions.write_text("gauge,region\n" + "".join(f"g{k},a\n" for k in range(4)))
    if key == "--table":
        done = CliRunner().invoke(
            main, ["evaluate", str(path), "--no-plots", "--regions", str(regions), "--table", str(regions)]
        )
        assert done.exit_code == 1 and "is the file of --regions" in done.output and "region" in regions.read_text()


# ---- words of the command -----------------------------------------------------------------------------------


def test_names_of_pictures_scores_and_parameters_are_known() -> None:
    for name in ("hydrographs", "nse", "celerity", "production_capacity", "ledger"):
        assert callable(find(name))
    with pytest.raises(KeyError, match=r"there is no picture 'celerty'\. Did you mean 'celerity'\?"):
        find("celerty")


def test_pictures_lie_beside_the_output_under_safe_names(ready, tmp_path) -> None:
    config = load_config(ready)
    assert make_canvas(config, ready, None, ".svg", None, ()).path("nse") == ready.parent / "run_nse.svg"
    there = make_canvas(config, ready, tmp_path, ".png", None, ()).path("a/b")
    assert there.parent == tmp_path and there.name.startswith("run_") and "/" not in there.name
    without = load_config(change_config(ready, "lez.yaml", output=None))
    assert make_canvas(without, tmp_path / "lez.yaml", None, ".png", None, ()).path("nse").name == "lez_nse.png"
    with pytest.raises(ConfigError, match="--gauge: there is no gauge 'g9' in the output"):
        make_canvas(config, ready, None, ".png", None, ("g9",)).results()


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--from", "2001-03-05", "--until", "2001-03-04"], "expected a period within it"),
     (["--from", "2001-02-28"], "expected a period within it, got 2001-02-28"),
     (["--until", "2001-13-01"], "cdlm view: '2001-13-01' is not a date"),
     (["--most", "0"], "0 is not in the range x>=1")],
)
def test_a_time_that_the_run_has_not(ready, tmp_path, words, told) -> None:
    done = CliRunner().invoke(main, ["view", str(ready), "--to", str(tmp_path / "p.html"), *words])
    assert done.exit_code and told in done.output and not (tmp_path / "p.html").exists()


# ---- scales of fields ---------------------------------------------------------------------------------------


def field(values, **keys) -> MapField:
    return MapField("x", "cell", "mm", np.array(values, np.float64))._replace(**keys)


@pytest.mark.parametrize(
    ("made", "expected"),
    [(field(np.arange(101.0)), (2.0, 98.0, True, True)),
     (field([1.0, 5.0], limits=(0.0, 4.0)), (0.0, 4.0, False, True)),
     (field([np.nan, np.nan]), (0.0, 1.0, False, False)), (field([np.nan], log=True), (1.0, 10.0, False, False)),
     (field([3.0, 3.0]), (2.5, 3.5, False, False)), (field([0.0, -1.0], log=True), (1.0, 10.0, False, False)),
     (field([np.inf, 1.0, 1.0]), (0.5, 1.5, False, False)),
     (field([-1.0, 4.0], colours="diverging", limits=(-5.0, 5.0)), (-5.0, 5.0, False, False))],
    ids=["tails", "limits", "nothing", "nothing of a logarithm", "constant", "none above 0", "infinite", "about 0"],
)
def test_what_the_colours_go_over(made, expected) -> None:
    assert made.scale() == pytest.approx(expected)


def test_a_scale_about_0_is_even_and_one_of_a_constant_logarithm_is_around_it() -> None:
    low, high, *_ = field(np.linspace(-1.0, 4.0, 1001), colours="diverging").scale()
    assert low == -high and high == pytest.approx(3.9)
    low, high, lower, higher = field([20.0, 20.0], log=True).scale()
    assert low < 20.0 < high and (lower, higher) == (False, False)
    assert field([1.0]).label == "x [mm]" and field([1.0], units="1").label == "x"


def test_efficiencies_are_shown_from_0_to_1_and_errors_about_0() -> None:
    assert score_field("nse", [0.5, -3.0]).limits == (0.0, 1.0)
    assert score_field("nse", [0.5, -3.0]).scale()[2:] == (True, False), "what is worse than 0 is told of"
    assert score_field("pbias", [10.0]).colours == "diverging" and score_field("pbias", [10.0]).limits is None
    assert score_field("years", [3.0]).limits is None


# ---- places on a map ----------------------------------------------------------------------------------------


def test_a_reach_comes_after_the_one_that_it_drains_into(ready) -> None:
    domain = domain_of(load_config(ready))
    order = largest_first(domain)
    place = np.argsort(order)
    below = domain.reaches.downstream
    inner = below >= 0
    assert sorted(order) == list(range(domain.n_reaches)) and (place[below[inner]] < place[inner]).all()
    assert (np.diff(domain.reaches.upstream_area[order]) <= 0).all()


@pytest.mark.parametrize("kept", [40, 7])
def test_what_is_cut_off_a_map_is_drained_into_by_nobody(ready, kept: int) -> None:
    domain = domain_of(load_config(ready))
    order = largest_first(domain)[:kept]
    data = map_data(domain, [], order, cells=False, ids=True)
    below = decode(data["reaches"]["below"])
    for k, reach in enumerate(order):
        down = domain.reaches.downstream[reach]
        assert below[k] == (-1 if down < 0 else order.tolist().index(down))
    assert data["reaches"]["ids"] == [domain.reaches.id[i] for i in order]
    width = decode(data["reaches"]["width"])
    assert width[0] == 1.0 and width.min() >= 0 and (np.diff(width) <= 0).all()
    assert "cells" not in data and data["gauges"]["ids"] == domain.gauges.id
    west, _, east, north = data["extent"]
    assert west == domain.reaches.lon.min() and north == domain.reaches.lat.max()
    whole = map_data(domain, [], order)
    assert whole["extent"][0] <= west and whole["extent"][2] >= east and len(whole["cells"]["ids"]) == domain.n_cells


def test_layers_of_reaches_are_in_the_order_of_the_map() -> None:
    order = np.array([2, 0])
    reach = layer_data(MapField("K", "reach", "s", np.array([1.0, 2.0, 3.0]), log=True), order)
    assert decode(reach["values"]).tolist() == [3.0, 1.0] and (reach["on"], reach["units"]) == ("reaches", "s")
    cell = layer_data(MapField("S", "cell", "1", np.array([1.0, 2.0, 3.0])), order)
    assert decode(cell["values"]).tolist() == [1.0, 2.0, 3.0] and cell["units"] == ""


def test_frames_hold_changes_of_codes() -> None:
    flow = np.array([[1.0, 0.0], [2.0, np.nan], [2.0, 4.0]])
    codes, least, most = flow_codes(flow)
    layer = frames_layer("Discharge", codes, least, most)
    assert decode(layer["frames"]).tolist() == codes.tolist() and layer["kept"] == 2
    assert (codes == [[1, 0], [codes[1, 0], MISSING], [codes[1, 0], CODES]]).all() and (least, most) == (1.0, 4.0)
    single, low, high = flow_codes(np.full((2, 1), 7.0))
    assert (single == CODES).all() and (low, high) == (0.7, 7.0)


def test_an_hourly_output_of_means_is_that_of_its_own_steps(tmp_path) -> None:
    path = write_case(tmp_path, step=HOUR, n_steps=24, output="run.nc", output_step="3 h", observations=None)
    config = load_config(path)
    write_output(config, n=8)
    results = gauge_results(config, domain_of(config))
    assert results[0].starts.size == 8 and results[0].scores == {} and np.isnan(results[0].observed).all()
    at = START + np.timedelta64(4 * HOUR, "s")
    assert read_at(config, config.output, "discharge", at)[0] == 101.0
