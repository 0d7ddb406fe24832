"""What all transactions of a node share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from hacore.configsync.plan import Step
from hacore.configsync.report import Progress
from hacore.node.config_commands import Commands
from hacore.node.config_digests import Digests
from hacore.node.config_journal import Journal
from hacore.node.config_revisions import Revisions
from hacore.node.config_store import Store
from hacore.node.config_surroundings import Surroundings
from hacore.node.config_tree import Tree

Report = Callable[[Progress], None]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Where its files, their history and the journal lie, and what is around it."""

    directory: Path
    tree: Tree
    store: Store
    revisions: Revisions
    journal: Journal
    commands: Commands
    surroundings: Surroundings


def open_parts(
    directory: Path, surroundings: Surroundings, root: str, step_written: Callable[[Step], None] = lambda _step: None
) -> Parts:
    """Of `directory`, which the caller has locked. Raises OSError, and PlatformError where the journal is damaged."""
    store = Store(directory)
    return Parts(
        directory=directory,
        tree=Tree(Digests(directory / "digests"), root),
        store=store,
        revisions=Revisions(directory / "revisions", store),
        journal=Journal(directory / "journal.json", step_written),
        commands=Commands(directory / "command.json"),
        surroundings=surroundings,
    )
