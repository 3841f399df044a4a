"""`cdlm doctor`: good configurations pass, and every problem of a broken one is found at once."""

from __future__ import annotations

from pathlib import Path

import netCDF4
import numpy as np
import pytest
from cases import change_config, write_case
from click.testing import CliRunner, Result
from generator_cases import attribute_fields, specify, write_drawn_checkpoint
from make_domain import write_domain

from bmi_cdlm import doctor
from bmi_cdlm.cli import main
from bmi_cdlm.doctor import Finding, examine
from bmi_cdlm.doctor.preparation import is_there
from bmi_cdlm.generator.checkpoint import load_checkpoint, save_checkpoint
from bmi_cdlm.names.time_steps import DAY, HOUR
from bmi_cdlm.names.variables import select
from bmi_cdlm.prepare.config import PrepareConfig
from bmi_cdlm.prepare.needs import unmet_needs
from bmi_cdlm.run.config import Config


def levels(findings: list[Finding], subject: str) -> list[str]:
    return [f.level for f in findings if f.subject == subject]


def problems(findings: list[Finding]) -> str:
    return "\n".join(f"{f.subject}: {f.text}" for f in findings if f.level == "fail")


def block(table: str, **keys: object) -> dict:
    return {"network": {"directions": "flow.tif"}, "gauges": {"table": table, **keys}}


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, words)])


def test_a_good_run_passes_with_an_estimate_and_writes_nothing(tmp_path: Path) -> None:
    config = write_case(tmp_path, output="out/run.nc", restart="out/restart.nc", spin_up=1)
    before = sorted(tmp_path.rglob("*"))
    findings = examine(config)
    assert problems(findings) == ""
    subjects = [f.subject for f in findings]
    for subject in ("configuration", "domain", "forcing", "parameters", "observations", "output", "threads", "kernels",
                    "packages", "time", "memory"):
        assert subject in subjects
    assert sorted(tmp_path.rglob("*")) == before
    shown = call(config)
    assert shown.exit_code == 0, shown.output
    assert "cell-steps/s" in shown.output.replace("\n", " ")


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    config = write_case(
        tmp_path, output_at=["r0", "nowhere"], output="file/run.nc", snow="cemaneige", parameters="absent.nc",
        initial_state="lost.nc", threads=900,
    )
    (tmp_path / "file").write_text("")
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"][3, 2] = -1.0
        dataset["air_temperature"].units = "K"
    with netCDF4.Dataset(tmp_path / "observations.nc", "a") as dataset:
        dataset["discharge"].units = "ft3 s-1"
    findings = examine(config)
    found = problems(findings)
    for expected in (
        "'precipitation' is -1", "'air_temperature' has units 'K'", "absent.nc", "lost.nc", "'ft3 s-1'",
        "run.nc: cannot be written", "no reach nowhere",
    ):
        assert expected in found, found
    assert levels(findings, "threads") == ["note"]
    assert levels(findings, "estimate") == ["note"]
    shown = call(config)
    assert shown.exit_code == 1
    assert "problems" in shown.output


def test_a_broken_configuration_tells_all_its_keys_and_the_files_that_are_missing(tmp_path: Path) -> None:
    config = write_case(tmp_path, rooting_step="1 h", forcng="x.nc", domain="gone.nc")
    text = problems(examine(config))
    assert "unknown key 'rooting_step'. Did you mean 'routing_step'?" in text
    assert "unknown key 'forcng'. Did you mean 'forcing'?" in text
    assert "gone.nc: there is no such file" in text
    config.write_text("a: [", encoding="utf-8")
    assert "not valid YAML" in problems(examine(config))
    assert "cannot be read" in problems(examine(tmp_path / "absent.yaml"))


def test_a_missing_domain_names_the_command_that_makes_it(tmp_path: Path) -> None:
    config = write_case(tmp_path, domain="gone.nc", forcing="lost.nc", observations="no.nc", prepare=block("g.csv"))
    text = problems(examine(config))
    assert text.count(f"`cdlm prepare {config}` makes it") == 3
    assert "gauges.table" in text


def test_files_that_a_preparation_will_make_are_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_case(tmp_path, domain="gone.nc", forcing="lost.nc", observations="no.nc", prepare=block("g.csv"))
    monkeypatch.setattr(doctor, "check_prepare", lambda case, source: iter([Finding("ok", "prepare", "all fits")]))
    findings = examine(config)
    assert problems(findings) == ""
    assert sum(f.level == "note" and f.text.endswith(f"`cdlm prepare {config}` makes it.") for f in findings) == 3


