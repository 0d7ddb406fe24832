"""Extended attributes as text: access control lists by name, all others base64."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.configsync.attributes import BadAttribute, check, is_carried, to_text, to_value

ACCESS = "system.posix_acl_access"
NAMES = {0: "root", 33: "www-data"}
IDS = {name: number for number, name in NAMES.items()}


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


LIST = acl((1, 6, 2**32 - 1), (2, 4, 33), (4, 5, 2**32 - 1), (8, 0, 0), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1))
TEXT = "user::rw-,user:www-data:r--,group::r-x,group:root:---,mask::rwx,other::---"


def text_of(name: str, value: bytes) -> str:
    return to_text(name, value, lambda number: NAMES.get(number, f"#{number}"), lambda number: NAMES[number])


def value_of(name: str, text: str) -> bytes:
    return to_value(name, text, lambda one: IDS[one], lambda one: IDS[one])


def test_an_access_control_list_names_its_users() -> None:
    assert text_of(ACCESS, LIST) == TEXT
    assert value_of(ACCESS, TEXT) == LIST
    assert text_of(ACCESS, acl((2, 4, 1000))) == "user:#1000:r--"


@given(value=st.binary(max_size=300))
def test_any_value_comes_back_or_is_refused(value: bytes) -> None:
    assert value_of("user.x", text_of("user.x", value)) == value
    try:
        text = to_text(ACCESS, value, str, str)
    except BadAttribute:
        return
    back = to_value(ACCESS, text, int, int) if text else value
    assert to_text(ACCESS, back, str, str) == text


@given(text=st.text(max_size=60))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    for name in (ACCESS, "user.x"):
        try:
            to_value(name, text, lambda _: 1, lambda _: 1)
        except BadAttribute:
            continue


def test_what_is_carried() -> None:
    assert [name for name in ("user.a", "security.capability", ACCESS, "system.posix_acl_default") if is_carried(name)]
    for name in ("security.selinux", "security.ima", "security.evm", "trusted.overlay.opaque", "system.sockprotoname"):
        assert not is_carried(name)


@pytest.mark.parametrize(
    "attributes",
    [
        [("user.b", ""), ("user.a", "")],
        [("user.a", ""), ("user.a", "")],
        [("trusted.a", "")],
        [("security.selinux", "")],
        [("user.a", "no base64!")],
        [("user.a", "A" * 40000)],
        [("user." + "a" * 300, "")],
        [(ACCESS, "user::rwx,everybody::rwx")],
        [(ACCESS, "")],
    ],
)
def test_wrong_ones(attributes: list[tuple[str, str]]) -> None:
    with pytest.raises(BadAttribute):
        check(attributes)
