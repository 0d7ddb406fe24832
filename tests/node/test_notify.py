"""Notifications, read from real sockets as systemd would."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.node.loop import Loop
from hacore.node.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@ht-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind(name.replace("@", "\0"))
        yield receiver


def name_of(receiver: socket.socket) -> str:
    name: str | bytes = receiver.getsockname()
    return name if isinstance(name, str) else os.fsdecode(name.replace(b"\0", b"@"))


def received(receiver: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(receiver.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_what_a_service_says(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": name_of(systemd), "HOME": "/root"}
    notifier = Notifier(environ)
    assert environ == {"HOME": "/root"}
    notifier.ready("starting\nup")
    notifier.status("MASTER of lan")
    notifier.status("MASTER of lan")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.ready()
    notifier.stopping()
    *others, reloading, ready, stopping = received(systemd)
    assert others == ["READY=1", "STATUS=starting up", "STATUS=MASTER of lan"]
    first, second = reloading.split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert before <= int(second.partition("=")[2]) <= after
    assert (ready, stopping) == ("READY=1", "STOPPING=1")
    notifier.close()


def test_the_watchdog_is_fed_at_half_its_time(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": name_of(systemd), "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environ)
    assert environ == {}
    assert notifier.watchdog_interval == 0.05
    loop = Loop(lambda where, error: pytest.fail(where))
    notifier.start_watchdog(loop)
    notifier.start_watchdog(loop)
    assert received(systemd) == ["WATCHDOG=1"]
    for _ in range(2):
        loop.run_once(5)
        assert received(systemd) == ["WATCHDOG=1"]
    notifier.close()
    loop.run_once(0.1)
    assert received(systemd) == []
    loop.close()


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "junk"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}],
)
def test_without_a_watchdog_of_ours_nothing_is_fed(systemd: socket.socket, watchdog: dict[str, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name_of(systemd), **watchdog})
    assert notifier.watchdog_interval is None
    loop = Loop(lambda where, error: pytest.fail(where))
    notifier.start_watchdog(loop)
    assert received(systemd) == []
    loop.close()
    notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier({**environ, "WATCHDOG_USEC": "100000"})
    assert notifier.watchdog_interval is None
    notifier.ready("up")
    notifier.status("more")
    notifier.reloading()
    notifier.stopping()
    notifier.close()


def test_a_systemd_that_is_gone_or_busy_holds_nobody_up(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name_of(systemd)})
    for _ in range(5000):
        notifier.alive()
    notifier.status("lost")
    assert set(received(systemd)) == {"WATCHDOG=1"}
    notifier.status("lost")
    assert received(systemd) == ["STATUS=lost"], "a status that did not get through is said again"
    systemd.close()
    notifier.stopping()
    notifier.close()
