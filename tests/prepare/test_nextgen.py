"""Catchments from a table: what is written runs, what is wrong is named."""

from __future__ import annotations

import json

import netCDF4
import numpy as np
import pytest
from click.testing import CliRunner
from generator_cases import specify, write_attribute_domain, write_drawn_checkpoint

from bmi_cdlm.bmi import BmiCdlm
from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_ensemble
from bmi_cdlm.names.errors import DomainError
from bmi_cdlm.prepare.nextgen import Options, read_table, write_catchments
from bmi_cdlm.run.config import load_config

TABLE = """divide_id,areasqkm,lat,lon,elevation [m],mean_annual_snowfall,slope [m km-1],reach_sinuosity [1]
cat-1,10.5,45.1,5.2,300,12,3.5,1.2
cat-2,0.7,-33.0,150.9,20,0,0.1,1
"""
START = np.datetime64("2016-01-01", "s")
OPTIONS = Options(START, START + np.timedelta64(1, "D"))


def table(tmp_path, text=TABLE):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def test_a_table(tmp_path):
    first, second = read_table(table(tmp_path))
    assert first.id == "cat-1" and second.known["lat"] == -33.0
    assert first.known == {"area": 10.5, "lat": 45.1, "lon": 5.2, "elevation": 300.0, "mean_annual_snowfall": 12.0}
    assert first.attributes == {"slope": (3.5, "m km-1"), "reach_sinuosity": (1.2, "1")}


def test_what_is_written_is_a_domain_and_runs(tmp_path):
    paths = write_catchments(table(tmp_path), tmp_path / "made", OPTIONS._replace(snow="cemaneige"))
    assert [p.name for p in paths] == ["cat-1.nc", "cat-1.yaml", "cat-2.nc", "cat-2.yaml", "realization.json"]
    domain = read_domain(paths[0])
    assert domain.cells.id == domain.reaches.id == ["cat-1"]
    assert domain.cells.drained_area == domain.reaches.area == [10.5]
    assert domain.reaches.length == [0.0] and domain.cells.mean_annual_snowfall == [12.0]
    with netCDF4.Dataset(paths[0]) as dataset:
        assert dataset["cell_slope"].units == "m km-1" and dataset["cell_slope"][0] == 3.5
        assert dataset["reach_sinuosity"][0] == 1.2 and dataset["cell_elevation"][0] == 300.0
    component = BmiCdlm()
    component.initialize(str(paths[3]))
    assert component.get_end_time() == 2 * 86400.0  # beyond ngen's own end
    for name, value in zip(component.get_input_var_names(), (1e-3, 290.0), strict=True):
        component.set_value(name, np.array([value]))
    for _ in range(24):
        component.update()
    component.finalize()


