"""Room on the disks: whether a push will find enough of it, and the error when it does not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from hacore.errors import HacoreError

FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(HacoreError):
    """A file system, or the quota on it, has no room for what is to be written; the message says where."""

    exit_code = 74
    code = "disk-full"


def is_full(error: BaseException) -> bool:
    """Whether that is what the kernel said."""
    return isinstance(error, OSError) and error.errno in FULL


def demand_room(wanted: Iterable[tuple[Path, int]]) -> None:
    """Whether so many bytes, each at or below its path, find room together; raises DiskFull.

    Paths on one file system share its room. A path that is not there yet counts where it will be.
    """
    total: dict[int, int] = {}
    places: dict[int, Path] = {}
    for path, size in wanted:
        place = next(each for each in (path, *path.parents) if each.is_dir())
        device = place.stat().st_dev
        total[device] = total.get(device, 0) + size
        places.setdefault(device, place)
    for device, size in total.items():
        about = os.statvfs(places[device])
        free = about.f_bavail * about.f_frsize
        if free < size:
            raise DiskFull(
                f"the disk of {places[device]} is too full: the push needs {_amount(size)} and {_amount(free)} are free"
            )


def _amount(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
