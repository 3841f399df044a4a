"""Hostile cases, each in a forked child with limits on time and memory, and what became of it.

An outcome is right ("right", "refused") or a fault: a traceback, a hang, a crash, half a file, a refused call that
changed something, a message that is none.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SECONDS = 20
MEMORY = 3 * 2**30
"""What a child may take beyond what its parent has [bytes]."""
RIGHT = ("right", "refused")
FAULTS = ("traceback", "hang", "crash", "half file", "changed", "wrong", "bad message")


class Outcome(NamedTuple):
    """What became of a case, and the message or traceback that came with it."""

    kind: str
    text: str

    @property
    def is_fault(self) -> bool:
        return self.kind not in RIGHT


class Fault(Exception):
    """A case found something wrong: kind of outcome, and what it was."""


def in_child(work: Callable[[], Outcome], seconds: float = SECONDS) -> Outcome:
    """Do some work in a forked child; a signal or a pipe without an answer is a crash, no end is a hang."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            _limit()
            try:
                outcome = work()
            except Fault as fault:
                outcome = Outcome(*fault.args)
            except BaseException:
                outcome = Outcome("traceback", traceback.format_exc())
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(tuple(outcome), pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], seconds)
        if not ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome("hang", f"no answer in {seconds:g} s")
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if not content:
        return Outcome("crash", f"ended with {os.waitstatus_to_exitcode(status)}")
    return Outcome(*pickle.loads(content))


def _limit() -> None:
    with open("/proc/self/statm", "rb") as file:
        own = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setpgrp()


def call(arguments: list[str], folder: Path, keep: tuple[str, ...] = ()) -> Outcome:
    """Run a command line of `cdlm`: it ends well and leaves whole files, or with one error and nothing changed.

    keep : names of files below the folder that a refused run may leave: what it wrote until then.
    """
    from bmi_cdlm.cli import main

    before = snapshot(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(folder):
        try:
            main(arguments, prog_name="cdlm")
            code: object = 0
        except SystemExit as end:
            code = end.code
    said = err.getvalue()
    if "Traceback" in said or "Traceback" in out.getvalue():
        raise Fault("traceback", said + out.getvalue())
    if code in (0, None):
        return Outcome("right", "")
    check_message(said)
    changed = {name for name, content in snapshot(folder).items() if before.get(name) != content}
    changed |= {name for name in before if not (folder / name).exists()}
    if rest := {name for name in changed if not name.endswith(keep)}:
        raise Fault("changed", f"{sorted(rest)} after: {said}")
    return Outcome("refused", said)


def check_message(said: str) -> None:
    """One error, of a length that a person reads, that says where or what to do."""
    if not (("Error: " in said or "Usage: " in said) and 30 <= len(said) <= 5000):
        raise Fault("bad message", said[:2000])


def snapshot(folder: Path) -> dict[str, object]:
    """Files below a folder with their content."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hash(path.read_bytes())
    return found


class Keeper:
    """Keeps folders of cases that went wrong, up to some."""

    def __init__(self, folder: Path | None, most: int = 200) -> None:
        self.folder, self._left = folder, most

    def keep(self, case: Path, name: str, outcome: Outcome) -> None:
        if self.folder is None or self._left <= 0:
            return
        self._left -= 1
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(case, target, symlinks=True)
        (target / "OUTCOME.txt").write_text(f"{outcome.kind}\n{outcome.text}\n", encoding="utf-8", errors="replace")


def timed(work: Callable[[], Outcome]) -> tuple[Outcome, float]:
    began = time.monotonic()
    return in_child(work), time.monotonic() - began
