"""Who may use the status page: people with passwords, and programs with tokens, in one file that is root's alone.

The command line writes it, the page looks at it anew whenever it changed. A password is kept as its scrypt hash, a
token as its SHA-256: it is 256 random bits, which nobody guesses.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hacore.errors import HacoreError, PlatformError
from hacore.node.durable import write_durably
from hacore.node.event import NOT_JSON

FILE = "web/access.json"
LOCK = "web/access.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
SALT_BYTES = 16
#: 32 MiB and some 80 ms for each guess (RFC 7914).
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
SCRYPT_MEMORY_BYTES = 64 << 20
TOKEN_PREFIX = "hacore_"
LARGEST_FILE_BYTES = 4 << 20

Role = Literal["viewer", "administrator"]
ROLES: tuple[Role, ...] = ("viewer", "administrator")


class AccessError(HacoreError):
    """A user or token that cannot be as it was asked for; the message says why."""

    exit_code = 65


class User(Struct, frozen=True, kw_only=True):
    """A person. `hash` is scrypt(password, `salt`), both in hex; `changed` is when the password was set (unix)."""

    name: str
    role: Role
    salt: str
    hash: str
    changed: float


class Token(Struct, frozen=True, kw_only=True):
    """A program: the SHA-256 of its token, in hex, and when it was made (unix)."""

    name: str
    role: Role
    sha256: str
    made: float


class Access(Struct, frozen=True, kw_only=True):
    """Everybody, by name."""

    users: dict[str, User] = {}
    tokens: dict[str, Token] = {}

    def user_of(self, name: str, password: str) -> User | None:
        """The user, if this is the password. It takes the same time whether or not there is such a user.

        Raises nothing; takes some 80 ms and 32 MiB, so it is called in a thread.
        """
        user = self.users.get(name, _NOBODY)
        right = hmac.compare_digest(_hash(password, bytes.fromhex(user.salt)), user.hash)
        return user if right and user is not _NOBODY else None

    def token_of(self, text: str) -> Token | None:
        """The token that this is."""
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        found = None
        for token in self.tokens.values():
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found


class AccessFile:
    """The file in `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self._lock = state_dir / LOCK

    def mark(self) -> tuple[int, int, int]:
        """Another one after each change."""
        try:
            status = os.stat(self.path)
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def read(self) -> Access:
        """Nobody where there is no file; raises PlatformError."""
        try:
            with open(self.path, "rb") as stream:
                return msgspec.json.decode(stream.read(LARGEST_FILE_BYTES), type=Access)
        except FileNotFoundError:
            return Access()
        except OSError as error:
            raise PlatformError(f"{self.path}: {error.strerror}") from None
        except NOT_JSON as error:
            raise PlatformError(f"{self.path} is damaged ({error}); remove it and add the users again") from None

    @contextmanager
    def _alone(self) -> Iterator[Access]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise PlatformError(f"{self._lock}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.read()
        finally:
            os.close(lock)

    def _write(self, access: Access) -> None:
        try:
            write_durably(self.path, msgspec.json.format(msgspec.json.encode(access)) + b"\n", mode=0o600)
        except OSError as error:
            raise PlatformError(f"{self.path}: {error.strerror}") from None

    def set_user(self, name: str, role: Role | None, password: str) -> bool:
        """Adds a user, or gives one another password (and role, unless None); whether the user is new.

        Raises AccessError for a name or password that will not do, PlatformError where the file cannot be written.
        """
        _check_name(name)
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise AccessError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
        salt = secrets.token_bytes(SALT_BYTES)
        with self._alone() as access:
            old = access.users.get(name)
            user = User(
                name=name, role=role or (old.role if old else "viewer"), salt=salt.hex(), hash=_hash(password, salt),
                changed=time.time(),
            )  # fmt: skip
            self._write(replace(access, users=access.users | {name: user}))
            return old is None

    def remove_user(self, name: str) -> None:
        """Raises AccessError where there is none, PlatformError."""
        with self._alone() as access:
            if name not in access.users:
                raise AccessError(f'there is no user "{name}"; there are: {", ".join(access.users) or "none"}')
            self._write(replace(access, users={key: user for key, user in access.users.items() if key != name}))

    def add_token(self, name: str, role: Role) -> str:
        """The new token, which is nowhere else. Raises AccessError where there is one of this name, PlatformError."""
        _check_name(name)
        text = TOKEN_PREFIX + secrets.token_urlsafe(32)
        with self._alone() as access:
            if name in access.tokens:
                raise AccessError(f'there is a token "{name}"; remove it first: hacore web token remove {name}')
            digest = hashlib.sha256(text.encode()).hexdigest()
            token = Token(name=name, role=role, sha256=digest, made=time.time())
            self._write(replace(access, tokens=access.tokens | {name: token}))
        return text

    def remove_token(self, name: str) -> None:
        """Raises AccessError where there is none, PlatformError."""
        with self._alone() as access:
            if name not in access.tokens:
                raise AccessError(f'there is no token "{name}"; there are: {", ".join(access.tokens) or "none"}')
            self._write(replace(access, tokens={key: one for key, one in access.tokens.items() if key != name}))


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise AccessError(f"{name!r}: a name has 1 to 64 letters, digits, dots, dashes or underscores")


def _hash(password: str, salt: bytes) -> str:
    return hashlib.scrypt(
        password.encode(errors="replace"), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=SCRYPT_MEMORY_BYTES,
        dklen=32,
    ).hex()  # fmt: skip


_NOBODY = User(name="", role="viewer", salt="00" * SALT_BYTES, hash="00" * 32, changed=0.0)
