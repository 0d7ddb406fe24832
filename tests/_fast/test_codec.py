"""Chunks: changes by key and by number, what goes wrong, and any bytes at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.realistic import realistic_table
from hacore._fast import codec
from hacore.errors import WireError
from hacore.states.layout import KEY_DTYPE, KEY_FIELDS, Rows, empty_rows, key_order, keys_of
from tests.oracle import states as oracle
from tests.states.rows import ANY_ROW, distinct, rows_in, set_field, table_of

IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "another family": {"family": 7},
    "two zones": {"zone": 1, "reply_zone": 2},
    "an IPv4 source that goes on": {"source": bytes(4) + b"x" + bytes(11)},
    "an IPv4 reply that goes on": {"reply_destination": bytes(15) + b"x"},
    "an IPv4 master that goes on": {"master_source": bytes(8) + b"x" + bytes(7)},
    "a name without an end": {"helper": b"0123456789abcdef"},
}
POSSIBLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "one zone": {"zone": 3, "reply_zone": 3},
    "a zone in one direction": {"reply_zone": 3},
    "a zone in the other": {"zone": 3},
    "IPv6": {"family": 10, "source": bytes(range(16)), "reply_source": bytes(range(1, 17))},
    "a name": {"helper": b"0123456789abcde"},
}
CORPUS = Path(__file__).parent.parent / "corpus" / "codec"
NO_KEYS, NO_ROWS = np.empty(0, KEY_DTYPE), empty_rows(0)
DECODERS: list[Callable[[bytes], object]] = [
    codec.decode_chunk, codec.decode_changes, codec.decode_base, codec.decode_end, codec.row_count, codec.chunk_kind,
    codec.chunk_length,
]  # fmt: skip


@st.composite
def updates(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Rows before and after, side by side."""
    before = distinct(draw(st.lists(ANY_ROW, max_size=30)))
    others = draw(st.lists(ANY_ROW, min_size=len(before), max_size=len(before)))
    masks = draw(st.lists(st.binary(min_size=168, max_size=168), min_size=len(before), max_size=len(before)))
    after = []
    for row, other, mask in zip(before, others, masks, strict=True):
        mixed = bytes(b if m < 200 else a for a, b, m in zip(other[40:], row[40:], mask, strict=True))
        after.append(row[:40] + mixed)
    return before, after


@given(updates(), st.lists(ANY_ROW, max_size=10).map(distinct), st.lists(ANY_ROW, max_size=10).map(distinct), st.data())
def test_changes_come_back(
    pair: tuple[list[bytes], list[bytes]], inserted: list[bytes], deleted: list[bytes], data: st.DataObject
) -> None:
    before, after = (table_of(rows) for rows in pair)
    names = None
    if data.draw(st.booleans()):
        number = st.integers(0, data.draw(st.sampled_from([60, 2**32, 2**56 - 1])))
        names = data.draw(st.lists(number, min_size=len(before), max_size=len(before), unique=True))
    gone = data.draw(st.lists(st.integers(0, 2**56 - 1), max_size=8, unique=True)) if names is not None else None
    chunk = codec.encode_changes(
        table_of(inserted), before, after, keys_of(table_of(deleted)), updated_names=names, deleted_names=gone
    )
    got = codec.decode_changes(chunk)
    assert len(got) == len(inserted) + len(before) + len(deleted) + len(gone or ())
    assert rows_in(got.inserted) == oracle.in_key_order(inserted)
    assert [key.tobytes() for key in got.deleted_keys] == sorted(row[:40] for row in deleted)
    assert got.deleted_names.tolist() == sorted(gone or ())
    if names is None:
        order = key_order(before)
        assert [key.tobytes() for key in got.updated_keys] == sorted(row[:40] for row in pair[0])
    else:
        order = np.argsort(np.array(names, np.uint64))
        assert got.updated_names.tolist() == sorted(names)
    assert got.apply(before[order]).tobytes() == after[order].tobytes()
    aged = before[order].copy()
    aged["timeout"] += 1
    assert keys_of(got.apply(aged)).tobytes() == keys_of(after[order]).tobytes()
    if len(before):
        aged["mark"][0] ^= 1
        with pytest.raises(WireError) as error:
            got.apply(aged)
        assert error.value.rung == "base"


