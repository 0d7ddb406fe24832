"""Writes address batches to the kernel from a thread of its own.

An address message waits for the kernel's routing lock (RTNL), which whoever creates or deletes interfaces on the
machine, in whatever namespace, may hold for hundreds of milliseconds. No advertisement waits for that: the system call
runs without the interpreter lock, and the election goes on meanwhile.
"""

from __future__ import annotations

import errno
import os
import sys
from _queue import Empty, SimpleQueue
from _thread import LockType, allocate_lock, stack_size, start_new_thread
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from hacore.linux.rtnl import RouteSocket
from hacore.node.realtime import share_interpreter

STACK_BYTES = 256 << 10  # locked memory in a real-time process
HARMLESS = {errno.EADDRNOTAVAIL, errno.ENODEV}  # what is to be removed is gone already

T = TypeVar("T")


class _Batch(NamedTuple):
    """`told` is one object a message, or nothing: those of the messages that did something are `done`. With `at_once`
    messages in one send, others get a look in between two.
    """

    messages: list[bytes]
    doing: str
    written: LockType
    told: Sequence[object] = ()
    at_once: int = sys.maxsize


class AddressWriter:
    """Takes batches in order and writes each with one send."""

    def __init__(self) -> None:
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._done: SimpleQueue[object] = SimpleQueue()
        self._problems: SimpleQueue[str] = SimpleQueue()
        self._route = RouteSocket()
        share_interpreter()
        before = stack_size(STACK_BYTES)
        start_new_thread(self._run, ())
        stack_size(before)

    def submit(
        self, messages: list[bytes], doing: str, told: Sequence[object] = (), at_once: int = sys.maxsize
    ) -> LockType:
        """Queue a batch; the lock that is returned can be had once it is written.

        With `told`, an object for each message, `done` gives back those of the messages that did something. What is not
        urgent is written `at_once` messages at a time.
        """
        written = allocate_lock()
        written.acquire()
        self._batches.put(_Batch(messages, doing, written, told, at_once))
        return written

    def close(self) -> None:
        """The thread ends after what is queued."""
        self._batches.put(None)

    def done(self) -> list[object]:
        """What was `told` with messages that did something since the last call."""
        return _drained(self._done)

    def problems(self) -> list[str]:
        """What the kernel refused since the last call: each error once, with how often it came."""
        return _drained(self._problems)

    def _run(self) -> None:
        take_policy_of_process()
        while (batch := self._batches.get()) is not None:
            try:
                for problem in self._write(batch):
                    self._problems.put(problem)
            finally:
                batch.written.release()
        self._route.close()

    def _write(self, batch: _Batch) -> list[str]:
        try:
            results = self._request(batch)
        except OSError as error:
            return [f"{batch.doing}: {error.strerror}"]
        if not batch.told:
            return describe(results, batch.doing, HARMLESS)
        for told, number in zip(batch.told, results, strict=True):
            if not number:
                self._done.put(told)
        return describe(results, batch.doing, HARMLESS | {errno.EEXIST})

    def _request(self, batch: _Batch) -> list[int]:
        if len(batch.messages) <= batch.at_once:
            return self._route.request(batch.messages)
        results: list[int] = []
        for begin in range(0, len(batch.messages), batch.at_once):
            results += self._route.request(batch.messages[begin : begin + batch.at_once])
            os.sched_yield()  # the election's thread is of the same priority
        return results


def _drained(queue: SimpleQueue[T]) -> list[T]:
    found: list[T] = []
    while not queue.empty():
        try:
            found.append(queue.get_nowait())
        except Empty:
            break
    return found


def describe(results: list[int], doing: str, harmless: set[int]) -> list[str]:
    """Each error once, with how often it came; what means "already so" is left out."""
    counts: dict[int, int] = {}
    for number in results:
        if number and number not in harmless:
            counts[number] = counts.get(number, 0) + 1
    return [f"{doing}: {errno.errorcode.get(number, number)} ({count} times)" for number, count in counts.items()]


def take_policy_of_process() -> None:
    """Real time for this thread too: it must not be kept from running while it has the interpreter.

    A new thread starts with the ordinary policy where the process has set SCHED_RESET_ON_FORK.
    """
    try:
        pid = os.getpid()
        os.sched_setscheduler(0, os.sched_getscheduler(pid), os.sched_getparam(pid))
    except OSError:
        pass  # not real-time, and not allowed to be
