"""A node's change to a new key and certificate, as a journal on its disk: a crash at any step is made good.

begin     the new pair lies beside the one in use, and the journal says so
tell      each peer is given the new certificate over the old trust, and trusts both from then on
switch    when every peer knows it (or the old one has expired), the new pair takes the old one's place
confirm   each peer is told once more, by the new certificate itself, and forgets the old one
end       the journal is removed
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from hacore.control.certificates import Certificate, Identity, Place, load, make, save
from hacore.errors import PlatformError
from hacore.node.durable import sync_directory, write_durably


class Journal(Struct, kw_only=True):
    """Certificates by their fingerprints, peers by their names. `told` of the new one before the switch, `confirmed`
    after it.
    """

    old: str
    new: str
    began: float  # unix seconds
    told: list[str] = []
    confirmed: list[str] = []
    switched: bool = False


class Renewal:
    """At most one is under way. Every method raises PlatformError for a file that cannot be read or written."""

    def __init__(self, place: Place, journal: Path) -> None:
        self.place = place
        self.next = Place(*(path.with_name(f"{path.name}.next") for path in place))
        self._path = journal
        self._journal = self._read()

    @property
    def under_way(self) -> Journal | None:
        """What was done so far; None where nothing is to be done."""
        return self._journal

    def settle(self) -> None:
        """After a crash, before anybody reads the certificate: finishes a switch that was begun, and removes what no
        journal speaks of.
        """
        journal = self._journal
        if journal is None:
            for path in self.next:
                _remove(path)
        elif not journal.switched and not self.next.key.exists():
            self._switch_files()
            journal.switched = True
            self._save()

    def begin(self, own: Certificate, now: float) -> Journal:
        """Make the new pair, or go on with the one that was made."""
        if self._journal is None:
            made = make(own.name, now)
            save(made, self.next)
            self._journal = Journal(old=own.fingerprint, new=made.certificate.fingerprint, began=now)
            self._save()
        return self._journal

    def new_identity(self) -> Identity:
        """The pair that is to be used, or is used already."""
        found = load(self.place if self._journal is None or self._journal.switched else self.next)
        if found is None:
            raise PlatformError(f"{self.next.certificate} is missing in the middle of a renewal")
        return found

    def to_tell(self, trusted: Iterable[str]) -> list[str]:
        """The peers that do not know the new certificate yet, or after the switch, that still trust the old one."""
        if self._journal is None:
            return []
        done = self._journal.confirmed if self._journal.switched else self._journal.told
        return [name for name in trusted if name not in done]

    def told(self, name: str) -> None:
        """This peer knows."""
        assert self._journal is not None
        done = self._journal.confirmed if self._journal.switched else self._journal.told
        if name not in done:
            done.append(name)
            self._save()

    def switch(self) -> None:
        """The new pair is in use from now on."""
        assert self._journal is not None
        self._switch_files()
        self._journal.switched = True
        self._save()

    def end(self) -> None:
        """All is done."""
        self._journal = None
        _remove(self._path)

    def abandon(self) -> None:
        """The new pair is not to be used: the old one was replaced by something else meanwhile."""
        self.end()
        for path in self.next:
            _remove(path)

    def _switch_files(self) -> None:
        # The key first: as long as the new key lies there, nothing has been replaced yet.
        try:
            if self.next.key.exists():
                self.next.key.replace(self.place.key)
                sync_directory(self.place.key.parent)
            if self.next.certificate.exists():
                self.next.certificate.replace(self.place.certificate)
                sync_directory(self.place.certificate.parent)
        except OSError as error:
            raise PlatformError(f"{error.filename}: {error.strerror}") from error

    def _read(self) -> Journal | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Journal)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PlatformError(f"{self._path}: {error}") from error

    def _save(self) -> None:
        try:
            os.makedirs(self._path.parent, mode=0o700, exist_ok=True)
            write_durably(self._path, msgspec.json.encode(self._journal), mode=0o600)
        except OSError as error:
            raise PlatformError(f"{error.filename or self._path}: {error.strerror}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        if path.parent.exists():
            sync_directory(path.parent)
    except OSError as error:
        raise PlatformError(f"{error.filename}: {error.strerror}") from error
