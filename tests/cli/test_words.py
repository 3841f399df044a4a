"""Words of the commands: options that do not go together, files that are not there; nothing is written then."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cases import write_case
from click.testing import CliRunner, Result

from bmi_cdlm.cli import main
from bmi_cdlm.commands.common import LONGEST_ARGUMENT, CleanErrors
from bmi_cdlm.names.errors import CdlmError, ConfigError, OutputError, nearest, shown
from bmi_cdlm.reference import describe_processes

COMMANDS = (
    "assimilate", "compile", "demo", "doctor", "evaluate", "import-dhbv", "nextgen", "plot", "prepare", "processes",
    "reference", "run", "signatures", "subset", "view",
)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def told(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_case(tmp_path, output="run.nc")


def test_every_command_has_a_help_and_a_short_one() -> None:
    listed = call("--help")
    assert listed.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in listed.output
        one = call(command, "--help")
        assert one.exit_code == 0 and "Usage: " in one.output and "--help" in one.output, command
    assert told(call("runn")) == told(call("runn")) and call("runn").exit_code == 2


@pytest.mark.parametrize(
    "command", ["run", "evaluate", "plot", "prepare", "signatures", "assimilate", "view", "subset"]
)
@pytest.mark.parametrize(
    ("what", "said"), [("none.yaml", "cannot be read ([Errno 2]"), (".", "cannot be read (it is no file)")],
    ids=["none", "folder"],
)
def test_a_configuration_that_is_not_there_is_named(tmp_path, command, what, said) -> None:
    more = {
        "assimilate": ["--window", "1 d", "--to", tmp_path / "x"], "view": ["--to", tmp_path / "x"],
        "subset": ["g0", "--to", tmp_path / "x"],
    }
    result = call(command, tmp_path / what, *more.get(command, ()))
    if command == "prepare" and what == ".":  # a name of an example may be meant
        said = "there is neither a file"
    assert result.exit_code == 1 and said in told(result) and str(tmp_path) in result.output.replace("\n", "")
    assert "Traceback" not in result.output and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [(["run", "--partitions", "3"], "--partitions goes with --scheduler"),
     (["run", "--partitions", "0"], "0 is not in the range x>=1"),
     (["run", "--tls-ca", "a.pem"], "--tls-ca, --tls-cert and --tls-key go together"),
     (["run", "--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c"], "go with --scheduler tls://host:port"),
     (["run", "--tls-ca", "a", "--tls-cert", "b", "--tls-key", "c", "--scheduler", "tcp://x:1"], "go with --scheduler"),
     (["run", "--resume", "--scheduler", "tcp://x:1"], "--resume goes without --scheduler"),
     (["evaluate", "--events", "--balance"], "--events, --signatures and --balance go one at a time"),
     (["evaluate", "--events", "--signatures"], "go one at a time"),
     (["evaluate", "--events", "--by", "day"], "--events and --signatures go without --by"),
     (["evaluate", "--signatures", "--running"], "go without --by, --against, --regions and --running"),
     (["evaluate", "--events", "--against", "x.nc"], "go without --by, --against, --regions and --running"),
     (["evaluate", "--flood-quantile", "0.9"], "--flood-quantile goes with --events"),
     (["evaluate", "--flood-quantile", "1", "--events"], "1.0 is not in the range 0<x<1"),
     (["evaluate", "--json", "--running"], "--json goes without --events"),
     (["evaluate", "--by", "week"], "'week' is not one of 'step', 'day', 'month'"),
     (["plot", "--format", "pdf"], "'pdf' is not one of 'png', 'svg'"),
     (["assimilate", "--window", "5 d", "--members", "1"], "1 is not in the range x>=2"),
     (["assimilate", "--window", "5 d", "--store-error", "0"], "0.0 is not in the range 0<x<=10"),
     (["assimilate", "--window", "5 d", "--seed", "-1"], "-1 is not in the range x>=0"),
     (["assimilate"], "Missing option '--window'"), (["view"], "Missing option '--to'")],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_options_that_do_not_go_together(config: Path, words: list[str], said: str) -> None:
    before = sorted(path.name for path in config.parent.iterdir())
    result = call(words[0], config, *words[1:])
    assert result.exit_code == 2 and said in told(result), result.output
    assert sorted(path.name for path in config.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [(["assimilate", "--window", "5 days", "--to", "x"], "--window: '5 days' is not a duration"),
     (["assimilate", "--window", "5 d"], "assimilate: no file to write. Give --to, or set 'restart'"),
     (["assimilate", "--window", "5 d", "--to", "x", "--at", "soon"], "--at: 'soon' is not a date"),
     (["assimilate", "--window", "5 d", "--to", "x", "--fit", "lakes"], "--fit: 'lakes' cannot be fitted"),
     (["assimilate", "--window", "5 d", "--to", "x", "--error-time", "0 h"], "--error-time: '0 h' is not a duration"),
     (["assimilate", "--window", "5 d", "--to", "x", "--error-of", "soil=wet"], "--error-of: 'soil=wet', expected"),
     (["assimilate", "--window", "30 d", "--to", "x"], "are 9 d, expected at most that"),
     (["assimilate", "--window", "36 h", "--to", "x"], "is 36 h, expected a multiple of the time step, 1 d"),
     (["assimilate", "--window", "2 d", "--to", "x", "--at", "2001-03-05T12:00"], "expected the end of a step of 1 d"),
     (["assimilate", "--window", "2 d", "--to", "x", "--at", "2002-01-01"], "and not after end 2001-03-10"),
     (["assimilate", "--window", "2 d", "--to", "x", "--gauge", "g77"], "gauge: the domain has no 'g77'"),
     (["evaluate", "--from", "2001-02-30"], "cdlm evaluate: '2001-02-30' is not a date"),
     (["evaluate", "--table", "domain.nc"], "--table: "), (["plot", "--at", "noon"], "--at: 'noon' is not a date"),
     (["plot", "elevation"], "there is no picture 'elevation'"),
     (["run", "--from", "none.restart"], "none.restart: there is no such file"),
     (["run", "--from", "domain.nc"], "holds no state of bmi_cdlm"), (["run", "--resume"], "has no 'restart'"),
     (["run", "--parameters", "."], "is a folder, expected the path of a file"),
     (["run", "--parameters", "../"], "is a folder and no Zarr store, expected a file"),
     (["run", "--parameters", "forcing.nc"], "unknown parameter"),
     (["prepare"], "key 'prepare' is missing"), (["signatures"], "key 'signatures' is missing")],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_values_of_options_are_read_before_anything_is_done(
    config: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(config.parent)
    before = sorted(path.name for path in config.parent.iterdir())
    result = call(words[0], config, *words[1:])
    assert result.exit_code == 1 and said in told(result), result.output
    assert result.output.startswith("Error: ") or "Error: " in result.output
    assert sorted(path.name for path in config.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--to", "out", "--start", "2001-01-01", "--end", "never"], "cdlm nextgen init: 'never' is not a date"),
     (["--to", "out", "--start", "2001-01-01"], "Missing option '--end'"),
     (["--to", "out", "--start", "2001-01-01", "--end", "2001-02-01", "--time-step", "6 h"], "'6 h' is not one of"),
     (["--to", "out", "--start", "2001-01-01", "--end", "2001-02-01"], "cannot be read")],
)
def test_nextgen_reads_its_words_before_the_table(tmp_path, monkeypatch, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("nextgen", "init", "none.csv", *words)
    assert result.exit_code and said in told(result) and not list(tmp_path.iterdir())


def test_the_doctor_counts_problems_and_ends_with_an_error(tmp_path: Path) -> None:
    result = call("doctor", tmp_path / "none.yaml", "--quiet")
    assert result.exit_code == 1 and "Error: 1 problems: see above." in result.output


def test_processes_are_listed_and_one_is_told_in_full() -> None:
    listed = call("processes")
    for name in ("gr4j", "hbv", "cemaneige", "muskingum", "oudin"):
        assert f"{name} " in listed.output
    told_of = call("processes", "gr4j").output
    assert told_of.splitlines() == "\n".join(describe_processes("gr4j")).splitlines()
    assert "production_capacity" in told_of and "Perrin" in told_of
    wrong = call("processes", "gr4jj")
    assert wrong.exit_code == 1 and "there is no process 'gr4jj'. Did you mean 'gr4j'?" in told(wrong)


def test_the_reference_goes_to_a_file_or_to_the_screen(tmp_path: Path) -> None:
    assert call("reference", "--to", tmp_path / "ref.md").exit_code == 0
    assert (tmp_path / "ref.md").read_text() == call("reference").output
    assert call("reference", "--to", tmp_path).exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ref.md"]


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "bmi_cdlm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == call("--version").output and done.stdout.startswith("cdlm, version ")
    wrong = subprocess.run([sys.executable, "-m", "bmi_cdlm", "runn"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.startswith("Usage: cdlm ")


def test_an_argument_that_is_no_word_is_told_in_short() -> None:
    result = call("run", "x" * (LONGEST_ARGUMENT + 1))
    assert result.exit_code == 2 and f"is longer than {LONGEST_ARGUMENT} letters" in result.output
    assert len(result.output) < 500


# ---- how errors are shown -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConfigError("a key is wrong. Mend it."), "Error: a key is wrong. Mend it."),
     (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run.nc"), "Error: run.nc: cannot be used (No space left on"),
     (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "Error: the screen, or a file,: cannot be used (No space left"),
     (MemoryError("7 GiB"), "Error: memory is short (7 GiB). Cut the domain"), (MemoryError(), "(for what was asked)")],
)
def test_an_error_is_one_message(error: BaseException, said: str) -> None:
    @click.command(cls=CleanErrors)
    def fail() -> None:
        raise error

    result = CliRunner().invoke(fail)
    assert result.exit_code == 1 and said in told(result) and "Traceback" not in result.output


def test_a_fault_of_ours_is_no_message() -> None:
    """What we did not foresee shows where it was."""
    @click.command(cls=CleanErrors)
    def fail() -> None:
        raise ZeroDivisionError("ours")

    assert isinstance(CliRunner().invoke(fail).exception, ZeroDivisionError)


def test_errors_of_ours_are_errors_of_python_too() -> None:
    assert issubclass(OutputError, OSError) and issubclass(ConfigError, CdlmError)


def test_the_nearest_name_is_told_and_a_long_one_is_cut() -> None:
    assert nearest("celrity", ["celerity", "weighting"]) == " Did you mean 'celerity'?"
    assert nearest("zzz", ["celerity"]) == "" and nearest("x" * 5000, ["x" * 5000]) == ""
    assert shown("short") == "short" and len(shown("x" * 5000)) < 200
