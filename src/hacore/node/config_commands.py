"""Runs the checks and apply commands of sections: without a shell, within a time, with the end of their output kept.

A command that outlives its worker would run beside the one that undoes what it did: so the worker notes what it runs,
and the next one ends it first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hacore.linux.process import start_ticks

OUTPUT_BYTES = 8192
END_PATIENCE = 2.0


class Ran(msgspec.Struct, frozen=True):
    """A command that ended. `code` is its exit code, or minus the signal's number; `problem` says why it failed."""

    command: tuple[str, ...]
    code: int
    output: str
    problem: str = ""


class Note(msgspec.Struct, frozen=True):
    """A process that runs now; `started` in ticks since the boot (proc(5), stat field 22)."""

    pid: int
    started: int


class Commands:
    """Runs one command at a time; `note` is a file that tells of it."""

    def __init__(self, note: Path) -> None:
        self._note = note

    def run(self, command: Sequence[str], timeout: float) -> Ran:
        """Until it ends or `timeout` passed; it and all it started that is in its session's group is killed then."""
        words = tuple(command)
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                return Ran(words, 127, "", f"cannot be run: {error.strerror}")
            self._note.write_bytes(msgspec.json.encode(Note(process.pid, start_ticks(process.pid))))
            problem = ""
            try:
                code = process.wait(timeout)
                if code:
                    problem = f"ended with exit code {code}" if code > 0 else f"was killed by {_signal(-code)}"
            except subprocess.TimeoutExpired:
                _end_group(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_PATIENCE)
                _end_group(process.pid, signal.SIGKILL)
                code = process.wait()
                problem = f"did not end within {timeout:g} s"
            self._note.unlink(missing_ok=True)
            return Ran(words, code, _tail(output.fileno()), problem)

    def end_leftover(self) -> str:
        """End what a worker before this one was running; returns what was ended, or ""."""
        try:
            note = msgspec.json.decode(self._note.read_bytes(), type=Note)
        except (OSError, msgspec.DecodeError):
            return ""
        self._note.unlink(missing_ok=True)
        # Its group may outlive a leader whom nobody has waited for.
        if not note.started or start_ticks(note.pid, zombies=True) != note.started:
            return ""
        _end_group(note.pid, signal.SIGKILL)
        return f"process {note.pid}"


def _end_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(handle: int) -> str:
    size = os.fstat(handle).st_size
    data = os.pread(handle, OUTPUT_BYTES, max(0, size - OUTPUT_BYTES))
    text = data.decode(errors="replace").strip()
    return f"...{text}" if size > OUTPUT_BYTES else text
