"""The invitations that a node has out, on its disk, and the judgement on each attempt to use one.

An invitation serves one node, once. Its answer may get lost: until the joined node has shown that it knows it is
paired (`confirm`), the same node with the same certificate may ask again.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from hacore.control.certificates import BadCertificate, Certificate, Identity, check_dates, parse
from hacore.control.pairing import NONCE_BYTES, Keys, answer, is_proved, transcript
from hacore.control.pairing_token import ID_BYTES, SECRET_BYTES, Token, encode
from hacore.control.problems import ApiError
from hacore.control.trust import TrustStore
from hacore.errors import PlatformError
from hacore.node.durable import write_durably

VALID_FOR = 900.0  # seconds
LONGEST_VALID_FOR = 86400.0
WRONG_ALLOWED = 5  # attempts with a wrong secret; then the token is worth nothing
NONCES_KEPT = 32  # of one invitation: more attempts than are ever let through
REMEMBERED = 86400.0  # seconds for which an expired or used one is told from one that never was
OPEN_AT_ONCE = 8


class Invitation(Struct, kw_only=True):
    """One token, without its secret. Bytes are in hex; `used_by` is a certificate's fingerprint."""

    id: str
    expires: float  # unix seconds
    join_public: str
    answer_key: str
    wrong: int = 0
    nonces: list[str] = []
    used_by: str = ""
    used_name: str = ""
    confirmed: bool = False

    def is_open_at(self, now: float) -> bool:
        """Whether a node can still join with it."""
        return not self.used_by and self.wrong < WRONG_ALLOWED and now <= self.expires


class PairRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/pair. `token` and `nonce` are in hex, `certificate` in PEM, the signatures in base 64."""

    token: str
    certificate: str
    nonce: str
    proof: bytes
    possession: bytes


class PairAnswer(Struct, frozen=True, kw_only=True):
    """Its answer: `proof` (in base 64) is the inviting node's."""

    name: str
    certificate: str
    proof: bytes


