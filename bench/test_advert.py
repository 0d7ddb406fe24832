"""Adverts against other ways to do the same from Python: `hmac.digest` over the same bytes, hashlib, scapy's layers.

One group is one table. `verify one`: the baselines only compute the digest, which verify computes, checks and compares.
`verify many`: the same number of adverts each time, so the ratios of the times are those of the rates;
`adverts_per_second` stands in the saved results.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scapy.contrib.carp import CARP
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from hacore._fast import advert
from hacore.carp import AdvertKey, Verdict

PASSWORD, VHID, ADDRESS = b"secret", 1, "10.66.0.100"
KEY = AdvertKey(PASSWORD, VHID, [ADDRESS])
PREFIX = bytes([2, 1, VHID, 10, 66, 0, 100])
PAYLOAD = KEY.build(1, 0, 0x0E514BC019B7B454)
MESSAGE = PREFIX + PAYLOAD[8:16]
ENVELOPE = (bytes.fromhex("00005e000101"), bytes.fromhex("01005e000012"), bytes([10, 66, 0, 1]), bytes([224, 0, 0, 18]))
FRAME = advert.advert_frame(*ENVELOPE, PAYLOAD)
COUNT = 16_384
ONE_LANE = ("sha-ni", "armv8", "portable")

ADVERTS = KEY.build_many(1, 0, np.arange(COUNT, dtype=np.uint64))
MESSAGES = [PREFIX + struct.pack("!Q", counter) for counter in range(COUNT)]


def run_many(benchmark: BenchmarkFixture, function: Any, *arguments: Any) -> Any:
    result = benchmark(function, *arguments)
    if benchmark.stats is not None:
        benchmark.extra_info["adverts_per_second"] = COUNT / benchmark.stats.stats.min
    return result


@pytest.mark.benchmark(group="verify one")
def test_one_baseline_hmac_digest(benchmark: BenchmarkFixture) -> None:
    assert benchmark(hmac.digest, PASSWORD, MESSAGE, "sha1") == PAYLOAD[16:]


@pytest.mark.benchmark(group="verify one")
def test_one_baseline_prepared_hashlib(benchmark: BenchmarkFixture) -> None:
    """OpenSSL's SHA-1 with both midstates kept, as far as hashlib can go."""
    key = PASSWORD.ljust(64, b"\0")
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in key), usedforsecurity=False)
    outer = hashlib.sha1(bytes(byte ^ 0x5C for byte in key), usedforsecurity=False)

    def digest() -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(MESSAGE)
        second.update(first.digest())
        return second.digest()

    assert benchmark(digest) == PAYLOAD[16:]


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
def test_many_baseline_hmac_digest(benchmark: BenchmarkFixture) -> None:
    digests = run_many(benchmark, lambda: [hmac.digest(PASSWORD, message, "sha1") for message in MESSAGES])
    assert digests[7] == ADVERTS[7, 16:].tobytes()


@pytest.mark.benchmark(group="verify many")
@pytest.mark.parametrize("name", advert.sha1_implementations())
def test_many_verify(benchmark: BenchmarkFixture, name: str) -> None:
    advert.select_sha1(name)
    try:
        assert (run_many(benchmark, KEY.verify_many, ADVERTS, COUNT) == Verdict.VALID).all()
    finally:
        advert.select_sha1("auto")


@pytest.mark.benchmark(group="verify many")
def test_many_build(benchmark: BenchmarkFixture) -> None:
    counters = np.arange(COUNT, dtype=np.uint64)
    assert (run_many(benchmark, KEY.build_many, 1, 0, counters) == ADVERTS).all()


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
