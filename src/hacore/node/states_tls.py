"""Who may speak: TLS 1.3 contexts from the node's certificate and the peers' ones, and the name that a certificate
bears.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hacore.errors import PlatformError

STREAM_PROTOCOL = "hacore-states/1"
"""ALPN of the stream of states."""
ROWS_PROTOCOL = "hacore-rows/2"
"""ALPN of a connection over which the listener sends its kernel's table once, for a comparison."""


class Contexts(NamedTuple):
    """One for connections that are made, one for those that are taken."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def contexts(certificate: Path, key: Path, trust: Path) -> Contexts:
    """Contexts that demand TLS 1.3 and a certificate that `trust` holds, or an authority in it signed, of both sides.

    Raises:
        PlatformError: a file is missing or is no certificate; names the file.
    """
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # names of nodes are compared by `common_name`
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise PlatformError(f"{certificate} and {key}: {_reason(error)}") from error
        try:
            context.load_verify_locations(trust)
        except (OSError, ssl.SSLError) as error:
            raise PlatformError(f"{trust}: {_reason(error)}") from error
    server.num_tickets = 0
    client.set_alpn_protocols([STREAM_PROTOCOL])
    server.set_alpn_protocols([STREAM_PROTOCOL, ROWS_PROTOCOL])
    return Contexts(client, server)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "not what was expected").lower().replace("_", " ")
    return error.strerror or str(error)


def names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names of a node that a peer's certificate bears (subjectAltName DNS, else the common name), as
    `SSLSocket.getpeercert()` gives it.
    """
    if not certificate:
        return ()
    alternative = tuple(value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS")
    if alternative:
        return alternative
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    return tuple(value for kind, value in subject if kind == "commonName")


def explain(error: OSError) -> str:
    """A failure of a connection in words: what was wrong with which certificate, or what the network said."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = _reason(error)
        if "alert" in reason:
            return f"the peer refused this node's certificate or TLS version ({reason})"
        return f"TLS failed: {reason}"
    if isinstance(error, TimeoutError):
        return "no answer"
    return error.strerror or str(error)