@pytest.mark.parametrize(
    "arguments",
    [
        (NO_ROWS, empty_rows(1), empty_rows(2), NO_KEYS, None, None),
        (NO_ROWS, empty_rows(2), empty_rows(2), NO_KEYS, None, None),
        (empty_rows(2), NO_ROWS, NO_ROWS, NO_KEYS, None, None),
        (NO_ROWS, NO_ROWS, NO_ROWS, np.zeros(2, KEY_DTYPE), None, None),
        (NO_ROWS, empty_rows(2), empty_rows(2), NO_KEYS, [1, 1], None),
        (NO_ROWS, empty_rows(1), empty_rows(1), NO_KEYS, [2**56], None),
        (NO_ROWS, empty_rows(1), empty_rows(1), NO_KEYS, [1, 2], None),
        (NO_ROWS, empty_rows(1), empty_rows(1), NO_KEYS, None, [1]),
        (NO_ROWS, NO_ROWS, NO_ROWS, NO_KEYS, None, [5, 5]),
        (NO_ROWS, NO_ROWS, NO_ROWS, NO_KEYS, None, range(codec.MAX_CHUNK_ROWS + 1)),
        (empty_rows(codec.MAX_CHUNK_ROWS + 1), NO_ROWS, NO_ROWS, NO_KEYS, None, None),
    ],
)
def test_changes_that_cannot_be_told_are_refused(arguments: tuple[object, ...]) -> None:
    inserted, before, after, deleted, updated_names, deleted_names = arguments
    with pytest.raises(ValueError, match=r"twice|names|expected|at most|named"):
        codec.encode_changes(
            inserted, before, after, deleted, updated_names=updated_names, deleted_names=deleted_names  # type: ignore[arg-type]
        )  # fmt: skip


def test_a_chunk_says_what_it_is() -> None:
    rows = realistic_table(10, 1)
    chunks = {
        "R": codec.encode_chunk(rows),
        "C": codec.encode_changes(rows, NO_ROWS, NO_ROWS, NO_KEYS),
        "B": codec.encode_base(bytes(range(16)), 7),
        "E": codec.encode_end(2**40),
    }
    for kind, chunk in chunks.items():
        assert codec.chunk_kind(chunk) == kind
        assert codec.chunk_length(chunk) == codec.chunk_length(chunk + b"more") == len(chunk)
        assert [codec.chunk_length(chunk[:size]) for size in range(8)] == [0] * 8
        assert int.from_bytes(chunk[8:16], "little") == oracle.checksum_of_chunk(chunk)
        assert oracle.sealed(chunk) == chunk
    assert codec.row_count(chunks["R"]) == 10
    assert codec.decode_base(chunks["B"]) == (bytes(range(16)), 7)
    assert codec.decode_end(chunks["E"]) == 2**40
    with pytest.raises(ValueError, match="16 bytes"):
        codec.encode_base(b"", 1)


def test_rows_are_decoded_in_place() -> None:
    rows = realistic_table(100, 1)
    out = empty_rows(100)
    assert codec.decode_chunk(codec.encode_chunk(rows), out) is out
    assert out.tobytes() == rows[key_order(rows)].tobytes()
    with pytest.raises(ValueError, match="out"):
        codec.decode_chunk(codec.encode_chunk(rows), empty_rows(99))


def test_keys_made_to_collide_do_not_make_encoding_slow_or_wrong() -> None:
    """20,000 destinations whose dictionary hash, which has no secret, is the same."""
    count = 20_000
    rows = empty_rows(count)
    rows["source_port"] = np.arange(count)
    high = np.arange(count, dtype=np.uint64)
    low = (high << np.uint64(29)) | (high >> np.uint64(35))
    rows["destination"] = np.stack([low, high], axis=1).view(np.uint8)
    assert codec.decode_chunk(codec.encode_chunk(rows)).tobytes() == rows[key_order(rows)].tobytes()


def seeds() -> list[bytes]:
    """Small chunks of every kind, with all columns and all ways to code one between them."""
    rows = realistic_table(20, 5)
    odd = np.frombuffer(random.Random(1).randbytes(208 * 3), rows.dtype)
    coded = empty_rows(90)
    coded["source_port"] = np.arange(90)
    coded["timeout"] = np.array([5, 5, 5, 5, 5, 5, 5, 3, 700_000])[np.arange(90) % 9]
    coded["mark"] = np.array([0, 0, 0, 0, 0, 0, 1, 2])[np.arange(90) % 8]
    after = coded.copy()
    after["timeout"] += np.arange(90, dtype=np.uint32) % 5
    after["status"] ^= 8
    after["labels"][::7] = 1
    names = np.arange(90) * 1000
    return [
        codec.encode_chunk(rows),
        codec.encode_chunk(odd),
        codec.encode_chunk(coded),
        codec.encode_changes(rows[:5], coded[:9], after[:9], keys_of(rows[10:15])),
        codec.encode_changes(
            rows[:2], coded, after, keys_of(rows[10:12]), updated_names=names, deleted_names=names + 1
        ),
        codec.encode_base(bytes(16), 300),
        codec.encode_end(300),
    ]


