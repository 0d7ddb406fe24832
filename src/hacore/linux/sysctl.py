"""Settings under /proc/sys/net, and a memory of what they were before.

What was there is written to a file before it is changed, so that it can be put back also after a crash. A value that
somebody else changed meanwhile is theirs and stays.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from hacore.errors import PlatformError

_ROOT: Final = Path("/proc/sys/net")


def require_writable() -> None:
    """Raises PlatformError that says what to do where /proc/sys cannot be written."""
    if not writable():
        raise PlatformError(
            "/proc/sys is read-only here (a container?), but the VIP devices need settings of their own: "
            "mount -o remount,rw /proc/sys, or start the container with it writable"
        )


def writable() -> bool:
    """Whether settings of the network can be changed here."""
    return os.access(_ROOT / "ipv4/conf/all/arp_ignore", os.W_OK)


def read(key: str) -> str | None:
    """The value of `key` ("ipv4/conf/lan/arp_ignore"), None where this kernel has no such setting."""
    try:
        return (_ROOT / key).read_text().strip()
    except OSError:
        return None


def write(key: str, value: str) -> None:
    """Sets `key`. Raises PlatformError, also where it does not exist."""
    try:
        with open(_ROOT / key, "w", encoding="ascii") as opened:
            opened.write(value)
    except OSError as error:
        raise PlatformError(f"cannot set net/{key} to {value}: {error.strerror}") from error


class Changes:
    """The settings that were changed where others have a say, each with the value before and the value set."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changes: dict[str, tuple[str, str]] = {}
        try:
            loaded = json.loads(file.read_text())
            self._changes = {str(key): (str(before), str(after)) for key, (before, after) in loaded.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            # None, or one that a crash cut short: then nothing had been changed after it.
            pass

    def __contains__(self, key: object) -> bool:
        """Whether `key` was changed and not put back."""
        return key in self._changes

    def raise_to(self, key: str, value: int) -> None:
        """Sets `key` to at least `value`, after its present value was noted on disk. A higher value stays."""
        present = read(key)
        if present is None:
            raise PlatformError(f"this kernel has no setting net/{key}")
        known = self._changes.get(key)
        if present.lstrip("-").isdigit() and int(present) >= value:
            return
        if known is None or known[1] != present:
            self._changes[key] = (present, str(value))
            self._save()
        write(key, str(value))

    def restore(self, keep: frozenset[str] = frozenset()) -> list[str]:
        """Puts back what still has the value that was set, except the keys in `keep`; returns what could not be put
        back.
        """
        failures = []
        for key, (before, after) in list(self._changes.items()):
            if key in keep:
                continue
            if read(key) == after:
                try:
                    write(key, before)
                except PlatformError as error:
                    failures.append(str(error))
            del self._changes[key]
        self._save()
        return failures

    def _save(self) -> None:
        if not self._changes:
            self._file.unlink(missing_ok=True)
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_name(self._file.name + ".new")
        fresh.write_text(json.dumps(self._changes, indent=1))
        os.replace(fresh, self._file)
