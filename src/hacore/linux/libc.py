"""The few calls of the C library that Python 3.11 does not have: timerfd, mlockall, namespaces, prctl, adjtimex,
syncfs, inotify.

Every function raises OSError with the errno of the call. Constants are those of the kernel's headers.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any, Final, NamedTuple

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
CAP_IPC_LOCK: Final = 14
CAP_SYS_NICE: Final = 23

_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = 0o4000
_TFD_CLOEXEC: Final = 0o2000000
_TFD_TIMER_ABSTIME: Final = 1
_MCL_CURRENT_AND_FUTURE: Final = 1 | 2
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_TIMERSLACK: Final = 29
_SYNC_FILE_RANGE_WRITE: Final = 2
_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


def _call(name: str, *arguments: Any) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


class Timer:
    """A timerfd on CLOCK_MONOTONIC, nonblocking: readable once the deadline has passed (timerfd_create(2)).

    Deadlines are absolute, in seconds of `time.monotonic()`. The objects the calls need are made once, so arming
    allocates next to nothing.
    """

    def __init__(self) -> None:
        self._fd = _call("timerfd_create", _CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        self._value = _Itimerspec()
        self._reference = ctypes.byref(self._value)
        self._settime = _libc.timerfd_settime

    def fileno(self) -> int:
        """Readable once the timer fired."""
        return self._fd

    def arm(self, deadline: float | None) -> None:
        """Fires at `deadline`, at once if that is past; None disarms."""
        value = self._value.value
        if deadline is None:
            value.seconds = value.nanoseconds = 0
        else:
            nanoseconds = max(1, int(deadline * 1e9))
            value.seconds, value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        if self._settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timerfd_settime: {os.strerror(number)}")

    def drain(self) -> int:
        """How often it fired since the last call; 0 if not."""
        try:
            return int(struct.unpack("=Q", os.read(self._fd, 8))[0])
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Closes the descriptor; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_memory() -> None:
    """mlockall(2) of everything mapped now and later. Needs CAP_IPC_LOCK or a large RLIMIT_MEMLOCK."""
    _call("mlockall", _MCL_CURRENT_AND_FUTURE)


def unlock_memory() -> None:
    """munlockall(2)."""
    _call("munlockall")


def schedule_realtime(priority: int) -> None:
    """SCHED_RR for this process, not for its children. Needs CAP_SYS_NICE or RLIMIT_RTPRIO."""
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def set_process_name(name: str) -> None:
    """The name that `ps -o comm` shows; the kernel keeps the first 15 bytes."""
    _call("prctl", _PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def forbid_core_dumps() -> None:
    """Neither core dumps nor ptrace by the same user: the process holds keys (PR_SET_DUMPABLE 0)."""
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def set_timer_slack(nanoseconds: int) -> None:
    """How far the kernel may delay timers of this thread to join them; real-time threads have none anyway."""
    _call("prctl", _PR_SET_TIMERSLACK, ctypes.c_ulong(nanoseconds), 0, 0, 0)


def signal_at_parent_death(signal_number: int) -> None:
    """The kernel sends this process the signal when the thread that forked it ends; 0 turns it off."""
    _call("prctl", _PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def setns(fd: int, kind: int) -> None:
    """Enters the namespace that `fd` (opened from /proc/PID/ns or /run/netns) stands for; `kind` is a CLONE_NEW*
    constant or 0.
    """
    _call("setns", fd, kind)


def unshare(kinds: int) -> None:
    """Gives this process new namespaces of the given CLONE_NEW* kinds."""
    _call("unshare", kinds)


def syncfs(fd: int) -> None:
    """Everything written to the file system of an open file is on the disk when this returns (syncfs(2))."""
    _call("syncfs", fd)


def start_writeback(fd: int) -> None:
    """What was written to this file goes to the disk from now on; nobody waits for it (sync_file_range(2))."""
    _call("sync_file_range", fd, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def inotify_init() -> int:
    """A nonblocking descriptor to watch directories with (inotify(7))."""
    return _call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watches a path for the IN_* in `mask`; the number in its events, the same one for the same directory."""
    return _call("inotify_add_watch", fd, ctypes.c_char_p(os.fsencode(path)), ctypes.c_uint32(mask))


def inotify_rm_watch(fd: int, number: int) -> None:
    """Ends a watch."""
    _call("inotify_rm_watch", fd, number)


def effective_capabilities() -> int:
    """The effective set of this process as a bit mask (1 << CAP_*), from /proc/self/status."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


class ClockStatus(NamedTuple):
    """What adjtimex(2) says of the system clock: synchronised by somebody, and the estimated and the maximum error in
    seconds.
    """

    synchronised: bool
    estimated_error: float
    maximum_error: float


def clock_status() -> ClockStatus:
    """Reads the state of the kernel's clock discipline; changes nothing."""
    # struct timex: modes (int, padded), offset, freq, maxerror, esterror (long), status (int): then what is not needed
    # here.
    buffer = ctypes.create_string_buffer(512)
    state = _call("adjtimex", buffer)
    _, _, maximum, estimated, status = struct.unpack_from("@4li", buffer.raw, struct.calcsize("@l"))
    return ClockStatus(state != _TIME_ERROR and not status & _STA_UNSYNC, estimated / 1e6, maximum / 1e6)
