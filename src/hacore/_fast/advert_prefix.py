"""What a CARP key is made of: the padded password, and the constant part of the message that the digest covers."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface

KEY_BYTES = 20
VERSION_AND_TYPE = b"\x02\x01"  # two bytes here, one in the header


def padded_password(password: object) -> bytes:
    """The 20 bytes of the key. Text is at most 19 bytes of UTF-8, as in ifconfig and ucarp; bytes may fill all 20."""
    if isinstance(password, str):
        raw = password.encode()
        if len(raw) >= KEY_BYTES:
            raise ValueError(f"the password has {len(raw)} bytes, CARP takes at most {KEY_BYTES - 1}")
        if b"\0" in raw:
            raise ValueError("the password holds a zero byte, at which other systems would cut it")
    elif isinstance(password, bytes | bytearray | memoryview):
        raw = bytes(password)
        if len(raw) > KEY_BYTES:
            raise ValueError(f"the password has {len(raw)} bytes, CARP's key has {KEY_BYTES}")
    else:
        raise TypeError(f"the password must be str or bytes, not {type(password).__name__}")
    return raw.ljust(KEY_BYTES, b"\0")


def prefixes(vhid: int, addresses: Iterable[object], openbsd_lladdr: bytes | None) -> list[bytes]:
    """The bytes before the counter in each form that is accepted: FreeBSD's, and OpenBSD's where it differs.

    FreeBSD's carp_hmac_prepare takes every address; OpenBSD sends HMAC_NOV6LL, without link-locals, and puts a MAC that
    was set by hand on its carp interface before the vhid.
    """
    if isinstance(addresses, str):
        raise TypeError("addresses must be an iterable of addresses, not one text")
    if openbsd_lladdr is not None and len(openbsd_lladdr) != 6:
        raise ValueError(f"openbsd_lladdr must be 6 bytes, got {len(openbsd_lladdr)}")
    packed = {_packed(address) for address in addresses}
    freebsd = VERSION_AND_TYPE + bytes([vhid]) + _ascending(packed)
    routed = {address for address in packed if not _is_link_local(address)}
    openbsd = VERSION_AND_TYPE + (openbsd_lladdr or b"") + bytes([vhid]) + _ascending(routed)
    return [freebsd] if openbsd == freebsd else [freebsd, openbsd]


def _packed(address: object) -> bytes:
    """Network order. The scope that kernels embed in bytes 2 and 3 of some IPv6 addresses is zero, as in the digest."""
    if isinstance(address, str):
        packed = ip_interface(address).packed
    elif isinstance(address, IPv4Address | IPv6Address):
        packed = address.packed
    else:
        raise TypeError(f"an address must be str, IPv4Address or IPv6Address, not {type(address).__name__}")
    scoped_group = len(packed) == 16 and packed[0] == 0xFF and packed[1] & 15 in (1, 2)
    return packed[:2] + b"\0\0" + packed[4:] if scoped_group or _is_link_local(packed) else packed


def _is_link_local(packed: bytes) -> bool:
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def _ascending(packed: set[bytes]) -> bytes:
    """IPv4 before IPv6, each ascending; the kernels' walk starts above all zeros and ends below all ones."""
    ends = {bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16}
    kept: list[bytes] = sorted(packed - ends, key=lambda address: (len(address), address))
    return b"".join(kept)
