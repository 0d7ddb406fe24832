"""Rows a second from kernel events at the origin through the stream into the table of the replica, in one process."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.realistic import realistic_table
from hacore._fast.ctnetlink import EVENT_NEW, EVENT_UPDATE, HAS_ALL
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore.states.layout import Rows
from hacore.states.receiver import ReceiverSession
from hacore.states.replication import Replication, ReplicationSettings
from hacore.states.sender import SenderSession

COUNT = 200_000


class Pair:
    """An origin with rows and a replica, joined without a socket."""

    def __init__(self, rows: Rows) -> None:
        self.origin, self.replica = self._node("a"), self._node("b")
        self.origin.set_master(True, 0.0)
        self.origin.origin.begin_reconcile(0.0)
        for start in range(0, len(rows), 16_384):
            self.origin.origin.reconcile(rows[start : start + 16_384].copy(), 0.0)
        self.origin.origin.end_reconcile(0.0)
        self.sender: SenderSession = self.origin.dial("b", 0.0)
        self.receiver: ReceiverSession = self.replica.accept(0.0)

    @staticmethod
    def _node(name: str) -> Replication:
        secret = name.encode() * 16
        return Replication(ReplicationSettings(name=name), instance=secret, seed=secret, digest_key=secret)

    def exchange(self) -> None:
        """Until nothing is on the way."""
        while True:
            forth = self.sender.data_to_send(0.0)
            if forth:
                self.receiver.receive(forth, 0.0)
            for work in self.replica.replica.work():
                self.replica.replica.done(work, 0.0)
            back = self.receiver.data_to_send(0.0)
            if back:
                self.sender.receive(back, 0.0)
            for session in (self.receiver, self.sender):
                if session.waits:
                    session.go_on(0.0)
            if not forth and not back and not self.receiver.waits and not self.sender.waits:
                return


@pytest.fixture(scope="module")
def rows() -> Rows:
    return realistic_table(COUNT, 1)


def test_bulk_update(benchmark: BenchmarkFixture, rows: Rows) -> None:
    def setup() -> tuple[tuple[Pair], dict[str, object]]:
        return (Pair(rows),), {}

    pairs = []

    def run(pair: Pair) -> None:
        pair.exchange()
        pairs.append(pair)

    benchmark.pedantic(run, setup=setup, rounds=3)  # type: ignore[no-untyped-call]
    assert len(pairs[-1].replica.table) == len(rows)
    benchmark.extra_info["rows"] = len(rows)
    benchmark.extra_info["bytes a row"] = pairs[-1].sender.bytes_sent / len(rows)


@pytest.mark.parametrize("size", [1, 64, 4096])
@pytest.mark.parametrize("kind", ["new", "update"])
def test_batch(benchmark: BenchmarkFixture, rows: Rows, size: int, kind: str) -> None:
    """Batches of one kind of event, to a table of 200,000 rows."""
    pair = Pair(rows[: COUNT // 2] if kind == "new" else rows)
    pair.exchange()
    events = np.zeros(size, dtype=EVENT_DTYPE)
    events["present"], events["kind"] = HAS_ALL, EVENT_NEW if kind == "new" else EVENT_UPDATE
    at = [COUNT // 2]

    def run() -> None:
        start = at[0]
        at[0] = start + size
        batch = rows[start : start + size].copy()
        if kind == "update":
            batch["mark"] ^= 1
        pair.origin.origin.observe(batch, events, 0.0)
        pair.exchange()

    benchmark.pedantic(run, rounds=20, iterations=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["rows"] = size
    assert pair.sender.synced
