"""What systemd is told about the service (sd_notify(3)); without a socket to tell it on, nothing is sent."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from hacore.node.loop import Loop, Timer


class Notifier:
    """The service's side of NOTIFY_SOCKET. What systemd does not take at once is dropped: nothing waits or fails.

    The variables are taken out of `environ`, so that no child believes they are meant for it.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        watchdog = environ.pop("WATCHDOG_USEC", "")
        watchdog_pid = environ.pop("WATCHDOG_PID", "")
        self._address: str | bytes = b"\0" + os.fsencode(path[1:]) if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self._status = ""
        self._timer: Timer | None = None
        #: Seconds between two signs of life (half of what systemd waits), or None when it expects none.
        self.watchdog_interval: float | None = None
        if path[:1] in ("/", "@") and len(path) > 1:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            if watchdog.isdecimal() and int(watchdog) > 0 and watchdog_pid in ("", str(os.getpid())):
                self.watchdog_interval = int(watchdog) / 2e6

    def ready(self, status: str | None = None) -> None:
        """The node runs; also the end of a reload."""
        self._send("READY=1")
        if status is not None:
            self.status(status)

    def status(self, text: str) -> None:
        """One line for `systemctl status`, sent when it changed."""
        text = text.replace("\n", " ")
        if text != self._status and self._send(f"STATUS={text}"):
            self._status = text

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The node ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """One sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    def start_watchdog(self, loop: Loop) -> None:
        """Gives signs of life from the loop, now and at every interval, as long as it turns."""
        if self.watchdog_interval is not None and self._timer is None:
            self._beat(loop, loop.now())

    def close(self) -> None:
        """Ends the signs of life and closes the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _beat(self, loop: Loop, now: float) -> None:
        self.alive()
        assert self.watchdog_interval is not None
        self._timer = loop.call_at(now + self.watchdog_interval, lambda then: self._beat(loop, then))

    def _send(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False  # systemd is busy or gone
        return True
