"""The row: its fields where the kernels' header has them, its keys, and what importing the package costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hacore.states
from hacore.states.layout import (
    KEY_BYTES,
    KEY_DTYPE,
    KEY_FIELDS,
    ROW_BYTES,
    ROW_DTYPE,
    as_rows,
    empty_rows,
    key_order,
    keys_of,
)

HEADER = Path(__file__).parents[2] / "src/hacore/_fast/row.h"
SIZES = {"uint8_t": 1, "char": 1, "uint16_t": 2, "uint32_t": 4, "int32_t": 4}


def declared(struct: str) -> list[tuple[str, int, int]]:
    """Name, offset and size of each field of a packed struct of the header."""
    body = re.search(rf"typedef struct {struct} {{(.*?)}}", HEADER.read_text(encoding="utf-8"), re.DOTALL)
    assert body
    fields, offset = [], 0
    for kind, name, count in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body[1]):
        size = SIZES[kind] * int(count or 1)
        fields.append((name, offset, size))
        offset += size
    return fields


@pytest.mark.parametrize(("struct", "dtype", "size"), [("Row", ROW_DTYPE, ROW_BYTES), ("Key", KEY_DTYPE, KEY_BYTES)])
def test_numpy_and_c_have_the_same_fields(struct: str, dtype: np.dtype[np.void], size: int) -> None:
    assert dtype.names is not None
    assert dtype.fields is not None
    mine = [(name, dtype.fields[name][1], dtype[name].itemsize) for name in dtype.names]
    assert mine == declared(struct)
    assert dtype.itemsize == size


def test_the_key_is_the_first_40_bytes_and_rows_are_in_the_order_of_these() -> None:
    rows = empty_rows(200)
    rows.view(np.uint8)[:] = np.random.default_rng(1).integers(0, 3, 200 * ROW_BYTES)
    keys = keys_of(rows)
    assert keys.dtype == KEY_DTYPE
    assert [key.tobytes() for key in keys] == [row.tobytes()[:40] for row in rows]
    assert all((keys[name] == rows[name]).all() for name in KEY_FIELDS)
    ordered = [row.tobytes() for row in rows[key_order(rows)]]
    assert ordered == sorted((row.tobytes() for row in rows), key=lambda row: row[:40])


def test_rows_are_copied_only_where_they_have_to_be() -> None:
    rows = empty_rows(4)
    assert as_rows(rows) is rows
    assert as_rows(rows[::2]).flags.c_contiguous
    for wrong in (np.zeros(4), np.zeros((2, 2), ROW_DTYPE), np.zeros(4, KEY_DTYPE)):
        with pytest.raises(TypeError, match="rows"):
            as_rows(wrong)


def test_the_package_gives_what_it_names_and_nothing_else() -> None:
    assert set(hacore.states.__all__) <= set(dir(hacore.states))
    for name in hacore.states.__all__:
        assert getattr(hacore.states, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        hacore.states.nothing  # noqa: B018


def test_importing_the_package_alone_brings_no_numpy() -> None:
    code = "import sys, hacore.states; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
