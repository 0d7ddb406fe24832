"""Batches of events against a dictionary that takes them one by one, and a second table that is told the changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore._fast import ctnetlink
from hacore._fast.codec import decode_changes, encode_changes
from hacore._fast.ctnetlink import EVENT_DESTROY, EVENT_NEW, EVENT_UPDATE, HAS_ALL, HAS_MARK, HAS_STATUS
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore._fast.match import matching, sift
from hacore._fast.row import KEY_BYTES, KEY_DTYPE, ROW_DTYPE
from hacore._fast.stream import MAX_EVENTS, apply, observe
from hacore._fast.table import Table
from hacore.node.states_filter import rule
from hacore.states.layout import Rows, empty_rows

SEED, SECRET = bytes(range(16)), bytes(range(16, 32))
PRESENT = {EVENT_NEW: HAS_ALL, EVENT_UPDATE: HAS_STATUS | HAS_MARK, EVENT_DESTROY: 0}
EVENT = st.tuples(
    st.integers(0, 7), st.sampled_from(sorted(PRESENT)), st.integers(0, 3), st.integers(0, 1), st.integers(0, 1)
)
BATCHES = st.lists(
    st.tuples(st.lists(EVENT, max_size=20), st.booleans(), st.booleans()), min_size=1, max_size=6
)  # events, named, differences
Event = tuple[int, int, int, int, int]


def table(most: int = 1000) -> Table:
    return Table(SEED, SECRET, max_states=most, partitions=4)


def made(events: list[Event]) -> tuple[Rows, npt.NDArray[np.void]]:
    """Rows and events as the kernel tells them: key, kind, mark, timeout, where the answers go."""
    rows, told = empty_rows(len(events)), np.zeros(len(events), EVENT_DTYPE)
    for index, (key, kind, mark, timeout, reply) in enumerate(events):
        row = rows[index]
        row["family"], row["protocol"], row["source_port"] = 2, 17, key
        row["mark"], row["status"], row["timeout"], row["reply_source_port"] = mark, 8 | mark, 30 + timeout, reply
        told[index]["kind"], told[index]["present"] = kind, PRESENT[kind]
    return rows, told


def model_of(known: dict[bytes, bytes], rows: Rows, events: npt.NDArray[np.void]) -> dict[bytes, bytes]:
    """What is there after these events, taken one after the other."""
    there = dict(known)
    for index in range(len(rows)):
        row, key = rows[index : index + 1].copy(), rows[index].tobytes()[:KEY_BYTES]
        if events["kind"][index] == EVENT_DESTROY:
            there.pop(key, None)
            continue
        before = np.frombuffer(there[key], rows.dtype).copy() if key in there else empty_rows(1)
        ctnetlink.complete(row, before, events[index : index + 1])
        there[key] = row.tobytes()
    return there


def content(rows: Rows) -> dict[bytes, bytes]:
    return {row.tobytes()[:KEY_BYTES]: row.tobytes() for row in rows}


def seen(origin: Table, rows: Rows, events: npt.NDArray[np.void], *, named: bool, differences: bool = True) -> bytes:
    chunk, changes, refused = observe(
        origin, rows, events, epoch=1, generation=1, now=0, named=named, differences=differences, encode=True
    )
    assert (changes == 0) == (chunk == b"")
    assert refused == 0
    assert not chunk or len(decode_changes(chunk)) == changes
    return chunk


@given(BATCHES)
def test_table_replica_and_its_kernel_are_what_the_events_say(
    batches: list[tuple[list[Event], bool, bool]],
) -> None:
    origin, replica = table(), table()
    known: dict[bytes, bytes] = {}
    kernel: dict[bytes, bytes] = {}
    for listed, named, differences in batches:
        rows, events = made(listed)
        known = model_of(known, rows, events)
        chunk = seen(origin, rows, events, named=named, differences=differences)
        assert content(origin.rows()) == known
        if chunk:
            put, new, cleared, deleted, matched, found, refused = apply(
                replica, decode_changes(chunk), owner=3, epoch=1, generation=0, now=0
            )
            assert matched
            assert found
            assert not refused
            for row, fresh, unlabelled in zip(put, new, cleared, strict=True):
                there = kernel.get(row.tobytes()[:KEY_BYTES])
                moved = there is not None and there[KEY_BYTES : KEY_BYTES + 38] != row.tobytes()[KEY_BYTES:][:38]
                assert fresh == (there is None or moved)
                had = there is not None and np.frombuffer(there, ROW_DTYPE)["labels"].any()
                assert unlabelled == (had and not row["labels"].any())
            for row in deleted:
                assert kernel.pop(row.tobytes()[:KEY_BYTES]) == row.tobytes()
            kernel |= content(put)
        assert content(replica.rows()) == kernel == known
    assert (replica.digests(3) == origin.digests(0)).all()
    assert (replica.metadata()["owner"] == 3).all()


def test_rows_of_another_owner_change_hands_and_are_sent_whole() -> None:
    origin = table()
    rows, _events = made([(1, EVENT_NEW, 1, 0, 0)])
    origin.put(rows, owner=5)
    again, told = made([(1, EVENT_UPDATE, 2, 0, 0)])
    changes = decode_changes(seen(origin, again, told, named=True))
    assert len(changes.inserted) == 1
    assert not len(changes.updated_names)
    assert origin.metadata()["owner"].tolist() == [0]


def test_a_full_table_refuses_and_says_so() -> None:
    origin = table(2)
    rows, events = made([(key, EVENT_NEW, 0, 0, 0) for key in range(5)])
    chunk, changes, refused = observe(
        origin, rows, events, epoch=1, generation=1, now=0, named=True, differences=True, encode=True
    )
    assert (len(decode_changes(chunk)), changes, refused, len(origin)) == (2, 2, 3, 2)


def test_changes_of_other_rows_are_left_out_and_told() -> None:
    origin, replica = table(), table()
    for key in (1, 2):
        rows, events = made([(key, EVENT_NEW, 1, 0, 0)])
        chunk = seen(origin, rows, events, named=True)
    apply(replica, decode_changes(chunk), owner=1, epoch=1, generation=0, now=0)
    chunk = seen(origin, *made([(1, EVENT_UPDATE, 2, 0, 0)]), named=True)  # the replica never got that row
    put, _, _, _, matched, _, _ = apply(replica, decode_changes(chunk), owner=1, epoch=1, generation=0, now=0)
    assert not len(put)
    assert not matched
    chunk = seen(origin, *made([(1, EVENT_DESTROY, 0, 0, 0)]), named=True)
    _, _, _, deleted, matched, found, _ = apply(replica, decode_changes(chunk), owner=1, epoch=1, generation=0, now=0)
    assert not len(deleted)
    assert matched
    assert not found
    other = replica.rows().copy()
    other["mark"] += 1
    none = np.zeros(0, KEY_DTYPE)
    chunk = encode_changes(empty_rows(0), other, replica.rows(), none)
    assert not apply(replica, decode_changes(chunk), owner=1, epoch=1, generation=0, now=0)[4]


def test_what_is_not_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="as many events"):
        seen(table(), empty_rows(2), np.zeros(1, EVENT_DTYPE), named=False)
    with pytest.raises(ValueError, match="expected up to"):
        seen(table(), empty_rows(MAX_EVENTS + 1), np.zeros(MAX_EVENTS + 1, EVENT_DTYPE), named=False)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([6, 17, 112])), max_size=30))
def test_sifting_is_the_two_conditions_one_after_the_other(listed: list[tuple[int, int]]) -> None:
    rows, events = empty_rows(len(listed)), np.zeros(len(listed), EVENT_DTYPE)
    rows["source_port"] = np.arange(len(listed))
    rows["protocol"] = [protocol for _, protocol in listed]
    events["portid"] = [portid for portid, _ in listed]
    rules = np.concatenate([rule(112), rule(status=1)])
    foreign = events["portid"] != 2
    expected = rows[foreign & ~matching(rows, rules)]
    kept, echoes = sift(rows, events, 2, rules)
    assert (kept, echoes) == (len(expected), int(np.count_nonzero(~foreign)))
    assert rows[:kept].tobytes() == expected.tobytes()
    assert (events["portid"][:kept] != 2).all()
