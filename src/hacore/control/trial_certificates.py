"""Certificates for trying things out: one for each node, and for each node the file of those that it trusts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from hacore.control import certificates
from hacore.control.certificates import Place
from hacore.errors import PlatformError
from hacore.node.durable import write_durably

VALID_DAYS = 3650


def make_test_certificates(directory: Path, names: Sequence[str]) -> list[Path]:
    """Makes `directory/NAME/node.crt`, `node.key` and `peers.pem` for each name, over what is there; returns them.

    Each node has a certificate of its own, signed by itself, and trusts exactly those of the others.

    Raises:
        PlatformError: a file cannot be written.
    """
    made = [certificates.make(name, time.time(), VALID_DAYS) for name in names]
    written = []
    for identity in made:
        place = Place(
            directory / identity.certificate.name / "node.crt", directory / identity.certificate.name / "node.key"
        )
        trust = place.certificate.with_name("peers.pem")
        certificates.save(identity, place)
        try:
            write_durably(trust, b"".join(other.certificate.pem for other in made if other is not identity), mode=0o644)
        except OSError as error:
            raise PlatformError(f"{error.filename}: {error.strerror}") from error
        written += [place.certificate, place.key, trust]
    return written
