"""The passwords and address lists that VHIDs had before, kept over a restart of the node.

The advertisements of a VHID whose addresses or password differ between two nodes do not authenticate, and both become
MASTER. So a changed VHID is advertised under the old and the new key for `rekey_time`; also where the administrator
restarts the node instead of reloading it. The file holds passwords: it is readable by its owner alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hacore.carp.router import KeyMaterial
from hacore.node.durable import write_durably
from hacore.node.settings import Vip

FILE = "keys.json"
KEPT = 2  # previous keys of a VHID; the election sends no more


class Entry(msgspec.Struct):
    """A key of a VHID, and when it was replaced (unix seconds; 0: it is the current one)."""

    interface: str
    vhid: int
    password: bytes
    addresses: list[str]
    ends: float = 0.0

    def material(self, now: float = 0.0) -> KeyMaterial:
        """As the election takes it."""
        return KeyMaterial(self.password, frozenset(self.addresses), max(self.ends - now, 0.0))


class KeyRing:
    """Knows the current key of each VHID and those that were current until lately."""

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        self._path = Path(state_dir) / FILE
        self._entries: list[Entry] = []

    def remember(self, vips: Iterable[Vip], rekey_time: float, now: float) -> str:
        """Take the settings that hold from now on; returns what kept the file from being read or written, or "".

        A VHID whose key differs from the one in the file keeps that one as previous until `rekey_time` has passed.
        """
        problem = ""
        try:
            self._entries = msgspec.json.decode(self._path.read_bytes(), type=list[Entry])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            problem = f"previous keys are lost: {self._path}: {error}"
        entries: list[Entry] = []
        for vip in vips:
            addresses = sorted(str(address.ip) for address in vip.addresses)
            current = Entry(vip.interface, vip.vhid, bytes(vip.password), addresses)
            older = [entry for entry in self._of(vip) if not entry.material().same(current.material())]
            for entry in older:
                entry.ends = entry.ends or now + rekey_time
            older = sorted((entry for entry in older if entry.ends > now), key=lambda entry: -entry.ends)
            entries += [current, *older[:KEPT]]
        self._entries = entries
        return self._write() or problem

    def previous(self, vip: Vip, now: float) -> tuple[KeyMaterial, ...]:
        """The keys under which this VHID is advertised and accepted beside its own."""
        return tuple(entry.material(now) for entry in self._of(vip) if entry.ends > now)

    def forget(self, vips: Iterable[Vip]) -> tuple[list[str], str]:
        """Every node has the current keys of these; returns the names of those that had older ones, and a problem."""
        gone = []
        for vip in vips:
            older = [entry for entry in self._of(vip) if entry.ends]
            if older:
                gone.append(vip.name)
                self._entries = [entry for entry in self._entries if entry not in older]
        return gone, self._write() if gone else ""

    def _write(self) -> str:
        try:
            write_durably(self._path, msgspec.json.encode(self._entries), mode=0o600)
        except OSError as error:
            return f"keys are not kept over a restart: {self._path}: {error.strerror}"
        return ""

    def _of(self, vip: Vip) -> list[Entry]:
        return [entry for entry in self._entries if (entry.interface, entry.vhid) == (vip.interface, vip.vhid)]
