"""`hacore maintenance`: the flag first, then the node; without a node, the flag alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hacore.node import maintenance
from tests.cli.conftest import FakeNode, Run


def test_the_flag_stands_before_the_node_is_asked(run: Run, node: FakeNode, tmp_path: Path) -> None:
    seen: list[tuple[dict[str, Any], bool]] = []
    node.on_request = lambda request: seen.append((request, maintenance.is_entered(tmp_path / "state")))
    assert run("maintenance", "enter").output == "maintenance entered\n"
    assert run("maintenance", "leave").output == "maintenance left\n"
    assert seen == [
        ({"command": "maintenance", "enter": True}, True),
        ({"command": "maintenance", "enter": False}, False),
    ]


def test_without_a_node_it_takes_effect_at_the_start(run: Run, tmp_path: Path) -> None:
    result = run("maintenance", "enter")
    assert result.exit_code == 0
    assert result.output == "maintenance is set; no node is running, so it takes effect when one starts\n"
    assert maintenance.is_entered(tmp_path / "state")
    assert "maintenance was set already" in run("maintenance", "enter").output
    assert "maintenance is no longer set" in run("maintenance", "leave").output
    assert not maintenance.is_entered(tmp_path / "state")
    assert "maintenance was not set" in run("maintenance", "leave").output


def test_a_crashed_node_left_its_socket(run: Run, node: FakeNode, tmp_path: Path) -> None:
    node.close()
    assert "takes effect when one starts" in run("maintenance", "enter").output


def test_a_stuck_node_is_an_error_and_the_flag_stands(
    run: Run, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hacore.errors import NotRunning
    from hacore.node.bus import Client

    def stuck(*_: object, **__: object) -> dict[str, Any]:
        raise NotRunning("the node did not answer within 10 s: it is stopped or stuck")

    monkeypatch.setattr(Client, "request", stuck)
    result = run("maintenance", "enter")
    assert result.exit_code == 69
    assert "the flag is set and holds from the next start, but: the node did not answer" in result.stderr
    assert maintenance.is_entered(tmp_path / "state")
