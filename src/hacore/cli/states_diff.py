"""`hacore states diff`: both kernels' tables, taken twice, and what they do not share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hacore.errors import Problem as SettingsProblem
from hacore.errors import SettingsError
from hacore.linux import conntrack, rtnl
from hacore.node.bus import BadRequest
from hacore.node.messages import ConfigureStates, StatesPeer
from hacore.node.settings import load
from hacore.node.states_filter import Filter
from hacore.node.states_reports import described
from hacore.node.states_rows import Difference, differences, fetch, pause, settled
from hacore.node.states_supervision import configuration
from hacore.node.states_tls import contexts
from hacore.states.layout import Rows

ATTEMPTS = 5


class Found(NamedTuple):
    """One difference, for showing."""

    difference: Difference

    def __str__(self) -> str:
        here, there, fields = self.difference
        if there is None:
            return f"only here   {_line(here)}"
        if here is None:
            return f"only there  {_line(there)}"
        changes = ", ".join(f"{name} {_value(here[name])} here, {_value(there[name])} there" for name in fields)
        return f"differs     {_line(here)}: {changes}"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        here, there, fields = self.difference
        return {
            "here": None if here is None else described(here),
            "there": None if there is None else described(there),
            "fields": list(fields),
        }


def _line(row: npt.NDArray[np.void] | None) -> str:
    from hacore.cli.states_view import line

    return line(described(row))


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
    found = _once(told, peer, wanted)
    if found and settle:
        pause(settle)
        found = settled(found, _once(told, peer, wanted))
    return [Found(found[key]) for key in sorted(found)]


def _once(told: ConfigureStates, peer: StatesPeer, wanted: Filter) -> dict[bytes, Difference]:
    context = contexts(Path(told.certificate), Path(told.key), Path(told.trust)).client
    there = fetch(peer.host, peer.port, context, peer.name, lambda _count: None)
    here: Rows = conntrack.dump_rows()
    return differences(here[wanted.wanted(here)], there[wanted.wanted(there)])
