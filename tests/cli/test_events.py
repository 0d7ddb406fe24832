"""`hacore events`: from the node, as they happen, and from the disk when no node runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import FakeNode, Run


def event(seq: int, text: str, **more: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "boot": "b",
        "time": 1_800_000_000.25 + seq,
        "node": "fw1",
        "kind": "transition",
        "text": text,
        **more,
    }


FIRST = event(1, "lan (1@eth1): INIT -> BACKUP (initialization complete)", vip="lan", fields={"after": "BACKUP"})
SECOND = event(2, "lan (1@eth1): BACKUP -> MASTER (master timed out)", vip="lan", fields={"after": "MASTER"})


def test_the_latest(run: Run, node: FakeNode) -> None:
    node.answers["events"] = {"events": [FIRST, SECOND]}
    result = run("events", "-n", "2", width=120)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line[19:] for line in lines] == [f".250  {FIRST['text']}", f".250  {SECOND['text']}"]
    assert node.requests == [{"command": "events", "limit": 2}]


def test_a_narrow_terminal_folds_under_the_text(run: Run, node: FakeNode) -> None:
    node.answers["events"] = {"events": [SECOND]}
    lines = run("events", width=60).output.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert lines[1].startswith(" " * 25)


def test_json_lines(run: Run, node: FakeNode) -> None:
    node.answers["events"] = {"events": [FIRST, SECOND]}
    assert [json.loads(line) for line in run("events", "--json").output.splitlines()] == [FIRST, SECOND]


def test_following_until_the_node_ends(run: Run, node: FakeNode) -> None:
    node.answers["events"] = [{"ok": True, "events": [FIRST]}, {"event": SECOND}]
    result = run("events", "--follow", "--json")
    assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == [1, 2]
    assert result.exit_code == 69
    assert "closed the connection" in result.stderr
    assert node.requests == [{"command": "events", "follow": True, "limit": 20, "after": 0}]


def test_from_the_disk_when_no_node_runs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "events.jsonl").write_text(json.dumps(FIRST) + "\n" + json.dumps(SECOND) + "\n")
    result = run("events", "--json", "--limit", "1")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["seq"] == 2
    assert f"From the history in {tmp_path / 'state'}" in result.stderr


def test_no_history_at_all(run: Run) -> None:
    result = run("events")
    assert result.exit_code == 0
    assert result.stdout == ""
