"""How trust ends and how certificates change, on two real nodes whose streams and API go on or stop accordingly."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from hacore.control.certificates import Place, load, make, save
from hacore.control.trust import TrustStore
from tests.control.paired_nodes import PairNode, eventually, nodes, pair


def fingerprints(node: PairNode, of: PairNode) -> list[str]:
    return [one["fingerprint"] for one in node.peer(of.name)["certificates"]]


def own(node: PairNode) -> str:
    return str(node.pairs()["own"]["fingerprint"])


def replicating(*both: PairNode) -> bool:
    return all(node.stream() == "stream" for node in both)


def test_a_revoked_node_is_cut_off_at_once_and_can_be_paired_again(tmp_path: Path) -> None:
    with nodes(tmp_path) as (fw1, fw2):
        pair(fw1, fw2)
        eventually(lambda: replicating(fw1, fw2))
        assert fw2.peer("fw1")["answers"]
        said = fw1.hacore("pair", "revoke", "fw2")
        assert "fw1 does not trust fw2 any more; connections closed: 1" in said
        eventually(lambda: fw1.stream() == fw2.stream() == "down")
        problem = fw2.peer("fw1")["problem"]
        assert problem["code"] == "certificate-revoked", problem
        eventually(lambda: any("fw2 is not trusted any more" in text for text in fw1.events()))
        eventually(lambda: any("does not trust this certificate any more" in text for text in fw1.events("refused")))
        eventually(lambda: any("not paired" in text for text in fw1.warnings()))
        assert "does not trust a node named fw2; it trusts: nobody" in fw1.hacore("pair", "revoke", "fw2", code=64)
        pair(fw1, fw2)
        eventually(lambda: replicating(fw1, fw2))
        assert fw2.peer("fw1")["answers"]


def test_a_renewal_reaches_the_peer_and_streams_and_calls_go_on(tmp_path: Path) -> None:
    with nodes(tmp_path) as (fw1, fw2):
        pair(fw1, fw2)
        eventually(lambda: replicating(fw1, fw2))
        old, pids = own(fw1), (fw1.pids(), fw2.pids())
        lines = fw1.hacore("pair", "renew").splitlines()
        assert [line.split(",")[0].split(":")[0] for line in lines] == [
            "new certificate made", "fw2 knows it", "it is in use", "fw2 does not trust the old one any more", "done",
        ]  # fmt: skip
        assert own(fw1) != old
        assert fingerprints(fw2, fw1) == [own(fw1)]
        assert fw1.peer("fw2")["answers"]
        assert fw2.peer("fw1")["answers"]
        kept = [text for text in fw2.events() if "fw1" in text][-2:]
        assert "announces its next certificate" in kept[0]
        assert "uses its new certificate" in kept[1]
        assert replicating(fw1, fw2)
        # A stream that is made anew is made with the new one.
        fw2.kill_worker("states")
        eventually(lambda: replicating(fw1, fw2))
        assert pids[0] == fw1.pids()


def test_a_renewal_waits_for_a_peer_that_does_not_answer(tmp_path: Path) -> None:
    with nodes(tmp_path, states=False) as (fw1, fw2):
        pair(fw1, fw2)
        old = own(fw1)
        fw2.running.kill()
        said = fw1.hacore("pair", "renew", code=75)
        assert "fw2 is told when it answers; until then this node uses its old certificate" in said
        assert own(fw1) == old
        assert fw1.pairs()["renewal"]["waiting_for"] == ["fw2"]
        fw1.kill_worker("control")
        fw2.start()
        eventually(lambda: own(fw1) != old)
        eventually(lambda: fingerprints(fw2, fw1) == [own(fw1)])
        eventually(lambda: fw1.pairs()["renewal"] is None)
        assert fw2.peer("fw1")["answers"]


def test_a_renewal_survives_the_end_of_the_worker_at_any_moment(tmp_path: Path) -> None:
    with nodes(tmp_path, states=False) as (fw1, fw2):
        pair(fw1, fw2)
        renewed = 0
        for delay in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
            old = own(fw1)
            command = fw1.running.host.start(*_renew(fw1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            eventually(lambda command=command: fw1.renews() or command.poll() is not None)
            time.sleep(delay)
            victim = (fw1, fw2)[int(delay * 1000) % 2]
            victim.kill_worker("control")
            command.wait(30)
            # One that was not written down yet when the worker ended is none; one that was, comes to its end.
            eventually(lambda old=old: own(fw1) != old or not fw1.renews())
            renewed += own(fw1) != old
            eventually(lambda: fingerprints(fw2, fw1) == [own(fw1)])
            eventually(lambda: fw2.peer("fw1")["answers"] and fw1.peer("fw2")["answers"])
        assert renewed >= 3


def _renew(node: PairNode) -> list[str]:
    from tests.running_node import HACORE

    return [*HACORE, "-c", str(node.running.settings), "pair", "renew"]


def test_an_end_that_is_near_is_told_and_one_that_has_passed_too(tmp_path: Path) -> None:
    with nodes(tmp_path, states=False) as (fw1, fw2):
        pair(fw1, fw2)
        now = time.time()
        replace(fw1, fw2, now, 20.0)
        eventually(lambda: _warned(fw1, "this node's certificate expires in 20 d", "hacore pair renew"))
        eventually(lambda: _warned(fw2, "the certificate of fw1 expires in 20 d", "on fw1: hacore pair renew"))
        assert "expires in 20 d" in fw1.hacore("status")
        fw1.hacore("pair", "renew")
        eventually(lambda: not fw1.warnings())
        eventually(lambda: not fw2.warnings())
        replace(fw1, fw2, now - 100 * 86400, 99.0)
        eventually(lambda: _warned(fw2, "the certificate of fw1 expired at"))
        assert fw2.peer("fw1")["problem"]["code"] == "certificate-expired"
        assert fw1.peer("fw2")["problem"]["code"] == "certificate-expired"
        eventually(lambda: any("certificate" in text and "expired" in text for text in fw2.events("refused")))


def _warned(node: PairNode, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in node.warnings())


def replace(node: PairNode, other: PairNode, now: float, days: float) -> Any:
    """Gives a node a certificate of its own making, and the other one's trust file with it."""
    made = make(node.name, now, days)
    save(made, Place(node.tls / "node.crt", node.tls / "node.key"))
    TrustStore(other.tls / "peers.pem").keep_only(made.certificate)
    found = load(Place(node.tls / "node.crt", node.tls / "node.key"))
    assert found is not None
    return found