class Invitations:
    """Those of one node, in a file that only root reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Invitation] = {}
        try:
            found = msgspec.json.decode(path.read_bytes(), type=list[Invitation])
        except FileNotFoundError:
            found = []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PlatformError(f"{path}: {error}") from error
        self._known = {one.id: one for one in found}

    def open_ones(self, now: float) -> list[Invitation]:
        """Those that a node can still join with, the oldest first."""
        return [one for one in self._known.values() if one.is_open_at(now)]

    def invite(self, own: Certificate, now: float, valid_for: float = VALID_FOR) -> tuple[str, Invitation]:
        """A new token, and what is kept of it. Raises ApiError, PlatformError."""
        if not 1 <= valid_for <= LONGEST_VALID_FOR:
            raise ApiError(
                422, "bad-validity", f"a token is valid for 1 to {LONGEST_VALID_FOR:.0f} s, not {valid_for:g} s"
            )
        if len(self.open_ones(now)) >= OPEN_AT_ONCE:
            raise ApiError(
                409,
                "too-many-invitations",
                f"{OPEN_AT_ONCE} tokens are open already",
                "wait until they have expired, or use one",
            )
        secret, identifier = os.urandom(SECRET_BYTES), os.urandom(ID_BYTES)
        keys = Keys(secret)
        made = Invitation(
            id=identifier.hex(),
            expires=float(int(now + valid_for)),
            join_public=keys.join_public.hex(),
            answer_key=keys.answer_key.hex(),
        )
        self._known = {one.id: one for one in self._known.values() if now <= one.expires + REMEMBERED}
        self._known[made.id] = made
        self._save()
        return encode(Token(identifier, secret, int(made.expires), own.fingerprint, own.name)), made

    def accept(
        self, request: PairRequest, own: Identity, store: TrustStore, now: float
    ) -> tuple[PairAnswer, Certificate]:
        """Judge an attempt; when it is right, trust its certificate. Raises ApiError, PlatformError."""
        certificate = _certificate(request, own.certificate, now)
        invitation = self._known.get(request.token)
        if invitation is None:
            raise ApiError(
                403,
                "pairing-token-unknown",
                f"this node, {own.certificate.name}, did not issue the token",
                "join via the node on which the token was made, or make a new one: hacore pair invite",
            )
        self._check_use(invitation, request, certificate, now)
        signed = transcript(
            bytes.fromhex(invitation.id),
            own.certificate.fingerprint,
            certificate.fingerprint,
            bytes.fromhex(request.nonce),
        )
        self._check_proof(invitation, request, signed)
        if not certificate.verify(request.possession, signed):
            raise ApiError(
                403, "pairing-no-possession", "the certificate sent is not the sender's: its key did not sign"
            )
        trust = store.read()
        if invitation.used_by and trust.is_revoked(certificate.der):
            raise _used(invitation)
        trusted = trust.of(certificate.name)
        if certificate not in trusted and any(one.is_valid_at(now) for one in trusted):
            raise ApiError(
                409,
                "pairing-name-taken",
                f"{own.certificate.name} already trusts another certificate of a node named {certificate.name}",
                f"on {own.certificate.name}: hacore pair revoke {certificate.name}",
            )
        invitation.used_by, invitation.used_name = certificate.fingerprint, certificate.name
        invitation.nonces.append(request.nonce)
        self._save()
        if certificate not in trusted:
            store.keep_only(certificate)  # what had that name has expired
        proof = answer(bytes.fromhex(invitation.answer_key), signed)
        return PairAnswer(name=own.certificate.name, certificate=own.certificate.pem.decode(), proof=proof), certificate

    def confirm(self, token: str, certificate: Certificate) -> None:
        """The joined node knows that it is paired: its token is worth nothing any more. Raises ApiError."""
        invitation = self._known.get(token)
        if invitation is None or invitation.used_by != certificate.fingerprint:
            raise ApiError(404, "pairing-token-unknown", f"{certificate.name} did not join with this token")
        if not invitation.confirmed:
            invitation.confirmed = True
            self._save()

    def _check_use(self, invitation: Invitation, request: PairRequest, certificate: Certificate, now: float) -> None:
        if request.nonce in invitation.nonces:
            raise ApiError(403, "pairing-replayed", "this very request was made before: somebody repeats it")
        if invitation.wrong >= WRONG_ALLOWED:
            raise ApiError(
                403,
                "pairing-token-burnt",
                f"the token was tried {WRONG_ALLOWED} times with a wrong secret",
                "make a new one: hacore pair invite",
            )
        if invitation.used_by and (invitation.confirmed or invitation.used_by != certificate.fingerprint):
            raise _used(invitation)
        if now > invitation.expires:
            raise ApiError(
                403,
                "pairing-token-expired",
                f"the token expired {now - invitation.expires:.0f} s ago",
                "make a new one: hacore pair invite",
            )

    def _check_proof(self, invitation: Invitation, request: PairRequest, signed: bytes) -> None:
        if is_proved(bytes.fromhex(invitation.join_public), request.proof, signed):
            return
        invitation.wrong += 1
        if len(invitation.nonces) < NONCES_KEPT:
            invitation.nonces.append(request.nonce)
        self._save()
        left = WRONG_ALLOWED - invitation.wrong
        then = f"{left} attempts are left" if left else "the token is worth nothing any more"
        raise ApiError(403, "pairing-wrong-secret", f"the secret is wrong; {then}")

    def _save(self) -> None:
        try:
            os.makedirs(self._path.parent, mode=0o700, exist_ok=True)
            write_durably(self._path, msgspec.json.encode(list(self._known.values())), mode=0o600)
        except OSError as error:
            raise PlatformError(f"{error.filename or self._path}: {error.strerror}") from error


def _used(invitation: Invitation) -> ApiError:
    return ApiError(
        403,
        "pairing-token-used",
        f"the token was used already, by {invitation.used_name}",
        "a token serves once; make a new one: hacore pair invite",
    )


def _certificate(request: PairRequest, own: Certificate, now: float) -> Certificate:
    """The joining node's, if the request has the right form."""
    for what, text, size in (("token", request.token, ID_BYTES), ("nonce", request.nonce, NONCE_BYTES)):
        if len(text) != 2 * size or not set(text) <= set("0123456789abcdef"):
            raise ApiError(422, "bad-request", f"{what} must be {size} bytes in hex")
    if len(request.proof) != 64 or len(request.possession) > 80:
        raise ApiError(422, "bad-request", "proof must be 64 bytes and possession at most 80, in base 64")
    try:
        certificate = parse(request.certificate)
        check_dates(certificate, now)
    except BadCertificate as error:
        raise ApiError(422, "bad-certificate", str(error)) from error
    if certificate.der == own.der:
        raise ApiError(
            409,
            "pairing-own-token",
            f"this is {own.name} itself: a node does not join with its own token",
            "run hacore pair join on the other node",
        )
    if certificate.name == own.name:
        raise ApiError(
            409,
            "pairing-same-name",
            f"both nodes are called {own.name}",
            "give one of them another [node] name; a certificate is made anew for it",
        )
    return certificate
