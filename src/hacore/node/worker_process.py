"""A worker of the supervisor: its process, the channel to it, and its restarts."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from hacore.node.channel import Channel
from hacore.node.loop import READ, WRITE, Loop
from hacore.node.snapshot import Worker, WorkerState

FIRST_DELAY = 0.1  # seconds before a dead worker is started again; doubled each time it dies young
LAST_DELAY = 5.0
GROWN_UP = 60.0  # a worker that lived this long starts with the first delay again
CHANNEL_BUFFER_BYTES = 1 << 20
CLOSED_FIRST = 250  # number of the worker's end: the kernel closes the descriptors of the dead from the highest down

Incoming = TypeVar("Incoming")


class WorkerProcess(Generic[Incoming]):
    """Starts `python -m MODULE CHANNEL_FD [FD ...]`, and again when it ends, until `stop`.

    `on_message(message, now)` gets what it says; `on_end(why, now)` is called once for each end: an exit, a signal, or
    that the process was stopped (SIGSTOP), which for a worker is no better and ends it. `on_lost(now)` comes before it,
    as soon as it is known that the process does nothing any more: the kernel takes tens of milliseconds to close its
    packet sockets before it reports the end.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        module: str,
        incoming: Any,
        *,
        on_start: Callable[[float], None],
        on_message: Callable[[Incoming, float], None],
        on_end: Callable[[str, float], None],
        on_lost: Callable[[float], None] = lambda _now: None,
    ) -> None:
        self.name = name
        self.pid = 0
        self.restarts = 0
        self.since = time.time()
        self.state: WorkerState = "starting"
        self._loop = loop
        self._module = module
        self._incoming = incoming
        self._on_start, self._on_message, self._on_end, self._on_lost = on_start, on_message, on_end, on_lost
        self._channel: Channel[Incoming] | None = None
        self._pidfd = -1
        self._delay = FIRST_DELAY
        self._started = 0.0
        self._lost = False
        self._stopping = False

    def status(self) -> Worker:
        """What `hacore status` shows of it."""
        return Worker(state=self.state, pid=self.pid, restarts=self.restarts, since=self.since)

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.pid != 0

    def start(self, fds: Sequence[int] = ()) -> None:
        """Start the process; it inherits `fds`, whose numbers follow that of the channel in its arguments."""
        ours, low = socket.socketpair()
        with low:
            theirs = socket.socket(fileno=fcntl.fcntl(low.fileno(), fcntl.F_DUPFD_CLOEXEC, CLOSED_FIRST))
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHANNEL_BUFFER_BYTES)
            inherited = [theirs.fileno(), *fds]
            for fd in inherited:
                os.set_inheritable(fd, True)
            arguments = [sys.executable, "-m", self._module, *map(str, inherited)]
            try:
                self.pid = os.posix_spawn(sys.executable, arguments, os.environ, setsid=True)
            finally:
                for fd in inherited:
                    os.set_inheritable(fd, False)
        self._pidfd = os.pidfd_open(self.pid)
        self._channel = Channel(ours, self._incoming)
        self._ours = ours
        self._started = self._loop.now()
        self._lost = False
        self._become("starting")
        self._loop.register(self._pidfd, self._changed)
        self._loop.register(self._channel.fileno(), self._readable)

    def _become(self, state: WorkerState) -> None:
        self.state, self.since = state, time.time()

    def is_ready(self) -> None:
        """It said so."""
        self._become("running")

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message; lost where no process runs (a new one is told everything)."""
        if self._channel is not None and not self._channel.closed:
            self._channel.send(message)
            self._watch()

    def _watch(self) -> None:
        assert self._channel is not None
        self._loop.modify(self._channel.fileno(), READ | WRITE if self._channel.wants_write else READ)

    def _readable(self, _events: int, now: float) -> None:
        channel = self._channel
        if channel is None:
            return
        if channel.wants_write:
            channel.flush()
            self._watch()
        messages = channel.receive()
        if channel.closed:
            self._loop.unregister(channel.fileno())
        for message in messages:
            self._on_message(message, now)
        if channel.closed:
            self._lose(now)

    def _lose(self, now: float) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost(now)

    def check_for_stop(self) -> None:
        """A SIGCHLD arrived: the worker may have been stopped, which its pidfd does not tell."""
        if self._pidfd >= 0:
            self._changed(0, self._loop.now())

    def _changed(self, _events: int, now: float) -> None:
        status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WSTOPPED | os.WNOHANG)
        if status is None:
            return
        if status.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED):
            self.kill(f"was stopped by {signal.Signals(status.si_status).name}", now)
        elif status.si_code == os.CLD_EXITED:
            self._ended(f"ended with exit code {status.si_status}", now)
        else:
            self._ended(f"was killed by {signal.Signals(status.si_status).name}", now)

    def kill(self, why: str, now: float) -> None:
        """End it at once; what it held is the caller's in `on_lost`."""
        if not self.runs:
            return
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._lose(now)
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._ended(why, now)

    def _ended(self, why: str, now: float) -> None:
        self._readable(0, now)  # its last messages
        self._lose(now)
        channel, self._channel = self._channel, None
        if channel is not None:
            self._loop.unregister(channel.fileno())
            channel.close()
        self._loop.unregister(self._pidfd)
        os.close(self._pidfd)
        self._pidfd, self.pid = -1, 0
        self._become("stopped" if self._stopping else "failed")
        self._on_end(why, now)
        if self._stopping:
            return
        if now - self._started > GROWN_UP:
            self._delay = FIRST_DELAY
        self.restarts += 1
        self._loop.call_at(now + self._delay, self._start_again)
        self._delay = min(2 * self._delay, LAST_DELAY)

    def _start_again(self, now: float) -> None:
        if not self._stopping:
            self._on_start(now)

    def stop(self) -> None:
        """Its next end is the last."""
        self._stopping = True
