"""What is known of a lab on disk, so that another process can show it, enter it and take it away, also after a crash.

One directory a lab: `lab.json` (this record, written before each thing it names is made), `lock`, and a directory for
each node.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hacore.errors import AlreadyRunning, HacoreError
from hacore.linux.process import start_ticks

MARK = "HACORE_LAB"
"""Environment variable of every process started for a lab; its value is the lab's directory."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,23})\Z")


class Process(msgspec.Struct, frozen=True):
    """A process by id and start time (clock ticks since boot), so that a reused id is not mistaken for it."""

    pid: int
    start_ticks: int
    role: str

    @classmethod
    def of(cls, pid: int, role: str) -> Process:
        """The process that has the id `pid` now."""
        return cls(pid, start_ticks(pid), role)

    def alive(self) -> bool:
        """Whether this very process still runs (or is stopped)."""
        return self.start_ticks != 0 and start_ticks(self.pid) == self.start_ticks


class Record(msgspec.Struct, kw_only=True):
    """A lab: how it was made and everything that has to be taken away."""

    name: str
    rights: str
    """"root", or "user": inside a user namespace, without real time."""
    profile: str = "fast"
    preempt: bool = True
    states: bool = False
    """Whether the nodes replicate their connections to each other."""
    owner: Process | None = None
    """The process without which the lab has no purpose; None: it stays until `down`."""
    keeper: Process | None = None
    """In a user namespace: the process that keeps the namespaces."""
    namespaces: dict[str, str] = {}
    processes: list[Process] = []


def base_directory() -> Path:
    """Where the labs of this user are."""
    if os.environ.get("HACORE_LAB_DIRECTORY"):
        return Path(os.environ["HACORE_LAB_DIRECTORY"])
    if os.getuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/hacore-lab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "hacore-lab"
    return Path(tempfile.gettempdir()) / f"hacore-lab-{os.getuid()}"


def directory_of(name: str, base: Path) -> Path:
    """The directory of the lab `name`. HacoreError where the name would not do for a namespace."""
    if not _NAME.match(name):
        raise HacoreError(f"{name!r} is no name for a lab: lower-case letters, digits and '-', at most 24")
    return base / name


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lab against other processes. AlreadyRunning where another has it."""
    base = directory.parent
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(base / f".{directory.name}.lock", "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"the lab {directory.name!r} is in use by another command; take another --name"
            ) from error
        yield


def load(directory: Path) -> Record | None:
    """The record of the lab in `directory`; None where there is none."""
    try:
        return msgspec.json.decode((directory / "lab.json").read_bytes(), type=Record)
    except FileNotFoundError:
        return None


def save(directory: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = directory / "lab.json.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    new.replace(directory / "lab.json")


def forget(directory: Path) -> None:
    """Remove what the lab has on disk."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory.parent / f".{directory.name}.lock").unlink(missing_ok=True)


def labs(base: Path) -> list[Path]:
    """The directories of all labs, by name."""
    if not base.is_dir():
        return []
    return sorted(path for path in base.iterdir() if (path / "lab.json").is_file())
