"""The local bus for a loop of asyncio: the protocol of `bus`, without waiting in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from hacore.errors import NotRunning, PlatformError
from hacore.node.bus import SOCKET, TIMEOUT, Client, SocketPath
from hacore.node.event import NOT_JSON

LINE_BYTES = 16 << 20


class AsyncBus:
    """Asks the supervisor; each request is a connection of its own, in a thread of its own."""

    def __init__(self, runtime_dir: Path) -> None:
        self._directory = runtime_dir

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """As `bus.Client.request`."""
        return await asyncio.to_thread(Client(self._directory).request, command, **arguments)

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """An empty one once nothing is missed any more, then each new event.

        Raises NotRunning when the supervisor ends, or dropped a reader too slow.
        """
        writer = None
        try:
            async with asyncio.timeout(TIMEOUT):
                with SocketPath(self._directory) as path:
                    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
                writer.write(msgspec.json.encode({"command": "events", "follow": True, "limit": 0, "after": 0}) + b"\n")
                await writer.drain()
                await reader.readline()
            yield {}
            while line := await reader.readline():
                yield msgspec.json.decode(line, type=dict[str, Any])["event"]
        except NOT_JSON as error:
            raise PlatformError(f"{self._directory}/{SOCKET} does not speak the node's language: {error}") from None
        except (OSError, TimeoutError, ValueError) as error:
            raise NotRunning(f"the node on {self._directory} does not answer: {error}") from None
        finally:
            if writer is not None:
                writer.close()
        raise NotRunning(f"the node on {self._directory} closed the connection")
