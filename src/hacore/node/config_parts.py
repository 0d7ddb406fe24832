"""What all transactions of a node share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from hacore.configsync.report import Progress
from hacore.node.config_commands import Commands
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
