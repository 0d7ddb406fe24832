"""The certificates that a node trusts: a PEM file that TLS reads as it is, and beside it those that were revoked.

What is revoked is refused whatever the other file says, so that a crash between the two writes leaves nobody trusted
by mistake.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hacore.control.certificates import BadCertificate, Certificate, grouped, moment, parse, split
from hacore.errors import PlatformError
from hacore.node.durable import write_durably

REVOKED = "revoked.pem"
REMEMBERED = 64  # revoked ones, the latest: known so that their holders can be told so
PER_NODE = 2  # the one in use, and the one that it is about to use


class Trust(NamedTuple):
    """What the files say: `peers` in the order in which they came, `revoked` the latest last."""

    peers: tuple[Certificate, ...] = ()
    revoked: tuple[Certificate, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes, each once."""
        return tuple(dict.fromkeys(one.name for one in self.peers))

    def of(self, name: str) -> tuple[Certificate, ...]:
        """The certificates of a node."""
        return tuple(one for one in self.peers if one.name == name)

    def find(self, der: bytes) -> Certificate | None:
        """The trusted certificate that is this one, byte by byte."""
        return next((one for one in self.peers if one.der == der), None)

    def is_revoked(self, der: bytes) -> bool:
        """Whether it was trusted once."""
        return any(one.der == der for one in self.revoked)


class TrustStore:
    """Reads and writes the two files. One process writes; every change is on the disk when the call returns.

    Every method raises PlatformError for a file that cannot be used, with its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.revoked_path = path.with_name(REVOKED)

    def read(self) -> Trust:
        """What is trusted now."""
        revoked = _read(self.revoked_path)
        refused = {one.der for one in revoked}
        return Trust(tuple(one for one in _read(self.path) if one.der not in refused), tuple(revoked))

    def add(self, certificate: Certificate) -> Trust:
        """Trust it, beside the newest other one of that node."""
        trust = self.read()
        others = [one for one in trust.of(certificate.name) if one.der != certificate.der]
        return self._replace(trust, certificate.name, [*others[1 - PER_NODE :], certificate])

    def keep_only(self, certificate: Certificate) -> Trust:
        """Of its node's, no other is trusted any more; those are not called revoked: their holder replaced them."""
        return self._replace(self.read(), certificate.name, [certificate])

    def revoke(self, name: str) -> tuple[Certificate, ...]:
        """Nothing of that node is trusted any more; returns what was."""
        trust = self.read()
        gone = trust.of(name)
        if gone:
            self._write(self.revoked_path, [*trust.revoked, *gone][-REMEMBERED:])
            self._write(self.path, [one for one in trust.peers if one.name != name])
        return gone

    def settle(self) -> None:
        """After a crash: the trust file does not hold what is revoked, for those who read it alone."""
        held, trusted = _read(self.path), self.read().peers
        if len(held) != len(trusted):
            self._write(self.path, list(trusted))

    def _replace(self, trust: Trust, name: str, wanted: list[Certificate]) -> Trust:
        ders = {one.der for one in wanted}
        revoked = [one for one in trust.revoked if one.der not in ders]
        peers = [one for one in trust.peers if one.name != name] + wanted
        if len(revoked) != len(trust.revoked):
            self._write(self.revoked_path, revoked)
        self._write(self.path, peers)
        return Trust(tuple(peers), tuple(revoked))

    def _write(self, path: Path, certificates: list[Certificate]) -> None:
        text = b"".join(
            f"# {one.name}, until {moment(one.not_after)}, SHA-256 {grouped(one.fingerprint)}\n".encode() + one.pem
            for one in certificates
        )
        try:
            write_durably(path, text, mode=0o644)
        except OSError as error:
            raise PlatformError(f"{error.filename or path}: {error.strerror}") from error


def _read(path: Path) -> list[Certificate]:
    try:
        return [parse(pem) for pem in split(path.read_bytes())]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PlatformError(f"{error.filename}: {error.strerror}") from error
    except BadCertificate as error:
        raise PlatformError(f"{path}: {error}") from error


def file_mark(path: Path) -> tuple[int, int] | None:
    """Another one where the file is another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
