"""Load for two firewalls, and what is seen of it: states injected at a given rate, how far the other kernel is behind,
and what processes use.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.states.layout import Rows, empty_rows
from tests.namespaces import Host, wait_until

ESTABLISHED, SEEN_ASSURED_CONFIRMED = 3, 2 | 4 | 8
SRC_NAT = 16 | 128 | 256
SLICE = 0.005  # seconds between two sends of a paced load
GLOBAL_SYSCTLS = Path("/proc/sys/net/netfilter")


def table_of(count: int, first: int = 0) -> Rows:
    """`count` established TCP connections behind source NAT, of many clients to many servers."""
    rows = empty_rows(count)
    index = np.arange(first, first + count)
    rows["family"], rows["protocol"] = 2, 6
    rows["source"][:, 0], rows["source"][:, 1] = 10, 100
    rows["source"][:, 2], rows["source"][:, 3] = index // 250 % 250, 1 + index % 250
    rows["destination"][:, :2] = (198, 51)
    rows["destination"][:, 2], rows["destination"][:, 3] = index // 13 % 250, 1 + index // 7 % 250
    rows["source_port"] = 1024 + index // 62_500
    rows["destination_port"] = rows["reply_source_port"] = 443
    rows["reply_source"] = rows["destination"]
    rows["reply_destination"][:, :4] = (203, 0, 113, 1)
    rows["reply_destination"][:, 3] = 1 + index // 60_000 % 250
    rows["reply_destination_port"] = 1024 + index % 60_000
    rows["status"] = SEEN_ASSURED_CONFIRMED | SRC_NAT
    rows["timeout"] = 40_000
    rows["protocol_state"] = ESTABLISHED
    rows["tcp_flags_original"] = rows["tcp_flags_reply"] = 0x23
    rows["tcp_scale_original"] = rows["tcp_scale_reply"] = 7
    return rows


@contextmanager
def room_for(states: int) -> Iterator[None]:
    """The kernel's limits, which all namespaces share, are at least this; as before afterwards."""
    before = {name: int((GLOBAL_SYSCTLS / name).read_text()) for name in ("nf_conntrack_buckets", "nf_conntrack_max")}
    try:
        for name in before:
            (GLOBAL_SYSCTLS / name).write_text(f"{max(before[name], 2 * states)}\n")
        yield
    finally:
        for name, value in before.items():
            (GLOBAL_SYSCTLS / name).write_text(f"{value}\n")


class Spent(NamedTuple):
    """Seconds: on the clock, and of a processor."""

    wall: float
    cpu: float


def inject(host: Host, rows: Rows) -> Spent:
    """Into that kernel, as the bare injector does it: prebuilt messages in batches, answers dropped."""
    with host.entered(), conntrack.Injector() as injector:
        messages = ctnetlink.build(rows)
        began, used = time.perf_counter(), time.thread_time()
        injector.inject_bare(messages)
        return Spent(time.perf_counter() - began, time.thread_time() - used)


def flush(host: Host) -> None:
    """Empties that kernel's table."""
    with host.entered():
        conntrack.flush()


def cpu(pid: int) -> float:
    """Seconds that all threads of a process have used; the clock id is that of clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_bytes(pid: int) -> int:
    """What a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Counter:
    """How many entries a kernel has, read in microseconds from anywhere."""

    def __init__(self, host: Host) -> None:
        with host.entered():
            self._fd = os.open("/proc/sys/net/netfilter/nf_conntrack_count", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def __call__(self) -> int:
        return int(os.pread(self._fd, 32, 0))


class Stream:
    """New states in a kernel at a steady rate, from a process of its own."""

    def __init__(self, host: Host, rows: Rows, rate: float) -> None:
        size = max(1, round(rate * SLICE))
        parts = [ctnetlink.build(rows[start : start + size]) for start in range(0, len(rows), size)]
        context = multiprocessing.get_context("fork")
        self._receiving, sending = context.Pipe(duplex=False)
        self._process = context.Process(target=self._run, args=(host, parts, size / rate, sending))
        self._process.start()

    @staticmethod
    def _run(host: Host, parts: list[bytes], slice_duration: float, told: Any) -> None:
        with host.entered(), conntrack.Injector() as injector:
            began = time.perf_counter()
            used = time.process_time()
            for number, part in enumerate(parts):
                wait = began + number * slice_duration - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                injector.inject_bare(part)
            told.send((time.perf_counter() - began, time.process_time() - used))

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._process.is_alive()

    def result(self) -> tuple[float, float]:
        """How long it took, and the CPU time of it; waits for the end."""
        found: tuple[float, float] = self._receiving.recv()
        self._process.join()
        return found


class Lag:
    """How far one kernel is behind another, from their numbers of entries: they arrive in the order of their birth."""

    def __init__(self, one: Counter, two: Counter) -> None:
        self._one, self._two = one, two
        self._before = one(), two()
        self._times: list[float] = []
        self._counts: tuple[list[int], list[int]] = ([], [])

    def look(self) -> None:
        """Once every millisecond or two."""
        self._times.append(time.perf_counter())
        for counts, counter, before in zip(self._counts, (self._one, self._two), self._before, strict=True):
            counts.append(counter() - before)

    def watch(self, states: int, patience: float) -> None:
        """Until both have that many more."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self.look()
            if min(counts[-1] for counts in self._counts) >= states:
                return
            time.sleep(0.001)

    def delays(self) -> npt.NDArray[np.float64]:
        """Seconds from being in the one kernel to being in the other, of every state that came to be in both."""
        times = np.array(self._times)
        one, two = (np.maximum.accumulate(np.array(counts)) for counts in self._counts)
        numbers = np.arange(1, min(one[-1], two[-1]) + 1)
        if not len(numbers):
            return np.zeros(0)
        here, there = (np.minimum(np.searchsorted(counts, numbers), len(times) - 1) for counts in (one, two))
        found: npt.NDArray[np.float64] = np.maximum(times[there] - times[here], 0.0)
        return found


def settle(counter: Counter, states: int, patience: float = 120.0) -> None:
    """Until a kernel has so many entries."""
    wait_until(lambda: counter() >= states, patience, 0.002)
