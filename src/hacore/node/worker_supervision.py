"""The supervisor's side of a worker that the node can do without for a while: starts it, watches it, ends it.

Nothing here waits for the worker: one that is dead or stuck costs the node what it does, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hacore.node.loop import Timer
from hacore.node.messages import Leave, Ready
from hacore.node.worker_process import WorkerProcess

if TYPE_CHECKING:
    from hacore.node.supervisor import Supervisor

SILENCE_ALLOWED = (
    15.0  # it gives a sign of life every few seconds; growing a table, or a thread, may hold a worker for long
)

Said = TypeVar("Said")


class WorkerSupervision(ABC, Generic[Said]):
    """One worker at a time, and the one before it while that leaves.

    Who inherits says what the process is told first (`_configure`), what becomes of its words (`_hear`) and of its end
    (`_ended`), and what is no longer true once it was told to leave (`_forget`).
    """

    def __init__(self, node: Supervisor, name: str, module: str, incoming: Any, leave_timeout: float) -> None:
        """`incoming` is the union of the messages that it sends; from `Leave` to its end it has `leave_timeout`."""
        self._node = node
        self._name, self._module, self._incoming, self._leave_timeout = name, module, incoming, leave_timeout
        self._worker: WorkerProcess[Said] | None = None
        self._leaving: WorkerProcess[Said] | None = None
        self._heard = 0.0
        self._looking: Timer | None = None

    @abstractmethod
    def _configure(self, worker: WorkerProcess[Said]) -> None:
        """Send a process that has just been started what it needs."""

    @abstractmethod
    def _hear(self, message: Said, current: bool) -> None:
        """What it says beside `Ready`; `current` is False for a worker that was told to leave."""

    @abstractmethod
    def _ended(self, why: str) -> None:
        """It ended without having been told to, and will be started again."""

    @abstractmethod
    def _forget(self) -> None:
        """It was told to leave: what it said counts no more."""

    def _begin(self) -> None:
        """There is to be a worker from now on."""
        worker: WorkerProcess[Said] = WorkerProcess(
            self._node.loop,
            self._name,
            self._module,
            self._incoming,
            on_start=self._start,
            on_message=lambda message, now: self._take(message, now, worker is self._worker),
            on_end=lambda why, _now: self._ended(why) if worker is self._worker else None,
        )
        self._worker = worker
        self._start(self._node.loop.now())

    def _start(self, now: float) -> None:
        assert self._worker is not None
        self._heard = now
        self._worker.start()
        self._configure(self._worker)
        if self._looking is None:
            self._look(now)

    def _look(self, now: float) -> None:
        if self._worker is not None and self._worker.runs and now - self._heard >= SILENCE_ALLOWED:
            self._worker.kill(f"said nothing for {SILENCE_ALLOWED:g} s", now)
        due = self._heard + SILENCE_ALLOWED
        self._looking = self._node.loop.call_at(due if due > now else now + SILENCE_ALLOWED, self._look)

    def _take(self, message: Said | Ready, now: float, current: bool) -> None:
        if current:
            self._heard = now
        if not isinstance(message, Ready):
            self._hear(message, current)
        elif current and self._worker is not None:
            self._worker.is_ready()

    def check_for_stop(self) -> None:
        """A SIGCHLD arrived."""
        for worker in (self._worker, self._leaving):
            if worker is not None:
                worker.check_for_stop()

    def stop(self) -> None:
        """The node ends."""
        if self._looking is not None:
            self._looking.cancel()
        self._end()

    def _end(self) -> None:
        """There is to be no worker any more; the one there is may end what it does."""
        worker = self._worker
        if worker is None:
            return
        worker.stop()
        if worker.runs:
            worker.send(Leave())
            loop = self._node.loop
            loop.call_at(loop.now() + self._leave_timeout, lambda now: worker.kill("did not leave in time", now))
        self._leaving, self._worker = worker, None
        self._forget()

    @property
    def is_gone(self) -> bool:
        """Whether no process is left."""
        return not any(worker is not None and worker.runs for worker in (self._worker, self._leaving))
