"""A command run as a user would, and a node that says what a test tells it to say."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hacore.cli import main
from tests.namespaces import Network

SETTINGS = """
[node]
name = "fw1"
runtime_dir = "run"
state_dir = "state"
[[vip]]
name = "lan"
interface = "lan"
vhid = 1
password = "secret"
addresses = ["192.0.2.1/24"]
"""

Run = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def in_a_namespace() -> Iterator[None]:
    """Commands look at the machine's interfaces: there is one called lan."""
    with Network() as network:
        host = network.host("host")
        host.ip("link add lan type bridge")
        with host.entered():
            yield


@pytest.fixture
def settings_path(tmp_path: Path) -> Path:
    """Settings that are right, of a node that keeps everything under tmp_path."""
    path = tmp_path / "hacore.toml"
    path.write_text(SETTINGS)
    path.chmod(0o600)
    return path


@pytest.fixture
def run(settings_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("status", "--json")` is `hacore -c SETTINGS status --json`; width is the terminal's."""

    def command(*arguments: str, width: int = 80) -> Result:
        monkeypatch.setenv("COLUMNS", str(width))
        return CliRunner().invoke(main, ["-c", str(settings_path), *arguments], prog_name="hacore")

    return command


class FakeNode:
    """Serves the bus's protocol: `answers` by command, `requests` as they came; exceptions are errors."""

    def __init__(self, directory: Path) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[dict[str, Any]] = []
        self.on_request: Callable[[dict[str, Any]], None] = lambda _request: None
        directory.mkdir(parents=True, exist_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(directory / "hacore.sock"))
        self._socket.listen(8)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                for line in stream:
                    request = json.loads(line)
                    self.on_request(request)
                    self.requests.append(request)
                    lines = self._answer(request)
                    stream.write(b"".join(json.dumps(answer).encode() + b"\n" for answer in lines))
                    stream.flush()
                    if len(lines) > 1:
                        break  # a follower: the node ends

    def _answer(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.answers.get(request["command"], {})
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            error = {
                "type": type(answer).__name__,
                "message": str(answer),
                "exit_code": getattr(answer, "exit_code", 70),
            }
            return [{"ok": False, "error": error}]
        if isinstance(answer, list):
            return answer
        return [{"ok": True, **answer}]

    def close(self) -> None:
        """Stops serving, once; the socket stays behind, as after a crash."""
        if self._socket.fileno() < 0:
            return
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    """A node that runs on the settings' runtime_dir."""
    fake = FakeNode(tmp_path / "run")
    yield fake
    fake.close()
