"""Long campaigns: random and nearly right bytes by the thousand, and the same tests under the sanitizers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from hacore._fast.advert import AdvertKey, advert_frame, parse_frame, select_sha1, sha1_implementations
from hacore.errors import WireError
from tests.oracle import carp as oracle

pytestmark = pytest.mark.soak

ROUNDS = 300_000
SECRET, ADDRESSES = b"secret", ["10.66.0.100", "2001:db8::1", "fe80::1"]


def spoiled(source: random.Random, good: bytes) -> bytes:
    """The bytes with some of them changed, cut short or made longer."""
    edited = bytearray(good)
    for _ in range(source.choice((0, 1, 1, 2, 8))):
        edited[source.randrange(len(edited))] = source.choice((source.randrange(256), 0, 0xFF, 0x45, 0x60, 44, 112))
    return bytes(edited[: source.choice((len(edited), source.randrange(len(edited) + 1)))]) + source.randbytes(
        source.choice((0, 0, 18))
    )


@pytest.mark.parametrize("name", sha1_implementations())
@pytest.mark.parametrize("seed", [1, 2])
def test_adverts_end_as_in_the_definition(name: str, seed: int) -> None:
    source = random.Random(seed)
    key = AdvertKey(SECRET, 7, ADDRESSES)
    select_sha1(name)
    try:
        for _ in range(ROUNDS // 10):
            openbsd = source.random() < 0.5
            payload = spoiled(source, oracle.build(SECRET, 7, ADDRESSES, 1, 0, source.getrandbits(64), openbsd=openbsd))
            if len(payload) >= 36 and source.random() < 0.7:
                payload = oracle.with_checksum(payload)
            try:
                key.verify(payload)
                rung = "valid"
            except WireError as error:
                rung = error.rung
            assert rung == oracle.judge(SECRET, 7, ADDRESSES, payload), payload.hex()
    finally:
        select_sha1("auto")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_end_as_in_the_definition(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(ROUNDS):
        length = source.choice((4, 16))
        good = advert_frame(
            bytes(6), bytes(6), source.randbytes(length), source.randbytes(length), source.randbytes(36)
        )
        if source.random() < 0.3:
            good = good[:12] + b"\x81\x00" + source.randbytes(2) + good[12:]
        frame = spoiled(source, good)
        try:
            found = parse_frame(frame)
        except WireError as error:
            outcome: object = error.rung
        else:
            outcome = oracle.Parts(
                found.family,
                found.vlan,
                found.destination_mac,
                found.source_mac,
                found.source,
                found.destination,
                found.ttl,
                found.payload,
            )
        assert outcome == oracle.parse_frame(frame), frame.hex()


def test_the_sanitizers_find_nothing() -> None:
    root = Path(__file__).parent.parent.parent
    command = [str(root / "tools" / "sanitized-tests")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable})
