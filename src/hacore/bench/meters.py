"""What is read off while something is measured: processor time, memory, entries of a kernel, bytes on a wire, and how
far one kernel is behind another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from hacore.errors import HacoreError
from hacore.lab import namespaces
from hacore.linux.process import cpu_time, resident_bytes

LOOK = 0.0003
"""Seconds between two looks: whoever looks does not take a core from who is looked at."""


def cpu(pid: int) -> float:
    """Seconds that all threads of a process have used. HacoreError where it is gone."""
    try:
        return cpu_time(pid)
    except ProcessLookupError as error:
        raise HacoreError(f"the process {pid}, which is measured, has ended") from error


def memory(pid: int) -> int:
    """Bytes that a process has in memory. HacoreError where it is gone."""
    try:
        return resident_bytes(pid)
    except ProcessLookupError as error:
        raise HacoreError(f"the process {pid}, which is measured, has ended") from error


def wire_bytes(namespace: Path, interface: str) -> int:
    """Bytes that an interface has sent and received, with their Ethernet headers."""
    with namespaces.inside(namespace):
        lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip() == interface:
            numbers = values.split()
            return int(numbers[0]) + int(numbers[8])
    raise HacoreError(f"there is no interface {interface} in {namespace.name}")


def wait(condition: Callable[[], object], patience: float, what: str, pause: float = 0.02) -> None:
    """Until `condition` holds. HacoreError, with `what` was awaited, where it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise HacoreError(f"{what}: not within {patience:g} s")
        time.sleep(pause)


class Counter:
    """How many entries a kernel has, read in microseconds from anywhere."""

    def __init__(self, namespace: Path) -> None:
        with namespaces.inside(namespace):
            self._fd = os.open("/proc/sys/net/netfilter/nf_conntrack_count", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def __call__(self) -> int:
        """The number now."""
        return int(os.pread(self._fd, 32, 0))


class Lag:
    """How far one kernel is behind another, from their numbers of entries: they arrive in the order of their birth."""

    def __init__(self, one: Callable[[], int], two: Callable[[], int]) -> None:
        self._one, self._two = one, two
        self._before = one(), two()
        self._times: list[float] = []
        self._counts: tuple[list[int], list[int]] = ([], [])

    def look(self) -> int:
        """Once; how many have come to be in both."""
        self._times.append(time.perf_counter())
        for counts, counter, before in zip(self._counts, (self._one, self._two), self._before, strict=True):
            counts.append(counter() - before)
        return min(counts[-1] for counts in self._counts)

    def delays(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Of every state that came to be in both, in order: when it was in the first (seconds from the first look),
        and the seconds until it was in the second.
        """
        times = np.array(self._times) - self._times[0]
        one, two = (np.maximum.accumulate(np.array(counts)) for counts in self._counts)
        numbers = np.arange(1, min(one[-1], two[-1]) + 1)
        here, there = (np.minimum(np.searchsorted(counts, numbers), len(times) - 1) for counts in (one, two))
        return times[here], np.maximum(times[there] - times[here], 0.0)