def test_what_the_processes_take_and_nothing_makes_is_told_before_anything_is_made() -> None:
    run = Config.model_construct(snow="cemaneige", runoff="gr4j", routing="muskingum")
    config = PrepareConfig(network={"directions": "d.tif"})
    (text,) = unmet_needs(run, config, {})
    assert "'cemaneige' of the run takes the attribute 'mean_annual_snowfall', which nothing here makes" in text
    assert unmet_needs(run, config, {"mean_annual_snowfall"}) == []
    assert unmet_needs(run, PrepareConfig(network={"directions": "d.tif"}, attributes={"climate": True}), {}) == []


def test_forcing_from_the_caller(tmp_path: Path) -> None:
    findings = examine(write_case(tmp_path, forcing="caller"))
    assert problems(findings) == ""
    assert levels(findings, "time") == ["ok"]


@pytest.mark.parametrize(
    ("factor", "n_steps", "said"),
    [
        (1.0, 400, ""), (1e-3, 400, "less than 10: check units, such as m or mm s-1 taken for mm d-1"),
        (1e-3, 200, ""), (10.0, 20, "more than 6000: check units"),
    ],
)
def test_rain_and_runoff_are_told_by_the_year(tmp_path: Path, factor: float, n_steps: int, said: str) -> None:
    config = write_case(tmp_path, n_steps=n_steps)
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"][:] = 3.0 * factor
    with netCDF4.Dataset(tmp_path / "observations.nc", "a") as dataset:
        dataset["discharge"][:] = 2.0
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        dataset["gauge_area"][:] = area = np.array([40.0, 80.0, 50.0, np.nan])
    findings = examine(config)
    assert problems(findings) == ""
    told = f"precipitation {3.0 * factor * 365.25:.4g} mm a year (cells"
    (mine,) = [f for f in findings if f.subject == "forcing" and told in f.text]
    assert mine.level == ("note" if said else "ok") and said in mine.text
    low, high = (f"{2.0 * 86.4 * 365.25 / one:.4g}" for one in (np.nanmax(area), np.nanmin(area)))
    told = [(f.level, f.text) for f in findings if f.subject == "observations"]
    assert ("ok", f"a runoff of {low} to {high} mm a year") in told


@pytest.mark.parametrize("same", [False, True])
def test_extremes_that_are_means_are_noted(tmp_path: Path, same: bool) -> None:
    config = write_case(tmp_path, pet="hargreaves")
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        for name, value in (("minimum_air_temperature", 4.0), ("maximum_air_temperature", 4.0 if same else 9.0)):
            if name not in dataset.variables:
                dataset.createVariable(name, "f8", ("time", "cell")).units = "degC"
            dataset[name][:] = value
    findings = examine(config)
    assert problems(findings) == ""
    assert any("are the same in the mean, expected a range" in f.text for f in findings if f.level == "note") == same


def test_a_runoff_that_no_basin_has_is_noted(tmp_path: Path) -> None:
    config = write_case(tmp_path)
    with netCDF4.Dataset(tmp_path / "observations.nc", "a") as dataset:
        dataset["discharge"][:], gauges = 2.0, dataset["gauge_id"][:].tolist()
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        dataset["gauge_area"][:] = [2.0, 80.0, 50.0, np.nan]
    told = [(f.level, f.text) for f in examine(config) if f.subject == "observations"]
    assert told[1][0] == "note"
    assert f"more than 6000 mm a year at 1 gauges: {gauges[0]} 3.156e+04. Check units" in told[1][1]
    assert told[2] == ("ok", "a runoff of 788.9 to 1262 mm a year")


def test_an_observed_record_is_told_once(tmp_path: Path) -> None:
    """One line for the records, one for the runoff; none for the runoff where no area is known."""
    subjects = [f.subject for f in examine(write_case(tmp_path))]
    assert subjects.count("observations") == 1


def test_a_period_that_no_file_covers_is_told_once(tmp_path: Path) -> None:
    config = change_config(write_case(tmp_path), end="2031-01-01")
    text = problems(examine(config))
    assert text.count("expected all of") == 1
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"].units = "in d-1"
    text = problems(examine(config))
    assert text.count("expected all of") == 1
    assert "'precipitation' has units 'in d-1'" in text


def test_a_gauge_without_observations_is_noted(tmp_path: Path) -> None:
    config = write_case(tmp_path)
    with netCDF4.Dataset(tmp_path / "observations.nc", "a") as dataset:
        dataset["discharge"][:, 1] = np.nan
    findings = examine(config)
    assert problems(findings) == ""
    (note,) = [f for f in findings if f.subject == "observations" and f.level == "note"]
    assert "1 of 4 gauges" in note.text


