"""Files of a preparation are replaced together, at its end, and never those of another domain unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from make_drainage import read_all
from toy_basin import change

from bmi_cdlm.cli import main
from bmi_cdlm.domain.domain import read_domain
from bmi_cdlm.names.errors import ConfigError, DomainError, ForcingError, ObservationError, OutputError
from bmi_cdlm.prepare.run import prepare

for package in ("rasterio", "pyproj", "pyflwdir", "sklearn"):
    pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.mark.parametrize(
    ("victim", "error"),
    [
        ("rain/20200101.tif", ForcingError), ("clay.tif", DomainError), ("gauges.csv", DomainError),
        ("qobs/T1.csv", ObservationError), ("flow.tif", DomainError),
    ],
)
def test_nothing_is_written_when_an_input_is_absent(toy: Path, tmp_path: Path, victim: str, error: type) -> None:
    (tmp_path / "source" / victim).unlink()
    with pytest.raises(error, match=Path(victim).name):
        prepare(toy)
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_replaced_when_writing_fails(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(toy)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*args: object) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr("bmi_cdlm.prepare.run.write_domain", full)
    with pytest.raises(OutputError, match="no space left"):
        prepare(toy)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_preparation_that_was_killed_goes_on(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bmi_cdlm.prepare.weather.forcing_writer._assemble", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(toy)
    (partial,) = (tmp_path / "out").iterdir()
    assert partial.name == ".forcing.nc.new.partial"
    made = [p.stat().st_mtime_ns for p in sorted(partial.glob("*.npy"))]
    with monkeypatch.context() as patch:
        patch.setattr("bmi_cdlm.prepare.weather.forcing_writer._assemble", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(toy)
    assert [p.stat().st_mtime_ns for p in sorted(partial.glob("*.npy"))] == made != []
    prepare(toy)
    assert not partial.exists()
    assert read_all(tmp_path / "out" / "forcing.nc")["precipitation"].shape == (2, 8)


def test_files_of_another_domain_are_replaced_only_by_force(toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(toy)
    before = {path: path.read_bytes() for path in out.iterdir()}
    change(toy, "forcing", comment="the same domain, made anew")
    prepare(toy)
    assert (out / "domain.nc").read_bytes() == before[out / "domain.nc"]
    before = {path: path.read_bytes() for path in out.iterdir()}
    change(toy, "network", cell_size="3 km")
    said = r"domain\.nc: holds another domain, 8 cells of which 1 are among the 1 .* key 'domain', .* --force"
    with pytest.raises(ConfigError, match=said):
        prepare(toy)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    result = CliRunner().invoke(main, ["prepare", str(toy), "--quiet", "--no-map"])
    assert result.exit_code == 1
    assert CliRunner().invoke(main, ["prepare", str(toy), "--quiet", "--no-map", "--force"]).exit_code == 0
    assert read_domain(out / "domain.nc").n_cells == 1


def test_forcing_of_another_domain_is_not_replaced_either(toy: Path, tmp_path: Path) -> None:
    prepare(toy)
    (tmp_path / "out" / "domain.nc").unlink()
    change(toy, "network", cell_size="3 km")
    with pytest.raises(ConfigError, match=r"forcing\.nc: holds another domain, 8 cells"):
        prepare(toy)


def test_a_file_that_is_none_of_ours_is_in_nobodys_way(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "domain.nc").write_bytes(b"broken")
    assert read_domain(prepare(toy).files["domain"]).n_cells == 8


def test_unwritable_folder(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare(toy, to=tmp_path / "file" / "toy")
