"""What a scrape tells: everything of a snapshot, and nothing that nobody vouches for."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hacore.node.snapshot import Snapshot, Worker
from hacore.web.metrics import Peer, scrape
from tests.web.full_snapshot import NOW, full_snapshot


def samples(snapshot: Snapshot | None, *peers: Peer) -> dict[tuple[Any, ...], float]:
    """Value by name and the labels' values in the order of their names."""
    text = scrape(snapshot, peers).body.decode()
    return {
        (sample.name, *(value for _name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_everything_of_a_snapshot() -> None:
    found = samples(full_snapshot(), Peer("fw2", fresh=True, at=NOW - 0.5))
    expected = {
        ("hacore_up",): 1,
        ("hacore_node_info", "fw1", "0.1.0"): 1,
        ("hacore_peer_up", "fw2"): 1,
        ("hacore_peer_last_word_timestamp_seconds", "fw2"): NOW - 0.5,
        ("hacore_vip_state", "eth1", "MASTER", "1", "lan"): 1,
        ("hacore_vip_state", "eth1", "BACKUP", "1", "lan"): 0,
        ("hacore_vip_state", "eth2", "BACKUP", "2", "wan"): 1,
        ("hacore_vip_failovers_total", "eth1", "1", "lan"): 2,
        ("hacore_vip_adverts_dropped_total", "eth1", "badauth", "1", "lan"): 7,
        ("hacore_vip_adverts_sent_total", "ipv4", "eth1", "1", "lan"): 4000,
        ("hacore_adverts_dropped_total", "badvhid"): 2,
        ("hacore_demotion",): 240,
        ("hacore_demotion_reason", "check upstream"): 240,
        ("hacore_check_up", "upstream"): 0,
        ("hacore_worker_restarts_total", "states"): 1,
        ("hacore_vip_master_last_advert_timestamp_seconds", "eth2", "198.51.100.2", "2", "wan"): NOW - 0.5,
        ("hacore_states_rows",): 1100,
        ("hacore_states_memory_bytes",): 3 << 20,
        ("hacore_states_lag_seconds", "to", "fw2"): 0.004,
        ("hacore_states_stream_up", "to", "fw2"): 1,
        ("hacore_states_stream_up", "from", "fw2"): 0,
        ("hacore_kernel_states_injected_total", "new"): 100,
        ("hacore_pushes_total", "to", "fw2", "applied"): 3,
        ("hacore_push_last_timestamp_seconds", "to", "fw2", "applied"): NOW - 600,
        ("hacore_section_revision", "firewall"): 7,
        ("hacore_service_state", "squid", "running"): 1,
        ("hacore_service_state", "dhcp", "failed"): 1,
        ("hacore_service_state", "dhcp", "running"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("hacore_kernel_states_injected_total", "messages") not in found


@pytest.mark.parametrize(
    "doubtful",
    [
        {"workers": {"election": Worker(state="failed")}},
        {"reported": NOW - 14},
        {"reported": 0.0},
        {"workers": {}},
    ],
)
def test_states_that_nobody_vouches_for_are_not_told(doubtful: dict[str, Any]) -> None:
    snapshot = full_snapshot()
    found = samples(replace(snapshot, node=replace(snapshot.node, **doubtful)))
    assert found[("hacore_election_up",)] == 0
    assert not [key for key in found if key[0].startswith("hacore_vip_state")]
    assert ("hacore_demotion",) not in found


def test_a_supervisor_that_does_not_answer() -> None:
    assert samples(None, Peer("fw2", fresh=False, at=0.0)) == {("hacore_up",): 0, ("hacore_peer_up", "fw2"): 0}


def test_a_node_with_nothing_but_its_vips() -> None:
    snapshot = replace(full_snapshot(), states=None, control=None)
    assert not [key for key in samples(snapshot) if key[0].startswith(("hacore_states", "hacore_push"))]


def _families(text: str) -> Any:
    return openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]


def test_open_metrics_for_who_asks_for_it() -> None:
    answer = scrape(full_snapshot(), [], "application/openmetrics-text; version=1.0.0")
    assert answer.content_type.startswith("application/openmetrics-text")
    assert len(list(_families(answer.body.decode()))) > 30
    assert scrape(None, []).content_type.startswith("text/plain")


def test_labels_of_any_text() -> None:
    snapshot = full_snapshot()
    snapshot.node.demotion.reasons = {'a "quoted"\nreason\\': 3}
    assert samples(snapshot)[("hacore_demotion_reason", 'a "quoted"\nreason\\')] == 3
