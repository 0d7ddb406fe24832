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

from hacore.linux.rtnl import RouteSocket

STACK_BYTES = 256 << 10  # locked memory in a real-time process
SWITCH_INTERVAL = 0.0005  # seconds for which one thread may keep the other from the interpreter; the default is 5 ms
HARMLESS = {errno.EADDRNOTAVAIL, errno.ENODEV}  # what is to be removed is gone already


class AddressWriter:
    """Takes batches in order and writes each with one send."""

    def __init__(self) -> None:
        self._batches: SimpleQueue[tuple[list[bytes], str, LockType]] = SimpleQueue()
        self._problems: SimpleQueue[str] = SimpleQueue()
        self._route = RouteSocket()
        sys.setswitchinterval(SWITCH_INTERVAL)
        before = stack_size(STACK_BYTES)
        start_new_thread(self._run, ())
        stack_size(before)

    def submit(self, messages: list[bytes], doing: str) -> LockType:
        """Queue a batch; the lock that is returned can be had once it is written."""
        written = allocate_lock()
        written.acquire()
        self._batches.put((messages, doing, written))
        return written

    def problems(self) -> list[str]:
        """What the kernel refused since the last call: each error once, with how often it came."""
        found = []
        while True:
            try:
                found.append(self._problems.get_nowait())
            except Empty:
                return found

    def _run(self) -> None:
        take_policy_of_process()
        while True:
            messages, doing, written = self._batches.get()
            try:
                for problem in self._write(messages, doing):
                    self._problems.put(problem)
            finally:
                written.release()

    def _write(self, messages: list[bytes], doing: str) -> list[str]:
        try:
            results = self._route.request(messages)
        except OSError as error:
            return [f"{doing}: {error.strerror}"]
        return describe(results, doing, HARMLESS)


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
