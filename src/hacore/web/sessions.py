"""Who is signed in. Sessions live in this process alone: a restart of the worker signs everybody out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

#: Seconds without any request; a page that stays open counts as one.
IDLE = 1800.0
#: Seconds after which one has to sign in again in any case.
LONGEST = 12 * 3600.0
#: Of one user: the one used longest ago ends. Bounds the memory.
SESSIONS_PER_USER = 20
TOKEN_BYTES = 32


@dataclass(slots=True)
class Session:
    """`opened`, `used`: monotonic seconds. `address` is where it was opened from. `token` is what forms have to bring.

    `changed` is that of the user's password when it was opened.
    """

    user: str
    changed: float
    address: str
    opened: float
    used: float
    token: bytes
    ended: bool = False

    def masked_token(self) -> str:
        """For a form: another text each time, so that nothing secret repeats in what is compressed."""
        mask = secrets.token_bytes(TOKEN_BYTES)
        return urlsafe_b64encode(mask + _xor(mask, self.token)).decode()

    def takes(self, masked: str) -> bool:
        """Whether a form came from a page of this session."""
        try:
            data = urlsafe_b64decode(masked.encode("ascii"))
        except ValueError:
            return False
        mask, token = data[:TOKEN_BYTES], data[TOKEN_BYTES:]
        return len(data) == 2 * TOKEN_BYTES and hmac.compare_digest(_xor(mask, token), self.token)

    def is_over(self, now: float) -> bool:
        """Whether it was ended, or its time is up."""
        return self.ended or now - self.used > IDLE or now - self.opened > LONGEST


class Sessions:
    """All of them, by the SHA-256 of what their cookie holds."""

    def __init__(self) -> None:
        self._open: dict[bytes, Session] = {}

    def open(self, user: str, changed: float, address: str, now: float) -> str:
        """A new session; returns what the cookie is to hold."""
        self.sweep(now)
        own = sorted((one.used, key) for key, one in self._open.items() if one.user == user)
        for _used, key in own[: max(0, len(own) + 1 - SESSIONS_PER_USER)]:
            self._open.pop(key).ended = True
        cookie = secrets.token_urlsafe(32)
        self._open[_key(cookie)] = Session(user, changed, address, now, now, secrets.token_bytes(TOKEN_BYTES))
        return cookie

    def find(self, cookie: str, now: float) -> Session | None:
        """The session that is open under this cookie, used now."""
        session = self._open.get(_key(cookie)) if cookie else None
        if session is None or session.is_over(now):
            return None
        session.used = now
        return session

    def close(self, session: Session) -> None:
        """Signed out."""
        session.ended = True
        self._open = {key: one for key, one in self._open.items() if one is not session}

    def keep(self, passwords: dict[str, float]) -> None:
        """Ends those of users who are gone or whose password was set at another time than in `passwords`."""
        for session in list(self._open.values()):
            if passwords.get(session.user) != session.changed:
                self.close(session)

    def sweep(self, now: float) -> None:
        """Forgets those whose time is up."""
        self._open = {key: one for key, one in self._open.items() if not one.is_over(now)}


def _key(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode(errors="replace")).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=False))
