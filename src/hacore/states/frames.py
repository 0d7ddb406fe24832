"""Frames of the stream between two nodes, to bytes and back. docs/wire-states.md describes each field.

A frame is its length (u32, of kind and body), its kind (u8) and its body; numbers are little endian. Any bytes end in
a value or in one `WireError`, whose `rung` is "length", "kind", "short", "long", "magic", "version", "text", "flags"
or "list".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.errors import WireError

MAX_FRAME: Final = 4 << 20
"""Bytes of kind and body: bounds the memory that a peer can claim with a length."""
MAX_NAME: Final = 64
MAX_REASON: Final = 400
FRAME_HEAD: Final = 5
SECRET_BYTES: Final = 32

Partitions = npt.NDArray[np.uint16]
Digests = npt.NDArray[np.uint64]
Body = bytes | memoryview

NO_PARTITIONS: Final[Partitions] = np.zeros(0, dtype=np.uint16)


class Kind(IntEnum):
    """What a frame says. Both: those up to SECRET. From the origin: those up to SYNC_END. From the replica: the
    rest.
    """

    HELLO = 1
    WELCOME = 2
    BYE = 3
    PING = 4
    PONG = 5
    SECRET = 6
    CHANGES = 16
    CLEAR = 17
    TAKEOVER = 18
    EXPECTATIONS = 19
    ROLE = 20
    RESUME = 32
    JUMP = 33
    DIGESTS = 34
    SYNC_BEGIN = 35
    SYNC_ROWS = 36
    SYNC_END = 37
    ACK = 48
    DIFFERENCES = 49
    WANT = 50


class Want(IntEnum):
    """What a replica asks for."""

    DIGESTS = 1
    BULK = 2


class Positioned(NamedTuple):
    """A frame of the log: its position, the origin's epoch, what it holds."""

    position: int
    epoch: int
    body: Body


class DigestsFrame(NamedTuple):
    """The origin's digests at `position` under `secret`: (partitions, 2)."""

    position: int
    secret: bytes
    digests: Digests


class SyncBegin(NamedTuple):
    """A bulk update (`partitions` empty) or a repair of `partitions` under the secret `secret`; `rows` it will have,
    roughly.
    """

    number: int
    position: int
    rows: int
    secret: bytes
    partitions: Partitions


class SyncRows(NamedTuple):
    """Chunk `chunk` (from 0) of sync `number`: rows of one epoch."""

    number: int
    chunk: int
    epoch: int
    body: Body


class SyncEnd(NamedTuple):
    """Sync `number` had so many chunks and rows."""

    number: int
    chunks: int
    rows: int


class Ack(NamedTuple):
    """Everything up to `position`, and so many parts (chunks, and the end) of sync `number`, is in the replica's
    kernel.
    """

    position: int
    number: int
    parts: int


class Differences(NamedTuple):
    """The partitions whose digests differ; `compared` False: not compared, the replica's `secret` is another one."""

    compared: bool
    secret: bytes
    partitions: Partitions


_FRAME = struct.Struct("<IB")
_POSITIONED = struct.Struct("<QI")
_JUMP = struct.Struct("<QIBI")
_RESUME = struct.Struct("<QQ")
_ROLE = struct.Struct("<BI")
_DIGESTS = struct.Struct("<Q32s")
_SYNC_BEGIN = struct.Struct("<IQI32s")
_SYNC_ROWS = struct.Struct("<III")
_ACK = struct.Struct("<QII")
_DIFFERENCES = struct.Struct("<B32s")
_EXPECTATIONS = struct.Struct("<BII")


def frame(kind: Kind, *parts: Body) -> bytes:
    """A whole frame.

    Raises:
        ValueError: it would be longer than `MAX_FRAME`.
    """
    length = 1 + sum(map(len, parts))
    if length > MAX_FRAME:
        raise ValueError(f"a frame has at most {MAX_FRAME} bytes, not {length}")
    return b"".join((_FRAME.pack(length, kind), *parts))


class FrameReader:
    """Puts frames together from a stream that comes in pieces of any size; holds at most one incomplete frame and the
    pieces of which `next` has not given everything.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._at = 0  # of the next frame

    def receive(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes of the stream."""
        del self._bytes[: self._at]
        self._at = 0
        self._bytes += data

    def next(self) -> tuple[Kind, bytes] | None:
        """The next frame, None where it is not whole.

        Raises:
            WireError: rung "length" or "kind".
        """
        start = self._at + FRAME_HEAD
        kind, end = self._look()
        if kind is None:
            return None
        self._at = end
        return kind, bytes(self._bytes[start:end])

    @property
    def has_frame(self) -> bool:
        """Whether `next` has something to give, or to raise."""
        try:
            return self._look()[0] is not None
        except WireError:
            return True

    def _look(self) -> tuple[Kind | None, int]:
        held, at = self._bytes, self._at
        if len(held) - at < FRAME_HEAD:
            return None, at
        length, number = _FRAME.unpack_from(held, at)
        if not 1 <= length <= MAX_FRAME:
            raise WireError("length", f"a frame of {length} bytes; it has 1 to {MAX_FRAME}", at)
        kind = _KINDS.get(number)
        if kind is None:
            raise WireError("kind", f"a frame of unknown kind {number}", at + 4)
        end = at + 4 + int(length)
        return (kind, end) if end <= len(held) else (None, at)