def test_the_command(tmp_path):
    (tmp_path / "there").mkdir()
    spec = specify(write_attribute_domain(tmp_path / "domain.nc"), snow="none")
    model = write_drawn_checkpoint(tmp_path / "there" / "model.safetensors", spec)
    arguments = [
        "nextgen", "init", str(table(tmp_path)), "--to", str(tmp_path / "made" / "deep"), "--start", "2016-01-01",
        "--end", "2016-03-01", "--time-step", "1 d", "--pet", "penman_monteith", "--parameters",
        str(tmp_path / "there" / "model.safetensors"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "wrote 2 catchments" in result.output
    config = load_config(tmp_path / "made" / "deep" / "cat-2.yaml")
    assert config.parameters.resolve() == tmp_path / "there" / "model.safetensors"
    assert (config.pet, config.time_step, config.name_profile) == ("penman_monteith", 86400, "ngen")
    content = json.loads((tmp_path / "made" / "deep" / "realization.json").read_text())
    assert content["time"] == {
        "start_time": "2016-01-01 00:00:00", "end_time": "2016-02-29 23:00:00", "output_interval": 3600}
    hbv = CliRunner().invoke(main, [*arguments[:-2], "--runoff", "hbv", "--components", "4"])
    assert hbv.exit_code == 0, hbv.output
    config = load_config(tmp_path / "made" / "deep" / "cat-2.yaml")
    assert (config.runoff, config.components) == ("hbv", 4)
    content = (tmp_path / "made" / "deep" / "realization.json").read_text()
    assert "upper-zone_water" in content and "snowpack_ice" in content and "production-store" not in content
    corrected = CliRunner().invoke(main, [*arguments[:-2], "--precipitation", "undercatch"])
    assert corrected.exit_code == 0, corrected.output
    assert load_config(tmp_path / "made" / "deep" / "cat-2.yaml").precipitation == "undercatch"
    double = CliRunner().invoke(main, [*arguments[:-2], "--runoff", "hbv", "--snow", "cemaneige"])
    assert double.exit_code == 1 and "snow" in double.output
    other = write_drawn_checkpoint(tmp_path / "there" / "other.safetensors", spec, seed=1)
    save_ensemble(tmp_path / "both.safetensors", [load_checkpoint(model), load_checkpoint(other)])
    both = [*arguments[:4], str(tmp_path / "both"), *arguments[5:-1], str(tmp_path / "both.safetensors")]
    refused = CliRunner().invoke(main, both)
    assert "is an ensemble of 2 members" in refused.output and not (tmp_path / "both").exists()
    assert CliRunner().invoke(main, [*both, "--member", "2"]).exit_code == 0
    assert load_config(tmp_path / "both" / "cat-1.yaml").member == 2
    wrong = CliRunner().invoke(main, [*arguments[:6], "soon", *arguments[7:]])
    assert wrong.exit_code == 1 and "'soon' is not a date" in wrong.output


@pytest.mark.parametrize(("text", "message"), [
    ("id,area,lat,lon\n", "holds 1 lines"),
    ("id,area,lat\na,1,2\n", "0 columns 'lon'"),
    ("id,area,lat,lon,slope\na,1,2,3,4\n", r"'slope' has no units. Call it 'slope \[units\]'"),
    ("id,area [m2],lat,lon\na,1,2,3\n", "'area' has units 'm2', expected 'km2'"),
    ("id,area,lat,lon,(x)\na,1,2,3,4\n", r"a column is called '\(x\)'"),
    ("id,area,lat,lon\na,1,2\n", "line 2 has 3 values, expected 4"),
    ("id,area,lat,lon\na,1,2,x\n", "line 2: 'lon' is 'x', expected a number"),
    ("id,area,lat,lon\na,nan,2,3\n", "line 2: 'area' is 'nan'"),
    ("id,area,lat,lon\na,0,2,3\n", "line 2: area 0 km2"),
    ("id,area,lat,lon\na,1,95,3\n", "latitude 95"),
    ("id,area,lat,lon\n../a,1,2,3\n", r"the id is '../a'"),
    ("id,area,lat,lon\na,1,2,3\nb,1,2,3\na,1,2,3\n", "'a' occurs more than once"),
    ("id,area,lat,lon,reach_length [m]\na,1,2,3,4\n", "'reach_length' would be 'reach_length' of the domain"),
    ("id,area,lat,lon,cell_area [km2]\na,1,2,3,4\n", "'cell_area' would be 'cell_area' of the domain"),
    ("id,area,lat,lon,slope [1],cell_slope [1]\na,1,2,3,4,5\n", "'slope' would be 'cell_slope' of the domain"),
    ("id,area,lat,lon,elevation [m],cell_elevation [m]\na,1,2,3,4,5\n", "'cell_elevation' would be 'cell_elevation'"),
])
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, text, message):
    with pytest.raises(DomainError, match=message):
        write_catchments(table(tmp_path, text), tmp_path / "made", OPTIONS)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("option", "column"), [
    ({"snow": "cemaneige"}, "mean_annual_snowfall"), ({"pet": "penman_monteith"}, "elevation"),
    ({"runoff": "hbv_2_0"}, "elevation"),
])
def test_what_an_option_needs(tmp_path, option, column):
    with pytest.raises(DomainError, match=rf"column '{column} \["):
        write_catchments(
            table(tmp_path, "id,area,lat,lon\na,1,2,3\n"), tmp_path / "made", OPTIONS._replace(**option)
        )
    assert not (tmp_path / "made").exists()


def test_no_table(tmp_path):
    with pytest.raises(DomainError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
