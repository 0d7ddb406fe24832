"""What stands beside each other in a run: hacore first, then what people use now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from hacore.bench import keepalived, machine, ucarp
from hacore.bench.result import OWN
from hacore.errors import HacoreError
from hacore.lab import nodes


class Subject(NamedTuple):
    """One program with one choice of intervals.

    kind, profile: what the lab's nodes are. scenarios: those that the program has a counterpart for; None: all.
    replicates: whether the pair shares connections. programs: what has to be installed.
    """

    name: str
    kind: type[nodes.Node]
    profile: str
    programs: tuple[str, ...] = ()
    scenarios: tuple[str, ...] | None = None
    replicates: bool = True

    def plays(self, scenario: str) -> bool:
        """Whether the program has a counterpart for `scenario`."""
        return self.scenarios is None or scenario in self.scenarios


_UCARP = ("stop", "crash", "hang", "link-down", "power", "partition", "flap")

SUBJECTS = (
    Subject(OWN, nodes.Node, "fast"),
    Subject(f"{OWN} classic", nodes.Node, "classic"),
    *(
        Subject(f"keepalived {interval}", keepalived.KeepalivedNode, interval, ("keepalived", "conntrackd"))
        for interval in reversed(keepalived.INTERVALS)
    ),
    Subject("ucarp", ucarp.UcarpNode, "1", ("ucarp",), _UCARP, replicates=False),
)


def chosen(names: Iterable[str], without: Iterable[str]) -> list[Subject]:
    """The subjects of those names, or all, less those of the programs in `without`.

    MissingProgram, before anything starts, where one of them cannot run; HacoreError where none is left.
    """
    names, without = set(names), set(without)
    found = [each for each in SUBJECTS if (not names or each.name in names) and not without & set(each.programs)]
    for name in programs(found):
        machine.program(name)
    if "conntrackd" in programs(found):
        keepalived.hook_text()
    if not found:
        raise HacoreError("no subject is left to measure")
    return found


class Needing(Protocol):
    """What cannot run without some programs."""

    @property
    def programs(self) -> tuple[str, ...]:
        """Their names."""


def programs(some: Iterable[Needing]) -> list[str]:
    """The programs that `some` need, each once."""
    return list(dict.fromkeys(name for each in some for name in each.programs))
