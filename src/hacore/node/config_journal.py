"""Where a transaction stands, on the disk before each step begins; a crash finds there what is to be undone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from hacore.configsync.plan import Plan, Step
from hacore.errors import PlatformError
from hacore.node.durable import sync_directory, write_durably


class SectionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One section of a transaction: digests of manifests, and the paths that it has on this node.

    `before` is what stood here, `live` what is to stand here, `pushed` what was sent (templates not resolved).
    """

    roots: list[str]
    before: str
    live: str
    pushed: str


class PutBack(msgspec.Struct, frozen=True):
    """When all files stood as before again, on the disk: the boot, and the seconds of its monotonic clock.

    `left` are paths that are not as before, because somebody made them meanwhile.
    """

    boot: str
    at: float
    left: list[str] = []


class Record(msgspec.Struct, kw_only=True):
    """Everything that is needed to undo a transaction. `undone_from` is the step at which undoing began.

    `boot` is the kernel's id of the boot in which it began: in another one the machine has started with what it found.
    `ran` says of the services of its sections which of them ran before; one that could not be asked is not in it.
    """

    transaction: str
    step: Step
    action: str
    by: str
    since: float
    boot: str = ""
    sections: dict[str, SectionRecord] = {}
    settings_file: str = ""  # 50-synced.toml
    settings_before: str = ""  # digest of its content; "": there was none
    touches_settings: bool = False
    services: list[str] = []
    ran: dict[str, bool] = {}
    undone_from: Step | None = None
    reason: str = ""
    put_back: PutBack | None = None


class Journal:
    """The one transaction that is under way. `written(step)` is called after each step is on the disk.

    Raises PlatformError where the file is damaged: nobody knows then what is to be undone.
    """

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
        except msgspec.DecodeError as error:
            raise PlatformError(
                f"{path} is damaged ({error}), so that nobody knows which push was under way: "
                "look at the files of the sections, then remove it"
            ) from None

    def open(self, record: Record) -> None:
        """A transaction begins. Raises OSError, and then it does not."""
        self._write(record)

    def advance(self, step: Step) -> None:
        """The next step begins. Raises OSError, and then the transaction is where it was."""
        assert self.record is not None
        Plan(self.plan.step).advance(step)
        self._write(msgspec.structs.replace(self.record, step=step))

    def undoing(self, reason: str = "") -> None:
        """The way back begins, also where that cannot be written: the step on the disk is then one that is undone."""
        assert self.record is not None
        self.plan.advance("undoing")
        self.record = msgspec.structs.replace(
            self.record, step="undoing", undone_from=self.record.step, reason=reason or self.record.reason
        )
        self._try_to_write()

    def put_back(self, boot: str, at: float, left: list[str]) -> None:
        """The files are as before. Where that cannot be written they are looked at once more after a crash."""
        assert self.record is not None
        self.record = msgspec.structs.replace(self.record, put_back=PutBack(boot, at, left))
        self._try_to_write()

    def _try_to_write(self) -> None:
        assert self.record is not None
        with suppress(OSError):
            self._write(self.record)

    def _write(self, record: Record) -> None:
        write_durably(self._path, msgspec.json.encode(record), mode=0o600)
        self.record, self.plan = record, Plan(record.step)
        self._written(record.step)

    def close(self) -> None:
        """Nothing is under way any more."""
        self._path.unlink(missing_ok=True)
        sync_directory(self._path.parent)
        self.record = None
