"""What stands beside each other in a run: hacore first, then what people use now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from hacore.bench import keepalived, ucarp
from hacore.errors import ProgramMissing
from hacore.lab import nodes


class Subject(NamedTuple):
    """One program with one choice of intervals.

    kind, profile: what the lab's nodes are. scenarios: those that the program has a counterpart for; None: all.
    replicates: whether the pair shares connections. missing: says what is not installed.
    """

    name: str
    program: str
    kind: type[nodes.Node]
    profile: str
    scenarios: tuple[str, ...] | None = None
    replicates: bool = True
    missing: Callable[[], Iterable[str]] = tuple
    versions: Callable[[], dict[str, str]] = dict


_UCARP = ("stop", "crash", "hang", "link-down", "power", "partition", "flap")

SUBJECTS = (
    Subject("hacore fast", "hacore", nodes.Node, "fast"),
    Subject("hacore classic", "hacore", nodes.Node, "classic"),
    *(
        Subject(
            f"keepalived {interval}",
            "keepalived",
            keepalived.KeepalivedNode,
            interval,
            missing=keepalived.missing,
            versions=keepalived.versions,
        )
        for interval in reversed(keepalived.INTERVALS)
    ),
    Subject(
        "ucarp", "ucarp", ucarp.UcarpNode, "1", _UCARP, False, missing=ucarp.missing, versions=ucarp.versions
    ),
)
PROGRAMS = tuple(dict.fromkeys(subject.program for subject in SUBJECTS))


def chosen(names: Iterable[str], without: Iterable[str]) -> list[Subject]:
    """The subjects of those names (all where there is none), less those of the programs in `without`.

    ProgramMissing, before anything starts, where one of them cannot run.
    """
    names, without = set(names), set(without)
    found = [each for each in SUBJECTS if (not names or each.name in names) and each.program not in without]
    lacks = {each.program: list(each.missing()) for each in found}
    lines = [
        f"{' and '.join(what)}, or leave it out: --without {program}" for program, what in lacks.items() if what
    ]
    if lacking := "; ".join(lines):
        raise ProgramMissing(lacking)
    return found
