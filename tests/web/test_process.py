"""The page and the process that it lives in."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from hacore.control.worker import ControlWorker
from hacore.errors import SettingsError
from hacore.node.channel import Channel
from hacore.node.control import Process
from hacore.node.messages import ToControl
from hacore.node.settings import load
from tests.control.worker_pair import Played
from tests.web.pages import PageNode, page_pair

WEB = '[web]\nlisten = "10.1.0.11:8118"'


def answers(node: PageNode) -> str:
    """The status of the log-in's answer; 000 where nobody listens."""
    command = ("curl", "--insecure", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}")
    return node.host.run(*command, f"{node.url}/login", check=False)


def test_a_reload_switches_the_page_on_and_off(tmp_path: Path) -> None:
    with page_pair(tmp_path, wan_too=False) as pair:
        node = pair.fw1
        assert answers(node) == "200"
        right = node.settings.read_text()
        node.settings.write_text(right.replace("10.1.0.11:8118", "10.1.0.99:8118"))
        node.ask("reload")
        node.until(lambda: any("[web] cannot listen" in one for one in node.status()["node"]["warnings"]))
        assert pair.fw2.hacore("services", "list", "--peer", "fw1").returncode == 0, "the node API goes on"
        node.settings.write_text(right)
        node.ask("reload")
        node.until(lambda: answers(node) == "200")
        before = node.control_pid()
        node.settings.write_text(node.settings.read_text().replace(WEB, ""))
        node.ask("reload")
        node.until(lambda: node.control_pid() not in (0, before) and answers(node) == "000")
        before = node.control_pid()
        node.settings.write_text(f"{node.settings.read_text()}\n{WEB}\n")
        node.ask("reload")
        node.until(lambda: node.control_pid() not in (0, before) and answers(node) == "200")
        assert node.transitions()[-1][0] == "MASTER"
        assert not node.events("fault")


def test_the_page_needs_the_control_worker(tmp_path: Path) -> None:
    settings = tmp_path / "hacore.toml"
    settings.write_text('[node]\nname = "fw1"\n[web]\n')
    with pytest.raises(SettingsError, match="needs the table"):
        load(settings)


def test_a_part_that_cannot_be_made_is_left_out(tmp_path: Path) -> None:
    def broken(_worker: ControlWorker) -> object:
        raise ImportError("no module named jinja2")

    played = Played(tmp_path, "fw1", "MASTER")
    played.write(name="fw1", other="fw2", advskew=0, port=1, other_port=2)
    worker = ControlWorker(load(played.path), played.bus, played._told)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        channel: Channel[Any] = Channel(ours, ToControl)
        Process(channel, [broken])._add_parts(worker)
        channel.close()
    assert "no module named jinja2" in worker.warnings["part"]
    assert any(kind == "fault" for kind, _text, _fields in played.events)
