"""Users and groups of this machine, by name as manifests have them."""

from __future__ import annotations

import grp
import pwd

from hacore.errors import HacoreError


class UnknownName(HacoreError):
    """A user or group that this machine does not have."""

    exit_code = 74


def user_name(uid: int) -> str:
    """The name of a user, or "#" and the id."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def group_name(gid: int) -> str:
    """The name of a group, or "#" and the id."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"#{gid}"


def user_id(name: str) -> int:
    """The inverse; raises UnknownName where this machine has no such user."""
    if name.startswith("#"):
        return int(name[1:])
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UnknownName(f"this machine has no user {name}") from None


def group_id(name: str) -> int:
    """The inverse; raises UnknownName where this machine has no such group."""
    if name.startswith("#"):
        return int(name[1:])
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownName(f"this machine has no group {name}") from None
