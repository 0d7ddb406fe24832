"""What the kernel says about a process."""

from __future__ import annotations

from pathlib import Path


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
