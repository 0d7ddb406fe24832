"""May this process build a lab here: as root, or inside a user namespace of its own.

A lab in a user namespace is marked `user`: real-time scheduling and locked memory are refused there, so its figures
say less.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from hacore.errors import PlatformError, PrivilegeError
from hacore.lab import namespaces
from hacore.lab.record import MARK, Process
from hacore.linux import libc

ROOT = "root"
USER = "user"


def refusal(action: Callable[[], None]) -> int:
    """Try `action` in a child that ends right after: 0, or the errno that it failed with."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            action()
            code = 0
        except OSError as error:
            code = error.errno or code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def available() -> str:
    """`root` or `user`. PrivilegeError where neither is possible, with what would give it."""
    refused = refusal(lambda: libc.unshare(libc.CLONE_NEWNET | libc.CLONE_NEWNS))
    if refused == 0:
        return ROOT
    nested = refusal(enter_user_namespace)
    if nested == 0:
        return USER
    raise PrivilegeError(
        f"the lab needs network namespaces: as root ({os.strerror(refused)}: start it with sudo, or give the "
        "container CAP_SYS_ADMIN and CAP_NET_ADMIN), or in a user namespace "
        f"({os.strerror(nested)}: sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    )


def enter_user_namespace() -> None:
    """Move this process into a new user, mount and network namespace in which it is root."""
    user, group = os.geteuid(), os.getegid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNET | libc.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")


def start_keeper(directory: Path) -> Process:
    """A process that does nothing but keep the namespaces of this one when it ends."""
    quiet = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)]
    environment = os.environ | {MARK: str(directory)}
    pid = os.posix_spawnp("sleep", ["sleep", "infinity"], environment, file_actions=quiet, setsid=True)
    return Process.of(pid, "keeper")


def join(keeper: Process) -> None:
    """Enter the namespaces that `keeper` keeps. PlatformError where it is gone."""
    if not keeper.alive():
        raise PlatformError(
            "the process that keeps this lab is gone, and the lab with it; remove what is left with `hacore lab down`"
        )
    kinds = {"user": libc.CLONE_NEWUSER, "mnt": libc.CLONE_NEWNS, "net": libc.CLONE_NEWNET}
    opened = {
        kind: os.open(f"/proc/{keeper.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name, kind in kinds.items()
    }
    for kind, descriptor in opened.items():
        libc.setns(descriptor, kind)
        os.close(descriptor)


def unlock_sysctls() -> None:
    """Make /proc/sys writable for this process and its children where a container has it read-only.

    Done in a mount namespace of its own, so that the container outside stays as it was. PlatformError where that is
    refused.
    """
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "r+b", buffering=0):
            return
    except OSError as error:
        if error.errno != errno.EROFS:
            raise PlatformError(f"/proc/sys/net cannot be written: {error}") from error
    try:
        libc.unshare(libc.CLONE_NEWNS)
        namespaces.make_writable("/proc/sys")
    except OSError as error:
        raise PlatformError(
            f"/proc/sys is read-only here and cannot be remounted ({error}); try: mount -o remount,rw,bind /proc/sys"
        ) from error


def real_time() -> bool:
    """Whether SCHED_RR is granted to children of this process."""
    return refusal(lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))) == 0