def test_a_checkpoint_against_the_attributes_it_was_trained_on(tmp_path: Path) -> None:
    config = write_case(tmp_path, parameters="t.safetensors", snow="cemaneige")
    fields = attribute_fields(7, 40, 25)
    write_domain(tmp_path / "domain.nc", fields)
    write_drawn_checkpoint(tmp_path / "t.safetensors", specify(tmp_path / "domain.nc"))
    findings = examine(config)
    assert problems(findings) == ""
    assert levels(findings, "attributes") == ["ok"]

    forest = fields["cell_forest"].values
    fields["cell_forest"] = fields["cell_forest"]._replace(values=np.r_[forest[:-5], np.full(5, 3.0)])
    write_domain(tmp_path / "domain.nc", fields)
    (note,) = [f for f in examine(config) if f.subject == "attributes"]
    assert (note.level, "cell forest (20%)" in note.text) == ("note", True)

    fields["cell_elevation"] = fields["cell_elevation"]._replace(units="km")
    del fields["cell_slope"]
    write_domain(tmp_path / "domain.nc", fields)
    text = problems(examine(change_config(config, snow="none", routing_step="30 min")))
    for expected in ("'elevation' has units 'km'", "no cell attribute 'slope'", "snow: cemaneige", "routing_step: 1 h"):
        assert expected in text, text


def test_the_start_that_the_training_of_a_checkpoint_assumed(tmp_path: Path) -> None:
    config = write_case(tmp_path, parameters="t.safetensors", snow="cemaneige")
    write_domain(tmp_path / "domain.nc", attribute_fields(7, 40, 25))
    spec = specify(tmp_path / "domain.nc")
    path = write_drawn_checkpoint(tmp_path / "t.safetensors", spec)
    old = load_checkpoint(path)
    save_checkpoint(path, spec, old.tensors, {**old.record, "training": {"warm_up": 365}})
    (note,) = [f for f in examine(config) if f.subject == "start"]
    assert note.level == "note" and "after a warm-up of 365 steps, and the run has no spin-up" in note.text
    assert levels(examine(change_config(config, spin_up=1)), "start") == []


def test_training_block(tmp_path: Path) -> None:
    training = {
        "output": "t.safetensors", "train": ["2001-03-01", "2001-04-01"], "gauges": ["g0", "g9"],
        "cell_attributes": ["clay", "nothing"], "reach_attributes": ["slope", "no_more"],
    }
    config = write_case(tmp_path, training=training)
    text = problems(examine(config))
    for expected in ("train is 2001-03-01", "no gauge 'g9'", "'nothing'", "'no_more'"):
        assert expected in text
    config = change_config(config, training={**training, "trian": 1})
    assert "unknown key 'training.trian'" in problems(examine(config))


def test_prepare_block(tmp_path: Path) -> None:
    config = write_case(tmp_path, prepare=block("gauges.csv", radios=3))
    assert "unknown key 'gauges.radios'. Did you mean 'radius'?" in problems(examine(config))
    config = write_case(tmp_path, prepare={**block("gauges.csv"), "legacy": {"table": "k.csv"}})
    text = problems(examine(config))
    assert "gauges.table" in text
    assert "legacy.table" in text
    source = tmp_path / "source"
    source.mkdir()
    (source / "gauges.csv").write_text("")
    (source / "k.csv").write_text("")
    assert "gauges.csv: cannot be read as a table" in problems(examine(config, source=source))
    (source / "gauges.csv").write_text("id,lon,lat\nA,3,44\n")
    assert "table" not in problems(examine(config, source=source))
    assert "network.directions" in problems(examine(config, source=source))


