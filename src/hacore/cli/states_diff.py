"""`hacore states diff`: both kernels' tables, taken twice, and what they do not share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from hacore.errors import Problem as SettingsProblem
from hacore.errors import SettingsError
from hacore.linux import conntrack, rtnl
from hacore.node.bus import BadRequest
from hacore.node.messages import ConfigureStates, StatesPeer
from hacore.node.settings import load
from hacore.node.states_differences import (
    Difference,
    Differences,
    differences,
    expectation_differences,
    pause,
    settled,
)
from hacore.node.states_filter import Filter
from hacore.node.states_reports import described, described_expectation
from hacore.node.states_rows import fetch, own_tables
from hacore.node.states_supervision import configuration
from hacore.node.states_tls import contexts

Record = npt.NDArray[np.void]


class Found(NamedTuple):
    """One difference, for showing."""

    kind: Literal["connection", "expectation"]
    difference: Difference

    def __str__(self) -> str:
        here, there, fields = self.difference
        if here is None:
            text = f"only there  {self._line(there)}"
        elif there is None:
            text = f"only here   {self._line(here)}"
        else:
            changes = ", ".join(f"{name} {_value(here[name])} here, {_value(there[name])} there" for name in fields)
            text = f"differs     {self._line(here)}: {changes}"
        # Names come from the peer: none of them is to speak to the terminal.
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        here, there, fields = self.difference
        return {
            "kind": self.kind,
            "here": self._described(here),
            "there": self._described(there),
            "fields": list(fields),
        }

    def _described(self, record: Record | None) -> dict[str, Any] | None:
        if record is None:
            return None
        return described(record) if self.kind == "connection" else described_expectation(record)

    def _line(self, record: Record | None) -> str:
        from hacore.cli.states_view import expectation_line, line

        shown = self._described(record) or {}
        return f"{self.kind:11}  {line(shown) if self.kind == 'connection' else expectation_line(shown)}"


def counted(found: Iterable[Found]) -> str:
    """How many of each kind, in words."""
    counts = Counter(each.kind for each in found)
    return " and ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in sorted(counts.items()))


def _value(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return value.tobytes().hex()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def compare(settings_path: str, peer: str | None, settle: float) -> dict[str, list[Found]]:
    """By peer, what differs and goes on differing for `settle` seconds. Waits.

    Raises:
        SettingsError: nothing is replicated.
        PlatformError: a kernel cannot be asked.
    """
    settings = load(settings_path)
    told = configuration(settings)
    if told is None:
        raise SettingsError([SettingsProblem(settings.path, "states", "is not there: this node replicates nothing")])
    peers = [each for each in told.peers if peer in (None, each.name)]
    if not peers:
        known = ", ".join(each.name for each in told.peers) or "none"
        raise BadRequest(f'there is no peer "{peer}" whose states are replicated; there are: {known}')
    return {each.name: _compare(told, each, settle) for each in peers}


def _compare(told: ConfigureStates, peer: StatesPeer, settle: float) -> list[Found]:
    wanted = Filter(told.ignore, told.own_places)
    virtual = set(told.virtual_addresses)
    own = {change.address for change in rtnl.dump_addresses()}
    wanted.set_own_addresses(sorted(own - virtual))
    connections, expectations = _once(told, peer, wanted)
    if (connections or expectations) and settle:
        pause(settle)
        again = _once(told, peer, wanted)
        connections, expectations = settled(connections, again[0]), settled(expectations, again[1])
    return [Found("connection", connections[key]) for key in sorted(connections)] + [
        Found("expectation", expectations[key]) for key in sorted(expectations)
    ]


def _once(told: ConfigureStates, peer: StatesPeer, wanted: Filter) -> tuple[Differences, Differences]:
    """Of connections and of expectations."""
    context = contexts(Path(told.certificate), Path(told.key), Path(told.trust)).client
    most_rows = told.max_states + conntrack.limit()
    there = fetch(peer.host, peer.port, context, peer.name, lambda _count: None, most_rows).replicated(wanted)
    here = own_tables().replicated(wanted)
    return differences(here.rows, there.rows), expectation_differences(here.expectations, there.expectations)
