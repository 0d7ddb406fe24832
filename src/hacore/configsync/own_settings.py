"""hacore's own settings as sections: what a node sends of its tables, what the other makes of them, and 50-synced.toml.

A table is a dict of the values that the settings file would hold. Three sections are built in:

    vips      [[vip]]                   advskew raised by advskew_step, which `advskew_raised` tells the next sender;
                                        `peer` and `peer6` stay each node's own
    sections  [[section]], [[service]]
    checks    [[check]]

A table with `sync = false` belongs to its node: it is not sent, and where the other node has one of that name, that
node keeps its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from hacore.configsync.manifest import BadManifest
from hacore.errors import HacoreError

Table = dict[str, Any]
Tables = dict[str, list[Table]]

#: The built-in sections and the arrays of tables that each carries.
BUILT_IN: dict[str, tuple[str, ...]] = {"vips": ("vip",), "sections": ("section", "service"), "checks": ("check",)}
NAMING = {"vip": "name", "section": "id", "service": "id", "check": "name"}
#: Values of a VIP that each node has for itself; that there is one is sent as `unicast`.
OWN_OF_VIP = {"peer": 4, "peer6": 6}
NOT_COMPARED = ("sync", "advskew_raised")
HIGHEST_ADVSKEW = 254
HIGHEST_RATIO = 2  # between the intervals of two nodes at advbase 0, above which settings are warned about
SECRET = "password"

HEADER = """\
# What the last push from {sender} brought. The next push writes this file anew: tables for this node alone belong into
# the settings file itself, with sync = false. To go back to that file, remove this one (hacore config history shows
# what was pushed before).
"""


class NodeLocalMissing(HacoreError):
    """A VIP needs a value that only this node can give, and does not."""

    exit_code = 78


def name_of(table: str, item: Mapping[str, Any]) -> str:
    """What a table is called among its kind."""
    return str(item.get(NAMING[table], ""))


def local_names(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[str]]:
    """The names of the tables that are this node's own, by kind of table."""
    return {
        table: [name_of(table, item) for item in items if not item.get("sync", True)] for table, items in tables.items()
    }


