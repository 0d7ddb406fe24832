"""A change that the master tries for longer than `rekey_time` before it is pushed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.control.push_pair import PushNode, push_pair

SECTION = '[[section]]\nid = "vips"\n'


def hears(node: PushNode, count: int) -> None:
    """Until it has heard so many adverts more."""
    before = node.counters()["ipackets"]
    node.until(lambda: node.counters()["ipackets"] >= before + count)


def waits_for_fw2(node: PushNode) -> bool:
    return any("addresses or password from before" in text for text in node.status()["node"]["warnings"])


def test_the_old_key_is_spoken_until_the_peer_has_the_new_one(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("nft")
    with push_pair(tmp_path, SECTION, rekey_time=3.0, advbase=1) as (one, two):
        mark = {node: node.last_event() for node in (one, two)}
        text = one.settings.read_text()
        one.settings.write_text(text.replace('password = "secret"', 'password = "another"'))
        one.ask("reload")
        one.until_event("transition", "-> MASTER", after=mark[one])
        one.until(lambda: waits_for_fw2(one))  # `rekey_time` is over
        hears(two, 6)
        assert [node.state() for node in (one, two)] == ["MASTER", "BACKUP"]
        assert one.stop() == 0
        two.until_state("MASTER")
        one.launch()
        one.until_state("MASTER")
        one.until_control_runs()
        hears(two, 6)
        assert [node.state() for node in (one, two)] == ["MASTER", "BACKUP"]
        assert waits_for_fw2(one)
        assert one.push("vips")["result"] == "applied"
        for node in (one, two):
            node.until_event("keys", "every node has the new keys of lan", after=mark[node])
            node.until(lambda node=node: not waits_for_fw2(node))  # type: ignore[misc]
        hears(two, 4)
        assert [node.state() for node in (one, two)] == ["MASTER", "BACKUP"]


def test_nodes_that_their_administrator_changes_one_after_the_other(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Nothing is pushed: they ask each other what they have."""
    tool("nft")
    with push_pair(tmp_path, rekey_time=3.0, advbase=1) as (one, two):
        mark = {node: node.last_event() for node in (one, two)}
        for node in (two, one):
            text = node.settings.read_text()
            node.settings.write_text(text.replace('password = "secret"', 'password = "another"'))
            node.ask("reload")
        for node in (one, two):
            node.until_event("keys", "every node has the new keys of lan", after=mark[node])
