"""Rows on their way into this node's kernel: a queue that is worked off in slices of a few milliseconds."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.states.layout import Rows

Operations = npt.NDArray[np.uint8]

SLICE_DURATION = 0.003  # seconds of work in one call, aimed at
SLICE_ROWS = (64, 8192)
FIRST_RATE = 150_000.0  # rows a second, until it was measured
BUSY_ROWS = 1024  # with more than these waiting, the peers are held back


class _Work(NamedTuple):
    rows: Rows
    operations: Operations | None
    done: Callable[[], None] | None
    expectations: bool


class InjectionQueue:
    """Works off in order; a key may come once in one `put`.

    `done` of a `put` is called when its last row was handed to the kernel, taken or refused.
    """

    def __init__(self, injector: conntrack.Injector) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._injector = injector
        self._works: deque[_Work] = deque()
        self._at = 0
        self._rate = FIRST_RATE
        self.waiting_rows = 0

    @property
    def is_busy(self) -> bool:
        """Whether more should not come before some of it is worked off."""
        return self.waiting_rows > BUSY_ROWS

    def put(
        self,
        rows: Rows,
        operations: Operations | None = None,
        done: Callable[[], None] | None = None,
        *,
        expectations: bool = False,
    ) -> None:
        """Queue rows, or expectations, with what is to be done about each (`ctnetlink.INSERT`: all)."""
        self._works.append(_Work(rows, operations, done, expectations))
        self.waiting_rows += len(rows)

    def work(self, *, everything: bool = False) -> bool:
        """One slice, or all there is; returns whether something is left."""
        while self._works:
            began = time.perf_counter()
            count = self._slice()
            spent = time.perf_counter() - began
            if count >= SLICE_ROWS[0]:
                self._rate += (count / max(spent, 1e-6) - self._rate) / 4
            if count and not everything:
                break
        return bool(self._works)

    def _slice(self) -> int:
        """Work off the rows of the first work, as many as the slice takes; returns their number."""
        rows, operations, done, expectations = self._works[0]
        size = min(max(int(self._rate * SLICE_DURATION), SLICE_ROWS[0]), SLICE_ROWS[1])
        part = slice(self._at, self._at + size)
        some = rows[part]
        if len(some):
            self._inject(some, None if operations is None else operations[part], expectations)
        self._at += len(some)
        self.waiting_rows -= len(some)
        if self._at >= len(rows):
            self._works.popleft()
            self._at = 0
            if done is not None:
                done()
        return len(some)

    def _inject(self, rows: Rows, operations: Operations | None, expectations: bool) -> None:
        errors = np.zeros(len(rows), np.int32)
        inject = self._injector.inject_expectations if expectations else self._injector.inject
        injected: ctnetlink.Injected = inject(rows, operations, errors)
        for name, count in injected.as_dict().items():
            if count:
                self.counts[name] += count
        if injected.failed:
            numbers, times = np.unique(errors[errors != 0], return_counts=True)
            for number, often in zip(numbers.tolist(), times.tolist(), strict=True):
                self.errors[f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"] += often
