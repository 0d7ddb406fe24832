"""The many-forms of AdvertKey: against the one-forms, in every implementation, and beside other threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacore._fast.advert import RUNGS, AdvertKey
from hacore.carp import Verdict
from tests.oracle import carp as oracle

SECRET = b"secret"
# One short prefix, one that pushes the counter over a block's end, one of several blocks, one with a second form.
ADDRESS_LISTS = [
    ["10.66.0.100"],
    ["10.0.0.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"],
    [f"10.0.{high}.{low}" for high in range(4) for low in range(1, 12)],
    ["10.66.0.100", "fe80::1", "2001:db8::1"],
    ["2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.1", "10.0.0.2"],
    [],
]
COUNTERS = st.lists(st.integers(0, 2**64 - 1), max_size=70)


@pytest.fixture
def switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@given(counters=COUNTERS, addresses=st.sampled_from(ADDRESS_LISTS), vhid=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_are_as_one_after_the_other(
    sha1_implementation: str, counters: list[int], addresses: list[str], vhid: int
) -> None:
    key = AdvertKey(SECRET, vhid, addresses)
    adverts = key.build_many(1, 100, counters, 3)
    assert adverts.shape == (len(counters), 36)
    assert adverts.dtype == np.uint8
    assert [bytes(advert) for advert in adverts] == [
        oracle.build(SECRET, vhid, addresses, 1, 100, counter, 3) for counter in counters
    ]
    assert key.verify_many(adverts, len(counters)).tolist() == [Verdict.VALID] * len(counters)


@given(data=st.data(), addresses=st.sampled_from(ADDRESS_LISTS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verdicts_are_those_of_the_definition(
    sha1_implementation: str, data: st.DataObject, addresses: list[str]
) -> None:
    vhid = 7
    good = oracle.build(SECRET, vhid, addresses, 1, 0, 5)
    kinds = [
        good,
        oracle.build(SECRET, vhid, addresses, 1, 0, 6, openbsd=True),
        oracle.build(b"other", vhid, addresses, 1, 0, 7),
        oracle.build(SECRET, 8, addresses, 1, 0, 8),
        oracle.with_checksum(b"\x11" + good[1:]),
        good[:20] + bytes([good[20] ^ 1]) + good[21:],
        oracle.with_checksum(good[:35] + bytes([good[35] ^ 1])),
        bytes(36),
        b"\xff" * 36,
    ]
    payloads = data.draw(st.lists(st.one_of(st.sampled_from(kinds), st.binary(min_size=36, max_size=36)), max_size=70))
    verdicts = AdvertKey(SECRET, vhid, addresses).verify_many(b"".join(payloads), len(payloads))
    assert verdicts.dtype == np.uint8
    assert [RUNGS[verdict] for verdict in verdicts] == [
        oracle.judge(SECRET, vhid, addresses, payload) for payload in payloads
    ]


def test_verdicts_are_named_as_the_rungs() -> None:
    assert tuple(verdict.name.lower() for verdict in Verdict) == RUNGS
    assert [verdict.value for verdict in Verdict] == list(range(len(RUNGS)))


def test_what_the_buffer_does_not_hold_is_short() -> None:
    key = AdvertKey(SECRET, 1, ["10.66.0.100"])
    adverts = key.build_many(1, 0, range(20)).tobytes()
    assert key.verify_many(adverts[:-1], 22).tolist() == [Verdict.VALID] * 19 + [Verdict.SHORT] * 3
    assert key.verify_many(b"", 2).tolist() == [Verdict.SHORT] * 2
    assert key.verify_many(adverts, 3).tolist() == [Verdict.VALID] * 3
    assert key.verify_many(adverts, 0).shape == (0,)
    with pytest.raises(ValueError, match="count is -1"):
        key.verify_many(adverts, -1)


def test_every_kind_of_buffer_is_taken() -> None:
    key = AdvertKey(SECRET, 1, ["10.66.0.100"])
    adverts = key.build_many(1, 0, [1, 2, 3])
    for buffer in (
        adverts,
        adverts.tobytes(),
        bytearray(adverts.tobytes()),
        memoryview(adverts.tobytes()),
        adverts.reshape(-1),
    ):
        assert not key.verify_many(buffer, 3).any()
    with pytest.raises(ValueError, match="contiguous"):
        key.verify_many(adverts[::2], 2)
    with pytest.raises(TypeError):
        key.verify_many("text", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["u8", "i8", "u1", "i4", ">u8", ">i2"])
def test_counters_may_be_an_array_of_any_whole_type(dtype: str) -> None:
    key = AdvertKey(SECRET, 1, ["10.66.0.100"])
    counters = np.array([0, 1, 100, 7], dtype=dtype)
    assert (key.build_many(1, 0, counters) == key.build_many(1, 0, [0, 1, 100, 7])).all()
    assert (key.build_many(1, 0, counters[::2]) == key.build_many(1, 0, [0, 100])).all()


@pytest.mark.parametrize(
    "counters", [[-1], [2**64], np.array([-1]), np.array([1.0]), np.zeros((2, 2), dtype=np.uint64)]
)
def test_counters_that_are_none_are_refused(counters: Any) -> None:
    with pytest.raises(ValueError, match="counter"):
        AdvertKey(SECRET, 1, ["10.66.0.100"]).build_many(1, 0, counters)


def test_threads_verify_at_the_same_time() -> None:
    keys = [AdvertKey(SECRET, vhid, ["10.66.0.100", "fe80::1"]) for vhid in range(1, 5)]
    buffers = [key.build_many(1, 0, np.arange(20_000, dtype=np.uint64)) for key in keys]
    for buffer in buffers:
        buffer[::3, 35] ^= 1
    expected = np.where(np.arange(20_000) % 3 == 0, Verdict.CHECKSUM, Verdict.VALID)

    def verify(key: AdvertKey, buffer: Any) -> bool:
        return all((key.verify_many(buffer, len(buffer)) == expected).all() for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(verify, keys, buffers))


@pytest.mark.parametrize("verb", ["build", "verify"])
@pytest.mark.usefixtures("switch_interval")
def test_the_interpreter_lock_is_released(verb: str) -> None:
    """With no forced switches, another thread can only run before the call returns if the call lets it."""
    key = AdvertKey(SECRET, 1, ["10.66.0.100"])
    counters = np.arange(300_000, dtype=np.uint64)
    adverts = key.build_many(1, 0, counters)
    sys.setswitchinterval(1000.0)
    overtaken = False
    for _attempt in range(100):
        started, done = threading.Event(), list[bool]()

        def call(started: threading.Event = started, done: list[bool] = done) -> None:
            started.set()
            if verb == "build":
                key.build_many(1, 0, counters)
            else:
                key.verify_many(adverts, len(adverts))
            done.append(True)

        thread = threading.Thread(target=call)
        thread.start()
        started.wait()
        overtaken = not done
        thread.join()
        if overtaken:
            break
    assert overtaken
