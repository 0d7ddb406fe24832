"""What a process that must never be late asks of the kernel."""

from __future__ import annotations

import gc

from hacore.linux import libc


def become_realtime(priority: int) -> list[str]:
    """SCHED_RR and locked memory; returns what was refused, and what it needs."""
    refused = []
    try:
        libc.schedule_realtime(priority)
    except OSError as error:
        refused.append(f"SCHED_RR refused ({error.strerror}): needs CAP_SYS_NICE or RLIMIT_RTPRIO")
    try:
        libc.lock_memory()
    except OSError as error:
        refused.append(f"locked memory refused ({error.strerror}): needs CAP_IPC_LOCK or RLIMIT_MEMLOCK")
    return refused


def freeze_collector() -> None:
    """What exists now is never looked at by the collector again: its pauses stay short."""
    gc.collect()
    gc.freeze()
