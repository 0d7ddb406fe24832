"""Pairing by the commands, on two real nodes: what it brings, what it refuses, how it ends."""

from __future__ import annotations

import re
from pathlib import Path

from tests.control.paired_nodes import eventually, nodes, pair


def test_two_nodes_are_paired_by_two_commands_and_replicate_without_a_restart(tmp_path: Path) -> None:
    with nodes(tmp_path) as (fw1, fw2):
        for node in (fw1, fw2):
            assert any("not paired" in warning for warning in node.warnings())
        eventually(lambda: {fw1.running.state(), fw2.running.state()} == {"MASTER", "BACKUP"})
        before = fw1.pids(), fw2.pids()
        token = fw1.invite()
        assert re.fullmatch(r"hacore(-[0-9A-Z]{1,6})+", token)
        said = fw2.hacore("pair", "join", token, "--via", fw1.address)
        assert "fw2 and fw1 trust each other" in said
        eventually(lambda: fw1.stream() == fw2.stream() == "stream")
        for node, other in ((fw1, fw2), (fw2, fw1)):
            shown = node.peer(other.name)
            assert shown["answers"], shown
            assert [one["fingerprint"] for one in shown["certificates"]] == [other.pairs()["own"]["fingerprint"]]
            eventually(lambda node=node: not node.warnings())
            eventually(lambda node=node, other=other: node.certificates() == {node.name: True, other.name: False})
            assert (node.tls / "node.key").stat().st_mode & 0o777 == 0o600
        assert before == (fw1.pids(), fw2.pids())
        assert (fw1.tls / "node.key").read_bytes() != (fw2.tls / "node.key").read_bytes()
        assert any("fw2 joined from 10.1.0.12" in text for text in fw1.events())
        assert any("joined fw1 via 10.1.0.11:8117" in text for text in fw2.events())
        used = fw2.hacore("pair", "join", token, "--via", fw1.address, code=1)
        assert "the token was used already, by fw2" in used
        eventually(lambda: any("the token was used already" in text for text in fw1.events("refused")))
        assert any("the token was used already" in text for text in fw2.events())


def test_every_wrong_join_has_its_own_text_and_changes_nothing(tmp_path: Path) -> None:
    with nodes(tmp_path, states=False) as (fw1, fw2):
        token = fw1.invite()

        def refused(token: str, via: str = fw1.address) -> str:
            said = fw2.hacore("pair", "join", token, "--via", via, code=1)
            assert not fw2.peer("fw1")["certificates"]
            assert not fw1.peer("fw2")["certificates"]
            return said

        mistyped = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
        assert "typing error" in refused(mistyped)
        assert "no token" in refused("nonsense")
        own = fw2.hacore("pair", "join", fw2.invite(), "--via", fw2.address, code=1)
        assert "made by this very node, fw2" in own
        assert "is not the node that made the token" in refused(token, via=fw2.address)
        short = fw1.invite("--valid-for", "1s")
        eventually(lambda: len(fw1.pairs()["invitations"]) == 1)
        assert "the token expired" in refused(short)
        pair(fw1, fw2)
