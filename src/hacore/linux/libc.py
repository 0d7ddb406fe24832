"""System calls that the standard library does not have, through ctypes."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from typing import Final

_TFD_TIMER_ABSTIME: Final = 1

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Timer:
    """A timerfd on CLOCK_MONOTONIC, nonblocking: readable once the deadline has passed (timerfd_create(2))."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        return self._fd

    def arm(self, deadline: float | None) -> None:
        """Fires at `deadline` in seconds of `time.monotonic()`, at once if that is past; None disarms."""
        nanoseconds = 0 if deadline is None else max(1, int(deadline * 1e9))
        value = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(nanoseconds, 1_000_000_000)))
        _checked(_libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(value), None))

    def drain(self) -> int:
        """How often it fired since the last call; 0 if not."""
        try:
            return int(struct.unpack("=Q", os.read(self._fd, 8))[0])
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
