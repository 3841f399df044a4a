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
    monkeypatch.setattr(probe, "_in_child", lambda path: tried.append(path.name) or child(path))
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
