"""Results that nobody measured."""

from __future__ import annotations

from typing import Any

from hacore.bench.result import Figure, Machine, Result, Series

MACHINE = Machine(
    processor="Thing 3000",
    cores=2,
    memory_bytes=8 * 10**9,
    kernel="6.1.0",
    distribution="Debian",
    load_before=0.25,
    load_after=1.5,
)


def figure(samples: list[float], **changes: Any) -> Figure:
    """hacore's takeover in seconds, where nothing else is said."""
    fields: dict[str, Any] = {"name": "takeover", "unit": "s", "better": "less", "subject": "hacore"}
    return Figure(**fields | {"samples": samples} | changes)


def result(*figures: Figure, **changes: Any) -> Result:
    """A run of `bench failover`."""
    fields: dict[str, Any] = {
        "command": "failover",
        "started": 1.7e9,
        "duration": 12.0,
        "machine": MACHINE,
        "versions": {"hacore": "1", "keepalived": "2.2.7"},
        "settings": {"repeat": 5},
    }
    return Result(**fields | {"figures": list(figures)} | changes)


def series(subject: str) -> Series:
    """Two points."""
    return Series(name="share", subject=subject, x_name="outage", x_unit="s", unit="1", x=[0.01, 2.0], y=[0.5, 1.0])
