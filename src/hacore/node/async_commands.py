"""Runs a command from an event loop of asyncio, as `commands.Runner` does from the node's own: without a shell, in a
session of its own, in `/`, with a small environment, a time limit, and the end of its output kept.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from hacore.node.commands import ENVIRONMENT, GRACE, OUTPUT_AT_ONCE, OUTPUT_KEPT, Result


async def run(
    argv: Sequence[str],
    *,
    timeout: float,
    variables: Mapping[str, str] | None = None,
    keep: int = OUTPUT_KEPT,
    started: Callable[[int], None] | None = None,
) -> Result:
    """Waits for the end of the command, not for what it leaves behind; its stdin is empty.

    `keep` bytes of what it writes are kept, the last ones; `started` is called with its process id, which is that of
    its process group too. When the time is up, or the call is cancelled, the group is asked to end (SIGTERM) and killed
    two seconds later.
    """
    running = _Running(keep)
    try:
        running.start(argv, {**ENVIRONMENT, **(variables or {})})
        if started is not None:
            started(running.pid)
    except (OSError, ValueError) as error:
        running.close()
        return Result(error=f"cannot start {argv[0]}: {getattr(error, 'strerror', None) or error}")
    timed_out = False
    try:
        try:
            async with asyncio.timeout(timeout):
                await running.wait()
        except TimeoutError:
            timed_out = True
            await running.end()
        except asyncio.CancelledError:
            await running.end()
            raise
        return running.result(timed_out)
    finally:
        running.close()


class _Running:
    """One process and the pipe that it writes to."""

    def __init__(self, keep: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._keep = keep
        self._output = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = self._pidfd = -1
        self._ended = self._loop.create_future()
        self._begun = time.monotonic()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._pipe, output = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(self._pipe, False)
            self._process = subprocess.Popen(
                [*argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(output)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._signal(signal.SIGKILL)  # nobody would learn of its end
            self._process.wait()
            raise
        self._loop.add_reader(self._pidfd, self._gone)
        self._loop.add_reader(self._pipe, self._readable)

    async def wait(self) -> None:
        """Until the process has ended."""
        await asyncio.shield(self._ended)

    async def end(self) -> None:
        """SIGTERM, then SIGKILL, to all of its group."""
        self._signal(signal.SIGTERM)
        try:
            # Not asyncio.timeout: in a task that is being cancelled, that of Python 3.11 raises CancelledError.
            await asyncio.wait([self._ended], timeout=GRACE)
        finally:
            self._signal(signal.SIGKILL)
        await self.wait()

    def result(self, timed_out: bool) -> Result:
        assert self._process is not None
        code = self._process.returncode
        self._read()
        return Result(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            timed_out=timed_out,
            output=self._output.decode(errors="replace"),
            duration=time.monotonic() - self._begun,
        )

    def close(self) -> None:
        """No process is left behind, also where the call was cancelled once more while it waited for its end."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # in a system call that nothing interrupts
                self._process.wait(GRACE)
        for fd in (self._pipe, self._pidfd):
            if fd >= 0:
                self._loop.remove_reader(fd)
                os.close(fd)
        self._pipe = self._pidfd = -1
        self._ended.cancel()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):  # all gone, or it has made itself another user
            os.killpg(self._process.pid, number)

    def _gone(self) -> None:
        assert self._process is not None
        self._loop.remove_reader(self._pidfd)
        self._process.wait()
        if not self._ended.done():
            self._ended.set_result(None)

    def _readable(self) -> None:
        if not self._read():
            self._loop.remove_reader(self._pipe)

    def _read(self) -> bool:
        """Takes what is there; whether more may come."""
        try:
            data = os.read(self._pipe, OUTPUT_AT_ONCE)
        except BlockingIOError:
            return True
        self._output += data[-self._keep :]
        del self._output[: -self._keep]
        return bool(data)
