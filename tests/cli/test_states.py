"""`hacore states`: what is asked of the node, and how its answers are shown."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import FakeNode, Run


def stream(**changes: Any) -> dict[str, Any]:
    return {"phase": "stream", "since": time.time() - 65.5, "position": 1234, "acknowledged": 1234} | changes


def status(**changes: Any) -> dict[str, Any]:
    now = time.time()
    peer = {
        "name": "fw2", "address": "10.9.0.2:8116", "sending": stream(sent_bytes=5 << 20, lag_states=7, lag=0.004),
        "receiving": stream(phase="down", reason="Connection refused"), "rows": 0,
    }  # fmt: skip
    return {
        "node": "fw1", "generated": now, "started": now - 100, "epoch": 3, "master_of": ["lan"], "peers": [peer],
        "table": {"rows": 1500, "own": 1500, "max_states": 2000, "memory_bytes": 1 << 20, "not_fitted": 12,
                  "protocols": {"tcp": 1000, "udp": 500}},
        "kernel": {"entries": 2000, "limit": 2000, "listening": True, "events": 9000, "echoes": 5, "ignored": 3,
                   "lost": 2, "reconciles": 4, "reconciled": now - 10, "reconcile_duration": 0.25, "lenient": True,
                   "checks": 6, "checked": now - 20, "check_duration": 0.5, "missing": 7, "differing": 8, "unfitted": 9,
                   "injected": {"inserted": 40, "messages": 40}, "errors": {"ENOMEM: Cannot allocate memory": 3}},
        "sharing": {"claimed": 1200, "ends_left": 4, "outdated": 7, "mismatched": 2, "refused": 3},
    } | changes  # fmt: skip


ROW = {
    "protocol": "tcp", "state": "ESTABLISHED", "source": "10.0.0.2", "source_port": 40000,
    "destination": "198.51.100.1", "destination_port": 443, "reply_source": "198.51.100.1", "reply_source_port": 443,
    "reply_destination": "203.0.113.1", "reply_destination_port": 1024, "timeout": 431999,
    "status": ["SEEN_REPLY", "ASSURED", "SRC_NAT"], "mark": 7, "owner": "fw1", "epoch": 3,
}  # fmt: skip


def test_show(run: Run, node: FakeNode) -> None:
    node.answers["states"] = status()
    result = run("states", "show", width=200)
    assert result.exit_code == 0
    assert node.requests == [{"command": "states", "action": "show"}]
    for text in (
        "fw1  MASTER of lan, epoch 3", "fw2  10.9.0.2:8116", "to    stream for 1 min", "position 1,234",
        "behind by 7 states and 4.0 ms, 5.0 MiB sent", "from  down for 1 min", "s: Connection refused",
        "1,500 of 2,000 rows, 1,500 own", "tcp 1,000, udp 500", "12 did not fit (states.max_states)",
        "2,000 of 2,000 entries, listening", "9,000, of which 5 echoes and 3 not to be replicated", "lost 2 times",
        "checked what peers own 6 times, last 20 s ago, in 500 ms: 7 missing and 8 differing", "9 wait for room",
        "lenient with all TCP windows", "compared with the kernel 4 times, last 10 s ago, in 250 ms", "inserted 40",
        "owners   1,200 claimed, 4 ends left to their owners",
        "peers    7 rows with outdated claims, 2 frames that met other rows, 3 connections refused",
        "refused by the kernel: 3 with ENOMEM: Cannot allocate memory (nf_conntrack_max is 2,000)",
    ):  # fmt: skip
        assert text in result.output


def test_show_for_programs(run: Run, node: FakeNode) -> None:
    node.answers["states"] = status()
    assert json.loads(run("states", "show", "--json").output) == node.answers["states"]


def test_show_of_another_version(run: Run, node: FakeNode) -> None:
    node.answers["states"] = {"node": 3}
    result = run("states", "show")
    assert result.exit_code == 71
    assert "another version of hacore" in result.stderr


def test_a_node_that_replicates_nothing(run: Run, node: FakeNode) -> None:
    from hacore.node.bus import BadRequest

    node.answers["states"] = BadRequest("this node replicates no states: its settings have no [states]")
    result = run("states", "show")
    assert result.exit_code == 64
    assert "no [states]" in result.stderr


def test_list_goes_through_all_pages(run: Run, node: FakeNode) -> None:
    pages = {None: {"states": [ROW], "cursor": 77}, 77: {"states": [], "cursor": 5}, 5: {"states": [ROW], "cursor": 0}}
    node.answers["states"] = lambda request: pages[request.get("cursor")]
    result = run("states", "list", "--protocol", "tcp", "--port", "443", "--state", "established")
    line = (
        "tcp     ESTABLISHED  431999 10.0.0.2:40000 -> 198.51.100.1:443 "
        "[198.51.100.1:443 -> 203.0.113.1:1024] SEEN_REPLY ASSURED mark=7 owner=fw1"
    )
    assert result.output.splitlines() == [line, line]
    asked = {"command": "states", "action": "list", "protocol": "tcp", "port": 443, "state": "ESTABLISHED"}
    assert node.requests == [asked | {"cursor": cursor} for cursor in (None, 77, 5)]


def test_list_with_counters(run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    counted = ROW | {"packets_original": 12, "bytes_original": 1200, "bytes_reply": 7, "start": 1_700_000_000.5}
    node.answers["states"] = {"states": [counted], "cursor": 0}
    result = run("states", "list", "--counters")
    assert result.output.endswith(" owner=fw1 packets=12/0 bytes=1200/7 start=2023-11-14 22:13:20\n")
    assert node.requests == [{"command": "states", "action": "list", "counters": True, "cursor": None}]


def test_list_ends_at_its_limit(run: Run, node: FakeNode) -> None:
    node.answers["states"] = {"states": [ROW] * 5, "cursor": 9}
    result = run("states", "list", "--limit", "7", "--json")
    assert [json.loads(line) for line in result.output.splitlines()] == [ROW] * 7
    assert len(node.requests) == 2


def test_bulk_follows_both_ways_to_the_end(run: Run, node: FakeNode) -> None:
    seen = [("stream", 3), ("stream", 3), ("comparing", 4), ("resume", 4), ("bulk update", 4), ("stream", 4)]
    looks = iter(seen)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["action"] == "bulk":
            return {"peers": ["fw2"]}
        phase, begun = next(looks)
        rows = 500 if (phase, begun) == seen[-1] else 70
        peer = {
            "name": "fw2", "sending": stream(phase=phase, bulk_rows=rows, bulk_total=500, bulk_updates=begun),
            "receiving": stream(bulk_rows=20, bulk_total=20, bulk_updates=begun),
        }  # fmt: skip
        return status(peers=[peer])

    node.answers["states"] = answer
    result = run("states", "bulk", "fw2")
    assert result.exit_code == 0, result.output
    assert "from fw2: 20 states" in result.output
    assert "to fw2: 500 states" in result.output
    assert node.requests[1] == {"command": "states", "action": "bulk", "peer": "fw2"}


def test_a_bulk_update_whose_stream_ends(run: Run, node: FakeNode) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"peers": ["fw2"]} if request["action"] == "bulk" else status()

    node.answers["states"] = answer
    result = run("states", "bulk")
    assert result.exit_code == 71
    assert "the stream from fw2 ended: Connection refused" in result.stderr


def test_diff_needs_settings_that_replicate(run: Run) -> None:
    result = run("states", "diff")
    assert result.exit_code == 78
    assert "replicates nothing" in result.stderr


def test_certificates_for_trying_things_out(run: Run, tmp_path: Path) -> None:
    result = run("states", "make-test-certificates", str(tmp_path / "made"), "fw1", "fw2")
    assert result.exit_code == 0
    paths = [Path(line) for line in result.output.split()]
    assert sorted(path.relative_to(tmp_path / "made").as_posix() for path in paths) == [
        f"{name}/{file}" for name in ("fw1", "fw2") for file in ("node.crt", "node.key", "peers.pem")
    ]
    assert (tmp_path / "made/fw1/peers.pem").read_bytes() == (tmp_path / "made/fw2/node.crt").read_bytes()
    for names in (["fw1", "fw1"], ["fw 1"]):
        assert run("states", "make-test-certificates", str(tmp_path), *names).exit_code == 2
