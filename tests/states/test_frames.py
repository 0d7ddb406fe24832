"""What was written is read; any bytes end in a value or a WireError, in any split; no session raises anything."""

from __future__ import annotations

import gc
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hacore._fast.codec import decode_changes, decode_chunk, encode_changes, encode_chunk
from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.errors import WireError
from hacore.states import frames, greeting
from hacore.states.frames import FRAME_HEAD, Ack, Differences, FrameReader, Kind, SyncBegin, SyncEnd, Want
from hacore.states.gather import NO_KEYS, NO_ROWS, keys
from hacore.states.greeting import Hello, Welcome
from hacore.states.layout import empty_rows
from hacore.states.receiver import ReceiverSession
from hacore.states.sender import SenderSession
from tests.oracle.states import sealed
from tests.states.simulation import NEW, Node, World, rows

ROOT = Path(__file__).parent.parent.parent
CORPUS = ROOT / "tests" / "corpus"

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
BYTES16, BYTES32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=16)
HELLOS = st.builds(Hello, NAMES, BYTES16, U32, U32, st.booleans(), BYTES32, st.integers(1, 65_536))
PARTITIONS = st.sets(st.integers(0, 65_535), max_size=20).map(lambda found: np.array(sorted(found), dtype=np.uint16))

CHUNK_AT, CHUNK_LEAST = 12, 24
"""Where chunks begin in CHANGES and SYNC_ROWS, and what they have at least: head and padding."""
CHUNK_KINDS = {Kind.CHANGES: b"C", Kind.SYNC_ROWS: b"R"}


def rechecked(kind: Kind, content: bytes) -> bytes:
    """The body of a frame, whose chunk has the right head, padding and checksum: only what is inside may be wrong."""
    chunk = content[CHUNK_AT:]
    if kind not in CHUNK_KINDS or len(chunk) < CHUNK_LEAST:
        return content
    return content[:CHUNK_AT] + sealed(b"\x01" + CHUNK_KINDS[kind] + bytes(2) + chunk[4:-8] + bytes(8))


def read_changes(content: bytes) -> Any:
    """With the chunk, taken for updates of empty rows."""
    changes = decode_changes(frames.read_positioned(content).body)
    return changes.apply(empty_rows(max(len(changes.updated_names), len(changes.updated_keys))))


READERS: dict[Kind, Any] = {
    Kind.HELLO: greeting.read_hello,
    Kind.WELCOME: greeting.read_welcome,
    Kind.BYE: frames.read_bye,
    Kind.PING: frames.read_empty,
    Kind.PONG: frames.read_empty,
    Kind.SECRET: frames.read_secret,
    Kind.CHANGES: read_changes,
    Kind.CLEAR: frames.read_positioned,
    Kind.TAKEOVER: frames.read_takeover,
    Kind.EXPECTATIONS: frames.read_expectations,
    Kind.ROLE: frames.read_role,
    Kind.RESUME: frames.read_resume,
    Kind.JUMP: frames.read_jump,
    Kind.DIGESTS: lambda body: frames.read_digests(body, 4),
    Kind.SYNC_BEGIN: frames.read_sync_begin,
    Kind.SYNC_ROWS: lambda body: decode_chunk(frames.read_sync_rows(body)[3]),
    Kind.SYNC_END: frames.read_sync_end,
    Kind.ACK: frames.read_ack,
    Kind.DIFFERENCES: frames.read_differences,
    Kind.WANT: frames.read_want,
}


def body(frame: bytes) -> bytes:
    return frame[FRAME_HEAD:]


@given(HELLOS, BYTES16, U64, U32, st.booleans())
def test_hello(hello: Hello, instance: bytes, position: int, count: int, complete: bool) -> None:
    assert greeting.read_hello(body(greeting.hello_frame(hello))) == hello
    welcome = Welcome(hello, instance, position, count, complete)
    assert greeting.read_welcome(body(greeting.welcome_frame(welcome))) == welcome