_KINDS = {int(kind): kind for kind in Kind}


def _unpack(form: struct.Struct, body: bytes) -> tuple[tuple[int, ...], bytes]:
    if len(body) < form.size:
        raise WireError("short", f"the frame ends early: {len(body)} bytes, {form.size} are needed", len(body))
    return form.unpack_from(body), body[form.size :]


def _whole(form: struct.Struct, body: bytes) -> tuple[int, ...]:
    values, rest = _unpack(form, body)
    if rest:
        raise WireError("long", f"the frame goes on after its end by {len(rest)} bytes", form.size)
    return values


def flag(value: int, most: int = 1) -> int:
    """A byte that is 0 or 1 (at most `most`)."""
    if value > most:
        raise WireError("flags", f"unknown flags {value:#x}")
    return value


def _partitions(body: bytes) -> Partitions:
    if len(body) % 2:
        raise WireError("list", "a list of partitions has an odd length", len(body))
    found = np.frombuffer(body, dtype="<u2")
    if len(found) > 1 and not (found[1:] > found[:-1]).all():
        raise WireError("list", "a list of partitions is not ascending")
    return found


def bye_frame(reason: str) -> bytes:
    """The last frame, with the one reason."""
    return frame(Kind.BYE, reason.encode()[:MAX_REASON])


def read_bye(body: bytes) -> str:
    """The body of a BYE, whatever it is, as printable text."""
    text = body[:MAX_REASON].decode(errors="replace")
    return "".join(char if char.isprintable() else "?" for char in text)


def role_body(master: bool, known: int) -> bytes:
    """This node is MASTER of something or not; the largest epoch it knows. Its own epoch is the frame's."""
    return _ROLE.pack(master, known)


def read_role(body: Body) -> tuple[bool, int]:
    """MASTER of something, largest epoch known."""
    master, known = _whole(_ROLE, bytes(body))
    return bool(flag(master)), known


def secret_frame(secret: bytes) -> bytes:
    """The secret that this node uses from now on: 32 bytes."""
    return frame(Kind.SECRET, secret)


def read_secret(body: bytes) -> bytes:
    """The body of a SECRET."""
    if len(body) != SECRET_BYTES:
        raise WireError("short" if len(body) < SECRET_BYTES else "long", "a secret has another length", len(body))
    return body


def positioned_frame(kind: Kind, position: int, epoch: int, *parts: Body) -> bytes:
    """A frame of the log: CHANGES, CLEAR, TAKEOVER, EXPECTATIONS or ROLE."""
    return frame(kind, _POSITIONED.pack(position, epoch), *parts)


def read_positioned(body: bytes) -> Positioned:
    """The body of a frame of the log."""
    if len(body) < _POSITIONED.size:
        raise WireError("short", "the frame ends early", len(body))
    position, epoch = _POSITIONED.unpack_from(body)
    return Positioned(position, epoch, memoryview(body)[_POSITIONED.size :])


def takeover_body(name: str, instance: bytes) -> bytes:
    """Whose rows are taken over."""
    return instance + name.encode()


def read_takeover(body: Body) -> tuple[str, bytes]:
    """Name and instance of the node whose rows are taken over."""
    raw = bytes(body)
    if not 17 <= len(raw) <= 16 + MAX_NAME:
        raise WireError("text", "a takeover names no node", len(raw))
    try:
        return raw[16:].decode(), raw[:16]
    except UnicodeDecodeError as error:
        raise WireError("text", "a node's name is not UTF-8") from error


def expectations_body(new: npt.NDArray[np.void], gone: npt.NDArray[np.void], *, whole: bool) -> bytes:
    """Expectations that came and went; `whole`: others than `new` there are not."""
    return _EXPECTATIONS.pack(whole, len(new), len(gone)) + new.tobytes() + gone.tobytes()


