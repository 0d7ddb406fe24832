"""SHA-1 in each implementation against hashlib, and which implementations there are."""

from __future__ import annotations

import hashlib
import importlib.machinery
import platform
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacore._fast import advert

# What each implementation is called in /proc/cpuinfo.
CPU_FLAGS = {
    "x86_64": {"avx512": "avx512f", "avx2": "avx2", "sha-ni": "sha_ni"},
    "aarch64": {"armv8": "sha1"},
}


def cpu_flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").lower().splitlines()
    listed = [line.partition(":")[2] for line in lines if line.startswith(("flags", "features"))]
    return {flag for text in listed for flag in text.split()}


def test_the_compiled_module_is_the_one_that_is_loaded() -> None:
    assert advert.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    assert isinstance(advert.__spec__.loader, importlib.machinery.ExtensionFileLoader)


def test_implementations_are_those_that_the_cpu_has() -> None:
    flags = cpu_flags()
    expected = {name for name, flag in CPU_FLAGS.get(platform.machine(), {}).items() if flag in flags}
    assert set(advert.sha1_implementations()) == expected | {"vector", "portable"}


def test_the_fastest_are_chosen() -> None:
    advert.select_sha1("auto")
    available = advert.sha1_implementations()
    for_one, for_many = advert.current_sha1()
    assert for_many == available[0]
    assert for_one == next(name for name in available if name in ("sha-ni", "armv8", "portable"))


def test_a_selection_holds(sha1_implementation: str) -> None:
    if sha1_implementation != "auto":
        assert advert.current_sha1()[1] == sha1_implementation
    if sha1_implementation in ("sha-ni", "armv8", "portable"):
        assert advert.current_sha1() == (sha1_implementation, sha1_implementation)


def test_an_unknown_implementation_is_refused() -> None:
    before = advert.current_sha1()
    with pytest.raises(ValueError, match=r"no SHA-1 implementation 'md5' here, there are auto, .*portable"):
        advert.select_sha1("md5")
    assert advert.current_sha1() == before


def test_digests_of_every_length_up_to_four_blocks(sha1_implementation: str) -> None:
    message = bytes(index * 7 & 0xFF for index in range(256))
    for length in range(257):
        assert advert.sha1(message[:length]) == hashlib.sha1(message[:length], usedforsecurity=False).digest()


@given(message=st.binary(max_size=5000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # an example changes nothing in it
def test_digests_of_anything(sha1_implementation: str, message: bytes) -> None:
    expected = hashlib.sha1(message, usedforsecurity=False).digest()
    assert advert.sha1(message) == expected
    assert advert.sha1(bytearray(message)) == expected
    assert advert.sha1(memoryview(message)) == expected
