"""Any bytes: each message is a row, an expectation, of no interest, or one counted error; and nothing else happens."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hacore._fast import ctnetlink
from hacore._fast.ctnetlink_dtypes import DISPLAY_DTYPE, EVENT_DTYPE, EXPECTATION_DTYPE
from hacore.states.layout import empty_rows
from tests.oracle.ctnetlink import messages

ROOT = Path(__file__).parent.parent.parent
REAL = messages((ROOT / "tests" / "vectors" / "ctnetlink.bin").read_bytes())

ROWS, EVENTS, DISPLAY = empty_rows(64), np.zeros(64, EVENT_DTYPE), np.zeros(64, DISPLAY_DTYPE)
EXPECTATIONS, TOLD = np.zeros(64, EXPECTATION_DTYPE), np.zeros(64, EVENT_DTYPE)


def holds(octets: bytes) -> None:
    """The property, for one input; and what is a row can be told to a kernel or is refused with a reason."""
    offset = 0
    while True:
        received = ctnetlink.parse(
            octets, ROWS, EVENTS, display=DISPLAY, expectations=EXPECTATIONS, expectation_events=TOLD, offset=offset
        )
        control = received.messages - received.rows - received.expectations - received.malformed - received.skipped
        # A control message counts as none of these; a frame that cannot be right ends the buffer and is no message.
        assert -1 <= control <= received.messages
        assert (received.first_malformed >= 0) == (received.malformed > 0)
        assert offset < received.consumed <= len(octets) or not octets
        assert received.more == (received.consumed < len(octets))
        offset = received.consumed
        rows = ROWS[: received.rows]
        assert np.isin(rows["family"], (2, 10)).all()
        assert not rows["source"][rows["family"] == 2, 4:].any()
        if not received.more:
            break
    for operation in (ctnetlink.INSERT, ctnetlink.UPDATE, ctnetlink.REPLACE, ctnetlink.DELETE):
        tellable = rows[(rows["zone"] == rows["reply_zone"]) | (rows["zone"] == 0) | (rows["reply_zone"] == 0)]
        built = ctnetlink.build(tellable, np.full(len(tellable), operation, np.uint8))
        assert ctnetlink.count_messages(built) == len(tellable) * (2 if operation == ctnetlink.REPLACE else 1)
    ctnetlink.build_expectations(EXPECTATIONS[: received.expectations])


def mutated(chance: random.Random) -> bytes:
    """Some real messages, hurt in a few places: bytes, lengths, types, order, ends."""
    octets = bytearray(b"".join(chance.choices(REAL, k=chance.randint(1, 4))))
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(octets))
        match chance.randrange(7):
            case 0:
                octets[place] = chance.randrange(256)
            case 1:
                octets[place] ^= 1 << chance.randrange(8)
            case 2:  # a header of an attribute or of a message
                place &= ~3
                octets[place : place + 2] = chance.choice((0, 3, 4, 5, 8, 12, 255, 0x7FFF, 0xFFFF)).to_bytes(
                    2, "little"
                )
            case 3:
                octets[place | 2 : (place | 2) + 2] = (chance.randrange(32) | chance.choice((0, 0x8000))).to_bytes(
                    2, "little"
                )
            case 4:
                del octets[place : place + chance.choice((1, 4, 8, 20))]
            case 5:
                octets[place:place] = octets[: chance.choice((1, 4, 8, 20, 60))]
            case _:
                del octets[max(place, 1) :]
        if not octets:
            return b"\0"
    return bytes(octets)


def campaign(seed: int, count: int) -> None:
    chance = random.Random(seed)
    for _ in range(count):
        holds(mutated(chance))


@given(st.binary(max_size=400))
def test_any_bytes(octets: bytes) -> None:
    holds(octets)


def test_what_the_fuzzer_found() -> None:
    octets = (ROOT / "tests" / "vectors" / "ctnetlink-corpus.bin").read_bytes()
    count = 0
    while octets:
        (length,) = struct.unpack_from("<H", octets)
        holds(octets[2 : 2 + length])
        octets = octets[2 + length :]
        count += 1
    assert count > 100


@settings(max_examples=200)
@given(st.integers(0, 1 << 64))
def test_twenty_thousand_hurt_messages(seed: int) -> None:
    campaign(seed, 100)


@pytest.mark.soak
@settings(max_examples=2_000)
@given(st.integers(0, 1 << 64))
def test_a_million_hurt_messages(seed: int) -> None:
    campaign(seed, 500)


@pytest.mark.soak
def test_a_million_inputs_by_coverage_under_sanitizers(tmp_path: Path) -> None:
    assert shutil.which("clang"), "clang is missing: install the Debian packages clang and libclang-rt-dev"
    command = [
        sys.executable,
        str(ROOT / "tools" / "fuzz_ctnetlink.py"),
        "--runs",
        "1000000",
        "--corpus",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Done 1000000 runs" in done.stderr + done.stdout
