"""Adverts against other ways to do the same from Python: `hmac.digest` over the same bytes, hashlib, scapy's layers.

One group is one table. `verify one`: the baselines only compute the digest, which verify computes, checks and compares.
`verify many`, `build many`, `Internet checksum`: 1,000, 100,000 and 1,000,000 adverts; each test handles the same ones,
so the ratios of the times are those of the rates, and `adverts_per_second` stands in the saved results. Scapy takes
frames apart one by one, so it gets at most 1,000.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scapy.contrib.carp import CARP
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.utils import checksum

from hacore._fast import advert
from hacore.carp import AdvertKey, Verdict

PASSWORD, VHID, ADDRESS = b"secret", 1, "10.66.0.100"
KEY = AdvertKey(PASSWORD, VHID, [ADDRESS])
PREFIX = bytes([2, 1, VHID, 10, 66, 0, 100])
PAYLOAD = KEY.build(1, 0, 0x0E514BC019B7B454)
MESSAGE = PREFIX + PAYLOAD[8:16]
ENVELOPE = (bytes.fromhex("00005e000101"), bytes.fromhex("01005e000012"), bytes([10, 66, 0, 1]), bytes([224, 0, 0, 18]))
FRAME = advert.advert_frame(*ENVELOPE, PAYLOAD)
SIZES = [1_000, 100_000, 1_000_000]
ONE_BY_ONE = 1_000
ROUNDS = 3
ONE_LANE = ("sha-ni", "armv8", "portable")

sized = pytest.mark.parametrize("size", SIZES)


@functools.lru_cache(maxsize=1)
def adverts_of(size: int) -> npt.NDArray[np.uint8]:
    return KEY.build_many(1, 0, np.arange(size, dtype=np.uint64))


def run_many(benchmark: BenchmarkFixture, size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    result = benchmark.pedantic(function, arguments, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        benchmark.extra_info["adverts_per_second"] = size / benchmark.stats.stats.min
    return result


def prepared() -> Callable[[bytes], bytes]:
    """OpenSSL's SHA-1 with both midstates kept, as far as hashlib can go."""
    key = PASSWORD.ljust(64, b"\0")
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in key), usedforsecurity=False)
    outer = hashlib.sha1(bytes(byte ^ 0x5C for byte in key), usedforsecurity=False)

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return digest


@pytest.mark.benchmark(group="verify one")
def test_one_baseline_hmac_digest(benchmark: BenchmarkFixture) -> None:
    assert benchmark(hmac.digest, PASSWORD, MESSAGE, "sha1") == PAYLOAD[16:]


@pytest.mark.benchmark(group="verify one")
def test_one_baseline_prepared_hashlib(benchmark: BenchmarkFixture) -> None:
    assert benchmark(prepared(), MESSAGE) == PAYLOAD[16:]


@pytest.mark.benchmark(group="verify one")
@pytest.mark.parametrize("name", [name for name in ONE_LANE if name in advert.sha1_implementations()])
def test_one_verify(benchmark: BenchmarkFixture, name: str) -> None:
    advert.select_sha1(name)
    try:
        assert benchmark(KEY.verify, PAYLOAD).form == "freebsd"
    finally:
        advert.select_sha1("auto")


@pytest.mark.benchmark(group="verify one")
def test_one_build(benchmark: BenchmarkFixture) -> None:
    assert benchmark(KEY.build, 1, 0, 0x0E514BC019B7B454) == PAYLOAD


@pytest.mark.benchmark(group="verify many")
@sized
@pytest.mark.parametrize("how", ["hmac.digest", "prepared hashlib"])
def test_many_baseline(benchmark: BenchmarkFixture, how: str, size: int) -> None:
    messages = [PREFIX + struct.pack("!Q", counter) for counter in range(size)]
    if how == "hmac.digest":
        digests = run_many(benchmark, size, lambda: [hmac.digest(PASSWORD, message, "sha1") for message in messages])
    else:
        digest = prepared()
        digests = run_many(benchmark, size, lambda: [digest(message) for message in messages])
    assert digests[7] == adverts_of(size)[7, 16:].tobytes()


@pytest.mark.benchmark(group="verify many")
@sized
@pytest.mark.parametrize("name", advert.sha1_implementations())
def test_many_verify(benchmark: BenchmarkFixture, name: str, size: int) -> None:
    advert.select_sha1(name)
    try:
        assert (run_many(benchmark, size, KEY.verify_many, adverts_of(size), size) == Verdict.VALID).all()
    finally:
        advert.select_sha1("auto")


