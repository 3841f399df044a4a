"""Whole preparations of a made-up basin, by call and by command, and configurations that are refused."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from make_drainage import attributes_of, in_order, read_all
from toy_basin import CELLS, change

from bmi_cdlm.cli import main
from bmi_cdlm.commands.prepare import find_config
from bmi_cdlm.doctor import examine
from bmi_cdlm.names.errors import CdlmError, ConfigError, DomainError
from bmi_cdlm.prepare import packages
from bmi_cdlm.prepare.config import load_prepare_config
from bmi_cdlm.prepare.run import prepare
from bmi_cdlm.run.config import load_config
from bmi_cdlm.run.simulation import Simulation

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn"):
    pytest.importorskip(package, reason=f"{package} is not installed")

ROOT = Path(__file__).resolve().parents[2]


def test_toy_domain(toy: Path) -> None:
    domain = read_all(prepare(toy).files["domain"])
    assert domain["cell_id"].tolist() == sorted(domain["reach_id"].tolist()) == CELLS
    order = in_order(domain["reach_id"], CELLS)
    position = np.argsort(order)
    below = domain["downstream"][order]
    assert np.where(below >= 0, position[below], -1).tolist() == [3, 4, 1, 4, 6, 6, -1, 6]
    assert domain["upstream_area"][order].tolist() == [1, 2, 1, 2, 5, 1, 8, 1]
    assert domain["gauge_id"].tolist() == ["T1"]
    assert domain["reach_id"][domain["gauge_reach"][0]] == "0002_0001"
    assert domain["gauge_area"].tolist() == [8.1]
    clay = np.array([0, 1, 2, 3, 4, 6, 7, 8]) / 10
    np.testing.assert_allclose(domain["cell_clay"], clay, rtol=1e-6)
    np.testing.assert_allclose(domain["reach_clay"][order], clay, rtol=1e-6)
    assert domain["reach_upstream_clay"][order[6]] == pytest.approx(clay.mean(), rel=1e-6)


def test_toy_series(toy: Path) -> None:
    files = prepare(toy).files
    forcing, observations = read_all(files["forcing"]), read_all(files["observations"])
    assert forcing["cell_id"].tolist() == CELLS
    assert forcing["precipitation"][0].tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert np.isnan(forcing["precipitation"][1]).all()
    assert forcing["potential_evapotranspiration"][1].tolist() == [2, 3, 4, 5, 6, 8, 9, 10]
    np.testing.assert_array_equal(forcing["time_bnds"][:, 0], forcing["time"])
    np.testing.assert_array_equal(observations["discharge"], [[np.nan], [0.05]])
    assert attributes_of(files["forcing"])["missing_steps"] == "2020-01-02T00:00:00"
    assert attributes_of(files["domain"])["source"] == "made up"


def test_toy_report_run_and_doctor(toy: Path) -> None:
    made = prepare(toy)
    (quality,) = made.report
    assert quality.area_error == pytest.approx(8 / 8.1 - 1)
    assert quality.regulated
    assert quality.flags == ("raster edge", "short record", "regulated")
    assert quality.border == pytest.approx(11 / 14)  # 8 of 9 pixels, three sides in the notch
    with made.files["report"].open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["regulated"], float(row["degree_of_regulation"])) == ("T1", "yes", 0.12)
    simulation = Simulation(load_config(toy))
    simulation.run()
    simulation.close()
    assert [f for f in examine(toy) if f.level == "fail"] == []
    (text,) = (f.text for f in examine(toy) if f.subject == "prepare")
    assert text == "6 inputs are there; formats, units and periods fit"


def test_official_areas_are_those_that_a_gauge_drains(toy: Path, tmp_path: Path) -> None:
    plain = read_all(prepare(toy).files["domain"])
    made = prepare(change(toy, "gauges", official_areas=True), to=tmp_path / "scaled")
    scaled = read_all(made.files["domain"])
    (note,) = (note for note in made.notes if note.startswith("gauges: areas are scaled"))
    assert "at 0 of 1 gauges by more than 10%, most at T1, from 8 to 8.1 km2" in note
    assert scaled["upstream_area"][scaled["gauge_reach"][0]] == pytest.approx(8.1, rel=1e-12)
    np.testing.assert_allclose(scaled["link_area"], plain["link_area"] * 8.1 / 8, rtol=1e-12)
    np.testing.assert_array_equal(scaled["cell_area"], plain["cell_area"])
    np.testing.assert_array_equal(scaled["reach_clay"], plain["reach_clay"])
    assert made.report[0].area_error == pytest.approx(0.0, abs=1e-9)


def test_the_command_names_files_report_and_map(toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    result = CliRunner().invoke(main, ["prepare", str(toy), "--quiet", "--to", str(tmp_path / "elsewhere")])
    assert result.exit_code == 0, result.output
    names = {"domain.nc", "forcing.nc", "observations.nc", "gauge_report.csv", "map.png"}
    assert {p.name for p in (tmp_path / "elsewhere").iterdir()} == names
    assert all(name in result.output for name in names)
    assert "T1" in result.output
    assert (tmp_path / "elsewhere" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_inputs_from_another_folder(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "depot").mkdir()
    (tmp_path / "source").rename(tmp_path / "depot" / "source")
    with pytest.raises(CdlmError, match=r"gauges\.csv"):
        prepare(toy)
    assert prepare(toy, source=tmp_path / "depot").files["domain"] == tmp_path / "out" / "domain.nc"


def test_two_runs_write_the_same_bytes_and_no_path(toy: Path, tmp_path: Path) -> None:
    first, second = prepare(toy, to=tmp_path / "a").files, prepare(toy, to=tmp_path / "b").files
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()


def test_a_dropped_gauge_leaves_the_domain_as_if_it_had_never_been(toy: Path, tmp_path: Path) -> None:
    expected = read_all(prepare(toy).files["domain"])
    table = tmp_path / "source" / "gauges.csv"
    table.write_text(f"{table.read_text()}T2,800400,6499600,90,\n")
    with pytest.raises(DomainError, match=r"gauges: 1 find no reach that fits.*T2 drains .*officially 90 km2"):
        prepare(toy)
    made = prepare(change(toy, "gauges", rejected="drop"))
    assert list(made.dropped) == ["T2"]
    for name, values in read_all(made.files["domain"]).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert "T2" in made.files["report"].read_text()


def test_the_report_takes_missing_rain_that_the_run_would_refuse(toy: Path) -> None:
    content = yaml.safe_load(toy.read_text())
    del content["forcing_fill"]
    toy.write_text(yaml.safe_dump(content))
    assert prepare(toy).report[0].record.precipitation == 0.0  # the only observed day has no rain in the source


def test_legacy_parameters_and_priors_come_with_the_domain(toy: Path, tmp_path: Path) -> None:
    rows = [f"{one},{i}" for i, one in enumerate(CELLS)]
    (tmp_path / "source" / "k.csv").write_text("\n".join(["id,travel_time", *rows]))
    legacy = {"table": "source/k.csv", "travel_time_units": "h"}
    made = prepare(change(toy, "legacy", **legacy))
    found = read_all(made.files["parameters"])
    order = in_order(found["reach_id"], CELLS)
    assert found["travel_time"][order].tolist() == [3600.0 * i for i in range(8)]
    prepare(change(toy, "legacy", use="priors"))
    domain = read_all(tmp_path / "out" / "domain.nc")
    np.testing.assert_allclose(
        domain["reach_prior_celerity"][in_order(domain["reach_id"], CELLS)],
        [5.0, 1 / 3.6, 1 / 7.2, 0.1, 0.1, 0.1, 1.0, 0.1], rtol=1e-6,  # the outlet has no length
    )
    # And for a domain that is there, without its network.
    content = yaml.safe_load(toy.read_text())
    content["prepare"] = {"legacy": {**legacy, "output": "older.nc"}}
    toy.write_text(yaml.safe_dump(content))
    assert prepare(toy).files == {"parameters": tmp_path / "out" / "older.nc"}


@pytest.mark.parametrize(
    ("block", "keys", "message"),
    [
        ("gauges", {"radios": 3}, r"prepare: unknown key 'gauges.radios'. Did you mean 'radius'"),
        ("gauges", {"area_limit": -1}, r"gauges.area_limit is -1: .*greater than 0"),
        ("network", {"encoding": "esrii"}, "network.encoding is 'esrii'"),
        ("forcing", {"precipitation": {"sauce": "x"}}, r"'forcing.precipitation.source' is "
            "missing.*precipitation.sauce"),
        ("", {"network": None}, "gauges, forcing, observations, attributes without network"),
        ("", {"gauges": None}, "observations without gauges"),
        ("attributes", {"climate": True}, "climate is true, but the forcing has 2 days, expected 365 or more"),
        ("attributes", {"interception_capacity": True}, "true, but time_step is a day, expected less"),
        ("attributes", {"upstream": ["clax"]}, "upstream: there is no attribute 'clax' of reaches.*'clay'"),
    ],
)
def test_keys_that_are_wrong(toy: Path, block: str, keys: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(change(toy, block, **keys))


def test_climate_without_forcing(toy: Path) -> None:
    change(toy, "attributes", climate=True)
    with pytest.raises(ConfigError, match=r"neither a block prepare\.forcing nor the file .*forcing\.nc"):
        prepare(change(toy, "", forcing=None))


def test_uncovered_area_is_told_before_forcing_is_made(
    toy: Path, tmp_path: Path, write_raster: Callable[..., Path]
) -> None:
    mask = np.ones((3, 3), np.float32)
    mask[0, 0] = 0.0
    write_raster(tmp_path / "source" / "mask.tif", mask, left=800_000.0, top=6_500_000.0)
    (tmp_path / "source" / "rain" / "20200101.tif").unlink()
    with pytest.raises(DomainError, match=r"no cell covers 12\.50% above gauge T1 .*Correct network\.cell_mask"):
        prepare(change(toy, "network", cell_mask="source/mask.tif"))


def test_a_run_that_names_no_file_to_make(toy: Path) -> None:
    content = yaml.safe_load(toy.read_text())
    toy.write_text(yaml.safe_dump({**content, "forcing": "caller"}))
    with pytest.raises(ConfigError, match=r"prepare.forcing makes a file, but the key 'forcing' of the run is caller"):
        prepare(toy)
    del content["prepare"]
    toy.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="key 'prepare' is missing"):
        prepare(toy)


def test_words_that_stand_for_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert find_config("lez") == Path("cfg") / "lez.yaml"
    assert find_config("other/case.yaml") == Path("other/case.yaml")
    with pytest.raises(ConfigError, match=r"neither a file 'cancee' nor .*Did you mean 'cance'"):
        find_config("cancee")


def test_absent_package_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'hydro-smash.*not installed.*pip install "bmi-cdlm\[examples\]"'):
        prepare(ROOT / "cfg" / "lez.yaml", to=tmp_path)


def test_absent_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ConfigError, match=r"'rasterio' cannot be imported.*pip install"):
        packages.load("rasterio")


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "cfg").glob("*.yaml")))
def test_the_configurations_of_the_repository_are_valid(name: str) -> None:
    path = ROOT / "cfg" / f"{name}.yaml"
    if load_config(path).prepare is not None:
        load_prepare_config(path)


def test_what_a_neighbour_stood_in_for_is_on_the_screen(toy: Path, write_raster: Callable[..., Path]) -> None:
    """Rain without a value in two of the pixels, ever: cells there take the nearest, and that is said."""
    field = np.arange(9, dtype=np.float32).reshape(3, 3)
    field[2, 1:] = -99.0
    write_raster(toy.parent / "source" / "rain" / "20200101.tif", field)
    shown = CliRunner().invoke(main, ["prepare", str(toy), "--no-map", "--quiet"])
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    assert "forcing: precipitation: 4 of 16 values of cells (25.00%) come from a neighbour, up to 1 km away" in text


def test_a_climatology_of_months(toy: Path, write_raster: Callable[..., Path]) -> None:
    """A raster per month holds on all its days."""
    for month in (1, 2):
        field = np.full((3, 3), 1.5 * month, np.float32)
        write_raster(toy.parent / "source" / "monthly" / f"pet_{month:02d}.tif", field)
    for day in ("20200130", "20200131", "20200201"):
        write_raster(toy.parent / "source" / "rain" / f"{day}.tif", np.ones((3, 3), np.float32))
    content = yaml.safe_load(toy.read_text()) | {"start": "2020-01-30", "end": "2020-02-02"}
    content["prepare"]["forcing"]["precipitation"]["missing"] = []
    content["prepare"]["forcing"]["potential_evapotranspiration"]["source"] = "source/monthly/pet_%m.tif"
    content.pop("observations")
    content["prepare"].pop("observations")
    toy.write_text(yaml.safe_dump(content))
    demand = read_all(prepare(toy).files["forcing"])["potential_evapotranspiration"]
    assert demand[:, 0].tolist() == [1.5, 1.5, 3.0]
