"""The state table against a dict, step by step, with keys that collide on purpose."""

from __future__ import annotations

import functools
from collections import Counter
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hacore._fast.table import ABSENT, CHANGED, DELETED, EXISTS, FULL, MAX_STATES, NEW, REFRESHED, SAME, Table
from hacore.states.layout import KEY_DTYPE, ROW_DTYPE, Keys, Rows, empty_rows, keys_of
from tests.oracle import states as oracle
from tests.states.rows import rows_in, table_of

SEED, DIGEST_KEY = bytes(range(16)), bytes(range(100, 116))
PARTITIONS = 8
BUCKETS = 1024  # of a new table


@functools.cache
def colliding_keys() -> Keys:
    """Keys that share a bucket and the tag in it in a new table, and pairs of them that share the whole hash."""
    octets = np.random.default_rng(5).integers(0, 256, (400_000, 40), dtype=np.uint8)
    keys = np.ascontiguousarray(octets).view(KEY_DTYPE).reshape(-1)
    hashes = Table(SEED, DIGEST_KEY, max_states=MAX_STATES - 1).hashes(keys)
    places = (hashes >> 22).astype(np.int64) << 5 | (hashes & 31)
    crowded = keys[places == np.bincount(places).argmax()][:24]
    _, first, count = np.unique(hashes, return_index=True, return_counts=True)
    twins = [keys[hashes == hashes[at]] for at in first[count > 1][:4]]
    assert len(crowded) >= 16
    assert twins
    return np.concatenate([crowded, *twins])


def crowd(start: int, count: int) -> Rows:
    """Many rows that nothing is asked of but to be there: enough to make the index grow."""
    rows = empty_rows(count)
    rows["family"], rows["protocol"] = 2, 17
    rows["adjust_position_original"] = rows["mark"] = np.arange(start, start + count)
    rows["source"][:, :4] = np.arange(start, start + count, dtype=">u4").view(np.uint8).reshape(-1, 4)
    return rows


class Entry(NamedTuple):
    row: bytes
    owner: int
    epoch: int
    stamp: int
    generation: int
    changed: int


ROWS = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from([0, 3, 120, 432_000]), st.sampled_from([0, 7])),
    min_size=1,
    max_size=12,
)
OWNER, EPOCH, GENERATION = st.integers(0, 3), st.integers(0, 2**32 - 1), st.integers(0, 2)
SLACK = st.sampled_from([0, 1, 60])


