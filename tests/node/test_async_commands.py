"""Commands that are run from an event loop of asyncio: none outlives its call."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from hacore.node import async_commands


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()  # as a zombie too


@pytest.mark.parametrize("cancellations", [1, 2, 3])
@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while :; do sleep 1; done"])
def test_a_call_that_is_cancelled_leaves_no_process(script: str, cancellations: int) -> None:
    pids: list[int] = []

    async def run() -> None:
        before = len(os.listdir("/proc/self/fd"))
        call = asyncio.create_task(async_commands.run(["sh", "-c", script], timeout=30.0, started=pids.append))
        while not pids:
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)  # its trap is set
        for _ in range(cancellations):
            call.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(run())
    assert not lives(pids[0])
