"""Snapshots against general compressors and serializers over the same rows: zstd 1 and 3, lz4, msgpack, struct.

One group is one direction at one size. `rows_per_second` and `bytes_per_row` stand in the saved results. msgpack and
struct handle rows one by one, so they get at most 10,000; their rates are those of such a part. What a coder takes
(rows, bytes, tuples of Python's own values) is made of the rows before the clock runs.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import lz4.frame  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
import zstandard
from pytest_benchmark.fixture import BenchmarkFixture

from bench.realistic import realistic_table
from hacore._fast.codec import encode_changes
from hacore.states import decode_snapshot, encode_snapshot, key_order
from hacore.states.layout import KEY_DTYPE, ROW_BYTES, Rows, empty_rows

SIZES = [1_000, 100_000, 1_000_000]
ONE_BY_ONE = 10_000
ROUNDS = 3
ROW = struct.Struct("<BBH16s16sHH16s16sHHHBBIIIBBBBII16sIiiIiiIIIHH16s16s16s")

Values = list[tuple[Any, ...]]


class Coder(NamedTuple):
    """One way: what it takes of the rows, and how many rows it gets at most."""

    prepare: Callable[[Rows], Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    most: int


@functools.lru_cache(maxsize=1)
def rows_of(size: int) -> Rows:
    return realistic_table(size, 1)


def zstd(level: int) -> Coder:
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    return Coder(octets_of, compressor.compress, decompressor.decompress, SIZES[-1])


def octets_of(rows: Rows) -> memoryview:
    return rows.data.cast("B")


def values_of(rows: Rows) -> Values:
    return list(ROW.iter_unpack(rows.tobytes()))


CODERS: dict[str, Coder] = {
    "hacore": Coder(lambda rows: rows, encode_snapshot, decode_snapshot, SIZES[-1]),
    "zstd-1": zstd(1),
    "zstd-3": zstd(3),
    "lz4": Coder(octets_of, lz4.frame.compress, lz4.frame.decompress, SIZES[-1]),
    "msgpack": Coder(
        values_of,
        lambda values: b"".join(map(msgpack.packb, values)),
        lambda data: list(msgpack.Unpacker(io.BytesIO(data))),
        ONE_BY_ONE,
    ),
    "struct": Coder(
        values_of,
        lambda values: b"".join([ROW.pack(*each) for each in values]),
        lambda data: list(ROW.iter_unpack(data)),
        ONE_BY_ONE,
    ),
}

each = pytest.mark.parametrize("name", CODERS)
sized = pytest.mark.parametrize("size", SIZES)


def note(benchmark: BenchmarkFixture, count: int, data: bytes) -> None:
    benchmark.extra_info["bytes_per_row"] = len(data) / count
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = count / benchmark.stats.stats.min


@pytest.mark.benchmark(group="encode")
@sized
@each
def test_encode(benchmark: BenchmarkFixture, name: str, size: int) -> None:
    coder = CODERS[name]
    rows = rows_of(size)[: coder.most]
    data = benchmark.pedantic(coder.encode, (coder.prepare(rows),), rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    note(benchmark, len(rows), data)


@pytest.mark.benchmark(group="decode")
@sized
@each
def test_decode(benchmark: BenchmarkFixture, name: str, size: int) -> None:
    coder = CODERS[name]
    rows = rows_of(size)[: coder.most]
    data = coder.encode(coder.prepare(rows))
    back = benchmark.pedantic(coder.decode, (data,), rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    note(benchmark, len(rows), data)
    if isinstance(back, bytes):
        assert back == rows.tobytes()
    elif isinstance(back, np.ndarray):
        assert back.tobytes() == rows[key_order(rows)].tobytes()
    else:
        assert len(back) == len(rows)


def changes() -> tuple[Rows, Rows]:
    rows = rows_of(100_000)
    before = rows[(rows["protocol"] == 6) & (rows["protocol_state"] == 3)][:1000]
    after = before.copy()
    after["protocol_state"], after["timeout"] = 7, 120
    return before, after


@pytest.mark.benchmark(group="a batch of 1,000 TCP state changes, named by number")
def test_encode_changes(benchmark: BenchmarkFixture) -> None:
    before, after = changes()
    names = np.random.default_rng(1).integers(0, 1 << 48, 1000).astype(np.uint64)
    none, no_keys = empty_rows(0), np.empty(0, KEY_DTYPE)
    data = benchmark(encode_changes, none, before, after, no_keys, updated_names=names)
    note(benchmark, 1000, data)
    assert ROW.size == ROW_BYTES


@pytest.mark.benchmark(group="a batch of 1,000 TCP state changes, named by number")
def test_encode_changes_baseline_zstd(benchmark: BenchmarkFixture) -> None:
    """Both rows of each, so that the compressor can find what they have in common."""
    both = octets_of(np.column_stack(changes()).reshape(-1))
    data = benchmark(zstandard.ZstdCompressor(level=1).compress, both)
    note(benchmark, 1000, data)
