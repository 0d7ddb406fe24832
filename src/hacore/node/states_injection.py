"""Rows on their way into this node's kernel: a queue that is worked off in slices of a few milliseconds.

Few rows are injected at once. Many, as in a bulk update, go through a thread: the kernel takes some 80 % of the time
that a row takes altogether and the injection runs without the interpreter, so that the next rows are received, decoded
and put into the table meanwhile.
"""

from __future__ import annotations

import errno
import os
import time
from _queue import SimpleQueue
from _thread import start_new_thread
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.node.realtime import share_interpreter
from hacore.states.gather import pick
from hacore.states.layout import Rows
from hacore.states.masters import masters_first
from hacore.states.replica import Work

Operations = npt.NDArray[np.uint8]

SLICE_DURATION = 0.003  # seconds of work in one call, aimed at: shorter ones cost the interpreter more turns
SLICE_ROWS = (64, 8192)
FIRST_RATE = 150_000.0  # rows a second, until it was measured
BUSY_ROWS = 1024  # with more than these waiting, the peers are held back
THREADED_ROWS = 512  # from so many waiting on, the hand-over costs less than it saves
SLICES_AHEAD = 2  # one is worked on, one waits for it


def operations_of(work: Work, *, yields: bool) -> tuple[Rows, Operations]:
    """The rows of the work, each after the one that expected it, and what is to be done about each."""
    rows, new, cleared = work.rows, work.new, work.cleared
    order = masters_first(rows)
    if order is not None:
        rows, new, cleared = pick(rows, order), new[order], cleared[order]
    operations = np.where(new, ctnetlink.INSERT, ctnetlink.UPDATE).astype(np.uint8)
    operations[cleared] |= ctnetlink.WITH_LABELS
    if yields:
        operations |= ctnetlink.YIELD
    return rows, operations


class _Work(NamedTuple):
    rows: Rows
    operations: Operations | None
    done: Callable[[], None] | None
    expectations: bool


class _Outcome(NamedTuple):
    injected: ctnetlink.Injected
    errors: npt.NDArray[np.int32]
    spent: float


