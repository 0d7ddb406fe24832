"""The kernel's table for a comparison, as the listener sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hacore._fast.codec import decode_chunk, decode_end
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore.control.trial_certificates import make_test_certificates
from hacore.errors import PlatformError
from hacore.linux import conntrack
from hacore.node.loop import Loop
from hacore.node.states_filter import Filter
from hacore.node.states_rows import BATCH_ROWS, RowsSender
from hacore.states.layout import Rows, key_order
from hacore.states.snapshot import ChunkReader
from tests.namespaces import Network
from tests.node.test_states_connection import Ends, failing, opened
from tests.states.simulation import rows

Dump = Callable[[], Iterator[conntrack.Batch]]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    make_test_certificates(tmp_path, ["fw1", "fw2"])
    with Network() as network, network.host("lo").entered():
        made = Ends(Loop(failing), tmp_path / "fw1", tmp_path / "fw2")
        yield made
        made.close()


def sent(ends: Ends, monkeypatch: pytest.MonkeyPatch, dump: Dump) -> list[bytes]:
    """The chunks that arrive, as they do, from a kernel with that dump."""
    monkeypatch.setattr(conntrack, "dump", lambda **_: dump())
    client, server = opened(ends)
    reader, chunks = ChunkReader(), list[bytes]()
    client.on_data = lambda data: chunks.extend(reader.receive(data))
    RowsSender(server, Filter())
    server.flush()
    return chunks


def test_each_turn_has_a_batch_or_two_whether_or_not_there_is_anything_in_it(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [0]
    table = np.repeat(rows([1]), 20 * BATCH_ROWS)
    table["source_port"] = np.arange(len(table))
    ignored = np.repeat(rows([1], protocol=112), BATCH_ROWS)

    def dump() -> Iterator[conntrack.Batch]:
        for start in range(0, len(table), BATCH_ROWS):
            for batch in (table[start : start + BATCH_ROWS], ignored):
                taken[0] += 1
                yield conntrack.Batch(batch, np.zeros(len(batch), EVENT_DTYPE), None)

    chunks = sent(ends, monkeypatch, dump)
    most, before = 0, 0

    def whole() -> bool:
        nonlocal most, before
        most, before = max(most, taken[0] - before), taken[0]
        return len(chunks) == 21

    ends.until(whole)
    assert most <= 6
    found: Rows = np.concatenate([decode_chunk(chunk) for chunk in chunks[:-1]])
    assert found[key_order(found)].tobytes() == table[key_order(table)].tobytes()
    assert decode_end(chunks[-1]) == len(table)


def test_a_dump_that_fails_ends_this_connection_alone(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def dump() -> Iterator[conntrack.Batch]:
        yield conntrack.Batch(rows(range(9)), np.zeros(9, EVENT_DTYPE), None)
        raise PlatformError("the kernel broke it off")

    sent(ends, monkeypatch, dump)
    ends.until(lambda: len(ends.closed) == 2)
    assert ends.closed["server"] == "no table for a comparison: the kernel broke it off"
