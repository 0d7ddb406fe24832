"""Numbers, ages and moments as people read them."""

from __future__ import annotations

import time

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def duration(seconds: float) -> str:
    """The two largest units: `4 s`, `3 m 12 s`, `2 h 5 m`, `12 d 3 h`. Below a second `0 s`."""
    left = max(0, int(seconds))
    for place, (size, unit) in enumerate(_UNITS):
        if left >= size:
            rest = left % size // _UNITS[place + 1][0] if size > 1 else 0
            return f"{left // size} {unit}" + (f" {rest} {_UNITS[place + 1][1]}" if rest else "")
    return "0 s"


def clock(moment: float, now: float) -> str:
    """HH:MM:SS, with the date where it is another day, by this node's clock and time zone."""
    there, here = time.localtime(moment), time.localtime(now)
    return time.strftime("%H:%M:%S" if there[:3] == here[:3] else "%Y-%m-%d %H:%M:%S", there)


def number(value: float) -> str:
    """With thousands apart, at most one digit after the point: `12,345`, `0.4`."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def size(count_bytes: float) -> str:
    """Bytes in the unit that leaves few digits."""
    value = float(count_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def lag(seconds: float) -> str:
    """In the unit that leaves few digits: `0 ms`, `3.2 ms`, `1.4 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms" if 0 < seconds < 0.1 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s"


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