class InjectionQueue:
    """Works off in order; a key may come once in one `put`.

    `done` of a `put` is called when its last row was handed to the kernel, taken or refused. Its owner watches
    `fileno()`, and calls `work` when that is readable.
    """

    def __init__(self, injector: conntrack.Injector) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.on_full: Callable[[Rows], None] | None = None
        """Called with rows that the kernel had no room for."""
        self._injector = injector
        self._works: deque[_Work] = deque()
        self._at = 0
        self._rate = FIRST_RATE
        self._thread: _Thread | None = None
        self._ahead: deque[_Work] = deque()  # the slices that the thread has
        self._finished = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.waiting_rows = 0
        self.on_yielded: Callable[[Rows], None] = _ignore
        """Gets rows that stayed out for another entry, as `ctnetlink.YIELD` has it, before `done` is called."""

    def fileno(self) -> int:
        """Readable when the thread has finished something."""
        return self._finished

    def close(self) -> None:
        """Ends the thread, after what it has; nobody is told any more."""
        if self._thread is not None:
            self._thread.end()
            self._thread = None
        os.close(self._finished)

    @property
    def is_busy(self) -> bool:
        """Whether more should not come before some of it is worked off."""
        return self.waiting_rows > BUSY_ROWS

    @property
    def is_empty(self) -> bool:
        """Whether everything was worked off."""
        return not self._works and not self._ahead

    def put(
        self,
        rows: Rows,
        operations: Operations | None = None,
        done: Callable[[], None] | None = None,
        *,
        expectations: bool = False,
    ) -> None:
        """Queue rows, or expectations, with what is to be done about each (`ctnetlink.INSERT`: all). They are not to
        change any more."""
        self._works.append(_Work(rows, operations, done, expectations))
        self.waiting_rows += len(rows)

    def work(self, *, everything: bool = False) -> bool:
        """One slice, or all there is. Returns whether to call again at once; what the thread has makes `fileno()`
        readable."""
        self._take_finished(everything=everything)
        if not everything and (self._ahead or self.waiting_rows >= THREADED_ROWS):
            self._feed_thread()
            return False
        while self._works:
            some = self._slice()
            if len(some.rows):
                self._take(some, _inject(self._injector, some))
            elif some.done is not None:
                some.done()
            if len(some.rows) and not everything:
                break
        return bool(self._works)

    def _slice(self) -> _Work:
        """The next rows of the first work, as many as the time allows; `done` comes with its last ones."""
        rows, operations, done, expectations = self._works[0]
        size = min(max(int(self._rate * SLICE_DURATION), SLICE_ROWS[0]), SLICE_ROWS[1])
        part = slice(self._at, self._at + size)
        self._at += size
        if self._at >= len(rows):
            self._works.popleft()
            self._at = 0
        else:
            done = None
        return _Work(rows[part], None if operations is None else operations[part], done, expectations)

    def _take(self, some: _Work, outcome: _Outcome) -> None:
        """Count what became of these rows."""
        if len(some.rows) >= SLICE_ROWS[0]:
            self._rate += (len(some.rows) / max(outcome.spent, 1e-6) - self._rate) / 4
        self.waiting_rows -= len(some.rows)
        for name, count in outcome.injected.as_dict().items():
            if count and name != "yielded":  # whether they stay out is decided by others
                self.counts[name] += count
        stayed_out = outcome.errors != 0
        if outcome.injected.yielded:
            assert some.operations is not None
            yielded = ((some.operations & ctnetlink.YIELD) != 0) & (outcome.errors == errno.EEXIST)
            stayed_out &= ~yielded
            self.on_yielded(pick(some.rows, yielded))
        if outcome.injected.failed:
            numbers, times = np.unique(outcome.errors[stayed_out], return_counts=True)
            for number, often in zip(numbers.tolist(), times.tolist(), strict=True):
                self.errors[f"{errno.errorcode.get(number, number)}: {os.strerror(number)}"] += often
            if self.on_full is not None and outcome.injected.full and not some.expectations:
                self.on_full(some.rows[outcome.errors == errno.ENOMEM])
        if some.done is not None:
            some.done()

    # The thread

    def _feed_thread(self) -> None:
        if self._thread is None:
            self._thread = _Thread(self._injector, self._finished)
        while self._works and len(self._ahead) < SLICES_AHEAD:
            self._ahead.append(self._slice())
            self._thread.todo.put(self._ahead[-1])

    def _take_finished(self, *, everything: bool) -> None:
        """What the thread has done; everything: also what it has yet to do."""
        if self._thread is None:
            return
        with suppress(BlockingIOError):  # nothing was finished since
            os.eventfd_read(self._finished)
        while self._ahead and (everything or not self._thread.done.empty()):
            outcome = self._thread.done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            self._take(self._ahead.popleft(), outcome)


def _ignore(_rows: Rows) -> None:
    """They are counted."""


class _Thread:
    """Injects the slices of `todo`, in order; to each comes its outcome in `done`."""

    def __init__(self, injector: conntrack.Injector, finished: int) -> None:
        self.todo: SimpleQueue[_Work | None] = SimpleQueue()
        self.done: SimpleQueue[_Outcome | BaseException] = SimpleQueue()
        self._injector, self._finished = injector, finished
        share_interpreter()
        start_new_thread(self._run, ())

    def end(self) -> None:
        """When all is done."""
        self.todo.put(None)
        while not isinstance(self.done.get(), EOFError):
            pass

    def _run(self) -> None:
        while (some := self.todo.get()) is not None:
            try:
                self.done.put(_inject(self._injector, some))
            except BaseException as error:  # noqa: BLE001 - raised in the thread that asks
                self.done.put(error)
            os.eventfd_write(self._finished, 1)
        self.done.put(EOFError())


def _inject(injector: conntrack.Injector, some: _Work) -> _Outcome:
    began = time.perf_counter()
    errors = np.zeros(len(some.rows), np.int32)
    inject = injector.inject_expectations if some.expectations else injector.inject
    injected = inject(some.rows, some.operations, errors)
    return _Outcome(injected, errors, time.perf_counter() - began)
