"""Certificates for trying things out: one for each node, and for each node the file of those that it trusts.

The only module that needs the package `cryptography`.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

from hacore.errors import PlatformError

VALID_DAYS = 3650


def make_test_certificates(directory: Path, names: Sequence[str]) -> list[Path]:
    """Makes `directory/NAME/node.crt`, `node.key` and `peers.pem` for each name, over what is there; returns them.

    Each node has a certificate of its own, signed by itself, and trusts exactly those of the others.

    Raises:
        PlatformError: the package is missing, or a file cannot be written.
    """
    made = {name: _self_signed(name) for name in names}
    written = []
    for name, (certificate, key) in made.items():
        others = b"".join(other for peer, (other, _key) in made.items() if peer != name)
        place = directory / name
        try:
            place.mkdir(parents=True, exist_ok=True)
            for file, content, mode in (
                ("node.crt", certificate, 0o644), ("node.key", key, 0o600), ("peers.pem", others, 0o644),
            ):  # fmt: skip
                written.append(_write(place / file, content, mode))
        except OSError as error:
            raise PlatformError(f"{error.filename}: {error.strerror}") from error
    return written


def _write(path: Path, content: bytes, mode: int) -> Path:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)
    new.rename(path)
    return path


def _self_signed(name: str) -> tuple[bytes, bytes]:
    """Certificate and key of a node, as PEM."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise PlatformError("the package cryptography is missing: pip install cryptography") from error
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
