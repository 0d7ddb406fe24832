"""The control worker's process: `python -m hacore.node.control CHANNEL_FD`. A loop of asyncio around
`hacore.control.worker`. `python -m hacore.web` is the same process with the status page as one more part.

What takes long runs in threads: the loop gives the supervisor a sign of life every few seconds.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hacore.control.worker import ControlWorker
from hacore.errors import HacoreError
from hacore.linux import libc
from hacore.node.channel import Channel
from hacore.node.control_bus import AsyncBus
from hacore.node.event import Value
from hacore.node.messages import (
    SIGN_OF_LIFE,
    ConfigureControl,
    ControlCondition,
    ControlEvent,
    Leave,
    Ready,
    ToControl,
)
from hacore.node.settings import load

STARTING_PAUSE = 0.2  # seconds between two looks for a worker that starts

#: Made with the worker before it starts, as `ControlWorker.part` does; one that fails is left out.
Part = Callable[[ControlWorker], object]


class Process:
    """The worker, and its channel to the supervisor. `parts` are added to the worker's own."""

    def __init__(self, channel: Channel[ToControl], parts: Sequence[Part] = ()) -> None:
        self._channel = channel
        self._parts = parts
        self._worker: ControlWorker | None = None
        self._ended = asyncio.Event()
        self._orders: asyncio.Queue[ConfigureControl] = asyncio.Queue()
        self.exit_code = 0

    async def run(self) -> None:
        """Until told to leave, or the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fault)
        loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        loop.add_reader(self._channel.fileno(), self._hear)
        tasks = [loop.create_task(self._obey()), loop.create_task(self._live())]
        await self._ended.wait()
        for task in tasks:
            task.cancel()
        if self._worker is not None:
            await self._worker.stop()
        self._channel.flush()

    def _hear(self) -> None:
        for message in self._channel.receive():
            if isinstance(message, ConfigureControl):
                self._orders.put_nowait(message)
            elif isinstance(message, Leave):
                self._ended.set()
        if self._channel.closed:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._ended.set()

    async def _obey(self) -> None:
        """Starts the worker with the first settings and reloads it with the others, one after the other."""
        while True:
            order = await self._orders.get()
            try:
                if self._worker is None:
                    settings = load(order.path)
                    worker = ControlWorker(settings, AsyncBus(settings.node.runtime_dir), self.tell)
                    self._add_parts(worker)
                    await worker.start()
                    self._worker = worker
                    gc.collect()
                    gc.freeze()
                    self._send(Ready(refused=[]))
                else:
                    await self._worker.reload()
            except HacoreError as error:
                what = "cannot start" if self._worker is None else "did not take the settings"
                self.tell("control", f"the control worker {what}: {error}", "", {})
                if self._worker is None:
                    self.exit_code = error.exit_code
                    self._ended.set()
            except Exception as error:  # noqa: BLE001 - told to the history, then the supervisor starts it anew
                self._fault(asyncio.get_running_loop(), {"message": "settings", "exception": error})
                self.exit_code = 70
                self._ended.set()

    def _add_parts(self, worker: ControlWorker) -> None:
        for part in self._parts:
            try:
                worker.part(part)
            except Exception as error:  # noqa: BLE001 - the node API is worth more than any part beside it
                worker.fault("a part that is left out", error)
                worker.warnings["part"] = f"a part of the control worker is left out: {error}"

    async def _live(self) -> None:
        """The worker's condition at each change, and as a sign of life."""
        said, said_at = None, 0.0
        while True:
            worker = self._worker
            condition = ControlCondition(
                warnings=list(worker.warnings.values()) if worker else [],
                certificates=worker.certificates if worker else [],
                status=worker.status if worker else None,
            )
            now = time.monotonic()
            if condition != said or now - said_at >= SIGN_OF_LIFE / 2:
                self._send(condition)
                said, said_at = condition, now
            if worker is None:
                await asyncio.sleep(STARTING_PAUSE)
                continue
            worker.status_changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGN_OF_LIFE):
                    await worker.status_changed.wait()

    def _send(self, message: Ready | ControlCondition | ControlEvent) -> None:
        self._channel.send(message)

    def tell(self, kind: str, text: str, vip: str, fields: Mapping[str, Value]) -> None:
        """A line for the node's history."""
        self._send(ControlEvent(kind=kind, text=text, vip=vip, at=time.time(), fields=dict(fields)))

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught: told, and the loop goes on."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            import traceback

            traceback.print_exception(error)
        what = f"{type(error).__name__}: {error}" if error is not None else ""
        self.tell("fault", f"control worker: {context.get('message', '')} {what}".strip(), "", {})


def main(parts: Sequence[Part] = ()) -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc.set_process_name("hacore-control")
    libc.forbid_core_dumps()
    channel: Channel[ToControl] = Channel(socket.socket(fileno=int(sys.argv[1])), ToControl)

    async def process() -> int:
        one = Process(channel, parts)
        await one.run()
        return one.exit_code

    sys.exit(asyncio.run(process()))


if __name__ == "__main__":
    main()