def shared(section: str, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Tables:
    """What of this node's tables a section compares: not its own ones, and of a VIP no address of a peer."""
    return {
        table: [_without_own(item) for item in tables.get(table, ()) if item.get("sync", True)]
        for table in BUILT_IN[section]
    }


def _without_own(item: Mapping[str, Any]) -> Table:
    kept = {key: value for key, value in item.items() if key not in OWN_OF_VIP and key not in NOT_COMPARED}
    unicast = [family for key, family in OWN_OF_VIP.items() if key in item]
    return kept | {"unicast": unicast} if unicast else kept


def not_raised(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """The VIPs whose advskew is this node's own, with it: no push has raised it."""
    return {
        name_of("vip", item): item.get("advskew", 0) for item in tables.get("vip", ()) if not item.get("advskew_raised")
    }


def for_peer(
    section: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    local_there: Mapping[str, Collection[str]],
    not_raised_there: Mapping[str, int] = MappingProxyType({}),
) -> Tables:
    """What this node wants a backup to have, whose own tables are named in `local_there`."""
    wanted = {
        table: [item for item in items if name_of(table, item) not in local_there.get(table, ())]
        for table, items in shared(section, tables).items()
    }
    raised = raised_there(tables, not_raised_there)
    by_push = {name_of("vip", item): item.get("advskew_raised", 0) for item in tables.get("vip", ())}
    for vip in wanted.get("vip", ()):
        vip["advskew"] = vip.get("advskew", 0) - by_push[vip["name"]] + raised[vip["name"]]
    return wanted


def raised_there(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], not_raised_there: Mapping[str, int]
) -> dict[str, int]:
    """By how much the advskew of each VIP on a backup is above what it was before any push.

    A VIP that a push has raised here, and none there, goes back as it was: the node that it came from is preferred, and
    stays that, whichever of the two pushes. So does one that is here what a push from there would have made of it.
    """
    found = {}
    for vip in tables.get("vip", ()):
        name, own, raised = name_of("vip", vip), vip.get("advskew", 0), vip.get("advskew_raised", 0)
        step = vip.get("advskew_step", 100)
        there = not_raised_there.get(name)
        if raised and there is not None:
            found[name] = 0
        elif step and there is not None and there < own == raised_advskew(there, step):
            found[name] = there - own
        else:
            found[name] = raised_advskew(own, step) - own + raised
    return found


def check_raised(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raises BadManifest where a VIP's advskew cannot be raised any more: its backup would be its equal."""
    for vip in tables.get("vip", ()):
        if vip.get("sync", True) and vip.get("advskew", 0) >= HIGHEST_ADVSKEW and vip.get("advskew_step", 100):
            raise BadManifest(
                "advskew",
                f'vip "{vip["name"]}": advskew is {HIGHEST_ADVSKEW} here, and no backup\'s can be higher: neither node '
                "would be preferred; lower it here, or set advskew_step = 0 if that is meant",
            )


def raised_advskew(advskew: int, step: int) -> int:
    """The advskew of a backup, in 1/256 s."""
    return min(advskew + step, HIGHEST_ADVSKEW)


def interval_ratio(advbase: int, advskew: int, step: int) -> float:
    """How many times longer than this node's the interval of its backup will be.

    At advbase 0 the nodes wait for three of the longer interval, so that a high ratio is a late failover.
    """
    own = advbase + max(advskew, 1) / 256
    return (advbase + max(raised_advskew(advskew, step), 1) / 256) / own


def received(
    section: str,
    wanted: Mapping[str, Sequence[Mapping[str, Any]]],
    present: Mapping[str, Sequence[Mapping[str, Any]]],
    raised: Mapping[str, int] = MappingProxyType({}),
) -> Tables:
    """What goes into this node's file: what is `wanted` of it, with its own values out of the tables `present` here,
    and by how much the sender has `raised` the advskew of VIPs.

    Raises NodeLocalMissing where a unicast VIP has no peer here.
    """
    kept = local_names(present)
    result: Tables = {}
    for table in BUILT_IN[section]:
        known = {name_of(table, item): item for item in present.get(table, ())}
        result[table] = []
        for item in wanted.get(table, ()):
            name = name_of(table, item)
            if name not in kept.get(table, ()):
                made = _with_own(item, known.get(name, {}))
                more = {"advskew_raised": raised[name]} if table == "vip" and raised.get(name, 0) > 0 else {}
                result[table].append(made | more)
    return result


def _with_own(item: Mapping[str, Any], own: Mapping[str, Any]) -> Table:
    new = {key: value for key, value in item.items() if key != "unicast"}
    for key, family in OWN_OF_VIP.items():
        if family in item.get("unicast", ()):
            if key not in own:
                raise NodeLocalMissing(
                    f'vip "{item.get("name")}" is unicast, and this node has no "{key}" for it: the address of the '
                    f"other node is not pushed; write a [[vip]] of that name with {key} into this node's settings file"
                )
            new[key] = own[key]
    return new


def encode(tables: Tables) -> bytes:
    """The canonical bytes of a section's tables."""
    return msgspec.json.encode(tables, order="sorted")


def decode(data: bytes) -> Tables:
    """The inverse; raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Tables)


def check_tables(section: str, tables: Tables) -> None:
    """Whether these can be written into a settings file; what they say is checked there. Raises BadManifest."""
    for table, items in tables.items():
        if table not in BUILT_IN[section]:
            raise BadManifest("tables", f"the section {section} does not carry [[{table}]] tables")
        for item in items:
            for key, value in item.items():
                if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", key) or not _writable(value):
                    raise BadManifest(
                        "tables", f"a [[{table}]] table of the section {section} has a key no file can hold"
                    )


def _writable(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str | int) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)


def without_secrets(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Tables:
    """The same to be shown: a password is replaced by what tells two of them apart."""
    return {
        table: [{key: _hidden(value) if key == SECRET else value for key, value in item.items()} for item in items]
        for table, items in tables.items()
    }


def _hidden(secret: str) -> str:
    return "hidden " + hashlib.sha256(b"hacore: shown password\0" + secret.encode()).hexdigest()[:8]


# 50-synced.toml


def synced_text(sender: str, parts: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> str:
    """The whole file, from the tables of each section that was ever pushed to this node; "" where none was."""
    if not parts:
        return ""
    lines = [
        HEADER.format(sender=sender),
        "[synced]",
        f"sections = {_value([each for each in BUILT_IN if each in parts])}",
    ]
    for section, tables in BUILT_IN.items():
        for table in tables if section in parts else ():
            for item in parts[section].get(table, ()):
                lines += ["", f"[[{table}]]", *(f"{key} = {_value(value)}" for key, value in item.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(_value(item) for item in value)}]"


def parts_of(document: Mapping[str, Any]) -> dict[str, Tables]:
    """The inverse, from the parsed file."""
    synced = document.get("synced", {})
    return {
        section: {table: list(document.get(table, ())) for table in tables}
        for section, tables in BUILT_IN.items()
        if section in synced.get("sections", ())
    }


def replaced_tables(sections: Collection[str]) -> set[str]:
    """The arrays of tables in which a synced file has the last word."""
    return {table for section, tables in BUILT_IN.items() if section in sections for table in tables}
