"""Plain words in YAML: numbers, truths and nothing by the core rules of YAML 1.2, everything else as written."""

from __future__ import annotations

import math

import pytest
import yaml

from bmi_cdlm.cli import main
from bmi_cdlm.files.yaml_loader import Loader
from bmi_cdlm.names.errors import ConfigError
from bmi_cdlm.prepare.config import load_prepare_config
from bmi_cdlm.run.config import load_config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("01547700", "01547700"), ("0o17", "0o17"), ("007", "007"), ("-01", "-01"), ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("05E001", "05E001"), ("12:30", "12:30"), ("2001-02-29", "2001-02-29"), ("2001-06-31T00:00:00",) * 2,
        ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("y", "y"), ("true", True), ("False", False),
        ("0", 0), ("12", 12), ("-9", -9), ("+3", 3), ("446400", 446400), ("0.5", 0.5), (".5", 0.5), ("1e-3", 0.001),
        ("-9.99e2", -999.0), ("1.", 1.0), (".inf", math.inf), ("-.inf", -math.inf), ("~", None), ("null", None),
        ("", None),
        ("'12'", "12"), ("'true'", "true"), ("=", "="),
    ],
)
def test_plain_words(text, value):
    found = yaml.load(f"key: {text}\n", Loader)["key"]
    assert found == value
    assert type(found) is type(value)
    (again,) = yaml.load(f"- {text or '~'}\n", Loader)
    assert again == value


def test_merged_keys_still_merge():
    assert yaml.load("a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n", Loader)["b"] == {"x": 1, "y": 2}


CASE = """
domain: domain.nc
forcing: caller
start: {start}
end: 2002-01-01
output_at: [01547700, 12, a]
day_begins: 06:00
prepare:
  network: {{directions: flow.tif, extent: all}}
  gauges: {{table: gauges.csv, only: [01013500, 07]}}
  forcing: {{precipitation: {{source: p.nc, missing: [{missing}]}}}}
"""


def write(path, start="2001-01-01", missing="2001-01-01"):
    path.write_text(CASE.format(start=start, missing=missing))
    return path


def test_ids_and_dates_are_text_as_written(tmp_path):
    run, config = load_prepare_config(write(tmp_path / "case.yaml"))
    assert run.output_at == ("01547700", "12", "a")
    assert config.gauges.only == ("01013500", "07")
    assert str(run.start) == "2001-01-01T00:00:00"
    assert run.day_begins == 6 * 3600


@pytest.mark.parametrize("date", ["2001-02-29", "2001-06-31T00:00:00", "'2001-02-29'", "2001-13-01", "2001-01-01T25"])
def test_a_date_that_does_not_exist_is_named_in_every_block(tmp_path, date):
    said = date.strip("'")
    with pytest.raises(ConfigError, match=rf"start: '{said}' is not a date; expected .* a time that exists: \w"):
        load_config(write(tmp_path / "case.yaml", start=date))
    with pytest.raises(ConfigError, match=rf"missing.*'{said}' is not a date; expected .* a time that exists: \w"):
        load_prepare_config(write(tmp_path / "case.yaml", missing=date))


@pytest.mark.parametrize("command", ["run", "prepare", "doctor", "evaluate"])
def test_commands_say_so_without_a_traceback(tmp_path, command):
    from click.testing import CliRunner

    result = CliRunner().invoke(main, [command, str(write(tmp_path / "case.yaml", start="2001-02-29"))])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "not a date" in " ".join(result.output.replace("│", " ").split())


def test_an_id_that_reads_as_a_number_with_exponent_asks_for_quotes(tmp_path):
    path = write(tmp_path / "case.yaml")
    path.write_text(path.read_text().replace("[01547700, 12, a]", "[1e5, 12]"))
    with pytest.raises(ConfigError, match=r"output_at: 100000\.0 is a number .* put it in quotes"):
        load_config(path)
