"""Deltas: they lead from one table to the other and from no other table; a change of a connection takes few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.realistic import realistic_table
from hacore._fast.codec import MAX_CHUNK_ROWS, compare, encode_changes, encode_end, sort_rows
from hacore.errors import WireError
from hacore.states import apply_delta, empty_rows, encode_delta, encode_snapshot, keys_of
from hacore.states.layout import KEY_DTYPE, Rows
from tests.oracle import states as oracle
from tests.states.rows import TABLE, rows_in, table_of

NO_KEYS = np.empty(0, KEY_DTYPE)


@st.composite
def two_tables(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """A table, and what became of it: rows gone, rows changed in some bytes, rows that came."""
    old = draw(TABLE)
    kept = [row for row in old if draw(st.booleans())]
    for index in range(len(kept)):
        for place in draw(st.lists(st.integers(40, 207), max_size=3)):
            kept[index] = kept[index][:place] + draw(st.binary(min_size=1, max_size=1)) + kept[index][place + 1 :]
    return old, list({row[:40]: row for row in [*draw(TABLE), *kept]}.values())


@given(two_tables())
def test_a_delta_leads_from_one_table_to_the_other(tables: tuple[list[bytes], list[bytes]]) -> None:
    old, new = tables
    delta = encode_delta(table_of(old), table_of(new))
    assert rows_in(apply_delta(table_of(old[::-1]), delta)) == oracle.in_key_order(new)


@given(two_tables())
def test_the_difference_is_that_of_the_definition(tables: tuple[list[bytes], list[bytes]]) -> None:
    old, new = (sort_rows(table_of(rows)) for rows in tables)
    inserted, before, after, deleted = compare(old, new)
    changed = set(zip(rows_in(old[before]), rows_in(new[after]), strict=True))
    assert (set(rows_in(new[inserted])), changed, set(rows_in(old[deleted]))) == oracle.difference(*tables)


@given(two_tables(), st.integers(0, 207))
def test_another_base_is_refused(tables: tuple[list[bytes], list[bytes]], place: int) -> None:
    old, new = tables
    delta = encode_delta(table_of(old), table_of(new))
    spoiled = [old[0][:place] + bytes([old[0][place] ^ 1]) + old[0][place + 1 :], *old[1:]] if old else []
    for other in ([*old, bytes(207) + b"\x07"], old[1:], spoiled):
        if sorted(other) == sorted(old) or len({row[:40] for row in other}) < len(other):
            continue
        with pytest.raises(WireError) as error:
            apply_delta(table_of(other), delta)
        assert error.value.rung == "base"


def advanced(rows: Rows, count: int) -> tuple[Rows, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The table after `count` established TCP connections went on to another state, and which."""
    random = np.random.default_rng(4)
    chosen = random.choice(np.nonzero((rows["protocol"] == 6) & (rows["protocol_state"] == 3))[0], count, replace=False)
    new = rows.copy()
    new["protocol_state"][chosen] = random.choice([4, 5, 7], count)
    new["timeout"][chosen] = np.array([0, 0, 0, 0, 120, 60, 0, 120])[new["protocol_state"][chosen]]
    return new, chosen


@pytest.mark.parametrize("count", [100, 1000, 10_000])
def test_a_tcp_state_change_takes_at_most_12_bytes(count: int) -> None:
    old = realistic_table(100_000, 3)
    new, chosen = advanced(old, count)
    delta = encode_delta(old, new)
    assert apply_delta(old, delta).tobytes() == sort_rows(new).tobytes()
    assert len(delta) <= 12 * count
    names = np.random.default_rng(1).integers(0, 1 << 48, count).astype(np.uint64)
    named = encode_changes(empty_rows(0), old[chosen], new[chosen], NO_KEYS, updated_names=names)
    assert len(named) <= 12 * count


def test_more_changes_than_a_chunk_holds() -> None:
    old = realistic_table(2 * MAX_CHUNK_ROWS + 1000, 1)
    new = realistic_table(MAX_CHUNK_ROWS + 10, 2)
    new = new[~np.isin(keys_of(new).view("V40"), keys_of(old).view("V40"))]
    for before, after in ((old, new), (new, old)):
        assert apply_delta(before, encode_delta(before, after)).tobytes() == sort_rows(after).tobytes()
    aged = old.copy()
    aged["timeout"] += 1
    delta = encode_delta(old, aged)
    assert apply_delta(old, delta).tobytes() == sort_rows(aged).tobytes()


def test_a_delta_to_the_same_table_is_short() -> None:
    rows = realistic_table(1000, 1)
    assert len(encode_delta(rows, rows)) < 100


def test_a_key_twice_is_refused_on_both_sides() -> None:
    rows, twice = realistic_table(10, 1), empty_rows(2)
    for tables in ((rows, twice), (twice, rows)):
        with pytest.raises(ValueError, match="twice"):
            encode_delta(*tables)
    with pytest.raises(ValueError, match="twice"):
        apply_delta(twice, encode_delta(rows, rows))


def spoiled_deltas() -> dict[str, tuple[bytes, str]]:
    rows = sort_rows(realistic_table(10, 1))
    base = encode_delta(rows, rows)
    base = base[: len(base) - len(encode_end(10))]
    none, at = empty_rows(0), np.array([3], np.uint64)
    delete = encode_changes(none, none, none, NO_KEYS, deleted_names=at)
    return {
        "nothing": (b"", "short"),
        "no end": (base, "short"),
        "no base": (encode_end(10) * 2, "kind"),
        "another end": (base + encode_end(9), "rows"),
        "deleted twice": (base + delete + delete + encode_end(9), "order"),
        "no such row": (base + encode_changes(none, none, none, NO_KEYS, deleted_names=at + 7) + encode_end(9), "base"),
        "there already": (base + encode_changes(rows[:1], none, none, NO_KEYS) + encode_end(11), "order"),
        "by key": (base + encode_changes(none, none, none, keys_of(rows[:1])) + encode_end(9), "mode"),
        "rows": (base + encode_snapshot(rows), "kind"),
        "other rows": (
            base + encode_changes(none, rows[4:5], rows[5:6], NO_KEYS, updated_names=at) + encode_end(10), "base",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", spoiled_deltas())
def test_what_is_wrong_has_a_rung(case: str) -> None:
    delta, rung = spoiled_deltas()[case]
    with pytest.raises(WireError) as error:
        apply_delta(realistic_table(10, 1), delta)
    assert error.value.rung == rung
