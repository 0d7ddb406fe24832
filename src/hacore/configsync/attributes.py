"""Extended attributes that a push carries, as text that means the same on every node.

Access control lists name users and groups, in the short form of acl(5): `user::rw-,user:www-data:r--,mask::r--`. All
other values are base64. Layout of a list in the kernel: linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Sequence

from hacore.errors import HacoreError

#: What a file or folder may have: one such pair each, sorted by name.
Attributes = tuple[tuple[str, str], ...]

ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
CARRIED = ("security.capability", *ACCESS_LISTS)
CARRIED_PREFIX = "user."
MOST_BYTES = 32768  # of one entry, names and texts together

_HEAD = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_VERSION = 2
_TAGS = {1: "user", 2: "user", 4: "group", 8: "group", 0x10: "mask", 0x20: "other"}
_NAMED = {"user": 2, "group": 8}
_UNNAMED = {"user": 1, "group": 4, "mask": 0x10, "other": 0x20}
_NO_ID = 0xFFFFFFFF


class BadAttribute(HacoreError):
    """A value that is none."""

    exit_code = 65


def is_carried(name: str) -> bool:
    """Whether a push carries the attributes of this name.

    Labels and signatures (`security.selinux`, `security.ima`, `security.evm`) belong to the node that made them, and
    `trusted.*` to its file systems.
    """
    return name in CARRIED or name.startswith(CARRIED_PREFIX)


def to_text(name: str, value: bytes, user_name: Callable[[int], str], group_name: Callable[[int], str]) -> str:
    """A value for a manifest; raises BadAttribute."""
    if name not in ACCESS_LISTS:
        return base64.b64encode(value).decode()
    if len(value) < _HEAD.size or (len(value) - _HEAD.size) % _ENTRY.size or _HEAD.unpack_from(value)[0] != _VERSION:
        raise BadAttribute(f"{name} is no access control list of version {_VERSION}")
    parts = []
    for tag, bits, number in _ENTRY.iter_unpack(value[_HEAD.size :]):
        if tag not in _TAGS:
            raise BadAttribute(f"{name} has an entry of the unknown kind {tag:#x}")
        who = {2: user_name, 8: group_name}[tag](number) if tag in (2, 8) else ""
        rights = "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        parts.append(f"{_TAGS[tag]}:{who}:{rights}")
    return ",".join(parts)


def to_value(name: str, text: str, user_id: Callable[[str], int], group_id: Callable[[str], int]) -> bytes:
    """The inverse; raises BadAttribute, and what the functions raise for a name that they do not know."""
    if name not in ACCESS_LISTS:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise BadAttribute(f"the value of {name} is not base64") from None
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(user|group|mask|other):([^\s:,/\0]{0,64}):([r-])([w-])([x-])", part)
        if match is None or (match[2] and match[1] not in _NAMED):
            raise BadAttribute(f"{name} is no access control list")
        kind, who = match[1], match[2]
        bits = sum(bit for letter, bit in zip(match.groups()[2:], (4, 2, 1), strict=True) if letter != "-")
        number = {"user": user_id, "group": group_id}[kind](who) if who else _NO_ID
        found.append(_ENTRY.pack(_NAMED[kind] if who else _UNNAMED[kind], bits, number))
    return _HEAD.pack(_VERSION) + b"".join(found)


def check(attributes: Sequence[tuple[str, str]]) -> None:
    """What a manifest may say; raises BadAttribute."""
    names = [name for name, _ in attributes]
    if names != sorted(set(names)):
        raise BadAttribute("its attributes are not sorted, or one stands there twice")
    if sum(len(name) + len(text) for name, text in attributes) > MOST_BYTES:
        raise BadAttribute(f"its attributes have more than {MOST_BYTES} bytes")
    for name, text in attributes:
        if not is_carried(name) or "\0" in name or len(name.encode(errors="replace")) > 255:
            raise BadAttribute("it has an attribute that no push carries")
        to_value(name, text, lambda _: 0, lambda _: 0)