def spoiled(source: random.Random, chunk: bytes) -> bytes:
    """The chunk with some bytes changed, taken out or put in; mostly with the right length and checksum again."""
    edited = bytearray(chunk)
    for _ in range(source.choice((1, 1, 2, 4))):
        place = source.randrange(16 if source.random() < 0.95 else 0, len(edited))
        if source.random() < 0.8:
            edited[place] = source.choice((source.randrange(256), 0, 0xFF, edited[place] ^ 1, 0x7F))
        else:
            edited[place : place + source.randrange(3)] = source.randbytes(source.randrange(3))
    return oracle.sealed(bytes(edited)) if source.random() < 0.9 and len(edited) >= 24 else bytes(edited)


def survives(data: bytes) -> None:
    """Every decoder ends in a value or a WireError; rows that it takes are written as they were read."""
    for decode in DECODERS:
        try:
            value = decode(data)
        except WireError:
            continue
        if decode is codec.decode_chunk:
            assert isinstance(value, np.ndarray)
            assert codec.decode_chunk(codec.encode_chunk(value)).tobytes() == value.tobytes()


def test_20_000_spoiled_chunks() -> None:
    source = random.Random(7)
    good = seeds()
    for _ in range(20_000):
        survives(spoiled(source, source.choice(good)))


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data: bytes, seal: bool) -> None:
    survives(oracle.sealed(b"\x01R\0\0" + bytes(12) + data) if seal else data)


def test_the_corpus() -> None:
    """What the coverage-guided fuzzer found worth keeping: bodies, the first byte says which chunk they are of."""
    files = sorted(CORPUS.iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        kind = b"RCBE"[data[0] % 4 : data[0] % 4 + 1] if data else b"R"
        survives(oracle.sealed(b"\x01" + kind + bytes(14) + data[1:]))


def with_fields(fields: dict[str, Any]) -> Rows:
    """A row of IPv4 with these fields."""
    row = empty_rows(1)
    row["family"], row["protocol"] = 2, 6
    for name, value in fields.items():
        set_field(row, name, value)
    return row


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_rows_that_no_kernel_has_are_refused_by_who_decodes_strictly(what: str) -> None:
    row, plain = with_fields(IMPOSSIBLE[what]), with_fields({"protocol": 17})
    rows = np.concatenate([plain, row])
    inserted = codec.encode_changes(rows, NO_ROWS, NO_ROWS, NO_KEYS)
    assert codec.decode_chunk(codec.encode_chunk(rows)).tobytes() == rows[key_order(rows)].tobytes()
    assert len(codec.decode_changes(inserted)) == 2
    for decode, chunk in (codec.decode_chunk, codec.encode_chunk(rows)), (codec.decode_changes, inserted):
        with pytest.raises(WireError, match="none that a kernel can have") as caught:
            decode(chunk, strict=True)
        assert caught.value.rung == "row"
    before = row.copy()
    before[...] = plain
    for name in KEY_FIELDS:
        before[name] = row[name]
    update = codec.encode_changes(NO_ROWS, before, row, NO_KEYS)
    assert codec.decode_changes(update).apply(before).tobytes() == row.tobytes()
    with pytest.raises(WireError, match="none that a kernel can have"):
        codec.decode_changes(update, strict=True).apply(before)


@pytest.mark.parametrize("what", POSSIBLE)
def test_rows_that_a_kernel_has_are_taken_by_who_decodes_strictly(what: str) -> None:
    row = with_fields(POSSIBLE[what])
    assert codec.decode_chunk(codec.encode_chunk(row), strict=True).tobytes() == row.tobytes()
    before = row.copy()
    before["timeout"] = 9
    chunk = codec.encode_changes(row, before, row, NO_KEYS)
    changes = codec.decode_changes(chunk, strict=True)
    assert changes.inserted.tobytes() == row.tobytes() == changes.apply(before).tobytes()


def test_more_names_than_bytes_are_refused_by_who_decodes_strictly() -> None:
    names = np.arange(codec.MAX_CHUNK_ROWS)
    chunk = codec.encode_changes(NO_ROWS, NO_ROWS, NO_ROWS, NO_KEYS, deleted_names=names)
    assert len(chunk) < 100
    assert len(codec.decode_changes(chunk)) == len(names)
    with pytest.raises(WireError, match="more rows than it has bytes"):
        codec.decode_changes(chunk, strict=True)
    names = np.sort(np.random.default_rng(1).integers(0, 1 << 32, len(names)))
    assert len(np.unique(names)) == len(names)
    chunk = codec.encode_changes(NO_ROWS, NO_ROWS, NO_ROWS, NO_KEYS, deleted_names=names)
    assert codec.decode_changes(chunk, strict=True).deleted_names.tolist() == names.tolist()
