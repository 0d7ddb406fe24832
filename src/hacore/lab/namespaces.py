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

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_MS_REMOUNT_BIND = 0x20 | 0x1000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2). OSError as the kernel gives it."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """setns(2): the calling thread joins the namespace that `descriptor` stands for."""
    _check(_libc.setns(descriptor, kind), "setns")


def die_with_parent(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent ends (prctl PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def make_writable(path: str) -> None:
    """Remount `path` for writing, in the mount namespace of this process."""
    _check(_libc.mount(None, path.encode(), None, _MS_REMOUNT_BIND, None), f"remount {path}")


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
        setns(there, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)


def create(path: Path) -> None:
    """Make a network namespace and hold it at `path` (a bind mount, as `ip netns add` does)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            source = b"/proc/thread-self/ns/net"
            _check(_libc.mount(source, str(path).encode(), None, _MS_BIND, None), f"mount {path}")
        finally:
            setns(home, CLONE_NEWNET)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(home)


def remove(path: Path) -> None:
    """Let go of the namespace at `path`; nothing happens where there is none."""
    _libc.umount2(str(path).encode(), _MNT_DETACH)
    path.unlink(missing_ok=True)


def inode(path: Path) -> int:
    """The number that tells the namespace at `path` from every other."""
    return path.stat().st_ino
