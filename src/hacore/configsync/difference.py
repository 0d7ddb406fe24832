"""What differs between two states of a section, for the machine and for people."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from hacore.configsync.manifest import Entry, Manifest

What = Literal["added", "removed", "changed"]
SAMPLE_BYTES = 8192  # of a file, in which a NUL tells that it is no text
CONTEXT = 3  # lines around a difference
#: Lines of the one times lines of the other, from the first that differs to the last: more would take seconds.
MOST_PAIRS = 4_000_000
HUNK = re.compile(r"@@ -(\d+)((?:,\d+)?) \+(\d+)((?:,\d+)?) @@")


class Change(msgspec.Struct, frozen=True):
    """One path that is not as it was; `fields` names what of the entry differs."""

    path: str
    what: What
    old: Entry | None
    new: Entry | None
    fields: tuple[str, ...] = ()


def changes(old: Manifest, new: Manifest) -> list[Change]:
    """What turns `old` into `new`, by path."""
    before, after = old.by_path, new.by_path
    found = []
    for path in sorted(before.keys() | after.keys()):
        was, will = before.get(path), after.get(path)
        if was == will:
            continue
        if was is None or will is None:
            found.append(Change(path, "added" if was is None else "removed", was, will))
        else:
            names = tuple(name for name in Entry.__struct_fields__ if getattr(was, name) != getattr(will, name))
            found.append(Change(path, "changed", was, will, names))
    return found


def is_text(data: bytes) -> bool:
    """Whether people can read it."""
    if b"\0" in data[:SAMPLE_BYTES]:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def unified(path: str, old: bytes | None, new: bytes | None, old_name: str, new_name: str) -> str:
    """The unified difference of two files (None: there is none), or one line where they are no text or too long."""
    if not all(is_text(data) for data in (old, new) if data is not None):
        sizes = [f"{len(data)} bytes" if data is not None else "none" for data in (old, new)]
        return f"binary file {path}: {sizes[0]} -> {sizes[1]}\n"
    before, after = _lines(old), _lines(new)
    same = _common(before, after)
    tail = _common(before[same:][::-1], after[same:][::-1])
    skipped = max(0, same - CONTEXT)
    left_off = max(0, tail - CONTEXT)
    before, after = before[skipped : len(before) - left_off], after[skipped : len(after) - left_off]
    if len(before) * len(after) > MOST_PAIRS:
        return f"file {path}: too many lines to compare: {_summary(old)} -> {_summary(new)}\n"
    lines = _moved(skipped, difflib.unified_diff(
        before, after, f"{old_name}:{path}" if old is not None else "/dev/null",
        f"{new_name}:{path}" if new is not None else "/dev/null", n=CONTEXT,
    ))  # fmt: skip
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _common(one: Sequence[str], two: Sequence[str]) -> int:
    """How many lines at the beginning of both are the same."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _moved(by: int, lines: Iterable[str]) -> Iterator[str]:
    """A unified difference of what comes after the first `by` lines, as one of the whole files."""
    for line in lines:
        if by and (match := HUNK.match(line)):
            yield f"@@ -{int(match[1]) + by}{match[2]} +{int(match[3]) + by}{match[4]} @@{line[match.end() :]}"
        else:
            yield line


def _summary(data: bytes | None) -> str:
    if data is None:
        return "none"
    return f"{len(_lines(data))} lines, {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]}"


def _lines(data: bytes | None) -> list[str]:
    return [] if data is None else data.decode().splitlines(keepends=True)


class FieldChange(msgspec.Struct, frozen=True):
    """One value of a table that differs; None: it is not there."""

    table: str
    name: str
    field: str
    old: Any
    new: Any


def table_changes(
    old: Mapping[str, Sequence[Mapping[str, Any]]], new: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[FieldChange]:
    """The differences between two sets of settings' tables, table by table and value by value.

    A table that is only on one side is one change with the field "" and its values on that side; another order of the
    same tables is a change of the field "order".
    """
    found = []
    for table in sorted(old.keys() | new.keys()):
        before, after = _named(old.get(table, ())), _named(new.get(table, ()))
        for name in [*before, *(name for name in after if name not in before)]:
            was, will = before.get(name), after.get(name)
            if was is None or will is None:
                found.append(FieldChange(table, name, "", was, will))
                continue
            found += [
                FieldChange(table, name, field, was.get(field), will.get(field))
                for field in [*was, *(field for field in will if field not in was)]
                if was.get(field) != will.get(field)
            ]
        common = [[name for name in names if name in before and name in after] for names in (before, after)]
        if common[0] != common[1]:
            found.append(FieldChange(table, "", "order", common[0], common[1]))
    return found


def _named(items: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(item.get("name", item.get("id", ""))): dict(item) for item in items}
