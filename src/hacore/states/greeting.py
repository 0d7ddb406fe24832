"""The first frames of a connection: who speaks, and what the replica has. docs/wire-states.md describes each field."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from hacore.errors import WireError
from hacore.states.frames import MAX_NAME, Kind, flag, frame

MAGIC: Final = b"hcst"
VERSION: Final = 1

_HELLO = struct.Struct("<16sIIBHB32s")
_WELCOME = struct.Struct("<16sQIB")


class Hello(NamedTuple):
    """Who speaks: `instance` is 16 bytes, `secret` 32, `known` the largest epoch that this node has heard of."""

    name: str
    instance: bytes
    epoch: int
    known: int
    master: bool
    secret: bytes
    partitions: int


class Welcome(NamedTuple):
    """The answer to a hello: who answers, and what it has of the other's rows.

    `position` of the other's `instance` is applied; `complete` says that no change up to it is missing.
    """

    hello: Hello
    instance: bytes
    position: int
    rows: int
    complete: bool


def _hello_bytes(hello: Hello) -> bytes:
    name = hello.name.encode()
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a node's name has 1 to {MAX_NAME} bytes, not {len(name)}")
    fixed = _HELLO.pack(
        hello.instance, hello.epoch, hello.known, hello.master, hello.partitions - 1, len(name), hello.secret
    )
    return MAGIC + struct.pack("<H", VERSION) + fixed + name


def _read_hello(body: bytes) -> tuple[Hello, bytes]:
    if body[:4] != MAGIC:
        raise WireError("magic", "the other side does not speak this protocol")
    if len(body) < 6:
        raise WireError("short", "the hello ends early", len(body))
    (version,) = struct.unpack_from("<H", body, 4)
    if version != VERSION:
        raise WireError("version", f"the other node speaks version {version} of the protocol, this one {VERSION}", 4)
    if len(body) < 6 + _HELLO.size:
        raise WireError("short", "the hello ends early", len(body))
    instance, epoch, known, master, partitions, length, secret = _HELLO.unpack_from(body, 6)
    rest = body[6 + _HELLO.size :]
    if not 1 <= length <= MAX_NAME or len(rest) < length:
        raise WireError("text", "the hello's name has no possible length")
    try:
        name = rest[:length].decode()
    except UnicodeDecodeError as error:
        raise WireError("text", "the hello's name is not UTF-8") from error
    if not name.isprintable():
        raise WireError("text", "the hello's name is not printable")
    return Hello(name, instance, epoch, known, bool(flag(master)), secret, partitions + 1), rest[length:]


def hello_frame(hello: Hello) -> bytes:
    """The first frame of who dialled."""
    return frame(Kind.HELLO, _hello_bytes(hello))


def read_hello(body: bytes) -> Hello:
    """The body of a HELLO."""
    hello, rest = _read_hello(body)
    if rest:
        raise WireError("long", f"the hello goes on after its end by {len(rest)} bytes")
    return hello


def welcome_frame(welcome: Welcome) -> bytes:
    """The first frame of who was dialled."""
    tail = _WELCOME.pack(welcome.instance, welcome.position, welcome.rows, welcome.complete)
    return frame(Kind.WELCOME, _hello_bytes(welcome.hello), tail)


def read_welcome(body: bytes) -> Welcome:
    """The body of a WELCOME."""
    hello, rest = _read_hello(body)
    if len(rest) != _WELCOME.size:
        raise WireError("short" if len(rest) < _WELCOME.size else "long", "the welcome has another length", len(body))
    instance, position, rows, complete = _WELCOME.unpack(rest)
    return Welcome(hello, instance, position, rows, bool(flag(complete)))
