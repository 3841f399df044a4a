"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.names.paths import expand, same_file
from bmi_cdlm.prepare.packages import resolve
from bmi_cdlm.run.config import load_config


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("text", "there"),
    [("~/a.nc", "home/a.nc"), ("$HOME/a.nc", "home/a.nc"), ("${DATA}/b/a.nc", "data/b/a.nc"), ("$DATA/%Y.tif",
     "data/%Y.tif"), ("$DATA/{id}.csv", "data/{id}.csv"), ("~", "home")],
)
def test_home_and_environment(tmp_path, text, there):
    assert expand(text, ConfigError) == tmp_path / there
    assert resolve(text, Path("folder")) == tmp_path / there


@pytest.mark.parametrize("text", ["a.nc", "a~b/c.nc", "x/~", "cost 5$/a.nc", "a/../b.nc"])
def test_others_stay(text):
    assert expand(text, ConfigError) == Path(text)
    assert resolve(text, Path("folder")) == Path("folder") / text


@pytest.mark.parametrize("text", ["$NOWHERE/a.nc", "${NOWHERE}/a.nc", "~nobody_of_this_name/a.nc"])
def test_what_does_not_exist_makes_no_folder_of_that_name(text):
    with pytest.raises(ConfigError, match=r"is not set|there is no home folder"):
        expand(text, ConfigError)


def test_in_a_configuration(tmp_path):
    files = {"domain": "~/d.nc", "forcing": "$DATA/f.nc", "output": "o.nc"}
    content = {**files, "start": "2001-01-01", "end": "2001-01-02"}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(content))
    config = load_config(tmp_path / "case.yaml")
    assert config.domain == tmp_path / "home" / "d.nc"
    assert config.forcing == tmp_path / "data" / "f.nc"
    assert config.output == tmp_path / "o.nc"


def test_one_file_however_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "domain.nc"
    file.write_bytes(b"x")
    (tmp_path / "link.nc").symlink_to(file)
    (tmp_path / "hard.nc").hardlink_to(file)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for other in ("a/../a/domain.nc", "./a//domain.nc", "link.nc", "hard.nc", "b/domain.nc"):
        assert same_file(file, tmp_path / other), other
    monkeypatch.chdir(tmp_path / "a")
    assert same_file(Path("domain.nc"), file)
    (tmp_path / "copy.nc").write_bytes(b"x")
    for other in ("copy.nc", "none.nc", "a"):
        assert not same_file(file, tmp_path / other), other
    assert same_file(tmp_path / "not/yet/../there.nc", tmp_path / "not/there.nc"), "files that are to be written"
    (tmp_path / "round.nc").symlink_to(tmp_path / "round.nc")
    assert not same_file(file, tmp_path / "round.nc")
