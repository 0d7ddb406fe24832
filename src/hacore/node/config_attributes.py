"""Extended attributes of open files and folders: read for a manifest, and brought to what one says."""

from __future__ import annotations

import errno
import os

from hacore.configsync.attributes import MOST_BYTES, Attributes, BadAttribute, is_carried, to_text, to_value
from hacore.configsync.manifest import is_utf8
from hacore.node.config_names import group_id, group_name, user_id, user_name

_NONE = (errno.ENOTSUP, errno.ENOSYS)


def attributes_of(handle: int) -> Attributes:
    """Those that a push carries; none where the file system has no such thing. Raises OSError, BadAttribute."""
    for name in _names(handle):
        if not is_utf8(name):
            raise BadAttribute(f"the name of its extended attribute {os.fsencode(name)!r} is not UTF-8")
    found = [(name, to_text(name, os.getxattr(handle, name), user_name, group_name)) for name in _names(handle)]
    if sum(len(name) + len(text) for name, text in found) > MOST_BYTES:
        raise BadAttribute(f"its extended attributes have more than {MOST_BYTES} bytes")
    return tuple(found)


def _names(handle: int) -> list[str]:
    try:
        return sorted(name for name in os.listxattr(handle) if is_carried(name))
    except OSError as error:
        if error.errno in _NONE:
            return []
        raise


def set_rights(handle: int, owner: tuple[int, int], mode: int, attributes: Attributes) -> None:
    """Owner and group, attributes and mode; what a folder's default list gave to a new file is taken away.

    In this order: a new owner ends capabilities, and an access control list holds the mode's bits. Raises OSError, and
    BadAttribute where the file system cannot hold them.
    """
    os.fchown(handle, *owner)
    wanted = dict(attributes)
    for name in _names(handle):
        if name not in wanted:
            os.removexattr(handle, name)
    os.fchmod(handle, mode)
    for name, text in attributes:
        try:
            os.setxattr(handle, name, to_value(name, text, user_id, group_id))
        except OSError as error:
            if error.errno not in _NONE:
                raise
            raise BadAttribute(f"its file system cannot hold {name}") from None
