"""The joining node's side of pairing: nothing is sent to a node that does not show the token's certificate."""

from __future__ import annotations

import asyncio
import os
import ssl

from msgspec import Struct

from hacore.control import tls
from hacore.control.certificates import BadCertificate, Certificate, Identity, Place, check_dates, parse_der
from hacore.control.client import CONNECT_TIMEOUT, PeerClient
from hacore.control.invitations import PairAnswer, PairRequest
from hacore.control.pairing import NONCE_BYTES, Keys, is_answer, transcript
from hacore.control.pairing_token import Token
from hacore.control.problems import ApiError
from hacore.control.schemas import Done
from hacore.node.settings_values import Endpoint


class PairConfirmation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/pair/confirm: the token's id, in hex."""

    token: str


async def join(token: Token, place: Endpoint, own: Identity, now: float) -> Certificate:
    """Prove to the node at `place` that this one has the token, and be proved the same; returns its certificate, which
    is to be trusted. Raises ApiError.
    """
    certificate = await _inviting(token, place, now)
    nonce = os.urandom(NONCE_BYTES)
    keys = Keys(token.secret)
    signed = transcript(token.id, certificate.fingerprint, own.certificate.fingerprint, nonce)
    request = PairRequest(
        token=token.id.hex(),
        certificate=own.certificate.pem.decode(),
        nonce=nonce.hex(),
        proof=keys.prove(signed),
        possession=own.sign(signed),
    )
    client = PeerClient(token.name, place, None, [certificate])  # shows no certificate: none is known there yet
    try:
        answer = await client.ask("POST", "/pair", request, response=PairAnswer)
    finally:
        await client.close()
    if not is_answer(keys.answer_key, answer.proof, signed):
        raise ApiError(
            502, "pairing-no-proof", f"{token.name} did not prove that it made the token; nothing is trusted here",
            f"on {token.name}, take back what it may have trusted: hacore pair revoke",
        )  # fmt: skip
    return certificate


async def confirm(token: Token, place: Endpoint, own: Place, certificate: Certificate) -> None:
    """Say over TLS with both certificates that this node is paired: its token is worth nothing from then on. Raises
    ApiError.
    """
    client = PeerClient(certificate.name, place, own, [certificate])
    try:
        await client.ask("POST", "/pair/confirm", PairConfirmation(token=token.id.hex()), response=Done)
    finally:
        await client.close()


async def _inviting(token: Token, place: Endpoint, now: float) -> Certificate:
    """The certificate that the node at `place` shows, if it is the one that the token names."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=tls.joining_context())
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True)
        writer.transport.abort()
    except (OSError, TimeoutError) as error:
        raise PeerClient(token.name, place, None, []).explain(error) from error
    try:
        shown = parse_der(der or b"")
    except BadCertificate as error:
        raise ApiError(502, "pairing-not-hacore", f"{place} shows {error}", "is this the [control] address?") from None
    if shown.fingerprint != token.fingerprint:
        raise ApiError(
            502, "pairing-other-node",
            f"{place} is not the node that made the token: it shows the certificate of {shown.name}, "
            f"{shown.fingerprint[:16]}..., not {token.fingerprint[:16]}...; nothing was sent",
            f"give --via the [control] address of {token.name}, or make a new token there",
        )  # fmt: skip
    if shown.name != token.name:
        raise ApiError(502, "pairing-other-node", f"{place} calls itself {shown.name}, and the token says {token.name}")
    try:
        check_dates(shown, now)
    except BadCertificate as error:
        raise ApiError(502, "bad-certificate", str(error), "are both clocks right?") from None
    return shown
