"""Chunks of rows and of changes, read by the words of docs/wire-chunks.md and nothing else."""

from __future__ import annotations

import struct
from typing import NamedTuple

from tests.oracle.states import checksum_of_chunk

ANSWERS = {(1, 8): 0, (1, 13): 14, (1, 15): 16, (1, 17): 18, (58, 128): 129, (58, 139): 140}
ANSWERS |= {(protocol, answer): request for (protocol, request), answer in ANSWERS.items()}
# Offset and size of the columns of each flag.
REPLY = [[(40, 16)], [(56, 16)], [(72, 2)], [(74, 2)], [(76, 2)]]
OTHERS = [
    [(96, 4), (100, 4)],
    [(104, 16)],
    [(offset, 4) for offset in range(120, 144, 4)],
    [(offset, 4) for offset in range(144, 156, 4)],
    [(79, 1), (156, 2), (158, 2), (160, 16), (176, 16)],
    [(192, 16)],
]
MASKED = [
    (80, 4), (84, 4), (78, 1), (88, 4), (94, 1), (95, 1), (92, 1), (93, 1), (104, 16), (192, 16), (40, 16), (56, 16),
    (72, 2), (74, 2), (76, 2), (96, 4), (100, 4), *OTHERS[2], *OTHERS[3], *OTHERS[4],
]  # fmt: skip


class Update(NamedTuple):
    fields: dict[tuple[int, int], bytes]

    def apply(self, row: bytes) -> bytes:
        """The row with these fields in place of its own."""
        changed = bytearray(row)
        for (offset, size), value in self.fields.items():
            changed[offset : offset + size] = value
        return bytes(changed)


class Changed(NamedTuple):
    inserted: list[bytes]
    updated: list[bytes] | list[int]
    updates: list[Update]
    deleted: list[int]
    deleted_keys: list[bytes]


