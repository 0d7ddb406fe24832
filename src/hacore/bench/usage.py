"""What processes take: processor time from the clock that the kernel keeps for each, and memory from /proc."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hacore.linux.process import cpu_time


class Usage(msgspec.Struct, frozen=True):
    """Of some processes together, at a moment (monotonic seconds) or, after `since`, over a time.

    processor: seconds of processor time, or the share of one core. resident_bytes: all their pages, those that they
    share counted for each (RSS). own_bytes: shared pages divided among those that share them (PSS). Both come out of
    one walk through the page tables, so that they belong to one moment.
    """

    moment: float
    processor: float
    resident_bytes: int
    own_bytes: int

    @classmethod
    def of(cls, pids: Iterable[int]) -> Usage:
        """What these have taken so far; those that are gone count nothing."""
        moment, processor, resident, own = time.monotonic(), 0.0, 0, 0
        for pid in pids:
            with contextlib.suppress(OSError):
                processor += cpu_time(pid)
                rollup = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"))
                resident += rollup.get("Rss", 0) * 1024
                own += rollup.get("Pss", 0) * 1024
        return cls(moment, processor, resident, own)

    def since(self, earlier: Usage) -> Usage:
        """The processor as a share of one core since `earlier`, the memory of now."""
        share = (self.processor - earlier.processor) / (self.moment - earlier.moment)
        return msgspec.structs.replace(self, processor=share)


def _kilobytes(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return found
