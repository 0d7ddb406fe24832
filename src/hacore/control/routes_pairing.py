"""What another node asks in order to be paired, and to go on being so with a new certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.control.invitations import PairAnswer, PairRequest
from hacore.control.joining import PairConfirmation
from hacore.control.pairs import Pairs
from hacore.control.registry import Call, Route
from hacore.control.schemas import Done

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

PAIR_BODY_BYTES = 32 << 10


class CertificateGiven(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of PUT /v1/certificate: in PEM, with its key's signature (DER, in base 64) over the renewal's transcript."""

    certificate: str
    possession: bytes


class CertificatesKnown(Struct, frozen=True, kw_only=True):
    """The fingerprints (SHA-256, hex) of the certificates of the asking node that are trusted now."""

    fingerprints: list[str]


def routes(worker: ControlWorker) -> list[Route]:
    """Served to the peers, and the first one to anyone."""
    pairs = worker.part(Pairs)

    async def pair(call: Call) -> PairAnswer:
        return await pairs.accept(call.body, call.request.remote or "?")

    async def confirm(call: Call) -> Done:
        await pairs.confirm(call.body.token, call.peer, call.certificate)
        return Done()

    async def certificate(call: Call) -> CertificatesKnown:
        body: CertificateGiven = call.body
        trust = await pairs.take_certificate(call.peer, call.certificate, body.certificate, body.possession)
        return CertificatesKnown(fingerprints=[one.fingerprint for one in trust.of(call.peer)])

    return [
        Route(
            "POST", "/pair", pair, "Join with a token", request=PairRequest, response=PairAnswer, needs="anyone",
            body_bytes=PAIR_BODY_BYTES,
        ),
        Route("POST", "/pair/confirm", confirm, "The joined node knows that it is paired", request=PairConfirmation,
              response=Done),
        Route("PUT", "/certificate", certificate, "The asking node's next, or present, certificate",
              request=CertificateGiven, response=CertificatesKnown, body_bytes=PAIR_BODY_BYTES),
    ]  # fmt: skip
