"""What the state table and the codec compute, written down plainly: SipHash, digests, the order of keys, the difference
of two tables."""

from __future__ import annotations

import struct
from collections.abc import Iterable

MASK = (1 << 64) - 1
KEY_BYTES, ROW_BYTES = 40, 208
TIMEOUT = slice(84, 88)


class Sip:
    """SipHash-1-3 over 64-bit words (Aumasson and Bernstein), with the 128-bit variant's changes where `wide`."""

    def __init__(self, key: bytes, wide: bool) -> None:
        low, high = struct.unpack("<2Q", key)
        self.wide = wide
        self.state: list[int] = [
            low ^ 0x736F6D6570736575,
            high ^ 0x646F72616E646F6D ^ (0xEE if wide else 0),
            low ^ 0x6C7967656E657261,
            high ^ 0x7465646279746573,
        ]

    def round(self) -> None:
        v0, v1, v2, v3 = self.state
        v0 = (v0 + v1) & MASK
        v1 = rotate(v1, 13) ^ v0
        v0 = rotate(v0, 32)
        v2 = (v2 + v3) & MASK
        v3 = rotate(v3, 16) ^ v2
        v0 = (v0 + v3) & MASK
        v3 = rotate(v3, 21) ^ v0
        v2 = (v2 + v1) & MASK
        v1 = rotate(v1, 17) ^ v2
        v2 = rotate(v2, 32)
        self.state = [v0, v1, v2, v3]

    def absorb(self, word: int) -> None:
        self.state[3] ^= word
        self.round()
        self.state[0] ^= word

    def finish(self, length: int, *, wide: bool) -> int:
        """The hash of all words so far, of which there are `length` bytes; as if nothing came after."""
        kept = list(self.state)
        self.absorb((length << 56) & MASK)
        self.state[2] ^= 0xEE if wide else 0xFF
        value = self._three_rounds()
        if wide:
            self.state[1] ^= 0xDD
            value |= self._three_rounds() << 64
        self.state = kept
        return value

    def _three_rounds(self) -> int:
        for _ in range(3):
            self.round()
        v0, v1, v2, v3 = self.state
        return v0 ^ v1 ^ v2 ^ v3


def rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MASK


def hash_of_key(seed: bytes, key: bytes) -> int:
    """The table's 32-bit hash of a key."""
    sip = Sip(seed, wide=False)
    for (word,) in struct.iter_unpack("<Q", key):
        sip.absorb(word)
    return sip.finish(KEY_BYTES, wide=False) & 0xFFFFFFFF


def digest_of_row(key: bytes, row: bytes, partitions: int) -> tuple[int, int]:
    """The 128-bit hash of a row without its timeout, and its partition, which its key alone decides."""
    sip = Sip(key, wide=True)
    words: tuple[int, ...] = struct.unpack("<26Q", row)
    for word in words[:5]:
        sip.absorb(word)
    partition = (sip.finish(KEY_BYTES, wide=False) >> 32) * partitions >> 32
    for index, word in enumerate(words[5:], 5):
        sip.absorb(word & 0xFFFFFFFF if index == 10 else word)
    return sip.finish(ROW_BYTES, wide=True), partition


def digests(key: bytes, rows: Iterable[bytes], partitions: int) -> list[int]:
    """For each partition the sum of its rows' hashes, modulo 2**128."""
    sums = [0] * partitions
    for row in rows:
        value, partition = digest_of_row(key, row, partitions)
        sums[partition] = (sums[partition] + value) % (1 << 128)
    return sums


def without_timeout(row: bytes) -> bytes:
    return row[: TIMEOUT.start] + row[TIMEOUT.stop :]


def checksum_of_chunk(chunk: bytes) -> int:
    """What stands in bytes 8 to 15 of a chunk: SipHash-1-3 without a key over bytes 0 to 7 and the body."""
    body = chunk[16:]
    sip = Sip(bytes(16), wide=False)
    padded = chunk[:8] + body + bytes(-len(body) % 8 or 8 * (len(body) % 8 == 0))
    for (word,) in struct.iter_unpack("<Q", padded):
        sip.absorb(word)
    return sip.finish(len(body) & 0xFF, wide=False)


def sealed(chunk: bytes) -> bytes:
    """The chunk with length and checksum made right: bytes whose columns alone may be wrong."""
    fixed = chunk[:4] + struct.pack("<I", len(chunk) - 16) + chunk[8:]
    return fixed[:8] + struct.pack("<Q", checksum_of_chunk(fixed)) + fixed[16:]


def in_key_order(rows: Iterable[bytes]) -> list[bytes]:
    """Rows sorted by key: by their first 40 bytes."""
    return sorted(rows, key=lambda row: row[:KEY_BYTES])


def difference(old: Iterable[bytes], new: Iterable[bytes]) -> tuple[set[bytes], set[tuple[bytes, bytes]], set[bytes]]:
    """Rows of `new` alone, rows of both that differ (before, after), rows of `old` alone, matched by key."""
    before = {row[:KEY_BYTES]: row for row in old}
    after = {row[:KEY_BYTES]: row for row in new}
    changed = {(before[key], after[key]) for key in before.keys() & after.keys() if before[key] != after[key]}
    inserted = {after[key] for key in after.keys() - before.keys()}
    return inserted, changed, {before[key] for key in before.keys() - after.keys()}