class TableMirror(RuleBasedStateMachine):
    """A table and the dict that says what should be in it."""

    @initialize(max_states=st.sampled_from([5, 24, 2000, MAX_STATES - 1]), tombstones=st.sampled_from([0, 7, 100_000]))
    def start(self, max_states: int, tombstones: int) -> None:
        self.table = Table(SEED, DIGEST_KEY, max_states=max_states, partitions=PARTITIONS, tombstones=tombstones)
        self.keys = colliding_keys()
        self.model: dict[bytes, Entry] = {}
        self.graves: list[tuple[int, int, bytes]] = []
        self.tombstones, self.max_states, self.not_fitted, self.now, self.crowd = tombstones, max_states, 0, 100, 0

    def rows_of(self, chosen: list[tuple[int, int, int]]) -> Rows:
        rows = empty_rows(len(chosen))
        for row, (index, timeout, mark) in zip(rows, chosen, strict=True):
            for name in KEY_DTYPE.names or ():
                row[name] = self.keys[index % len(self.keys)][name]
            row["timeout"], row["mark"] = timeout, mark
        return rows

    @rule(
        chosen=ROWS, how=st.sampled_from(["put", "insert", "update"]), owner=OWNER, epoch=EPOCH, generation=GENERATION,
        slack=SLACK, keep_owner=st.booleans(),
    )  # fmt: skip
    def write(
        self, chosen: list[tuple[int, int, int]], how: str, owner: int, epoch: int, generation: int, slack: int,
        keep_owner: bool,
    ) -> None:  # fmt: skip
        rows = self.rows_of(chosen)
        before = empty_rows(len(rows))
        if how == "insert":
            got = self.table.insert(rows, owner=owner, epoch=epoch, generation=generation, now=self.now, before=before)
        else:
            write = self.table.put if how == "put" else self.table.update
            got = write(
                rows, owner=owner, epoch=epoch, generation=generation, now=self.now, slack=slack, keep_owner=keep_owner,
                before=before,
            )  # fmt: skip
        new = Entry(b"", owner, epoch, self.now, generation, self.table.version)
        for row, outcome, old in zip(rows_in(rows), got, rows_in(before), strict=True):
            known = self.model.get(row[:40])
            assert old == (known.row if known else bytes(208))
            assert outcome == self.expect(row, known, new, how, slack, keep_owner)

    def expect(self, row: bytes, known: Entry | None, new: Entry, how: str, slack: int, keep_owner: bool) -> int:
        """What should become of the row; does the same to the dict."""
        key = row[:40]
        new = new._replace(row=row)
        if known is None:
            if how == "update":
                return ABSENT
            if len(self.model) == self.max_states:
                self.not_fitted += 1
                return FULL
            self.model[key] = new
            return NEW
        known = self.model[key] = known._replace(generation=new.generation)
        if how == "insert":
            return EXISTS
        if keep_owner:
            new = new._replace(owner=known.owner, epoch=known.epoch)
        if oracle.without_timeout(row) != oracle.without_timeout(known.row) or new.owner != known.owner:
            self.model[key] = new
            return CHANGED
        passed = self.now - known.stamp
        left = max(timeout_of(known.row) - passed, 0)
        if abs(timeout_of(row) - left) > slack or passed > timeout_of(known.row):
            self.model[key] = new
            return REFRESHED
        self.model[key] = known._replace(epoch=new.epoch)
        return SAME

    @rule(chosen=ROWS, as_rows=st.booleans())
    def delete(self, chosen: list[tuple[int, int, int]], as_rows: bool) -> None:
        rows = self.rows_of(chosen)
        before = empty_rows(len(rows))
        self.bury(rows, self.table.delete(rows if as_rows else keys_of(rows), before=before), before)

    def bury(self, rows: Rows, outcomes: np.ndarray[tuple[int], np.dtype[np.uint8]], before: Rows) -> None:
        for row, outcome, old in zip(rows_in(rows), outcomes, rows_in(before), strict=True):
            known = self.model.pop(row[:40], None)
            assert outcome == (DELETED if known else ABSENT)
            assert old == (known.row if known else bytes(208))
            if known:
                self.graves.append((self.table.version, known.owner, row[:40]))

    @rule(count=st.integers(1, 700))
    def crowd_in(self, count: int) -> None:
        rows = crowd(self.crowd, count)
        room = self.max_states - len(self.model)
        got = self.table.put(rows, owner=1, epoch=9, now=self.now)
        assert Counter(got.tolist()) == Counter({NEW: min(room, count), FULL: max(count - room, 0)}) + Counter()
        for row in rows_in(rows[:room]):
            self.model[row[:40]] = Entry(row, 1, 9, self.now, 0, self.table.version)
        self.not_fitted += max(count - room, 0)
        self.crowd += count

    @precondition(lambda self: self.crowd)
    @rule(start=st.integers(0, 5000), count=st.integers(1, 2000))
    def crowd_out(self, start: int, count: int) -> None:
        rows = crowd(start % self.crowd, count)
        before = empty_rows(count)
        self.bury(rows, self.table.delete(rows, before=before), before)

    @rule(chosen=ROWS, owner=OWNER, epoch=EPOCH)
    def assign(self, chosen: list[tuple[int, int, int]], owner: int, epoch: int) -> None:
        rows = self.rows_of(chosen)
        known = [row[:40] for row in rows_in(rows) if row[:40] in self.model]
        assert self.table.assign(rows, owner=owner, epoch=epoch) == len(known)
        for key in known:
            entry = self.model[key]
            changed = self.table.version if entry.owner != owner else entry.changed
            self.model[key] = entry._replace(owner=owner, epoch=epoch, changed=changed)

    @rule(owner=OWNER, to=OWNER, epoch=EPOCH, generation=GENERATION)
    def hand_over(self, owner: int, to: int, epoch: int, generation: int) -> None:
        known = [key for key, entry in self.model.items() if entry.owner == owner and owner != to]
        assert self.table.hand_over(owner, to=to, epoch=epoch, generation=generation) == len(known)
        for key in known:
            self.model[key] = self.model[key]._replace(
                owner=to, epoch=epoch, generation=generation, changed=self.table.version
            )

    @rule(seconds=st.sampled_from([1, 60, 500_000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(data=st.data(), owner=st.one_of(st.none(), OWNER))
    def ask_what_changed(self, data: st.DataObject, owner: int | None) -> None:
        since = data.draw(st.integers(0, self.table.version))
        rows, deleted, complete = self.table.dirty(since, owner=owner)
        newer = {e.row for e in self.model.values() if e.changed > since and owner in (None, e.owner)}
        assert sorted(rows_in(rows)) == sorted(newer)
        graves = [grave for grave in self.graves if grave[0] > since]
        assert complete == (len(graves) <= self.tombstones)
        kept = graves[-self.tombstones :] if self.tombstones else []
        assert [key.tobytes() for key in deleted] == [key for _, whose, key in kept if owner in (None, whose)]

    @rule(owner=st.one_of(st.none(), OWNER), generation=GENERATION)
    def ask_for_stale(self, owner: int | None, generation: int) -> None:
        expected = [e.row for e in self.model.values() if e.generation != generation and owner in (None, e.owner)]
        assert sorted(rows_in(self.table.stale(generation, owner=owner))) == sorted(expected)

    @rule(limit=st.integers(1, 50), aged=st.booleans())
    def scan(self, limit: int, aged: bool) -> None:
        cursor, found = None, []
        while cursor != 0:
            rows, cursor = self.table.scan(cursor, limit, now=self.now if aged else None)
            assert len(rows) == limit or cursor == 0
            found += rows_in(rows)
        expected = [aged_row(e.row, self.now - e.stamp) if aged else e.row for e in self.model.values()]
        assert sorted(found) == sorted(expected)

    @rule(chosen=ROWS)
    def look_up(self, chosen: list[tuple[int, int, int]]) -> None:
        rows = self.rows_of(chosen)
        got, found = self.table.lookup(keys_of(rows))
        for row, mine, there in zip(rows_in(rows), rows_in(got), found, strict=True):
            known = self.model.get(row[:40])
            assert there == (known is not None)
            assert mine == (known.row if known else bytes(208))

    @rule(partitions=st.sets(st.integers(0, PARTITIONS - 1), min_size=1), owner=OWNER)
    def select(self, partitions: set[int], owner: int) -> None:
        expected = [
            e.row
            for e in self.model.values()
            if e.owner == owner and oracle.digest_of_row(DIGEST_KEY, e.row, PARTITIONS)[1] in partitions
        ]
        assert sorted(rows_in(self.table.select(sorted(partitions), owner=owner))) == sorted(expected)

    @rule()
    def name_and_find_again(self) -> None:
        rows = self.table.rows().copy()
        names, alone = self.table.names(rows)
        whole = [(int(name), int(owner)) for name, owner in zip(names, self.table.metadata()["owner"], strict=True)]
        often = Counter(whole)
        assert alone.tolist() == [often[pair] == 1 for pair in whole]
        for owner in range(4):
            mine = np.array([pair[1] == owner for pair in whole], dtype=np.bool_)
            expected = np.where(alone, np.arange(len(rows)), -1)[mine]
            assert (self.table.resolve(names[mine], owner=owner) == expected).all()

    @rule(secret=st.binary(min_size=32, max_size=32))
    def change_the_secrets_and_back(self, secret: bytes) -> None:
        version = self.table.version
        self.table.rekey(secret[:16], secret[16:])
        assert (self.table.find(self.table.rows()) == np.arange(len(self.model))).all()
        self.table.rekey(SEED, DIGEST_KEY)
        assert self.table.version == version

    @rule(owner=OWNER)
    def compare_digests(self, owner: int) -> None:
        mine = oracle.digests(DIGEST_KEY, [e.row for e in self.model.values() if e.owner == owner], PARTITIONS)
        assert [int(low) | int(high) << 64 for low, high in self.table.digests(owner)] == mine

    @invariant()
    def holds_the_same(self) -> None:
        if not hasattr(self, "table"):
            return
        assert len(self.table) == len(self.model)
        assert self.table.not_fitted == self.not_fitted
        rows, metadata = self.table.rows(), self.table.metadata()
        for row, meta in zip(rows_in(rows), metadata, strict=True):
            entry = self.model[row[:40]]
            assert row == entry.row
            assert tuple(meta)[1:] == (
                entry.changed, entry.epoch, entry.stamp, meta["partition"], entry.owner, entry.generation,
            )  # fmt: skip
        assert (self.table.find(rows) == np.arange(len(rows))).all()


def timeout_of(row: bytes) -> int:
    return int.from_bytes(row[oracle.TIMEOUT], "little")


def aged_row(row: bytes, elapsed: int) -> bytes:
    left = max(timeout_of(row) - elapsed, 0)
    return row[:84] + left.to_bytes(4, "little") + row[88:]


TestTableMirror = TableMirror.TestCase
TestTableMirror.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_hashes_and_digests_are_those_of_the_definition() -> None:
    rows = table_of([bytes(range(208)), bytes(208), bytes(reversed(range(208)))])
    table = Table(SEED, DIGEST_KEY, max_states=10, partitions=1024)
    table.put(rows, owner=2)
    assert table.hashes(keys_of(rows)).tolist() == [oracle.hash_of_key(SEED, row[:40]) for row in rows_in(rows)]
    values = [int(low) | int(high) << 64 for low, high in table.digests(2)]
    assert values == oracle.digests(DIGEST_KEY, rows_in(rows), 1024)
    partitions = [oracle.digest_of_row(DIGEST_KEY, row, 1024)[1] for row in rows_in(rows)]
    assert table.metadata()["partition"].tolist() == partitions
    assert rows.dtype == ROW_DTYPE