def test_headers_of_the_inputs_of_a_preparation(tmp_path: Path) -> None:
    for package in ("xarray", "rasterio", "pyproj"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    with netCDF4.Dataset(tmp_path / "weather.nc", "w") as file:
        for name, values, units in (
            ("time", range(3), "days since 1999-01-01"), ("lat", (45.0, 44.0), "degrees_north"),
            ("lon", (3.0, 4.0), "degrees_east"),
        ):
            file.createDimension(name, len(values))
            file.createVariable(name, "f8", (name,))[:] = values
            file[name].units = units
        for name, units in (("pr", "mm d-1"), ("tas", "K"), ("codes", "")):
            file.createVariable(name, "f4", ("time", "lat", "lon") if units else ("lat", "lon"))[:] = 1.0
            file[name].units = units
    (tmp_path / "gauges.csv").write_text("id,lon,lat\nA,3,44\n")
    (tmp_path / "q.csv").write_text("time,B\n2000-01-01,1.0\n")
    prepare = {
        **block("gauges.csv"), "network": {"directions": "weather.nc:codes", "cell_mask": "weather.nc:masks"},
        "attributes": {"rasters": {"karst": {"source": "weather.nc:codes"}}},
        "forcing": {"precipitation": {"source": "weather.nc"}, "air_temperature": {"source": "weather.nc"}},
        "pet": {"method": "fao56"},
        "observations": {"source": "q.csv", "layout": "wide", "units": "m3 s-1"},
    }
    text = problems(examine(write_case(tmp_path, prepare=prepare)))
    for expected in (
        "no variable 'masks'", "gauge A: has no record", "fao56 needs minimum_temperature",
        "'pr' has no interval of 86400 s", "Likewise: air_temperature",
    ):
        assert expected in text
    prepare["forcing"]["precipitation"]["units"] = "K"
    prepare["forcing"] |= {"start": "1999-01-01", "end": "1999-01-04"}
    text = problems(examine(write_case(tmp_path, prepare=prepare)))
    assert "'precipitation': units 'K' do not convert to 'mm'" in text
    assert "has no interval" not in text


def test_patterns_stand_for_the_folder_before_them(tmp_path: Path) -> None:
    (tmp_path / "rain").mkdir()
    (tmp_path / "x.nc").write_text("")
    assert is_there(tmp_path / "rain" / "%Y" / "%m.tif")
    assert is_there(tmp_path / "rain" / "*.nc")
    assert not is_there(tmp_path / "snow" / "{id}.csv")
    assert is_there(tmp_path / "x.nc:variable")
    assert not is_there(tmp_path / "y.nc:variable")


TABLE = """divide_id,areasqkm,lat,lon,elevation [m],mean_annual_snowfall
cat-1,10.5,45.1,5.2,300,12
"""


@pytest.mark.parametrize("options", [
    (), ("--pet", "hargreaves", "--time-step", "1 d"), ("--pet", "penman_monteith"),
    ("--pet", "penman_monteith", "--time-step", "1 d"), ("--snow", "cemaneige"),
], ids=" ".join)
def test_catchments_of_nextgen(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    made = CliRunner().invoke(main, [
        "nextgen", "init", str(tmp_path / "table.csv"), "--to", str(tmp_path / "made"), "--start", "2016-01-01",
        "--end", "2016-01-05", *options,
    ])
    assert made.exit_code == 0, made.output
    findings = examine(tmp_path / "made" / "cat-1.yaml")
    assert problems(findings) == ""
    assert levels(findings, "time") == ["ok"]


@pytest.mark.parametrize("snow", ["none", "cemaneige", "cemaneige_hysteresis"])
@pytest.mark.parametrize(("pet", "step"), [
    ("given", DAY), ("given", HOUR), ("oudin", DAY), ("oudin", HOUR), ("hargreaves", DAY), ("penman_monteith", DAY),
    ("penman_monteith", HOUR),
])
@pytest.mark.parametrize("forcing", ["caller", "file"])
def test_every_forcing_pet_and_snow(tmp_path: Path, forcing: str, pet: str, step: int, snow: str) -> None:
    file = "caller" if forcing == "caller" else "forcing.nc"
    config = write_case(tmp_path, step=step, snow=snow, pet=pet, forcing=file)
    with netCDF4.Dataset(tmp_path / "domain.nc", "a") as dataset:
        dataset.createVariable("cell_elevation", "f8", ("cell",))[:] = 200.0
        dataset["cell_elevation"].units = "m"
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        for entry in select(role="input"):
            if entry.short not in dataset.variables:
                dataset.createVariable(entry.short, "f8", ("time", "cell"))[:] = entry.known.typical
                dataset[entry.short].units = entry.units
    findings = examine(config)
    assert problems(findings) == ""
    assert levels(findings, "time") == ["ok"]


def test_what_will_be_filled_is_noted_and_a_month_of_rain_is_not_bridged(tmp_path: Path) -> None:
    config = write_case(tmp_path, n_steps=20, forcing_fill="interpolate")
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"][5, 3] = np.nan
        dataset["potential_evapotranspiration"][4:8, 2] = np.nan
    notes = [f.text for f in examine(config) if f.subject == "forcing" and f.level == "note"]
    assert len(notes) == 2
    assert "filled 1 of 500 values of 'precipitation' (interpolate), the longest gap 1 steps" in notes[0]
    assert "filled 4 of 500 values of 'potential_evapotranspiration' (interpolate), the longest gap 4 steps" in notes[1]
    run = CliRunner().invoke(main, ["run", str(config), "--quiet"])
    assert run.exit_code == 0, run.output
    with netCDF4.Dataset(tmp_path / "forcing.nc", "a") as dataset:
        dataset["precipitation"][5:15, 3] = np.nan
    assert "in a gap of 10 steps or more; forcing_fill 'interpolate' bridges 1 at most" in problems(examine(config))
    longer = change_config(config, "longer.yaml", forcing_fill_limit="10 d")
    assert problems(examine(longer)) == ""
    zero = change_config(config, "zero.yaml", forcing_fill="zero")
    assert any("(zero), the longest gap 10 steps" in f.text for f in examine(zero))
