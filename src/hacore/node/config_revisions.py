"""The states that were applied on this node, each under its number, in `state_dir/config/revisions`.

A revision is the point at which a transaction is done: its file is written durably, last of all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from hacore.configsync.manifest import Manifest, decode
from hacore.errors import HacoreError
from hacore.node.config_store import Store
from hacore.node.durable import sync_directory, write_durably

KEPT = 100


class NoRevision(HacoreError):
    """A revision that is not (or no longer) there."""

    exit_code = 66


class Brought(msgspec.Struct, frozen=True):
    """What the last push or roll-back brought of a section: the digest of its manifest as it was pushed, the paths that
    the section had then, and the revision, which may be forgotten by now.
    """

    digest: str
    roots: list[str]
    revision: int
    at: float
    by: str


class Applied(msgspec.Struct, frozen=True):
    """One section of a revision: digests of the manifests of what was pushed, and of what that was on this node.

    `brought` is None until something was; what was merely found here before a push does not change it.
    """

    pushed: str
    live: str
    brought: Brought | None = None


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One applied state. `at` in unix seconds; `sections` holds every section that was ever applied here.

    `kind`: "found" is what stood here before a push replaced it.
    """

    number: int
    at: float
    kind: Literal["found", "push", "roll-back"]
    by: str
    transaction: str
    sections: dict[str, Applied]
    changed: list[str]
    roots: dict[str, list[str]]
    version: str
    comment: str = ""


class Revisions:
    """All that are kept; read from the disk once. `damage` says which of them cannot be read."""

    def __init__(self, directory: Path, store: Store) -> None:
        self._directory = directory
        self._store = store
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.damage: list[str] = []
        self._known: dict[int, Revision] = {}
        self._damaged: set[int] = set()
        for path in sorted(directory.glob("*.json")):
            try:
                revision = msgspec.json.decode(path.read_bytes(), type=Revision)
                self._known[revision.number] = revision
            except (OSError, msgspec.DecodeError) as error:
                self.damage.append(f"{path} is damaged: {error}")
                if path.stem.isdigit():
                    self._damaged.add(int(path.stem))

    def all(self) -> list[Revision]:
        """The oldest first."""
        return [self._known[number] for number in sorted(self._known)]

    def last(self) -> Revision | None:
        """The latest one, which is what this node has (unless it was changed by hand)."""
        return self._known[max(self._known)] if self._known else None

    def get(self, number: int) -> Revision:
        """One of them; raises NoRevision."""
        if number not in self._known:
            kept = f"there are {min(self._known)} to {max(self._known)}" if self._known else "there is none yet"
            raise NoRevision(f"there is no revision {number}; {kept}")
        return self._known[number]

    def of_transaction(self, transaction: str, kinds: Sequence[str]) -> Revision | None:
        """What a transaction left, if it was done."""
        return next(
            (each for each in self._known.values() if each.transaction == transaction and each.kind in kinds), None
        )

    def next_number(self) -> int:
        """Of the next revision."""
        return max(self._known.keys() | self._damaged, default=0) + 1

    def add(self, revision: Revision) -> None:
        """The revision is applied when this returns. Raises OSError."""
        path = self._directory / f"{revision.number:06d}.json"
        try:
            write_durably(path, msgspec.json.encode(revision), mode=0o600)
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # it may stand there without being on the disk
            raise
        self._known[revision.number] = revision

    def manifest(self, digest: str) -> Manifest:
        """A manifest that a revision names; raises StoreError."""
        return decode(self._store.read(digest))

    def forget_old(self) -> int:
        """Remove all but the last, and the contents that only they had; returns how many revisions went."""
        old = sorted(self._known.keys() | self._damaged)[:-KEPT]
        if not old:
            return 0
        for number in old:
            os.unlink(self._directory / f"{number:06d}.json")
            self._known.pop(number, None)
            self._damaged.discard(number)
        sync_directory(self._directory)
        self.sweep()
        return len(old)

    def sweep(self) -> None:
        """Remove contents that no revision has."""
        wanted = set()
        for digest in {each for revision in self._known.values() for each in manifests_of(revision)}:
            wanted.add(digest)
            wanted.update(self.manifest(digest).objects())
        self._store.sweep(wanted)


def manifests_of(revision: Revision) -> set[str]:
    """The digests of all its manifests."""
    found = {digest for applied in revision.sections.values() for digest in (applied.pushed, applied.live)}
    return found | {applied.brought.digest for applied in revision.sections.values() if applied.brought is not None}
