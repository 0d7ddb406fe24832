"""The certificates of the stream of states as they are on the disk now: pairing, renewal and revocation change them
while the worker runs.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

from hacore.errors import PlatformError
from hacore.node.states_tls import Contexts, contexts

NOT_PAIRED = "not paired"
REMEDY = "hacore pair invite on one node, hacore pair join on the other"

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?")


class Credentials:
    """What this node shows, and whom it trusts; `contexts` is None, and `problem` says why, where it can speak to
    nobody. `trusted` are the certificates of the others, in DER.
    """

    def __init__(self, certificate: Path, key: Path, trust: Path) -> None:
        self.contexts: Contexts | None = None
        self.trusted: frozenset[bytes] = frozenset()
        self.problem = ""
        self.files = (certificate, key, trust)
        self._seen: list[tuple[int, int, int] | None] | None = None
        self.look()

    @property
    def is_settled(self) -> bool:
        """Whether the files were read as they are, none of them in the middle of a change."""
        return self._seen is not None

    def look(self) -> bool:
        """Reads what has changed since the last look; whether there was anything."""
        seen = [_mark(path) for path in self.files]
        if seen == self._seen:
            return False
        certificate, key, trust = self.files
        try:
            self.trusted = _trusted(trust)
            if seen[0] is None and seen[1] is None:
                self.contexts, self.problem = None, f"{NOT_PAIRED}: this node has no certificate yet ({REMEDY})"
            elif not self.trusted:
                self.contexts, self.problem = None, f"{NOT_PAIRED}: this node trusts no other ({REMEDY})"
            else:
                self.contexts, self.problem = contexts(certificate, key, trust), ""
        except PlatformError as error:
            # Half a renewal: certificate and key are replaced one after the other. What was read before stays good,
            # and the next look reads anew.
            self.problem, self._seen = str(error), None
            return True
        self._seen = seen
        return True


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _trusted(path: Path) -> frozenset[bytes]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise PlatformError(f"{path}: {error.strerror}") from error
    try:
        return frozenset(ssl.PEM_cert_to_DER_cert(each) for each in _PEM.findall(text))
    except ValueError as error:
        raise PlatformError(f"{path}: {error}") from error
