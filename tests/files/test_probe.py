"""A file on which the library hangs or crashes is an error, and is tried once."""

from __future__ import annotations

import os
import signal
import time

import netCDF4
import pytest
from cases import opened, write_case

from bmi_cdlm.files import probe
from bmi_cdlm.names.errors import DomainError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")


@pytest.fixture(autouse=True)
def nothing_tried(monkeypatch):
    monkeypatch.setattr(probe, "_TRIED", set())
    monkeypatch.setattr(probe, "SECONDS", 1)
    monkeypatch.setattr(probe, "_is_alone", lambda: True)


def spin(path):
    while True:
        time.monotonic()


def crash(path):
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(("fault", "message"), [
    (spin, r"does not come to an end with it \(SIGXCPU\)"), (crash, r"crashes on it \(SIGSEGV\)"),
])
def test_one_error(tmp_path, monkeypatch, fault, message):
    config = write_case(tmp_path)
    monkeypatch.setattr(netCDF4, "Dataset", fault)
    pattern = rf"domain\.nc: cannot be read as NetCDF: the library {message}"
    with pytest.raises(DomainError, match=pattern), opened(config):
        pass


def test_a_file_is_tried_once_until_it_changes(tmp_path, monkeypatch):
    config = write_case(tmp_path)
    tried = []
    child = probe._in_child
    monkeypatch.setattr(probe, "_in_child", lambda path, seconds: tried.append(path.name) or child(path, seconds))
    for _ in range(3):
        with opened(config):
            pass
    assert sorted(tried) == ["domain.nc", "forcing.nc", "parameters.nc"]
    os.utime(tmp_path / "forcing.nc", ns=(1, 1))
    with opened(config):
        pass
    assert tried[3:] == ["forcing.nc"]


def test_a_host_that_reaps_its_children_itself(tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with opened(write_case(tmp_path)):
            pass
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_child_can_be_made(tmp_path, monkeypatch):
    def refuse():
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with opened(write_case(tmp_path)):
        pass


# ---- among threads ---------------------------------------------------------------------------------------------


@pytest.fixture
def helper(monkeypatch):
    monkeypatch.setattr(probe, "_is_alone", lambda: False)
    monkeypatch.setattr(probe, "_helper", None)
    yield
    probe._end_helper()


def test_a_helper_tries_all_files(tmp_path, helper, monkeypatch):
    config = write_case(tmp_path)
    for name in ("domain.nc", "forcing.nc"):
        assert probe._in_helper(tmp_path / name, 1) == 0
    first = probe._helper.pid
    (tmp_path / "no.nc").write_bytes(b"nothing")
    assert probe._in_helper(tmp_path / "no.nc", 1) == 0 and probe._helper.pid == first
    with opened(config):
        pass
    assert probe._helper.pid == first


@pytest.mark.parametrize(("fault", "ended"), [
    ("while True: pass", signal.SIGXCPU), ("os.kill(os.getpid(), signal.SIGSEGV)", signal.SIGSEGV),
])
def test_a_helper_that_hangs_or_crashes_is_replaced(tmp_path, helper, monkeypatch, fault, ended):
    write_case(tmp_path)
    call = 'netCDF4.Dataset(bytes.fromhex(path).decode("utf-8", "surrogateescape")).close()'
    probe._end_helper()
    probe._forget_helper()
    with monkeypatch.context() as patch:
        assert call in probe.HELPER
        patch.setattr(probe, "HELPER", "import signal\n" + probe.HELPER.replace(call, fault))
        with pytest.raises(DomainError, match=ended.name):
            probe.try_open(tmp_path / "domain.nc", DomainError)
    probe.try_open(tmp_path / "domain.nc", DomainError)


def test_a_program_that_embeds_python_tries_nothing(tmp_path, helper, monkeypatch):
    monkeypatch.setattr("sys.executable", "/usr/bin/ngen")
    with opened(write_case(tmp_path)):
        assert probe._helper is None
