"""The selector loop of the supervisor: descriptors, timers to the microsecond, signals.

epoll waits in whole milliseconds, so that timers go through a timerfd. One turn takes the descriptors that are
ready, then the timers that are due when it gets to them; a timer set in a callback for a moment that has passed runs
in the next turn, after the descriptors, so that a chain of such timers starves nothing.
"""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from time import monotonic

from hacore.linux import libc

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANGUP = select.EPOLLHUP
ERROR = select.EPOLLERR

#: Called with the ready events (a mask of READ, WRITE, HANGUP, ERROR) and the monotonic time.
Ready = Callable[[int, float], None]
#: Called with the monotonic time, which is at or after the time asked for.
Due = Callable[[float], None]
#: Called with a sentence that says where, and the exception.
OnError = Callable[[str, Exception], None]

#: A descriptor that stays ready while its callback always fails would keep a real-time process spinning: it is
#: unregistered after this many.
FAILURES_IN_A_ROW = 16
#: Cancelled timers wait in the heap for their time; with more of them than this and than live ones, the heap is
#: rebuilt.
CANCELLED_KEPT = 64


class Timer:
    """One pending call; `when` is monotonic."""

    __slots__ = ("_loop", "callback", "when")

    def __init__(self, loop: Loop, when: float, callback: Due) -> None:
        self._loop = loop
        self.when = when
        self.callback: Due | None = callback

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self.callback is not None

    def cancel(self) -> None:
        """Takes the call back; without effect once it ran."""
        if self.callback is not None:
            self.callback = None
            self._loop._forget_cancelled()


class _Watch:
    __slots__ = ("callback", "failures")

    def __init__(self, callback: Ready) -> None:
        self.callback = callback
        self.failures = 0


class Loop:
    """Runs callbacks one after the other in the thread that calls `run`.

    An exception of a callback goes to `on_error`, and the loop goes on.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._epoll = select.epoll()
        self._watches: dict[int, _Watch] = {}
        self._heap: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._cancelled = 0
        self._armed = 0.0
        self._running = False
        self._stopping = False
        self._signals: dict[int, Callable[[], None]] = {}
        self._previous_handlers: dict[int, object] = {}
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        self._timer = libc.Timer()
        self._epoll.register(self._timer.fileno(), READ)

    @staticmethod
    def now() -> float:
        """The monotonic time that callbacks are given and `call_at` takes."""
        return monotonic()

    def register(self, fd: int, callback: Ready, events: int = READ) -> None:
        """Calls `callback` whenever `fd` is ready for one of `events` (level-triggered).

        HANGUP and ERROR are always watched.
        """
        self._epoll.register(fd, events)
        self._watches[fd] = _Watch(callback)

    def modify(self, fd: int, events: int) -> None:
        """Watches `fd` for other events; 0 leaves HANGUP and ERROR."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Ends the watch, before `fd` is closed; without effect on one that is not watched."""
        if self._watches.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, when: float, callback: Due) -> Timer:
        """Calls `callback` once at `when`, in the order of times and, at one time, of calls to this."""
        timer = Timer(self, when, callback)
        self._sequence += 1
        heappush(self._heap, (when, self._sequence, timer))
        return timer

    def call_soon(self, callback: Due) -> Timer:
        """Calls `callback` in the next turn, after the descriptors that are ready then."""
        return self.call_at(monotonic(), callback)

    def on_signals(self, callbacks: Mapping[int, Callable[[], None]]) -> None:
        """Calls these from the loop when their signals arrive; `close` restores the handlers. Main thread only."""
        if self._wakeup is None:
            self._wakeup = socket.socketpair()
            for end in self._wakeup:
                end.setblocking(False)
            signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
            self.register(self._wakeup[0].fileno(), self._read_signals)
        for number, callback in callbacks.items():
            self._signals[number] = callback
            previous = signal.signal(number, _leave_to_loop)
            self._previous_handlers.setdefault(number, previous)

    def run(self) -> None:
        """Turns until `stop`."""
        self._stopping = False
        while not self._stopping:
            self.run_once()

    def stop(self) -> None:
        """Ends `run` after the callback that calls this, and those of the same turn."""
        self._stopping = True

    def run_once(self, limit: float | None = None) -> None:
        """One turn: waits for a descriptor or a timer (at most `limit` seconds), then runs what is ready."""
        now = monotonic()
        deadline = self._next_deadline()
        if deadline is not None and deadline <= now:
            wait = 0.0
        else:
            wait = -1.0 if limit is None else limit
            if deadline is not None and deadline != self._armed:
                self._timer.arm(deadline)
                self._armed = deadline
        for fd, events in self._epoll.poll(wait):
            if fd == self._timer.fileno():
                self._armed = 0.0
                self._timer.drain()
            else:
                self._run_watch(fd, events)
        self._run_due(monotonic())

    def close(self) -> None:
        """Closes the loop's own descriptors and restores the signal handlers; those registered are their owners'."""
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            for number, handler in self._previous_handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            for end in self._wakeup:
                end.close()
            self._wakeup = None
        self._watches.clear()
        self._heap.clear()
        self._epoll.close()
        self._timer.close()

    def _next_deadline(self) -> float | None:
        while self._heap and self._heap[0][2].callback is None:
            heappop(self._heap)
            self._cancelled = max(0, self._cancelled - 1)
        return self._heap[0][0] if self._heap else None

    def _run_watch(self, fd: int, events: int) -> None:
        watch = self._watches.get(fd)
        if watch is None:
            return  # an earlier callback of this turn ended the watch
        try:
            watch.callback(events, monotonic())
        except Exception as error:  # noqa: BLE001 - one callback's fault must not end the others
            watch.failures += 1
            where = f"callback {_name(watch.callback)} of descriptor {fd}"
            if watch.failures >= FAILURES_IN_A_ROW and self._watches.get(fd) is watch:
                self.unregister(fd)
                where += f", unregistered after {watch.failures} failures in a row"
            self._on_error(where, error)
        else:
            watch.failures = 0

    def _run_due(self, now: float) -> None:
        due: list[Timer] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2])
        for timer in due:
            callback = timer.callback
            if callback is None:
                self._cancelled = max(0, self._cancelled - 1)
                continue
            timer.callback = None
            try:
                callback(now)
            except Exception as error:  # noqa: BLE001 - as above
                self._on_error(f"timer {_name(callback)}", error)

    def _forget_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > CANCELLED_KEPT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapify(self._heap)
            self._cancelled = 0

    def _read_signals(self, _events: int, _now: float) -> None:
        assert self._wakeup is not None
        numbers = self._wakeup[0].recv(4096)
        for number in dict.fromkeys(numbers):
            callback = self._signals.get(number)
            if callback is None:
                continue
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - as above
                self._on_error(f"callback {_name(callback)} of {signal.Signals(number).name}", error)


def _leave_to_loop(_number: int, _frame: object) -> None:
    """A handler has to be set for the signal's number to reach the wakeup descriptor."""


def _name(callback: Callable[..., None]) -> str:
    return str(getattr(callback, "__qualname__", callback))
