"""The certificates that this node trusts: those in the file `trust` of `[control]`, each of one peer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hacore.errors import PlatformError


class Trusted(NamedTuple):
    """A peer's certificate: the name it bears, its DER form, and until when it holds (unix seconds)."""

    name: str
    der: bytes
    not_after: float


def read_trust(path: Path) -> Mapping[str, Trusted]:
    """What is trusted, by the peers' names; empty where the file is not there.

    Raises:
        PlatformError: the file cannot be read or holds something that is no certificate; names it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PlatformError(f"{path}: {error.strerror}") from None
    if not text.strip():
        return {}
    try:
        certificates = x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise PlatformError(f"{path} holds something that is no certificate: {error}") from None
    found = {}
    for certificate in certificates:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = str(names[0].value) if names else ""
        found[name] = Trusted(name, certificate.public_bytes(Encoding.DER), certificate.not_valid_after_utc.timestamp())
    return found
