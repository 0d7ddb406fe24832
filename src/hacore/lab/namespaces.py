"""Network namespaces by path: made, entered for the length of a `with`, removed.

Only the network namespace of the calling thread changes, so a child started inside lives there and `/proc/sys/net`
follows it, while files, mounts and process ids stay those of the host.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from hacore.errors import PlatformError
from hacore.linux import libc

_MS_REMOUNT_BIND = 0x20 | 0x1000
_MS_BIND = 0x1000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: bytes | None, target: str, flags: int) -> None:
    if _libc.mount(source, target.encode(), None, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target}: {os.strerror(number)}")


def make_writable(path: str) -> None:
    """Remount `path` for writing, in the mount namespace of this process."""
    _mount(None, path, _MS_REMOUNT_BIND)


@contextlib.contextmanager
def inside(path: Path) -> Iterator[None]:
    """Be in the network namespace at `path`; sockets made there stay there."""
    with contextlib.ExitStack() as stack:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, home)
        try:
            there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise PlatformError(f"the network namespace {path} is gone") from error
        stack.callback(os.close, there)
        libc.setns(there, libc.CLONE_NEWNET)
        try:
            yield
        finally:
            libc.setns(home, libc.CLONE_NEWNET)


def create(path: Path) -> None:
    """Make a network namespace and hold it at `path` (a bind mount, as `ip netns add` does)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.unshare(libc.CLONE_NEWNET)
        try:
            _mount(b"/proc/thread-self/ns/net", str(path), _MS_BIND)
        finally:
            libc.setns(home, libc.CLONE_NEWNET)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(home)


def remove(path: Path) -> None:
    """Let go of the namespace at `path`; nothing happens where there is none."""
    _libc.umount2(str(path).encode(), _MNT_DETACH)
    path.unlink(missing_ok=True)
