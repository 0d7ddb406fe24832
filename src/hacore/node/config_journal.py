"""Where a transaction stands, on the disk before each step begins; a crash finds there what is to be undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from hacore.configsync.plan import Plan, Step
from hacore.node.durable import sync_directory, write_durably


class SectionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One section of a transaction: digests of manifests, and the paths that it has on this node.

    `before` is what stood here, `live` what is to stand here, `pushed` what was sent (templates not resolved).
    """

    roots: list[str]
    before: str
    live: str
    pushed: str


class Record(msgspec.Struct, kw_only=True):
    """Everything that is needed to undo a transaction. `undone_from` is the step at which undoing began."""

    transaction: str
    step: Step
    action: str
    by: str
    since: float
    sections: dict[str, SectionRecord] = {}
    settings_file: str = ""  # 50-synced.toml
    settings_before: str = ""  # digest of its content; "": there was none
    touches_settings: bool = False
    services: list[str] = []
    undone_from: Step | None = None
    reason: str = ""


class Journal:
    """The one transaction that is under way. `written(step)` is called after each step is on the disk."""

    def __init__(self, path: Path, written: Callable[[Step], None] = lambda _step: None) -> None:
        self._path = path
        self._written = written
        self.record: Record | None = None
        self.plan = Plan()
        try:
            self.record = msgspec.json.decode(path.read_bytes(), type=Record)
            self.plan = Plan(self.record.step)
        except FileNotFoundError:
            pass

    def open(self, record: Record) -> None:
        """A transaction begins."""
        self.record, self.plan = record, Plan(record.step)
        self._write()

    def advance(self, step: Step) -> None:
        """The next step begins."""
        assert self.record is not None
        self.plan.advance(step)
        if step == "undoing":
            self.record.undone_from = self.record.step
        self.record.step = step
        self._write()

    def _write(self) -> None:
        assert self.record is not None
        write_durably(self._path, msgspec.json.encode(self.record), mode=0o600)
        self._written(self.record.step)

    def close(self) -> None:
        """Nothing is under way any more."""
        self._path.unlink(missing_ok=True)
        sync_directory(self._path.parent)
        self.record = None
