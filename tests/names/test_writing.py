"""Writing: whole or not at all, to disk, in the user's mode, through no link, and without left-overs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bmi_cdlm.names import writing
from bmi_cdlm.names.errors import ConfigError, OutputError
from bmi_cdlm.names.writing import check_path, check_writable, replacing, temporary_name

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX modes and processes")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_is_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask
    assert names(tmp_path) == ["a"]


def test_file_and_folder_are_synced_around_the_move(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(os.fstat(handle).st_ino))
    move = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append("move") or move(self, to))
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert calls == [(tmp_path / "a").stat().st_ino, "move", tmp_path.stat().st_ino]


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old" and names(tmp_path) == ["a"]


KILLED = """
import os, sys, signal
from pathlib import Path
from bmi_cdlm.names.writing import replacing, temporary_name
temporary_name(Path(sys.argv[1])).mkdir()
with replacing(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
@pytest.mark.parametrize("name", ["run.nc", "x" * 255])
def test_left_overs_of_a_dead_process_go_with_the_next_writer(tmp_path, name):
    path = tmp_path / name
    code = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode
    assert code == -signal.SIGKILL and len(names(tmp_path)) == 2
    mine = temporary_name(path)
    mine.touch()
    (tmp_path / ".run.nc.of another kind.tmp").touch()
    with replacing(tmp_path / "other"):
        pass
    with replacing(path):
        pass
    assert names(tmp_path) == sorted([name, mine.name, "other", ".run.nc.of another kind.tmp"])


def test_names_cannot_be_foreseen_and_no_link_is_followed(tmp_path, monkeypatch):
    assert temporary_name(tmp_path / "a") != temporary_name(tmp_path / "a")
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "planted").symlink_to(victim)
    monkeypatch.setattr(writing, "temporary_name", lambda path: tmp_path / "planted")
    with pytest.raises(OSError), replacing(tmp_path / "a") as temporary:
        temporary.write_text("overwritten")
    assert victim.read_text() == "kept"


@pytest.mark.parametrize(("text", "message"), [
    ("x" * 256, "its longest name 256"), ("é" * 128, "its longest name 256"), ("/x" * 2048, "has 4096 bytes"),
    ("a\0b", "zero byte"), ("\udfff", "no path can"),
])
def test_what_the_system_does_not_take(text, message):
    with pytest.raises(ConfigError, match=message):
        check_path(Path(text), ConfigError)
    if message != "zero byte":
        with pytest.raises(OutputError, match=message):
            check_writable(Path(text))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_told_with_the_file(tmp_path, number):
    """A write to an open file raises an error that has no name; what was there stays."""
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(OSError) as found, replacing(path):
        raise OSError(number, os.strerror(number))
    assert found.value.filename == str(path) and found.value.errno == number
    with pytest.raises(OSError) as other, replacing(path):
        raise OSError(errno.EACCES, "no")
    assert other.value.filename is None, "what is no matter of space may be of another file"
    with pytest.raises(OSError) as named, replacing(path):
        raise OSError(number, "full", "another")
    assert named.value.filename == "another"
    assert path.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_folder_may_be_a_link(tmp_path):
    """People keep outputs on another disk, behind a link; the file itself replaces a link of its name."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with replacing(tmp_path / "out" / "run.nc") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "disk" / "run.nc").read_text() == "new"
    assert [one.name for one in (tmp_path / "disk").iterdir()] == ["run.nc"]
