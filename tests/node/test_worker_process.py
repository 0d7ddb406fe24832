"""Workers as processes: started, heard, restarted, noticed when they are stopped or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.node.loop import Loop
from hacore.node.messages import AskReport, FromElection, Ready
from hacore.node.worker_process import WorkerProcess

WORKER = """
import socket, sys, time
from hacore.node.channel import Channel
from hacore.node.messages import Ready, ToElection
channel = Channel(socket.socket(fileno=int(sys.argv[1])), ToElection)
channel.send(Ready(refused=[]))
while not channel.closed:
    if channel.receive():
        sys.exit(7)
    time.sleep(0.01)
"""


class Watched:
    """A worker and what it told."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.messages: list[FromElection] = []
        self.ends: list[str] = []
        self.lost = 0
        self.process: WorkerProcess[FromElection] = WorkerProcess(
            loop,
            "test",
            "hacore_test_worker",
            FromElection,
            on_start=lambda _now: self.process.start(),
            on_message=lambda message, _now: self.messages.append(message),
            on_end=lambda why, _now: self.ends.append(why),
            on_lost=self._on_lost,
        )

    def _on_lost(self, _now: float) -> None:
        assert len(self.ends) == self.lost, "before the end, and once for each"
        self.lost += 1

    def until(self, condition: Callable[[], bool]) -> None:
        limit = self.loop.now() + 10.0
        while not condition():
            assert self.loop.now() < limit, (self.messages, self.ends)
            self.loop.run_once(0.1)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    (tmp_path / "hacore_test_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    errors: list[str] = []
    loop = Loop(lambda where, error: errors.append(f"{where}: {error!r}"))
    made = Watched(loop)
    loop.on_signals({signal.SIGCHLD: made.process.check_for_stop})
    yield made
    made.process.stop()
    made.process.kill("the test ends", loop.now())
    loop.close()
    assert errors == []


def test_starts_and_speaks(watched: Watched) -> None:
    watched.process.start()
    watched.until(lambda: watched.messages == [Ready(refused=[])])
    assert watched.process.runs
    status = watched.process.status()
    assert (status.pid, status.restarts) == (watched.process.pid, 0)


def test_ends_are_told_and_followed_by_a_restart(watched: Watched) -> None:
    watched.process.start()
    watched.until(lambda: len(watched.messages) == 1)
    watched.process.send(AskReport(1))
    watched.until(lambda: watched.ends == ["ended with exit code 7"])
    watched.until(lambda: len(watched.messages) == 2)
    assert watched.process.restarts == 1


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "was stopped by SIGSTOP")]
)
def test_death_and_stop_are_noticed(watched: Watched, number: signal.Signals, told: str) -> None:
    watched.process.start()
    watched.until(lambda: len(watched.messages) == 1)
    pid = watched.process.pid
    os.kill(pid, number)
    watched.until(lambda: bool(watched.ends))
    assert watched.ends == [told]
    assert watched.lost == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_last_end_is_the_last(watched: Watched) -> None:
    watched.process.start()
    watched.until(lambda: len(watched.messages) == 1)
    watched.process.stop()
    watched.process.send(AskReport(1))
    watched.until(lambda: bool(watched.ends))
    for _ in range(5):
        watched.loop.run_once(0.05)
    assert not watched.process.runs
    assert watched.process.state == "stopped"
