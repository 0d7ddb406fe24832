"""AdvertKey against its plain definition: what it builds, what it verifies, and what it refuses to be made of."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacore._fast.advert import RUNGS, Advertisement, AdvertKey
from hacore.errors import WireError
from tests.oracle import carp as oracle

SECRET = b"secret"
ADDRESSES = ["10.66.0.100"]
BYTE = st.integers(0, 255)
COUNTER = st.integers(0, 2**64 - 1)
VHID = st.integers(1, 255)
PASSWORD = st.binary(max_size=20)
LINK_LOCAL = st.integers(0, 2**118 - 1).map(lambda low: IPv6Address(0xFE80 << 112 | low))
MULTICAST = st.tuples(BYTE, st.integers(0, 2**112 - 1)).map(
    lambda parts: IPv6Address(0xFF << 120 | parts[0] << 112 | parts[1])
)
SPECIAL = st.sampled_from([IPv4Address(0), IPv4Address(2**32 - 1), IPv6Address(0), IPv6Address(2**128 - 1)])
ADDRESS = st.one_of(st.ip_addresses(), LINK_LOCAL, MULTICAST, SPECIAL)
# Up to enough for several SHA-1 blocks before the counter.
ADDRESS_LIST = st.lists(ADDRESS, max_size=24)

each_implementation = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def rung_of(key: AdvertKey, payload: bytes) -> str:
    try:
        key.verify(payload)
    except WireError as error:
        return error.rung
    return "valid"


@given(PASSWORD, VHID, ADDRESS_LIST, BYTE, BYTE, COUNTER, BYTE)
@each_implementation
def test_build_is_what_the_definition_says(
    sha1_implementation: str,
    password: bytes,
    vhid: int,
    addresses: list[IPv4Address | IPv6Address],
    advbase: int,
    advskew: int,
    counter: int,
    demotion: int,
) -> None:
    key = AdvertKey(password, vhid, addresses)
    advert = key.build(advbase, advskew, counter, demotion)
    assert advert == oracle.build(password, vhid, addresses, advbase, advskew, counter, demotion)
    found = key.verify(advert)
    assert (found.version, found.type, found.vhid, found.advskew, found.authlen) == (2, 1, vhid, advskew, 7)
    assert (found.demotion, found.advbase, found.counter, found.form) == (demotion, advbase, counter, "freebsd")
    assert (found.checksum, found.digest) == (int.from_bytes(advert[6:8]), advert[16:])


@given(PASSWORD, VHID, ADDRESS_LIST, COUNTER)
@each_implementation
def test_what_openbsd_sends_verifies(
    sha1_implementation: str, password: bytes, vhid: int, addresses: list[IPv4Address | IPv6Address], counter: int
) -> None:
    key = AdvertKey(password, vhid, addresses)
    found = key.verify(oracle.build(password, vhid, addresses, 1, 0, counter, openbsd=True))
    same = oracle.digest_message(vhid, addresses, 0) == oracle.digest_message(vhid, addresses, 0, openbsd=True)
    assert found.form == ("freebsd" if same else "openbsd")


def test_openbsd_with_a_mac_set_by_hand_verifies() -> None:
    lladdr = bytes.fromhex("020000000001")
    advert = oracle.build(SECRET, 5, ADDRESSES, 1, 0, 7, openbsd=True, lladdr=lladdr)
    assert AdvertKey(SECRET, 5, ADDRESSES, openbsd_lladdr=lladdr).verify(advert).form == "openbsd"
    assert rung_of(AdvertKey(SECRET, 5, ADDRESSES), advert) == "authentication"


@given(PASSWORD, VHID, ADDRESS_LIST, st.binary(max_size=80))
def test_any_bytes_end_in_a_value_or_in_the_rung_of_the_definition(
    password: bytes, vhid: int, addresses: list[IPv4Address | IPv6Address], payload: bytes
) -> None:
    assert rung_of(AdvertKey(password, vhid, addresses), payload) == oracle.judge(password, vhid, addresses, payload)


@given(VHID, COUNTER, st.integers(0, 35), st.integers(1, 255), st.booleans())
def test_one_changed_byte_is_judged_as_by_the_definition(
    vhid: int, counter: int, at: int, change: int, mend: bool
) -> None:
    key = AdvertKey(SECRET, vhid, ADDRESSES)
    advert = bytearray(key.build(1, 100, counter))
    advert[at] ^= change
    payload = oracle.with_checksum(bytes(advert)) if mend else bytes(advert)
    assert rung_of(key, payload) == oracle.judge(SECRET, vhid, ADDRESSES, payload)


def test_each_rung_says_what_failed_and_where() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    good = key.build(1, 0, 5)
    other_vhid = AdvertKey(SECRET, 2, ADDRESSES).build(1, 0, 5)
    version_3 = oracle.with_checksum(b"\x31" + good[1:])
    foreign = AdvertKey("Secret", 1, ADDRESSES).build(1, 0, 5)
    for payload, rung, offset, text in [
        (good[:35], "short", 35, "36 bytes, got 35"),
        (b"", "short", 0, "36 bytes, got 0"),
        (good[:7] + bytes([good[7] ^ 1]) + good[8:], "checksum", 6, f"expected {good[6:8].hex()}, got "),
        (other_vhid, "vhid", 1, "expected 1, got 2"),
        (version_3, "version", 0, "expected 2, got 3"),
        (foreign, "authentication", 16, "vhid 1"),
    ]:
        with pytest.raises(WireError, match=text) as caught:
            key.verify(payload)
        assert (caught.value.rung, caught.value.offset) == (rung, offset)


def test_the_rungs_are_asked_in_the_order_of_the_kernel() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    everything_wrong = bytes([0x32, 2]) + bytes(34)
    assert rung_of(key, everything_wrong[:20]) == "short"
    assert rung_of(key, everything_wrong) == "checksum"
    assert rung_of(key, oracle.with_checksum(everything_wrong)) == "vhid"
    assert rung_of(key, oracle.with_checksum(bytes([0x32, 1]) + bytes(34))) == "version"
    assert rung_of(key, oracle.with_checksum(bytes([0x22, 1]) + bytes(34))) == "authentication"
    assert RUNGS == ("valid", "short", "checksum", "vhid", "version", "authentication")


def test_what_no_receiver_checks_is_not_checked() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    good = key.build(1, 0, 5)
    odd = oracle.with_checksum(b"\x2f\x01\x00\x00\x09" + good[5:])
    found = key.verify(odd)
    assert (found.type, found.authlen, found.demotion) == (15, 0, 9)


def test_what_follows_the_header_is_left_alone() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    good = key.build(1, 0, 5)
    assert key.verify(good + bytes(32)) == key.verify(good)


def test_every_kind_of_buffer_is_taken() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    good = key.build(1, 0, 5)
    for payload in (bytearray(good), memoryview(good), memoryview(b"xx" + good)[2:]):
        assert key.verify(payload) == key.verify(good)
    with pytest.raises(TypeError):
        key.verify("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        key.verify(memoryview(good + good)[::2])


def test_addresses_may_be_given_in_every_way() -> None:
    expected = oracle.build(SECRET, 3, ["10.0.0.1", "192.168.1.1", "fe80::1", "2001:db8::a"], 1, 0, 9)
    ways: list[Sequence[str | IPv4Address | IPv6Address]] = [
        ["192.168.1.1/24", "2001:db8::a/64", "10.0.0.1/8", "fe80::1%lan"],
        [ip_address("2001:db8::a"), "10.0.0.1", "fe80::1%lan/64", IPv4Address("192.168.1.1"), "10.0.0.1/32"],
        ("0.0.0.0", "255.255.255.255", "::", "fe80:7::1", "192.168.1.1", "10.0.0.1", "2001:db8::a"),
        [IPv4Interface("10.0.0.1/8"), IPv6Interface("2001:db8::a/64"), "fe80::1", "192.168.1.1"],
    ]
    for addresses in ways:
        assert AdvertKey(SECRET, 3, addresses).build(1, 0, 9) == expected
    assert AdvertKey(SECRET, 3, iter(["10.0.0.1", "192.168.1.1", "fe80::1", "2001:db8::a"])).build(1, 0, 9) == expected


def test_passwords_are_padded_text_or_bytes() -> None:
    def built(password: str | bytes | bytearray) -> bytes:
        return AdvertKey(password, 1, ADDRESSES).build(1, 0, 5)

    assert built("grün") == built("grün".encode()) == built(bytearray("grün".encode()))
    assert built("") == built(b"") == built(bytes(20))
    assert built("x" * 19) == built(b"x" * 19)
    assert built(b"x" * 20) != built(b"x" * 19)


@pytest.mark.parametrize(
    ("password", "text"),
    [
        ("x" * 20, "the password has 20 bytes, CARP takes at most 19"),
        ("ü" * 10, "the password has 20 bytes, CARP takes at most 19"),
        (b"x" * 21, "the password has 21 bytes, CARP's key has 20"),
        ("a\0b", "zero byte"),
    ],
)
def test_a_password_that_carp_cannot_take_is_refused(password: str | bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        AdvertKey(password, 1, ADDRESSES)
    assert str(password) not in str(caught.value)


@pytest.mark.parametrize("vhid", [0, 256, -1, 2**70])
def test_a_vhid_out_of_range_is_refused(vhid: int) -> None:
    with pytest.raises(ValueError, match=f"vhid is {vhid}, it must be 1 to 255"):
        AdvertKey(SECRET, vhid, ADDRESSES)


@pytest.mark.parametrize("addresses", [["10.0.0.256"], ["10.0.0.1/33"], ["lan"], [""]])
def test_what_is_no_address_is_refused(addresses: list[str]) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        AdvertKey(SECRET, 1, addresses)


def test_wrong_types_are_refused() -> None:
    for password, vhid, addresses in [
        (None, 1, []),
        (SECRET, "1", []),
        (SECRET, 1, [1]),
        (SECRET, 1, "::"),
        (SECRET, 1.5, []),
    ]:
        with pytest.raises(TypeError):
            AdvertKey(password, vhid, addresses)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="openbsd_lladdr must be 6 bytes"):
        AdvertKey(SECRET, 1, ADDRESSES, openbsd_lladdr=b"12345")


@pytest.mark.parametrize(
    ("advbase", "advskew", "counter", "text"),
    [
        (256, 0, 0, "advbase is 256"),
        (-1, 0, 0, "advbase is -1"),
        (0, 256, 0, "advskew is 256"),
        (0, -1, 0, "advskew is -1"),
        (0, 0, -1, "counter is -1"),
        (0, 0, 2**64, "64 bits"),
    ],
)
def test_fields_out_of_range_are_refused(advbase: int, advskew: int, counter: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        AdvertKey(SECRET, 1, ADDRESSES).build(advbase, advskew, counter)


def test_fields_that_are_not_whole_are_refused() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    for arguments in [(1.0, 0, 0, 0), (1, "0", 0, 0), (1, 0, 0.5, 0), (1, 0, 0, 0.5)]:
        with pytest.raises(TypeError):
            key.build(*arguments)  # type: ignore[arg-type]


def test_demotion_is_clamped_to_its_byte() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    assert [key.build(1, 0, 5, demotion)[4] for demotion in (-240, 0, 255, 256, 2**40)] == [0, 0, 255, 255, 255]


def test_a_key_shows_and_gives_away_nothing() -> None:
    key = AdvertKey("hunter2hunter2", 1, ADDRESSES)
    assert repr(key) == "<AdvertKey vhid=1>"
    assert {name for name in dir(key) if name[0] != "_"} == {"vhid", "build", "verify", "build_many", "verify_many"}
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_fields_can_be_read_without_a_key() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    good = key.build(3, 4, 5)
    found = Advertisement.from_payload(good + b"trailer")
    assert (found.vhid, found.advbase, found.advskew, found.counter, found.form) == (1, 3, 4, 5, "")
    assert found != key.verify(good)
    with pytest.raises(WireError, match="got 35"):
        Advertisement.from_payload(good[:35])
    with pytest.raises(TypeError):
        Advertisement()


def test_advertisements_compare_by_their_bytes() -> None:
    key = AdvertKey(SECRET, 1, ADDRESSES)
    one, same, other = key.verify(key.build(1, 0, 5)), key.verify(key.build(1, 0, 5)), key.verify(key.build(1, 0, 6))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "advert"
    assert repr(one).startswith("<Advertisement vhid=1 advbase=1 advskew=0 demotion=0 counter=0x0000000000000005 ")