def read_expectations(body: Body) -> tuple[bool, npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Whole, new ones, gone ones."""
    (whole, new, gone), rest = _unpack(_EXPECTATIONS, bytes(body))
    if len(rest) != (new + gone) * EXPECTATION_DTYPE.itemsize:
        raise WireError("list", "expectations have another length than they say", len(rest))
    records = np.frombuffer(rest, dtype=EXPECTATION_DTYPE)
    return bool(flag(whole)), records[:new], records[new:]


def resume_frame(position: int, target: int) -> bytes:
    """The stream goes on after `position`; with `target` the replica has caught up."""
    return frame(Kind.RESUME, _RESUME.pack(position, target))


def read_resume(body: bytes) -> tuple[int, int]:
    """Position and target."""
    position, target = _whole(_RESUME, body)
    return position, target


def jump_frame(position: int, epoch: int, master: bool, known: int) -> bytes:
    """The stream goes on after `position`, and the replica misses what lies between; the origin's role and epochs are
    these.
    """
    return frame(Kind.JUMP, _JUMP.pack(position, epoch, master, known))


def read_jump(body: bytes) -> tuple[int, int, bool, int]:
    """Position, epoch, MASTER of something, largest epoch known."""
    position, epoch, master, known = _whole(_JUMP, body)
    return position, epoch, bool(flag(master)), known


def digests_frame(position: int, secret: bytes, digests: Digests) -> bytes:
    """The origin's digests of its own rows."""
    return frame(Kind.DIGESTS, _DIGESTS.pack(position, secret), digests.astype("<u8").tobytes())


def read_digests(body: bytes, partitions: int) -> DigestsFrame:
    """The body of a DIGESTS for so many partitions."""
    if len(body) != _DIGESTS.size + 16 * partitions:
        raise WireError("list", f"digests are not those of {partitions} partitions", len(body))
    position, secret = _DIGESTS.unpack_from(body)
    values = np.frombuffer(body, dtype="<u8", offset=_DIGESTS.size).reshape(partitions, 2)
    return DigestsFrame(position, secret, values)


def sync_begin_frame(begin: SyncBegin) -> bytes:
    """A bulk update or a repair begins."""
    head = _SYNC_BEGIN.pack(begin.number, begin.position, begin.rows, begin.secret)
    return frame(Kind.SYNC_BEGIN, head, begin.partitions.astype("<u2").tobytes())


def read_sync_begin(body: bytes) -> SyncBegin:
    """The body of a SYNC_BEGIN."""
    if len(body) < _SYNC_BEGIN.size:
        raise WireError("short", "the frame ends early", len(body))
    number, position, rows, secret = _SYNC_BEGIN.unpack_from(body)
    return SyncBegin(number, position, rows, secret, _partitions(body[_SYNC_BEGIN.size :]))


def sync_rows_frame(number: int, chunk: int, epoch: int, body: Body) -> bytes:
    """A chunk of a bulk update or a repair."""
    return frame(Kind.SYNC_ROWS, _SYNC_ROWS.pack(number, chunk, epoch), body)


def read_sync_rows(body: bytes) -> SyncRows:
    """The body of a SYNC_ROWS."""
    if len(body) < _SYNC_ROWS.size:
        raise WireError("short", "the frame ends early", len(body))
    number, chunk, epoch = _SYNC_ROWS.unpack_from(body)
    return SyncRows(number, chunk, epoch, memoryview(body)[_SYNC_ROWS.size :])


def sync_end_frame(end: SyncEnd) -> bytes:
    """The end of a bulk update or a repair."""
    return frame(Kind.SYNC_END, _SYNC_ROWS.pack(*end))


def read_sync_end(body: bytes) -> SyncEnd:
    """The body of a SYNC_END."""
    number, chunks, rows = _whole(_SYNC_ROWS, body)
    return SyncEnd(number, chunks, rows)


def ack_frame(ack: Ack) -> bytes:
    """What is in the replica's kernel."""
    return frame(Kind.ACK, _ACK.pack(*ack))


def read_ack(body: bytes) -> Ack:
    """The body of an ACK."""
    position, number, parts = _whole(_ACK, body)
    return Ack(position, number, parts)


def differences_frame(differences: Differences) -> bytes:
    """The replica's answer to digests."""
    head = _DIFFERENCES.pack(differences.compared, differences.secret)
    return frame(Kind.DIFFERENCES, head, differences.partitions.astype("<u2").tobytes())


def read_differences(body: bytes) -> Differences:
    """The body of a DIFFERENCES."""
    if len(body) < _DIFFERENCES.size:
        raise WireError("short", "the frame ends early", len(body))
    compared, secret = _DIFFERENCES.unpack_from(body)
    return Differences(bool(flag(compared)), secret, _partitions(body[_DIFFERENCES.size :]))


def want_frame(want: Want) -> bytes:
    """The replica asks for something."""
    return frame(Kind.WANT, bytes([want]))


def read_want(body: bytes) -> Want:
    """The body of a WANT."""
    if len(body) != 1 or body[0] not in (1, 2):
        raise WireError("flags", "the replica wants something unknown")
    return Want(body[0])


def read_empty(body: bytes) -> None:
    """The body of a PING or a PONG."""
    if body:
        raise WireError("long", "the frame has a body where there is none")
