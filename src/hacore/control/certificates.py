"""A node's own certificate and key, and what is asked of another node's certificate.

Each node signs its certificate itself (EC P-256, its name as common name and as the only subjectAltName, no
authority); two nodes trust each other because each holds exactly the other's certificate, never because of a third.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from hacore.errors import HacoreError, PlatformError
from hacore.node.durable import sync_directory, write_durably

VALID_DAYS = 730
LONGEST_DAYS = 3660  # of another node's: longer is a mistake or a trick
EARLIER_DAYS = 1  # it is valid before it is made: clocks differ
WARNING_DAYS = 30  # before the end
LARGEST_PEM_BYTES = 16384
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # that of `settings_values.name`

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]{1,16384}-----END CERTIFICATE-----\n?")


class BadCertificate(HacoreError):
    """Bytes that are no certificate of a node; the message says what is wrong with them."""

    exit_code = 65


class Certificate(NamedTuple):
    """One certificate: `fingerprint` is the SHA-256 of `der`, in hex; the ends of its validity are unix seconds."""

    name: str
    fingerprint: str
    not_before: float
    not_after: float
    der: bytes
    pem: bytes

    def is_valid_at(self, now: float) -> bool:
        """Whether a TLS peer takes it at this moment."""
        return self.not_before <= now <= self.not_after

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The key it certifies."""
        return _public_key(x509.load_der_x509_certificate(self.der))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder of its key signed the message (ECDSA with SHA-256)."""
        try:
            self.public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class Identity(NamedTuple):
    """A certificate with its private key, which never leaves the node."""

    certificate: Certificate
    key: ec.EllipticCurvePrivateKey

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256, in DER."""
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def key_pem(self) -> bytes:
        """The private key as its file holds it (PKCS #8, not encrypted: the file is root's)."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


class Place(NamedTuple):
    """Where an identity is kept."""

    certificate: Path
    key: Path


def make(name: str, now: float, valid_days: float = VALID_DAYS) -> Identity:
    """A new key and its certificate, valid from a day before `now`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    moment = dt.datetime.fromtimestamp(int(now), dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    # The identifiers let OpenSSL find the right one of two certificates of one name, while a renewal is under way.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - dt.timedelta(days=EARLIER_DAYS))
        .not_valid_after(moment + dt.timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity(parse(made.public_bytes(serialization.Encoding.PEM)), key)


def parse(pem: bytes | str) -> Certificate:
    """The one certificate in a PEM text, of whatever date. Raises BadCertificate with what keeps it from being a
    node's.
    """
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > LARGEST_PEM_BYTES:
        raise BadCertificate(f"{len(data)} bytes are no certificate: at most {LARGEST_PEM_BYTES}")
    found = _PEM.findall(data)
    if len(found) != 1:
        raise BadCertificate(f"{'no' if not found else len(found)} PEM certificates, where one is expected")
    return parse_der(_loaded(found[0]).public_bytes(serialization.Encoding.DER))


def parse_der(der: bytes) -> Certificate:
    """The same of DER, such as TLS gives it."""
    try:
        found = x509.load_der_x509_certificate(der)
        name = _name(found)
        _check_form(found)
        return Certificate(
            name=name,
            fingerprint=sha256(der).hexdigest(),
            not_before=found.not_valid_before_utc.timestamp(),
            not_after=found.not_valid_after_utc.timestamp(),
            der=der,
            pem=found.public_bytes(serialization.Encoding.PEM),
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise BadCertificate(f"no certificate of a node: {error}") from error


def split(bundle: bytes) -> list[bytes]:
    """The PEM certificates in a file that holds several, with text between them."""
    return _PEM.findall(bundle)


def check_dates(certificate: Certificate, now: float) -> None:
    """Raises BadCertificate for one that is not valid now, or for longer than any node's is."""
    if now > certificate.not_after:
        raise BadCertificate(f"the certificate of {certificate.name} expired at {moment(certificate.not_after)}")
    if now < certificate.not_before:
        raise BadCertificate(
            f"the certificate of {certificate.name} is valid from {moment(certificate.not_before)} only: is the clock "
            "of one of the nodes wrong?"
        )
    if certificate.not_after - now > LONGEST_DAYS * 86400:
        raise BadCertificate(f"the certificate of {certificate.name} is valid for too long: more than {LONGEST_DAYS} d")


def expiry(certificate: Certificate, now: float, what: str, renew: str) -> tuple[str, str] | None:
    """A finding and its remedy, from `WARNING_DAYS` before the end on; `what` is its name, `renew` how to renew it."""
    left = certificate.not_after - now
    when = moment(certificate.not_after)
    if left < 0:
        return f"{what} expired at {when}", "pair the nodes anew: hacore pair invite, hacore pair join"
    if left < WARNING_DAYS * 86400:
        return f"{what} expires in {left / 86400:.0f} d, at {when}", renew
    return None


def load(place: Place) -> Identity | None:
    """What is there; None where nothing is. Raises PlatformError for half of it, and for what is not a node's."""
    try:
        pem, key_pem = _read(place.certificate), _read(place.key)
    except OSError as error:
        raise PlatformError(f"{error.filename}: {error.strerror}") from error
    if pem is None and key_pem is None:
        return None
    for path, content in zip(place, (pem, key_pem), strict=True):
        if content is None:
            raise PlatformError(f"{path} is missing, and the file that belongs to it is there")
    assert pem is not None
    assert key_pem is not None
    try:
        certificate = parse(pem)
    except BadCertificate as error:
        raise PlatformError(f"{place.certificate}: {error}") from error
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise PlatformError(f"{place.key}: no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key:
        raise PlatformError(f"{place.key} does not belong to {place.certificate}")
    return Identity(certificate, key)


def save(identity: Identity, place: Place) -> None:
    """Durable, the key (0600) first, and an older certificate is gone before that: one on the disk always has its key.
    Raises PlatformError.
    """
    try:
        os.makedirs(place.key.parent, mode=0o700, exist_ok=True)
        if place.certificate.exists():
            place.certificate.unlink()
            sync_directory(place.certificate.parent)
        write_durably(place.key, identity.key_pem(), mode=0o600)
        write_durably(place.certificate, identity.certificate.pem, mode=0o644)
    except OSError as error:
        raise PlatformError(f"{error.filename}: {error.strerror}") from error


def load_or_make(place: Place, name: str, now: float) -> tuple[Identity, bool]:
    """What is there, or a new one in its place (and whether it is new). Raises PlatformError."""
    key_alone = place.key.exists() and not place.certificate.exists()
    if not key_alone and (found := load(place)) is not None:
        return found, False
    made = make(name, now)  # a key without a certificate is what a power cut leaves of the very first one
    save(made, place)
    return made, True


def grouped(fingerprint: str) -> str:
    """For people: "ab:cd:...", as openssl x509 -fingerprint -sha256 writes it."""
    return ":".join(re.findall("..", fingerprint.upper()))


def moment(unix: float) -> str:
    """For messages, in UTC, as the certificate has it."""
    return dt.datetime.fromtimestamp(unix, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _loaded(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadCertificate(f"no certificate: {error}") from error


def _public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("its key is not EC P-256")
    return key


def _name(certificate: x509.Certificate) -> str:
    common = [attribute.value for attribute in certificate.subject]
    if len(common) != 1 or certificate.subject.rdns != certificate.issuer.rdns:
        raise ValueError("its subject is not one name, or its issuer is another")
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise ValueError("it has no subjectAltName") from None
    alternative = extension.value.get_values_for_type(x509.DNSName)
    name = str(common[0])
    if len(extension.value) != 1 or alternative != [name]:
        raise ValueError("its subjectAltName is not its common name")
    if not NAME.fullmatch(name):
        raise ValueError("its name is not one that a node can have")
    return name


def _check_form(certificate: x509.Certificate) -> None:
    key = _public_key(certificate)
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError("it does not say that it is no authority") from None
    if basic.ca:
        raise ValueError("it is that of an authority, which hacore has none of")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise ValueError("it is not signed with ECDSA and SHA-256")
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError("it is not signed by its own key") from None