@given(U64, U64, U32, U32, st.booleans(), BYTES32, PARTITIONS)
def test_round_trips(
    first: int, second: int, third: int, fourth: int, flag: bool, secret: bytes, partitions: frames.Partitions
) -> None:
    assert frames.read_resume(body(frames.resume_frame(first, second))) == (first, second)
    assert frames.read_jump(body(frames.jump_frame(first, third, flag, fourth))) == (first, third, flag, fourth)
    assert frames.read_ack(body(frames.ack_frame(Ack(first, third, fourth)))) == Ack(first, third, fourth)
    assert frames.read_sync_end(body(frames.sync_end_frame(SyncEnd(third, fourth, 7)))) == SyncEnd(third, fourth, 7)
    assert frames.read_role(frames.role_body(flag, third)) == (flag, third)
    assert frames.read_want(body(frames.want_frame(Want.BULK))) is Want.BULK
    assert frames.read_secret(body(frames.secret_frame(secret))) == secret
    begin = SyncBegin(third, first, fourth, secret, partitions)
    read = frames.read_sync_begin(body(frames.sync_begin_frame(begin)))
    assert read[:4] == begin[:4]
    assert read.partitions.tolist() == partitions.tolist()
    differences = frames.read_differences(body(frames.differences_frame(Differences(flag, secret, partitions))))
    assert (differences.compared, differences.secret) == (flag, secret)
    assert differences.partitions.tolist() == partitions.tolist()
    digests = np.arange(8, dtype=np.uint64).reshape(4, 2) + np.uint64(third)
    told = frames.read_digests(body(frames.digests_frame(first, secret, digests)), 4)
    assert (told.position, told.secret, told.digests.tolist()) == (first, secret, digests.tolist())


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=50)), max_size=10), st.data())
def test_any_split(sent: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frames.frame(kind, content) for kind, content in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = FrameReader()
    found: list[tuple[Kind, bytes]] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.receive(stream[start:end])
        for _ in range(data.draw(st.integers(0, 3))):
            has_frame = reader.has_frame
            frame = reader.next()
            assert has_frame == (frame is not None)
            found += [frame] if frame is not None else []
    found += iter(reader.next, None)
    assert found == sent
    assert not reader.has_frame


def test_frame_too_long() -> None:
    with pytest.raises(ValueError, match="a frame has at most"):
        frames.frame(Kind.CHANGES, bytes(frames.MAX_FRAME))


@pytest.mark.parametrize("text", ["", "x" * 65])
def test_name_of_no_possible_length(text: str) -> None:
    hello = Hello(text, bytes(16), 0, 0, False, bytes(32), 16)
    with pytest.raises(ValueError, match="a node's name"):
        greeting.hello_frame(hello)


def read_any(kind: Kind, content: bytes) -> None:
    """A value or a WireError."""
    with suppress(WireError):
        READERS[kind](content)


class Target:
    """Both ends of a synced connection, to be fed with anything; made anew when one has ended."""

    def __init__(self) -> None:
        self.lives = 0
        self.renew()

    def renew(self) -> None:
        self.lives += 1
        if self.lives % 100 == 0:
            gc.collect()  # a world is a cycle with a megabyte of tables, which the collector does not know of
        self.world = World(Node("a", partitions=4, max_states=500), Node("b", partitions=4, max_states=500))
        self.world["a"].machine.set_master(True, self.world.now)
        self.connection = self.world.connect("a", "b")
        self.world["a"].sees(rows(range(5)), NEW, self.world.now)
        self.world.settle()
        self.kernel = dict(self.world["b"].kernel)

    def fitting(self, kind: Kind, content: bytes) -> bytes:
        """The same with the position, the epoch, the numbers and the checksum with which it is looked at further."""
        receiver, a = self.connection.receiver, self.world["a"].machine
        node = self.world["b"].machine.ownership.node("a")
        assert node is not None
        position = self.world["b"].machine.replica.following(node).position
        if kind in (Kind.CHANGES, Kind.CLEAR, Kind.TAKEOVER, Kind.EXPECTATIONS):
            content = struct.pack("<QI", position + 1, node.epoch) + content[12:]
        elif kind is Kind.SYNC_BEGIN:
            content = struct.pack("<IQ", receiver._number + 1, position) + content[12:16] + a.secret + content[48:]
        elif kind is Kind.SYNC_ROWS:
            content = struct.pack("<III", receiver._number, receiver._parts, node.epoch) + content[12:]
        elif kind is Kind.SYNC_END:
            content = struct.pack("<III", receiver._number, receiver._parts, receiver._rows)
        elif kind is Kind.DIGESTS:
            content = struct.pack("<Q", position) + a.secret + content[40:]
        return rechecked(kind, content)

    def feed(self, kind: Kind, content: bytes, *, fits: bool = False) -> None:
        connection, world = self.connection, self.world
        sessions: list[ReceiverSession | SenderSession] = [connection.receiver, connection.sender]
        if fits:  # to the side that takes it, too: the other one ends the connection
            content = self.fitting(kind, content)
            sessions = sessions[1:] if kind in (Kind.ACK, Kind.DIFFERENCES, Kind.WANT) else sessions[:1]
        data = frames.frame(kind, content)
        for session in sessions:
            session.receive(data, world.now)
            session.data_to_send(world.now)
            while session.waits:
                session.go_on(world.now)
        for node in world.nodes.values():
            node.put_into_kernel(world.now)
        if connection.receiver.ended or connection.sender.ended:
            self.renew()


def expected(port: int) -> Any:
    """One expectation."""
    made = np.zeros(1, dtype=EXPECTATION_DTYPE)
    made["family"], made["protocol"], made["master_protocol"], made["destination_port"] = 2, 6, 6, port
    return made


def changes(**names: Any) -> bytes:
    """One row new, one changed and one gone, by key or by name."""
    gone = NO_KEYS if names else keys(rows([2]))
    return body(
        frames.positioned_frame(
            Kind.CHANGES, 3, 1, encode_changes(rows([9]), rows([1]), rows([1], mark=7), gone, **names)
        )
    )


KNOWN = [Node("b").machine.table]  # with the rows and the names of the target's nodes
KNOWN[0].rekey(Node("b").machine.secret[16:], Node("b").machine.secret[:16])
KNOWN[0].put(rows(range(5)), owner=1)
NAMED = KNOWN[0].names(rows(range(5)))[0]

VALID = [
    changes(),
    changes(updated_names=NAMED[1:2], deleted_names=NAMED[2:3]),
    body(frames.positioned_frame(Kind.CHANGES, 3, 1, encode_changes(rows(range(20, 30)), NO_ROWS, NO_ROWS, NO_KEYS))),
    body(
        frames.positioned_frame(
            Kind.EXPECTATIONS, 3, 1, frames.expectations_body(expected(20), expected(21), whole=False)
        )
    ),
    body(
        frames.positioned_frame(
            Kind.EXPECTATIONS, 3, 1, frames.expectations_body(expected(20), expected(21)[:0], whole=True)
        )
    ),
    body(frames.sync_rows_frame(1, 0, 1, encode_chunk(rows([3])))),
    body(frames.sync_rows_frame(1, 0, 1, encode_chunk(rows(range(40), mark=3)))),
    body(frames.digests_frame(2, bytes(32), np.zeros((4, 2), np.uint64))),
    body(frames.differences_frame(Differences(True, bytes(32), np.array([1], np.uint16)))),
    body(frames.sync_begin_frame(SyncBegin(3, 2, 5, bytes(32), np.zeros(0, np.uint16)))),
    body(frames.sync_begin_frame(SyncBegin(3, 2, 5, bytes(32), np.array([1], np.uint16)))),
    body(frames.ack_frame(Ack(2, 1, 1))),
    body(frames.jump_frame(9, 1, True, 1)),
    body(frames.resume_frame(2, 2)),
    body(frames.sync_end_frame(SyncEnd(3, 0, 0))),
    body(frames.sync_rows_frame(3, 0, 1, bytes(30))),
    body(frames.positioned_frame(Kind.CLEAR, 3, 1)),
    body(frames.positioned_frame(Kind.ROLE, 3, 1, frames.role_body(False, 4))),
    body(frames.positioned_frame(Kind.TAKEOVER, 3, 2, frames.takeover_body("b", bytes(16)))),
    body(frames.want_frame(Want.BULK)),
]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Kind)), st.one_of(st.binary(max_size=80), st.sampled_from(VALID)), st.booleans()
        ),
        max_size=8,
    )
)
def test_sessions_take_any_frames(sent: list[tuple[Kind, bytes, bool]]) -> None:
    target = Target()
    for kind, content, fits in sent:
        target.feed(kind, content, fits=fits)


