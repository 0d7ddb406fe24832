"""A timer and nothing else, under SCHED_RR: how late is a process here that does no work at all?

`python -m hacore.lab.bare_timer PRIORITY INTERVAL CORE`: sleeps to a grid of INTERVAL seconds by clock_nanosleep(2)
with an absolute deadline, and writes how late each waking was to its output when it gets SIGTERM: 8-byte floats,
seconds. Memory is locked, the collector off, the list made beforehand. Between the return of the system call and the
reading of the clock there is a little of the interpreter: beside the same loop in C the median is some 20 us later, and
the worst, which is a hundred times that on a busy machine, the same.
"""

from __future__ import annotations

import array
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

from hacore.lab import probe
from hacore.linux import libc

_LONGEST = 1 << 20  # wakings: over an hour at the fast profile's interval
_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def run(interval: float) -> array.array[float]:
    """How late each waking was, until SIGTERM. A waking that is late by a whole interval starts a new grid."""
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    sleep = ctypes.CDLL(None).clock_nanosleep
    deadline = _Timespec()
    reference = ctypes.byref(deadline)
    lateness = array.array("d", bytes(8 * _LONGEST))
    count = 0
    step = round(interval * 1e9)
    due = time.monotonic_ns() + step
    while running and count < _LONGEST:
        deadline.seconds, deadline.nanoseconds = divmod(due, 1_000_000_000)
        sleep(time.CLOCK_MONOTONIC, _TIMER_ABSTIME, reference, None)
        now = time.monotonic_ns()
        lateness[count] = (now - due) / 1e9
        count += 1
        due += step
        if due <= now:
            due = now + step
    return lateness[:count]


def main(arguments: Sequence[str]) -> None:
    """Arguments: the SCHED_RR priority, the interval in seconds, and the number of the core to stay on."""
    os.sched_setaffinity(0, [int(arguments[2])])
    libc.signal_at_parent_death(signal.SIGKILL)
    if probe.become_prompt(int(arguments[0])):
        libc.lock_memory()
    lateness = run(float(arguments[1]))
    with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(lateness.tobytes())


if __name__ == "__main__":
    main(sys.argv[1:])
