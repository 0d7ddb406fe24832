"""A sign of life in a stream of lines: a check, an apply command or a service may take longer than a peer waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hacore.control.config_schemas import Line

#: Seconds without a line after which the last one is said again; far below every SILENCE_TIMEOUT.
HEARTBEAT = 10.0


async def with_heartbeat(lines: AsyncGenerator[Line, None]) -> AsyncGenerator[Line, None]:
    """The same lines; while the next one does not come, the last one again where it was progress."""
    last: Line | None = None
    coming: asyncio.Task[Line | None] | None = None
    try:
        while True:
            coming = asyncio.create_task(_next(lines))
            while not coming.done():
                await asyncio.wait([coming], timeout=HEARTBEAT)
                if not coming.done() and last is not None and last.progress is not None:
                    yield last
            last = coming.result()
            if last is None:
                return
            yield last
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait([coming])
        await lines.aclose()


async def _next(lines: AsyncGenerator[Line, None]) -> Line | None:
    return await anext(lines, None)
