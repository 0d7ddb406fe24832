"""The token that `hacore pair invite` prints: all that the other node needs to know whom it speaks to, in one word.

    version (1) · length (1) · id (6) · secret (16) · expires (4, unix seconds) · fingerprint (32) · name (1 to 64)
    · checksum (4: the first bytes of the SHA-256 of what comes before)

written in Crockford's base 32 (no I, L, O, U; case does not matter) in groups of six, after the word "hacore".
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from hacore.control.certificates import NAME
from hacore.errors import HacoreError

WORD = "hacore"
VERSION = 1
ID_BYTES, SECRET_BYTES, EXPIRES_BYTES, FINGERPRINT_BYTES, CHECK_BYTES = 6, 16, 4, 32, 4
FIXED_BYTES = 2 + ID_BYTES + SECRET_BYTES + EXPIRES_BYTES + FINGERPRINT_BYTES + CHECK_BYTES
GROUP = 6
LONGEST = 1024  # characters that are looked at
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_VALUES = {letter: value for value, letter in enumerate(ALPHABET)} | {"O": 0, "I": 1, "L": 1}


class BadToken(HacoreError):
    """A text that is no token, or one with a typing error."""

    exit_code = 65


class Token(NamedTuple):
    """What an invitation says. `fingerprint` is that of the inviting node's certificate, in hex; `expires` is unix
    seconds, by that node's clock.
    """

    id: bytes
    secret: bytes
    expires: int
    fingerprint: str
    name: str

    def __repr__(self) -> str:
        return f"Token(id={self.id.hex()}, name={self.name!r}, expires={self.expires})"  # the secret stays out of logs


def encode(token: Token) -> str:
    """The token as text."""
    name = token.name.encode()
    body = bytes([VERSION, FIXED_BYTES + len(name)]) + token.id + token.secret
    body += token.expires.to_bytes(EXPIRES_BYTES, "big") + bytes.fromhex(token.fingerprint) + name
    body += sha256(body).digest()[:CHECK_BYTES]
    letters = _letters(body)
    return "-".join([WORD, *(letters[at : at + GROUP] for at in range(0, len(letters), GROUP))])


def decode(text: str) -> Token:
    """The token in a text as people copy or type it. Raises BadToken with what is wrong."""
    whole = "".join(text.split()).replace("-", "").upper()
    if len(whole) > LONGEST or not whole.startswith(WORD.upper()):
        raise BadToken(f'this is no token of hacore: one begins with "{WORD}-"')
    letters = whole[len(WORD) :]
    for position, letter in enumerate(letters):
        if letter not in _VALUES:
            raise BadToken(f'the token has a typing error: group {position // GROUP + 1} holds "{letter}"')
    if len(letters) < 4:
        raise BadToken("the token is cut off")
    data = _bytes(letters)
    if data[0] != VERSION:
        # A typing error in the first letters, or another version of hacore: the checksum of a version not known here
        # cannot be looked at.
        raise BadToken(
            f"the token is of version {data[0]}, and this hacore knows {VERSION}: a typing error, or another "
            "version of hacore on the other node"
        )
    wanted = (data[1] * 8 + 4) // 5
    if len(letters) < wanted and data[1] > FIXED_BYTES:
        raise BadToken(f"the token is cut off: {len(letters)} of {wanted} letters are there")
    is_whole = len(letters) == wanted and not (_VALUES[letters[-1]] & (1 << (len(letters) * 5 - len(data) * 8)) - 1)
    if not is_whole or sha256(data[:-CHECK_BYTES]).digest()[:CHECK_BYTES] != data[-CHECK_BYTES:]:
        raise BadToken("the token has a typing error: its checksum is wrong")
    at = 2
    taken = []
    for size in (ID_BYTES, SECRET_BYTES, EXPIRES_BYTES, FINGERPRINT_BYTES):
        taken.append(data[at : at + size])
        at += size
    name = data[at:-CHECK_BYTES].decode("ascii", "replace")
    if not NAME.fullmatch(name):
        raise BadToken("the token names no node")
    return Token(taken[0], taken[1], int.from_bytes(taken[2], "big"), taken[3].hex(), name)


def _letters(data: bytes) -> str:
    count = (len(data) * 8 + 4) // 5
    number = int.from_bytes(data, "big") << (count * 5 - len(data) * 8)
    return "".join(ALPHABET[number >> (5 * place) & 31] for place in reversed(range(count)))


def _bytes(letters: str) -> bytes:
    number = 0
    for letter in letters:
        number = number << 5 | _VALUES[letter]
    size = len(letters) * 5 // 8
    return (number >> (len(letters) * 5 - size * 8)).to_bytes(size, "big")