class Body:
    """The body of a chunk, from its front to its end."""

    def __init__(self, chunk: bytes, kind: bytes) -> None:
        version, is_kind, zero, length, checksum = struct.unpack_from("<BcHIQ", chunk)
        assert (version, is_kind, zero, length) == (1, kind, 0, len(chunk) - 16)
        assert checksum == checksum_of_chunk(chunk)
        assert chunk[-8:] == bytes(8)
        self.bytes, self.at = chunk[16:-8], 0

    def take(self, size: int) -> bytes:
        assert size <= len(self.bytes) - self.at
        self.at += size
        return self.bytes[self.at - size : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bits(self, widths: list[int]) -> list[int]:
        """A number of each width out of as many bytes as they need."""
        stream = int.from_bytes(self.take((sum(widths) + 7) // 8), "little")
        values = []
        for width in widths:
            values.append(stream & ((1 << width) - 1))
            stream >>= width
        return values

    def numbers(self, count: int) -> list[int]:
        if not count:
            return []
        (mode,) = self.take(1)
        if mode == 0:
            return [self.varint()] * count
        if mode == 1:
            base, (width,) = self.varint(), self.take(1)
            return [(base + value) & 0xFFFFFFFF for value in self.bits([width] * count)]
        assert mode == 2
        tokens = self.tokens(count)
        further = self.bits([0 if token < 128 else (token - 128) // 4 + 5 for token in tokens])
        return [number_of(token, bits) for token, bits in zip(tokens, further, strict=True)]

    def tokens(self, count: int) -> list[int]:
        slots: list[tuple[int, int, int]] = []
        token = -1
        for _ in range(self.varint()):
            (gap,) = self.take(1)
            token += gap + 1
            share, start = self.varint(), len(slots)
            slots += [(token, share, start)] * share
        assert len(slots) == 4096
        words = self.varint()
        states = list(struct.unpack("<4I", self.take(16)))
        stream = iter(struct.unpack(f"<{words}H", self.take(2 * words)))
        tokens = []
        for index in range(count):
            x = states[index % 4]
            token, share, start = slots[x % 4096]
            x = share * (x // 4096) + x % 4096 - start
            states[index % 4] = x if x >= 1 << 15 else x << 16 | next(stream)
            tokens.append(token)
        assert states == [1 << 15] * 4
        assert next(stream, None) is None
        return tokens

    def words(self, count: int) -> list[bytes]:
        (head,) = self.take(1)
        low, span = head >> 4, head & 15
        first = self.take(8)
        return [first] + [first[:low] + self.take(span) + first[low + span :] for _ in range(count - 1)]

    def values(self, count: int, *, wide: bool) -> tuple[list[bytes], list[int]]:
        """The listed values, and where in the list each value of the column is."""
        if not count:
            return [], []
        listed = self.varint()
        halves = [self.words(listed or count) for _ in range(1 + wide)]
        values = [b"".join(parts) for parts in zip(*halves, strict=True)]
        return values, self.numbers(count) if listed else list(range(count))

    def column(self, count: int, size: int) -> list[bytes]:
        """A field of 16 bytes as values, another as numbers."""
        if size == 16:
            values, places = self.values(count, wide=True)
            return [values[place] for place in places]
        return [number.to_bytes(size, "little") for number in self.numbers(count)]

    def keys(self, count: int) -> list[bytes]:
        outer, inner, heads = self.varint(), self.varint(), self.varint()
        head_of: list[bytes] = []
        for _ in range(heads):
            head = self.take(4)
            head_of += [head] * (self.varint() + 1)
        assert len(head_of) == outer
        first, second = self.words(outer), self.words(inner)
        inners, rows = self.numbers(outer), self.numbers(inner)
        of_inner = [
            head + half for head, half, size in zip(head_of, first, inners, strict=True) for _ in range(size + 1)
        ]
        sources = [
            start + half for start, half, size in zip(of_inner, second, rows, strict=True) for _ in range(size + 1)
        ]
        assert len(sources) == count
        destinations, places = self.values(count, wide=True)
        source_ports = self.numbers(count)
        ports, ports_at = self.values(count, wide=False)
        return [
            source + destinations[place] + struct.pack("<H", port) + ports[at][:2]
            for source, place, port, at in zip(sources, places, source_ports, ports_at, strict=True)
        ]

    def rows(self, count: int) -> list[bytes]:
        rows = [bytearray(key.ljust(208, b"\0")) for key in self.keys(count)]
        profiles, profile_of = self.values(count, wide=False)
        bases, ages = self.numbers(len(profiles)), self.numbers(count)
        tcp, tcp_of = self.values(count, wide=False)
        mark, mark_of = self.values(count, wide=False)
        flags = []
        for index, row in enumerate(rows):
            profile = profiles[profile_of[index]]
            flags.append(int.from_bytes(profile[5:], "little"))
            row[40:56], row[56:72], row[74:76], row[76:78] = row[20:36], row[4:20], row[36:38], row[2:4]
            code, kind = row[38:40]
            row[72:74] = bytes([code, ANSWERS.get((row[1], kind), kind)])
            timeout = (bases[profile_of[index]] - ages[index]) & 0xFFFFFFFF
            row[78:79], row[80:84], row[84:88] = profile[4:5], profile[:4], struct.pack("<I", timeout)
            row[88:92], row[92:96] = mark[mark_of[index]][:4], tcp[tcp_of[index]][:4]
        for bit, columns in enumerate([*REPLY, *OTHERS]):
            having = [row for row, mine in zip(rows, flags, strict=True) if mine >> bit & 1]
            for offset, size in columns if having else ():
                for row, value in zip(having, self.column(len(having), size), strict=True):
                    row[offset : offset + size] = value
        return [bytes(row) for row in rows]

    def ascending(self, count: int) -> list[int]:
        if not count:
            return []
        (low,) = self.take(1)
        high = self.numbers(count)
        numbers, following = [], 0
        for upper, lower in zip(high, self.bits([low] * count), strict=True):
            numbers.append(following + (upper << low | lower))
            following = numbers[-1] + 1
        return numbers

    def updates(self, count: int) -> list[Update]:
        self.take(8)
        values, places = self.values(count, wide=False)
        masks = [int.from_bytes(values[place], "little") for place in places]
        updates = [Update({}) for _ in range(count)]
        for bit, field in enumerate(MASKED):
            having = [update for update, mask in zip(updates, masks, strict=True) if mask >> bit & 1]
            if not having:
                continue
            if field[1] < 16 and self.take(1) == b"\1":
                values, places = self.values(len(having), wide=False)
                column = [values[place][: field[1]] for place in places]
            else:
                column = self.column(len(having), field[1])
            for update, value in zip(having, column, strict=True):
                update.fields[field] = value
        return updates


def number_of(token: int, further: int) -> int:
    if token < 128:
        return token
    exponent, two = divmod(token - 128, 4)
    return (4 + two) << (exponent + 5) | further


def rows_in_chunk(chunk: bytes) -> list[bytes]:
    body = Body(chunk, b"R")
    rows = body.rows(body.varint())
    assert body.at == len(body.bytes)
    return rows


def changes_in_chunk(chunk: bytes) -> Changed:
    body = Body(chunk, b"C")
    (naming,) = body.take(1)
    inserted, updated, deleted, deleted_keys = (body.varint() for _ in range(4))
    rows = body.rows(inserted) if inserted else []
    names: list[bytes] | list[int] = []
    updates: list[Update] = []
    if updated:
        names = body.ascending(updated) if naming else body.keys(updated)
        updates = body.updates(updated)
    changed = Changed(rows, names, updates, body.ascending(deleted), body.keys(deleted_keys) if deleted_keys else [])
    assert body.at == len(body.bytes)
    return changed
