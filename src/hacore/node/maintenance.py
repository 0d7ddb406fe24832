"""The maintenance flag: a file in `state_dir` that survives a reboot, written before the demotion that follows."""

from __future__ import annotations

import os
from pathlib import Path

from hacore.errors import PlatformError, PrivilegeError
from hacore.node.durable import sync_directory

FLAG = "maintenance"


def is_entered(state_dir: Path) -> bool:
    """Whether the node was put into maintenance and not taken out of it. Raises PrivilegeError for who may not look."""
    try:
        return (state_dir / FLAG).exists()
    except PermissionError as error:
        raise PrivilegeError(f"whether {state_dir / FLAG} is there: {error.strerror}; run this as root") from error


def enter(state_dir: Path) -> bool:
    """Sets the flag; it is on the disk when this returns. False if it was set already."""
    try:
        state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            handle = os.open(state_dir / FLAG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            sync_directory(state_dir)
            return False
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_directory(state_dir)
        return True
    except OSError as error:
        raise _refusal(state_dir, error) from error


def leave(state_dir: Path) -> bool:
    """Removes the flag; its removal is on the disk when this returns. False if it was not set."""
    try:
        (state_dir / FLAG).unlink()
        sync_directory(state_dir)
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _refusal(state_dir, error) from error


def _refusal(state_dir: Path, error: OSError) -> PrivilegeError | PlatformError:
    message = f"the maintenance flag in {state_dir} cannot be changed: {error.strerror}"
    if isinstance(error, PermissionError):
        return PrivilegeError(f"{message}; run this as root")
    return PlatformError(message)