def test_what_fits_gets_behind_the_checks() -> None:
    """Else the campaigns would try only those."""
    target = Target()
    machine = target.world["b"].machine
    for content in VALID[:3]:
        target.feed(Kind.CHANGES, content, fits=True)
    table = target.world["b"].table()
    assert len(table) == 15, "one came, ten came, one went"
    for content in VALID[3:5]:
        target.feed(Kind.EXPECTATIONS, content, fits=True)
    node = machine.ownership.node("a")
    assert node is not None
    assert len(machine.replica.following(node).expectations.all(0.0)) == 1
    target.feed(Kind.SYNC_BEGIN, VALID[9], fits=True)
    for content in VALID[5:7]:
        target.feed(Kind.SYNC_ROWS, content, fits=True)
    target.feed(Kind.SYNC_END, b"", fits=True)
    assert len(target.world["b"].table()) == 40
    assert target.lives == 1


def spoil(inputs: int, seed: int) -> None:
    """Random bodies and spoiled valid ones, every tenth through both ends of a connection."""
    random = np.random.default_rng(seed)
    target = Target()
    kinds = list(Kind)
    for number in range(inputs):
        choice = int(random.integers(2 * len(VALID)))
        content = bytearray(VALID[choice] if choice < len(VALID) else random.bytes(int(random.integers(90))))
        for at in random.integers(0, 256, int(random.integers(3))):
            if content:
                content[at % len(content)] = int(random.integers(256))
        kind = kinds[random.integers(len(kinds))]
        read_any(kind, rechecked(kind, bytes(content)) if number % 4 == 0 else bytes(content))
        if number % 10 == 0:
            target.feed(kind, bytes(content), fits=number % 20 == 0)


def test_20_000_spoiled_frames() -> None:
    spoil(20_000, 1)


@pytest.mark.soak
def test_a_million_spoiled_frames() -> None:
    spoil(1_000_000, 2)


def test_what_the_fuzzer_found() -> None:
    target, kinds, inputs = Target(), list(Kind), sorted((CORPUS / "frames").iterdir())
    for path in inputs:
        data = path.read_bytes()
        if len(data) >= 2:
            read_any(kinds[data[0] % len(kinds)], data[2:])
            target.feed(kinds[data[0] % len(kinds)], data[2:], fits=data[1] & 128 != 0)
    assert len(inputs) > 50


@pytest.mark.soak
def test_a_million_frames_by_coverage() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "fuzz_frames.py"), "-runs=1000000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Done 1000000 runs" in done.stderr


@pytest.mark.soak
def test_the_sanitizers_find_nothing_in_a_million_frames() -> None:
    arguments = ["tests/states/test_frames.py", "-m", "soak", "-k", "spoiled", "--timeout=0"]
    command = [str(ROOT / "tools" / "sanitized-tests"), *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable})