@pytest.mark.benchmark(group="two blocks of SHA-1 an advert, and nothing else")
@pytest.mark.parametrize("name", [name for name in ONE_LANE if name in advert.sha1_implementations()])
def test_two_blocks(benchmark: BenchmarkFixture, name: str) -> None:
    """What an advert cannot cost less than, one lane: a long message, whose time is that of its blocks."""
    size = SIZES[1]
    advert.select_sha1(name)
    try:
        run_many(benchmark, size, advert.sha1, bytes(2 * 64 * size))
    finally:
        advert.select_sha1("auto")


@pytest.mark.benchmark(group="build many")
@sized
def test_many_build(benchmark: BenchmarkFixture, size: int) -> None:
    counters = np.arange(size, dtype=np.uint64)
    assert (run_many(benchmark, size, KEY.build_many, 1, 0, counters) == adverts_of(size)).all()


@pytest.mark.benchmark(group="Internet checksum")
@sized
def test_checksum(benchmark: BenchmarkFixture, size: int) -> None:
    """Adverts whose checksum is wrong: verify does nothing after it."""
    wrong = adverts_of(size).copy()
    wrong[:, 6] ^= 1
    assert (run_many(benchmark, size, KEY.verify_many, wrong, size) == Verdict.CHECKSUM).all()


@pytest.mark.benchmark(group="Internet checksum")
@sized
def test_checksum_baseline_numpy(benchmark: BenchmarkFixture, size: int) -> None:
    adverts = adverts_of(size)

    def sums() -> npt.NDArray[np.uint32]:
        found: npt.NDArray[np.uint32] = adverts.view("<u2").sum(axis=1, dtype=np.uint32)
        return (found & 0xFFFF) + (found >> 16)

    assert (run_many(benchmark, size, sums) == 0xFFFF).all()


@pytest.mark.benchmark(group="Internet checksum")
def test_checksum_baseline_scapy(benchmark: BenchmarkFixture) -> None:
    adverts = [row.tobytes() for row in adverts_of(ONE_BY_ONE)]
    assert set(run_many(benchmark, ONE_BY_ONE, lambda: [checksum(octets) for octets in adverts])) == {0}


@pytest.mark.benchmark(group="frames taken apart, many")
@sized
@pytest.mark.parametrize("how", ["hacore", "scapy"])
def test_frames(benchmark: BenchmarkFixture, how: str, size: int) -> None:
    count = size if how == "hacore" else min(size, ONE_BY_ONE)
    frames = [advert.advert_frame(*ENVELOPE, row.tobytes()) for row in adverts_of(size)[:count]]
    if how == "hacore":
        run_many(benchmark, count, lambda: [KEY.verify(advert.parse_frame(frame).payload) for frame in frames])
    else:
        run_many(benchmark, count, lambda: [CARP(bytes(Ether(frame)[IP].payload)) for frame in frames])


@pytest.mark.benchmark(group="frame taken apart")
def test_frame_baseline_scapy(benchmark: BenchmarkFixture) -> None:
    assert benchmark(lambda: CARP(bytes(Ether(FRAME)[IP].payload))).vhid == VHID


@pytest.mark.benchmark(group="frame taken apart")
def test_frame_parse(benchmark: BenchmarkFixture) -> None:
    assert benchmark(advert.parse_frame, FRAME).payload == PAYLOAD


@pytest.mark.benchmark(group="frame taken apart")
def test_frame_parse_and_verify(benchmark: BenchmarkFixture) -> None:
    assert benchmark(lambda: KEY.verify(advert.parse_frame(FRAME).payload)).vhid == VHID


@pytest.mark.benchmark(group="frame made")
def test_made_baseline_scapy(benchmark: BenchmarkFixture) -> None:
    def made() -> bytes:
        ethernet = Ether(src="00:00:5e:00:01:01", dst="01:00:5e:00:00:12")
        packet = IP(src="10.66.0.1", dst="224.0.0.18", ttl=255, tos=0xE0, proto=112, flags="DF", id=0)
        return bytes(ethernet / packet / PAYLOAD)

    assert benchmark(made) == FRAME


@pytest.mark.benchmark(group="frame made")
def test_made_by_the_kernel(benchmark: BenchmarkFixture) -> None:
    assert benchmark(advert.advert_frame, *ENVELOPE, PAYLOAD) == FRAME
