"""What the control worker says about itself and what it looks after: the `control` of `status --json`.

Moments are unix seconds, as in `snapshot`; every field that is gained has a default.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from hacore.services.service import Report

#: How a push ended, as `configsync.report.Result`; "failed": it did not come about, or its end is not known.
PushResult = Literal["applied", "unchanged", "checked", "refused", "undone", "broken", "failed"]


class PushCount(Struct, frozen=True, kw_only=True):
    """Pushes with one result since the control worker started: "to" a peer, or "from" one. `last` is when the last
    ended.
    """

    peer: str
    direction: Literal["to", "from"]
    result: PushResult
    count: int
    last: float


class SectionApplied(Struct, frozen=True, kw_only=True):
    """A section that a push or a roll-back brought to this node: the last revision that changed it, when, and by whom.

    It says nothing of what became of the files since then.
    """

    id: str
    revision: int
    applied_at: float
    by: str


class ControlStatus(Struct, frozen=True, kw_only=True):
    """`generated` is when the control worker said this; `services` are as they were at `services_seen` (0: never)."""

    generated: float = 0.0
    pushes: list[PushCount] = []
    sections: list[SectionApplied] = []
    services: list[Report] = []
    services_seen: float = 0.0
