"""What two nodes prove to each other when one joins with the other's token.

Both know the token's secret; neither says it. Everything that is signed is bound to this one exchange by its
transcript: the token's id, both certificates' fingerprints and a number that the joining node has made up.

    joining node    proof       Ed25519, by a key derived from the secret       it was given the token
                    possession  ECDSA, by its certificate's key                 the certificate is its own
    inviting node   answer      HMAC-SHA256, by another key derived from it     it made the token

The inviting node keeps the public half of the first key and the second key, not the secret: what is on its disk does
not suffice to join. That the inviting node holds its certificate's key is proved by TLS, whose certificate the joining
node has compared with the token's fingerprint before it said anything.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NONCE_BYTES = 32

_TRANSCRIPT = b"hacore pairing 1\0"
_RENEWAL = b"hacore renewal 1\0"


class Keys:
    """What follows from a secret, on the node that knows it."""

    def __init__(self, secret: bytes) -> None:
        self._join = Ed25519PrivateKey.from_private_bytes(sha256(b"hacore pairing 1 join\0" + secret).digest())
        self.answer_key = sha256(b"hacore pairing 1 answer\0" + secret).digest()

    @property
    def join_public(self) -> bytes:
        """For the one who is to judge the proof: 32 bytes."""
        return self._join.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def prove(self, transcript: bytes) -> bytes:
        """The joining node's proof: 64 bytes."""
        return self._join.sign(transcript)


def transcript(token_id: bytes, inviting: str, joining: str, nonce: bytes) -> bytes:
    """What both sides sign; the certificates by their fingerprints, in hex."""
    return _TRANSCRIPT + token_id + bytes.fromhex(inviting) + bytes.fromhex(joining) + nonce


def is_proved(join_public: bytes, proof: bytes, signed: bytes) -> bool:
    """Whether the proof was made with the secret that belongs to this public key."""
    try:
        Ed25519PublicKey.from_public_bytes(join_public).verify(proof, signed)
    except InvalidSignature:
        return False
    return True


def answer(answer_key: bytes, signed: bytes) -> bytes:
    """The inviting node's proof: 32 bytes."""
    return hmac.new(answer_key, signed, sha256).digest()


def is_answer(answer_key: bytes, given: bytes, signed: bytes) -> bool:
    """Whether the answer was made with the secret."""
    return hmac.compare_digest(answer(answer_key, signed), given)


def renewal(old: str, new: str, receiver: str) -> bytes:
    """What the new key signs when a node hands its new certificate to the node named `receiver`: fingerprints in
    hex.
    """
    return _RENEWAL + bytes.fromhex(old) + bytes.fromhex(new) + receiver.encode()
