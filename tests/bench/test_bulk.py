"""How bulk updates are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hacore.bench import bulk, conntrackd
from hacore.bench.realistic import GRE, ICMP, ICMPV6, LASTS, kernel_table
from hacore.bench.record import Record
from hacore.bench.replicators import STATES, Daemons, DirectDaemons
from hacore.lab import namespaces, topology
from hacore.lab.laboratory import temporary
from hacore.linux import conntrack
from hacore.states.layout import keys_of


def test_everybody_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    monkeypatch.setattr(bulk, "warm", lambda *_: turns.append("warm"))
    monkeypatch.setattr(bulk, "own", lambda *_: turns.append("hacore"))
    monkeypatch.setattr(bulk, "resync", lambda one, *_: turns.append(one.name))
    where: Any = None
    bulk.measure(where, 10, 2, [Daemons(where), DirectDaemons(where)], Record())
    assert turns == ["warm", *["hacore", "conntrackd", "conntrackd, no external cache"] * 2]


def test_what_does_not_come_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "AT_REST", 0.01)
    counts = iter([0, 2, 3])
    watch = bulk.Watch(lambda: next(counts, 3), lambda: {"receiver": 1.0})
    came, _ = watch.until_at_rest(5)
    record = Record()
    bulk._note(record, "hacore", came, 1.0, {}, of=5)
    (missing,) = (figure for figure in record.figures() if figure.name == "bulk update: missing")
    assert missing.samples == [2.0]


def test_a_pause_is_not_the_end_of_a_bulk_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "AT_REST", -1.0)
    counts = iter([2, 2, 2, 3])
    watch = bulk.Watch(lambda: next(counts), dict)
    assert watch.until_at_rest(3, lambda: False)[0] == 3


def test_the_processor_counts_from_the_last_look_before_it_was_asked_for() -> None:
    watch = bulk.Watch(lambda: 0, dict)
    watch._moments = [bulk.Moment(float(second), 0, {"receiver": second / 10}) for second in range(4)]
    assert [watch.at(moment).used["receiver"] for moment in (0.5, 2.0, 9.0, -1.0)] == [0.0, 0.2, 0.3, 0.0]


def test_both_have_the_same_event_buffer() -> None:
    text = conntrackd.configuration(Path("/nowhere"), "10.9.0.1", "10.9.0.2", "sync")
    assert f"NetlinkBufferSize {conntrackd.EVENT_BUFFER_BYTES}\n" in text
    assert "NetlinkOverrunResync On" in text
    assert f"event_buffer_bytes = {conntrackd.EVENT_BUFFER_BYTES}\n" in STATES


def test_a_kernel_takes_the_whole_table(directory: Path) -> None:
    rows = kernel_table(5000, 3)
    assert len(np.unique(keys_of(rows).view("V40"))) == len(rows) == 5000
    assert rows["timeout"].min() >= LASTS
    assert not np.isin(rows["protocol"], (ICMP, ICMPV6)).any()
    assert {6, 17, 47, 132} == set(rows["protocol"])
    assert not (kernel_table(500, 3, without=(GRE,))["protocol"] == GRE).any()
    with temporary(directory, profile="fast", preempt=True, start=False) as lab:
        node = lab.nodes[topology.NODES[0]]
        with namespaces.inside(node.namespace), conntrack.Injector() as injector:
            assert injector.inject(rows).inserted == len(rows)
            assert conntrack.count() == len(rows)
