"""The part of a recovery that needs no node: early in the boot, before anything uses the files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hacore.configsync.plan import AFTER_CRASH
from hacore.errors import HacoreError
from hacore.linux.process import boot_id
from hacore.node.config_lock import Busy, lock
from hacore.node.config_parts import Parts, open_parts
from hacore.node.config_put_back import left_alone, put_back
from hacore.node.config_recovery import applied, interrupted_step
from hacore.node.config_surroundings import Surroundings
from hacore.node.settings import Settings

NOTHING = "no push was interrupted: nothing is to be put back"


class NotPutBack(HacoreError):
    """Files that could not be put back; the message names them."""

    exit_code = 74


def recover_early(state_dir: Path, settings: Callable[[], Settings], *, root: str = "/") -> str:
    """Put back the files of the push that was interrupted, if one was; says what was done, for people.

    The journal stays, for the node that starts later: it puts the files in force and tells the history. Raises Busy
    where that runs already, NotPutBack, and PlatformError where the journal is damaged.
    """
    directory = state_dir / "config"
    try:
        if not (directory / "journal.json").exists():
            return NOTHING
        handle = _lock(directory)
        try:
            parts = open_parts(directory, Surroundings(settings=settings), root)
            try:
                return _recover(parts)
            finally:
                parts.store.close()
        finally:
            os.close(handle)
    except OSError as error:
        raise NotPutBack(f"what an interrupted push replaced could not be put back: {error}") from None


def _lock(directory: Path) -> int:
    try:
        return lock(directory)
    except Busy as error:
        raise Busy(
            f"{error}: a node runs, and puts back by itself what an interrupted push replaced (hacore events)"
        ) from None


def _recover(parts: Parts) -> str:
    record = parts.journal.record
    if record is None:
        return NOTHING
    what = f"the {record.action} by {record.by} was interrupted"
    if applied(parts) is not None or AFTER_CRASH[record.step] == "nothing":
        return f"{what} at its end: nothing is to be put back"
    if AFTER_CRASH[record.step] == "forget":
        return f"{what} when it was {record.step}: nothing is to be put back"
    what = f"{what} while {interrupted_step(record)}"
    if record.put_back is not None:
        return f"{what}: its files are put back already, and the node does the rest when it starts"
    if record.boot == boot_id():
        parts.commands.end_leftover()  # in another boot its number may be somebody else's
    if problems := put_back(parts, lambda _progress: None):
        told = "; ".join(problems)
        raise NotPutBack(f"{what}: not everything could be put back, the node tries again when it starts: {told}")
    sections = ", ".join(record.sections)
    lines = [f"{what}: the files of {sections} are put back, and the node does the rest when it starts"]
    return "\n".join([*lines, *left_alone(parts)])
