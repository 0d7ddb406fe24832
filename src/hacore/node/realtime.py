"""What a process that must never be late asks of the kernel and of the interpreter."""

from __future__ import annotations

import gc
import sys

from hacore.linux import libc

# A thread that wants the interpreter waits so long, in seconds, before the one that has it is made to give it up. The
# default of 5 ms is more than an advertisement may be late for the thread that writes addresses, and as long as four
# slices of the thread that injects states, which has to have its turn after each. It is not shorter since a switch
# itself takes microseconds.
SWITCH_INTERVAL = 0.0005


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


def share_interpreter() -> None:
    """The threads of this process take turns of `SWITCH_INTERVAL` where several have work for the interpreter."""
    sys.setswitchinterval(SWITCH_INTERVAL)
