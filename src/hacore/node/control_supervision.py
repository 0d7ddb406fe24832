"""The supervisor's side of the control worker: starts and watches it, and writes what it tells into the history.

Nothing here waits for it: a control worker that is dead or stuck costs the node its API, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hacore.node.control_snapshot import ControlStatus
from hacore.node.loop import Timer
from hacore.node.messages import ConfigureControl, ControlEvent, FromControl, Leave, Ready
from hacore.node.settings import Settings
from hacore.node.snapshot import CertificateStatus, Worker
from hacore.node.worker_process import WorkerProcess

if TYPE_CHECKING:
    from hacore.node.supervisor import Supervisor

LEAVE_TIMEOUT = 9.0  # what is being answered has two seconds, and services that follow a VIP five to stop
SILENCE_ALLOWED = 15.0  # it gives a sign of life once a second; a thread of it may hold the interpreter for long
LOOK_INTERVAL = 1.0
MODULE = "hacore.node.control"
MODULE_WITH_PAGE = "hacore.web"  # the same with the status page as one more part


class ControlSupervision:
    """Present on every node; without `[control]` there is no worker."""

    def __init__(self, node: Supervisor) -> None:
        self._node = node
        self._settings: Settings | None = None
        self._worker: WorkerProcess[FromControl] | None = None
        self._leaving: WorkerProcess[FromControl] | None = None
        self._module = MODULE
        self._warnings: list[str] = []
        self.certificates: list[CertificateStatus] = []
        self.status: ControlStatus | None = None
        self._heard = 0.0
        self._looking: Timer | None = None

    def load(self, settings: Settings) -> None:
        """Bring the worker in line with the settings: it reads them itself, and goes on answering meanwhile."""
        self._settings = settings
        module = MODULE if settings.web is None else MODULE_WITH_PAGE
        if self._worker is not None and (settings.control is None or module != self._module):
            self._end(self._worker)
        if settings.control is None:
            return
        if self._worker is None:
            self._module = module
            self._worker = self._new_worker()
            self._start(self._node.loop.now())
        else:
            self._worker.send(ConfigureControl(path=settings.path))

    def _new_worker(self) -> WorkerProcess[FromControl]:
        worker: WorkerProcess[FromControl] = WorkerProcess(
            self._node.loop,
            "control",
            self._module,
            FromControl,
            on_start=self._start,
            on_message=lambda message, now: self._hear(message, now, worker is self._worker),
            on_end=lambda why, _now: self._ended(why) if worker is self._worker else None,
        )
        return worker

    def _start(self, now: float) -> None:
        assert self._worker is not None
        assert self._settings is not None
        self._heard = now
        self._worker.start()
        self._worker.send(ConfigureControl(path=self._settings.path))
        if self._looking is None:
            self._look(now)

    def _look(self, now: float) -> None:
        self._looking = self._node.loop.call_at(now + LOOK_INTERVAL, self._look)
        if self._worker is not None and self._worker.runs and now - self._heard > SILENCE_ALLOWED:
            self._worker.kill(f"said nothing for {SILENCE_ALLOWED:g} s", now)

    def check_for_stop(self) -> None:
        """A SIGCHLD arrived."""
        for worker in (self._worker, self._leaving):
            if worker is not None:
                worker.check_for_stop()

    def stop(self) -> None:
        """The node ends."""
        if self._looking is not None:
            self._looking.cancel()
        if self._worker is not None:
            self._end(self._worker)

    def _end(self, worker: WorkerProcess[FromControl]) -> None:
        worker.stop()
        if worker.runs:
            worker.send(Leave())
            loop = self._node.loop
            loop.call_at(loop.now() + LEAVE_TIMEOUT, lambda now: worker.kill("did not leave in time", now))
        self._leaving, self._worker, self._warnings, self.certificates = worker, None, [], []
        self.status = None

    @property
    def is_gone(self) -> bool:
        """Whether no process is left."""
        return not any(worker is not None and worker.runs for worker in (self._worker, self._leaving))

    def _ended(self, why: str) -> None:
        self._warnings, self.status = [], None
        self._node.history.record("worker", f"control worker {why}", why=why)

    def _hear(self, message: FromControl, now: float, current: bool) -> None:
        self._heard = now
        if isinstance(message, Ready):
            if current and self._worker is not None:
                self._worker.is_ready()
        elif isinstance(message, ControlEvent):
            self._node.history.record(
                message.kind, message.text, vip=message.vip, at=message.at,
                **{key: value for key, value in message.fields.items() if key not in ("kind", "text", "vip", "at")},
            )  # fmt: skip
        elif current:
            self._warnings, self.certificates, self.status = message.warnings, message.certificates, message.status

    def workers(self) -> dict[str, Worker]:
        """For the status."""
        return {} if self._worker is None else {"control": self._worker.status()}

    def warnings(self) -> list[str]:
        """For the status."""
        return self._warnings
