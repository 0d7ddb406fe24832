"""The passwords and address lists that VHIDs had before, kept over a restart of the node.

The advertisements of a VHID whose addresses or password differ between two nodes do not authenticate, and both become
MASTER. So a changed VHID is advertised under the old and the new key until every node is known to have the new one, or,
where no other node can be asked, for `rekey_time`; also where the administrator restarts the node instead of reloading
it. The file holds passwords: it is readable by its owner alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hacore.carp.router import KeyMaterial
from hacore.node.durable import write_durably
from hacore.node.settings import Vip

FILE = "keys.json"
KEPT = 2  # previous keys of a VHID; the election sends no more


class Entry(msgspec.Struct):
    """A key of a VHID. `ends`, in unix seconds, is `rekey_time` after it was replaced (0: it is the current one); one
    that `waits` lasts longer, until every node that can be asked is known to have the current one.
    """

    interface: str
    vhid: int
    password: bytes
    addresses: list[str]
    ends: float = 0.0
    waits: bool = False

    def remaining(self, now: float) -> float:
        """For how many seconds it is still sent and accepted."""
        return math.inf if self.waits else max(self.ends - now, 0.0)

    def material(self, now: float = 0.0) -> KeyMaterial:
        """As the election takes it."""
        return KeyMaterial(self.password, frozenset(self.addresses), self.remaining(now))


class KeyRing:
    """Knows the current key of each VHID and those that were current until lately."""

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        self._path = Path(state_dir) / FILE
        self._entries: list[Entry] = []

    def remember(self, vips: Iterable[Vip], rekey_time: float, now: float, *, asked: bool = False) -> str:
        """Take the settings that hold from now on; returns what kept the file from being read or written, or "".

        A VHID whose key differs from the one in the file keeps that one as previous until `rekey_time` has passed;
        where other nodes can be `asked` what they have, until they are known to have the new one. A VIP with
        `sync = false` may be another on each of them: time alone ends its keys.
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
                entry.waits = asked and vip.sync
            entries += [current, *_kept([entry for entry in older if entry.remaining(now)])]
        self._entries = entries
        return self._write() or problem

    def previous(self, vip: Vip, now: float) -> tuple[KeyMaterial, ...]:
        """The keys under which this VHID is advertised and accepted beside its own."""
        return tuple(entry.material(now) for entry in self._of(vip) if entry.ends and entry.remaining(now))

    def overdue(self, vips: Iterable[Vip], now: float) -> list[str]:
        """The names of those with an older key that has outlasted `rekey_time`: it waits for a node."""
        return [vip.name for vip in vips if any(entry.waits and entry.ends <= now for entry in self._of(vip))]

    def forget(self, vips: Iterable[Vip], now: float, *, timed: bool = False) -> tuple[list[str], str]:
        """Every node that can be asked has the current keys of these; returns the names of those that had older ones
        and have none now, and a problem. `timed`: there are nodes that cannot be asked, for which `rekey_time` counts.
        """
        gone = []
        changed = False
        for vip in vips:
            older = [entry for entry in self._of(vip) if entry.ends]
            changed = changed or any(entry.waits or not timed for entry in older)
            for entry in older:
                entry.waits = False
            ended = [entry for entry in older if not timed or entry.ends <= now]
            self._entries = [entry for entry in self._entries if not any(entry is each for each in ended)]
            if older and len(ended) == len(older):
                gone.append(vip.name)
        return gone, self._write() if changed else ""

    def _write(self) -> str:
        try:
            write_durably(self._path, msgspec.json.encode(self._entries), mode=0o600)
        except OSError as error:
            return f"keys are not kept over a restart: {self._path}: {error.strerror}"
        return ""

    def _of(self, vip: Vip) -> list[Entry]:
        return [entry for entry in self._entries if (entry.interface, entry.vhid) == (vip.interface, vip.vhid)]


def _kept(older: Sequence[Entry]) -> list[Entry]:
    """The latest first. Of keys that wait it is the oldest that the other nodes have: those in between were tried here
    alone.
    """
    latest_first = sorted(older, key=lambda entry: -entry.ends)
    return latest_first[-KEPT:] if any(entry.waits for entry in older) else latest_first[:KEPT]
