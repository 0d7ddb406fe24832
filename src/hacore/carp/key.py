"""The authentication of advertisements: keys, what they make and verify, and the verdicts of verifying many."""

from __future__ import annotations

import enum

from hacore._fast.advert import Advertisement, AdvertKey

__all__ = ["AdvertKey", "Advertisement", "Verdict"]


class Verdict(enum.IntEnum):
    """One value of the array that AdvertKey.verify_many returns: valid, or the first rung of the ladder that failed.

    The order is that of the checks in FreeBSD's carp_input_c; the names are those of WireError.rung.
    """

    VALID = 0
    SHORT = 1
    CHECKSUM = 2
    VHID = 3
    VERSION = 4
    AUTHENTICATION = 5
