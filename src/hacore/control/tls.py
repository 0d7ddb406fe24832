"""TLS 1.3 contexts of the node API, from a node's identity and the certificates that it trusts.

TLS lets nobody through whose certificate is unknown or expired. A caller who shows none gets through, to be told so,
and so does one whose certificate was revoked; `who` tells them apart, and compares a certificate byte by byte.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from hacore.control.certificates import Certificate, Place
from hacore.control.trust import Trust
from hacore.errors import PlatformError


class Caller(NamedTuple):
    """Who is at the other end of a connection: `name` is empty where no certificate was shown."""

    name: str = ""
    certificate: Certificate | None = None
    is_revoked: bool = False


def server_context(place: Place, trust: Trust) -> ssl.SSLContext:
    """For connections that are taken. Raises PlatformError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, place)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # a resumed session would outlive a revocation
    _load(context, [*trust.peers, *trust.revoked])
    return context


def client_context(place: Place, trust: Trust, name: str = "") -> ssl.SSLContext:
    """For connections that are made: to the node `name`, or to any that is trusted. Raises PlatformError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, place)
    context.verify_mode = ssl.CERT_REQUIRED
    _load(context, trust.of(name) if name else trust.peers)
    return context


def joining_context() -> ssl.SSLContext:
    """For the connection over which a node joins: takes any certificate, which is to be compared with the token's
    fingerprint before anything is sent, and shows none.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, None)
    context.verify_mode = ssl.CERT_NONE
    return context


def who(der: bytes | None, trust: Trust) -> Caller:
    """Whose certificate this is, as the connection gives it."""
    if not der:
        return Caller()
    if (found := trust.find(der)) is not None:
        return Caller(found.name, found)
    revoked = next((one for one in trust.revoked if one.der == der), None)
    return Caller(revoked.name if revoked else "", revoked, revoked is not None)


def _context(protocol: int, place: Place | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a node's certificate is known byte by byte, whatever its address
    if place is not None:
        try:
            context.load_cert_chain(place.certificate, place.key)
        except (OSError, ssl.SSLError) as error:
            said = getattr(error, "reason", None) or error.strerror or str(error)
            raise PlatformError(f"{place.certificate} and {place.key}: {said.lower().replace('_', ' ')}") from error
    return context


def _load(context: ssl.SSLContext, certificates: list[Certificate] | tuple[Certificate, ...]) -> None:
    for one in certificates:
        context.load_verify_locations(cadata=one.der)
