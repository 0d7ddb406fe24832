"""What the kernel says about a process."""

from __future__ import annotations

import os
import time
from pathlib import Path

_CPUCLOCK_SCHED = 2


def start_ticks(pid: int, *, zombies: bool = False) -> int:
    """When the process that has this id started, in clock ticks since the boot, so that a reused id is not taken for
    it; 0 where there is none. One that has ended and was not waited for yet counts as gone, unless `zombies`.

    Field 22 of /proc/PID/stat, proc_pid_stat(5).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in ("Z", "X") and not zombies else int(fields[19])


def cpu_time(pid: int) -> float:
    """Seconds of processor time that all threads of a process have taken so far, to the nanosecond, in user mode and in
    the kernel; pid 0 is the caller.

    ProcessLookupError where there is no such process. The clock is that of clock_getcpuclockid(3), which Python has
    not: make_process_cpuclock of linux/posix-timers.h.
    """
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError as error:
        # The kernel says EINVAL, also of the id of a thread.
        raise ProcessLookupError(error.errno, f"there is no process {pid}") from error


def resident_bytes(pid: int) -> int:
    """What a process has in memory, pages that it shares with others included (RSS); 0 of one that has ended and was
    not waited for yet.

    ProcessLookupError where there is no such process. The second field of /proc/PID/statm, proc_pid_statm(5).
    """
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except FileNotFoundError as error:
        raise ProcessLookupError(error.errno, f"there is no process {pid}") from error
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def boot_id() -> str:
    """The kernel's name for this boot: another one after every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
