"""The administrator's commands on a running pair, its health checks, its hooks and its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.running_node import RunningNode, Segment, await_master, table, vip, wan

HOOK = """#!/bin/sh
{ env | grep ^HACORE_ | sort; printf 'JSON='; cat; } > "$1.part" && mv "$1.part" "$1.$HACORE_VIP.$HACORE_EPOCH"
printf '%s %s %s\\n' "$(basename "$1")" "$HACORE_EPOCH" "$HACORE_TO" >> "$(dirname "$1")/order"
"""


def test_maintenance_survives_a_restart(segment: Segment) -> None:
    first, second = segment.pair()
    first.hacore("maintenance", "enter")
    await_master(second, first)
    assert first.status()["node"]["maintenance"] is True
    assert first.status()["node"]["demotion"]["reasons"] == {"maintenance": 240}
    assert first.vip()["effective_advskew"] == 240

    first.kill()
    first.start()
    heard = first.counters()["ipackets"]
    first.until(lambda: first.counters()["ipackets"] > heard + 10)
    await_master(second, first)
    assert first.status()["node"]["maintenance"] is True

    assert first.stop() == 0
    assert first.hacore("maintenance", "leave").returncode == 0, "also while no node runs"
    first.start()
    await_master(first, second)
    assert first.status()["node"]["maintenance"] is False
    first.hacore("maintenance", "enter")
    await_master(second, first)
    first.hacore("maintenance", "leave")
    await_master(first, second)


def test_a_lone_node_in_maintenance_keeps_its_addresses(segment: Segment) -> None:
    node = segment.node("fw1", 11)
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    since = node.last_event()
    node.hacore("maintenance", "enter")
    node.until_event("no successor", after=since)
    assert node.transitions(after=since) == []
    assert node.held() == {"10.1.0.1", "2001:db8:1::1"}


def test_carp_disabled_until_it_is_enabled_or_the_next_start(segment: Segment) -> None:
    first, second = segment.pair()
    first.hacore("carp", "disable")
    first.until_state("INIT")
    second.until_state("MASTER")
    assert first.vip()["reason"] == "disabled by the administrator"
    assert first.status()["node"]["carp_enabled"] is False
    assert first.held() == set()
    first.configure(vip(advskew=21))
    first.ask("reload")
    first.until(lambda: first.vip()["advskew"] == 21)
    assert first.state() == "INIT"
    first.hacore("carp", "enable")
    await_master(first, second)
    first.hacore("carp", "disable")
    first.until_state("INIT")
    assert first.stop() == 0
    first.start()
    await_master(first, second)
    assert first.status()["node"]["carp_enabled"] is True


def test_demotion_by_the_administrator(segment: Segment) -> None:
    first, second = segment.pair()
    since = first.vip()["since"]
    first.hacore("demotion", "add", "cabling", "10")
    assert first.vip()["effective_advskew"] == 30
    assert "cabling" in first.hacore("demotion", "show").stdout
    second.until(lambda: (second.vip()["master"] or {}).get("advskew") == 30)
    assert round(first.vip()["since"], 1) == round(since, 1), "still better than the other"

    first.hacore("demotion", "add", "noise", "100")
    await_master(second, first)
    assert first.status()["node"]["demotion"] == {"total": 110, "reasons": {"cabling": 10, "noise": 100}}
    first.hacore("demotion", "remove", "noise")
    await_master(first, second)
    for wrong in (["add", "noise", "1000"], ["add", "maintenance", "10"], ["remove", "nothing"]):
        assert first.hacore("demotion", *wrong, check=False).returncode != 0
    first.hacore("demotion", "reset")
    assert first.status()["node"]["demotion"] == {"total": 0, "reasons": {}}
    changes = [(event["fields"]["reason"], event["fields"]["by"]) for event in first.events("demotion")]
    assert changes[:3] == [("cabling", 10), ("noise", 100), ("noise", -100)]


@pytest.mark.parametrize("preempt", [True, False])
def test_a_failing_check_moves_every_vip(segment: Segment, tmp_path: Path, preempt: bool) -> None:
    good = tmp_path / "good"
    good.touch()
    check = table(
        "check", name="upstream", command=["test", "-e", str(good)], interval=0.1, fall=2, rise=2, demotion=200
    )
    first, second = segment.node("fw1", 11), segment.node("fw2", 12)
    for node, number, advskew, more in ((first, 11, 20, [check]), (second, 12, 40, [])):
        segment.connect(node.host, number, "wan")
        node.configure(vip(advskew=advskew), wan(advskew=advskew), *more, preempt=preempt)
    segment.start_in_turn(first, second)
    first.until(lambda: first.status()["node"]["checks"][0]["state"] == "up")
    good.unlink()
    for name in ("lan", "wan"):
        await_master(second, first, name=name)
    told = first.status()["node"]
    assert told["checks"][0]["state"] == "down"
    assert [*told["demotion"]["reasons"].values()] == [200]
    assert first.vip("wan")["effective_advskew"] == 220
    good.touch()
    first.until(lambda: first.status()["node"]["demotion"]["total"] == 0)
    for name in ("lan", "wan"):
        await_master(*((first, second) if preempt else (second, first)), name=name)


def ran(directory: Path, node: RunningNode, count: int) -> list[str]:
    """The first lines of what the hooks noted, once there are so many."""
    order = directory / "order"

    def enough() -> list[str]:
        lines = order.read_text().splitlines() if order.exists() else []
        return lines if len(lines) >= count else []

    return list(node.until(enough))


def test_hooks_run_in_order_with_the_transition(segment: Segment, tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(HOOK)
    script.chmod(0o755)
    names = ("one", "two")
    hooks = [
        table("hook", name=name, on=["MASTER", "BACKUP", "INIT"], command=[str(script), str(tmp_path / name)])
        for name in names
    ]
    node = segment.node("fw1", 11)
    # A second of silence between the transitions, so that no hook is overtaken by the next one.
    node.configure(
        vip(advbase=1, advskew=0), *hooks, table("hook", name="broken", on=["MASTER"], command=["/nonexistent"])
    )
    node.start()
    node.until_state("MASTER")
    assert ran(tmp_path, node, 4) == ["one 1 BACKUP", "two 1 BACKUP", "one 2 MASTER", "two 2 MASTER"]
    assert "cannot start /nonexistent" in node.until_event("hook-failed")["text"]
    assert node.stop() == 0
    assert (tmp_path / "order").read_text().splitlines()[4:] == ["one 3 INIT", "two 3 INIT"]

    text = (tmp_path / "one.lan.2").read_text()
    environment, _, told = text.partition("JSON=")
    values: dict[str, Any] = json.loads(told)
    assert values.pop("at") > 1e9
    assert values == {
        "node": "fw1", "vip": "lan", "interface": "lan", "vhid": 1, "from": "BACKUP", "to": "MASTER",
        "reason": "master timed out", "epoch": 2,
    }  # fmt: skip
    variables = dict(line.split("=", 1) for line in environment.splitlines())
    assert variables.pop("HACORE_AT")
    assert variables == {f"HACORE_{name.upper()}": str(value) for name, value in values.items()}


def test_the_history_survives_a_restart(segment: Segment) -> None:
    node = segment.node("fw1", 11)
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    node.stop()
    offline = [json.loads(line) for line in node.hacore("events", "--json", "-n", "100").stdout.splitlines()]
    assert [event["kind"] for event in offline][-1] == "stop"
    assert ("transition", "node shuts down") in [(event["kind"], event["fields"].get("reason")) for event in offline]

    node.start()
    node.until_state("MASTER")
    after_kill = node.last_event()
    node.kill()
    node.start()
    events = node.events()
    assert [{"fields": {}} | event for event in events[: len(offline)]] == offline
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] > after_kill
    assert [event["kind"] for event in events].count("start") == 3
    epochs = [event["fields"]["epoch"] for event in events if event["kind"] == "transition"]
    assert epochs == sorted(set(epochs)), "a hook can tell old from new over restarts too"
