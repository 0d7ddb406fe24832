"""The maintenance flag: a file in `state_dir` that survives a reboot, written before the demotion that follows from it."""

from __future__ import annotations

import os
from pathlib import Path

from hacore.errors import PlatformError, PrivilegeError

FLAG = "maintenance"


def is_entered(state_dir: Path) -> bool:
    """Whether the node was put into maintenance and not taken out of it."""
    return (state_dir / FLAG).exists()


def enter(state_dir: Path) -> bool:
    """Sets the flag; it is on the disk when this returns. False if it was set already."""
    try:
        state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            handle = os.open(state_dir / FLAG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            _sync_directory(state_dir)
            return False
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        _sync_directory(state_dir)
        return True
    except OSError as error:
        raise _refusal(state_dir, error) from error


def leave(state_dir: Path) -> bool:
    """Removes the flag; its removal is on the disk when this returns. False if it was not set."""
    try:
        (state_dir / FLAG).unlink()
        _sync_directory(state_dir)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _refusal(state_dir, error) from error


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refusal(state_dir: Path, error: OSError) -> PrivilegeError | PlatformError:
    if isinstance(error, PermissionError):
        return PrivilegeError(f"the maintenance flag in {state_dir} cannot be changed: {error.strerror}; run this as root")
    return PlatformError(f"the maintenance flag in {state_dir} cannot be changed: {error.strerror}")
