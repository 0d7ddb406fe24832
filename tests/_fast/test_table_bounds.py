"""The state table at its limits: arguments, views, memory, threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from hacore._fast import table as module
from hacore._fast.table import FULL, META_DTYPE, NEW, SAME, Table
from hacore.errors import LocalProtocolError
from hacore.states.layout import KEY_DTYPE, ROW_DTYPE, Rows, empty_rows, keys_of

SECRETS = bytes(16), bytes(range(16))


def numbered(count: int, start: int = 0) -> Rows:
    rows = empty_rows(count)
    rows["source"][:, :4] = np.arange(start, start + count, dtype=">u4").view(np.uint8).reshape(-1, 4)
    return rows


def test_the_compiled_module_is_the_one_that_is_loaded() -> None:
    assert module.__file__.endswith(".so")


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_states": 0},
        {"max_states": module.MAX_STATES},
        {"max_states": 10, "partitions": 0},
        {"max_states": 10, "partitions": 65_537},
        {"max_states": 10, "tombstones": -1},
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="got"):
        Table(*SECRETS, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("secrets", [(b"short", bytes(16)), (bytes(16), bytes(17))])
def test_secrets_have_16_bytes(secrets: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Table(*secrets, max_states=10)


@pytest.mark.parametrize(
    "wrong", [np.zeros(3), np.zeros((2, 2), ROW_DTYPE), np.zeros(4, ROW_DTYPE)[::2], np.zeros(3, KEY_DTYPE)]
)
def test_other_arrays_than_rows_are_refused(wrong: Any) -> None:
    table = Table(*SECRETS, max_states=10)
    with pytest.raises(ValueError, match=r"Buffer|dimension|contig"):
        table.put(wrong)


def test_owners_fit_a_byte_and_rows_before_match() -> None:
    table = Table(*SECRETS, max_states=10)
    with pytest.raises(ValueError, match="owner"):
        table.put(numbered(1), owner=256)
    with pytest.raises(OverflowError):
        table.put(numbered(1), generation=256)
    with pytest.raises(ValueError, match="before"):
        table.put(numbered(2), before=empty_rows(1))
    with pytest.raises(ValueError, match="before"):
        table.delete(keys_of(numbered(2)), before=empty_rows(3))


def test_empty_batches_do_nothing() -> None:
    table = Table(*SECRETS, max_states=10)
    nothing = empty_rows(0)
    for outcomes in (table.put(nothing), table.delete(nothing), table.find(nothing), table.names(nothing)[0]):
        assert len(outcomes) == 0
    assert table.assign(nothing, owner=1, epoch=1) == 0
    assert table.scan()[1] == len(table.rows()) == len(table.metadata()) == 0


def test_views_are_read_only_and_outlive_the_name_of_the_table() -> None:
    table = Table(*SECRETS, max_states=10)
    rows = numbered(3)
    table.put(rows, owner=7)
    seen, metadata = table.rows(), table.metadata()
    del table
    assert (seen == rows).all()
    assert metadata.dtype == META_DTYPE
    assert metadata["owner"].tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="read-only"):
        seen["mark"] = 1


def test_what_does_not_fit_is_refused_and_counted_but_updates_go_on() -> None:
    table = Table(*SECRETS, max_states=100)
    assert (table.put(numbered(150)) == [NEW] * 100 + [FULL] * 50).all()
    assert table.not_fitted == 50
    assert (table.put(numbered(100)) == SAME).all()
    assert table.not_fitted == 50
    table.delete(numbered(10))
    assert (table.put(numbered(20, 200)) == [NEW] * 10 + [FULL] * 10).all()


def test_a_state_takes_at_most_250_bytes() -> None:
    table = Table(*SECRETS, max_states=1 << 20, tombstones=0)
    for start in range(0, 300_000, 10_000):
        table.put(numbered(10_000, start))
        assert start < 100_000 or table.memory_bytes < 250 * len(table) + (1 << 22)
    assert (table.find(numbered(300_000)) == np.arange(300_000)).all()


def test_memory_comes_back_when_most_rows_are_gone() -> None:
    table = Table(*SECRETS, max_states=1 << 20)
    table.put(numbered(300_000))
    full = table.memory_bytes
    table.delete(numbered(299_000))
    assert table.memory_bytes < full / 4
    assert (table.rows() == numbered(1000, 299_000)[table.find(numbered(1000, 299_000)).argsort()]).all()
    table.put(numbered(300_000, 1_000_000))
    assert (table.find(numbered(300_000, 1_000_000)) >= 0).all()


def test_two_threads_in_one_table_are_a_fault_of_the_caller() -> None:
    table = Table(*SECRETS, max_states=1 << 20)
    rows = numbered(200_000)
    refused: list[BaseException] = []
    started = threading.Barrier(2)

    def write() -> None:
        started.wait()
        for _ in range(20):
            try:
                table.put(rows)
            except LocalProtocolError as error:
                refused.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused
    assert len(table) == 200_000
