"""The kernel's table for a comparison, as the listener sends it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from hacore._fast.codec import encode_chunk, encode_end
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore.control.trial_certificates import make_test_certificates
from hacore.errors import HacoreError, PlatformError, WireError
from hacore.linux import conntrack
from hacore.node.loop import Loop
from hacore.node.messages import IgnoredStates
from hacore.node.states_filter import ANY, Filter
from hacore.node.states_rows import BATCH_ROWS, RowsSender, fetch
from hacore.node.states_tls import ROWS_PROTOCOL, contexts
from hacore.states.comparison import END_OF_EXPECTATIONS, TableReader
from hacore.states.expectations import Expectations
from hacore.states.layout import key_order
from tests.namespaces import Network
from tests.node.test_states_connection import Ends, failing, opened
from tests.states.simulation import rows
from tests.states.test_expectations import expectation

Dump = Callable[[], Iterator[conntrack.Batch]]
Batches = Callable[[], Iterable[Expectations]]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    make_test_certificates(tmp_path, ["fw1", "fw2"])
    with Network() as network, network.host("lo").entered():
        made = Ends(Loop(failing), tmp_path / "fw1", tmp_path / "fw2")
        yield made
        made.close()


def sent(ends: Ends, monkeypatch: pytest.MonkeyPatch, dump: Dump, expectations: Batches = tuple) -> TableReader:
    """What arrives, as it does, from a kernel with these dumps."""
    monkeypatch.setattr(conntrack, "dump", lambda **_: dump())
    monkeypatch.setattr(conntrack, "expectation_batches", expectations)
    client, server = opened(ends)
    reader = TableReader(1 << 20)
    client.on_data = reader.receive
    RowsSender(server, Filter([IgnoredStates(protocol=ANY, network="10.0.0.9/32")]))
    server.flush()
    return reader


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

    def expectation_batches() -> Iterator[Expectations]:
        yield expectation(20)[:0]
        others = np.concatenate([expectation(21), expectation(22)])
        others["master_source"][0, :4] = 10, 0, 0, 9
        yield others

    reader = sent(ends, monkeypatch, dump, expectation_batches)
    most, before = 0, 0

    def whole() -> bool:
        nonlocal most, before
        most, before = max(most, taken[0] - before), taken[0]
        return reader.is_done

    ends.until(whole)
    assert most <= 6
    assert reader.rows[key_order(reader.rows)].tobytes() == table[key_order(table)].tobytes()
    assert reader.expectations.tobytes() == expectation(22).tobytes(), "without one of a connection that is ignored"


def test_a_dump_that_fails_ends_this_connection_alone(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def dump() -> Iterator[conntrack.Batch]:
        yield conntrack.Batch(rows(range(9)), np.zeros(9, EVENT_DTYPE), None)
        raise PlatformError("the kernel broke it off")

    sent(ends, monkeypatch, dump)
    ends.until(lambda: len(ends.closed) == 2)
    assert ends.closed["server"] == "no table for a comparison: the kernel broke it off"


def test_a_dump_of_expectations_that_fails_does_so_too(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def expectation_batches() -> Iterator[Expectations]:
        yield expectation(20)
        raise PlatformError("the kernel broke it off")

    reader = sent(ends, monkeypatch, lambda: iter(()), expectation_batches)
    ends.until(lambda: len(ends.closed) == 2)
    assert ends.closed["server"] == "no table for a comparison: the kernel broke it off"
    assert not reader.is_done


@pytest.mark.parametrize(
    ("protocol", "sent", "error", "text"),
    [
        (ROWS_PROTOCOL, encode_end(0) + END_OF_EXPECTATIONS, None, ""),
        (ROWS_PROTOCOL, encode_end(0), WireError, "the connection ended before the table did"),
        (ROWS_PROTOCOL, encode_chunk(rows(range(11))), WireError, "more than 10 connections come"),
        ("hacore-rows/1", encode_end(0), PlatformError, "knows no hacore-rows/2: it runs another version"),
    ],
)
def test_what_a_peer_may_answer(
    ends: Ends, tmp_path: Path, protocol: str, sent: bytes, error: type[HacoreError] | None, text: str
) -> None:
    def files(node: str) -> list[Path]:
        return [tmp_path / node / name for name in ("node.crt", "node.key", "peers.pem")]

    server = contexts(*files("fw2")).server
    server.set_alpn_protocols([protocol])
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            with server.wrap_socket(listening.accept()[0], server_side=True) as taken:
                taken.sendall(sent)

        answering = pool.submit(answer)
        port = listening.getsockname()[1]
        with pytest.raises(error, match=text) if error else nullcontext():
            fetch("127.0.0.1", port, contexts(*files("fw1")).client, "fw2", lambda _count: None, 10)
        answering.result()
