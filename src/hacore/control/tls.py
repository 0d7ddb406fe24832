"""TLS of the node API: 1.3 and nothing older, with the certificates of pairing on both sides."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hacore.errors import PlatformError

PROTOCOL = "http/1.1"
#: OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED.
HAS_EXPIRED = 10


class _Handshaking(ssl.SSLObject):
    """Keeps the alert that OpenSSL wrote when it refused: asyncio closes the connection without sending it, and the
    other side would never know why.
    """

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        """As the base class; the alert is in the exception's attribute `alert`."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            error.alert = self.outgoing.read()  # type: ignore[attr-defined]
            raise


class _ServerContext(ssl.SSLContext):
    sslobject_class = _Handshaking

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *more: Any, **options: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *more, **options)
        assert isinstance(made, _Handshaking)
        made.outgoing = outgoing
        return made


def alert_of(error: OSError) -> bytes:
    """What the other side is still to be sent after a handshake that this side refused."""
    alert = getattr(error, "alert", b"")
    return alert if isinstance(alert, bytes) else b""


def server_context(certificate: Path, key: Path, trusted: Iterable[bytes]) -> ssl.SSLContext:
    """For connections that are taken: a client shows a certificate of `trusted` (DER), or none.

    One without gets no further than the routes that need none: that is how a node that is not paired yet asks to be.

    Raises:
        PlatformError: the certificate or the key cannot be used; names both files.
    """
    context = _context(_ServerContext(ssl.PROTOCOL_TLS_SERVER), certificate, key, trusted)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    return context


def client_context(certificate: Path, key: Path, trusted: bytes) -> ssl.SSLContext:
    """For connections to one peer: it has to show exactly the certificate `trusted` (DER).

    Raises:
        PlatformError: as `server_context`.
    """
    context = _context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key, [trusted])
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(context: ssl.SSLContext, certificate: Path, key: Path, trusted: Iterable[bytes]) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a peer is known by its certificate, wherever it stands
    context.set_alpn_protocols([PROTOCOL])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise PlatformError(f"{certificate} and {key}: {reason or error}") from None
    for der in trusted:
        context.load_verify_locations(cadata=der)
    return context


def refusal(error: OSError) -> tuple[str, str]:
    """Code and reason of a handshake that failed, or of a connection that a TLS alert ended, seen from either side.

    The code is one of those of `problems`: "certificate-unknown", "certificate-expired", "certificate-revoked",
    "version", "tls".
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == HAS_EXPIRED:
            return "certificate-expired", "its certificate has expired"
        return "certificate-unknown", f"its certificate is not trusted here ({error.verify_message})"
    text = f"{getattr(error, 'reason', '') or ''} {error}".upper()
    for alerts, code, reason in _ALERTS:
        if any(alert in text for alert in alerts):
            return code, reason
    if isinstance(error, TimeoutError):
        return "timed-out", "the TLS handshake was not finished in time"
    if isinstance(error, ssl.SSLError):
        return "tls", str(error.reason or error).lower().replace("_", " ")
    return "connection-lost", error.strerror or str(error) or "the connection was closed during the TLS handshake"


_ALERTS = (
    (("ALERT_CERTIFICATE_EXPIRED",), "certificate-expired", "it says that our certificate has expired"),
    (("ALERT_CERTIFICATE_REVOKED",), "certificate-revoked", "it says that our certificate is revoked"),
    (
        ("ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_CERTIFICATE_REQUIRED"),
        "certificate-unknown",
        "it does not trust our certificate",
    ),
    (
        ("UNSUPPORTED_PROTOCOL", "ALERT_PROTOCOL_VERSION", "WRONG_VERSION_NUMBER", "VERSION_TOO_LOW"),
        "version",
        "no TLS version that both speak (1.3 is needed)",
    ),
)
