"""The status of this node as it changes, for the peers that look on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from hacore.control.live import INTERVAL, LONGEST_INTERVAL, Live, LiveWord
from hacore.control.registry import Call, Route

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class HowOften(Struct, kw_only=True):
    """At least one word in so many seconds."""

    every: Annotated[float, Meta(ge=INTERVAL, le=LONGEST_INTERVAL)] = INTERVAL


def routes(worker: ControlWorker) -> list[Route]:
    """Served to the peers."""
    worker.part(Live)
    return [
        Route(
            "GET", "/live", live, "The status at once, at every event and every few seconds, until the asker hangs up",
            response=LiveWord, query=HowOften, needs="status", streams=True,
        ),
    ]  # fmt: skip


async def live(call: Call) -> AsyncIterator[LiveWord]:
    """As long as the other side reads."""
    async for word in call.worker.part(Live).follow(call.query.every):
        yield word
