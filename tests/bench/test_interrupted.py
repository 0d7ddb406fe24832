"""A run that is ended before its end: what it has measured is shown and written, and said to be incomplete."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.bench import result
from hacore.lab import nodes

PATIENCE = 90.0
PROGRAM = "from hacore.cli import main; main()"
CHURN = ("sync", "churn", "--churn-rate", "500", "--duration", "0.5", "--without", "conntrackd")


class Terminal:
    """`hacore bench ARGUMENTS` in a terminal of its own, 160 columns wide."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._master = master
        self._octets = b""

    @property
    def text(self) -> str:
        """Everything it has shown so far, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._octets.decode(errors="replace"))

    def read_until(self, shown: str) -> None:
        """Fails where that is not shown in time."""
        deadline = time.monotonic() + PATIENCE
        while shown not in self.text:
            assert time.monotonic() < deadline, self.text
            assert self._read(1.0), self.text

    def end(self) -> int:
        """Reads the rest; the exit code."""
        while self._read(PATIENCE):
            pass
        return self.process.wait(PATIENCE)

    def type(self, octets: bytes) -> None:
        """As if somebody pressed these keys."""
        os.write(self._master, octets)

    def hang_up(self) -> int:
        """The terminal is gone; the exit code."""
        os.close(self._master)
        self._master = -1
        return self.process.wait(PATIENCE)

    def _read(self, patience: float) -> bool:
        """Whether there is still somebody who may show more."""
        if not select.select([self._master], [], [], patience)[0]:
            return True
        try:
            octets = os.read(self._master, 1 << 16)
        except OSError:  # EIO: the last one has closed its end
            octets = b""
        self._octets += octets
        return bool(octets)

    def close(self) -> None:
        """It is gone, whatever happened."""
        self.process.kill()
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)


Opened = Callable[..., Terminal]


@pytest.fixture
def terminal(tool: Callable[[str], str]) -> Iterator[Opened]:
    """`terminal(*arguments)` runs the command in one."""
    opened: list[Terminal] = []

    def run(*arguments: str) -> Terminal:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        command = [tool("setsid"), "--ctty", sys.executable, "-c", PROGRAM, "bench", *arguments]
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment | {"TERM": "xterm"}
        )
        os.close(slave)
        opened.append(Terminal(master, process))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def labs(base: Path) -> list[Path]:
    """Those that are left."""
    return [path for path in base.iterdir() if path.is_dir()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_loses_nothing(terminal: Opened, directory: Path, tmp_path: Path, number: signal.Signals) -> None:
    json, html = tmp_path / "run.json", tmp_path / "run.html"
    places = ("--output", str(json), "--html", str(html))
    run = terminal(*CHURN, "--repeat", "40", "--name", directory.name, *places)
    run.read_until("3 of 40")
    if number == signal.SIGHUP:
        code = run.hang_up()
    elif number == signal.SIGTERM:
        run.process.terminate()
        code = run.end()
    else:
        run.type(b"\x03")
        code = run.end()
    assert code == 128 + number
    assert nodes.marked(directory) == []
    assert labs(directory.parent) == []
    found = result.load(json)
    taken = {len(figure.samples) for figure in found.figures}
    assert min(taken) >= 1
    assert max(taken) < 40
    assert "3 of 40" in found.missing[0].part
    assert [each.part for each in found.missing][-1] == "churn of 500 flows a second: bare injector, 40 of 40"
    assert all(number.name in each.why for each in found.missing)
    page = html.read_text(encoding="utf-8")
    assert "hacore bench sync, incomplete" in page
    assert number.name in page
    if number != signal.SIGHUP:
        for part in ("hacore bench sync, incomplete", "CPU a flow", f"{number.name}: the result is incomplete"):
            assert part in run.text
        assert "Traceback" not in run.text


def test_an_impatient_user_loses_nothing(terminal: Opened, directory: Path, tmp_path: Path) -> None:
    json = tmp_path / "run.json"
    run = terminal("failover", "stop", "--subject", "hacore", "--load", "none", "--repeat", "30", "--output", str(json))
    run.read_until("hacore: stop, 3 of 30")
    run.type(b"\x03")
    time.sleep(0.2)
    run.type(b"\x03")
    # The second one may meet an interpreter that is about to end, with nothing left to do.
    assert run.end() in (130, -signal.SIGINT)
    assert labs(directory.parent) == []
    found = result.load(json)
    assert {len(figure.samples) for figure in found.figures if figure.name == "failed over"} == {2}
    assert found.missing[0].part == "hacore: plays 1 to 5 of 30"
    assert found.missing[0].why.endswith("at: hacore: stop, 3 of 30")
    assert len(found.missing) == 6
    assert found.series != []


def test_a_size_that_was_begun_counts(terminal: Opened, directory: Path, tmp_path: Path) -> None:
    json = tmp_path / "run.json"
    few = ("--no-whole", "--without", "keepalived", "--seconds", "5", "--repeat", "1")
    run = terminal("scale", "1", "2", *few, "--output", str(json))
    run.read_until("hacore: 1 VHIDs idle")
    run.type(b"\x03")
    assert run.end() == 130
    assert labs(directory.parent) == []
    found = result.load(json)
    assert [figure.name for figure in found.figures] == ["from start to the last MASTER"]
    assert [each.part for each in found.missing] == ["hacore: 1 VHIDs, 1 of 1", "hacore: 2 VHIDs, 1 of 1"]


def test_nothing_measured_leaves_an_earlier_result_alone(terminal: Opened, directory: Path, tmp_path: Path) -> None:
    json = tmp_path / "run.json"
    json.write_text("of yesterday")
    run = terminal(*CHURN, "--name", directory.name, "--output", str(json))
    run.read_until("the lab is built")
    run.type(b"\x03")
    assert run.end() == 130
    assert labs(directory.parent) == []
    assert "SIGINT: nothing was measured, nothing is written" in run.text
    assert json.read_text() == "of yesterday"


def test_a_part_that_fails_is_missing_and_the_others_are_measured(
    terminal: Opened, directory: Path, tmp_path: Path
) -> None:
    json = tmp_path / "run.json"
    run = terminal(*CHURN, "--repeat", "3", "--name", directory.name, "--output", str(json))
    run.read_until("2 of 3")
    deadline = time.monotonic() + PATIENCE
    while not (loads := [pid for pid in nodes.marked(directory) if "hacore.bench.load" in nodes.command_line(pid)]):
        assert time.monotonic() < deadline, run.text
        time.sleep(0.01)
    os.kill(loads[0], signal.SIGKILL)
    assert run.end() == 1
    found = result.load(json)
    (lack,) = found.missing
    assert lack.part == "churn of 500 flows a second: hacore, 2 of 3"
    assert lack.why == "the load ended with -9"
    assert {(figure.subject, len(figure.samples)) for figure in found.figures} == {("hacore", 2), ("bare injector", 3)}
    assert "the result is incomplete: 1 of 6 parts failed: the load ended with -9" in run.text
