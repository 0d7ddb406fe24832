"""The supervisor's side of the control worker: what it tells goes into the history and the status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hacore.node.messages import ConfigureControl, ControlCondition, ControlEvent, FromControl
from hacore.node.settings import Settings
from hacore.node.snapshot import CertificateStatus, Worker
from hacore.node.worker_process import WorkerProcess
from hacore.node.worker_supervision import WorkerSupervision

if TYPE_CHECKING:
    from hacore.node.supervisor import Supervisor

LEAVE_TIMEOUT = 9.0  # what is being answered has two seconds, and services that follow a VIP five to stop


class ControlSupervision(WorkerSupervision[ControlCondition | ControlEvent]):
    """Present on every node; without `[control]` there is no worker."""

    def __init__(self, node: Supervisor) -> None:
        super().__init__(node, "control", "hacore.node.control", FromControl, LEAVE_TIMEOUT)
        self._settings: Settings | None = None
        self._warnings: list[str] = []
        self.certificates: list[CertificateStatus] = []

    def load(self, settings: Settings) -> None:
        """Bring the worker in line with the settings: it reads them itself, and goes on answering meanwhile."""
        self._settings = settings
        if settings.control is None:
            self._end()
        elif self._worker is None:
            self._begin()
        else:
            self._configure(self._worker)

    def _configure(self, worker: WorkerProcess[ControlCondition | ControlEvent]) -> None:
        assert self._settings is not None
        worker.send(ConfigureControl(path=self._settings.path))

    def _forget(self) -> None:
        self._warnings, self.certificates = [], []

    def _ended(self, why: str) -> None:
        self._warnings = []
        self._node.history.record("worker", f"control worker {why}", why=why)

    def _hear(self, message: ControlCondition | ControlEvent, current: bool) -> None:
        if isinstance(message, ControlEvent):
            self._node.history.record(
                message.kind, message.text, vip=message.vip, at=message.at,
                **{key: value for key, value in message.fields.items() if key not in ("kind", "text", "vip", "at")},
            )  # fmt: skip
        elif current:
            self._warnings, self.certificates = message.warnings, message.certificates

    def workers(self) -> dict[str, Worker]:
        """For the status."""
        return {} if self._worker is None else {"control": self._worker.status()}

    def warnings(self) -> list[str]:
        """For the status."""
        return self._warnings
