"""One node to a runtime directory: a lock on `runtime_dir/hacore.lock`, held as long as the supervisor lives."""

from __future__ import annotations

import fcntl
import os

from hacore.errors import AlreadyRunning, PlatformError, PrivilegeError

LOCK = "hacore.lock"


class RuntimeLock:
    """The lock, held from here until `release` or the end of the process, whatever that was.

    Makes the directory (0755) when it is missing. Raises AlreadyRunning with the pid of the node that holds it,
    PrivilegeError or PlatformError when the directory cannot be used.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.path.abspath(directory)
        path = f"{self.directory}/{LOCK}"
        try:
            os.makedirs(self.directory, mode=0o755, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except PermissionError as error:
            raise PrivilegeError(
                f"cannot write {error.filename}: {error.strerror}; run as root, or set node.runtime_dir"
            ) from None
        except OSError as error:
            raise PlatformError(f"cannot use {error.filename} as runtime directory: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            if isinstance(error, BlockingIOError):
                raise AlreadyRunning(f"a node runs on {self.directory} already: pid {holder}") from None
            raise PlatformError(f"cannot lock {path}: {error.strerror}") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets go. The file stays: whoever waits for it has it open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def held(self) -> bool:
        """False after `release`."""
        return self._fd >= 0
