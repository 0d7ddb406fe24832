"""Files that are entirely the old or entirely the new one after a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes, *, mode: int) -> None:
    """Replace the file, with this mode; it is on the disk when this returns.

    Makes the directory (0755) where it is missing. Raises OSError.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(handle, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    except OSError:
        new.unlink(missing_ok=True)  # half of it would keep a full disk full
        raise
    finally:
        os.close(handle)
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """What was made, renamed or removed in it is on the disk when this returns."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
