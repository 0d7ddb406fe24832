"""When a push is refused, why, and which option overrides that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

OVERRIDES = {
    "not-master": "--even-if-backup",
    "peer-is-master": "--even-if-peer-is-master",
    "versions-differ": "--even-if-versions-differ",
    "changed-there": "--even-if-changed-there",
}


class Objection(NamedTuple):
    """One reason against a push; `code` is a key of OVERRIDES."""

    code: str
    message: str

    @property
    def override(self) -> str:
        """The option that lets the push go on all the same."""
        return OVERRIDES[self.code]


def sender_objections(
    node: str, states: Mapping[str, str], version: str, peer: str, peer_version: str
) -> list[Objection]:
    """What the node that pushes has against it; `states` are its VIPs with their CARP states."""
    found = []
    others = {name: state for name, state in states.items() if state != "MASTER"}
    if others:
        found.append(Objection("not-master", f"{node} is not MASTER of {_listed(others)}"))
    if version != peer_version:
        found.append(Objection("versions-differ", f"{node} has hacore {version}, {peer} has {peer_version}"))
    return found


def receiver_objections(
    node: str, states: Mapping[str, str], version: str, sender: str, sender_version: str, changed: Collection[str]
) -> list[Objection]:
    """What the node that is pushed to has against it; `changed` are the sections that changed here since a push."""
    found = []
    held = {name: state for name, state in states.items() if state == "MASTER"}
    if held:
        found.append(Objection("peer-is-master", f"{node} is MASTER of {', '.join(sorted(held))}"))
    if version != sender_version:
        found.append(Objection("versions-differ", f"{sender} has hacore {sender_version}, {node} has {version}"))
    if changed:
        plural = "s" * (len(changed) > 1)
        found.append(
            Objection(
                "changed-there",
                f"the section{plural} {', '.join(sorted(changed))} changed on {node} itself since the last push",
            )
        )
    return found


def standing(objections: Collection[Objection], overrides: Collection[str]) -> list[Objection]:
    """Those that are not overridden; `overrides` are codes."""
    return [objection for objection in objections if objection.code not in overrides]


def _listed(states: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({state})" for name, state in sorted(states.items()))
